/* What the raw benchmark asks of each lock table it compares. */
#ifndef RAW_RIVAL_H
#define RAW_RIVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct raw_key {
    const char *bytes;
    size_t size;
    uint64_t hash;   /* well mixed; for those that take a hash from outside */
    uint64_t number; /* the same key as a number */
} raw_key;

typedef struct raw_rival {
    const char *name;
    /* Returns: a table, and for each thread what it needs to lock its own keys. */
    void *(*make)(const raw_key *const *keys, size_t n_keys, size_t n_threads);
    /* Takes and gives back each of `thread`'s keys, one at a time. */
    void (*pairs)(void *table, size_t thread);
    /* Returns: whether the second of two takers of one key is refused, and admitted after. */
    bool (*excludes)(void *table);
    void (*free)(void *table);
} raw_rival;

extern const raw_rival core_prepared, core_fresh;
#ifdef HAVE_TBB
extern const raw_rival tbb_numbers, tbb_strings, tbb_hashed;
#endif
#ifdef HAVE_ROCKSDB
extern const raw_rival rocksdb_locks;
#endif

#ifdef __cplusplus
}
#endif
#endif
