# Prepared locks.

cdef extern from *:
    """
    /* The last field of a Lock. Without the GIL neighbours are used at once by two threads:
     * so much apart they share no cache line. */
    typedef struct {
        lc_mutex mutex;
    #ifdef Py_GIL_DISABLED
        char apart[LC_CACHE_LINE];
    #endif
    } lc_guard;
    """
    ctypedef struct lc_guard:
        lc_mutex mutex


@cython.final
@cython.no_gc_clear  # a cycle through a manager has a dictionary to clear; this needs its manager
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
    cdef unsigned long generation   # of tables when the list was begun
    cdef lc_guard guard              # of all this, where there is no GIL

    def __dealloc__(self):
        if self.request != NULL:
            self.forget_grants()
            drop(self.request)

    def acquire(self, blocking=True, timeout=-1):
        """As threading.Lock.acquire(): returns whether the lock was acquired.

        Raises:
            DeadlockError: waiting could never end.
            ManagerClosedError: the manager is or was closed.
            LockError: in a child process, if a signal handler forked during the wait.
        """
        expect_grant(self.manager.table)
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
            fail_not_held(None, "release")

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
        cdef lc_table *table = self.manager.table
        return (
            f"<{'locked' if self.locked() else 'unlocked'} lockcore.Lock "
            f"exclusive={sorted(keys_of(table, self.request, LC_EXCLUSIVE), key=repr)} "
            f"shared={sorted(keys_of(table, self.request, LC_SHARED), key=repr)}>"
        )

    cdef bint wait(self, lc_request *request, lc_status status, double seconds,
                   object timeout) except -1:
        cdef lc_rows rows = lc_rows(NULL, 0, 0)
        cdef int outcome = status
        cdef Grant grant
        try:
            if status == LC_CONFLICT:
                if seconds == 0:
                    lc_count_refusal(self.manager.table)
                    return False
                outcome = wait_for(self.manager.table, request, seconds, &rows)
            if outcome == TIMED_OUT_:
                return False
            if outcome == LC_NO_MEMORY:
                raise MemoryError
            if outcome != LC_OK:
                grant = new_grant(keeper_of(self.manager))
                grant.request = lc_request_keep(request)
                fail(outcome, grant, take_rows(&rows), timeout)
            return True
        finally:
            lc_rows_clear(&rows, dispose)

    # The list of grants. begin() and end() enclose every look at it.

    cdef inline void begin(self) noexcept:
        if not LC_HAS_GIL:
            lc_mutex_lock(&self.guard.mutex)
        if self.generation != generation_of_tables:
            self.forget_grants()
            self.generation = generation_of_tables

    cdef inline void end(self) noexcept:
        if not LC_HAS_GIL:
            lc_mutex_unlock(&self.guard.mutex)

    cdef void forget_grants(self) noexcept:
        cdef lc_request *request
        while self.first != NULL:
            request = self.first
            self.first = request.below
            if request != self.request:
                drop(request)
            else:
                self.is_taken = False  # not otherwise: a wait that forked may still use it

    cdef int move_request(self) except -1:
        """Moves the request to where other locks' requests share no cache line with it."""
        cdef lc_request *request = self.copy()
        drop(self.request)
        self.request = request

    cdef lc_request *copy(self) except NULL:
        cdef lc_request *request = lc_request_copy(self.request, self.request.payload)
        if request == NULL:
            raise MemoryError
        Py_XINCREF(<PyObject *> request.payload)
        return request

    cdef inline lc_request *take(self) except NULL:
        cdef lc_request *request = NULL
        self.begin()
        # Somebody who looks at holders may keep it for a moment: then it is not ours.
        if not self.is_taken and lc_request_is_ours(self.request):
            self.is_taken = True
            request = self.request
        self.end()
        return request if request != NULL else self.copy()

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
    if blocking is False and timeout is MINUS_ONE:
        return 0
    allocate_lock().acquire(blocking, timeout)
    if not blocking:
        return 0
    return INFINITY if timeout == -1 else timeout
