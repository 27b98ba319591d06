/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How servers find each other and become a cluster.
 *
 * Finding:
 * - Every server dials its join addresses again and again; names are resolved
 *   each time. Handshakes and gossip carry the servers that each side knows,
 *   so one address that works is enough.
 * - Who is where is kept on disk. A server that starts under a new address
 *   dials the others, and its Hello tells them; they dial it there.
 *
 * Beginning, once, when bootstrap_expect servers know each other and none is
 * in a cluster:
 * 1. The one with the lowest ID chooses a random cluster ID and the exact set,
 *    stores that as a promise, and asks the others of the set for theirs.
 * 2. Each stores the promise and answers. A server in a cluster refuses.
 * 3. When all have promised, the proposer begins: it stores the cluster ID and
 *    writes the set as the log's first entry, and says so (gossip).
 * 4. Who has promised that cluster and hears that somebody is in it writes the
 *    same first entry. All logs begin alike, with one set, at term 1.
 *
 * Why that is safe, whoever stops where:
 * - Nobody begins before all of the set have promised on disk, and a server
 *   begins only what it promised last. So two clusters cannot both get all
 *   promises of sets that share the proposer of the first; and a promise to a
 *   proposer that is out of the new set is only replaced when that one is not
 *   there. The later set then needs the promises of all its servers, and one
 *   that has begun the first cluster refuses. A majority of a set therefore
 *   never begins two clusters.
 * - The proposer stops before 3: nothing has begun. It starts again and asks
 *   again, or another set without it is agreed upon.
 * - It stops in or after 3: it is in the cluster on disk and says so when it is
 *   back (it writes the first entry then if that is missing). The others wait
 *   for it, or had heard and began.
 * - A server loses its folder: its ID was born with the folder, so it comes
 *   back as somebody new. What the old ID promised, voted or acknowledged is
 *   never contradicted; it is simply dead. The new one asks to be added, and
 *   the leader first removes the dead one that it replaces (same node ID, or
 *   same name and address) from the configuration.
 *
 * Entering: when any connected server is in a cluster, and we promised another
 * or none, we store its ID and ask to be added, until we are.
 */
#include "raft/join_impl.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

#define TICK_MS 100
#define FORGET_MS 60000 /* Strangers that are gone. */
#define PROPOSE_MS 1000 /* Between asking the same again. */

static void decide(struct join *j);

static uint64_t now_of(const struct join *j)
{
    return mr_now_ms(j->options.clock);
}

/* ------------------------------------------------------------- directory */

static struct join_server *find(const struct join *j, uint64_t id)
{
    for (size_t i = 0; i < j->n_servers; i++) {
        if (j->servers[i].s.id == id) {
            return (struct join_server *)(uintptr_t)&j->servers[i];
        }
    }
    return NULL;
}

const struct join_server *join_find(const struct join *j, uint64_t id)
{
    return find(j, id);
}

static void store_servers(struct join *j)
{
    struct frame_server list[FRAME_SERVERS_MAX];
    size_t n = 0;

    for (size_t i = 0; i < j->n_servers; i++) {
        if (j->options.is_member(j->options.arg, j->servers[i].s.id)) {
            list[n++] = j->servers[i].s;
        }
    }
    j->options.store_servers(j->options.arg, list, n);
}

static void keep(struct join *j, const struct join_server *s)
{
    /* Beyond the transport's bound there is nobody we need. */
    if (transport_keep(j->options.transport, s->s.id, s->s.address) != MR_OK) {
        mr_log_debug("raft", "too many servers, not dialling \"%s\"",
                     s->s.address);
    }
}

static bool is_same(const struct frame_server *a, const struct frame_server *b)
{
    return a->id == b->id && strcmp(a->node_id, b->node_id) == 0 &&
           strcmp(a->name, b->name) == 0 && strcmp(a->address, b->address) == 0;
}

/* The entry of @s, made or brought up to date; NULL when there is no room. */
static struct join_server *learn(struct join *j, const struct frame_server *s,
                                 bool *out_changed)
{
    struct join_server *known = find(j, s->id);

    *out_changed = false;
    if (known == NULL) {
        if (j->n_servers == FRAME_SERVERS_MAX) {
            return NULL;
        }
        known = &j->servers[j->n_servers++];
        memset(known, 0, sizeof *known);
        *out_changed = true;
    } else if (is_same(&known->s, s)) {
        return known;
    } else {
        *out_changed = true;
    }
    known->s = *s;
    return known;
}

static void forget(struct join *j, size_t i)
{
    transport_drop(j->options.transport, j->servers[i].s.id);
    j->n_servers--;
    j->servers[i] = j->servers[j->n_servers];
    j->seen_ms[i] = j->seen_ms[j->n_servers];
}

