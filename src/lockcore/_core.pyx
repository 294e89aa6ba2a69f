"""The C core as Python objects: tables, grants and prepared locks.

This is the only file (with the two it includes) that knows both C and Python. It raises
only for bad arguments and lack of memory; every other outcome is a status that
`Table._fail`, which lockcore.LockManager defines, turns into an exception.
"""

cimport cython
from libc.math cimport isnan
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from _lock_table cimport *

from _thread import allocate_lock
from collections.abc import Mapping

include "_keys.pxi"
include "_parking.pxi"

CONFLICT = <int> LC_CONFLICT
TIMED_OUT = <int> TIMED_OUT_
NOT_HELD = <int> LC_NOT_HELD
CLOSED = <int> LC_CLOSED
DEADLOCK = <int> LC_DEADLOCK
BUSY = <int> LC_BUSY

SHARED = <int> LC_SHARED
EXCLUSIVE = <int> LC_EXCLUSIVE

cdef enum:
    FEW = 8
    # Requests of so many keys let go of the GIL while they are granted or released.
    MANY = 256
    # One more status: a conflict that has lasted.
    TIMED_OUT_ = -1

cdef dict STATES = {
    LC_NEW: "ended", LC_WAITING: "waiting", LC_HELD: "held", LC_ENDED: "ended", LC_SHUT_OUT: "closed"
}


# ---- arguments --------------------------------------------------------------------------

cdef struct names_t:
    lc_name *names
    unsigned char *scratch
    uint32_t n
    PyObject *kept
    lc_name few_names[FEW]
    unsigned char few_scratch[FEW * SCRATCH]


cdef inline void begin_names(names_t *names) noexcept:
    names.names = names.few_names
    names.scratch = names.few_scratch
    names.n = 0
    names.kept = NULL


cdef int make_room(names_t *names, Py_ssize_t n) except -1:
    if n <= FEW:
        return 0
    if n > 0x7FFFFFFF:
        raise ValueError(f"too many keys: {n}")
    names.names = <lc_name *> malloc(n * sizeof(lc_name))
    names.scratch = <unsigned char *> malloc(n * SCRATCH)
    if names.names == NULL or names.scratch == NULL:
        raise MemoryError
    return 0


cdef inline void end_names(names_t *names) noexcept:
    if names.names != names.few_names:
        free(names.names)
    if names.scratch != names.few_scratch:
        free(names.scratch)
    Py_XDECREF(names.kept)


cdef inline int add_name(names_t *names, object key, uint8_t mode) except -1:
    cdef lc_name *name = &names.names[names.n]
    name_key(key, name, names.scratch + names.n * SCRATCH, &names.kept)
    name.mode = mode
    name.position = names.n
    names.n += 1
    return 0


cdef object collect(object keys, str what):
    """Returns the keys as a list, or a dict of keys to messages."""
    if isinstance(keys, (str, bytes, bytearray, memoryview)):
        raise TypeError(
            f"{what} must be a collection of keys, not {type(keys).__name__}; "
            f"write {what}=[key] for one key"
        )
    if isinstance(keys, tuple):
        if tuple.__len__(keys) == 0:
            return []
        raise TypeError(
            f"{what} must not be a tuple, which could be one key (group, id) or several; "
            f"write {what}=[key] or {what}=[key, key]"
        )
    if isinstance(keys, Mapping):
        return dict(keys)
    try:
        return list(keys)
    except TypeError as error:
        if hasattr(type(keys), "__iter__"):
            raise
        raise TypeError(
            f"{what} must be a collection of keys, not {type(keys).__name__}"
        ) from error


cdef inline object collected(object keys, str what):
    # Two threads may share a list where there is no GIL: work on a copy of our own.
    if LC_HAS_GIL and (type(keys) is list or type(keys) is dict):
        return keys
    return collect(keys, what)


cdef int add_names(names_t *names, object keys, uint8_t mode) except -1:
    for key in keys:
        add_name(names, key, mode)
    return 0


cdef int check_message(Table table, object message) except -1:
    if message is not None and type(message) is not str:
        table._check_message(message)
    return 0


cdef object messages_by_position(Table table, object exclusive, object shared, object message):
    """Returns a list of messages in the order of the names, or None if all have `message`."""
    if type(exclusive) is not dict and type(shared) is not dict:
        return None
    messages = []
    for keys in (exclusive, shared):
        if type(keys) is dict:
            for each in (<dict> keys).values():
                check_message(table, each)
                messages.append(message if each is None else each)
        else:
            messages.extend([message] * len(keys))
    return messages


