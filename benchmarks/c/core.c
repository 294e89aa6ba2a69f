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

static lc_request *new_request(const raw_key *key)
{
    uint32_t n = 1;
    lc_name name = {
        .id = key->bytes,
        .hash = key->hash,
        .id_size = (uint32_t)key->size,
        .id_kind = LC_STR1,
        .mode = LC_EXCLUSIVE,
    };
    lc_request *request = lc_request_new(&name, &n, NULL, NULL);
    if (request == NULL) {
        abort();
    }
    return request;
}

static void drop(lc_request *request)
{
    if (lc_request_drop(request)) {
        lc_request_free(request, NULL);
    }
}

static void *make(const raw_key *const *keys, size_t n_keys, size_t n_threads)
{
    core *self = malloc(sizeof *self);
    *self = (core){lc_table_new(), keys, n_keys, n_threads, NULL};
    self->requests = calloc(n_threads * n_keys, sizeof *self->requests);
    for (size_t i = 0; i < n_threads * n_keys; i++) {
        self->requests[i] = new_request(&keys[i / n_keys][i % n_keys]);
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
    for (size_t i = 0; i < self->n_keys; i++) {
        lc_request *request = new_request(&keys[i]);
        if (lc_try_acquire(self->table, request) != LC_OK) {
            abort();
        }
        lc_release(self->table, request);
        drop(request);
    }
}

static bool excludes(void *table)
{
    core *self = table;
    lc_request *first = new_request(&self->keys[0][0]);
    lc_request *second = new_request(&self->keys[0][0]);
    bool does = lc_try_acquire(self->table, first) == LC_OK &&
                lc_try_acquire(self->table, second) == LC_CONFLICT &&
                lc_release(self->table, first) == LC_OK &&
                lc_try_acquire(self->table, second) == LC_OK &&
                lc_release(self->table, second) == LC_OK;
    drop(first);
    drop(second);
    return does;
}

static void core_free(void *table)
{
    core *self = table;
    for (size_t i = 0; i < self->n_threads * self->n_keys; i++) {
        drop(self->requests[i]);
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