/* Strangers that are gone for a while are forgotten. */
static void forget_strangers(struct join *j, uint64_t now)
{
    for (size_t i = j->n_servers; i-- > 0;) {
        const struct join_server *s = &j->servers[i];

        if (s->is_up || j->options.is_member(j->options.arg, s->s.id)) {
            j->seen_ms[i] = now;
        } else if (now - j->seen_ms[i] > FORGET_MS) {
            forget(j, i);
        }
    }
}

/* ------------------------------------------------------------- telling */

static size_t fill_known(const struct join *j, struct frame_server *out)
{
    size_t n = 0;

    for (size_t i = 0; i < j->n_servers; i++) {
        if (j->servers[i].is_up ||
            j->options.is_member(j->options.arg, j->servers[i].s.id)) {
            out[n++] = j->servers[i].s;
        }
    }
    return n;
}

void join_fill_hello(const struct join *j, struct frame_hello *out)
{
    out->cluster_id = j->cluster_id;
    out->self = j->options.self;
    out->expect = j->options.expect;
    out->n_known = fill_known(j, out->known);
}

static void send_gossip(struct join *j, uint64_t peer)
{
    struct mr_buf *out = transport_out(j->options.transport, peer);
    struct frame_gossip g;

    if (out == NULL) {
        return;
    }
    memset(&g, 0, sizeof g);
    g.cluster_id = j->cluster_id;
    g.expect = j->options.expect;
    g.n_known = fill_known(j, g.known);
    frame_put_gossip(out, &g);
}

static void gossip(struct join *j)
{
    for (size_t i = 0; i < j->n_servers; i++) {
        send_gossip(j, j->servers[i].s.id);
    }
}

/* Somebody told us of servers: look at those that we do not know. */
static void hear_of(struct join *j, const struct frame_server *known, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct join_server *s = find(j, known[i].id);

        if (known[i].id != j->options.self.id &&
            (s == NULL || !transport_is_up(j->options.transport, s->s.id))) {
            transport_probe(j->options.transport, known[i].address, "");
        }
    }
}

void join_hello(struct join *j, const struct frame_hello *hello)
{
    bool changed;
    struct join_server *s = learn(j, &hello->self, &changed);

    if (s == NULL) {
        return;
    }
    s->cluster_id = hello->cluster_id;
    s->expect = hello->expect;
    j->seen_ms[s - j->servers] = now_of(j);
    keep(j, s);
    if (changed && j->options.is_member(j->options.arg, s->s.id)) {
        store_servers(j);
    }
    hear_of(j, hello->known, hello->n_known);
}

void join_up(struct join *j, uint64_t peer)
{
    struct join_server *s = find(j, peer);

    if (s != NULL) {
        s->is_up = true;
        gossip(j);
        decide(j);
    }
}

void join_down(struct join *j, uint64_t peer)
{
    struct join_server *s = find(j, peer);

    if (s != NULL) {
        s->is_up = false;
        j->seen_ms[s - j->servers] = now_of(j);
    }
}

void join_gossip(struct join *j, uint64_t peer, const struct frame_gossip *g)
{
    struct join_server *s = find(j, peer);

    if (s == NULL) {
        return;
    }
    s->cluster_id = g->cluster_id;
    s->expect = g->expect;
    hear_of(j, g->known, g->n_known);
    decide(j);
}

void join_members_changed(struct join *j)
{
    store_servers(j);
}

uint64_t join_any_member(const struct join *j, unsigned turn)
{
    for (size_t i = 0; i < j->n_servers; i++) {
        const struct join_server *s = &j->servers[(i + turn) % j->n_servers];

        if (s->is_up && s->cluster_id == j->cluster_id) {
            return s->s.id;
        }
    }
    return 0;
}

uint64_t join_replaced(const struct join *j, uint64_t newcomer)
{
    const struct join_server *n = find(j, newcomer);

    for (size_t i = 0; n != NULL && i < j->n_servers; i++) {
        const struct join_server *s = &j->servers[i];

        if (s != n && !s->is_up &&
            j->options.is_member(j->options.arg, s->s.id) &&
            (strcmp(s->s.node_id, n->s.node_id) == 0 ||
             (strcmp(s->s.name, n->s.name) == 0 &&
              strcmp(s->s.address, n->s.address) == 0))) {
            return s->s.id;
        }
    }
    return 0;
}

/* ------------------------------------------------------------- beginning */

static void view_of(const struct join *j, struct join_view *v)
{
    v->self = j->options.self;
    v->cluster_id = j->cluster_id;
    v->expect = j->options.expect;
    v->servers = j->servers;
    v->n_servers = j->n_servers;
    v->promise = j->has_promise ? &j->promise : NULL;
}