cdef object in_order_of_links(list messages, names_t *names):
    cdef uint32_t i
    return tuple([messages[names.names[i].position] for i in range(names.n)])


cdef lc_request *build(Table table, object exclusive, object shared, object owner,
                       object message) except NULL:
    """Returns a new request; it keeps the messages as its payload."""
    cdef names_t names
    cdef lc_name owner_name
    cdef unsigned char owner_scratch[SCRATCH]
    cdef lc_request *request
    cdef PyObject *kept_owner = NULL
    if exclusive is not NO_KEYS:
        exclusive = collected(exclusive, "exclusive")
    if shared is not NO_KEYS:
        shared = collected(shared, "shared")
    check_message(table, message)
    begin_names(&names)
    try:
        make_room(&names, len(exclusive) + len(shared))
        if exclusive is not NO_KEYS:
            add_names(&names, exclusive, LC_EXCLUSIVE)
        if shared is not NO_KEYS:
            add_names(&names, shared, LC_SHARED)
        if owner is not None:
            name_id(owner, &owner_name, owner_scratch, &kept_owner, "an owner")
            if owner_name.id_kind == LC_BYTES:
                raise TypeError("an owner must be str, int or uuid.UUID, not bytes")
        messages = messages_by_position(table, exclusive, shared, message)
        request = lc_request_new(
            names.names, &names.n, NULL if owner is None else &owner_name, NULL
        )
        if request == NULL:
            raise MemoryError
        if messages is not None:
            message = in_order_of_links(messages, &names)
        if message is not None:
            Py_INCREF(message)
            request.payload = <void *> message
        return request
    finally:
        end_names(&names)
        Py_XDECREF(kept_owner)


cdef double seconds_of(object timeout) except? -1:
    """Returns seconds to wait, infinite for None."""
    cdef double seconds
    if timeout is None:
        return INFINITY
    if PyBool_Check(timeout):
        raise TypeError("timeout must be a number of seconds or None, not bool")
    try:
        seconds = timeout
    except TypeError:
        raise TypeError(
            f"timeout must be a number of seconds or None, not {type(timeout).__name__}"
        ) from None
    except OverflowError:
        seconds = INFINITY if timeout > 0 else -1
    if isnan(seconds):
        raise ValueError("timeout must be a number of seconds, not NaN")
    if seconds < 0:
        raise ValueError(f"timeout must not be negative: {timeout!r}")
    return seconds


def seconds(timeout):
    """Checks a timeout and returns it as seconds, infinite for None."""
    return seconds_of(timeout)


cdef int64_t deadline_of(double seconds) noexcept:
    cdef int64_t now = lc_now()
    # Some 290 years are for ever.
    return FOR_EVER if seconds >= 9e9 else now + <int64_t> (seconds * 1e9)


cdef tuple NO_KEYS = ()
cdef double INFINITY = float("inf")


# ---- results ----------------------------------------------------------------------------

cdef object keys_of(const lc_request *request, uint8_t mode):
    cdef uint32_t i
    return frozenset([
        object_of(&request.links[i].key)
        for i in range(request.n_links) if request.links[i].mode == mode
    ])


cdef object message_of(const lc_request *request, uint32_t link):
    if request.payload == NULL:
        return None
    message = <object> request.payload
    return (<tuple> message)[link] if type(message) is tuple else message


cdef list take_rows(lc_rows *rows):
    """Returns (key, mode, owner, message, is_waiter, token, age in seconds) for each row."""
    cdef int64_t now = lc_now()
    cdef size_t i
    cdef lc_row *row
    taken = []
    for i in range(rows.n):
        row = &rows.rows[i]
        taken.append((
            object_of(&row.request.links[row.link].key),
            <int> row.mode,
            object_of(row.owner),
            message_of(row.request, row.link),
            <bint> row.is_waiter,
            row.token,
            max(now - row.since, 0) / 1e9,
        ))
    return taken


# ---- waiting ----------------------------------------------------------------------------

