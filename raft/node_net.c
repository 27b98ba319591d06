/* SPDX-License-Identifier: Apache-2.0 */
/* One server's dealings with the others: transport, joining, membership. */
#include "raft/node.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define ASK_MS 500     /* Between asking to be added to the cluster. */
#define REMOVE_MS 2000 /* Between removals of servers that were replaced. */
#define DEFAULT_JOIN_MS 5000
#define DEAD_MS (72 * 3600 * 1000ull) /* Until a silent server is removed. */
#define LOOK_MS 60000                 /* Between looks for silent servers. */

/* ------------------------------------------------------------- sending */

/* A write is acknowledged by any server that has applied it, which may be
 * sooner than we have. So that a local read here still sees it, the commit
 * index is published before the others are told. */
void node_send(struct mr_raft *n, uint64_t peer,
               const struct driver_message *msg)
{
    struct mr_buf *out =
        n->transport == NULL ? NULL : transport_out(n->transport, peer);

    if (out == NULL) {
        return;
    }
    if (msg->type == DRIVER_MSG_APPEND &&
        msg->append.commit > atomic_load(&n->commit_index)) {
        atomic_store(&n->commit_index, msg->append.commit);
    }
    frame_put_message(out, msg);
}

enum mr_err mr_raft_send(struct mr_raft *raft, uint64_t to, struct mr_slice msg)
{
    struct mr_buf *out;
    struct driver_peer p;
    bool is_known = false;

    if (msg.len > MR_RAFT_MESSAGE_MAX) {
        return MR_E_TOOBIG;
    }
    if (raft->driver == NULL || raft->transport == NULL) {
        return MR_E_BUSY; /* Closing. */
    }
    for (size_t i = 0; !is_known && driver_peer_at(raft->driver, i, &p); i++) {
        is_known = p.id == to && to != raft->id;
    }
    if (!is_known) {
        return MR_E_NOTFOUND;
    }
    node_begin(raft); /* At the end of the round it is written. */
    out = transport_out(raft->transport, to);
    if (out == NULL) {
        return MR_E_BUSY;
    }
    frame_put_opaque(out, msg);
    return mr_buf_failed(out) ? MR_E_NOMEM : MR_OK;
}

/* Ask to be added, whoever of the cluster is connected, the leader first. A
 * server that does not lead answers with the leader's ID. */
static void ask_to_be_added(struct mr_raft *n)
{
    struct driver_message msg = {.type = DRIVER_MSG_MEMBER};
    uint64_t to = n->leader_hint;

    if (to == 0 || !transport_is_up(n->transport, to)) {
        to = join_any_member(n->join, n->n_asked++);
    }
    if (to == 0) {
        return;
    }
    msg.member.op = DRIVER_MEMBER_ADD;
    msg.member.id = n->id;
    msg.member.address = n->address;
    node_send(n, to, &msg);
}

/* ------------------------------------------------------------- receiving */

static void removed(void *arg, enum mr_err err, const char *detail)
{
    struct mr_raft *n = arg;

    (void)n;
    if (err != MR_OK) {
        mr_log_warn("raft",
                    "removing a replaced server failed, trying again "
                    "error=\"%s\" detail=\"%s\"",
                    mr_strerror(err), detail == NULL ? "" : detail);
    }
}

/* Whether the voters without @gone that are connected are a majority of the
 * voters without it. */
static bool can_lose(const struct mr_raft *n, uint64_t gone)
{
    struct driver_peer p;
    size_t voters = 0;
    size_t there = 0;

    for (size_t i = 0; driver_peer_at(n->driver, i, &p); i++) {
        if (!p.is_voter || p.id == gone) {
            continue;
        }
        voters++;
        there += p.id == n->id || transport_is_up(n->transport, p.id);
    }
    return there > voters / 2;
}

static void remove_peer(struct mr_raft *n, uint64_t id)
{
    n->removed_ms = n->now_ms;
    driver_member_change(n->driver, DRIVER_MEMBER_REMOVE, id, "", removed, n);
}

/* The leader removes a server that it has not heard for DEAD_MS, while a
 * majority without it is there. One never heard counts from the time when we
 * began to lead. */
static void remove_dead(struct mr_raft *n)
{
    uint64_t now = mr_now_ms(n->options.clock);
    struct driver_peer p;

    if (now - n->looked_ms < LOOK_MS) {
        return;
    }
    n->looked_ms = now;
    for (size_t i = 0; driver_peer_at(n->driver, i, &p); i++) {
        uint64_t heard = transport_heard_ms(n->transport, p.id);

        heard = heard > n->leads_ms ? heard : n->leads_ms;
        if (p.id == n->id || now - heard < DEAD_MS || !can_lose(n, p.id)) {
            continue;
        }
        node_begin(n);
        mr_log_warn("raft",
                    "removing a server that is silent for long id=%016llx",
                    (unsigned long long)p.id);
        remove_peer(n, p.id);
        return; /* One at a time. */
    }
}

