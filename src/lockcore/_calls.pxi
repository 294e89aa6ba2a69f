# The call shape of acquire() and try_acquire().
#
# Cython's way from a call's arguments to the parameters costs nearly as much as the lock does, so
# the commonest calls take a shorter one. Every other call goes on to the method as Cython made it.

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

cdef tuple NAMES = ("exclusive", "shared")


cdef inline bint is_common(Py_ssize_t n, PyObject *names) noexcept:
    """Whether the arguments are `exclusive`, or `exclusive` and `shared`, and nothing else."""
    if n != 0 or names == NULL:
        return False
    n = PyTuple_GET_SIZE(<tuple> names)
    if n == 0 or n > 2 or PyTuple_GET_ITEM(<tuple> names, 0) != exclusive_name:
        return False
    return n == 1 or PyTuple_GET_ITEM(<tuple> names, 1) == shared_name


cdef object quick_try_acquire(object table, PyObject *const *arguments, Py_ssize_t n,
                              PyObject *names):
    if not is_common(n, names):
        return usual_try_acquire(table, arguments, n, names)
    if PyTuple_GET_SIZE(<tuple> names) == 1:
        return granted_or_none(<Table> table, <object> arguments[0], NO_KEYS, None, None)
    return granted_or_none(
        <Table> table, <object> arguments[0], <object> arguments[1], None, None
    )


cdef object quick_acquire(object table, PyObject *const *arguments, Py_ssize_t n,
                          PyObject *names):
    if not is_common(n, names):
        return usual_acquire(table, arguments, n, names)
    if PyTuple_GET_SIZE(<tuple> names) == 1:
        return granted(<Table> table, <object> arguments[0], NO_KEYS, None, None, None)
    return granted(
        <Table> table, <object> arguments[0], <object> arguments[1], None, None, None
    )


# Interned, as the names in calls are.
cdef PyObject *exclusive_name = PyTuple_GET_ITEM(NAMES, 0)
cdef PyObject *shared_name = PyTuple_GET_ITEM(NAMES, 1)
cdef lc_call usual_try_acquire = lc_replace_method(Table.try_acquire, quick_try_acquire)
cdef lc_call usual_acquire = lc_replace_method(Table.acquire, quick_acquire)
