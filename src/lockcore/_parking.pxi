# Parking threads that wait, and calling them back.

from cpython.exc cimport PyErr_CheckSignals, PyErr_SetInterrupt
from cpython.ref cimport Py_XDECREF, Py_XINCREF


cdef extern from "Python.h" nogil:
    ctypedef void *PyThread_type_lock
    ctypedef enum PyLockStatus:
        PY_LOCK_FAILURE
        PY_LOCK_ACQUIRED
        PY_LOCK_INTR
    ctypedef struct PyThreadState:
        pass
    PyThreadState *PyEval_SaveThread()
    void PyEval_RestoreThread(PyThreadState *)
    PyThread_type_lock PyThread_allocate_lock()
    void PyThread_free_lock(PyThread_type_lock)
    int PyThread_acquire_lock(PyThread_type_lock, int wait)
    PyLockStatus PyThread_acquire_lock_timed(PyThread_type_lock, long long us, int intr)
    void PyThread_release_lock(PyThread_type_lock)

cdef extern from *:
    """
    #include "lock_table.h"

    #ifdef Py_GIL_DISABLED
    #define LC_HAS_GIL 0
    #else
    #define LC_HAS_GIL 1
    #endif

    /* Spare requests, which the GIL guards. None without it, nor where a use after free is
     * looked for. */
    #if defined(Py_GIL_DISABLED) || defined(LC_DEBUG) || defined(__SANITIZE_ADDRESS__)
    #define LC_HAS_SPARES 0
    #define LC_SPARES ((lc_spares *)NULL)
    #else
    static lc_spares lc_spares_of_the_gil;
    #define LC_HAS_SPARES 1
    #define LC_SPARES (&lc_spares_of_the_gil)
    #endif

    /* Not PyGILState_Check(), which says yes to everybody once there is a subinterpreter. */
    static inline bool lc_has_gil(void)
    {
        PyThreadState *state = PyGILState_GetThisThreadState();
    #if PY_VERSION_HEX >= 0x030D0000
        return state != NULL && state == PyThreadState_GetUnchecked();
    #else
        return state != NULL && state == _PyThreadState_UncheckedGet();
    #endif
    }

    static inline bool lc_has_resumed(lc_waiter *waiter)
    {
        return atomic_load_explicit(&waiter->has_resumed, memory_order_relaxed);
    }
    static inline void lc_set_resumed(lc_waiter *waiter, bool resumed)
    {
        atomic_store_explicit(&waiter->has_resumed, resumed, memory_order_relaxed);
    }

    /* Returns: true once: to give a grant back is for one of those who call its waiter back. */
    static inline bool lc_claim(lc_waiter *waiter)
    {
        return !atomic_exchange_explicit(&waiter->has_resumed, true, memory_order_relaxed);
    }

    /* How often a thread has let go of the GIL in order to wait. */
    static atomic_uint n_parks;

    static inline void lc_count_park(void)
    {
        if (LC_HAS_GIL) {
            atomic_fetch_add_explicit(&n_parks, 1, memory_order_relaxed);
        }
    }
    static inline unsigned lc_parks(void)
    {
        return atomic_load_explicit(&n_parks, memory_order_relaxed);
    }

    /* What this thread, having the GIL, leaves to hand_over(): of those it wakes the last. */
    static _Thread_local lc_request *last_woken;

    /* Grants that this thread is to give back when it has woken all, through `below`. */
    static _Thread_local lc_request *to_give_back;
    static _Thread_local bool is_giving_back;
    """
    bint LC_HAS_GIL
    bint LC_HAS_SPARES
    lc_spares *LC_SPARES
    lc_request *last_woken
    lc_request *to_give_back
    bint is_giving_back
    bint lc_has_gil() nogil
    bint lc_has_resumed(lc_waiter *) nogil
    void lc_set_resumed(lc_waiter *, bint) nogil
    bint lc_claim(lc_waiter *) nogil
    void lc_count_park() nogil
    unsigned lc_parks() nogil

cdef enum:
    # How long a thread whose turn is next looks for its grant before it parks: about what it takes
    # to park and be woken. Not with the GIL, which whoever holds the key may need.
    SPIN_NS = 5_000
    # How long a request waits before it looks for a deadlock. Most waits are shorter.
    OPTIMISTIC_NS = 5_000_000
    # The longest single park; also keeps microseconds far from overflow.
    LONGEST_PARK_NS = 3_600_000_000_000
    # How long a thread that has woken another lets go of the GIL at most, for that one to have it;
    # and how long it then stays awake for that one to let go of the GIL again.
    HAND_OVER_NS = 200_000
    HAND_BACK_NS = 5_000

