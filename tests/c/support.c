#include "support.h"

#define MAX_PARTIES 4096
#define MAX_KEYS 4096
#define MAX_PUT 64

lc_table *table;

static party *parties[MAX_PARTIES];
static size_t n_parties;

static struct {
    char key[16];
    unsigned bucket;
} put[MAX_PUT];
static size_t n_put;

/* ---- names ----------------------------------------------------------------- */

void
put_key(const char *key, unsigned bucket)
{
    CHECK(n_put < MAX_PUT);
    snprintf(put[n_put].key, sizeof(put[n_put].key), "%s", key);
    put[n_put++].bucket = bucket;
}

static uint64_t
hash_of(const char *text, size_t size)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
    }
    hash = (hash ^ hash >> 32) * UINT64_C(0x9E3779B97F4A7C15);
    for (size_t i = 0; i < n_put; i++) {
        if (strncmp(put[i].key, text, size) == 0 && put[i].key[size] == '\0') {
            return (uint64_t)put[i].bucket << (64 - LC_MIN_BITS) | hash >> LC_MIN_BITS;
        }
    }
    return hash;
}

static lc_name
name_from(const char *text, size_t size)
{
    lc_name name = {.id_kind = LC_STR1, .mode = LC_SHARED};
    if (size > 0 && text[size - 1] == '!') {
        name.mode = LC_EXCLUSIVE;
        size--;
    }
    name.hash = hash_of(text, size);
    const char *colon = memchr(text, ':', size);
    if (colon != NULL) {
        name.group = text;
        name.group_size = (uint32_t)(colon - text);
        name.group_kind = LC_STR1;
        size -= name.group_size + 1;
        text = colon + 1;
    }
    name.id = text;
    name.id_size = (uint32_t)size;
    return name;
}

lc_name
name_of(const char *text)
{
    return name_from(text, strlen(text));
}

lc_request *
new_request(const char *owner, const char *keys)
{
    static lc_name names[MAX_KEYS];
    uint32_t n = 0;
    for (keys += strspn(keys, " "); *keys != '\0'; keys += strspn(keys, " ")) {
        size_t size = strcspn(keys, " ");
        CHECK(n < MAX_KEYS);
        names[n] = name_from(keys, size);
        names[n].position = n;
        n++;
        keys += size;
    }
    lc_name owner_name;
    if (owner != NULL) {
        owner_name = name_of(owner);
    }
    lc_request *request = lc_request_new(names, &n, owner == NULL ? NULL : &owner_name, NULL);
    CHECK(request != NULL);
    return request;
}

/* ---- parties --------------------------------------------------------------- */

static void
count_wake(lc_request *request)
{
    party *party = request->waiter->parker;
    atomic_fetch_add(&party->wakes, 1);
    CHECK(!lc_request_drop(request)); /* the test has a reference */
}

lc_waiter *
new_waiter(party *party)
{
    lc_waiter *waiter = calloc(1, sizeof(*waiter));
    CHECK(waiter != NULL);
    waiter->wake = count_wake;
    waiter->parker = party;
    return waiter;
}

static party *
new_party(lc_request *request)
{
    party *party = calloc(1, sizeof(*party));
    CHECK(party != NULL && n_parties < MAX_PARTIES);
    party->request = request;
    parties[n_parties++] = party;
    return party;
}

party *
prepare(const char *owner, const char *keys)
{
    return new_party(new_request(owner, keys));
}

void
submit(party *party)
{
    lc_waiter *waiter = new_waiter(party);
    party->status = lc_acquire(table, party->request, waiter, NULL);
    if (party->request->waiter != waiter) {
        free(waiter);
    }
}

party *
ask(const char *owner, const char *keys)
{
    party *party = prepare(owner, keys);
    submit(party);
    return party;
}

party *
try_to(const char *owner, const char *keys)
{
    party *party = prepare(owner, keys);
    party->status = lc_try_acquire(table, party->request);
    return party;
}

lc_status
release(party *party)
{
    return lc_release(table, party->request);
}

lc_status
cancel(party *party)
{
    return lc_cancel(table, party->request, false, NULL);
}

lc_status
break_deadlock(party *party)
{
    lc_rows cycle = {0};
    lc_status status = lc_break_deadlock(table, party->request, &cycle);
    lc_rows_clear(&cycle, dispose);
    return status;
}

party *
begin_upgrade(party *of)
{
    CHECK_INT(lc_begin_upgrade(table, of->request), LC_OK);
    lc_request *request = lc_request_upgrade(table, of->request, NULL);
    CHECK(request != NULL);
    party *upgrade = new_party(request);
    submit(upgrade);
    return upgrade;
}

lc_status
end_upgrade(party *of, party *upgrade)
{
    return lc_end_upgrade(table, of->request, upgrade == NULL ? NULL : upgrade->request);
}

