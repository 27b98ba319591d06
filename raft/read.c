/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads, and the proof of leadership they need.
 *
 *   waiting -> (follower) asked ------------------> applying -> done
 *           -> (leader)   confirming --------------^
 *
 * - A read is answered locally once the state machine has applied an index.
 *   The leader knows it: its commit index when the read arrives, provided that
 *   an entry of its own term is committed (Raft §6.4).
 * - A consistent read also needs the proof that the leader still led after the
 *   read had arrived: a round in which a majority of the voters says that its
 *   term is still the leader's. Terms only grow and a newer leader needs a
 *   majority in its own term, so none can have committed anything before.
 * - A default read trusts the lease: a majority confirmed a round that began
 *   within the last election timeout, less two heartbeats: what keeps a server
 *   from voting is the last heartbeat, which may be older than the round. A
 *   leader that hands over has none. Without it, it waits for a round too.
 * - A follower asks the leader for the index, one request for all reads that
 *   wait, and repeats it when there is no answer: reading is idempotent.
 *
 * A round carries a number that never repeats within a term. A voter's answer
 * to a round answers all earlier ones as well. While it leads, a leader begins
 * a round every heartbeat, so the lease does not lapse without traffic.
 */
#include "raft/driver_impl.h"

#include "base/mem.h"

#define GROUPS_MAX 4096
#define RESEND_MS 250
#define RETRY_MS 50
#define ROUNDS_MAX 2 /* With groups waiting, at a time. */

enum { LIST_WAITING, LIST_GROUPED, LIST_ENDED };

static struct driver_read_group *group_of(struct mr_list *link)
{
    return mr_container_of(link, struct driver_read_group, link);
}

static struct mr_raft_read *read_of(struct mr_list *link)
{
    return mr_container_of(link, struct mr_raft_read, link);
}

void reads_init(struct driver *d)
{
    struct driver_reads *s = &d->reads;

    mr_list_init(&s->waiting[0]);
    mr_list_init(&s->waiting[1]);
    mr_list_init(&s->foreign);
    mr_list_init(&s->asked);
    mr_list_init(&s->confirming);
    mr_list_init(&s->applying);
}

/* ------------------------------------------------------------- groups */

static struct driver_read_group *group_new(struct driver *d)
{
    struct driver_read_group *g;

    if (d->reads.n_groups >= GROUPS_MAX) {
        return NULL;
    }
    g = mr_calloc(1, sizeof *g);
    if (g != NULL) {
        mr_list_init(&g->link);
        mr_list_init(&g->reads);
        g->since_ms = d->now;
        d->reads.n_groups++;
    }
    return g;
}

static void group_free(struct driver *d, struct driver_read_group *g)
{
    mr_list_remove(&g->link);
    d->reads.n_groups--;
    mr_free(g);
}

static void end_read(struct driver *d, struct mr_raft_read *read,
                     enum mr_err err)
{
    mr_list_remove(&read->link);
    read->state = LIST_ENDED;
    d->reads.n_reads--;
    read->done(read, err);
}

static void end_reads(struct driver *d, struct mr_list *reads, enum mr_err err)
{
    while (!mr_list_empty(reads)) {
        end_read(d, read_of(reads->next), err);
    }
}

static void answer_peer(struct driver *d, const struct driver_read_group *g,
                        enum mr_err err)
{
    struct driver_message msg = {.type = DRIVER_MSG_READ_REPLY,
                                 .term = d->core.current_term};

    msg.read_reply.seq = g->peer_seq;
    msg.read_reply.index = g->index;
    msg.read_reply.err = err;
    driver_send(d, g->peer, &msg);
}

/* The group's index is known: serve it, now or when it is applied. */
static void group_ready(struct driver *d, struct driver_read_group *g)
{
    mr_list_remove(&g->link);
    if (g->peer != 0) {
        answer_peer(d, g, MR_OK);
        group_free(d, g);
    } else if (g->index <= d->applied) {
        end_reads(d, &g->reads, MR_OK);
        group_free(d, g);
    } else {
        mr_list_push(&d->reads.applying, &g->link);
    }
}