cdef int wait_for(Table table, lc_request *request, double seconds, lc_rows *rows) except? -2:
    """Acquires, waiting so long at most. Returns LC_OK, or why not, with `rows` for it."""
    cdef lc_status status
    cdef lc_waiter *waiter
    if seconds == 0:
        status = lc_acquire(table.table, request, NULL, rows)
        if status == LC_CONFLICT:
            lc_count_refusal(table.table)
        return status
    if request.waiter == NULL:
        status = attempt(table.table, request)
        if status != LC_CONFLICT:
            return status
        waiter = new_waiter(None)
    else:
        waiter = request.waiter
    status = lc_acquire(table.table, request, waiter, NULL)
    if status != LC_QUEUED:
        if request.waiter != waiter:
            PyThread_free_lock(waiter.parker)
            free(waiter)
        return status
    status = park(table.table, request, deadline_of(seconds), rows)
    return TIMED_OUT_ if status == LC_CONFLICT else status


cdef object acquire_or_fail(Table table, Grant grant, double seconds, object timeout):
    cdef lc_rows rows = lc_rows(NULL, 0, 0)
    cdef int status
    try:
        status = wait_for(table, grant.request, seconds, &rows)
        if status != LC_OK:
            if status == LC_NO_MEMORY:
                raise MemoryError
            table._fail(status, grant, take_rows(&rows), timeout)
    finally:
        lc_rows_clear(&rows, dispose)
    return grant


cdef inline lc_status try_acquire(lc_table *table, lc_request *request) noexcept:
    cdef lc_status status
    if request.n_links < MANY:
        return lc_try_acquire(table, request)
    with nogil:
        status = lc_try_acquire(table, request)
    return status


cdef inline lc_status attempt(lc_table *table, lc_request *request) noexcept:
    """As try_acquire(), but a conflict does not count as a refusal yet."""
    cdef lc_status status
    if request.n_links < MANY:
        return lc_acquire(table, request, NULL, NULL)
    with nogil:
        status = lc_acquire(table, request, NULL, NULL)
    return status


cdef inline lc_status release(lc_table *table, lc_request *request) noexcept:
    cdef lc_status status
    if request.n_links < MANY:
        status = lc_release(table, request)
        hand_off()
        return status
    with nogil:
        status = lc_release(table, request)
    return status


# ---- classes ----------------------------------------------------------------------------

