/* The array of buckets grows and shrinks with the keys, and nothing is lost. */
#include <pthread.h>
#include <sys/wait.h>

#include "support.h"

#ifdef HAS_WRAP
#include <sys/mman.h>
#endif

#define MANY 100000

TABLE_TEST(table_grows_with_its_keys_and_shrinks_again)
{
    static lc_request *requests[MANY];
    for (int round = 0; round < 3; round++) {
        CHECK_INT(table_bits(), LC_MIN_BITS);
        hold_numbers(requests, MANY);
        CHECK(table_bits() >= 15 && table_bits() <= 18);
        CHECK_INT(lc_count_held(table), MANY);
        for (uint32_t i = 0; i < MANY; i += 997) {
            lc_request *other = numbered_request(i, LC_SHARED);
            CHECK_INT(lc_try_acquire(table, other), LC_CONFLICT);
            lc_request_free(other, NULL);
        }
        release_numbers(requests, MANY);
        CHECK_INT(lc_count_held(table), 0);
        CHECK_INT(atomic_load(&table->sampled_keys), 0);
    }
}

TABLE_TEST(waiters_keep_their_places_when_the_table_is_resized)
{
    static lc_request *requests[MANY];
    party *x = ask("x", "a! b"), *y = ask("y", "a! b!"), *z = ask("z", "a");
    hold_numbers(requests, MANY);
    CHECK(table_bits() > LC_MIN_BITS);
    CHECK_TEXT(at("a"), "x! | y! z");
    release(x);
    CHECK(holds(y) && waits(z));
    ask("w", "b");
    release_numbers(requests, MANY);
    CHECK_INT(table_bits(), LC_MIN_BITS);
    CHECK_TEXT(at("a"), "y! | z");
    CHECK_TEXT(at("b"), "y! | w");
}

TABLE_TEST(overfull_buckets_keep_all_their_keys)
{
    enum { N = 60 };
    party *parties[N];
    char key[16];
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof(key), "o%d", i);
        put_key(key, 513);
        strcat(key, "!");
        parties[i] = ask("x", key);
    }
    CHECK_INT(lc_count_held(table), N);
    for (int i = 0; i < N; i += 2) {
        release(parties[i]);
    }
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof(key), "o%d", i);
        CHECK_TEXT(at(key), i % 2 ? "x!" : "");
    }
    for (int i = N - 1; i > 0; i -= 2) {
        release(parties[i]);
    }
    CHECK_INT(lc_count_held(table), 0);
}

TABLE_TEST(overfull_buckets_survive_a_resize)
{
    static lc_request *requests[MANY];
    enum { N = 40 };
    char key[16];
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof(key), "o%d", i);
        put_key(key, 64 * (unsigned)(i % 2)); /* both are sampled */
        ask("x", key);
        strcat(key, "!");
        ask("y", key);
    }
    hold_numbers(requests, MANY);
    release_numbers(requests, MANY);
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof(key), "o%d", i);
        CHECK_TEXT(at(key), "x | y!");
    }
}

TEST(free_of_a_resized_table_gives_all_pages_back)
{
    static lc_request *requests[MANY];
    begin();
    hold_numbers(requests, MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        lc_request_drop(requests[i]);
    }
    size_t n = 0;
    for (lc_request *ended = lc_table_free(table), *next; ended != NULL; ended = next) {
        next = lc_next_ended(ended);
        CHECK(lc_request_drop(ended));
        lc_request_free(ended, NULL);
        n++;
    }
    CHECK_INT(n, MANY);
}

TABLE_TEST(child_of_a_fork_has_an_empty_table_with_open_mutexes)
{
    static lc_request *requests[MANY];
    hold_numbers(requests, MANY);
    unsigned grown = table_bits();
    /* A thread that is about to find out that its array is no longer current may be in
     * the middle of a bucket of it when another forks. */
    lc_mutex_lock(&table->arrays[LC_MIN_BITS].buckets[5].mutex);
    lc_before_fork(table);
    lc_after_fork(table);
    lc_request *ended = lc_table_empty(table);
    size_t n = 0;
    for (lc_request *next; ended != NULL; ended = next) {
        next = lc_next_ended(ended);
        CHECK(!lc_request_drop(ended));
        n++;
    }
    CHECK_INT(n, MANY);
    CHECK_INT(lc_count_held(table), 0);
    for (uint32_t i = 0; i < MANY; i++) {
        CHECK_INT(lc_release(table, requests[i]), LC_NOT_HELD);
        CHECK_INT(lc_try_acquire(table, requests[i]), LC_OK);
    }
    CHECK_INT(table_bits(), grown);
    release_numbers(requests, MANY);
    CHECK_INT(table_bits(), LC_MIN_BITS);
    CHECK_INT(lc_count_held(table), 0); /* locks every bucket */
}

static atomic_bool is_over;

static void *
come_and_go(void *argument)
{
    (void)argument;
    lc_request *request = new_request("y", "b! c!");
    while (!atomic_load(&is_over)) {
        if (lc_try_acquire(table, request) == LC_OK) {
            lc_release(table, request);
        }
    }
    lc_request_free(request, NULL);
    return NULL;
}

TABLE_TEST(forks_beside_busy_threads_leave_whole_tables)
{
    pthread_t thread;
    CHECK(lc_handle_forks());
    party *x = ask("x", "a!");
    CHECK(pthread_create(&thread, NULL, come_and_go, NULL) == 0);
    for (int i = 0; i < 50; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            lc_request *ended = lc_table_empty(table), *mine = new_request("z", "a! b! c!");
            _exit(ended == NULL || lc_count_held(table) != 0
                  || lc_try_acquire(table, mine) != LC_OK);
        }
        int status = -1;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    atomic_store(&is_over, true);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_TEXT(at("a"), "x!");
    CHECK(holds(x));
}

TABLE_TEST(parent_of_a_fork_keeps_all)
{
    party *x = ask("x", "a!"), *y = ask("y", "a!");
    lc_before_fork(table);
    lc_after_fork(table);
    CHECK_TEXT(at("a"), "x! | y!");
    release(x);
    CHECK(holds(y));
}

/* ---- without pages, where the linker lets us refuse them -------------------- */

#ifdef HAS_WRAP

static bool there_are_no_pages;

void *__real_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset);

/* The linker sends the core's mmap() here: see the Makefile. */
void *
__wrap_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset)
{
    return there_are_no_pages ? MAP_FAILED
                              : __real_mmap(address, size, protection, flags, file, offset);
}

TABLE_TEST(table_that_gets_no_pages_works_as_it_is)
{
    static lc_request *requests[20000];
    there_are_no_pages = true;
    hold_numbers(requests, 20000);
    CHECK_INT(table_bits(), LC_MIN_BITS);
    CHECK_INT(lc_count_held(table), 20000);
    lc_request *other = numbered_request(7, LC_SHARED);
    CHECK_INT(lc_try_acquire(table, other), LC_CONFLICT);
    lc_request_free(other, NULL);
    there_are_no_pages = false;
    release_numbers(requests, 20000);
    CHECK_INT(table_bits(), LC_MIN_BITS);
}

TEST(table_without_pages_is_not_made)
{
    there_are_no_pages = true;
    CHECK(lc_table_new() == NULL);
}

#endif
