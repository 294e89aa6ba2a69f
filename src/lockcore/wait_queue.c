/* Everything that touches a queue. Runs under the table's wait mutex, so it reads
 * like a program with one thread: a key that has waiters does not change but here.
 */
#include "lock_internal.h"

/* ---- who waits ------------------------------------------------------------- */

static lc_request **
owner_list(lc_table *table, const lc_key *owner)
{
    return &table->waiting[owner == NULL ? 0 : owner->hash % LC_OWNER_LISTS];
}

static void
add_waiting(lc_table *table, lc_request *request)
{
    lc_waiter *waiter = request->waiter;
    lc_request **list = owner_list(table, request->owner);
    waiter->next = *list;
    waiter->prev = NULL;
    if (*list != NULL) {
        (*list)->waiter->prev = request;
    }
    *list = request;
    table->n_waiting++;
    table->n_named_waiting += request->owner != NULL;
}

static void
remove_waiting(lc_table *table, lc_request *request)
{
    lc_waiter *waiter = request->waiter;
    if (waiter->next != NULL) {
        waiter->next->waiter->prev = waiter->prev;
    }
    if (waiter->prev != NULL) {
        waiter->prev->waiter->next = waiter->next;
    } else {
        *owner_list(table, request->owner) = waiter->next;
    }
    table->n_waiting--;
    table->n_named_waiting -= request->owner != NULL;
}

lc_request *
lc_next_waiting(lc_table *table, const lc_request *owner, lc_request *after)
{
    lc_request *request = after == NULL ? *owner_list(table, owner->owner) : after->waiter->next;
    while (request != NULL && !lc_same_owner(request, owner)) {
        request = request->waiter->next;
    }
    return request;
}

void
lc_add_woken(lc_woken *woken, lc_request *request)
{
    /* Relaxed: we have one already, the table's or its owner's. */
    atomic_fetch_add_explicit(&request->references, 1, memory_order_relaxed);
    request->waiter->next_woken = NULL;
    if (woken->last == NULL) {
        woken->first = request;
    } else {
        woken->last->waiter->next_woken = request;
    }
    woken->last = request;
}

static void
count_wait(lc_table *table, int64_t nanoseconds)
{
    unsigned bin = 0;
    for (int64_t bound = 10000; bin < LC_N_WAIT_BINS - 1 && nanoseconds >= bound; bound *= 10) {
        bin++;
    }
    table->statistics.wait_bins[bin]++;
}

/* Takes a waiting request out of all queues and marks the links whose queues it
 * leaves. Requires: its buckets locked. */
static void
leave_queues(lc_table *table, lc_array *array, lc_request *request)
{
    for (uint32_t i = 0; i < request->n_links; i++) {
        lc_link *link = &request->links[i];
        link->had_queue = link->place == LC_IN_QUEUE;
        if (link->had_queue) {
            lc_bucket *bucket = lc_bucket_of(array, link->key.hash);
            lc_dequeue(table, bucket, lc_find(bucket, &link->key), link);
        }
    }
    remove_waiting(table, request);
    count_wait(table, lc_now() - request->since);
}

static void
must_look(lc_table *table, lc_request *request)
{
    request->waiter->changed = ++table->arrivals;
    if (!request->waiter->must_look) {
        request->waiter->must_look = true;
        request->waiter->next_look = table->must_look;
        table->must_look = request;
    }
}

/* ---- granting -------------------------------------------------------------- */

/* Grants the waiting request if nothing blocks it; else queues it wherever it is
 * blocked and not yet queued. A place once taken is kept.
 * Returns: whether it was granted. */
static bool
try_grant(lc_table *table, lc_request *request, lc_woken *woken)
{
    lc_array *array = lc_lock_buckets(table, request);
    uint64_t arrival = request->waiter->arrival;
    bool is_blocked = false;
    for (uint32_t i = 0; i < request->n_links; i++) {
        lc_link *link = &request->links[i];
        lc_link **where = lc_find(lc_bucket_of(array, link->key.hash), &link->key);
        if (where == NULL
            || !(lc_blocked_by_holder(*where, link)
                 || lc_blocked_by_waiter(*where, link, arrival) != NULL)) {
            continue;
        }
        is_blocked = true;
        if (link->place == LC_NOWHERE) {
            lc_enqueue(where, link);
            must_look(table, request);
        }
    }
    if (!is_blocked) {
        leave_queues(table, array, request);
        lc_grant(table, array, request, lc_now());
        lc_add_woken(woken, request);
    }
    lc_unlock_buckets(array, request);
    return !is_blocked;
}

/* The waiters already passed in one walk along a queue, by what they block. */
typedef struct lc_passed {
    const lc_request *exclusive, *any;          /* the first of each */
    bool many_exclusive_owners, many_owners;    /* there is one of another owner */
} lc_passed;

