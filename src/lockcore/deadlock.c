/* Finding and breaking deadlocks, under the wait mutex.
 *
 * A waiting request waits, at each key where it is queued, for the owners of
 * conflicting holds, and for conflicting requests that came earlier (unless its
 * own owner holds the key). An owner who holds waits through all its waiting
 * requests. We look breadth first for a way from a request back to a hold of its
 * own owner, or to the request itself. Keys with waiters do not change under the
 * wait mutex, so what is found is there; marks are numbered searches, so nothing
 * is allocated, nothing limits the depth and nothing must be cleaned up.
 *
 * A search starts where edges can have been added: at a request that has begun
 * to wait, was queued at a further key, or whose owner gained or lost a key.
 */
#include "lock_internal.h"

typedef struct lc_search {
    lc_table *table;
    lc_request *origin;
    lc_request *last;           /* of those to look at, through next_visit */
    bool is_closed;
} lc_search;

static void
visit(lc_search *search, lc_request *request, lc_link *parent, const lc_link *blocker)
{
    lc_waiter *waiter = request->waiter;
    /* Who is about to leave is as good as gone: there may be a cycle without it. */
    if (waiter->visit == search->table->visits || waiter->is_victim) {
        return;
    }
    waiter->visit = search->table->visits;
    waiter->parent = parent;
    waiter->blocker = blocker;
    waiter->next_visit = NULL;
    search->last->waiter->next_visit = request;
    search->last = request;
}

static void
close_cycle(lc_search *search, lc_link *parent, const lc_link *blocker)
{
    search->origin->waiter->parent = parent;
    search->origin->waiter->blocker = blocker;
    search->is_closed = true;
}

static void
follow_holders(lc_search *search, lc_link *head, lc_request *request, lc_link *link)
{
    if (head->place != LC_HOLDING) {
        return;
    }
    for (lc_link *holder = head; holder != NULL; holder = holder->next) {
        lc_request *held = lc_request_of(holder);
        if (!lc_conflict(holder->mode, link->mode)) {
            return; /* shared, and so are all behind it */
        }
        if (lc_same_owner(held, request)) {
            continue;
        }
        if (lc_same_owner(held, search->origin)) {
            close_cycle(search, link, holder);
            return;
        }
        if (held->owner == NULL) {
            continue;
        }
        lc_request *next = NULL;
        while ((next = lc_next_waiting(search->table, held, next)) != NULL) {
            visit(search, next, link, holder);
        }
    }
}

static void
follow_earlier_waiters(lc_search *search, lc_link *head, lc_request *request, lc_link *link)
{
    if (lc_owner_holds(head, request)) {
        return;
    }
    for (lc_link *earlier = head->queue; earlier != link; earlier = earlier->next) {
        lc_request *waiting = lc_request_of(earlier);
        if (!lc_conflict(earlier->mode, link->mode) || lc_same_owner(waiting, request)) {
            continue;
        }
        if (waiting == search->origin) {
            close_cycle(search, link, earlier);
            return;
        }
        visit(search, waiting, link, earlier);
    }
}

/* Returns: the number of requests in a cycle through `origin`, which waits, or 0.
 * The cycle is then to be read from `parent` to `parent`, backwards. */
static size_t
find_cycle(lc_table *table, lc_request *origin)
{
    lc_search search = {.table = table, .origin = origin, .last = origin};
    origin->waiter->visit = ++table->visits;
    origin->waiter->next_visit = NULL;
    for (lc_request *request = origin; request != NULL && !search.is_closed;
         request = request->waiter->next_visit) {
        for (uint32_t i = 0; i < request->n_links && !search.is_closed; i++) {
            lc_link *link = &request->links[i];
            if (link->place != LC_IN_QUEUE) {
                continue;
            }
            lc_link *head = lc_find_queued(table, &link->key);
            follow_holders(&search, head, request, link);
            if (!search.is_closed) {
                follow_earlier_waiters(&search, head, request, link);
            }
        }
    }
    if (!search.is_closed) {
        return 0;
    }
    size_t length = 1;
    lc_request *each = origin;
    while ((each = lc_request_of(each->waiter->parent)) != origin) {
        length++;
    }
    return length;
}

/* Lists the cycle from its origin on. Requires: room for two rows a request. */
static void
list_cycle(const lc_request *origin, size_t length, lc_rows *cycle)
{
    const lc_request *request = origin;
    cycle->n = 2 * length;
    for (size_t i = length; i-- > 0;) {
        const lc_waiter *waiter = request->waiter;
        lc_set_row(&cycle->rows[2 * i], waiter->parent);
        lc_set_row(&cycle->rows[2 * i + 1], waiter->blocker);
        request = lc_request_of(waiter->parent);
    }
}

/* Returns: of a cycle just found, the request that closed it: the last to begin to
 * wait or to be queued at a further key. Unless the origin was chosen before. */
static lc_request *
choose_victim(lc_request *origin)
{
    lc_request *victim = origin;
    if (origin->waiter->is_victim) {
        return victim;
    }
    lc_request *each = origin;
    while ((each = lc_request_of(each->waiter->parent)) != origin) {
        if (each->waiter->changed > victim->waiter->changed) {
            victim = each;
        }
    }
    return victim;
}

/* Asks the victim to end its own wait. */
static void
call_victim(lc_table *table, lc_request *victim, lc_woken *woken)
{
    victim->waiter->is_victim = true;
    lc_add_called(table, woken, victim);
}

lc_status
lc_break_deadlock(lc_table *table, lc_request *request, lc_rows *cycle)
{
    lc_woken woken = {0};
    lc_status status = LC_QUEUED;
    lc_mutex_lock(&table->wait_mutex);
    while (status == LC_QUEUED) {
        unsigned char state = atomic_load_explicit(&request->state, memory_order_relaxed);
        if (state != LC_WAITING) {
            status = state == LC_SHUT_OUT ? LC_CLOSED : LC_OK;
            break;
        }
        size_t length = find_cycle(table, request);
        if (length == 0) {
            request->waiter->is_victim = false;
            break;
        }
        lc_request *victim = choose_victim(request);
        if (victim != request) {
            call_victim(table, victim, &woken);
            continue;
        }
        if (2 * length > cycle->capacity) {
            lc_mutex_unlock(&table->wait_mutex);
            status = lc_rows_reserve(cycle, 2 * length) == LC_OK ? LC_QUEUED : LC_NO_MEMORY;
            lc_mutex_lock(&table->wait_mutex);
            continue;
        }
        list_cycle(request, length, cycle);
        lc_stop_waiting(table, request, LC_ENDED);
        table->statistics.deadlocks++;
        status = LC_DEADLOCK;
    }
    lc_finish(table, &woken);
    return status;
}

void
lc_wake_deadlocked(lc_table *table, lc_woken *woken)
{
    lc_request *request = table->must_look;
    table->must_look = NULL;
    for (; request != NULL; request = request->waiter->next_look) {
        request->waiter->must_look = false;
        while (atomic_load_explicit(&request->state, memory_order_relaxed) == LC_WAITING
               && !request->waiter->is_victim && find_cycle(table, request) > 0) {
            call_victim(table, choose_victim(request), woken);
        }
    }
}
