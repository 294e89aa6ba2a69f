/* Building, copying and freeing requests. Nothing here touches a table. */
#include "lock_internal.h"

static int
compare_bytes(const void *a, uint32_t a_size, const void *b, uint32_t b_size)
{
    if (a_size != b_size) {
        return a_size < b_size ? -1 : 1;
    }
    return a_size == 0 ? 0 : memcmp(a, b, a_size);
}

/* Orders different keys of one hash. */
static int
compare_keys(const lc_name *a, const lc_name *b)
{
    if (a->id_kind != b->id_kind) {
        return (int)a->id_kind - (int)b->id_kind;
    }
    if (a->group_kind != b->group_kind) {
        return (int)a->group_kind - (int)b->group_kind;
    }
    int order = compare_bytes(a->group, a->group_size, b->group, b->group_size);
    return order != 0 ? order : compare_bytes(a->id, a->id_size, b->id, b->id_size);
}

/* Sorting these moves less than sorting names. */
typedef struct lc_order {
    uint64_t hash;
    uint32_t index;     /* of the name */
    uint32_t place;     /* apart from the above: of the name at this place, its link's index */
} lc_order;

#define LC_DROPPED UINT32_MAX /* the place of a key named before */

static int
compare_hashes(const void *left, const void *right)
{
    const lc_order *a = left, *b = right;
    if (a->hash != b->hash) {
        return a->hash < b->hash ? -1 : 1;
    }
    return a->index < b->index ? -1 : 1;
}

/* Finds the places of few names by counting for each how many come before it. More comparisons than
 * a clever sort, but no branch that depends on a hash, and mispredicted branches are what a small
 * sort costs. Returns: whether all hashes differ, as they do unless a key is named twice. */
static LC_ALWAYS_INLINE bool
place_few(const lc_name *names, uint32_t n, lc_order *order)
{
    bool differ = true;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t place = 0;
        for (uint32_t j = 0; j < i; j++) {
            uint32_t is_before = names[i].hash < names[j].hash;
            order[j].place += is_before;
            place += 1 - is_before;
            differ &= names[i].hash != names[j].hash;
        }
        order[i].place = place;
    }
    return differ;
}

/* Of equal keys keeps the first exclusive one, else the first; keys that share a hash
 * only are kept. Returns: how many are left. */
static uint32_t
drop_duplicates(const lc_name *names, lc_order *order, uint32_t n)
{
    uint32_t kept = 1;
    for (uint32_t i = 1; i < n; i++) {
        uint32_t j = kept;
        while (j > 0 && order[j - 1].hash == order[i].hash
               && compare_keys(&names[order[j - 1].index], &names[order[i].index]) != 0) {
            j--;
        }
        bool is_new = j == 0 || order[j - 1].hash != order[i].hash;
        if (LC_LIKELY(is_new)) {
            order[kept].hash = order[i].hash;
            order[kept++].index = order[i].index;
        } else if (names[order[i].index].mode > names[order[j - 1].index].mode) {
            order[j - 1].index = order[i].index;
        }
    }
    return kept;
}

static inline size_t
name_bytes(const lc_name *name)
{
    return (size_t)name->group_size + name->id_size;
}

/* How many ranges of hashes for `n` names, as a power of two: as many as names, at least. */
static inline unsigned
range_bits(uint32_t n)
{
    unsigned bits = 1;
    while (bits < 31 && (UINT32_C(1) << bits) < n) {
        bits++;
    }
    return bits;
}

/* Sorts names by hash, and by index where those are equal, in a time that grows as their number: a
 * counting sort (H. H. Seward, 1954) into ranges of hashes, then one by insertion, which finds all
 * but in place. Hashes are mixed, so a range of many is names of one key; those are left to
 * qsort(). `ends` has room for each range. */
static void
sort_by_hash(const lc_name *names, uint32_t n, lc_order *order, uint32_t *ends)
{
    unsigned bits = range_bits(n), shift = 64 - bits;
    uint32_t most = 0;
    memset(ends, 0, sizeof(*ends) << bits);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t in_range = ++ends[names[i].hash >> shift];
        most = in_range > most ? in_range : most;
    }
    for (uint32_t i = 0, end = 0; i < UINT32_C(1) << bits; i++) {
        end += ends[i];
        ends[i] = end;
    }
    for (uint32_t i = n; i-- > 0;) {
        order[--ends[names[i].hash >> shift]] = (lc_order){names[i].hash, i, LC_DROPPED};
    }
    if (most > LC_FEW) {
        qsort(order, n, sizeof(*order), compare_hashes);
        return;
    }
    for (uint32_t i = 1; i < n; i++) {
        lc_order moved = order[i];
        uint32_t j = i;
        for (; j > 0 && order[j - 1].hash > moved.hash; j--) {
            order[j] = order[j - 1];
        }
        order[j] = moved;
    }
}

