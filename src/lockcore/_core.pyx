"""The C core as Python objects: tables, grants and prepared locks.

This is the only file (with those it includes) that knows both C and Python. It raises
only for bad arguments and lack of memory; every other outcome is a status that
what `on_failure` was told, by lockcore.LockManager's module, turns into an exception.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.object cimport PyObject, newfunc
from libc.math cimport isnan
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from _lock_table cimport *

from _thread import allocate_lock
from collections.abc import Mapping


include "_keys.pxi"
include "_requests.pxi"
include "_parking.pxi"

CONFLICT = <int> LC_CONFLICT
TIMED_OUT = <int> TIMED_OUT_
FORKED = <int> FORKED_
NOT_HELD = <int> LC_NOT_HELD
CLOSED = <int> LC_CLOSED
DEADLOCK = <int> LC_DEADLOCK

SHARED = <int> LC_SHARED
EXCLUSIVE = <int> LC_EXCLUSIVE

cdef enum:
    # Requests of so many keys let go of the GIL while they are granted or released.
    MANY = 256
    # More statuses: a conflict that has lasted; a wait that is the parent process's.
    TIMED_OUT_ = -1
    FORKED_ = -3

cdef dict STATES = {
    LC_NEW: "ended",
    LC_WAITING: "waiting",
    LC_HELD: "held",
    LC_ENDED: "ended",
    LC_SHUT_OUT: "closed",
}


# What raises: on_failure().
cdef object fail = None
cdef object fail_not_held = None


# ---- results ----------------------------------------------------------------------------

cdef object keys_of(lc_table *table, const lc_request *request, uint8_t mode):
    modes = modes_of(table, request)
    cdef uint32_t i
    return frozenset([
        object_of(&request.links[i].key) for i in range(request.n_links) if modes[i] == mode
    ])


cdef bytearray modes_of(lc_table *table, const lc_request *request):
    """Returns the modes of the links at one instant."""
    cdef const lc_key *owner
    cdef uint64_t token
    cdef bytearray modes = bytearray(request.n_links)
    lc_look_at(table, request, &owner, &token, <uint8_t *> PyByteArray_AS_STRING(modes))
    return modes


cdef object message_of(const lc_request *request, Py_ssize_t link):
    """Returns the message of one link, or with -1 that of the request."""
    if request.payload == NULL:
        return None
    message = <object> request.payload
    if type(message) is not tuple:
        return message
    # A downgrade may have given an upgrade more links than it had messages for.
    return (<tuple> message)[link + 1 if link + 1 < len(<tuple> message) else 0]


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

cdef int acquire(lc_table *table, lc_request *request, double seconds, lc_rows *rows) except? -2:
    """Acquires, waiting so long at most. Returns LC_OK, or why not, with `rows` for it."""
    cdef lc_status status
    if seconds == 0:
        status = lc_acquire(table, request, NULL, rows)
        if status == LC_CONFLICT:
            lc_count_refusal(table)
        return status
    status = attempt(table, request)
    return status if status != LC_CONFLICT else wait_for(table, request, seconds, rows)


cdef int wait_for(lc_table *table, lc_request *request, double seconds, lc_rows *rows) except? -2:
    """Waits so long at most for what attempt() has just refused. Returns as acquire() does."""
    cdef lc_waiter *waiter = request.waiter
    cdef lc_status status
    cdef int outcome
    if waiter == NULL:
        waiter = new_waiter()
    status = lc_queue(table, request, waiter)
    if status != LC_QUEUED:
        if request.waiter != waiter:
            PyThread_free_lock(waiter.parker)
            free(waiter)
        return status
    outcome = park(table, request, deadline_of(seconds), rows)
    return TIMED_OUT_ if outcome == LC_CONFLICT else outcome


cdef object acquire_or_fail(lc_table *table, Grant grant, double seconds, object timeout):
    cdef lc_rows rows = lc_rows(NULL, 0, 0)
    cdef int status
    try:
        status = acquire(table, grant.request, seconds, &rows)
        if status != LC_OK:
            if status == LC_NO_MEMORY:
                raise MemoryError
            fail(status, grant, take_rows(&rows), timeout)
    finally:
        lc_rows_clear(&rows, dispose)
    return grant


# The GIL guards every table. Around what is done without it, it does not.

cdef inline void begin_nogil(lc_table *table) noexcept:
    if LC_HAS_GIL:
        lc_table_unguard(table)


cdef inline void end_nogil(lc_table *table) noexcept:
    if LC_HAS_GIL:
        lc_table_guard(table)


cdef inline void expect_grant(lc_table *table) noexcept:
    if not LC_HAS_GIL:
        lc_expect_grant(table)


cdef inline lc_status try_acquire(lc_table *table, lc_request *request) noexcept:
    cdef lc_status status
    if request.n_links < MANY:
        return lc_try_acquire(table, request)
    begin_nogil(table)
    with nogil:
        status = lc_try_acquire(table, request)
    end_nogil(table)
    return status


cdef inline lc_status attempt(lc_table *table, lc_request *request) noexcept:
    """As try_acquire(), but a conflict does not count as a refusal yet."""
    cdef lc_status status
    if request.n_links < MANY:
        return lc_acquire(table, request, NULL, NULL)
    begin_nogil(table)
    with nogil:
        status = lc_acquire(table, request, NULL, NULL)
    end_nogil(table)
    return status


cdef inline lc_status release(lc_table *table, lc_request *request) noexcept:
    cdef lc_status status
    if request.n_links < MANY:
        return lc_release(table, request)
    begin_nogil(table)
    with nogil:
        status = lc_release(table, request)
    end_nogil(table)
    return status


cdef inline object granted(Table table, object exclusive, object shared, object owner,
                           object message, object timeout):
    """What Table.acquire() returns."""
    expect_grant(table.table)
    cdef double seconds = seconds_of(timeout)
    cdef Grant grant = new_grant(keeper_of(table))
    grant.request = build(table, exclusive, shared, owner, message)
    return acquire_or_fail(table.table, grant, seconds, timeout)


cdef inline object granted_or_none(Table table, object exclusive, object shared, object owner,
                                   object message):
    """What Table.try_acquire() returns."""
    expect_grant(table.table)
    # Made before it is held: afterwards nothing may fail.
    cdef Grant grant = new_grant(keeper_of(table))
    grant.request = build(table, exclusive, shared, owner, message)
    cdef lc_status status = try_acquire(table.table, grant.request)
    if status == LC_OK:
        return grant
    if status == LC_CLOSED:
        fail(CLOSED, None, [], None)
    return None


# ---- classes ----------------------------------------------------------------------------

cdef class Table:
    """A table of locks: what lockcore.LockManager is built on."""

    cdef lc_table *table
    cdef object __weakref__

    def __cinit__(self, *args, **kwargs):
        self.table = lc_table_new()
        if self.table == NULL:
            raise MemoryError
        if LC_HAS_GIL:
            lc_table_guard(self.table)

    def __dealloc__(self):
        if self.table != NULL and lc_table_leave(self.table):
            end_table(self.table)

    def acquire(self, *, exclusive=(), shared=(), owner=None, message=None,
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
            LockError: in a child process, if a signal handler forked during the wait.
            TypeError, ValueError: bad arguments; nothing was touched.
        """
        return granted(self, exclusive, shared, owner, message, timeout)

    def try_acquire(self, *, exclusive=(), shared=(), owner=None, message=None):
        """Acquires all keys at once if nobody is in the way; else returns None.

        Never blocks, never overtakes a waiter it conflicts with, never formats text. Arguments
        as for acquire().

        Raises:
            ManagerClosedError: the manager is closed.
            TypeError, ValueError: bad arguments; nothing was touched.
        """
        return granted_or_none(self, exclusive, shared, owner, message)

    def lock(self, *, exclusive=(), shared=(), owner=None, message=None):
        """Returns a prepared lock over these keys, shaped like threading.Lock.

        The keys are checked and hashed once. Arguments as for acquire().
        """
        cdef Lock lock = Lock.__new__(Lock)
        lock.request = build(self, exclusive, shared, owner, message)
        lock.manager = self
        if not LC_HAS_GIL:
            lock.move_request()
        return lock

    def _attempt(self, *, exclusive=(), shared=(), owner=None, message=None):
        """Returns a grant that is held or, when somebody is in the way, new: for `_queue`."""
        cdef Grant grant = new_grant(keeper_of(self))
        grant.request = build(self, exclusive, shared, owner, message)
        if attempt(self.table, grant.request) == LC_CLOSED:
            fail(CLOSED, grant, [], None)
        return grant

    def _submit(self, *, exclusive=(), shared=(), owner=None, message=None, wake=None):
        """Acquires, or queues and returns at once: `_attempt` and `Grant._queue`."""
        cdef Grant grant = self._attempt(
            exclusive=exclusive, shared=shared, owner=owner, message=message
        )
        if not grant.is_held:
            grant._queue(ignore if wake is None else wake)
        return grant

    def _check_message(self, message):
        """Raises TypeError for what cannot be a message. Here nothing but str and None can."""
        raise TypeError(f"a message must be str or None, not {type(message).__name__}")

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
        cdef kept_t *kept = NULL
        cdef lc_status status
        try:
            if owner is not None:
                name_owner(owner, &name, scratch, &kept)
            status = lc_list_holders(self.table, NULL if owner is None else &name, rows)
        finally:
            drop_kept(kept)
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
            return lc_release_rows(self.table, &rows, owner is not None)
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
            return lc_release_rows(self.table, &rows, False)
        finally:
            lc_rows_clear(&rows, dispose)
            end_names(&names)

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

    @property
    def closed(self):
        """Whether close() was called."""
        return lc_table_is_closed(self.table)