/* Start over: its reads wait again, or its peer is told to. */
static void group_restart(struct driver *d, struct driver_read_group *g)
{
    if (g->peer != 0) {
        answer_peer(d, g, MR_E_NOTLEADER);
    }
    mr_list_move(&d->reads.waiting[g->consistent], &g->reads);
    group_free(d, g);
}

static void restart_all(struct driver *d, struct mr_list *groups)
{
    while (!mr_list_empty(groups)) {
        group_restart(d, group_of(groups->next));
    }
}

void reads_close(struct driver *d, enum mr_err err)
{
    struct driver_reads *s = &d->reads;

    restart_all(d, &s->foreign);
    restart_all(d, &s->asked);
    restart_all(d, &s->confirming);
    restart_all(d, &s->applying);
    end_reads(d, &s->waiting[0], err);
    end_reads(d, &s->waiting[1], err);
}

enum mr_err driver_read(struct driver *d, struct mr_raft_read *read)
{
    bool consistent = read->mode == MR_RAFT_READ_CONSISTENT;

    if (d->is_dead || d->reads.n_reads >= d->opt.max_queue) {
        return MR_E_BUSY;
    }
    mr_list_init(&read->link);
    mr_list_push(&d->reads.waiting[consistent], &read->link);
    read->state = LIST_WAITING;
    read->index = 0;
    read->deadline_ms = d->now + d->opt.max_wait_ms;
    d->reads.n_reads++;
    return MR_OK;
}

/* ------------------------------------------------------------- rounds */

/* Whether this leader knows the cluster's commit index. */
static bool knows_commit(const struct driver *d)
{
    return driver_leads(d) && !d->is_muted && d->commit >= d->own_term_index;
}

static uint64_t round_time(const struct driver_reads *s, uint64_t round)
{
    return round + READ_ROUNDS > s->round ? s->round_ms[round % READ_ROUNDS]
                                          : 0;
}

void reads_update_lease(struct driver *d)
{
    struct driver_reads *s = &d->reads;
    uint64_t lease = 0;

    if (knows_commit(d) && d->applied >= d->own_term_index &&
        raft_transferee(&d->core) == 0) {
        uint64_t since = driver_is_sole_voter(d) ? d->now
                         : s->confirmed > s->term_round
                             ? round_time(s, s->confirmed)
                             : 0;
        if (since != 0) {
            lease = since + d->opt.election_ms - 2 * d->opt.heartbeat_ms;
        }
    }
    if (lease != s->lease_ms) {
        s->lease_ms = lease;
        d->opt.io.set_lease(d->opt.io.arg, lease);
    }
}

static void serve_confirmed(struct driver *d)
{
    struct driver_reads *s = &d->reads;

    while (!mr_list_empty(&s->confirming)) {
        struct driver_read_group *g = group_of(s->confirming.next);
        if (g->round > s->confirmed) {
            break; /* They are in the order of their rounds. */
        }
        group_ready(d, g);
    }
}

/* The newest round that a majority of the voters has confirmed. */
static void count_confirmed(struct driver *d)
{
    struct driver_reads *s = &d->reads;
    const struct raft_configuration *conf = &d->core.configuration;
    uint64_t best = s->confirmed;

    for (unsigned i = 0; i <= conf->n; i++) {
        size_t votes = 0;
        struct driver_remote *r =
            i == conf->n ? NULL : driver_remote_of(d, conf->servers[i].id);
        uint64_t round = r == NULL ? s->round : r->confirmed;
        if (round <= best) {
            continue;
        }
        for (unsigned j = 0; j < conf->n; j++) {
            const struct raft_server *server = &conf->servers[j];
            r = driver_remote_of(d, server->id);
            if (server->role == RAFT_VOTER &&
                (server->id == d->opt.id ||
                 (r != NULL && r->confirmed >= round))) {
                votes++;
            }
        }
        if (votes > driver_n_voters(d) / 2) {
            best = round;
        }
    }
    if (best > s->confirmed) {
        s->confirmed = best;
        serve_confirmed(d);
        reads_update_lease(d);
    }
}