lc_status
transfer(party *party, const char *owner)
{
    lc_name name;
    if (owner != NULL) {
        name = name_of(owner);
    }
    lc_rows blockers = {0};
    lc_status status = lc_transfer(table, party->request, owner == NULL ? NULL : &name, &blockers);
    CHECK_INT(blockers.n > 0, status == LC_CONFLICT);
    lc_rows_clear(&blockers, dispose);
    return status;
}

/* ---- seeing ---------------------------------------------------------------- */

bool
holds(const party *party)
{
    return lc_request_state(party->request) == LC_HELD;
}

bool
waits(const party *party)
{
    return lc_request_state(party->request) == LC_WAITING;
}

bool
is_queued_at(const party *party, const char *text)
{
    lc_name name = name_of(text);
    for (uint32_t i = 0; i < party->request->n_links; i++) {
        const lc_link *link = &party->request->links[i];
        if (link->key.hash == name.hash) {
            return link->place == LC_IN_QUEUE;
        }
    }
    return false;
}

static int
compare_rows(const void *left, const void *right)
{
    const lc_row *a = left, *b = right;
    return a->token < b->token ? -1 : a->token > b->token;
}

const char *
at(const char *key)
{
    static char line[1024];
    lc_rows rows = {0};
    lc_name name = name_of(key);
    CHECK_INT(lc_list_key(table, &name, &rows), LC_OK);
    size_t n_held = 0, size = 0;
    while (n_held < rows.n && !rows.rows[n_held].is_waiter) {
        n_held++;
    }
    if (n_held > 1) {
        qsort(rows.rows, n_held, sizeof(lc_row), compare_rows);
    }
    line[0] = '\0';
    for (size_t i = 0; i < rows.n; i++) {
        const lc_row *row = &rows.rows[i];
        CHECK_INT(row->is_waiter, i >= n_held);
        const lc_key *owner = row->owner;
        bool is_named = owner != NULL && owner->shape != LC_UNIQUE;
        size += (size_t)snprintf(line + size, sizeof(line) - size, "%s%s%.*s%s", i > 0 ? " " : "",
                                 i == n_held ? "| " : "", is_named ? (int)owner->size : 1,
                                 is_named ? (const char *)owner->bytes : "?",
                                 row->mode == LC_EXCLUSIVE ? "!" : "");
        CHECK(size < sizeof(line));
    }
    lc_rows_clear(&rows, dispose);
    return line;
}

lc_statistics
statistics(void)
{
    lc_statistics all;
    lc_read_statistics(table, &all);
    return all;
}

/* ---- many keys ------------------------------------------------------------- */

lc_request *
numbered_request(uint32_t number, lc_mode mode)
{
    lc_name name = {.id = &number,
                    .id_size = sizeof(number),
                    .id_kind = LC_INT,
                    .mode = (uint8_t)mode,
                    .hash = (number + 1) * UINT64_C(0x9E3779B97F4A7C15)};
    uint32_t n = 1;
    lc_request *request = lc_request_new(&name, &n, NULL, NULL);
    CHECK(request != NULL);
    return request;
}

void
hold_numbers(lc_request **requests, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        requests[i] = numbered_request(i, LC_EXCLUSIVE);
        CHECK_INT(lc_try_acquire(table, requests[i]), LC_OK);
    }
}

void
release_numbers(lc_request **requests, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        CHECK_INT(lc_release(table, requests[i]), LC_OK);
        CHECK(lc_request_drop(requests[i]));
        lc_request_free(requests[i], NULL);
    }
}

unsigned
table_bits(void)
{
    return atomic_load(&table->array)->bits;
}

/* ---- begin and end --------------------------------------------------------- */

void
dispose(lc_request *request)
{
    lc_request_free(request, NULL);
}

void
begin(void)
{
    table = lc_table_new();
    CHECK(table != NULL);
}

void
finish(void)
{
    for (size_t i = 0; i < n_parties; i++) {
        if (waits(parties[i])) {
            cancel(parties[i]);
        }
    }
    for (size_t i = 0; i < n_parties; i++) {
        if (holds(parties[i])) {
            CHECK_INT(release(parties[i]), LC_OK);
        }
    }
    CHECK_INT(lc_count_held(table), 0);
    CHECK_INT(table->n_waiting, 0);
    CHECK_INT(table->n_named_waiting, 0);
    CHECK_INT(atomic_load(&table->sampled_keys), 0);
    CHECK(table->candidates == NULL && table->must_look == NULL);
    for (size_t i = 0; i < n_parties; i++) {
        CHECK_INT(atomic_load(&parties[i]->request->references), 1);
        CHECK(lc_request_drop(parties[i]->request));
        lc_request_free(parties[i]->request, NULL);
        free(parties[i]);
    }
    n_parties = 0;
    CHECK(lc_table_free(table) == NULL);
}
