/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lease engine on the core thread.
 *
 * Everything that other threads have to say comes through two queues: renewals
 * (bounded), and events in the order in which they happened: leases that came
 * and went with a batch precede the outcome of the proposals in it, and both
 * precede what raft then says of its leader.
 *
 * Lock: held by the core thread around each call of the engine, and by others
 * only to look. The engine calls nobody but raft from within; renewals are
 * completed after it is released.
 */
#include "server/leases.h"

#include <pthread.h>
#include <string.h>

#include "api/mr_api.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/queue.h"

#define RENEWALS_MAX 20000
#define PEERS_MAX 32
#define ALONE 1 /* The ID and term of one without raft. */
#define CLOCK mr_clock_system()

enum event_kind { EVENT_CHANGED, EVENT_RESET, EVENT_PROPOSED, EVENT_CONFIRMED };

/* Something another thread tells. */
struct event {
    struct mr_list link;
    enum event_kind kind;
    enum mr_err err;
    uint64_t id; /* Ticket or term. */
    size_t n;
    struct mr_kv_lease_change changes[];
};

/* Our LeaseEnd on its way. */
struct ending {
    struct mr_write write;
    struct server_leases *leases;
    struct event *event; /* For its outcome. */
    struct mr_buf cmd;
};

struct confirmation {
    struct mr_raft_read read;
    struct server_leases *leases;
    struct event *event;
};

struct server_leases {
    struct server_leases_options options;
    struct mr_raft *raft; /* NULL: alone. */
    uv_async_t wakeup;
    uv_timer_t timer;
    bool is_started;
    struct mr_queue renewals; /* struct mr_lease_renewal */
    struct mr_queue events;
    pthread_mutex_t lock;
    struct mr_leases *engine; /* NULL once stopped. Guarded by lock. */
};

static uint64_t now_ms(void)
{
    return mr_now_ms(CLOCK);
}

static void lock(struct server_leases *s)
{
    (void)pthread_mutex_lock(&s->lock); /* Never fails. */
}

static void unlock(struct server_leases *s)
{
    (void)pthread_mutex_unlock(&s->lock);
}

static void no_memory(struct server_leases *s)
{
    s->options.on_fatal(s->options.arg, MR_E_NOMEM,
                        "out of memory for the leases");
}

/* ---- events ---- */

static struct event *new_event(struct server_leases *s, enum event_kind kind,
                               size_t n)
{
    struct event *e = mr_calloc(1, sizeof *e + n * sizeof e->changes[0]);

    if (e == NULL) {
        no_memory(s);
        return NULL;
    }
    e->kind = kind;
    e->n = n;
    return e;
}

/* Takes @e, which may be NULL. Any thread. */
static void tell(struct server_leases *s, struct event *e)
{
    if (e != NULL && mr_queue_push(&s->events, &e->link) != MR_OK) {
        mr_free(e); /* Stopped. */
    }
}

void server_leases_changed(struct server_leases *leases,
                           const struct mr_kv_lease_change *changes, size_t n)
{
    struct event *e = new_event(leases, EVENT_CHANGED, n);

    if (e != NULL) {
        memcpy(e->changes, changes, n * sizeof *changes);
        tell(leases, e);
    }
}

void server_leases_reset(struct server_leases *leases)
{
    tell(leases, new_event(leases, EVENT_RESET, 0));
}

static void handle(struct server_leases *s, const struct event *e)
{
    switch (e->kind) {
    case EVENT_CHANGED:
        if (mr_leases_change(s->engine, e->changes, e->n, now_ms()) != MR_OK) {
            no_memory(s);
        }
        break;
    case EVENT_RESET:
        mr_leases_reset(s->engine, now_ms());
        break;
    case EVENT_PROPOSED:
        mr_leases_proposed(s->engine, e->id, e->err, now_ms());
        break;
    case EVENT_CONFIRMED:
        mr_leases_confirmed(s->engine, e->id, e->err, now_ms());
        break;
    }
}

