# Grants, and what changes them.


# Grants that nobody refers to, kept for the next ones: the GIL guards them.
cdef enum:
    MANY_SPARES = 64

cdef PyObject *spare_grants[MANY_SPARES]
cdef uint32_t n_spare_grants = 0


cdef inline void *keeper_of(Table manager) noexcept:
    """What a grant keeps, lest its table be freed: with the GIL the manager.

    Without, its reference count would be a cache line that all threads write at every grant.
    """
    return <void *> manager if LC_HAS_GIL else <void *> manager.table


cdef inline Grant new_grant(void *keeper):
    """Returns a grant whose request is still to come."""
    global n_spare_grants
    cdef Grant grant
    if n_spare_grants > 0:
        n_spare_grants -= 1
        grant = <Grant> spare_grants[n_spare_grants]
    else:
        grant = Grant.__new__(Grant)
    grant.keeper = keeper
    if LC_HAS_GIL:
        Py_INCREF(<object> keeper)
    else:
        lc_table_keep(<lc_table *> keeper)
    return grant


cdef inline void drop_keeper(void *keeper) noexcept:
    if LC_HAS_GIL:
        Py_XDECREF(<PyObject *> keeper)
    elif keeper != NULL and lc_table_drop(<lc_table *> keeper):
        end_table(<lc_table *> keeper)


cdef inline lc_table *table_of(Grant grant) noexcept:
    return (<Table> grant.keeper).table if LC_HAS_GIL else <lc_table *> grant.keeper


@cython.final
@cython.no_gc
cdef class Grant:
    """The fact that a request holds its keys.

    Dropping the last reference does not release: the locks stay, visible and releasable by
    their owner. Any thread may call any method.

    A grant works as long as anybody has it, though nobody else may have its manager. It is not
    known to the garbage collector, which would have to visit a million of them; and with the GIL it
    keeps the manager alive, so that one which keeps its own grants is never collected.
    """

    cdef lc_request *request
    cdef void *keeper               # keeper_of() its manager

    def release(self):
        """Gives back all keys, and lets those run who waited for them. Never blocks.

        Raises:
            NotHeldError: it was released before, here or by somebody else. Nothing changed.
        """
        if release(table_of(self), self.request) != LC_OK:
            fail_not_held(self, "release")

    def downgrade(self):
        """Makes every exclusive key shared, and lets those run who can now. Never blocks.

        Raises:
            NotHeldError: the grant has ended. Nothing changed.
        """
        cdef lc_status status = lc_downgrade(table_of(self), self.request)
        if status != LC_OK:
            fail_not_held(self, "downgrade")

    def upgrade(self, timeout=None):
        """Makes every shared key exclusive, waiting for other holders to go.

        All keys change together. It does not wait behind waiters for keys it holds. While it
        waits, and if it fails, it keeps what it has. The token is a new one.

        Args:
            timeout: seconds to wait; None for ever, 0 not at all.

        Raises:
            LockConflictError, LockTimeoutError, ManagerClosedError, LockError: as for acquire().
            DeadlockError: waiting could never end, as when two upgrade the same key.
            NotHeldError: the grant has ended.
        """
        cdef lc_table *table = table_of(self)
        cdef double seconds = seconds_of(timeout)
        cdef Grant upgrade
        if self.request.n_links == 0 and lc_request_state(self.request) == LC_HELD:
            return
        cdef lc_status status = begin_upgrade(table, self.request)
        if status == LC_BUSY:
            raise RuntimeError("too many upgrades of one grant are under way")
        check(self, status, [], "upgrade")
        upgrade = None
        try:
            upgrade = new_grant(self.keeper)
            upgrade.request = new_upgrade(table, self.request)
            if upgrade.request.n_links > 0:
                acquire_or_fail(table, upgrade, seconds, timeout)
        except BaseException:
            lc_end_upgrade(table, self.request, NULL)
            raise
        if upgrade.request.n_links == 0:
            lc_end_upgrade(table, self.request, NULL)
        elif lc_end_upgrade(table, self.request, upgrade.request) != LC_OK:
            release(table, upgrade.request)
            fail_not_held(self, "upgrade")

    @cython.always_allow_keywords(True)
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
        cdef kept_t *kept = NULL
        cdef lc_rows rows = lc_rows(NULL, 0, 0)
        cdef lc_status status
        try:
            if owner is not None:
                name_owner(owner, &name, scratch, &kept)
            status = lc_transfer(
                table_of(self), self.request, NULL if owner is None else &name, &rows
            )
            if status == LC_BUSY:
                raise RuntimeError("cannot transfer a grant while it is being upgraded")
            if status != LC_OK:
                check(self, status, take_rows(&rows), "transfer")
        finally:
            lc_rows_clear(&rows, dispose)
            drop_kept(kept)

    @property
    def owner(self):
        """The owner, or None if the grant is its own."""
        cdef const lc_key *owner
        cdef uint64_t token
        lc_look_at(table_of(self), self.request, &owner, &token, NULL)
        return object_of(owner)

    @property
    def token(self):
        """A number that grows with every grant of the manager."""
        cdef const lc_key *owner
        cdef uint64_t token
        lc_look_at(table_of(self), self.request, &owner, &token, NULL)
        return token

    @property
    def exclusive(self):
        """The frozenset of keys it holds (or held) exclusive."""
        return keys_of(table_of(self), self.request, LC_EXCLUSIVE)

    @property
    def shared(self):
        """The frozenset of keys it holds (or held) shared."""
        return keys_of(table_of(self), self.request, LC_SHARED)

    @property
    def is_held(self):
        """Whether it holds its keys: it was not released, by anybody."""
        return lc_request_state(self.request) == LC_HELD

    @property
    def _message(self):
        return message_of(self.request, -1)

    @property
    def _state(self):
        return STATES[lc_request_state(self.request)]

    def _queue(self, wake):
        """Acquires what is new, or queues it and returns at once.

        `wake` is called when the wait is over; and also, while the state is still "waiting", to
        ask for `_break_deadlock`. From any thread. Returning False it gives the grant back.
        """
        if lc_request_state(self.request) != LC_NEW:
            return  # it was granted at once, and has been ended since by somebody else
        cdef lc_waiter *waiter = new_callback_waiter(table_of(self), wake)
        cdef lc_status status = lc_queue(table_of(self), self.request, waiter)
        if self.request.waiter != waiter:
            Py_XDECREF(<PyObject *> waiter.parker)
            free(waiter)
        if status == LC_CLOSED:
            fail(CLOSED, self, [], None)

    def _cancel(self):
        """Ends a wait. Returns False when it had been granted already, and stays so."""
        return lc_cancel(table_of(self), self.request, False, NULL) != LC_OK

    def _time_out(self):
        """Ends a wait that was too long. Returns the blockers' rows, or None if it was over."""
        cdef lc_rows rows = lc_rows(NULL, 0, 0)
        cdef lc_status status
        try:
            status = lc_cancel(table_of(self), self.request, True, &rows)
            return None if status == LC_OK or status == LC_CLOSED else take_rows(&rows)
        finally:
            lc_rows_clear(&rows, dispose)

    def _break_deadlock(self):
        """Ends a wait that can never end. Returns the cycle's rows, or None if it can."""
        cdef lc_rows rows = lc_rows(NULL, 0, 0)
        cdef lc_status status
        try:
            status = lc_break_deadlock(table_of(self), self.request, &rows)
            if status == LC_NO_MEMORY:
                raise MemoryError
            return take_rows(&rows) if status == LC_DEADLOCK else None
        finally:
            lc_rows_clear(&rows, dispose)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        release(table_of(self), self.request)

    def __repr__(self):
        return (
            f"<lockcore.Grant {self.token} {'held' if self.is_held else 'ended'} "
            f"exclusive={sorted(self.exclusive, key=repr)} "
            f"shared={sorted(self.shared, key=repr)} owner={self.owner!r}>"
        )