/* A server asks to be added. Whoever it replaces is removed before; it asks
 * again. Returns whether the driver should hear of it now. */
static bool may_add(struct mr_raft *n, const struct driver_message *msg)
{
    struct driver_status s;
    uint64_t gone;

    driver_status(n->driver, &s);
    if (!s.is_leader || msg->member.op != DRIVER_MEMBER_ADD) {
        return true;
    }
    gone = join_replaced(n->join, msg->member.id);
    if (gone == 0) {
        return true;
    }
    if (n->now_ms - n->removed_ms < REMOVE_MS || !can_lose(n, gone)) {
        return false;
    }
    mr_log_info("raft",
                "removing a server that a new one replaces "
                "old=%016llx new=%016llx",
                (unsigned long long)gone, (unsigned long long)msg->member.id);
    remove_peer(n, gone);
    return false;
}

static void on_message(void *arg, uint64_t peer,
                       const struct driver_message *msg)
{
    struct mr_raft *n = arg;

    node_begin(n);
    if (msg->type == DRIVER_MSG_MEMBER && msg->member.seq == 0 &&
        !may_add(n, msg)) {
        return;
    }
    if (msg->type == DRIVER_MSG_MEMBER_REPLY && msg->member_reply.seq == 0) {
        n->leader_hint = msg->member_reply.leader_id;
    }
    driver_receive(n->driver, peer, msg);
}

void node_fill_hello(struct mr_raft *n, struct frame_hello *out)
{
    join_fill_hello(n->join, out);
    (void)snprintf(out->datacenter, sizeof out->datacenter, "%s",
                   n->options.datacenter);
}

static void get_hello(void *arg, struct frame_hello *out)
{
    node_fill_hello(arg, out);
}

static void on_hello(void *arg, const struct frame_hello *hello)
{
    struct mr_raft *n = arg;

    node_begin(n);
    join_hello(n->join, hello);
    n->peers_changed = true;
}

static void on_up(void *arg, uint64_t peer)
{
    struct mr_raft *n = arg;

    node_begin(n);
    join_up(n->join, peer);
    driver_peer_up(n->driver, peer);
    n->peers_changed = true;
}

static void on_down(void *arg, uint64_t peer)
{
    struct mr_raft *n = arg;

    node_begin(n);
    join_down(n->join, peer);
    driver_peer_down(n->driver, peer);
    n->peers_changed = true;
}

static void on_http(void *arg, int fd)
{
    struct mr_raft *n = arg;

    if (n->options.on_http != NULL) {
        n->options.on_http(n->options.arg, fd);
    } else {
        (void)close(fd); /* Nothing was written to it. */
    }
}

static void on_gossip(void *arg, uint64_t peer, const struct frame_gossip *g)
{
    struct mr_raft *n = arg;

    node_begin(n);
    join_gossip(n->join, peer, g);
}

static void on_opaque(void *arg, uint64_t peer, struct mr_slice bytes)
{
    struct mr_raft *n = arg;

    node_begin(n);
    if (n->options.on_message != NULL) {
        n->options.on_message(n->options.arg, peer, bytes);
    }
}

static void on_promise(void *arg, uint64_t peer, const struct frame *f)
{
    struct mr_raft *n = arg;

    node_begin(n);
    join_promise(n->join, peer, f);
}

static void on_probed(void *arg, const char *address, enum mr_err err,
                      enum frame_refusal refusal)
{
    struct mr_raft *n = arg;

    node_begin(n);
    join_probed(n->join, address, err, refusal);
}

/* ------------------------------------------------------------- records */

/* Records of the log that the core thread stores. */
struct record_req {
    struct raftlog_req req;
    struct mr_raft *node;
    enum logdb_record which;
    uint64_t cluster_id; /* To be set as well; 0: not. */
    uint64_t promised;   /* The cluster ID of a promise; 0: it is none. */
    struct mr_buf bytes;
};

static void run_record(struct raftlog_req *req, struct logdb *db)
{
    struct record_req *r = mr_container_of(req, struct record_req, req);

    if (r->bytes.len != 0) {
        logdb_set_record(db, r->which, mr_buf_slice(&r->bytes));
    }
    if (r->cluster_id != 0) {
        logdb_set_cluster(db, r->cluster_id);
    }
}

static void record_stored(struct raftlog_req *req)
{
    struct record_req *r = mr_container_of(req, struct record_req, req);
    struct mr_raft *n = r->node;

    if (r->promised != 0 && n->join != NULL) {
        join_promise_stored(n->join, r->promised);
    }
    mr_buf_deinit(&r->bytes);
    mr_free(r);
}

