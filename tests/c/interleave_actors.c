/* What the actors of interleave do. */
#include "interleave.h"

/* Without modes: what the slot has, exclusive. */
static void
shadow_take(int slot, const uint8_t *modes)
{
    for (int key = 0; now.has_shadow && key < MAX_SCRIPT_KEYS; key++) {
        uint8_t mode = modes != NULL ? modes[key] : now.shadow[slot][key] ? EXCLUSIVE : ABSENT;
        for (int other = 0; other < MAX_SLOTS; other++) {
            if (mode != ABSENT && now.shadow[other][key] != ABSENT
                && now.shadow_owner[other] != now.shadow_owner[slot]
                && (mode == EXCLUSIVE || now.shadow[other][key] == EXCLUSIVE)) {
                explorer_fail("two hold in conflict");
            }
        }
        now.shadow[slot][key] = mode;
    }
}

static void
shadow_give(int slot, bool all)
{
    for (int key = 0; key < MAX_SCRIPT_KEYS; key++) {
        now.shadow[slot][key] = all || now.shadow[slot][key] == ABSENT ? ABSENT : SHARED;
    }
}

lc_name
key_name(int key)
{
    return (lc_name){.id = &script_key_names[key],
                     .id_size = 1,
                     .id_kind = LC_STR1,
                     .hash = (uint64_t)(key / 2 + 1) << 60 | (uint64_t)(MAX_SCRIPT_KEYS - key)};
}

/* ---- actors ---------------------------------------------------------------- */

static void
wake(lc_request *request)
{
    fibers_wake((int)(intptr_t)request->waiter->parker);
    REQUIRE(!lc_request_drop(request));
}

static void
dispose(lc_request *request)
{
    (void)request;
    explorer_fail("a request lost our reference");
}

/* As a thread would that parks. Returns: LC_OK, or why it is not granted. */
static lc_status
park(lc_request *request, bool may_time_out)
{
    lc_status status = LC_QUEUED;
    bool has_looked = false;
    now.n_waits++;
    while (status == LC_QUEUED) {
        enum event event = fibers_park(!has_looked, may_time_out);
        if (lc_request_state(request) == LC_HELD) {
            return LC_OK;
        }
        if (event == TIMES_OUT) {
            lc_rows blockers = {0};
            status = lc_cancel(now.table, request, true, &blockers);
            REQUIRE((blockers.n > 0) == (status == LC_CONFLICT));
            lc_rows_clear(&blockers, dispose);
            now.n_timeouts += status == LC_CONFLICT;
        } else {
            lc_rows cycle = {0};
            has_looked = true;
            status = lc_break_deadlock(now.table, request, &cycle);
            REQUIRE(status != LC_DEADLOCK || (now.may_deadlock && cycle.n >= 2));
            lc_rows_clear(&cycle, dispose);
            now.n_deadlocks += status == LC_DEADLOCK;
        }
    }
    return status;
}

static lc_status
acquire(lc_request *request, uint8_t verb)
{
    if (verb == TRY) {
        return lc_try_acquire(now.table, request);
    }
    REQUIRE(now.n_waiters < MAX_WAITERS);
    lc_waiter *waiter = &now.waiters[now.n_waiters++];
    waiter->wake = wake;
    waiter->parker = (void *)(intptr_t)fibers_self();
    lc_status status = lc_acquire(now.table, request, waiter, NULL);
    return status == LC_QUEUED ? park(request, verb == HOPE || verb == HOPE_UP) : status;
}

static bool
upgrade(const op *op)
{
    lc_request *request = now.requests[op->slot];
    if (lc_begin_upgrade(now.table, request) != LC_OK) {
        return false;
    }
    now.makes_request[fibers_self()] = true;
    lc_request *more = now.upgrades[op->slot] = lc_request_upgrade(now.table, request, NULL);
    now.makes_request[fibers_self()] = false;
    lc_status status = more->n_links > 0 ? acquire(more, op->verb) : LC_CONFLICT;
    if (lc_end_upgrade(now.table, request, status == LC_OK ? more : NULL) == LC_OK) {
        shadow_take(op->slot, NULL);
        return true;
    }
    lc_release(now.table, more);
    return false;
}

static void
list(const op *op, bool releases)
{
    lc_rows rows = {0};
    for (int key = 0; key < MAX_SCRIPT_KEYS; key++) {
        if (op->modes[key] != ABSENT) {
            lc_name name = key_name(key);
            REQUIRE(lc_list_key(now.table, &name, &rows) == LC_OK);
            lc_rows_clear(&rows, dispose);
        }
    }
    if (releases) {
        REQUIRE(lc_list_holders(now.table, NULL, &rows) == LC_OK);
        lc_release_rows(now.table, &rows, false);
    }
    lc_rows_clear(&rows, dispose);
}

void
resize(bool grows)
{
    /* What the count of keys is, when there are so many. */
    atomic_store(&now.table->sampled_keys, grows ? 40 : 0);
    lc_resize(now.table);
    atomic_store(&now.table->sampled_keys, 0);
}

static bool
do_op(const op *op, uint8_t owner)
{
    lc_request *request = now.requests[op->slot];
    lc_name to = {.id = &op->to, .id_size = 1, .id_kind = LC_STR1, .hash = op->to};
    lc_rows blockers = {0};
    switch ((enum verb)op->verb) {
    case GET:
    case HOPE:
    case TRY:
        if (acquire(request, op->verb) != LC_OK) {
            return false;
        }
        now.shadow_owner[op->slot] = owner != 0 ? owner : -1 - op->slot;
        shadow_take(op->slot, op->modes);
        return true;
    case PUT:
        shadow_give(op->slot, true);
        lc_release(now.table, request);
        return true;
    case UP:
    case HOPE_UP:
        return upgrade(op);
    case DOWN:
        shadow_give(op->slot, false);
        lc_downgrade(now.table, request);
        return true;
    case GIVE:
        lc_transfer(now.table, request, op->to == 0 ? NULL : &to, &blockers);
        lc_rows_clear(&blockers, dispose);
        return true;
    case CLEAR:
        list(op, true);
        return true;
    case CLOSE:
        lc_table_close(now.table);
        return true;
    case LIST:
        list(op, false);
        return true;
    case GROW:
        resize(true);
        return true;
    default:
        resize(false);
        return true;
    }
}

void
run_actor(int number)
{
    const actor_script *actor = &now.script.actors[number];
    bool has_failed = false;
    for (int i = 0; i < actor->n_ops; i++) {
        const op *op = &actor->ops[i];
        if (i == actor->n_first) {
            fibers_ready();
        }
        if (!has_failed || op->verb == PUT) {
            has_failed |= !do_op(op, actor->owner);
        }
    }
}