/* With the lock. */
static void handle_events(struct server_leases *s)
{
    struct mr_list list;
    struct mr_list *link;

    (void)mr_queue_take(&s->events, &list);
    while ((link = mr_list_pop(&list)) != NULL) {
        struct event *e = mr_container_of(link, struct event, link);

        handle(s, e);
        mr_free(e);
    }
}

static void handle_renewals(struct server_leases *s)
{
    struct mr_list list;
    struct mr_list *link;

    (void)mr_queue_take(&s->renewals, &list);
    while ((link = mr_list_pop(&list)) != NULL) {
        mr_leases_renew(s->engine,
                        mr_container_of(link, struct mr_lease_renewal, link),
                        now_ms());
    }
}

/* ---- what the engine wants ---- */

static void on_send(void *arg, uint64_t to, struct mr_slice msg)
{
    struct server_leases *s = arg;

    if (s->raft != NULL) {
        (void)!mr_raft_send(s->raft, to, msg); /* May be lost. */
    }
}

/* Apply thread or core thread. */
static void on_ended(struct mr_raft_proposal *proposal, enum mr_err err)
{
    struct ending *e = mr_container_of(proposal, struct ending, write.proposal);

    e->event->err = err;
    tell(e->leases, e->event);
    mr_buf_deinit(&e->cmd);
    mr_free(e);
}

static void put_varint(struct mr_buf *out, uint64_t n)
{
    while (n >= 0x80) {
        mr_buf_byte(out, (uint8_t)(n | 0x80));
        n >>= 7;
    }
    mr_buf_byte(out, (uint8_t)n);
}

/* Command.time_ms (7) and Command.by (8), which an engine without a clock on the
 * wall cannot know: fields may follow in an encoded message. */
static void stamp(const struct server_leases *s, struct mr_buf *out)
{
    static const char role[] = "leader ";

    mr_buf_byte(out, 7 << 3);
    put_varint(out, CLOCK->wall_ms(CLOCK));
    mr_buf_byte(out, 8 << 3 | 2);
    put_varint(out, sizeof role - 1 + strlen(s->options.node_name));
    mr_buf_str(out, role);
    mr_buf_str(out, s->options.node_name);
}

static enum mr_err on_propose(void *arg, uint64_t term, struct mr_slice cmd,
                              uint64_t ticket)
{
    struct server_leases *s = arg;
    struct ending *e = mr_calloc(1, sizeof *e);
    enum mr_err err = MR_E_NOMEM;

    if (e == NULL) {
        return err;
    }
    e->leases = s;
    e->event = new_event(s, EVENT_PROPOSED, 0);
    mr_buf_init(&e->cmd, MR_RAFT_COMMAND_MAX);
    mr_buf_add(&e->cmd, cmd.data, cmd.len);
    stamp(s, &e->cmd);
    if (e->event != NULL && !mr_buf_failed(&e->cmd)) {
        e->event->id = ticket;
        e->write.proposal.cmd = mr_buf_slice(&e->cmd);
        e->write.proposal.done = on_ended;
        e->write.proposal.only_term = s->raft == NULL ? 0 : term;
        err = s->options.propose(s->options.arg, &e->write.proposal);
    }
    if (err != MR_OK) {
        mr_free(e->event);
        mr_buf_deinit(&e->cmd);
        mr_free(e);
    }
    return err;
}

/* Any of raft's threads. */
static void on_read(struct mr_raft_read *read, enum mr_err err)
{
    struct confirmation *c = mr_container_of(read, struct confirmation, read);

    c->event->err = err;
    tell(c->leases, c->event);
    mr_free(c);
}

