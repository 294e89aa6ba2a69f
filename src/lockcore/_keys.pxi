# Keys and owners: from Python objects to names, and back.
#
# A name borrows its bytes from the object, from the scratch beside it, or from a copy
# that is kept. Hashes are those of the base types, taken from their slots, so that
# no method of a subclass runs.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_Check
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.string cimport memcpy

from uuid import UUID


cdef extern from "Python.h":
    bint PyUnicode_Check(object)
    bint PyBytes_Check(object)
    bint PyBool_Check(object)
    bint PyTuple_Check(object)
    bint PyObject_TypeCheck(object, PyTypeObject *)
    Py_ssize_t PyTuple_GET_SIZE(object)
    PyObject *PyTuple_GET_ITEM(object, Py_ssize_t)
    object PyUnicode_FromKindAndData(int kind, const void *buffer, Py_ssize_t size)
    int PyUnicode_KIND(object)
    Py_ssize_t PyUnicode_GET_LENGTH(object)
    void *PyUnicode_DATA(object)
    long long PyLong_AsLongLongAndOverflow(object, int *overflow) except? -1
    PyTypeObject PyBytes_Type

cdef enum:
    SCRATCH = 16
    MAX_GROUP = (1 << 24) - 1


cdef extern from *:
    """
    /* Neither of these makes an object that the garbage collector knows. */

    static inline PyObject *
    lc_int_to_bytes(PyObject *number, PyObject *bit_length, PyObject *to_bytes, PyObject *order,
                    PyObject *names)
    {
        PyObject *bits = PyObject_Vectorcall(bit_length, &number, 1, NULL);
        PyObject *size = bits != NULL ? PyLong_FromSize_t(PyLong_AsSize_t(bits) / 8 + 1) : NULL;
        PyObject *arguments[] = {number, size, order, Py_True};
        PyObject *bytes = size != NULL ? PyObject_Vectorcall(to_bytes, arguments, 3, names) : NULL;
        Py_XDECREF(bits);
        Py_XDECREF(size);
        return bytes;
    }

    /* Returns: 0, with halves[0] the high one; or -1. */
    static inline int
    lc_halves_of_uuid(PyObject *slot, PyObject *uuid, PyObject *sixty_four, uint64_t *halves)
    {
        PyObject *number = Py_TYPE(slot)->tp_descr_get(slot, uuid, (PyObject *)Py_TYPE(uuid));
        PyObject *high = NULL;
        if (number != NULL && PyLong_Check(number)) {
            high = PyLong_Type.tp_as_number->nb_rshift(number, sixty_four);
        } else if (number != NULL) {
            PyErr_SetString(PyExc_TypeError, "the int of a UUID must be int");
        }
        if (high != NULL) {
            halves[0] = PyLong_AsUnsignedLongLongMask(high);
            halves[1] = PyLong_AsUnsignedLongLongMask(number);
        }
        Py_XDECREF(number);
        Py_XDECREF(high);
        return high != NULL ? 0 : -1;
    }

    /* Most strings have been hashed before, and a call costs more than a look. Without the GIL
     * somebody may be hashing it right now. */
    static inline Py_hash_t
    lc_text_hash(PyObject *text)
    {
    #ifndef Py_GIL_DISABLED
        Py_hash_t known = ((PyASCIIObject *)text)->hash;
        if (known != -1) {
            return known;
        }
    #endif
        return PyUnicode_Type.tp_hash(text);
    }
    """
    object lc_int_to_bytes(object, object, object, object, object)
    int lc_halves_of_uuid(object, object, object, uint64_t *) except -1
    Py_hash_t lc_text_hash(object) noexcept


cdef object uuid_type = UUID
cdef object int_of_uuid = UUID.__dict__["int"]
cdef object bit_length = int.bit_length
cdef object to_bytes = int.to_bytes
cdef tuple SIGNED = ("signed",)
cdef object LITTLE = "little"
cdef object SIXTY_FOUR = 64
# The first call makes a tuple of the names of its arguments.
lc_int_to_bytes(0, bit_length, to_bytes, LITTLE, SIGNED)
# Integers have no secret hash of their own; strings do.
cdef uint64_t seed = <uint64_t> <Py_hash_t> hash("lockcore")