static void begin_round(struct driver *d)
{
    struct driver_reads *s = &d->reads;
    struct driver_message msg = {.type = DRIVER_MSG_CONFIRM,
                                 .term = d->core.current_term};

    s->round++;
    s->round_ms[s->round % READ_ROUNDS] = d->now;
    d->stats.read_rounds++;
    msg.confirm.round = s->round;
    for (unsigned i = 0; i < d->core.configuration.n; i++) {
        const struct raft_server *server = &d->core.configuration.servers[i];
        if (server->role == RAFT_VOTER) {
            driver_send(d, server->id, &msg);
        }
    }
    count_confirmed(d); /* Alone it is confirmed at once. */
}

/* ------------------------------------------------------------- the leader */

static bool has_lease(const struct driver *d)
{
    return d->now < d->reads.lease_ms;
}

/* Give the group the index it must see and the round it must wait for. */
static void register_group(struct driver *d, struct driver_read_group *g)
{
    g->index = d->commit;
    g->round = d->reads.round + 1;
    mr_list_remove(&g->link);
    if (!g->consistent && has_lease(d)) {
        group_ready(d, g);
    } else {
        mr_list_push(&d->reads.confirming, &g->link);
    }
}

static size_t rounds_in_flight(const struct driver_reads *s)
{
    return (size_t)(s->round - s->confirmed);
}

static void lead_reads(struct driver *d)
{
    struct driver_reads *s = &d->reads;
    uint64_t next = s->round + 1;
    bool is_due = d->now >= round_time(s, s->round) + d->opt.heartbeat_ms;

    reads_update_lease(d);
    if (knows_commit(d) && (rounds_in_flight(s) < ROUNDS_MAX || is_due)) {
        for (int mode = 0; mode < 2; mode++) {
            struct driver_read_group *g;
            if (mr_list_empty(&s->waiting[mode]) ||
                (g = group_new(d)) == NULL) {
                continue;
            }
            g->consistent = mode == 1;
            mr_list_move(&g->reads, &s->waiting[mode]);
            register_group(d, g);
        }
        while (!mr_list_empty(&s->foreign)) {
            register_group(d, group_of(s->foreign.next));
        }
    }
    if (is_due || (!mr_list_empty(&s->confirming) &&
                   group_of(s->confirming.prev)->round == next)) {
        begin_round(d);
    }
}

/* ------------------------------------------------------------- the follower */

static void ask_leader(struct driver *d)
{
    struct driver_reads *s = &d->reads;
    struct driver_message msg = {.type = DRIVER_MSG_READ,
                                 .term = d->core.current_term};

    for (int mode = 0; mode < 2; mode++) {
        struct driver_read_group *g;
        if (mr_list_empty(&s->waiting[mode]) || (g = group_new(d)) == NULL) {
            continue;
        }
        g->consistent = mode == 1;
        g->seq = ++s->next_seq;
        mr_list_move(&g->reads, &s->waiting[mode]);
        mr_list_push(&s->asked, &g->link);
        msg.read.seq = g->seq;
        msg.read.consistent = g->consistent;
        driver_send(d, driver_leader(d), &msg);
    }
}

void reads_flush(struct driver *d)
{
    if (driver_leads(d)) {
        lead_reads(d);
    } else if (driver_leader(d) != 0) {
        ask_leader(d);
    }
}

/* ------------------------------------------------------------- messages */

