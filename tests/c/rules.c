#include "rules.h"

#include <limits.h>
#include <string.h>

#include "lock_table.h"

typedef rules_request request_t;

/* ---- the rules ------------------------------------------------------------- */

static bool
conflict(const request_t *a, const request_t *b, int key)
{
    return a->modes[key] != ABSENT && b->modes[key] != ABSENT
        && (a->modes[key] == EXCLUSIVE || b->modes[key] == EXCLUSIVE);
}

static int
arrival(const request_t *request)
{
    return request->arrival == 0 ? INT_MAX : request->arrival;
}

static bool
blocks_hard(const request_t *holder, const request_t *request, int key)
{
    return holder->state == R_HELD && holder->owner != request->owner
        && conflict(holder, request, key);
}

static bool
owner_holds(const rules *rules, const request_t *request, int key)
{
    for (int i = 0; i < RULES_REQUESTS; i++) {
        const request_t *other = &rules->requests[i];
        if (other->state == R_HELD && other->owner == request->owner
            && other->modes[key] != ABSENT) {
            return true;
        }
    }
    return false;
}

static bool
blocks_softly(const rules *rules, const request_t *waiter, const request_t *request, int key)
{
    return waiter->state == R_WAITING && (waiter->queued >> key & 1)
        && waiter->arrival < arrival(request) && waiter->owner != request->owner
        && conflict(waiter, request, key) && !owner_holds(rules, request, key);
}

bool
rules_is_blocked(const rules *rules, int number, int key)
{
    const request_t *request = &rules->requests[number];
    for (int i = 0; i < RULES_REQUESTS; i++) {
        if (blocks_hard(&rules->requests[i], request, key)
            || blocks_softly(rules, &rules->requests[i], request, key)) {
            return true;
        }
    }
    return false;
}

static uint8_t
blocked_at(const rules *rules, int request)
{
    uint8_t keys = 0;
    for (int key = 0; key < MAX_SCRIPT_KEYS; key++) {
        keys |= (uint8_t)(rules_is_blocked(rules, request, key) << key);
    }
    return keys;
}

static uint8_t
keys_of(const request_t *request)
{
    uint8_t keys = 0;
    for (int key = 0; key < MAX_SCRIPT_KEYS; key++) {
        keys |= (uint8_t)((request->modes[key] != ABSENT) << key);
    }
    return keys;
}

/* ---- granting -------------------------------------------------------------- */

static void
open_places_of_owner(const rules *rules, const request_t *granted, uint8_t *places)
{
    for (int i = 0; i < RULES_REQUESTS; i++) {
        const request_t *other = &rules->requests[i];
        if (other->state == R_WAITING && other->owner == granted->owner) {
            places[i] |= other->queued & keys_of(granted);
        }
    }
}

/* Tries waiters, given for each the places where something has changed. */
static void
try_waiters(rules *rules, uint8_t *places)
{
    for (;;) {
        int first = -1;
        for (int i = 0; i < RULES_REQUESTS; i++) {
            if (places[i] != 0
                && (first < 0 || rules->requests[i].arrival < rules->requests[first].arrival)) {
                first = i;
            }
        }
        if (first < 0) {
            return;
        }
        request_t *request = &rules->requests[first];
        uint8_t blocked = blocked_at(rules, first);
        bool is_opened = (places[first] & ~blocked) != 0;
        places[first] = 0;
        if (request->state != R_WAITING || !is_opened) {
            continue;
        }
        if (blocked != 0) {
            request->queued |= blocked;
        } else {
            request->state = R_HELD;
            request->queued = 0;
            open_places_of_owner(rules, request, places);
        }
    }
}

static void
reconsider(rules *rules, uint8_t keys)
{
    uint8_t places[RULES_REQUESTS] = {0};
    for (int i = 0; i < RULES_REQUESTS; i++) {
        if (rules->requests[i].state == R_WAITING) {
            places[i] = rules->requests[i].queued & keys;
        }
    }
    try_waiters(rules, places);
}

static void
reconsider_owner(rules *rules, const request_t *granted)
{
    uint8_t places[RULES_REQUESTS] = {0};
    open_places_of_owner(rules, granted, places);
    try_waiters(rules, places);
}

/* ---- operations ------------------------------------------------------------ */

int
rules_new_owner(rules *rules)
{
    return -++rules->uniques;
}

int
rules_submit(rules *rules, int number, bool may_wait)
{
    request_t *request = &rules->requests[number];
    if (rules->is_closed) {
        return LC_CLOSED;
    }
    request->arrival = 0;
    uint8_t blocked = blocked_at(rules, number);
    if (blocked == 0) {
        request->state = R_HELD;
        reconsider_owner(rules, request);
        return LC_OK;
    }
    if (!may_wait) {
        return LC_CONFLICT;
    }
    request->arrival = ++rules->arrivals;
    request->queued = blocked;
    request->state = R_WAITING;
    return LC_QUEUED;
}

int
rules_release(rules *rules, int number)
{
    request_t *request = &rules->requests[number];
    if (request->state != R_HELD) {
        return LC_NOT_HELD;
    }
    request->state = R_ENDED;
    reconsider(rules, keys_of(request));
    return LC_OK;
}