static struct record_req *record_new(struct mr_raft *n, enum logdb_record which)
{
    struct record_req *r = mr_calloc(1, sizeof *r);

    if (r == NULL) {
        node_fatal(n, MR_E_NOMEM, "no memory to store a record");
        return NULL;
    }
    r->req.kind = RAFTLOG_WRITE;
    r->req.run = run_record;
    r->req.done = record_stored;
    r->node = n;
    r->which = which;
    return r;
}

static void record_submit(struct record_req *r)
{
    struct mr_raft *n = r->node;

    if (mr_buf_failed(&r->bytes)) {
        mr_buf_deinit(&r->bytes);
        mr_free(r);
        node_fatal(n, MR_E_NOMEM, "no memory to store a record");
        return;
    }
    raftlog_submit(n->log, &r->req);
}

static void store_promise(void *arg, const struct frame_promise *promise)
{
    struct record_req *r = record_new(arg, LOGDB_PROMISE);

    if (r != NULL) {
        frame_store_promise(&r->bytes, promise);
        r->promised = promise->cluster_id;
        record_submit(r);
    }
}

static void store_servers(void *arg, const struct frame_server *servers,
                          size_t n_servers)
{
    struct record_req *r = record_new(arg, LOGDB_PEERS);

    if (r != NULL) {
        frame_store_servers(&r->bytes, servers, n_servers);
        record_submit(r);
    }
}

static void store_cluster(struct mr_raft *n, uint64_t cluster_id)
{
    struct record_req *r = record_new(n, LOGDB_PEERS);

    n->cluster_id = cluster_id;
    if (r != NULL) {
        r->cluster_id = cluster_id;
        record_submit(r);
    }
}

/* ------------------------------------------------------------- joining */

static void enter(void *arg, uint64_t cluster_id)
{
    store_cluster(arg, cluster_id);
}

static void bootstrap(struct mr_raft *n, const struct frame_promise *p)
{
    struct driver_server servers[FRAME_SERVERS_MAX];
    enum mr_err err;

    for (size_t i = 0; i < p->n_servers; i++) {
        servers[i] =
            (struct driver_server){p->servers[i].id, p->servers[i].address};
    }
    err = driver_bootstrap(n->driver, servers, p->n_servers);
    if (err != MR_OK && err != MR_E_EXISTS) {
        node_fatal(n, err, "the cluster's first set is impossible");
    }
}

/* The cluster's ID goes to the disk no later than the log's first entry. */
static void begin(void *arg, const struct frame_promise *promise)
{
    struct mr_raft *n = arg;

    store_cluster(n, promise->cluster_id);
    bootstrap(n, promise);
}

static bool is_member(void *arg, uint64_t id)
{
    struct mr_raft *n = arg;
    struct driver_peer p;

    for (size_t i = 0; driver_peer_at(n->driver, i, &p); i++) {
        if (p.id == id) {
            return true;
        }
    }
    return false;
}

static void join_failed(void *arg)
{
    node_fatal(arg, MR_E_UNREACHABLE,
               "none of the addresses to join has answered");
}

/* Every tick of the join: what needs a look from time to time. */
static void on_join_tick(void *arg)
{
    struct mr_raft *n = arg;
    struct driver_status s;

    n->peers_changed = true; /* Contact times age. */
    if (n->cluster_id == 0) {
        return;
    }
    driver_status(n->driver, &s);
    if (s.is_member) {
        /* The configuration on our disk may be an old one: a leader counts. */
        n->was_member = n->was_member || s.leader_id != 0;
        if (!s.is_leader) {
            n->leads_ms = 0;
        } else if (n->leads_ms == 0) {
            n->leads_ms = mr_now_ms(n->options.clock);
        } else {
            remove_dead(n);
        }
        return;
    }
    if (n->was_member || mr_now_ms(n->options.clock) - n->asked_ms < ASK_MS) {
        return; /* Who was removed while it ran comes back by a restart. */
    }
    node_begin(n);
    n->asked_ms = n->now_ms;
    ask_to_be_added(n);
}

void node_members_changed(struct mr_raft *n)
{
    char address[FRAME_ADDRESS_MAX];
    struct driver_peer p;

    for (size_t i = 0; driver_peer_at(n->driver, i, &p); i++) {
        if (p.id == n->id || join_find(n->join, p.id) != NULL) {
            continue;
        }
        (void)snprintf(address, sizeof address, "%.*s", (int)p.address_len,
                       p.address);
        if (transport_keep(n->transport, p.id, address) != MR_OK) {
            mr_log_warn("raft", "too many servers, not dialling one");
        }
    }
    join_members_changed(n->join);
}

/* ------------------------------------------------------------- opening */

