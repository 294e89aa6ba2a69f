# The call shape of acquire() and try_acquire().
#
# Cython's own way from a call's arguments to the parameters costs as much as the lock does, so a
# call of the usual form, interned keywords only, takes a shorter one. Every other call goes on to
# the method as Cython made it, which knows what to say.

from cpython.ref cimport PyObject

cdef extern from *:
    """
    typedef PyObject *(*lc_call)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);

    /* SAFETY: the descriptor's method is the static one that Cython made for it. */
    static inline lc_call
    lc_replace_method(PyObject *descriptor, lc_call quick)
    {
        PyMethodDef *method = ((PyMethodDescrObject *)descriptor)->d_method;
        lc_call usual = (lc_call)(void (*)(void))method->ml_meth;
        if (method->ml_flags == (METH_FASTCALL | METH_KEYWORDS)) {
            method->ml_meth = (PyCFunction)(void (*)(void))quick;
        }
        return usual;
    }
    """
    ctypedef object (*lc_call)(object, PyObject *const *, Py_ssize_t, PyObject *)
    lc_call lc_replace_method(object descriptor, lc_call quick)

cdef enum:
    N_PARAMETERS = 5

# Borrowed from the tuple, which stays.
cdef tuple PARAMETERS = ("exclusive", "shared", "owner", "message", "timeout")
cdef PyObject *parameters[N_PARAMETERS]
for i in range(N_PARAMETERS):
    parameters[i] = <PyObject *> PARAMETERS[i]


cdef inline bint read_arguments(PyObject *const *arguments, Py_ssize_t n, PyObject *names,
                                PyObject **values, Py_ssize_t n_parameters) noexcept:
    """Sorts arguments by parameter, all borrowed. Returns False where that is not so simple."""
    cdef Py_ssize_t i, j
    if n != 0 or names == NULL:
        return False
    for i in range(PyTuple_GET_SIZE(<tuple> names)):
        j = 0
        while parameters[j] != PyTuple_GET_ITEM(<tuple> names, i):
            j += 1
            if j == n_parameters:
                return False
        values[j] = arguments[i]
    return True


cdef object quick_try_acquire(object table, PyObject *const *arguments, Py_ssize_t n,
                              PyObject *names):
    cdef PyObject *values[N_PARAMETERS]
    if n == 0 and names != NULL and PyTuple_GET_SIZE(<tuple> names) == 1:
        if PyTuple_GET_ITEM(<tuple> names, 0) == parameters[0]:
            return granted_or_none(<Table> table, <object> arguments[0], NO_KEYS, None, None)
    values[0] = values[1] = <PyObject *> NO_KEYS
    values[2] = values[3] = <PyObject *> None
    if not read_arguments(arguments, n, names, values, 4):
        return usual_try_acquire(table, arguments, n, names)
    return granted_or_none(
        <Table> table, <object> values[0], <object> values[1], <object> values[2],
        <object> values[3],
    )


cdef object quick_acquire(object table, PyObject *const *arguments, Py_ssize_t n,
                          PyObject *names):
    cdef PyObject *values[N_PARAMETERS]
    values[0] = values[1] = <PyObject *> NO_KEYS
    values[2] = values[3] = values[4] = <PyObject *> None
    if not read_arguments(arguments, n, names, values, N_PARAMETERS):
        return usual_acquire(table, arguments, n, names)
    return granted(
        <Table> table, <object> values[0], <object> values[1], <object> values[2],
        <object> values[3], <object> values[4],
    )


cdef lc_call usual_try_acquire = lc_replace_method(Table.try_acquire, quick_try_acquire)
cdef lc_call usual_acquire = lc_replace_method(Table.acquire, quick_acquire)