cdef inline uint64_t mix(uint64_t bits) noexcept nogil:
    # The finaliser of MurmurHash3 (Austin Appleby, public domain).
    bits = (bits ^ (bits >> 33)) * 0xFF51AFD7ED558CCDULL
    bits = (bits ^ (bits >> 33)) * 0xC4CEB9FE1A85EC53ULL
    return bits ^ (bits >> 33)


cdef inline void name_text(object text, const void **data, uint32_t *size, uint8_t *kind,
                           uint64_t *bits) noexcept:
    cdef int width = PyUnicode_KIND(text)
    data[0] = PyUnicode_DATA(text)
    size[0] = <uint32_t> (PyUnicode_GET_LENGTH(text) * width)
    kind[0] = <uint8_t> (LC_STR1 if width == 1 else LC_STR2 if width == 2 else LC_STR4)
    bits[0] = <uint64_t> lc_text_hash(text)


cdef struct kept_t:
    kept_t *next
    unsigned char data[0]


cdef const void *keep(const void *data, size_t size, kept_t **kept) except NULL:
    """Copies data until drop_kept().

    Not a list of objects: making one can collect garbage, and a finaliser could then change
    the collection of keys whose bytes are borrowed.
    """
    cdef kept_t *copy = <kept_t *> malloc(sizeof(kept_t) + size)
    if copy == NULL:
        raise MemoryError
    memcpy(copy.data, data, size)
    copy.next = kept[0]
    kept[0] = copy
    return copy.data


cdef inline void drop_kept(kept_t *kept) noexcept:
    cdef kept_t *next_one
    while kept != NULL:
        next_one = kept.next
        free(kept)
        kept = next_one


cdef int check_size(Py_ssize_t size, Py_ssize_t limit, str what) except -1:
    if size > limit:
        raise ValueError(f"{what} is too long: {size} bytes, at most {limit}")
    return 0


cdef int name_number(object number, lc_name *name, unsigned char *scratch,
                     kept_t **kept) except -1:
    cdef int overflow = 0
    cdef long long value = PyLong_AsLongLongAndOverflow(number, &overflow)
    cdef int i
    name.id_kind = LC_INT
    if overflow == 0:
        for i in range(8):
            scratch[i] = <unsigned char> ((<uint64_t> value) >> (8 * i))
        name.id = scratch
        name.id_size = 8
        name.hash = mix(<uint64_t> value ^ seed)
        return 0
    digits = lc_int_to_bytes(number, bit_length, to_bytes, LITTLE, SIGNED)
    name_bytes(digits, name, LC_INT)
    name.id = keep(name.id, name.id_size, kept)
    return 0