static void
pass(lc_passed *passed, const lc_link *link)
{
    const lc_request *request = lc_request_of(link);
    if (passed->any == NULL) {
        passed->any = request;
    } else if (!lc_same_owner(passed->any, request)) {
        passed->many_owners = true;
    }
    if (link->mode == LC_EXCLUSIVE) {
        if (passed->exclusive == NULL) {
            passed->exclusive = request;
        } else if (!lc_same_owner(passed->exclusive, request)) {
            passed->many_exclusive_owners = true;
        }
    }
}

static bool
blocked_by_passed(const lc_passed *passed, const lc_link *head, const lc_link *link)
{
    const lc_request *request = lc_request_of(link);
    bool is_exclusive = link->mode == LC_EXCLUSIVE;
    const lc_request *first = is_exclusive ? passed->any : passed->exclusive;
    bool many = is_exclusive ? passed->many_owners : passed->many_exclusive_owners;
    return first != NULL && (many || !lc_same_owner(first, request))
        && !lc_owner_holds(head, request);
}

lc_link *
lc_find_queued(lc_table *table, const lc_key *key)
{
    lc_bucket *bucket = lc_lock_bucket(table, key->hash);
    lc_link **where = lc_find(bucket, key);
    lc_link *head = where != NULL && (*where)->queue != NULL ? *where : NULL;
    lc_mutex_unlock(&bucket->mutex);
    return head;
}

/* Tries the waiters of one key in order of arrival. */
static void
reconsider_key(lc_table *table, const lc_key *key, lc_woken *woken)
{
    lc_link *head = lc_find_queued(table, key);
    if (head == NULL) {
        return;
    }
    lc_passed passed = {0};
    lc_link *link = head->queue;
    for (lc_link *last = link->prev, *next; link != NULL; link = next) {
        next = link == last ? NULL : link->next;
        bool is_granted = !blocked_by_passed(&passed, head, link)
            && !lc_blocked_by_holder(head, link) && try_grant(table, lc_request_of(link), woken);
        if (is_granted) {
            head = next == NULL ? NULL : lc_find_queued(table, key);
        } else {
            pass(&passed, link);
            /* Everybody behind is blocked by this one, but for owners who hold the
             * key, or wait for it twice: only named ones can. */
            if (passed.exclusive != NULL && table->n_named_waiting == 0) {
                return;
            }
        }
    }
}

void
lc_reconsider_owner(lc_table *table, const lc_request *owner, lc_woken *woken)
{
    if (owner->owner == NULL || table->n_named_waiting == 0) {
        return;
    }
    lc_request *request = lc_next_waiting(table, owner, NULL);
    while (request != NULL) {
        lc_request *next = lc_next_waiting(table, owner, request);
        if (!try_grant(table, request, woken)) {
            must_look(table, request);
        }
        request = next;
    }
}

void
lc_reconsider(lc_table *table, lc_request *request, lc_woken *woken)
{
    for (uint32_t i = 0; i < request->n_links; i++) {
        if (request->links[i].had_queue) {
            reconsider_key(table, &request->links[i].key, woken);
        }
    }
}

void
lc_finish(lc_table *table, lc_woken *woken)
{
    for (lc_request *request = woken->first; request != NULL;
         request = request->waiter->next_woken) {
        lc_reconsider_owner(table, request, woken);
        table->statistics.wakes++;
    }
    lc_wake_deadlocked(table, woken);
    lc_request *request = woken->first;
    lc_mutex_unlock(&table->wait_mutex);
    LC_SYNC("before-wake");
    while (request != NULL) {
        lc_request *next = request->waiter->next_woken;
        request->waiter->wake(request);
        request = next;
    }
}

/* ---- the slow paths -------------------------------------------------------- */

/* Returns: whether the newcomer may have all its keys. Without `mark` only looks;
 * with it, queues the request wherever it is blocked. */
static bool
is_free(lc_array *array, lc_request *request, bool mark)
{
    bool is_free = true;
    for (uint32_t i = 0; i < request->n_links; i++) {
        lc_link *link = &request->links[i];
        lc_link **where = lc_find(lc_bucket_of(array, link->key.hash), &link->key);
        if (where == NULL
            || !(lc_blocked_by_holder(*where, link)
                 || lc_blocked_by_waiter(*where, link, UINT64_MAX) != NULL)) {
            continue;
        }
        is_free = false;
        if (mark) {
            lc_enqueue(where, link);
        }
    }
    return is_free;
}

static lc_status
start_waiting(lc_table *table, lc_array *array, lc_request *request, lc_waiter *waiter)
{
    request->waiter = waiter;
    waiter->arrival = waiter->changed = ++table->arrivals;
    waiter->must_look = waiter->is_victim = false;
    waiter->visit = 0;
    request->since = lc_now();
    atomic_store_explicit(&request->references, 2, memory_order_relaxed);
    atomic_store_explicit(&request->state, LC_WAITING, memory_order_release);
    is_free(array, request, true);
    add_waiting(table, request);
    table->statistics.waits++;
    return LC_QUEUED;
}