static void now_in(struct join *j, uint64_t cluster_id)
{
    j->cluster_id = cluster_id;
    j->is_proposing = false;
    transport_set_cluster(j->options.transport, cluster_id);
    gossip(j);
}

static void begin(struct join *j)
{
    mr_log_info("raft", "beginning a cluster cluster=%016llx servers=%zu",
                (unsigned long long)j->promise.cluster_id,
                j->promise.n_servers);
    j->options.begin(j->options.arg, &j->promise);
    now_in(j, j->promise.cluster_id);
}

/* Ask those that have not answered. */
static void ask(struct join *j)
{
    j->asked_ms = now_of(j);
    for (size_t i = 0; i < j->promise.n_servers; i++) {
        struct mr_buf *out =
            j->has_said[i]
                ? NULL
                : transport_out(j->options.transport, j->promise.servers[i].id);

        if (out != NULL) {
            frame_put_promise(out, &j->promise);
        }
    }
}

static bool same_set(const struct frame_promise *a,
                     const struct frame_promise *b)
{
    if (a->n_servers != b->n_servers) {
        return false;
    }
    for (size_t i = 0; i < a->n_servers; i++) {
        if (a->servers[i].id != b->servers[i].id ||
            strcmp(a->servers[i].address, b->servers[i].address) != 0) {
            return false;
        }
    }
    return true;
}

static void promise(struct join *j, const struct frame_promise *p)
{
    j->has_promise = true;
    j->is_stored = false;
    j->promise = *p;
    j->options.store_promise(j->options.arg, p);
}

static void propose(struct join *j, const struct frame_promise *p)
{
    struct frame_promise mine = *p;

    if (j->is_proposing && same_set(&j->promise, p)) {
        return;
    }
    mine.cluster_id = mr_random_u64(j->options.random);
    mine.cluster_id = mine.cluster_id == 0 ? 1 : mine.cluster_id;
    j->is_proposing = true;
    j->answer_to = 0;
    memset(j->has_said, 0, sizeof j->has_said);
    promise(j, &mine);
}

static void decide(struct join *j)
{
    struct join_view view;
    struct join_decision d;

    view_of(j, &view);
    join_decide(&view, &d);
    switch (d.step) {
    case JOIN_WAIT:
        break;
    case JOIN_ENTER:
        mr_log_info("raft", "joining a cluster cluster=%016llx",
                    (unsigned long long)d.cluster_id);
        j->options.enter(j->options.arg, d.cluster_id);
        now_in(j, d.cluster_id);
        break;
    case JOIN_BEGIN:
        begin(j);
        break;
    case JOIN_PROPOSE:
        propose(j, &d.propose);
        break;
    }
}

static void begin_when_all_said(struct join *j)
{
    for (size_t i = 0; i < j->promise.n_servers; i++) {
        if (!j->has_said[i]) {
            return;
        }
    }
    begin(j);
}

static void note_said(struct join *j, uint64_t id)
{
    for (size_t i = 0; i < j->promise.n_servers; i++) {
        if (j->promise.servers[i].id == id) {
            j->has_said[i] = true;
        }
    }
}

static void answer(struct join *j, uint64_t peer, uint64_t cluster_id,
                   const char *refusal)
{
    struct mr_buf *out = transport_out(j->options.transport, peer);
    struct frame_promise_reply r;

    if (out == NULL) {
        return; /* It asks again. */
    }
    memset(&r, 0, sizeof r);
    r.cluster_id = cluster_id;
    r.accepted = refusal == NULL;
    (void)snprintf(r.reason, sizeof r.reason, "%s",
                   refusal == NULL ? "" : refusal);
    frame_put_promise_reply(out, &r);
}

void join_promise_stored(struct join *j, uint64_t cluster_id)
{
    if (!j->has_promise || j->promise.cluster_id != cluster_id ||
        j->cluster_id != 0) {
        return; /* Another one has taken its place. */
    }
    j->is_stored = true;
    if (j->is_proposing) {
        note_said(j, j->options.self.id);
        ask(j);
        begin_when_all_said(j);
    } else if (j->answer_to != 0) {
        answer(j, j->answer_to, cluster_id, NULL);
        j->answer_to = 0;
    }
}

static void take_promise(struct join *j, uint64_t peer,
                         const struct frame_promise *wanted)
{
    char reason[FRAME_REASON_MAX + 1];
    struct join_view view;

    view_of(j, &view);
    if (!join_may_promise(&view, wanted, peer, reason)) {
        answer(j, peer, wanted->cluster_id, reason);
        return;
    }
    if (j->has_promise && j->promise.cluster_id == wanted->cluster_id) {
        if (j->is_stored) {
            answer(j, peer, wanted->cluster_id, NULL);
        }
        return;
    }
    j->is_proposing = false;
    j->answer_to = peer;
    promise(j, wanted);
}

