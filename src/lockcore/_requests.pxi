# Arguments of requests: checked, named, and built into the core's requests.

cdef extern from "Python.h":
    Py_ssize_t PyList_GET_SIZE(object)
    PyObject *PyList_GET_ITEM(object, Py_ssize_t)
    object PyList_GetSlice(object, Py_ssize_t, Py_ssize_t)
    Py_ssize_t PY_SSIZE_T_MAX
    Py_ssize_t PyDict_Size(object)
    object PyDict_Copy(object)
    bint PyDict_Next(object, Py_ssize_t *, PyObject **, PyObject **)
    tuple PyTuple_New(Py_ssize_t)
    void PyTuple_SET_ITEM(object, Py_ssize_t, object)   # steals a reference

cdef extern from *:
    """
    /* A new reference. Without the GIL another thread may shorten the list: IndexError. */
    static inline PyObject *lc_first_item(PyObject *list)
    {
    #ifdef Py_GIL_DISABLED
        return PyList_GetItemRef(list, 0);
    #else
        return Py_NewRef(PyList_GET_ITEM(list, 0));
    #endif
    }
    """
    object lc_first_item(object)

cdef enum:
    FEW = 16


cdef struct names_t:
    lc_name *names
    unsigned char *scratch
    uint32_t n
    uint32_t capacity
    kept_t *kept
    PyObject **messages     # for each key as it was named; with a reference
    uint32_t n_messages     # none unless some key may have one
    lc_name few_names[FEW]
    unsigned char few_scratch[FEW * SCRATCH]
    PyObject *few_messages[FEW]


cdef inline void begin_names(names_t *names) noexcept:
    names.names = names.few_names
    names.scratch = names.few_scratch
    names.n = 0
    names.capacity = FEW
    names.kept = NULL
    names.messages = names.few_messages
    names.n_messages = 0


cdef int make_room(names_t *names, Py_ssize_t n) except -1:
    if n <= FEW:
        return 0
    if n > 0x7FFFFFFF:
        raise ValueError(f"too many keys: {n}")
    names.names = <lc_name *> malloc(n * sizeof(lc_name))
    names.scratch = <unsigned char *> malloc(n * SCRATCH)
    names.messages = <PyObject **> malloc(n * sizeof(PyObject *))
    if names.names == NULL or names.scratch == NULL or names.messages == NULL:
        raise MemoryError
    names.capacity = <uint32_t> n
    return 0


cdef inline void end_names(names_t *names) noexcept:
    while names.n_messages > 0:
        names.n_messages -= 1
        Py_DECREF(<object> names.messages[names.n_messages])
    if names.names != names.few_names:
        free(names.names)
        free(names.scratch)
        free(names.messages)
    drop_kept(names.kept)


cdef inline int add_name(names_t *names, object key, uint8_t mode) except -1:
    if names.n == names.capacity:
        raise RuntimeError("the keys changed while they were read")
    cdef lc_name *name = &names.names[names.n]
    name_key(key, name, names.scratch + names.n * SCRATCH, &names.kept)
    name.mode = mode
    names.n += 1
    return 0


@cython.final
@cython.no_gc
cdef class _Described:
    """Pairs of a key and its message.

    Not a dict, which would compare keys by methods of their own.
    """

    cdef list pairs


cdef _Described described(object mapping):
    cdef _Described copied = _Described.__new__(_Described)
    copied.pairs = []
    for key in mapping:
        try:
            copied.pairs.append((key, mapping[key]))
        except KeyError as error:
            raise RuntimeError("the keys changed while they were read") from error
    return copied


cdef object collect(object keys, str what):
    """Returns the keys as a list or, with messages, as _Described."""
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
        return described(keys)
    try:
        return list(keys)
    except TypeError as error:
        if hasattr(type(keys), "__iter__"):
            raise
        raise TypeError(
            f"{what} must be a collection of keys, not {type(keys).__name__}"
        ) from error


cdef inline object collected(object keys, str what):
    """As collect(), but without a copy where nobody can change the collection meanwhile."""
    if type(keys) is list:
        return keys if LC_HAS_GIL else PyList_GetSlice(keys, 0, PY_SSIZE_T_MAX)
    if type(keys) is dict:
        return keys if LC_HAS_GIL else PyDict_Copy(keys)
    if type(keys) is set or type(keys) is frozenset:
        return list(keys)
    return collect(keys, what)


cdef inline bint has_messages(object keys) noexcept:
    return type(keys) is dict or type(keys) is _Described


cdef inline Py_ssize_t size_of(object keys) noexcept:
    if type(keys) is list:
        return PyList_GET_SIZE(keys)
    if type(keys) is dict:
        return PyDict_Size(keys)
    return 0 if keys is NO_KEYS else PyList_GET_SIZE((<_Described> keys).pairs)


cdef int add_keys(names_t *names, list keys, uint8_t mode) except -1:
    for key in keys:
        add_name(names, key, mode)
    return 0


cdef inline int add_with_message(names_t *names, object key, uint8_t mode,
                                 object message) except -1:
    add_name(names, key, mode)
    Py_INCREF(message)
    names.messages[names.n_messages] = <PyObject *> message
    names.n_messages += 1
    return 0


cdef int add_described(names_t *names, object keys, uint8_t mode) except -1:
    """Adds the keys with the message of each; None where it has none."""
    cdef Py_ssize_t place = 0
    cdef PyObject *key
    cdef PyObject *message
    if type(keys) is dict:
        while PyDict_Next(keys, &place, &key, &message):
            add_with_message(names, <object> key, mode, <object> message)
    elif type(keys) is _Described:
        for each, its_message in (<_Described> keys).pairs:
            add_with_message(names, each, mode, its_message)
    elif keys is not NO_KEYS:
        for each in <list> keys:
            add_with_message(names, each, mode, None)
    return 0