/* Finds the places of any names. Returns: the number of different keys. */
static uint32_t
place_many(const lc_name *names, uint32_t n, lc_order *order, uint32_t *ends)
{
    sort_by_hash(names, n, order, ends);
    uint32_t kept = drop_duplicates(names, order, n);
    for (uint32_t i = 0; i < kept; i++) {
        order[order[i].index].place = i;
    }
    return kept;
}

/* Most ids are short, and then a call of memcpy() costs more than the copy: two
 * copies that may overlap do for a whole range of sizes. */
static LC_ALWAYS_INLINE void
copy_bytes(unsigned char *to, const void *from, uint32_t size)
{
    const unsigned char *bytes = from;
    if (size > 16) {
        memcpy(to, bytes, size);
    } else if (size >= 8) {
        memcpy(to, bytes, 8);
        memcpy(to + size - 8, bytes + size - 8, 8);
    } else if (size >= 4) {
        memcpy(to, bytes, 4);
        memcpy(to + size - 4, bytes + size - 4, 4);
    } else {
        for (uint32_t i = 0; i < size; i++) {
            to[i] = bytes[i];
        }
    }
}

static LC_ALWAYS_INLINE unsigned char *
copy_name(lc_key *key, const lc_name *name, unsigned char *bytes)
{
    key->hash = name->hash;
    key->bytes = bytes;
    key->size = name->group_size + name->id_size;
    key->shape = name->group_size << 8 | (uint32_t)name->group_kind << 4 | name->id_kind;
    copy_bytes(bytes, name->group, name->group_size);
    copy_bytes(bytes + name->group_size, name->id, name->id_size);
    return bytes + key->size;
}

unsigned char *
lc_copy_name(lc_key *key, const lc_name *name, unsigned char *bytes)
{
    return copy_name(key, name, bytes);
}

static unsigned char *
copy_key(lc_key *copy, const lc_key *key, unsigned char *bytes)
{
    *copy = *key;
    copy->bytes = bytes;
    copy_bytes(bytes, key->bytes, key->size);
    return bytes + key->size;
}

static void
set_up(lc_request *request, uint32_t n_links, void *payload)
{
    atomic_init(&request->references, 1);
    request->n_links = n_links;
    atomic_init(&request->state, LC_NEW);
    request->owner_is_boxed = false;
    request->n_upgrades = 0;
    request->is_upgrade = false;
    request->token = 0;
    request->since = 0;
    request->payload = payload;
    request->owner = NULL;
    request->waiter = NULL;
    request->below = NULL;
}

static inline void
set_up_link(lc_link *link, uint32_t index, uint8_t mode)
{
    link->index = index;
    link->mode = mode;
    link->place = LC_NOWHERE;
    link->had_queue = link->is_blocked = link->is_open = false;
}

static inline lc_request *
get_memory(uint32_t n_links, size_t size, lc_spares *spares)
{
    lc_request *request;
    if (spares != NULL && n_links <= LC_SPARE_LINKS && spares->of[n_links].first != NULL) {
        request = spares->of[n_links].first;
        spares->of[n_links].first = request->below;
        spares->of[n_links].n--;
        if (LC_LIKELY(request->size >= size)) {
            return request;
        }
        free(request); /* a larger one will take its place */
    }
    /* As much as malloc() would round it up to, so that a key nearly as long fits, too. */
    size = (size + 7) / 16 * 16 + 8;
    request = lc_malloc(size);
    if (request != NULL) {
        request->size = (uint32_t)(size < UINT32_MAX ? size : UINT32_MAX);
    }
    return request;
}