void reads_on_request(struct driver *d, uint64_t peer,
                      const struct driver_message *msg)
{
    struct driver_read_group *g = group_new(d);

    if (g == NULL) {
        return; /* Asked again. */
    }
    g->peer = peer;
    g->peer_seq = msg->read.seq;
    g->consistent = msg->read.consistent;
    mr_list_push(&d->reads.foreign, &g->link);
    if (!driver_leads(d)) {
        group_restart(d, g);
    }
}

void reads_on_reply(struct driver *d, uint64_t peer,
                    const struct driver_message *msg)
{
    struct mr_list *at;

    (void)peer; /* The number is ours. */
    MR_LIST_FOREACH(at, &d->reads.asked)
    {
        struct driver_read_group *g = group_of(at);
        if (g->seq != msg->read_reply.seq) {
            continue;
        }
        if (msg->read_reply.err == MR_OK) {
            g->index = msg->read_reply.index;
            group_ready(d, g);
        } else if (d->now > RESEND_MS) { /* Soon again, or the next leader. */
            g->since_ms = d->now - RESEND_MS + RETRY_MS;
        }
        return;
    }
}

void reads_on_confirm(struct driver *d, uint64_t peer,
                      const struct driver_message *msg)
{
    struct driver_message ack = {.type = DRIVER_MSG_CONFIRM_ACK,
                                 .term = d->core.current_term};

    if (msg->term <= d->core.current_term) {
        ack.confirm.round = msg->confirm.round;
        driver_send(d, peer, &ack);
    } /* Else the entries of that term are on their way. */
}

void reads_on_ack(struct driver *d, uint64_t peer,
                  const struct driver_message *msg)
{
    struct driver_remote *r = driver_remote_of(d, peer);

    if (r == NULL || !driver_leads(d) || msg->term != d->core.current_term ||
        msg->confirm.round > d->reads.round ||
        msg->confirm.round <= r->confirmed) {
        return;
    }
    r->confirmed = msg->confirm.round;
    count_confirmed(d);
}

/* ------------------------------------------------------------- changes */

void reads_role_changed(struct driver *d)
{
    struct driver_reads *s = &d->reads;

    restart_all(d, &s->foreign);
    restart_all(d, &s->asked);
    restart_all(d, &s->confirming);
    /* Rounds of an earlier time as leader prove nothing. */
    s->term_round = s->round;
    s->confirmed = s->round;
    reads_update_lease(d);
}

void reads_applied(struct driver *d)
{
    struct mr_list *at = d->reads.applying.next;

    while (at != &d->reads.applying) {
        struct driver_read_group *g = group_of(at);
        at = at->next;
        if (g->index <= d->applied) {
            end_reads(d, &g->reads, MR_OK);
            group_free(d, g);
        }
    }
    reads_update_lease(d);
}

static void expire_list(struct driver *d, struct mr_list *reads)
{
    struct mr_list *at = reads->next;

    while (at != reads) {
        struct mr_raft_read *read = read_of(at);
        at = at->next;
        if (d->now >= read->deadline_ms) {
            end_read(d, read,
                     driver_leader(d) == 0 ? MR_E_NOLEADER : MR_E_TIMEOUT);
        }
    }
}

static void expire_groups(struct driver *d, struct mr_list *groups,
                          uint64_t patience_ms)
{
    struct mr_list *at = groups->next;

    while (at != groups) {
        struct driver_read_group *g = group_of(at);
        at = at->next;
        expire_list(d, &g->reads);
        if (g->peer == 0 && mr_list_empty(&g->reads)) {
            group_free(d, g);
        } else if (d->now - g->since_ms >= patience_ms) {
            group_restart(d, g);
        }
    }
}

void reads_expire(struct driver *d)
{
    struct driver_reads *s = &d->reads;

    expire_list(d, &s->waiting[0]);
    expire_list(d, &s->waiting[1]);
    expire_groups(d, &s->asked, RESEND_MS);
    expire_groups(d, &s->foreign, d->opt.max_wait_ms);
    expire_groups(d, &s->confirming, d->opt.max_wait_ms);
    expire_groups(d, &s->applying, UINT64_MAX);
}