cdef class Table:
    """A table of locks: what lockcore.LockManager is built on."""

    cdef lc_table *table
    cdef unsigned long generation   # how many forks made it a child's
    cdef object __weakref__

    def __cinit__(self, *args, **kwargs):
        self.table = lc_table_new()
        if self.table == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.table != NULL:
            drop_all(lc_table_free(self.table))

    def acquire(self, *, exclusive=NO_KEYS, shared=NO_KEYS, owner=None, message=None,
                timeout=None):
        """Acquires all keys at once, waiting if it must.

        Keys are granted together or not at all; while it waits, the request holds nothing and
        queues, in order of arrival, where it is blocked.

        Args:
            exclusive: keys that nobody else may hold. A list, set or other iterable of keys, or
                a mapping of key to message.
            shared: keys that others may hold shared. A key in both is exclusive.
            owner: on whose behalf; locks of one owner never conflict with each other. None: the
                grant is its own owner.
            message: what those who are refused are told about the keys without a message.
            timeout: seconds to wait; None for ever, 0 not at all.

        Raises:
            LockConflictError: it may not wait. Names every blocker.
            LockTimeoutError: it has waited so long. Names every blocker.
            DeadlockError: waiting could never end.
            ManagerClosedError: the manager is or was closed.
            TypeError, ValueError: bad arguments; nothing was touched.
        """
        cdef double seconds = seconds_of(timeout)
        cdef Grant grant = new_grant(self, build(self, exclusive, shared, owner, message))
        return acquire_or_fail(self, grant, seconds, timeout)

    def try_acquire(self, *, exclusive=NO_KEYS, shared=NO_KEYS, owner=None, message=None):
        """Acquires all keys at once if nobody is in the way; else returns None.

        Never blocks, never overtakes a waiter it conflicts with, never formats text. Arguments
        as for acquire().

        Raises:
            ManagerClosedError: the manager is closed.
            TypeError, ValueError: bad arguments; nothing was touched.
        """
        cdef lc_request *request = build(self, exclusive, shared, owner, message)
        cdef lc_status status = try_acquire(self.table, request)
        if status == LC_OK:
            return new_grant(self, request)
        drop(request)
        if status == LC_CLOSED:
            self._fail(CLOSED, None, [], None)
        return None

    def lock(self, *, exclusive=NO_KEYS, shared=NO_KEYS, owner=None, message=None):
        """Returns a prepared lock over these keys, shaped like threading.Lock.

        The keys are checked and hashed once. Arguments as for acquire().
        """
        cdef Lock lock = Lock.__new__(Lock)
        lock.request = build(self, exclusive, shared, owner, message)
        lock.manager = self
        return lock

    def _submit(self, *, exclusive=NO_KEYS, shared=NO_KEYS, owner=None, message=None, wake=None):
        """Acquires, or queues and returns at once; `wake` is called when that is over.

        `wake` may be called from any thread, and also, while the state is still "waiting", to
        ask for `_break_deadlock`.
        """
        cdef Grant grant = new_grant(self, build(self, exclusive, shared, owner, message))
        cdef lc_waiter *waiter = new_waiter(ignore if wake is None else wake)
        cdef lc_status status = lc_acquire(self.table, grant.request, waiter, NULL)
        if grant.request.waiter != waiter:
            Py_XDECREF(<PyObject *> waiter.parker)
            free(waiter)
        if status == LC_CLOSED:
            self._fail(CLOSED, grant, [], None)
        return grant

    def _check_message(self, message):
        """Raises TypeError for what cannot be a message. Here nothing but str and None can."""
        raise TypeError(f"a message must be str or None, not {type(message).__name__}")

    def _fail(self, status, grant, rows, timeout):
        """Raises what the status means."""
        raise RuntimeError(f"lock table status {status}")

    def _rows_of_key(self, key):
        cdef names_t names
        cdef lc_rows rows = lc_rows(NULL, 0, 0)
        begin_names(&names)
        try:
            add_name(&names, key, LC_SHARED)
            if lc_list_key(self.table, names.names, &rows) != LC_OK:
                raise MemoryError
            return take_rows(&rows)
        finally:
            lc_rows_clear(&rows, dispose)
            end_names(&names)

    cdef int list_holders(self, object owner, lc_rows *rows) except -1:
        cdef lc_name name
        cdef unsigned char scratch[SCRATCH]
        cdef PyObject *kept = NULL
        cdef lc_status status
        try:
            if owner is not None:
                name_id(owner, &name, scratch, &kept, "an owner")
                if name.id_kind == LC_BYTES:
                    raise TypeError("an owner must be str, int or uuid.UUID, not bytes")
            status = lc_list_holders(self.table, NULL if owner is None else &name, rows)
        finally:
            Py_XDECREF(kept)
        if status != LC_OK:
            raise MemoryError
        return 0

    def _rows_of_holders(self, owner):
        cdef lc_rows rows = lc_rows(NULL, 0, 0)
        try:
            self.list_holders(owner, &rows)
            return take_rows(&rows)
        finally:
            lc_rows_clear(&rows, dispose)

    def _release_holders(self, owner):
        """Releases every grant of the owner, or with None every grant. Returns how many."""
        cdef lc_rows rows = lc_rows(NULL, 0, 0)
        try:
            self.list_holders(owner, &rows)
            return self.release_rows(&rows)
        finally:
            lc_rows_clear(&rows, dispose)

    def _release_key(self, key):
        """Releases every grant that holds the key. Returns how many."""
        cdef names_t names
        cdef lc_rows rows = lc_rows(NULL, 0, 0)
        begin_names(&names)
        try:
            add_name(&names, key, LC_SHARED)
            if lc_list_key(self.table, names.names, &rows) != LC_OK:
                raise MemoryError
            return self.release_rows(&rows)
        finally:
            lc_rows_clear(&rows, dispose)
            end_names(&names)

    cdef int release_rows(self, lc_rows *rows) except -1:
        cdef size_t i
        cdef int n = 0
        for i in range(rows.n):
            if not rows.rows[i].is_waiter:
                n += lc_release(self.table, rows.rows[i].request) == LC_OK
        hand_off()
        return n

    def _statistics(self):
        """Returns the six counters and a list with the counts of waits."""
        cdef lc_statistics counts
        lc_read_statistics(self.table, &counts)
        bins = [counts.wait_bins[i] for i in range(LC_N_WAIT_BINS)]
        return (counts.acquired, counts.refused, counts.waits, counts.timeouts,
                counts.deadlocks, counts.wakes, bins)

    def __len__(self):
        return lc_count_held(self.table)

    def close(self):
        """Refuses all later requests and wakes those who wait: ManagerClosedError.

        What is held stays held and can be released. Closing twice is fine.
        """
        lc_table_close(self.table)
        hand_off()

    @property
    def closed(self):
        """Whether close() was called."""
        return lc_table_is_closed(self.table)

    def _before_fork(self):
        lc_before_fork(self.table)

    def _after_fork_in_parent(self):
        lc_after_fork_in_parent(self.table)

    def _after_fork_in_child(self):
        self.generation += 1
        drop_all(lc_after_fork_in_child(self.table))