static lc_status
acquire_or_wait(lc_table *table, lc_request *request, lc_waiter *waiter, lc_rows *blockers,
                lc_woken *woken)
{
    if (lc_table_is_closed(table)) {
        return LC_CLOSED;
    }
    lc_status status = LC_CONFLICT;
    lc_array *array = lc_lock_buckets(table, request);
    if (is_free(array, request, false)) {
        atomic_store_explicit(&request->references, 2, memory_order_relaxed);
        lc_grant(table, array, request, lc_now_coarse());
        status = LC_OK;
    } else if (waiter != NULL) {
        status = start_waiting(table, array, request, waiter);
    } else if (blockers != NULL && !lc_list_blockers(array, request, UINT64_MAX, blockers)) {
        status = LC_NO_MEMORY; /* no room yet; the caller makes some */
    }
    lc_unlock_buckets(array, request);
    if (status == LC_OK) {
        lc_reconsider_owner(table, request, woken);
    }
    return status;
}

lc_status
lc_acquire_slow(lc_table *table, lc_request *request, lc_waiter *waiter, lc_rows *blockers)
{
    for (;;) {
        lc_woken woken = {0};
        lc_mutex_lock(&table->wait_mutex);
        LC_SYNC("acquire-slow");
        lc_status status = acquire_or_wait(table, request, waiter, blockers, &woken);
        lc_finish(table, &woken);
        if (status != LC_NO_MEMORY || lc_rows_make_room(blockers) != LC_OK) {
            return status;
        }
    }
}

lc_status
lc_release_slow(lc_table *table, lc_request *request)
{
    lc_woken woken = {0};
    lc_mutex_lock(&table->wait_mutex);
    lc_array *array = lc_lock_buckets(table, request);
    bool is_held = atomic_load_explicit(&request->state, memory_order_relaxed) == LC_HELD;
    if (is_held) {
        lc_withdraw(table, array, request);
    }
    lc_unlock_buckets(array, request);
    if (is_held) {
        lc_reconsider(table, request, &woken);
    }
    lc_finish(table, &woken);
    return is_held ? LC_OK : LC_NOT_HELD;
}

void
lc_stop_waiting(lc_table *table, lc_request *request, lc_state state, lc_woken *woken)
{
    lc_array *array = lc_lock_buckets(table, request);
    leave_queues(table, array, request);
    atomic_store_explicit(&request->state, state, memory_order_release);
    lc_unlock_buckets(array, request);
    /* The table's reference; whoever waits has its own. */
    atomic_fetch_sub_explicit(&request->references, 1, memory_order_acq_rel);
    if (woken != NULL) {
        lc_reconsider(table, request, woken);
    }
}

/* Lists who blocks the request, opening the wait mutex to make room if need be.
 * Returns: false when it stopped waiting meanwhile, or memory ran out. */
static bool
list_blockers(lc_table *table, lc_request *request, lc_rows *blockers)
{
    for (;;) {
        lc_array *array = lc_lock_buckets(table, request);
        bool fits = lc_list_blockers(array, request, request->waiter->arrival, blockers);
        lc_unlock_buckets(array, request);
        if (fits) {
            return true;
        }
        lc_mutex_unlock(&table->wait_mutex);
        lc_status status = lc_rows_make_room(blockers);
        lc_mutex_lock(&table->wait_mutex);
        unsigned char state = atomic_load_explicit(&request->state, memory_order_relaxed);
        if (status != LC_OK || state != LC_WAITING) {
            return false;
        }
    }
}

lc_status
lc_cancel(lc_table *table, lc_request *request, bool timed_out, lc_rows *blockers)
{
    lc_woken woken = {0};
    bool is_listed = true;
    LC_SYNC("before-cancel");
    lc_mutex_lock(&table->wait_mutex);
    if (atomic_load_explicit(&request->state, memory_order_relaxed) == LC_WAITING
        && blockers != NULL) {
        is_listed = list_blockers(table, request, blockers);
    }
    unsigned char state = atomic_load_explicit(&request->state, memory_order_relaxed);
    if (state == LC_WAITING) {
        lc_stop_waiting(table, request, LC_ENDED, &woken);
        table->statistics.timeouts += timed_out;
    }
    lc_finish(table, &woken);
    if (state == LC_WAITING) {
        return is_listed ? LC_CONFLICT : LC_NO_MEMORY;
    }
    return state == LC_SHUT_OUT ? LC_CLOSED : LC_OK;
}

void
lc_table_close(lc_table *table)
{
    lc_woken woken = {0};
    lc_mutex_lock(&table->wait_mutex);
    atomic_store_explicit(&table->closed, true, memory_order_release);
    for (unsigned i = 0; i < LC_OWNER_LISTS; i++) {
        for (lc_request *request; (request = table->waiting[i]) != NULL;) {
            lc_stop_waiting(table, request, LC_SHUT_OUT, NULL);
                lc_add_woken(&woken, request);
        }
    }
    lc_finish(table, &woken);
}