int
rules_cancel(rules *rules, int number)
{
    request_t *request = &rules->requests[number];
    if (request->state != R_WAITING) {
        return request->state == R_SHUT_OUT ? LC_CLOSED : LC_OK;
    }
    uint8_t places = request->queued;
    request->state = R_ENDED;
    request->queued = 0;
    reconsider(rules, places);
    return LC_CONFLICT;
}

int
rules_downgrade(rules *rules, int number)
{
    request_t *request = &rules->requests[number];
    if (request->state != R_HELD) {
        return LC_NOT_HELD;
    }
    for (int key = 0; key < MAX_SCRIPT_KEYS; key++) {
        if (request->modes[key] == EXCLUSIVE) {
            request->modes[key] = SHARED;
        }
    }
    reconsider(rules, keys_of(request));
    return LC_OK;
}

int
rules_transfer(rules *rules, int number, int owner)
{
    request_t *request = &rules->requests[number];
    if (request->state != R_HELD) {
        return LC_NOT_HELD;
    }
    if (request->n_upgrades > 0) {
        return LC_BUSY;
    }
    request_t as_new = *request;
    as_new.owner = owner;
    for (int i = 0; i < RULES_REQUESTS; i++) {
        for (int key = 0; i != number && key < MAX_SCRIPT_KEYS; key++) {
            if (blocks_hard(&rules->requests[i], &as_new, key)) {
                return LC_CONFLICT;
            }
        }
    }
    request->owner = owner;
    /* Its keys have lost a holder, and the new owner has gained one. */
    reconsider(rules, keys_of(request));
    return LC_OK;
}

int
rules_begin_upgrade(rules *rules, int number)
{
    request_t *request = &rules->requests[number];
    if (request->state != R_HELD) {
        return LC_NOT_HELD;
    }
    request->n_upgrades++;
    return LC_OK;
}

void
rules_build_upgrade(rules *rules, int number, int upgrade)
{
    request_t *request = &rules->requests[number], *more = &rules->requests[upgrade];
    memset(more, 0, sizeof(*more));
    more->owner = request->owner;
    for (int key = 0; key < MAX_SCRIPT_KEYS; key++) {
        more->modes[key] = request->modes[key] == SHARED ? EXCLUSIVE : ABSENT;
    }
}

int
rules_end_upgrade(rules *rules, int number, int upgrade, bool was_granted)
{
    request_t *request = &rules->requests[number], *more = &rules->requests[upgrade];
    request->n_upgrades--;
    if (!was_granted || request->state != R_HELD || more->state != R_HELD) {
        return LC_NOT_HELD;
    }
    for (int key = 0; key < MAX_SCRIPT_KEYS; key++) {
        if (more->modes[key] != ABSENT) {
            request->modes[key] = EXCLUSIVE;
        }
    }
    more->state = R_ENDED;
    return LC_OK;
}

int
rules_release_all(rules *rules, uint32_t requests)
{
    int n = 0;
    uint8_t keys = 0;
    for (int i = 0; i < RULES_REQUESTS; i++) {
        request_t *request = &rules->requests[i];
        if ((requests >> i & 1) && request->state == R_HELD) {
            request->state = R_ENDED;
            keys |= keys_of(request);
            n += i < MAX_SLOTS; /* an upgrade is part of its grant */
        }
    }
    reconsider(rules, keys);
    return n;
}

void
rules_close(rules *rules)
{
    rules->is_closed = true;
    for (int i = 0; i < RULES_REQUESTS; i++) {
        if (rules->requests[i].state == R_WAITING) {
            rules->requests[i].state = R_SHUT_OUT;
            rules->requests[i].queued = 0;
        }
    }
}

/* ---- deadlocks ------------------------------------------------------------- */

/* Visits all that the waiting request waits for. Returns: whether that is the origin. */
static bool
reaches(const rules *rules, int from, int origin, bool *visited)
{
    const request_t *request = &rules->requests[from], *first = &rules->requests[origin];
    visited[from] = true;
    for (int key = 0; key < MAX_SCRIPT_KEYS; key++) {
        for (int i = 0; (request->queued >> key & 1) && i < RULES_REQUESTS; i++) {
            const request_t *other = &rules->requests[i];
            if (blocks_softly(rules, other, request, key)
                && (i == origin || (!visited[i] && reaches(rules, i, origin, visited)))) {
                return true;
            }
            if (!blocks_hard(other, request, key)) {
                continue;
            }
            if (other->owner == first->owner) {
                return true;
            }
            for (int j = 0; j < RULES_REQUESTS; j++) {
                if (rules->requests[j].state == R_WAITING
                    && rules->requests[j].owner == other->owner && !visited[j]
                    && reaches(rules, j, origin, visited)) {
                    return true;
                }
            }
        }
    }
    return false;
}

bool
rules_is_deadlocked(const rules *rules, int request)
{
    bool visited[RULES_REQUESTS] = {false};
    return rules->requests[request].state == R_WAITING && reaches(rules, request, request, visited);
}