static void on_confirm(void *arg, uint64_t term)
{
    struct server_leases *s = arg;
    struct event *e = new_event(s, EVENT_CONFIRMED, 0);
    struct confirmation *c = mr_calloc(1, sizeof *c);
    enum mr_err err = MR_OK;

    if (e == NULL) {
        mr_free(c);
        return;
    }
    e->id = term;
    if (c != NULL && s->raft != NULL) {
        *c = (struct confirmation){.leases = s, .event = e};
        c->read.mode = MR_RAFT_READ_CONSISTENT;
        c->read.done = on_read;
        err = mr_raft_read(s->raft, &c->read);
        if (err == MR_OK) {
            return;
        }
    }
    e->err = c == NULL ? MR_E_NOMEM : err;
    mr_free(c);
    tell(s, e);
}

/* ---- turns ---- */

static void on_timer(uv_timer_t *timer);

/* Hand over what waits, do what is due, complete what is answered. */
static void run(struct server_leases *s)
{
    struct mr_lease_renewal *renewal;
    struct mr_list finished;
    struct mr_list *link;
    uint64_t wait;

    mr_list_init(&finished);
    lock(s);
    handle_events(s);
    handle_renewals(s);
    wait = mr_leases_tick(s->engine, now_ms());
    while ((renewal = mr_leases_finished(s->engine)) != NULL) {
        mr_list_push(&finished, &renewal->link);
    }
    unlock(s);
    (void)uv_timer_start(&s->timer, on_timer, wait, 0); /* Never fails. */
    while ((link = mr_list_pop(&finished)) != NULL) {
        renewal = mr_container_of(link, struct mr_lease_renewal, link);
        renewal->done(renewal, renewal->err);
    }
}

static void on_timer(uv_timer_t *timer)
{
    run(mr_container_of(timer, struct server_leases, timer));
}

static void on_wakeup(uv_async_t *async)
{
    struct server_leases *s =
        mr_container_of(async, struct server_leases, wakeup);

    if (s->is_started) {
        run(s);
    }
}

static void wake(void *arg)
{
    struct server_leases *s = arg;

    (void)uv_async_send(&s->wakeup); /* Fails on a closing handle only. */
}

/* ---- raft ---- */

static void set_role(struct server_leases *s)
{
    struct mr_raft_peer peers[PEERS_MAX];
    uint64_t voters[PEERS_MAX] = {ALONE};
    struct mr_raft_status status;
    struct mr_leases_role role = {.self = ALONE,
                                  .leader = ALONE,
                                  .term = ALONE,
                                  .is_ready = true,
                                  .voters = voters,
                                  .n_voters = 1,
                                  .name = s->options.node_name};

    if (s->raft != NULL) {
        size_t n = mr_raft_peers(s->raft, peers, PEERS_MAX);

        mr_raft_status(s->raft, &status);
        role.self = status.id;
        role.leader = status.has_leader ? status.leader_id : 0;
        role.term = status.term;
        role.is_ready = status.is_ready;
        role.n_voters = 0;
        for (size_t i = 0; i < n && i < PEERS_MAX; i++) {
            if (peers[i].is_voter) {
                voters[role.n_voters++] = peers[i].id;
            }
        }
    }
    mr_leases_set_role(s->engine, &role, now_ms());
}

/* Events first: what raft has applied when it says so must be known. */
void server_leases_look(struct server_leases *leases)
{
    if (!leases->is_started) {
        return;
    }
    lock(leases);
    handle_events(leases);
    set_role(leases);
    unlock(leases);
    run(leases);
}

void server_leases_message(struct server_leases *leases, uint64_t from,
                           struct mr_slice msg)
{
    if (!leases->is_started) {
        return;
    }
    lock(leases);
    handle_events(leases);
    mr_leases_receive(leases->engine, from, msg, now_ms());
    unlock(leases);
    run(leases);
}

/* ---- any thread ---- */

enum mr_err server_leases_renew(struct server_leases *leases,
                                struct mr_lease_renewal *renewal)
{
    return mr_queue_push(&leases->renewals, &renewal->link);
}

