#include "world.h"

/* ---- names ----------------------------------------------------------------- */

/* All owners are in one list, and two keys in one bucket. */
static lc_name
owner_name(const uint8_t *owner)
{
    return (lc_name){.id = owner, .id_size = 1, .id_kind = LC_STR1, .hash = *owner * UINT64_C(64)};
}

static lc_name
key_name(int key)
{
    return (lc_name){.id = &script_key_names[key],
                     .id_size = 1,
                     .id_kind = LC_STR1,
                     .hash = (uint64_t)(key / 2 + 1) << 60 | (uint64_t)(MAX_SCRIPT_KEYS - key)};
}

static lc_request *
new_request(uint8_t owner, const uint8_t *modes)
{
    lc_name names[MAX_SCRIPT_KEYS], its = owner_name(&owner);
    uint32_t n = 0;
    for (int key = 0; key < MAX_SCRIPT_KEYS; key++) {
        if (modes[key] != ABSENT) {
            names[n] = key_name(key);
            names[n].position = n;
            names[n++].mode = modes[key] == EXCLUSIVE ? LC_EXCLUSIVE : LC_SHARED;
        }
    }
    return lc_request_new(names, &n, owner == 0 ? NULL : &its, NULL);
}

/* ---- requests -------------------------------------------------------------- */

static void
wake(lc_request *request)
{
    *(bool *)request->waiter->parker = true;
    REQUIRE(!lc_request_drop(request));
}

static void
dispose(lc_request *request)
{
    (void)request;
    explorer_fail("a request lost our reference");
}

static void
set_request(world *world, int number, lc_request *request)
{
    REQUIRE(request != NULL);
    world->requests[number] = request;
    request->payload = &world->requests[number];
}

static int
number_of(const world *world, const lc_request *request)
{
    return (int)((lc_request *const *)request->payload - world->requests);
}

/* Submits a request in both. Returns: the status. */
static int
submit(world *world, int number, bool may_wait)
{
    lc_request *request = world->requests[number];
    lc_waiter *waiter = NULL;
    if (may_wait) {
        waiter = calloc(1, sizeof(*waiter));
        REQUIRE(waiter != NULL);
        waiter->wake = wake;
        waiter->parker = &world->is_woken[number];
    }
    world->was_submitted[number] = true;
    int status = may_wait ? (int)lc_acquire(world->table, request, waiter, NULL)
                          : (int)lc_try_acquire(world->table, request);
    if (request->waiter != waiter) {
        free(waiter);
    }
    REQUIRE(rules_submit(&world->rules, number, may_wait) == status);
    return status;
}

static void
park(actor_state *actor, int number)
{
    actor->is_parked = true;
    actor->has_looked = false;
    actor->request = (uint8_t)number;
}

/* ---- operations ------------------------------------------------------------ */

static void
end_op(actor_state *actor)
{
    actor->phase = 0;
    actor->pc++;
}

static void
acquire(world *world, actor_state *actor, const actor_script *script, const op *op)
{
    int number = op->slot;
    if (world->requests[number] != NULL) {
        explorer_fail("a script that uses a number twice");
    }
    set_request(world, number, new_request(script->owner, op->modes));
    rules_request *rule = &world->rules.requests[number];
    rule->owner = script->owner != 0 ? script->owner : rules_new_owner(&world->rules);
    memcpy(rule->modes, op->modes, sizeof(rule->modes));
    int status = submit(world, number, op->verb != TRY);
    if (status == LC_QUEUED) {
        park(actor, number);
    } else {
        actor->has_failed |= status != LC_OK;
        end_op(actor);
    }
}

static void
upgrade(world *world, actor_state *actor, const op *op)
{
    int number = op->slot, more = number + MAX_SLOTS;
    lc_request *request = world->requests[number];
    if (request == NULL) {
        end_op(actor);
        return;
    }
    int status;
    switch (actor->phase++) {
    case 0:
        REQUIRE(world->requests[more] == NULL);
        status = (int)lc_begin_upgrade(world->table, request);
        REQUIRE(rules_begin_upgrade(&world->rules, number) == status);
        if (status != LC_OK) {
            end_op(actor);
        }
        break;
    case 1:
        set_request(world, more, lc_request_upgrade(world->table, request, NULL));
        rules_build_upgrade(&world->rules, number, more);
        if (world->requests[more]->n_links == 0) {
            actor->has_failed = true; /* nothing to upgrade: straight to the end */
            break;
        }
        status = submit(world, more, true);
        actor->has_failed |= status != LC_OK && status != LC_QUEUED;
        if (status == LC_QUEUED) {
            park(actor, more);
        }
        break;
    default:
        status = (int)lc_end_upgrade(world->table, request,
                                     actor->has_failed ? NULL : world->requests[more]);
        REQUIRE(rules_end_upgrade(&world->rules, number, more, !actor->has_failed) == status);
        if (status != LC_OK) {
            REQUIRE(rules_release(&world->rules, more)
                    == (int)lc_release(world->table, world->requests[more]));
        }
        end_op(actor);
    }
}