static void fill_self(struct mr_raft *n)
{
    struct frame_server *self = &n->self;

    memset(self, 0, sizeof *self);
    self->id = n->id;
    (void)snprintf(self->node_id, sizeof self->node_id, "%s",
                   n->options.node_id);
    (void)snprintf(self->name, sizeof self->name, "%s", n->options.node_name);
    (void)snprintf(self->address, sizeof self->address, "%s", n->address);
}

enum mr_err node_listen(struct mr_raft *n, struct mr_detail *detail)
{
    struct transport_options o = {
        .loop = n->loop,
        .clock = n->options.clock,
        .random = n->options.random,
        .bind_host = n->options.bind_host,
        .bind_port = n->options.bind_port,
        .arg = n,
        .get_hello = get_hello,
        .on_hello = on_hello,
        .on_up = on_up,
        .on_down = on_down,
        .on_message = on_message,
        .on_gossip = on_gossip,
        .on_promise = on_promise,
        .on_opaque = on_opaque,
        .on_probed = on_probed,
        .on_snapshot = node_receive_snapshot,
        .on_http = on_http,
    };
    bool is_v6 = mr_ip_family(n->options.advertise_host) == 6;
    enum mr_err err = transport_open(&o, &n->transport, detail);

    if (err != MR_OK) {
        return err;
    }
    n->n_handles++;
    if (n->options.advertise_port == 0) {
        n->options.advertise_port = transport_port(n->transport);
    }
    (void)snprintf(n->address, sizeof n->address, is_v6 ? "[%s]:%u" : "%s:%u",
                   n->options.advertise_host,
                   (unsigned)n->options.advertise_port);
    fill_self(n);
    return MR_OK;
}

/* What was stored of promise and servers; a damaged record is none. */
static void load_records(struct mr_raft *n, struct frame_promise *promise,
                         bool *out_has_promise, struct frame_server *servers,
                         size_t *out_n)
{
    struct logdb *db = raftlog_db(n->log);
    struct mr_slice bytes;

    memset(promise, 0, sizeof *promise);
    memset(servers, 0, FRAME_SERVERS_MAX * sizeof *servers);
    *out_has_promise = false;
    *out_n = 0;
    if (logdb_get_record(db, LOGDB_PROMISE, &bytes) == MR_OK) {
        *out_has_promise = frame_load_promise(bytes, promise) == MR_OK;
        mr_free((void *)(uintptr_t)bytes.data);
    }
    if (logdb_get_record(db, LOGDB_PEERS, &bytes) == MR_OK) {
        if (frame_load_servers(bytes, servers, out_n) != MR_OK) {
            *out_n = 0;
        }
        mr_free((void *)(uintptr_t)bytes.data);
    }
}

static void begin_alone(struct mr_raft *n)
{
    struct frame_promise p;

    memset(&p, 0, sizeof p);
    do {
        p.cluster_id = mr_random_u64(n->options.random);
    } while (p.cluster_id == 0);
    p.proposer = n->id;
    p.n_servers = 1;
    p.servers[0] = n->self;
    store_promise(n, &p);
    begin(n, &p);
}

enum mr_err node_join(struct mr_raft *n)
{
    const struct logdb_state *st = logdb_state(raftlog_db(n->log));
    bool is_empty = st->last == 0;
    struct frame_server servers[FRAME_SERVERS_MAX];
    struct frame_promise promise;
    struct join_options o = {
        .loop = n->loop,
        .transport = n->transport,
        .clock = n->options.clock,
        .random = n->options.random,
        .expect = n->options.bootstrap_expect,
        .addresses = n->options.join,
        .n_addresses = n->options.n_join,
        .interval_ms = n->options.join_interval_ms != 0
                           ? n->options.join_interval_ms
                           : DEFAULT_JOIN_MS,
        .must_succeed = n->options.join_must_succeed,
        .arg = n,
        .store_promise = store_promise,
        .store_servers = store_servers,
        .enter = enter,
        .begin = begin,
        .is_member = is_member,
        .failed = join_failed,
        .tick = on_join_tick,
    };
    bool has_promise;
    size_t n_servers;
    enum mr_err err;

    o.self = n->self;
    load_records(n, &promise, &has_promise, servers, &n_servers);
    if (n->cluster_id == 0 && o.expect == 1) {
        begin_alone(n);
    } else if (n->cluster_id != 0 && is_empty && has_promise &&
               promise.cluster_id == n->cluster_id) {
        bootstrap(n, &promise); /* We stopped before the first entry. */
    }
    err = join_open(&o, n->cluster_id, has_promise ? &promise : NULL, servers,
                    n_servers, &n->join);
    if (err != MR_OK) {
        return err;
    }
    n->n_handles++;
    node_members_changed(n);
    return MR_OK;
}