/* Builds a request of `n_links` keys out of `n` names, whose places are in order[]. */
static LC_ALWAYS_INLINE lc_request *
new_request(lc_name *names, uint32_t n, const lc_order *order, uint32_t n_links,
            const lc_name *owner, lc_spares *spares)
{
    size_t size = sizeof(lc_request) + n_links * sizeof(lc_link);
    for (uint32_t i = 0; i < n; i++) {
        size += name_bytes(&names[i]);
    }
    if (owner != NULL) {
        size += sizeof(lc_key) + name_bytes(owner);
    }
    lc_request *request = get_memory(n_links, size, spares);
    if (request == NULL) {
        return NULL;
    }
    set_up(request, n_links, NULL);
    unsigned char *bytes = (unsigned char *)&request->links[n_links];
    if (owner != NULL) {
        /* SAFETY: links are a multiple of eight bytes, so the key is aligned. */
        request->owner = (lc_key *)bytes;
        bytes = lc_copy_name(request->owner, owner, bytes + sizeof(lc_key));
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t place = order[i].place;
        if (n == n_links || place != LC_DROPPED) {
            set_up_link(&request->links[place], place, names[i].mode);
            bytes = copy_name(&request->links[place].key, &names[i], bytes);
            names[place].position = i;
        }
    }
    return request;
}

lc_request *
lc_request_new(lc_name *names, uint32_t *n, const lc_name *owner, lc_spares *spares)
{
    lc_order few[LC_FEW], *order = few;
    uint32_t few_ends[LC_FEW], *ends = few_ends;
    if (LC_LIKELY(*n == 1)) {
        few[0].place = 0;
        return new_request(names, 1, few, 1, owner, spares);
    }
    if (*n == 2 && place_few(names, 2, few)) {
        return new_request(names, 2, few, 2, owner, spares);
    }
    if (*n <= LC_FEW && place_few(names, *n, few)) {
        return new_request(names, *n, few, *n, owner, spares);
    }
    if (*n > LC_FEW) {
        order = lc_malloc(*n * sizeof(*order) + (sizeof(*ends) << range_bits(*n)));
        if (order == NULL) {
            return NULL;
        }
        ends = (uint32_t *)(order + *n);
    }
    uint32_t n_names = *n;
    *n = place_many(names, n_names, order, ends);
    lc_request *request = new_request(names, n_names, order, *n, owner, spares);
    if (order != few) {
        free(order);
    }
    return request;
}

/* Copies a request with all its keys, or with those it holds shared. */
static lc_request *
copy_request(const lc_request *request, void *payload, bool only_shared)
{
    uint32_t n_links = 0;
    size_t size = sizeof(lc_request);
    const lc_key *owner = request->owner;
    if (owner != NULL) {
        size += sizeof(lc_key) + owner->size;
    }
    for (uint32_t i = 0; i < request->n_links; i++) {
        if (!only_shared || request->links[i].mode == LC_SHARED) {
            size += sizeof(lc_link) + request->links[i].key.size;
            n_links++;
        }
    }
    lc_request *copy = get_memory(n_links, size + LC_CACHE_LINE, NULL); /* apart from the next */
    if (copy == NULL) {
        return NULL;
    }
    set_up(copy, n_links, payload);
    unsigned char *bytes = (unsigned char *)&copy->links[n_links];
    if (owner != NULL) {
        copy->owner = (lc_key *)bytes;
        bytes = copy_key(copy->owner, owner, bytes + sizeof(lc_key));
    }
    for (uint32_t i = 0, j = 0; j < n_links; i++) {
        const lc_link *link = &request->links[i];
        if (!only_shared || link->mode == LC_SHARED) {
            set_up_link(&copy->links[j], j, link->mode);
            bytes = copy_key(&copy->links[j++].key, &link->key, bytes);
        }
    }
    return copy;
}

lc_request *
lc_request_copy(const lc_request *request, void *payload)
{
    return copy_request(request, payload, false);
}

lc_request *
lc_copy_shared(const lc_request *request, void *payload)
{
    lc_request *upgrade = copy_request(request, payload, true);
    if (upgrade != NULL) {
        upgrade->is_upgrade = true;
        for (uint32_t i = 0; i < upgrade->n_links; i++) {
            upgrade->links[i].mode = LC_EXCLUSIVE;
        }
    }
    return upgrade;
}

static bool
keep_as_spare(lc_request *request, lc_spares *spares)
{
    uint32_t n = request->n_links;
    if (spares == NULL || n > LC_SPARE_LINKS || request->size > LC_SPARE_SIZE
        || spares->of[n].n == LC_MANY_SPARES) {
        return false;
    }
    request->below = spares->of[n].first;
    spares->of[n].first = request;
    spares->of[n].n++;
    return true;
}

void
lc_request_free(lc_request *request, lc_spares *spares)
{
    lc_owner_box *box = request->owner_is_boxed ? (lc_owner_box *)request->owner : NULL;
    while (LC_UNLIKELY(box != NULL)) {
        lc_owner_box *older = box->older;
        free(box);
        box = older;
    }
    free(request->waiter);
    if (!keep_as_spare(request, spares)) {
        free(request);
    }
}
