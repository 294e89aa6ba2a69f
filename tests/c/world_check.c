/* Beginning, checking, ending and fingerprints of a world. */
#include "world.h"

static const uint8_t states[] = {[LC_NEW] = R_NEW,
                                 [LC_WAITING] = R_WAITING,
                                 [LC_HELD] = R_HELD,
                                 [LC_ENDED] = R_ENDED,
                                 [LC_SHUT_OUT] = R_SHUT_OUT};

void
world_begin(world *world, const script *script)
{
    lc_table *table = world->table;
    memset(world, 0, sizeof(*world));
    world->script = script;
    world->table = table != NULL ? table : lc_table_new();
    REQUIRE(world->table != NULL);
    /* Alone we may say that the table is guarded or that it is not: whatever comes is the same. */
    (lc_is_guarded(world->table) ? lc_table_unguard : lc_table_guard)(world->table);
}

void
world_end(world *world)
{
    for (int i = 0; i < RULES_REQUESTS; i++) {
        if (world->requests[i] != NULL) {
            lc_cancel(world->table, world->requests[i], false, NULL);
        }
    }
    for (int i = 0; i < MAX_ACTORS; i++) {
        lc_rows_clear(&world->actors[i].rows, NULL);
    }
    for (int i = 0; i < RULES_REQUESTS; i++) {
        if (world->requests[i] != NULL) {
            lc_release(world->table, world->requests[i]);
            REQUIRE(lc_request_drop(world->requests[i]));
            lc_request_free(world->requests[i], NULL);
        }
    }
    /* An empty table is as good as a new one. */
    if (world->rules.is_closed) {
        REQUIRE(lc_table_free(world->table) == NULL);
        world->table = NULL;
    }
}

/* ---- checks ---------------------------------------------------------------- */

static int
number_of(const world *world, const lc_request *request)
{
    return (int)((lc_request *const *)request->payload - world->requests);
}

static int
key_of(const lc_link *link)
{
    return (int)(strchr(script_key_names, link->key.bytes[0]) - script_key_names);
}

static const lc_link *
head_of(const world *world, int key)
{
    for (int i = 0; i < RULES_REQUESTS; i++) {
        for (uint32_t j = 0; world->requests[i] != NULL && j < world->requests[i]->n_links; j++) {
            const lc_link *link = &world->requests[i]->links[j];
            if (link->place != LC_NOWHERE && key_of(link) == key) {
                const lc_array *array = atomic_load(&world->table->array);
                lc_link **where = lc_find(lc_bucket_of(array, link->key.hash), &link->key);
                REQUIRE(where != NULL);
                return *where;
            }
        }
    }
    return NULL;
}

static void
check_request(const world *world, int number)
{
    const lc_request *request = world->requests[number];
    const rules_request *rule = &world->rules.requests[number];
    REQUIRE(states[lc_request_state(request)] == rule->state);
    bool is_blocked = false;
    for (uint32_t i = 0; i < request->n_links; i++) {
        const lc_link *link = &request->links[i];
        int key = key_of(link);
        bool is_queued = rule->queued >> key & 1;
        REQUIRE(link->place
                == (rule->state == R_HELD ? LC_HOLDING
                        : is_queued       ? LC_IN_QUEUE
                                          : LC_NOWHERE));
        REQUIRE(link->mode == (rule->modes[key] == EXCLUSIVE ? LC_EXCLUSIVE : LC_SHARED));
        is_blocked |= is_queued && rules_is_blocked(&world->rules, number, key);
    }
    /* No lost wake-up: who waits is blocked, where it is queued. */
    REQUIRE((rule->state == R_WAITING) == is_blocked);
}

static void
check_key(const world *world, int key)
{
    const lc_link *head = head_of(world, key);
    if (head == NULL) {
        return;
    }
    int holders = 0, waiters = 0, last = 0;
    if (head->place == LC_HOLDING) {
        for (const lc_link *link = head; link != NULL; link = link->next) {
            const rules_request *a = &world->rules.requests[number_of(world, lc_request_of(link))];
            holders++;
            for (const lc_link *other = link->next; other != NULL; other = other->next) {
                const rules_request *b =
                    &world->rules.requests[number_of(world, lc_request_of(other))];
                REQUIRE(a->owner == b->owner
                        || (link->mode == LC_SHARED && other->mode == LC_SHARED));
            }
        }
    }
    const lc_link *link = head->queue;
    if (link != NULL) {
        do {
            const rules_request *rule =
                &world->rules.requests[number_of(world, lc_request_of(link))];
            REQUIRE(rule->arrival > last);
            last = rule->arrival;
            waiters++;
            link = link->next;
        } while (link != head->queue);
    }
    for (int i = 0; i < RULES_REQUESTS; i++) {
        const rules_request *rule = &world->rules.requests[i];
        holders -= rule->state == R_HELD && rule->modes[key] != ABSENT;
        waiters -= rule->state == R_WAITING && (rule->queued >> key & 1);
    }
    REQUIRE(holders == 0 && waiters == 0);
}

