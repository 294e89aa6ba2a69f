/* Who keeps a table: its maker and handles. */
#include <stdatomic.h>

#include "actors.h"

static lc_table *kept;
static atomic_int ends;

static void
end_if(bool is_last)
{
    if (is_last) {
        CHECK(lc_table_free(kept) == NULL);
        atomic_fetch_add(&ends, 1);
    }
}

static void
do_leave(actor *self)
{
    (void)self;
    end_if(lc_table_leave(kept));
}

static void
do_drop(actor *self)
{
    (void)self;
    end_if(lc_table_drop(kept));
}

static void
make(int n_handles)
{
    kept = lc_table_new();
    CHECK(kept != NULL);
    for (int i = 0; i < n_handles; i++) {
        lc_table_keep(kept);
    }
}

TEST(maker_without_handles_ends_its_table)
{
    make(2);
    CHECK(!lc_table_drop(kept));
    CHECK(!lc_table_drop(kept));
    end_if(lc_table_leave(kept));
    CHECK_INT(ends, 1);
}

TEST(last_handle_ends_a_table_that_was_left)
{
    make(2);
    CHECK(!lc_table_leave(kept));
    CHECK(!lc_table_drop(kept));
    lc_table_keep(kept);
    CHECK(!lc_table_drop(kept));
    end_if(lc_table_drop(kept));
    CHECK_INT(ends, 1);
}

TEST(handles_may_be_dropped_by_other_threads)
{
    make(3);
    actor droppers[3];
    for (int i = 0; i < 3; i++) {
        start(&droppers[i], do_drop, NULL, NULL);
        end_of(&droppers[i]);
    }
    CHECK_INT(ends, 0);
    end_if(lc_table_leave(kept));
    CHECK_INT(ends, 1);
}

TEST(maker_that_is_leaving_ends_the_table_if_handles_go_meanwhile)
{
    make(1);
    actor leaver;
    start(&leaver, do_leave, NULL, "table-left");
    CHECK(!lc_table_drop(kept));
    CHECK_INT(ends, 0);
    go_on(&leaver);
    CHECK_INT(ends, 1);
}

TEST(table_lives_until_each_of_two_last_handles_is_dropped)
{
    make(2);
    CHECK(!lc_table_leave(kept));
    actor dropper;
    start(&dropper, do_drop, NULL, "table-left");
    CHECK(!lc_table_drop(kept));
    CHECK_INT(ends, 0);
    go_on(&dropper);
    CHECK_INT(ends, 1);
}

/* ---- all at once ----------------------------------------------------------- */

#define N_KEEPERS 4
#define N_ROUNDS 3000

static pthread_barrier_t line;

/* Drops a handle that the maker made, and one of its own that it makes meanwhile. */
static void *
keep_and_drop(void *unused)
{
    for (int i = 0; i < N_ROUNDS; i++) {
        pthread_barrier_wait(&line);
        lc_table_keep(kept);
        end_if(lc_table_drop(kept));
        end_if(lc_table_drop(kept));
        pthread_barrier_wait(&line);
    }
    return unused;
}

TEST(table_ends_once_when_its_maker_and_its_handles_go_at_one_instant)
{
    pthread_t keepers[N_KEEPERS];
    CHECK_INT(pthread_barrier_init(&line, NULL, N_KEEPERS + 1), 0);
    for (int i = 0; i < N_KEEPERS; i++) {
        CHECK_INT(pthread_create(&keepers[i], NULL, keep_and_drop, NULL), 0);
    }
    for (int i = 0; i < N_ROUNDS; i++) {
        make(N_KEEPERS);
        pthread_barrier_wait(&line);
        end_if(lc_table_leave(kept));
        pthread_barrier_wait(&line);
        CHECK_INT(ends, i + 1);
    }
    for (int i = 0; i < N_KEEPERS; i++) {
        pthread_join(keepers[i], NULL);
    }
    pthread_barrier_destroy(&line);
}

/* ---- forks ----------------------------------------------------------------- */

TEST(fork_leaves_no_stripe_locked)
{
    make(1);
    lc_before_fork(kept);
    lc_after_fork(kept);
    CHECK(!lc_table_drop(kept));
    end_if(lc_table_leave(kept));
    CHECK_INT(ends, 1);
}