static void
clear(world *world, actor_state *actor)
{
    if (actor->phase == 0) {
        REQUIRE(lc_list_holders(world->table, NULL, &actor->rows) == LC_OK);
        actor->listed = 0;
        for (size_t i = 0; i < actor->rows.n; i++) {
            actor->listed |= 1u << number_of(world, actor->rows.rows[i].request);
        }
        actor->phase = 1;
        return;
    }
    size_t n = lc_release_rows(world->table, &actor->rows, false);
    lc_rows_clear(&actor->rows, dispose);
    REQUIRE((size_t)rules_release_all(&world->rules, actor->listed) == n);
    end_op(actor);
}

static void
give(world *world, actor_state *actor, const op *op)
{
    lc_request *request = world->requests[op->slot];
    if (request != NULL) {
        lc_name owner = owner_name(&op->to);
        lc_rows blockers = {0};
        lc_status status =
            lc_transfer(world->table, request, op->to == 0 ? NULL : &owner, &blockers);
        REQUIRE((blockers.n > 0) == (status == LC_CONFLICT));
        lc_rows_clear(&blockers, dispose);
        int to = op->to != 0 ? op->to : rules_new_owner(&world->rules);
        REQUIRE(rules_transfer(&world->rules, op->slot, to) == (int)status);
    }
    end_op(actor);
}

static void
do_op(world *world, actor_state *actor, const actor_script *script, const op *op)
{
    lc_request *request = world->requests[op->slot];
    switch ((enum verb)op->verb) {
    case GET:
    case HOPE:
    case TRY:
        acquire(world, actor, script, op);
        return;
    case UP:
    case HOPE_UP:
        upgrade(world, actor, op);
        return;
    case CLEAR:
        clear(world, actor);
        return;
    case GIVE:
        give(world, actor, op);
        return;
    case PUT:
        if (request != NULL) {
            REQUIRE(rules_release(&world->rules, op->slot)
                    == (int)lc_release(world->table, request));
        }
        break;
    case DOWN:
        if (request != NULL) {
            REQUIRE(rules_downgrade(&world->rules, op->slot)
                    == (int)lc_downgrade(world->table, request));
        }
        break;
    case CLOSE:
        lc_table_close(world->table);
        rules_close(&world->rules);
        break;
    default:
        explorer_fail("a script with what the table alone cannot do");
    }
    end_op(actor);
}

/* ---- waiting --------------------------------------------------------------- */

static void
check_cycle(const world *world, int number, const lc_rows *cycle)
{
    const rules_request *all = world->rules.requests;
    REQUIRE(cycle->n >= 2 && cycle->n % 2 == 0);
    REQUIRE(number_of(world, cycle->rows[0].request) == number);
    for (size_t i = 0; i < cycle->n; i += 2) {
        const lc_row *waits = &cycle->rows[i], *blocks = &cycle->rows[i + 1];
        const lc_row *next = &cycle->rows[(i + 2) % cycle->n];
        REQUIRE(waits->is_waiter);
        REQUIRE(lc_keys_match(&waits->request->links[waits->link].key,
                              &blocks->request->links[blocks->link].key));
        REQUIRE(waits->mode == LC_EXCLUSIVE || blocks->mode == LC_EXCLUSIVE);
        int blocker = number_of(world, blocks->request);
        REQUIRE(all[number_of(world, waits->request)].owner != all[blocker].owner);
        REQUIRE(all[blocker].owner == all[number_of(world, next->request)].owner);
        REQUIRE(!blocks->is_waiter || blocks->request == next->request);
    }
}

static int
waits_for(const world *world, int actor)
{
    const actor_state *state = &world->actors[actor];
    return state->is_parked && lc_request_state(world->requests[state->request]) == LC_WAITING
        ? state->request
        : -1;
}

/* Where nobody shares an owner, an alarm can be judged without any notion of cycles: if
 * whoever does not wait gave all back, and so on, would the request be granted? */