bool server_leases_age(struct server_leases *leases, uint64_t id,
                       struct mr_lease_age *out_age)
{
    bool is_known;

    lock(leases);
    is_known = leases->engine != NULL &&
               mr_leases_age(leases->engine, id, now_ms(), out_age);
    unlock(leases);
    return is_known;
}

void server_leases_stats(struct server_leases *leases,
                         struct mr_leases_stats *out_stats)
{
    *out_stats = (struct mr_leases_stats){0};
    lock(leases);
    if (leases->engine != NULL) {
        mr_leases_stats(leases->engine, out_stats);
    }
    unlock(leases);
}

/* ---- life ---- */

enum mr_err server_leases_new(const struct server_leases_options *options,
                              struct server_leases **out)
{
    struct server_leases *s = mr_calloc(1, sizeof *s);
    struct mr_leases_io io = {.arg = s,
                              .instance = mr_random_u64(mr_random_system()),
                              .send = on_send,
                              .propose = on_propose,
                              .confirm = on_confirm};

    if (s == NULL) {
        return MR_E_NOMEM;
    }
    s->options = *options;
    s->engine = mr_leases_new(&io, now_ms());
    if (s->engine == NULL ||
        uv_async_init(options->loop, &s->wakeup, on_wakeup) != 0) {
        mr_leases_free(s->engine);
        mr_free(s);
        return MR_E_NOMEM;
    }
    (void)uv_timer_init(options->loop, &s->timer); /* Never fails. */
    mr_queue_init(&s->renewals, RENEWALS_MAX, wake, s);
    mr_queue_init(&s->events, 0, wake, s);
    (void)pthread_mutex_init(&s->lock, NULL); /* Never fails on Linux. */
    *out = s;
    return MR_OK;
}

struct loading {
    struct server_leases *leases;
    enum mr_err err;
};

static bool load_one(void *arg, const Mr__Lease *lease)
{
    struct loading *l = arg;
    struct mr_kv_lease_change change = {.id = lease->id,
                                        .ttl_ms = lease->ttl_ms,
                                        .is_new = true,
                                        .place = mr_kv_lease_place(lease)};

    l->err = mr_leases_change(l->leases->engine, &change, 1, now_ms());
    return l->err == MR_OK;
}

enum mr_err server_leases_load(struct server_leases *leases, struct mr_kv *kv)
{
    struct loading l = {leases, MR_OK};
    struct mr_kv_view *view;
    enum mr_err err = mr_kv_view_begin(kv, &view);

    if (err != MR_OK) {
        return err;
    }
    err = mr_kv_lease_list(view, load_one, &l);
    mr_kv_view_end(view);
    return err != MR_OK ? err : l.err;
}

void server_leases_start(struct server_leases *leases, struct mr_raft *raft)
{
    leases->raft = raft;
    leases->is_started = true;
    server_leases_look(leases);
}

void server_leases_stop(struct server_leases *leases)
{
    struct mr_leases *engine;
    struct mr_list list;
    struct mr_list *link;

    if (leases == NULL) {
        return;
    }
    leases->is_started = false;
    mr_queue_close(&leases->renewals);
    mr_queue_close(&leases->events);
    lock(leases);
    handle_renewals(leases);
    engine = leases->engine;
    leases->engine = NULL;
    unlock(leases);
    mr_leases_free(engine);
    (void)mr_queue_take(&leases->events, &list);
    while ((link = mr_list_pop(&list)) != NULL) {
        mr_free(mr_container_of(link, struct event, link));
    }
    uv_close((uv_handle_t *)&leases->wakeup, NULL);
    uv_close((uv_handle_t *)&leases->timer, NULL);
}

void server_leases_free(struct server_leases *leases)
{
    if (leases == NULL) {
        return;
    }
    mr_queue_deinit(&leases->renewals);
    mr_queue_deinit(&leases->events);
    (void)pthread_mutex_destroy(&leases->lock);
    mr_free(leases);
}
