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
lc_add_woken(lc_table *table, lc_woken *woken, lc_request *request)
{
    table->statistics.wakes++;
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

void
lc_add_called(lc_table *table, lc_woken *woken, lc_request *request)
{
    /* Acquire: whoever called it before is done with next_called. */
    if (atomic_load_explicit(&request->waiter->is_called, memory_order_acquire)) {
        return; /* it will be called after this */
    }
    table->statistics.wakes++;
    atomic_store_explicit(&request->waiter->is_called, true, memory_order_relaxed);
    atomic_fetch_add_explicit(&request->references, 1, memory_order_relaxed);
    request->waiter->next_called = woken->called;
    woken->called = request;
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
leave_queues(lc_table *table, lc_array *array, lc_request *request, int64_t now)
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
    count_wait(table, now - request->since);
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

void
lc_siblings_must_look(lc_table *table, const lc_request *losing)
{
    if (losing->owner != NULL && table->n_named_waiting > 0) {
        lc_request *request = NULL;
        while ((request = lc_next_waiting(table, losing, request)) != NULL) {
            must_look(table, request);
        }
    }
}

/* ---- granting -------------------------------------------------------------- */

/* Notes that something has changed for the better at a place in a queue. Its request
 * will be tried, in order of arrival. */
static void
open_place(lc_table *table, lc_link *link)
{
    lc_request *request = lc_request_of(link);
    link->is_open = true;
    if (request->waiter->is_candidate) {
        return;
    }
    request->waiter->is_candidate = true;
    lc_request *last = table->last_candidate;
    if (last == NULL || last->waiter->arrival < request->waiter->arrival) {
        request->waiter->next_candidate = NULL;
        table->last_candidate = request;
        if (last == NULL) {
            table->candidates = request;
        } else {
            last->waiter->next_candidate = request;
        }
        return;
    }
    lc_request **where = &table->candidates;
    while ((*where)->waiter->arrival < request->waiter->arrival) {
        where = &(*where)->waiter->next_candidate;
    }
    request->waiter->next_candidate = *where;
    *where = request;
}

void
lc_open_siblings(lc_table *table, const lc_request *granted)
{
    if (granted->owner == NULL || table->n_named_waiting == 0) {
        return;
    }
    lc_request *request = NULL;
    while ((request = lc_next_waiting(table, granted, request)) != NULL) {
        must_look(table, request);
        for (uint32_t i = 0, j = 0; i < request->n_links && j < granted->n_links;) {
            lc_link *link = &request->links[i];
            const lc_link *gained = &granted->links[j];
            if (link->key.hash < gained->key.hash) {
                i++;
            } else if (link->key.hash > gained->key.hash) {
                j++;
            } else {
                if (link->place == LC_IN_QUEUE) {
                    open_place(table, link);
                }
                i++;
            }
        }
    }
}

static bool
is_blocked(lc_link **where, const lc_link *link, uint64_t arrival)
{
    return where != NULL
        && (lc_blocked_by_holder(*where, link)
            || lc_blocked_by_waiter(*where, link, arrival) != NULL);
}

/* Marks where the waiting request is blocked.
 * Returns: whether it is worth more: some open place is not blocked any more. */
static bool
look_at_places(lc_array *array, lc_request *request, bool *is_blocked_anywhere)
{
    bool is_opened = false;
    for (uint32_t i = 0; i < request->n_links; i++) {
        lc_link *link = &request->links[i];
        lc_link **where = lc_find(lc_bucket_of(array, link->key.hash), &link->key);
        link->is_blocked = is_blocked(where, link, request->waiter->arrival);
        *is_blocked_anywhere |= link->is_blocked;
        is_opened |= link->is_open && !link->is_blocked;
        link->is_open = false;
    }
    return is_opened;
}

/* Grants the waiting request if nothing blocks it; else queues it wherever it is
 * blocked and not yet queued. A place once taken is kept. */
static void
try_candidate(lc_table *table, lc_request *request, lc_woken *woken)
{
    lc_array *array = lc_lock_buckets(table, request);
    bool is_blocked_anywhere = false;
    bool is_opened = look_at_places(array, request, &is_blocked_anywhere);
    if (!is_blocked_anywhere) {
        int64_t now = lc_now();
        leave_queues(table, array, request, now);
        lc_grant(table, array, request, now);
        lc_add_woken(table, woken, request);
    }
    for (uint32_t i = 0; is_opened && is_blocked_anywhere && i < request->n_links; i++) {
        lc_link *link = &request->links[i];
        if (link->is_blocked && link->place == LC_NOWHERE) {
            lc_enqueue(lc_find(lc_bucket_of(array, link->key.hash), &link->key), link);
            must_look(table, request);
        }
    }
    lc_unlock_buckets(table, array, request);
    if (!is_blocked_anywhere) {
        lc_open_siblings(table, request);
    }
}

static void
settle(lc_table *table, lc_woken *woken)
{
    lc_request *request;
    while ((request = table->candidates) != NULL) {
        table->candidates = request->waiter->next_candidate;
        if (table->candidates == NULL) {
            table->last_candidate = NULL;
        }
        request->waiter->is_candidate = false;
        try_candidate(table, request, woken);
    }
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
    lc_unlock(table, bucket);
    return head;
}

/* Opens the places at the key whose requests are not blocked there any more. */
static void
open_key(lc_table *table, const lc_key *key)
{
    const lc_link *head = lc_find_queued(table, key);
    if (head == NULL) {
        return;
    }
    lc_passed passed = {0};
    lc_link *link = head->queue;
    do {
        if (!blocked_by_passed(&passed, head, link) && !lc_blocked_by_holder(head, link)) {
            open_place(table, link);
        }
        pass(&passed, link);
        /* Everybody behind an exclusive waiter is blocked by it, but for owners who
         * hold the key, or wait for it twice: only named ones can. */
        if (passed.exclusive != NULL && table->n_named_waiting == 0) {
            return;
        }
        link = link->next;
    } while (link != head->queue);
}

void
lc_open_keys(lc_table *table, const lc_request *request)
{
    for (uint32_t i = 0; i < request->n_links; i++) {
        if (request->links[i].had_queue) {
            open_key(table, &request->links[i].key);
        }
    }
}

static void (*after_waking)(void);

void
lc_call_after_waking(void (*call)(void))
{
    after_waking = call;
}

void
lc_finish(lc_table *table, lc_woken *woken)
{
    settle(table, woken);
    lc_wake_deadlocked(table, woken);
    lc_request *request = woken->first, *called = woken->called;
    bool has_woken = request != NULL || called != NULL;
    lc_mutex_unlock(&table->wait_mutex);
    LC_SYNC("before-wake");
    while (request != NULL) {
        lc_request *next = request->waiter->next_woken;
        request->waiter->wake(request);
        request = next;
    }
    while (called != NULL) {
        lc_request *next = called->waiter->next_called;
        /* Release: from here on it may be in another list. */
        atomic_store_explicit(&called->waiter->is_called, false, memory_order_release);
        called->waiter->wake(called);
        called = next;
    }
    if (has_woken && after_waking != NULL) {
        after_waking();
    }
}

/* ---- the slow paths -------------------------------------------------------- */

/* Marks where the newcomer is blocked. Returns: whether it is blocked nowhere. */
static bool
is_free(lc_array *array, lc_request *request)
{
    bool is_free = true;
    for (uint32_t i = 0; i < request->n_links; i++) {
        lc_link *link = &request->links[i];
        lc_link **where = lc_find(lc_bucket_of(array, link->key.hash), &link->key);
        link->is_blocked = is_blocked(where, link, UINT64_MAX);
        is_free &= !link->is_blocked;
    }
    return is_free;
}

static lc_status
start_waiting(lc_table *table, lc_array *array, lc_request *request, lc_waiter *waiter)
{
    request->waiter = waiter;
    waiter->arrival = waiter->changed = ++table->arrivals;
    waiter->must_look = waiter->is_victim = waiter->is_candidate = false;
    waiter->is_next = true;
    atomic_init(&waiter->is_called, false);
    waiter->visit = 0;
    request->since = lc_now();
    atomic_store_explicit(&request->references, 2, memory_order_relaxed);
    atomic_store_explicit(&request->state, LC_WAITING, memory_order_release);
    for (uint32_t i = 0; i < request->n_links; i++) {
        lc_link *link = &request->links[i];
        link->is_open = false;
        if (link->is_blocked) {
            lc_enqueue(lc_find(lc_bucket_of(array, link->key.hash), &link->key), link);
            waiter->is_next &= link->next == link;
        }
    }
    add_waiting(table, request);
    table->statistics.waits++;
    return LC_QUEUED;
}

static lc_status
acquire_or_wait(lc_table *table, lc_request *request, lc_waiter *waiter, lc_rows *blockers)
{
    if (lc_table_is_closed(table)) {
        return LC_CLOSED;
    }
    lc_status status = LC_CONFLICT;
    lc_array *array = lc_lock_buckets(table, request);
    if (is_free(array, request)) {
        atomic_store_explicit(&request->references, 2, memory_order_relaxed);
        lc_grant(table, array, request, lc_now_coarse());
        status = LC_OK;
    } else if (waiter != NULL) {
        status = start_waiting(table, array, request, waiter);
    } else if (blockers != NULL && !lc_list_blockers(array, request, UINT64_MAX, blockers)) {
        status = LC_NO_MEMORY; /* no room yet; the caller makes some */
    }
    lc_unlock_buckets(table, array, request);
    if (status == LC_OK) {
        lc_open_siblings(table, request);
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
        lc_status status = acquire_or_wait(table, request, waiter, blockers);
        lc_finish(table, &woken);
        if (status != LC_NO_MEMORY || lc_rows_make_room(blockers) != LC_OK) {
            return status;
        }
    }
}

/* Returns: whether it was held. */
static bool
withdraw_if_held(lc_table *table, lc_request *request)
{
    lc_array *array = lc_lock_buckets(table, request);
    bool is_held = atomic_load_explicit(&request->state, memory_order_relaxed) == LC_HELD;
    if (is_held) {
        lc_withdraw(table, array, request);
    }
    lc_unlock_buckets(table, array, request);
    if (is_held) {
        lc_siblings_must_look(table, request);
    }
    return is_held;
}

lc_status
lc_release_slow(lc_table *table, lc_request *request)
{
    lc_woken woken = {0};
    lc_mutex_lock(&table->wait_mutex);
    bool was_held = withdraw_if_held(table, request);
    if (was_held) {
        lc_open_keys(table, request);
    }
    lc_finish(table, &woken);
    return was_held ? LC_OK : LC_NOT_HELD;
}

size_t
lc_release_rows(lc_table *table, lc_rows *rows, bool of_owner)
{
    size_t n = 0, n_grants = 0;
    lc_woken woken = {0};
    lc_mutex_lock(&table->wait_mutex);
    for (size_t i = 0; i < rows->n; i++) {
        lc_row row = rows->rows[i];
        lc_request *request = row.request;
        /* Since it was listed it may have been transferred. */
        bool is_meant = !row.is_waiter && (!of_owner || lc_keys_match(request->owner, row.owner));
        if (is_meant && withdraw_if_held(table, request)) {
            rows->rows[i] = rows->rows[n];
            rows->rows[n++] = row;
            n_grants += !request->is_upgrade;
            /* The table's reference; the row has one. */
            atomic_fetch_sub_explicit(&request->references, 1, memory_order_acq_rel);
        }
    }
    /* Only now: who waits is tried in order of arrival, whichever grant was in the
     * way. */
    for (size_t i = 0; i < n; i++) {
        lc_open_keys(table, rows->rows[i].request);
    }
    lc_finish(table, &woken);
    lc_resize_if_due(table);
    return n_grants;
}

void
lc_stop_waiting(lc_table *table, lc_request *request, lc_state state)
{
    lc_array *array = lc_lock_buckets(table, request);
    leave_queues(table, array, request, lc_now());
    atomic_store_explicit(&request->state, state, memory_order_release);
    lc_unlock_buckets(table, array, request);
    /* The table's reference; whoever waits has its own. */
    atomic_fetch_sub_explicit(&request->references, 1, memory_order_acq_rel);
    lc_open_keys(table, request);
}

/* Lists who blocks the request, opening the wait mutex to make room if need be.
 * Returns: false when it stopped waiting meanwhile, or memory ran out. */
static bool
list_blockers(lc_table *table, lc_request *request, lc_rows *blockers)
{
    for (;;) {
        lc_array *array = lc_lock_buckets(table, request);
        bool fits = lc_list_blockers(array, request, request->waiter->arrival, blockers);
        lc_unlock_buckets(table, array, request);
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
        lc_stop_waiting(table, request, LC_ENDED);
        table->statistics.timeouts += timed_out;
    }
    lc_finish(table, &woken);
    if (state == LC_WAITING) {
        return is_listed ? LC_CONFLICT : LC_NO_MEMORY;
    }
    return state == LC_SHUT_OUT ? LC_CLOSED : LC_OK;
}

void
lc_end_waits(lc_table *table, lc_state state, lc_woken *woken)
{
    for (unsigned i = 0; i < LC_OWNER_LISTS; i++) {
        for (lc_request *request; (request = table->waiting[i]) != NULL;) {
            lc_array *array = lc_lock_buckets(table, request);
            leave_queues(table, array, request, lc_now());
            atomic_store_explicit(&request->state, state, memory_order_release);
            lc_unlock_buckets(table, array, request);
            lc_add_woken(table, woken, request);
            atomic_fetch_sub_explicit(&request->references, 1, memory_order_acq_rel);
        }
    }
}

void
lc_table_close(lc_table *table)
{
    lc_woken woken = {0};
    lc_mutex_lock(&table->wait_mutex);
    atomic_store_explicit(&table->closed, true, memory_order_release);
    lc_end_waits(table, LC_SHUT_OUT, &woken);
    lc_finish(table, &woken);
}