static void
check_alarm(const world *world, int number)
{
    uint32_t owners = 0;
    for (int i = 0; i < world->script->n_actors; i++) {
        const actor_script *actor = &world->script->actors[i];
        uint32_t bit = actor->owner == 0 ? 0 : 1u << actor->owner;
        if (owners & bit) {
            return;
        }
        owners |= bit;
        for (int j = 0; j < actor->n_ops; j++) {
            if (actor->ops[j].verb == GIVE) {
                return;
            }
        }
    }
    rules rules = world->rules;
    for (bool changed = true; changed;) {
        changed = false;
        for (int i = 0; i < world->script->n_actors; i++) {
            const actor_state *actor = &world->actors[i];
            if (actor->is_parked && rules.requests[actor->request].state == R_WAITING) {
                continue;
            }
            for (int j = 0; j < world->script->actors[i].n_ops; j++) {
                const op *op = &world->script->actors[i].ops[j];
                if (op->verb <= TRY) {
                    changed |= rules_release(&rules, op->slot) == LC_OK;
                    changed |= rules_release(&rules, op->slot + MAX_SLOTS) == LC_OK;
                }
            }
        }
    }
    REQUIRE(rules.requests[number].state == R_WAITING);
}

static void
resume(world *world, actor_state *actor)
{
    lc_state state = lc_request_state(world->requests[actor->request]);
    world->is_woken[actor->request] = false;
    actor->is_parked = false;
    actor->has_failed |= state == LC_SHUT_OUT || state == LC_WAITING;
    if (actor->request < MAX_SLOTS) {
        end_op(actor);
    }
}

static void
look(world *world, actor_state *actor)
{
    int number = actor->request;
    lc_rows cycle = {0};
    world->is_woken[number] = false;
    actor->has_looked = true;
    lc_status status = lc_break_deadlock(world->table, world->requests[number], &cycle);
    if (status == LC_DEADLOCK) {
        world->deadlocks++;
        REQUIRE(rules_is_deadlocked(&world->rules, number));
        check_cycle(world, number, &cycle);
        check_alarm(world, number);
        REQUIRE(rules_cancel(&world->rules, number) == LC_CONFLICT);
        resume(world, actor);
        actor->has_failed = true;
    } else {
        REQUIRE(status == LC_QUEUED && cycle.n == 0);
    }
    lc_rows_clear(&cycle, dispose);
}

static void
time_out(world *world, actor_state *actor)
{
    lc_rows blockers = {0};
    lc_status status = lc_cancel(world->table, world->requests[actor->request], true, &blockers);
    REQUIRE((blockers.n > 0) == (status == LC_CONFLICT));
    lc_rows_clear(&blockers, dispose);
    REQUIRE(rules_cancel(&world->rules, actor->request) == (int)status);
    world->timeouts += status == LC_CONFLICT;
    resume(world, actor);
    actor->has_failed |= status != LC_OK;
}

/* ---- steps ----------------------------------------------------------------- */

/* An actor whose request failed goes on with what it must give back. */
static void
skip_what_failed(actor_state *actor, const actor_script *script)
{
    while (actor->has_failed && actor->phase == 0 && !actor->is_parked && actor->pc < script->n_ops
           && script->ops[actor->pc].verb != PUT) {
        actor->pc++;
    }
}

int
world_options(const world *world, step *options)
{
    int n = 0;
    for (uint8_t i = 0; i < world->script->n_actors; i++) {
        const actor_state *actor = &world->actors[i];
        const actor_script *script = &world->script->actors[i];
        bool waits = waits_for(world, i) >= 0;
        if (actor->is_parked ? !waits : actor->pc < script->n_ops) {
            options[n++] = (step){i, STEP};
        }
        if (waits && (world->is_woken[actor->request] || !actor->has_looked)) {
            options[n++] = (step){i, LOOK};
        }
        uint8_t verb = script->ops[actor->pc].verb;
        if (actor->is_parked && (verb == HOPE || verb == HOPE_UP)) {
            options[n++] = (step){i, TIME_OUT};
        }
    }
    return n;
}

void
world_step(world *world, step step)
{
    actor_state *actor = &world->actors[step.actor];
    const actor_script *script = &world->script->actors[step.actor];
    if (step.kind == LOOK) {
        look(world, actor);
    } else if (step.kind == TIME_OUT) {
        time_out(world, actor);
    } else if (actor->is_parked) {
        resume(world, actor);
    } else {
        do_op(world, actor, script, &script->ops[actor->pc]);
    }
    skip_what_failed(actor, script);
}
