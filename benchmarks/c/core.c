/* lockcore's table, with a request made beforehand for each key and with a new one for each pair. */
#include <stdlib.h>

#include "lock_table.h"
#include "rival.h"

typedef struct core {
    lc_table *table;
    const raw_key *const *keys;
    size_t n_keys;
    size_t n_threads;
    lc_request **requests; /* by thread and key */
} core;

static lc_request *new_request(const raw_key *key, lc_spares *spares)
{
    uint32_t n = 1;
    lc_name name = {
        .id = key->bytes,
        .hash = key->hash,
        .id_size = (uint32_t)key->size,
        .id_kind = LC_STR1,
        .mode = LC_EXCLUSIVE,
    };
    lc_request *request = lc_request_new(&name, &n, NULL, spares);
    if (request == NULL) {
        abort();
    }
    return request;
}

static void drop(lc_request *request, lc_spares *spares)
{
    if (lc_request_drop(request)) {
        lc_request_free(request, spares);
    }
}

static void drop_spares(lc_spares *spares)
{
    for (lc_request *request = spares->of[1].first, *next; request != NULL; request = next) {
        next = request->below;
        free(request);
    }
}

static void *make(const raw_key *const *keys, size_t n_keys, size_t n_threads)
{
    core *self = malloc(sizeof *self);
    *self = (core){lc_table_new(), keys, n_keys, n_threads, NULL};
    self->requests = calloc(n_threads * n_keys, sizeof *self->requests);
    for (size_t i = 0; i < n_threads * n_keys; i++) {
        self->requests[i] = new_request(&keys[i / n_keys][i % n_keys], NULL);
    }
    return self;
}

static void pairs_prepared(void *table, size_t thread)
{
    core *self = table;
    lc_request **requests = self->requests + thread * self->n_keys;
    for (size_t i = 0; i < self->n_keys; i++) {
        if (lc_try_acquire(self->table, requests[i]) != LC_OK) {
            abort();
        }
        lc_release(self->table, requests[i]);
    }
}

static void pairs_fresh(void *table, size_t thread)
{
    core *self = table;
    const raw_key *keys = self->keys[thread];
    lc_spares spares = {0}; /* a thread's own, as the extension's are the GIL's */
    for (size_t i = 0; i < self->n_keys; i++) {
        lc_request *request = new_request(&keys[i], &spares);
        if (lc_try_acquire(self->table, request) != LC_OK) {
            abort();
        }
        lc_release(self->table, request);
        drop(request, &spares);
    }
    drop_spares(&spares);
}

static bool excludes(void *table)
{
    core *self = table;
    lc_request *first = new_request(&self->keys[0][0], NULL);
    lc_request *second = new_request(&self->keys[0][0], NULL);
    bool does = lc_try_acquire(self->table, first) == LC_OK &&
                lc_try_acquire(self->table, second) == LC_CONFLICT &&
                lc_release(self->table, first) == LC_OK &&
                lc_try_acquire(self->table, second) == LC_OK &&
                lc_release(self->table, second) == LC_OK;
    drop(first, NULL);
    drop(second, NULL);
    return does;
}

static void core_free(void *table)
{
    core *self = table;
    for (size_t i = 0; i < self->n_threads * self->n_keys; i++) {
        drop(self->requests[i], NULL);
    }
    free(self->requests);
    lc_table_free(self->table);
    free(self);
}

const raw_rival core_prepared = {
    "lockcore, prepared request", make, pairs_prepared, excludes, core_free,
};
const raw_rival core_fresh = {
    "lockcore, new request", make, pairs_fresh, excludes, core_free,
};