cdef int name_uuid(object value, lc_name *name, unsigned char *scratch) except -1:
    cdef uint64_t halves[2]
    cdef int i
    lc_halves_of_uuid(int_of_uuid, value, SIXTY_FOUR, halves)
    for i in range(SCRATCH):
        scratch[i] = <unsigned char> (halves[i // 8] >> (56 - 8 * (i % 8)))
    name.id_kind = LC_UUID
    name.id = scratch
    name.id_size = SCRATCH
    name.hash = mix(mix(halves[1] ^ seed) + halves[0])
    return 0


cdef int name_bytes(object data, lc_name *name, int kind) except -1:
    check_size(PyBytes_GET_SIZE(data), 0xFFFFFFFF - MAX_GROUP, "an id")
    name.id_kind = <uint8_t> kind
    name.id = PyBytes_AS_STRING(data)
    name.id_size = <uint32_t> PyBytes_GET_SIZE(data)
    name.hash = mix(<uint64_t> PyBytes_Type.tp_hash(data) + <uint64_t> kind)
    return 0


cdef int name_rare_id(object value, lc_name *name, unsigned char *scratch, kept_t **kept,
                      str what) except -1:
    if PyBytes_Check(value):
        return name_bytes(value, name, LC_BYTES)
    if PyLong_Check(value) and not PyBool_Check(value):
        return name_number(value, name, scratch, kept)
    # Not isinstance(), which would ask a stranger for its __class__: code of others, that may
    # change the list that has the only reference to it.
    if PyObject_TypeCheck(value, <PyTypeObject *> uuid_type):
        return name_uuid(value, name, scratch)
    raise TypeError(f"{what} must be str, bytes, int or uuid.UUID, not {type(value).__name__}")


cdef inline int name_id(object value, lc_name *name, unsigned char *scratch, kept_t **kept,
                        str what) except -1:
    cdef uint64_t bits = 0
    name.group = NULL
    name.group_size = 0
    name.group_kind = 0
    if not PyUnicode_Check(value):
        return name_rare_id(value, name, scratch, kept, what)
    if PyUnicode_GET_LENGTH(value) > 0x30000000:
        check_size(PyUnicode_GET_LENGTH(value), 0x30000000, "an id")
    name_text(value, &name.id, &name.id_size, &name.id_kind, &bits)
    # A string's hash is well mixed already; this spreads it into the top bits.
    name.hash = bits * 0x9E3779B97F4A7C15ULL
    return 0


cdef int name_pair(object pair, lc_name *name, unsigned char *scratch, kept_t **kept) except -1:
    cdef uint64_t bits = 0
    if PyTuple_GET_SIZE(pair) != 2:
        raise TypeError(
            f"a key that is a tuple must be (group, id), not of length {PyTuple_GET_SIZE(pair)}"
        )
    # Not pair[0]: a subclass may have its own ideas.
    group = <object> PyTuple_GET_ITEM(pair, 0)
    value = <object> PyTuple_GET_ITEM(pair, 1)
    if not PyUnicode_Check(group):
        raise TypeError(f"the group of a key must be str, not {type(group).__name__}")
    check_size(PyUnicode_GET_LENGTH(group) * PyUnicode_KIND(group), MAX_GROUP, "a group")
    name_id(value, name, scratch, kept, "the id of a key")
    name_text(group, &name.group, &name.group_size, &name.group_kind, &bits)
    name.hash = (name.hash ^ (bits + 0x632BE59BD9B4E019ULL)) * 0x9E3779B97F4A7C15ULL
    name.hash ^= name.hash >> 32
    return 0


cdef inline int name_key(object key, lc_name *name, unsigned char *scratch,
                         kept_t **kept) except -1:
    if PyTuple_Check(key):
        return name_pair(key, name, scratch, kept)
    return name_id(key, name, scratch, kept, "a key")


cdef int name_owner(object owner, lc_name *name, unsigned char *scratch,
                    kept_t **kept) except -1:
    if PyBool_Check(owner) or not (
        PyUnicode_Check(owner)
        or PyLong_Check(owner)
        or PyObject_TypeCheck(owner, <PyTypeObject *> uuid_type)
    ):
        raise TypeError(f"an owner must be str, int or uuid.UUID, not {type(owner).__name__}")
    return name_id(owner, name, scratch, kept, "an owner")


cdef object text_of(int kind, const unsigned char *data, Py_ssize_t size):
    cdef int width = 1 if kind == LC_STR1 else 2 if kind == LC_STR2 else 4
    cdef void *aligned
    if width == 1:
        return PyUnicode_FromKindAndData(1, data, size)
    aligned = PyMem_Malloc(size)
    if aligned == NULL:
        raise MemoryError
    memcpy(aligned, data, size)
    try:
        return PyUnicode_FromKindAndData(width, aligned, size // width)
    finally:
        PyMem_Free(aligned)


cdef object id_of(int kind, const unsigned char *data, Py_ssize_t size):
    if kind <= LC_STR4:
        return text_of(kind, data, size)
    if kind == LC_UNIQUE:
        return None
    value = PyBytes_FromStringAndSize(<const char *> data, size)
    if kind == LC_BYTES:
        return value
    if kind == LC_INT:
        return int.from_bytes(value, "little", signed=True)
    return UUID(bytes=value)


cdef object object_of(const lc_key *key):
    """Returns the key or owner as a Python object; None for an owner without a name."""
    cdef Py_ssize_t group_size
    cdef int group_kind
    if key == NULL:
        return None
    group_size = key.shape >> 8
    group_kind = (key.shape >> 4) & 15
    value = id_of(key.shape & 15, key.bytes + group_size, key.size - group_size)
    if group_kind == 0:
        return value
    return (text_of(group_kind, key.bytes, group_size), value)