ctypedef void (*destructor)(PyObject *) noexcept
cdef destructor free_grant


cdef void end_grant(PyObject *grant) noexcept:
    """Drops the request of a grant that nobody refers to any more, and keeps or frees the grant.

    Not a `__dealloc__`, around which Cython saves and restores the exception of the moment:
    dropping a request raises none.
    """
    global n_spare_grants
    cdef lc_request *request = (<Grant> grant).request
    cdef void *payload
    if request != NULL and lc_request_drop(request):
        if request.waiter != NULL and not keep_waiter(request):
            dispose(request)
        else:
            payload = request.payload
            lc_request_free(request, LC_SPARES)
            Py_XDECREF(<PyObject *> payload)
    (<Grant> grant).request = NULL
    drop_keeper((<Grant> grant).keeper)
    (<Grant> grant).keeper = NULL
    # SAFETY: the next grant's reference is the first one to it again.
    if LC_HAS_SPARES and n_spare_grants < MANY_SPARES:
        spare_grants[n_spare_grants] = grant
        n_spare_grants += 1
    else:
        free_grant(grant)


free_grant = (<PyTypeObject *> Grant).tp_dealloc
(<PyTypeObject *> Grant).tp_dealloc = end_grant


cdef int check(Grant grant, lc_status status, list rows, str action) except -1:
    if status == LC_NO_MEMORY:
        raise MemoryError
    if status == LC_NOT_HELD:
        fail_not_held(grant, action)
    if status != LC_OK:
        fail(<int> status, grant, rows, None)
    return 0


cdef lc_status begin_upgrade(lc_table *table, lc_request *request) noexcept:
    return LC_NOT_HELD if request.n_links == 0 else lc_begin_upgrade(table, request)


cdef lc_request *new_upgrade(lc_table *table, lc_request *of) except NULL:
    cdef lc_request *request
    cdef uint32_t i
    message = <object> of.payload if of.payload != NULL else None
    if type(message) is tuple:
        modes = modes_of(table, of)
        shared = [message_of(of, i) for i in range(of.n_links) if modes[i] == LC_SHARED]
        message = (message_of(of, -1), *shared)
    request = lc_request_upgrade(table, of, NULL)
    if request == NULL:
        raise MemoryError
    if message is not None:
        Py_INCREF(message)
        request.payload = <void *> message
    return request
