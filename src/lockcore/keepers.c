/* Who keeps a table, where a reference count of the interpreter's would be a cache line that
 * all threads write.
 *
 * Until its maker leaves, a handle is counted under the mutex of its thread's stripe, and the
 * maker leaves under all of them. So whoever found the table not left has opened its stripe
 * before the table can be freed, and does not touch it again. Whoever found it left still has
 * the handle, and touches nothing after the one step that drops it.
 */
#include "lock_internal.h"

void
lc_lock_stripes(lc_table *table)
{
    for (unsigned i = 0; i < LC_STRIPES; i++) {
        lc_mutex_lock(&table->stripes[i].mutex);
    }
}

void
lc_unlock_stripes(lc_table *table)
{
    for (unsigned i = 0; i < LC_STRIPES; i++) {
        lc_mutex_unlock(&table->stripes[i].mutex);
    }
}

static lc_stripe *
lock_stripe(lc_table *table)
{
    static atomic_uint n_threads;
    static _Thread_local unsigned number; /* of this thread, from 1 */
    if (LC_UNLIKELY(number == 0)) {
        number = atomic_fetch_add_explicit(&n_threads, 1, memory_order_relaxed) % LC_STRIPES + 1;
    }
    lc_stripe *stripe = &table->stripes[number - 1];
    lc_mutex_lock(&stripe->mutex);
    return stripe;
}

/* Counts where the maker has not left. Returns: false, with nothing changed, if it has. */
static bool
count_in_stripe(lc_table *table, int change)
{
    lc_stripe *stripe = lock_stripe(table);
    bool is_left = table->is_left;
    if (LC_LIKELY(!is_left)) {
        stripe->n_handles += (uint32_t)change;
    }
    lc_mutex_unlock(&stripe->mutex);
    return !is_left;
}

/* Returns: whether it was the last. */
static bool
drop_left(lc_table *table)
{
    LC_SYNC("table-left");
    /* Acquire and release: whatever others did with their handles comes before the end. */
    return atomic_fetch_sub_explicit(&table->left_handles, 1, memory_order_acq_rel) == 1;
}

void
lc_table_keep(lc_table *table)
{
    if (LC_UNLIKELY(!count_in_stripe(table, 1))) {
        atomic_fetch_add_explicit(&table->left_handles, 1, memory_order_relaxed);
    }
}

bool
lc_table_drop(lc_table *table)
{
    if (LC_LIKELY(count_in_stripe(table, -1))) {
        return false;
    }
    return drop_left(table);
}

bool
lc_table_leave(lc_table *table)
{
    uint32_t n = 1; /* our own: we have mutexes to open yet */
    lc_lock_stripes(table);
    for (unsigned i = 0; i < LC_STRIPES; i++) {
        n += table->stripes[i].n_handles;
    }
    atomic_store_explicit(&table->left_handles, (long)n, memory_order_relaxed);
    table->is_left = true;
    lc_unlock_stripes(table);
    return drop_left(table);
}