def ignore():
    """Does nothing."""


cdef void drop_all(lc_request *request) noexcept:
    cdef lc_request *next_one
    while request != NULL:
        next_one = lc_next_ended(request)
        drop(request)
        request = next_one


cdef inline Grant new_grant(Table manager, lc_request *request):
    cdef Grant grant = Grant.__new__(Grant)
    grant.request = request
    grant.manager = manager
    return grant


@cython.final
@cython.freelist(64)
@cython.no_gc
cdef class Grant:
    """The fact that a request holds its keys.

    Dropping the last reference does not release: the locks stay, visible and releasable by
    their owner. Any thread may call any method.
    """

    cdef lc_request *request
    cdef Table manager

    def __init__(self):
        raise TypeError("grants come from LockManager.acquire()")

    def __dealloc__(self):
        if self.request != NULL:
            drop(self.request)

    def release(self):
        """Gives back all keys, and lets those run who waited for them. Never blocks.

        Raises:
            NotHeldError: it was released before, here or by somebody else. Nothing changed.
        """
        if release(self.manager.table, self.request) != LC_OK:
            self.manager._fail(NOT_HELD, self, [], None)

    def downgrade(self):
        """Makes every exclusive key shared, and lets those run who can now. Never blocks.

        Raises:
            NotHeldError: the grant has ended. Nothing changed.
        """
        cdef lc_status status = lc_downgrade(self.manager.table, self.request)
        hand_off()
        if status != LC_OK:
            self.manager._fail(status, self, [], None)

    def upgrade(self, timeout=None):
        """Makes every shared key exclusive, waiting for other holders to go.

        All keys change together. It does not wait behind waiters for keys it holds. While it
        waits, and if it fails, it keeps what it has. The token is a new one.

        Args:
            timeout: seconds to wait; None for ever, 0 not at all.

        Raises:
            LockConflictError, LockTimeoutError, ManagerClosedError: as for acquire().
            DeadlockError: waiting could never end, as when two upgrade the same key.
            NotHeldError: the grant has ended.
        """
        cdef Table manager = self.manager
        cdef double seconds = seconds_of(timeout)
        cdef Grant upgrade
        if self.request.n_links == 0 and lc_request_state(self.request) == LC_HELD:
            return
        check(manager, self, begin_upgrade(manager.table, self.request), [])
        upgrade = None
        try:
            upgrade = new_upgrade(manager, self.request)
            if upgrade.request.n_links > 0:
                acquire_or_fail(manager, upgrade, seconds, timeout)
        except BaseException:
            lc_end_upgrade(manager.table, self.request, NULL)
            raise
        if upgrade.request.n_links == 0:
            lc_end_upgrade(manager.table, self.request, NULL)
        elif lc_end_upgrade(manager.table, self.request, upgrade.request) != LC_OK:
            release(manager.table, upgrade.request)
            manager._fail(NOT_HELD, self, [], None)

    def transfer(self, owner):
        """Gives the grant to another owner, in one step. Never blocks.

        Args:
            owner: the new owner; None for one of its own.

        Raises:
            LockConflictError: the old owner holds one of the keys by another grant, too, in a
                conflicting mode.
            NotHeldError: the grant has ended.
            RuntimeError: an upgrade of it is under way.
        """
        cdef lc_name name
        cdef unsigned char scratch[SCRATCH]
        cdef PyObject *kept = NULL
        cdef lc_rows rows = lc_rows(NULL, 0, 0)
        cdef lc_status status
        try:
            if owner is not None:
                name_id(owner, &name, scratch, &kept, "an owner")
                if name.id_kind == LC_BYTES:
                    raise TypeError("an owner must be str, int or uuid.UUID, not bytes")
            status = lc_transfer(
                self.manager.table, self.request, NULL if owner is None else &name, &rows
            )
            hand_off()
            if status == LC_BUSY:
                raise RuntimeError("cannot transfer a grant while it is being upgraded")
            if status != LC_OK:
                check(self.manager, self, status, take_rows(&rows))
        finally:
            lc_rows_clear(&rows, dispose)
            Py_XDECREF(kept)

    @property
    def owner(self):
        """The owner, or None if the grant is its own."""
        return object_of(self.request.owner)

    @property
    def token(self):
        """A number that grows with every grant of the manager."""
        return self.request.token

    @property
    def exclusive(self):
        """The frozenset of keys it holds (or held) exclusive."""
        return keys_of(self.request, LC_EXCLUSIVE)

    @property
    def shared(self):
        """The frozenset of keys it holds (or held) shared."""
        return keys_of(self.request, LC_SHARED)

    @property
    def is_held(self):
        """Whether it holds its keys: it was not released, by anybody."""
        return lc_request_state(self.request) == LC_HELD

    @property
    def _message(self):
        if self.request.payload == NULL:
            return None
        message = <object> self.request.payload
        return None if type(message) is tuple else message

    @property
    def _state(self):
        return STATES[lc_request_state(self.request)]

    def _cancel(self):
        """Ends a wait. Returns False when it had been granted already, and stays so."""
        return lc_cancel(self.manager.table, self.request, False, NULL) != LC_OK

    def _time_out(self):
        """Ends a wait that was too long. Returns the blockers' rows, or None if it was granted."""
        cdef lc_rows rows = lc_rows(NULL, 0, 0)
        cdef lc_status status
        try:
            status = lc_cancel(self.manager.table, self.request, True, &rows)
            return None if status == LC_OK else take_rows(&rows)
        finally:
            lc_rows_clear(&rows, dispose)

    def _break_deadlock(self):
        """Ends a wait that can never end. Returns the cycle's rows, or None if it can."""
        cdef lc_rows rows = lc_rows(NULL, 0, 0)
        cdef lc_status status
        try:
            status = lc_break_deadlock(self.manager.table, self.request, &rows)
            return take_rows(&rows) if status == LC_DEADLOCK else None
        finally:
            lc_rows_clear(&rows, dispose)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        release(self.manager.table, self.request)

    def __repr__(self):
        return (
            f"<lockcore.Grant {self.token} {'held' if self.is_held else 'ended'} "
            f"exclusive={sorted(self.exclusive, key=repr)} "
            f"shared={sorted(self.shared, key=repr)} owner={self.owner!r}>"
        )


