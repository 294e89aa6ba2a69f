#include "actors.h"

static void
shut(gate *gate)
{
    pthread_mutex_init(&gate->mutex, NULL);
    pthread_cond_init(&gate->changed, NULL);
    gate->is_open = false;
}

static void
open_gate(gate *gate)
{
    pthread_mutex_lock(&gate->mutex);
    gate->is_open = true;
    pthread_cond_signal(&gate->changed);
    pthread_mutex_unlock(&gate->mutex);
}

static void
pass_gate(gate *gate)
{
    pthread_mutex_lock(&gate->mutex);
    while (!gate->is_open) {
        pthread_cond_wait(&gate->changed, &gate->mutex);
    }
    pthread_mutex_unlock(&gate->mutex);
}

static _Thread_local actor *self;

static void
stop_here(const char *point)
{
    if (self != NULL && self->point != NULL && strcmp(self->point, point) == 0) {
        self->point = NULL;
        open_gate(&self->stopped);
        pass_gate(&self->may_go);
    }
}

static void *
run_actor(void *argument)
{
    self = argument;
    self->call(self);
    atomic_store(&self->has_ended, true);
    open_gate(&self->stopped);
    return NULL;
}

void
start(actor *actor, void (*call)(struct actor *self), party *party, const char *point)
{
    lc_sync_hook = stop_here;
    actor->call = call;
    actor->party = party;
    actor->point = point;
    atomic_init(&actor->has_ended, false);
    shut(&actor->stopped);
    shut(&actor->may_go);
    CHECK(pthread_create(&actor->thread, NULL, run_actor, actor) == 0);
    if (point != NULL) {
        pass_gate(&actor->stopped);
        CHECK(!atomic_load(&actor->has_ended));
    }
}

void
let_go(actor *actor)
{
    open_gate(&actor->may_go);
}

lc_status
end_of(actor *actor)
{
    CHECK(pthread_join(actor->thread, NULL) == 0);
    return actor->status;
}

lc_status
go_on(actor *actor)
{
    let_go(actor);
    return end_of(actor);
}

void
do_submit(actor *self)
{
    submit(self->party);
    self->status = self->party->status;
}

void
do_release(actor *self)
{
    self->status = release(self->party);
}

void
do_cancel(actor *self)
{
    self->status = cancel(self->party);
}

void
do_time_out(actor *self)
{
    self->status = lc_cancel(table, self->party->request, true, self->rows);
}

void
do_transfer(actor *self)
{
    self->status = transfer(self->party, "new");
}

void
do_break_deadlock(actor *self)
{
    self->status = break_deadlock(self->party);
}

size_t
clear(void)
{
    lc_rows rows = {0};
    CHECK_INT(lc_list_holders(table, NULL, &rows), LC_OK);
    size_t n = lc_release_rows(table, &rows, false);
    lc_rows_clear(&rows, dispose);
    return n;
}