void
world_check(const world *world)
{
    bool all_looked = true;
    for (int i = 0; i < RULES_REQUESTS; i++) {
        if (world->requests[i] != NULL && world->was_submitted[i]) {
            check_request(world, i);
        }
    }
    for (int key = 0; key < MAX_SCRIPT_KEYS; key++) {
        check_key(world, key);
    }
    for (int i = 0; i < world->script->n_actors; i++) {
        const actor_state *actor = &world->actors[i];
        if (!actor->is_parked) {
            continue;
        }
        if (lc_request_state(world->requests[actor->request]) == LC_WAITING) {
            all_looked &= actor->has_looked && !world->is_woken[actor->request];
        } else if (!world->is_woken[actor->request]) {
            explorer_fail("granted, or shut out, and not woken");
        }
    }
    for (int i = 0; all_looked && i < RULES_REQUESTS; i++) {
        if (rules_is_deadlocked(&world->rules, i)) {
            explorer_fail("a deadlock that nobody will look for any more");
        }
    }
}

/* Returns: whether the script gives a request away. Its actor may then wait for what it would
 * itself release, under another name: no cycle of owners, and nobody else's fault. */
static bool
gives(const script *script)
{
    for (int i = 0; i < script->n_actors; i++) {
        for (int j = 0; j < script->actors[i].n_ops; j++) {
            if (script->actors[i].ops[j].verb == GIVE) {
                return true;
            }
        }
    }
    return false;
}

void
world_check_end(const world *world)
{
    for (int i = 0; i < world->script->n_actors; i++) {
        if (world->actors[i].is_parked) {
            if (gives(world->script)) {
                return;
            }
            explorer_fail("an actor waits for ever");
        }
        REQUIRE(world->actors[i].pc == world->script->actors[i].n_ops);
    }
    for (int i = 0; i < RULES_REQUESTS; i++) {
        const lc_request *request = world->requests[i];
        if (request != NULL && lc_request_state(request) != LC_HELD) {
            REQUIRE(atomic_load(&request->references) == 1);
        }
    }
    REQUIRE(world->table->n_waiting == 0 && world->table->n_named_waiting == 0);
    REQUIRE(world->table->candidates == NULL && world->table->must_look == NULL);
}

/* ---- fingerprints ---------------------------------------------------------- */

typedef struct hasher {
    uint64_t hash;
} hasher;

static void
add(hasher *hasher, uint64_t value)
{
    uint64_t hash = (hasher->hash ^ value) * UINT64_C(0x9E3779B97F4A7C15);
    hasher->hash = hash ^ hash >> 29;
}

/* Numbers that only grow count for their order, not for their size. */
static unsigned
rank_of(const world *world, int number, bool by_change)
{
    unsigned rank = 1;
    const lc_waiter *mine = world->requests[number]->waiter;
    for (int i = 0; i < RULES_REQUESTS; i++) {
        if (world->requests[i] != NULL && lc_request_state(world->requests[i]) == LC_WAITING) {
            const lc_waiter *its = world->requests[i]->waiter;
            rank += by_change ? its->changed < mine->changed : its->arrival < mine->arrival;
        }
    }
    return rank;
}

static void
add_request(hasher *hasher, const world *world, int number)
{
    const lc_request *request = world->requests[number];
    if (request == NULL) {
        add(hasher, 1);
        return;
    }
    add(hasher,
        (uint64_t)lc_request_state(request) << 16 | (uint64_t)request->n_upgrades << 8
            | world->was_submitted[number] << 1 | world->is_woken[number]);
    for (uint32_t i = 0; i < request->n_links; i++) {
        add(hasher, (uint64_t)request->links[i].place << 8 | request->links[i].mode);
    }
    if (lc_request_state(request) == LC_HELD || lc_request_state(request) == LC_WAITING) {
        /* Whose it is: the first request of the same owner stands for it. */
        int same = 0;
        while (world->requests[same] == NULL || !lc_same_owner(world->requests[same], request)) {
            same++;
        }
        add(hasher, (uint64_t)same);
        bool is_named = request->owner != NULL && request->owner->shape != LC_UNIQUE;
        add(hasher, is_named ? request->owner->bytes[0] : request->owner != NULL);
    }
    if (lc_request_state(request) == LC_WAITING) {
        add(hasher,
            (uint64_t)rank_of(world, number, false) << 16
                | (uint64_t)rank_of(world, number, true) << 8 | request->waiter->is_victim);
    }
}

uint64_t
world_fingerprint(const world *world)
{
    hasher hasher = {lc_table_is_closed(world->table)};
    for (int i = 0; i < RULES_REQUESTS; i++) {
        add_request(&hasher, world, i);
    }
    for (int key = 0; key < MAX_SCRIPT_KEYS; key++) {
        const lc_link *head = head_of(world, key);
        add(&hasher, 0xFF);
        for (const lc_link *link = head != NULL && head->place == LC_HOLDING ? head : NULL;
             link != NULL; link = link->next) {
            add(&hasher, (uint64_t)number_of(world, lc_request_of(link)));
        }
    }
    for (unsigned i = 0; i < LC_OWNER_LISTS; i++) {
        for (const lc_request *request = world->table->waiting[i]; request != NULL;
             request = request->waiter->next) {
            add(&hasher, (uint64_t)number_of(world, request));
        }
    }
    for (int i = 0; i < world->script->n_actors; i++) {
        const actor_state *actor = &world->actors[i];
        add(&hasher,
            (uint64_t)actor->pc << 32 | (uint64_t)actor->phase << 24
                | (uint64_t)actor->request << 16 | actor->is_parked << 2 | actor->has_failed << 1
                | actor->has_looked);
        add(&hasher, actor->listed);
    }
    return hasher.hash;
}
