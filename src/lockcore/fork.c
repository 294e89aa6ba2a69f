/* Forking: every table must be whole in the child, where only the forking thread lives.
 *
 * The handlers run inside fork(). Without the GIL that matters: the interpreter has
 * stopped all threads by then, at points outside the core. A hook of the interpreter's
 * runs earlier, and a thread that waits for a mutex taken there never gets to such a
 * point.
 */
#include "lock_internal.h"

#ifndef _WIN32
#include <pthread.h>
#endif

static lc_mutex tables_mutex;
static lc_table *tables;

void
lc_register_table(lc_table *table)
{
    lc_mutex_lock(&tables_mutex);
    table->next_table = tables;
    table->where_table = &tables;
    if (tables != NULL) {
        tables->where_table = &table->next_table;
    }
    tables = table;
    lc_mutex_unlock(&tables_mutex);
}

void
lc_unregister_table(lc_table *table)
{
    lc_mutex_lock(&tables_mutex);
    *table->where_table = table->next_table;
    if (table->next_table != NULL) {
        table->next_table->where_table = table->where_table;
    }
    lc_mutex_unlock(&tables_mutex);
}

void
lc_before_fork(lc_table *table)
{
    lc_mutex_lock(&table->wait_mutex);
    lc_array *array = atomic_load_explicit(&table->array, memory_order_relaxed);
    /* Who forks without the guard cannot use a guarded table in the child, so it need not be whole
     * there. But it may stop being guarded before that thread is back. */
    table->is_locked = !lc_is_guarded(table);
    for (size_t i = 0; table->is_locked && i < (size_t)1 << array->bits; i++) {
        lc_mutex_lock(&array->buckets[i].mutex);
    }
    lc_lock_stripes(table);
}

void
lc_after_fork(lc_table *table)
{
    lc_unlock_stripes(table);
    lc_array *array = atomic_load_explicit(&table->array, memory_order_relaxed);
    for (size_t i = 0; table->is_locked && i < (size_t)1 << array->bits; i++) {
        lc_mutex_unlock(&array->buckets[i].mutex);
    }
    lc_mutex_unlock(&table->wait_mutex);
}

lc_request *
lc_tables_empty(void)
{
    lc_request *all = NULL;
    lc_mutex_lock(&tables_mutex);
    for (lc_table *table = tables; table != NULL; table = table->next_table) {
        lc_request *ended = lc_table_empty(table);
        for (lc_request *next; ended != NULL; ended = next) {
            next = lc_next_ended(ended);
            ended->links[0].chain = all == NULL ? NULL : &all->links[0];
            all = ended;
        }
    }
    lc_mutex_unlock(&tables_mutex);
    return all;
}

#ifndef _WIN32

static void
before_fork(void)
{
    lc_mutex_lock(&tables_mutex);
    for (lc_table *table = tables; table != NULL; table = table->next_table) {
        lc_before_fork(table);
    }
}

static void
after_fork(void)
{
    for (lc_table *table = tables; table != NULL; table = table->next_table) {
        lc_after_fork(table);
    }
    lc_mutex_unlock(&tables_mutex);
}

#endif

bool
lc_handle_forks(void)
{
#ifdef _WIN32
    return true;
#else
    return pthread_atfork(before_fork, after_fork, after_fork) == 0;
#endif
}