cdef enum:
    FOR_EVER = 0x7FFFFFFFFFFFFFFF


# How many forks made all tables a child's.
cdef unsigned long generation_of_tables = 0


cdef void wake_thread(lc_request *request) noexcept nogil:
    # One that is only to look for a deadlock may go on waiting, and not resume.
    if LC_HAS_GIL and lc_request_state(request) != LC_WAITING and lc_has_gil():
        leave_to_hand_over(request)
    else:
        PyThread_release_lock(request.waiter.parker)
        drop(request)


cdef inline void leave_to_hand_over(lc_request *request) noexcept nogil:
    """Wakes the one left before, and leaves the next one, or with NULL none."""
    global last_woken
    cdef lc_request *former = last_woken
    last_woken = request
    if former != NULL:
        PyThread_release_lock(former.waiter.parker)
        drop(former)


cdef void hand_over() noexcept nogil:
    """Lets the thread woken last run, where the GIL would make it wait for a switch interval.

    It is woken only once it can have the GIL, or it would go to sleep again waiting for that.
    """
    global last_woken
    cdef lc_request *request = last_woken
    cdef unsigned parks
    cdef PyThreadState *state
    cdef int64_t end
    if request == NULL:
        return
    last_woken = NULL
    parks = lc_parks()
    state = PyEval_SaveThread()
    PyThread_release_lock(request.waiter.parker)
    end = lc_now() + HAND_OVER_NS
    while not lc_has_resumed(request.waiter) and lc_now() < end:
        lc_yield_thread()
    drop(request)
    # Threads that take turns wait again at once. Would we sleep until then, as who asks for the
    # GIL does, they would have to wake us.
    end = lc_now() + HAND_BACK_NS
    while lc_parks() == parks and lc_now() < end:
        lc_spin_pause()
    PyEval_RestoreThread(state)


cdef void wake_callback(lc_request *request) noexcept nogil:
    global to_give_back
    cdef bint is_wanted
    leave_to_hand_over(NULL)  # not until the callback has done whatever it does
    with gil:
        is_wanted = call_back(<object> request.waiter.parker)
    # One that was only to look for a deadlock still waits, or its grant calls it again: it
    # must not get into two lists, nor twice into one.
    if is_wanted or lc_request_state(request) != LC_HELD or not lc_claim(request.waiter):
        drop(request)
    else:
        # Whoever waited will never know. Let the next one run; but not from here: thousands
        # may do so one after the other, and each would need room on the stack. Nor may the table
        # go meanwhile, with a manager that another callback has made and dropped.
        lc_table_keep(request.waiter.table)
        request.below = to_give_back
        to_give_back = request


cdef void give_back_unwanted() noexcept nogil:
    global to_give_back, is_giving_back
    cdef lc_request *request
    cdef lc_table *table
    if to_give_back == NULL or is_giving_back:
        return
    is_giving_back = True
    leave_to_hand_over(NULL)  # not until the callbacks' finalisers have done whatever they do
    # Callbacks may have used any table. Only one of these knows if we are here without the GIL.
    with gil:
        while to_give_back != NULL:
            request = to_give_back
            to_give_back = request.below
            table = request.waiter.table
            release(table, request)
            drop(request)
            if lc_table_drop(table):
                end_table(table)
    is_giving_back = False


cdef void after_waking() noexcept nogil:
    """What the core calls in the end of whatever has woken somebody."""
    give_back_unwanted()
    hand_over()


cdef bint call_back(object callback) noexcept:
    # An exception has nowhere to go: Cython reports it as unraisable. But Ctrl-C in the middle is
    # not the callback's answer: it is asked again, and the signal raised where it can be caught.
    try:
        return callback() is not False
    except KeyboardInterrupt:
        is_wanted = callback() is not False
        PyErr_SetInterrupt()
        return is_wanted


cdef void drop(lc_request *request) noexcept nogil:
    if lc_request_drop(request):
        dispose(request)


cdef void dispose(lc_request *request) noexcept nogil:
    cdef lc_waiter *waiter = request.waiter
    cdef void *payload = request.payload
    cdef void *callback = NULL
    if waiter != NULL and waiter.parker != NULL:
        if waiter.wake == wake_thread:
            PyThread_free_lock(waiter.parker)
        else:
            callback = waiter.parker
    lc_request_free(request, NULL)
    if payload != NULL or callback != NULL:
        with gil:
            Py_XDECREF(<PyObject *> payload)
            Py_XDECREF(<PyObject *> callback)