cdef int check_message(Table table, object message) except -1:
    if message is not None and type(message) is not str:
        table._check_message(message)
    return 0


cdef object payload_of(Table table, object message, names_t *names):
    """Returns the message or, if keys have their own, a tuple: this one, and one for each link."""
    cdef bint are_all_none = True
    cdef uint32_t i
    cdef tuple in_order
    for i in range(names.n_messages):
        if names.messages[i] != <PyObject *> None:
            are_all_none = False
            check_message(table, <object> names.messages[i])
    if are_all_none:
        return message
    in_order = PyTuple_New(names.n + 1)
    Py_INCREF(message)
    PyTuple_SET_ITEM(in_order, 0, message)
    for i in range(names.n):
        each = <object> names.messages[names.names[i].position]
        if each is None:
            each = message
        Py_INCREF(each)
        PyTuple_SET_ITEM(in_order, i + 1, each)
    return in_order


cdef lc_request *build_one(object key, object message) except NULL:
    """The common shape, one exclusive key and no owner, without what the others need."""
    cdef lc_name name
    cdef unsigned char scratch[SCRATCH]
    cdef kept_t *kept = NULL
    cdef uint32_t n = 1
    name_key(key, &name, scratch, &kept)
    name.mode = LC_EXCLUSIVE
    cdef lc_request *request = lc_request_new(&name, &n, NULL, LC_SPARES)
    drop_kept(kept)
    if request == NULL:
        raise MemoryError
    if message is not None:
        Py_INCREF(message)
        request.payload = <void *> message
    return request


cdef lc_request *build_few(list exclusive, object shared, uint32_t n, object message) except NULL:
    """As build_any(), for lists of `n` keys, few, that nobody changes meanwhile, and no owner."""
    cdef lc_name names[FEW]
    cdef unsigned char scratch[FEW * SCRATCH]
    cdef kept_t *kept = NULL
    cdef lc_request *request
    cdef uint32_t n_exclusive = <uint32_t> PyList_GET_SIZE(exclusive)
    cdef uint32_t i
    cdef PyObject *key
    try:
        for i in range(n):
            if i < n_exclusive:
                key = PyList_GET_ITEM(exclusive, i)
            else:
                key = PyList_GET_ITEM(shared, i - n_exclusive)
            name_key(<object> key, &names[i], scratch + i * SCRATCH, &kept)
            names[i].mode = LC_EXCLUSIVE if i < n_exclusive else LC_SHARED
        request = lc_request_new(names, &n, NULL, LC_SPARES)
    finally:
        drop_kept(kept)
    if request == NULL:
        raise MemoryError
    if message is not None:
        Py_INCREF(message)
        request.payload = <void *> message
    return request


cdef inline lc_request *build(Table table, object exclusive, object shared, object owner,
                              object message) except NULL:
    """Returns a new request.

    Its payload is NULL, the message of all keys, or a tuple of that and one for each link.
    """
    cdef Py_ssize_t n = 0
    check_message(table, message)
    if owner is None and type(exclusive) is list:
        if shared is NO_KEYS:
            n = PyList_GET_SIZE(exclusive)
            if n == 1:
                return build_one(lc_first_item(exclusive), message)
        elif type(shared) is list:
            n = PyList_GET_SIZE(exclusive) + PyList_GET_SIZE(shared)
        if LC_HAS_GIL and 0 < n <= FEW:
            return build_few(exclusive, shared, <uint32_t> n, message)
    return build_any(table, exclusive, shared, owner, message)


cdef lc_request *build_any(Table table, object exclusive, object shared, object owner,
                           object message) except NULL:
    cdef names_t names
    cdef lc_name owner_name
    cdef unsigned char owner_scratch[SCRATCH]
    cdef lc_request *request
    cdef kept_t *kept_owner = NULL
    if exclusive is not NO_KEYS:
        exclusive = collected(exclusive, "exclusive")
    if shared is not NO_KEYS:
        shared = collected(shared, "shared")
    cdef bint with_messages = has_messages(exclusive) or has_messages(shared)
    begin_names(&names)
    try:
        # From here until the names are copied no code of others runs, and no object is made
        # that the garbage collector knows: a finaliser, too, might change the collections
        # whose keys are borrowed. So messages are checked in the end.
        make_room(&names, size_of(exclusive) + size_of(shared))
        if with_messages:
            add_described(&names, exclusive, LC_EXCLUSIVE)
            add_described(&names, shared, LC_SHARED)
        else:
            if exclusive is not NO_KEYS:
                add_keys(&names, exclusive, LC_EXCLUSIVE)
            if shared is not NO_KEYS:
                add_keys(&names, shared, LC_SHARED)
        if owner is not None:
            name_owner(owner, &owner_name, owner_scratch, &kept_owner)
        request = lc_request_new(
            names.names, &names.n, NULL if owner is None else &owner_name, LC_SPARES
        )
        if request == NULL:
            raise MemoryError
        if with_messages:
            try:
                message = payload_of(table, message, &names)
            except BaseException:
                lc_request_free(request, LC_SPARES)
                raise
        if message is not None:
            Py_INCREF(message)
            request.payload = <void *> message
        return request
    finally:
        end_names(&names)
        drop_kept(kept_owner)


cdef double seconds_of(object timeout) except? -1:
    """Returns seconds to wait, infinite for None."""
    cdef double seconds
    if timeout is None:
        return INFINITY
    if timeout is ZERO:
        return 0
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
cdef object ZERO = 0  # the one object, so small an int is