static void take_promise_reply(struct join *j, uint64_t peer,
                               const struct frame_promise_reply *r)
{
    if (!j->is_proposing || r->cluster_id != j->promise.cluster_id ||
        j->cluster_id != 0) {
        return;
    }
    if (r->accepted) {
        note_said(j, peer);
        begin_when_all_said(j);
    } else if (now_of(j) - j->asked_no_ms > 10 * PROPOSE_MS) {
        j->asked_no_ms = now_of(j);
        mr_log_warn("raft",
                    "a server does not agree to the cluster's first "
                    "set, asking again reason=\"%s\"",
                    r->reason);
    }
}

void join_promise(struct join *j, uint64_t peer, const struct frame *f)
{
    struct frame_promise p;
    struct frame_promise_reply r;

    memset(&p, 0, sizeof p);
    memset(&r, 0, sizeof r);
    if (f->type == FRAME_PROMISE && frame_get_promise(f, &p) == MR_OK) {
        take_promise(j, peer, &p);
    } else if (f->type == FRAME_PROMISE_REPLY &&
               frame_get_promise_reply(f, &r) == MR_OK) {
        take_promise_reply(j, peer, &r);
    }
}

/* ------------------------------------------------------------- life */

/* Whether there is anybody left to look for. */
static bool is_complete(const struct join *j)
{
    size_t n_up = 0;

    for (size_t i = 0; i < j->n_servers; i++) {
        bool is_member =
            j->options.is_member(j->options.arg, j->servers[i].s.id);

        if (is_member && !j->servers[i].is_up) {
            return false;
        }
        n_up += j->servers[i].is_up;
    }
    return j->cluster_id != 0 &&
           (n_up != 0 ||
            j->options.is_member(j->options.arg, j->options.self.id));
}

static void on_timer(uv_timer_t *timer)
{
    struct join *j = timer->data;
    uint64_t now = now_of(j);

    join_targets_try(j, now, !is_complete(j));
    forget_strangers(j, now);
    if (j->is_proposing && j->is_stored && now - j->asked_ms >= PROPOSE_MS) {
        ask(j);
    }
    if (j->cluster_id == 0) {
        decide(j);
    }
    j->options.tick(j->options.arg);
}

enum mr_err join_open(const struct join_options *o, uint64_t cluster_id,
                      const struct frame_promise *stored,
                      const struct frame_server *servers, size_t n_servers,
                      struct join **out_join)
{
    struct join *j = mr_calloc(1, sizeof *j);

    if (j == NULL) {
        return MR_E_NOMEM;
    }
    j->options = *o;
    j->options.interval_ms =
        o->interval_ms != 0 ? o->interval_ms : JOIN_SLOWEST_MS;
    j->cluster_id = cluster_id;
    mr_list_init(&j->targets);
    if (stored != NULL) {
        j->promise = *stored;
        j->has_promise = j->is_stored = true;
    }
    /* Fails for want of memory in the loop's setup at most. */
    mr_assert(uv_timer_init(o->loop, &j->timer) == 0);
    j->timer.data = j;
    j->n_handles = 1;
    for (size_t i = 0; i < o->n_addresses; i++) {
        if (!join_targets_add(j, o->addresses[i])) {
            join_close(j, NULL, NULL);
            return MR_E_NOMEM;
        }
    }
    transport_set_cluster(o->transport, cluster_id);
    for (size_t i = 0; i < n_servers; i++) {
        bool changed;
        struct join_server *s = learn(j, &servers[i], &changed);

        if (s != NULL && s->s.id != o->self.id) {
            j->seen_ms[s - j->servers] = now_of(j);
            keep(j, s);
        }
    }
    mr_assert(uv_timer_start(&j->timer, on_timer, 0, TICK_MS) == 0);
    *out_join = j;
    return MR_OK;
}

void join_handle_gone(struct join *j)
{
    void (*closed)(void *arg) = j->closed;
    void *arg = j->closed_arg;

    if (--j->n_handles != 0) {
        return;
    }
    join_targets_free(j);
    mr_free(j);
    if (closed != NULL) {
        closed(arg);
    }
}

static void on_timer_closed(uv_handle_t *handle)
{
    join_handle_gone(handle->data);
}

void join_close(struct join *j, void (*closed)(void *arg), void *arg)
{
    j->is_closing = true;
    j->closed = closed;
    j->closed_arg = arg;
    join_targets_stop(j);
    uv_close((uv_handle_t *)&j->timer, on_timer_closed);
}