if not lc_handle_forks():
    raise MemoryError
lc_call_after_waking(after_waking)


def after_fork_in_child():
    """Ends what all tables hold: it is the parent's."""
    global generation_of_tables
    generation_of_tables += 1
    drop_all(lc_tables_empty())


def status_error(status, grant, rows, timeout):
    """Raises RuntimeError, whatever the status."""
    raise RuntimeError(f"lock table status {status}")


def not_held_error(grant, action):
    """Raises RuntimeError: the grant, or with None the lock, is not held."""
    status_error(NOT_HELD, grant, [], None)


def on_failure(call, call_not_held):
    """Has `call(status, grant, rows, timeout)` and `call_not_held(grant, action)` raise."""
    global fail, fail_not_held
    fail = call
    fail_not_held = call_not_held


def ignore():
    """Does nothing."""


cdef void end_table(lc_table *table) noexcept nogil:
    drop_all(lc_table_free(table))


cdef void drop_all(lc_request *request) noexcept nogil:
    cdef lc_request *next_one
    while request != NULL:
        next_one = lc_next_ended(request)
        drop(request)
        request = next_one


include "_grant.pxi"
include "_lock.pxi"
include "_calls.pxi"


cdef extern from *:
    """
    /* Each object of a type made at run time is a reference to it: without the GIL a counter
     * that all threads write at every grant. An immortal type's are not counted. */
    static void lc_make_immortal(PyObject *type)
    {
    #ifdef Py_GIL_DISABLED
        Py_SET_REFCNT(type, (Py_ssize_t)UINT32_MAX + 1);
    #else
        (void)type;
    #endif
    }
    """
    void lc_make_immortal(object type)

cdef object refuse(object kind, PyObject *arguments, PyObject *names):
    raise TypeError(f"only a LockManager makes a {kind.__name__}")


lc_make_immortal(Grant)
lc_make_immortal(Lock)
# By hand they would have no request. Whoever makes them here does not come through this door.
(<PyTypeObject *> Grant).tp_new = <newfunc> refuse
(<PyTypeObject *> Lock).tp_new = <newfunc> refuse
