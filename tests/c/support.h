/* What the tests of the table share: a table, and requests in a short notation.
 *
 * Keys are written "a b! g:c": `b` exclusive, the others shared, `c` in the group `g`.
 * Owners are names; NULL is nobody. at("a") says who is at a key, holders by token, then waiters
 * in order: "x y | z!".
 */
#ifndef SUPPORT_H
#define SUPPORT_H

#include "harness.h"
#include "lock_internal.h"

extern lc_table *table;

/* A request, with the one reference the test has. */
typedef struct party {
    lc_request *request;
    lc_status status;       /* what acquiring said */
    atomic_int wakes;       /* how often it was called back */
} party;

/* A test with an empty table, which must be empty again once all parties have left. */
#define TABLE_TEST(test_name)                                                                      \
    static void test_name##_body(void);                                                            \
    TEST(test_name)                                                                                \
    {                                                                                              \
        begin();                                                                                   \
        test_name##_body();                                                                        \
        finish();                                                                                  \
    }                                                                                              \
    static void test_name##_body(void)

void begin(void);
void finish(void);

/* Puts a key into a bucket of a table of 1 << LC_MIN_BITS; by default its hash says. */
void put_key(const char *key, unsigned bucket);

/* A name for lookups and requests; `mark` gets whether it ended in "!". */
lc_name name_of(const char *text);

lc_request *new_request(const char *owner, const char *keys);
lc_waiter *new_waiter(party *party);

/* Makes a request, and submits it in one of three ways. */
party *prepare(const char *owner, const char *keys);
party *ask(const char *owner, const char *keys);     /* may wait */
party *try_to(const char *owner, const char *keys);  /* may not */
void submit(party *party);

lc_status release(party *party);
lc_status cancel(party *party);
lc_status break_deadlock(party *party);

/* Upgrades: the two halves; begin_upgrade() submits what it returns. */
party *begin_upgrade(party *of);
lc_status end_upgrade(party *of, party *upgrade);
lc_status transfer(party *party, const char *owner);

bool holds(const party *party);
bool waits(const party *party);
bool is_queued_at(const party *party, const char *key);
const char *at(const char *key);
lc_statistics statistics(void);

/* Keys that are numbers, exclusive, each held by a request of its own: to make the table grow. */
lc_request *numbered_request(uint32_t number, lc_mode mode);
void hold_numbers(lc_request **requests, uint32_t n);
void release_numbers(lc_request **requests, uint32_t n);
unsigned table_bits(void);

/* For lc_rows_clear(): frees. */
void dispose(lc_request *request);

#endif