cdef int check(Table manager, Grant grant, lc_status status, list rows) except -1:
    if status == LC_NO_MEMORY:
        raise MemoryError
    if status != LC_OK:
        manager._fail(<int> status, grant, rows, None)
    return 0


cdef lc_status begin_upgrade(lc_table *table, lc_request *request) noexcept:
    return LC_NOT_HELD if request.n_links == 0 else lc_begin_upgrade(table, request)


cdef Grant new_upgrade(Table manager, lc_request *of):
    cdef lc_request *request
    message = <object> of.payload if of.payload != NULL else None
    if type(message) is tuple:
        message = None
    request = lc_request_upgrade(of, NULL)
    if request == NULL:
        raise MemoryError
    if message is not None:
        Py_INCREF(message)
        request.payload = <void *> message
    return new_grant(manager, request)


@cython.final
@cython.no_gc
cdef class Lock:
    """A prepared request, shaped like threading.Lock.

    Each acquire() is a grant of its own, and each release() ends the oldest: a lock over shared
    keys, or with a named owner, can be held several times.
    """

    cdef lc_request *request        # one grant at a time uses it; more get copies
    cdef bint is_taken
    cdef lc_request *first          # grants, through `below`
    cdef lc_request *last
    cdef Table manager
    cdef unsigned long generation   # of the manager when the list was begun
    cdef lc_mutex mutex             # of all this, where there is no GIL

    def __init__(self):
        raise TypeError("locks come from LockManager.lock()")

    def __dealloc__(self):
        if self.request != NULL:
            self.forget_grants()
            drop(self.request)

    def acquire(self, blocking=True, timeout=-1):
        """As threading.Lock.acquire(): returns whether the lock was acquired.

        Raises:
            DeadlockError: waiting could never end.
            ManagerClosedError: the manager is or was closed.
        """
        cdef double seconds = INFINITY
        if blocking is not True or timeout is not MINUS_ONE:
            seconds = check_lock_timeout(blocking, timeout)
        cdef lc_request *request = self.take()
        cdef lc_status status = attempt(self.manager.table, request)
        cdef bint is_held = status == LC_OK
        try:
            if not is_held:
                is_held = self.wait(request, status, seconds, timeout)
        finally:
            if is_held:
                self.push(request)
            else:
                self.give_back(request)
        return is_held

    def release(self):
        """As threading.Lock.release(): ends the oldest grant. Any thread may call it.

        Raises:
            NotHeldError: it is not held, or somebody else ended the grant.
        """
        cdef lc_request *request = self.pop()
        cdef lc_status status = LC_NOT_HELD
        if request != NULL:
            status = release(self.manager.table, request)
            self.give_back(request)
        if status != LC_OK:
            self.manager._fail(NOT_HELD, None, [], None)

    def locked(self):
        """Returns whether this lock is held, by whomever acquired it through this object."""
        cdef lc_request *request
        cdef bint is_held = False
        self.begin()
        request = self.first
        while request != NULL and not is_held:
            is_held = lc_request_state(request) == LC_HELD
            request = request.below
        self.end()
        return is_held

    def __enter__(self):
        return self.acquire()

    def __exit__(self, kind, error, traceback):
        self.release()

    def __repr__(self):
        return (
            f"<{'locked' if self.locked() else 'unlocked'} lockcore.Lock "
            f"exclusive={sorted(keys_of(self.request, LC_EXCLUSIVE), key=repr)} "
            f"shared={sorted(keys_of(self.request, LC_SHARED), key=repr)}>"
        )

    cdef bint wait(self, lc_request *request, lc_status status, double seconds,
                   object timeout) except -1:
        cdef lc_rows rows = lc_rows(NULL, 0, 0)
        cdef int outcome = status
        try:
            if status == LC_CONFLICT:
                if seconds == 0:
                    lc_count_refusal(self.manager.table)
                    return False
                outcome = wait_for(self.manager, request, seconds, &rows)
            if outcome == TIMED_OUT_:
                return False
            if outcome == LC_NO_MEMORY:
                raise MemoryError
            if outcome != LC_OK:
                self.manager._fail(
                    outcome, new_grant(self.manager, lc_request_keep(request)), take_rows(&rows),
                    timeout,
                )
            return True
        finally:
            lc_rows_clear(&rows, dispose)

    # The list of grants. begin() and end() enclose every look at it.

    cdef inline void begin(self) noexcept:
        if not LC_HAS_GIL:
            lc_mutex_lock(&self.mutex)
        if self.generation != self.manager.generation:
            self.forget_grants()
            self.generation = self.manager.generation

    cdef inline void end(self) noexcept:
        if not LC_HAS_GIL:
            lc_mutex_unlock(&self.mutex)

    cdef void forget_grants(self) noexcept:
        cdef lc_request *request
        while self.first != NULL:
            request = self.first
            self.first = request.below
            if request != self.request:
                drop(request)
        self.is_taken = False

    cdef inline lc_request *take(self) except NULL:
        cdef lc_request *request = NULL
        self.begin()
        # Somebody who looks at holders may keep it for a moment: then it is not ours.
        if not self.is_taken and lc_request_is_ours(self.request):
            self.is_taken = True
            request = self.request
        self.end()
        if request == NULL:
            request = lc_request_copy(self.request, self.request.payload)
            if request == NULL:
                raise MemoryError
            Py_XINCREF(<PyObject *> request.payload)
        return request

    cdef inline void give_back(self, lc_request *request) noexcept:
        if request != self.request:
            drop(request)
            return
        self.begin()
        self.is_taken = False
        self.end()

    cdef inline void push(self, lc_request *request) noexcept:
        self.begin()
        request.below = NULL
        if self.first == NULL:
            self.first = request
        else:
            self.last.below = request
        self.last = request
        self.end()

    cdef inline lc_request *pop(self) noexcept:
        self.begin()
        cdef lc_request *request = self.first
        if request != NULL:
            self.first = request.below
        self.end()
        return request


cdef object MINUS_ONE = -1


cdef double check_lock_timeout(object blocking, object timeout) except? -1:
    """Returns seconds to wait. Raises what threading.Lock raises, by asking one."""
    allocate_lock().acquire(blocking, timeout)
    if not blocking:
        return 0
    return INFINITY if timeout == -1 else timeout