# What threads waited with, kept for the next ones: the GIL guards it.
cdef enum:
    MANY_SPARE_WAITERS = 64

cdef lc_waiter *spare_waiters[MANY_SPARE_WAITERS]
cdef uint32_t n_spare_waiters = 0


cdef lc_waiter *new_waiter() except NULL:
    """Returns what a thread waits with."""
    global n_spare_waiters
    cdef lc_waiter *waiter
    if LC_HAS_SPARES and n_spare_waiters > 0:
        n_spare_waiters -= 1
        waiter = spare_waiters[n_spare_waiters]
    else:
        waiter = allocate_waiter(wake_thread)
        waiter.parker = PyThread_allocate_lock()
        if waiter.parker == NULL:
            free(waiter)
            raise MemoryError
    # Taken from the start: whoever wakes us opens it. A spare one may still be open.
    PyThread_acquire_lock(waiter.parker, 0)
    return waiter


cdef inline bint keep_waiter(lc_request *request) noexcept:
    """Keeps the waiter of a request that nobody refers to. Returns whether it did."""
    global n_spare_waiters
    if (not LC_HAS_SPARES or request.waiter.wake != wake_thread
            or n_spare_waiters == MANY_SPARE_WAITERS):
        return False
    spare_waiters[n_spare_waiters] = request.waiter
    n_spare_waiters += 1
    request.waiter = NULL
    return True


cdef lc_waiter *new_callback_waiter(lc_table *table, object callback) except NULL:
    cdef lc_waiter *waiter = allocate_waiter(wake_callback)
    Py_INCREF(callback)
    waiter.parker = <void *> callback
    waiter.table = table
    return waiter


cdef lc_waiter *allocate_waiter(void (*wake)(lc_request *) noexcept nogil) except NULL:
    cdef lc_waiter *waiter = <lc_waiter *> calloc(1, sizeof(lc_waiter))
    if waiter == NULL:
        raise MemoryError
    waiter.wake = wake
    return waiter


cdef inline long long microseconds(int64_t until, int64_t now) noexcept nogil:
    """Returns how long PyThread_acquire_lock_timed() is to wait."""
    return -1 if until == FOR_EVER else min(max(until - now, 0), <int64_t> LONGEST_PARK_NS) // 1000


cdef int park(lc_table *table, lc_request *request, int64_t deadline, lc_rows *rows) except? -2:
    """Waits until the request is granted or has left its queues; then returns which.

    Raises what a signal handler raises, with the request neither held nor queued.
    """
    cdef unsigned long generation = generation_of_tables
    cdef int64_t now = 0, look = FOR_EVER
    cdef int64_t until
    cdef PyLockStatus woken
    cdef lc_status status = LC_QUEUED
    # With the GIL clocks are read only where somebody asks for the time. Nobody can wait for an
    # owner without a name, so only a wake-up makes those look.
    if not LC_HAS_GIL or request.owner != NULL or deadline != FOR_EVER:
        now = lc_now()
    if request.owner != NULL:
        look = now + OPTIMISTIC_NS
    lc_set_resumed(request.waiter, False)
    if not LC_HAS_GIL and request.waiter.is_next:
        until = min(deadline, now + SPIN_NS)
        while now < until and lc_request_state(request) == LC_WAITING:
            now = lc_now()
    try:
        while status == LC_QUEUED:
            until = min(look, deadline)
            with nogil:
                lc_count_park()
                woken = PyThread_acquire_lock_timed(
                    request.waiter.parker, microseconds(until, now), 1
                )
            if until != FOR_EVER:
                now = lc_now()
            if lc_request_state(request) == LC_HELD:
                status = LC_OK
            elif woken == PY_LOCK_ACQUIRED or now >= look:
                look = FOR_EVER
                status = lc_break_deadlock(table, request, rows)
            if status == LC_QUEUED and now >= deadline:
                status = lc_cancel(table, request, True, rows)
            elif status == LC_NO_MEMORY:
                if lc_cancel(table, request, False, NULL) == LC_OK:
                    lc_release(table, request)  # nobody is told of the grant
            if woken == PY_LOCK_INTR:
                check_signals(table, request, status)
                if generation_of_tables != generation:
                    return FORKED_
    finally:
        lc_set_resumed(request.waiter, True)
    return status


cdef int check_signals(lc_table *table, lc_request *request, lc_status status) except -1:
    try:
        PyErr_CheckSignals()
    except BaseException:
        if status == LC_QUEUED:
            status = lc_cancel(table, request, False, NULL)
        if status == LC_OK:
            lc_release(table, request)
        raise
    return 0
