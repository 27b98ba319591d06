/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding of frames. */
#include "raft/frame.h"

#include <string.h>

#include "base/mem.h"
#include "raft/frame_codec.h"
#include "raft/rpc.pb-c.h"

#define LENS_ON_STACK 128

static void put32(uint8_t *p, uint32_t n)
{
    p[0] = (uint8_t)(n >> 24);
    p[1] = (uint8_t)(n >> 16);
    p[2] = (uint8_t)(n >> 8);
    p[3] = (uint8_t)n;
}

/* Append the frame's start and its head; @bulk_len bytes must follow. */
static void put_frame(struct mr_buf *b, uint16_t type,
                      const ProtobufCMessage *head, size_t bulk_len)
{
    size_t len = head == NULL ? 0 : protobuf_c_message_get_packed_size(head);
    uint8_t *p = mr_buf_grow(b, FRAME_HEAD_LEN + len);

    if (p == NULL) {
        return;
    }
    put32(p, (uint32_t)(FRAME_HEAD_LEN - 4 + len + bulk_len));
    p[4] = (uint8_t)(type >> 8);
    p[5] = (uint8_t)type;
    p[6] = 0;
    p[7] = 0;
    put32(p + 8, (uint32_t)len);
    if (head != NULL) {
        (void)protobuf_c_message_pack(head, p + FRAME_HEAD_LEN);
    }
}

/* ------------------------------------------------------------- driver's */

static void put_append(struct mr_buf *b, const struct driver_message *msg)
{
    const struct driver_append *a = &msg->append;
    uint64_t terms[LENS_ON_STACK];
    uint32_t numbers[2 * LENS_ON_STACK];
    size_t n = a->n_entries;
    size_t bulk = 0;
    uint64_t *t = n <= LENS_ON_STACK ? terms : mr_malloc(n * sizeof *t);
    uint32_t *u = n <= LENS_ON_STACK ? numbers : mr_malloc(2 * n * sizeof *u);
    Mr__Rpc__Append m = MR__RPC__APPEND__INIT;

    if (t == NULL || u == NULL) {
        b->failed = true;
        goto out_after_arrays;
    }
    for (size_t i = 0; i < n; i++) {
        t[i] = a->entries[i].term;
        u[i] = (uint32_t)a->entries[i].type;
        u[n + i] = (uint32_t)a->entries[i].data.len;
        bulk += a->entries[i].data.len;
    }
    m.term = msg->term;
    m.prev_index = a->prev_index;
    m.prev_term = a->prev_term;
    m.commit = a->commit;
    m.n_terms = m.n_types = m.n_lens = n;
    m.terms = t;
    m.types = u;
    m.lens = u + n;
    put_frame(b, DRIVER_MSG_APPEND, &m.base, bulk);
    for (size_t i = 0; i < n; i++) {
        mr_buf_add(b, a->entries[i].data.data, a->entries[i].data.len);
    }
out_after_arrays:
    if (t != terms) {
        mr_free(t);
    }
    if (u != numbers) {
        mr_free(u);
    }
}

static void put_append_result(struct mr_buf *b,
                              const struct driver_message *msg)
{
    Mr__Rpc__AppendResult m = MR__RPC__APPEND_RESULT__INIT;

    m.term = msg->term;
    m.rejected = msg->append_result.rejected;
    m.last_index = msg->append_result.last_index;
    m.version = msg->append_result.version;
    m.features = msg->append_result.features;
    m.capacity = msg->append_result.capacity;
    put_frame(b, DRIVER_MSG_APPEND_RESULT, &m.base, 0);
}

static void put_vote(struct mr_buf *b, const struct driver_message *msg)
{
    Mr__Rpc__Vote m = MR__RPC__VOTE__INIT;

    m.term = msg->term;
    m.version = msg->vote.version;
    m.candidate = msg->vote.candidate;
    m.last_index = msg->vote.last_index;
    m.last_term = msg->vote.last_term;
    m.disrupt = msg->vote.disrupt;
    m.pre_vote = msg->vote.pre_vote;
    put_frame(b, DRIVER_MSG_VOTE, &m.base, 0);
}

static void put_vote_result(struct mr_buf *b, const struct driver_message *msg)
{
    Mr__Rpc__VoteResult m = MR__RPC__VOTE_RESULT__INIT;

    m.term = msg->term;
    m.version = msg->vote_result.version;
    m.granted = msg->vote_result.granted;
    m.pre_vote = msg->vote_result.pre_vote;
    m.features = msg->vote_result.features;
    m.capacity = msg->vote_result.capacity;
    put_frame(b, DRIVER_MSG_VOTE_RESULT, &m.base, 0);
}

static void put_timeout_now(struct mr_buf *b, const struct driver_message *msg)
{
    Mr__Rpc__TimeoutNow m = MR__RPC__TIMEOUT_NOW__INIT;

    m.term = msg->term;
    m.last_index = msg->timeout_now.last_index;
    m.last_term = msg->timeout_now.last_term;
    put_frame(b, DRIVER_MSG_TIMEOUT_NOW, &m.base, 0);
}

static void put_forward(struct mr_buf *b, const struct driver_message *msg)
{
    Mr__Rpc__Forward m = MR__RPC__FORWARD__INIT;

    m.term = msg->term;
    m.incarnation = msg->forward.incarnation;
    m.prev_seq = msg->forward.prev_seq;
    put_frame(b, DRIVER_MSG_FORWARD, &m.base, msg->forward.data.len);
    mr_buf_add(b, msg->forward.data.data, msg->forward.data.len);
}

static void put_forward_reply(struct mr_buf *b,
                              const struct driver_message *msg)
{
    Mr__Rpc__ForwardReply m = MR__RPC__FORWARD_REPLY__INIT;

    m.term = msg->term;
    m.incarnation = msg->forward_reply.incarnation;
    m.last_seq = msg->forward_reply.last_seq;
    m.err = frame_err_to_wire(msg->forward_reply.err);
    put_frame(b, DRIVER_MSG_FORWARD_REPLY, &m.base, 0);
}

static void put_read(struct mr_buf *b, const struct driver_message *msg)
{
    Mr__Rpc__Read m = MR__RPC__READ__INIT;

    m.term = msg->term;
    m.seq = msg->read.seq;
    m.consistent = msg->read.consistent;
    put_frame(b, DRIVER_MSG_READ, &m.base, 0);
}

static void put_read_reply(struct mr_buf *b, const struct driver_message *msg)
{
    Mr__Rpc__ReadReply m = MR__RPC__READ_REPLY__INIT;

    m.term = msg->term;
    m.seq = msg->read_reply.seq;
    m.index = msg->read_reply.index;
    m.err = frame_err_to_wire(msg->read_reply.err);
    put_frame(b, DRIVER_MSG_READ_REPLY, &m.base, 0);
}

static void put_confirm(struct mr_buf *b, const struct driver_message *msg)
{
    Mr__Rpc__Confirm m = MR__RPC__CONFIRM__INIT;

    m.term = msg->term;
    m.round = msg->confirm.round;
    put_frame(b, (uint16_t)msg->type, &m.base, 0);
}

/* protobuf-c's structs have no const; packing does not write. */
static char *unconst(const char *s)
{
    return (char *)(uintptr_t)(s == NULL ? "" : s);
}

static void put_member(struct mr_buf *b, const struct driver_message *msg)
{
    Mr__Rpc__Member m = MR__RPC__MEMBER__INIT;

    m.term = msg->term;
    m.seq = msg->member.seq;
    m.op = msg->member.op;
    m.id = msg->member.id;
    m.address = unconst(msg->member.address);
    put_frame(b, DRIVER_MSG_MEMBER, &m.base, 0);
}

static void put_member_reply(struct mr_buf *b, const struct driver_message *msg)
{
    Mr__Rpc__MemberReply m = MR__RPC__MEMBER_REPLY__INIT;

    m.term = msg->term;
    m.seq = msg->member_reply.seq;
    m.err = frame_err_to_wire(msg->member_reply.err);
    m.leader_id = msg->member_reply.leader_id;
    m.leader_address = unconst(msg->member_reply.leader_address);
    put_frame(b, DRIVER_MSG_MEMBER_REPLY, &m.base, 0);
}

void frame_put_message(struct mr_buf *b, const struct driver_message *msg)
{
    static void (*const put[])(struct mr_buf *,
                               const struct driver_message *) = {
        [DRIVER_MSG_APPEND] = put_append,
        [DRIVER_MSG_APPEND_RESULT] = put_append_result,
        [DRIVER_MSG_VOTE] = put_vote,
        [DRIVER_MSG_VOTE_RESULT] = put_vote_result,
        [DRIVER_MSG_TIMEOUT_NOW] = put_timeout_now,
        [DRIVER_MSG_FORWARD] = put_forward,
        [DRIVER_MSG_FORWARD_REPLY] = put_forward_reply,
        [DRIVER_MSG_READ] = put_read,
        [DRIVER_MSG_READ_REPLY] = put_read_reply,
        [DRIVER_MSG_CONFIRM] = put_confirm,
        [DRIVER_MSG_CONFIRM_ACK] = put_confirm,
        [DRIVER_MSG_MEMBER] = put_member,
        [DRIVER_MSG_MEMBER_REPLY] = put_member_reply,
    };

    mr_assert((size_t)msg->type < MR_ARRAY_LEN(put) && put[msg->type] != NULL);
    put[msg->type](b, msg);
}

/* ------------------------------------------------------------- others */

/* Servers as protobuf-c wants them: structs and pointers to them. */
struct server_list {
    Mr__Rpc__Server servers[FRAME_SERVERS_MAX];
    Mr__Rpc__Server *at[FRAME_SERVERS_MAX];
};

static void to_server(const struct frame_server *s, Mr__Rpc__Server *out)
{
    mr__rpc__server__init(out);
    out->id = s->id;
    out->node_id = unconst(s->node_id);
    out->node_name = unconst(s->name);
    out->address = unconst(s->address);
}

static Mr__Rpc__Server **to_servers(const struct frame_server *servers,
                                    size_t n, struct server_list *list)
{
    for (size_t i = 0; i < n; i++) {
        to_server(&servers[i], &list->servers[i]);
        list->at[i] = &list->servers[i];
    }
    return list->at;
}

/* A Hello and what it points to. */
struct hello_parts {
    Mr__Rpc__Hello hello;
    Mr__Rpc__Server self;
    struct server_list known;
};

static void to_hello(const struct frame_hello *h, struct hello_parts *p)
{
    mr__rpc__hello__init(&p->hello);
    to_server(&h->self, &p->self);
    p->hello.version = h->version;
    p->hello.min_version = h->min_version;
    p->hello.cluster_id = h->cluster_id;
    p->hello.self = &p->self;
    p->hello.datacenter = unconst(h->datacenter);
    p->hello.purpose = h->purpose;
    p->hello.to_id = h->to_id;
    p->hello.bootstrap_expect = h->expect;
    p->hello.n_known = h->n_known;
    p->hello.known = to_servers(h->known, h->n_known, &p->known);
}

void frame_put_hello(struct mr_buf *b, const struct frame_hello *hello)
{
    struct hello_parts p;

    to_hello(hello, &p);
    put_frame(b, FRAME_HELLO, &p.hello.base, 0);
}

void frame_put_welcome(struct mr_buf *b, const struct frame_welcome *welcome)
{
    Mr__Rpc__Welcome m = MR__RPC__WELCOME__INIT;
    struct hello_parts p;

    to_hello(&welcome->hello, &p);
    m.refusal = welcome->refusal;
    m.reason = unconst(welcome->reason);
    m.hello = &p.hello;
    put_frame(b, FRAME_WELCOME, &m.base, 0);
}

void frame_put_gossip(struct mr_buf *b, const struct frame_gossip *gossip)
{
    Mr__Rpc__Gossip m = MR__RPC__GOSSIP__INIT;
    struct server_list list;

    m.cluster_id = gossip->cluster_id;
    m.bootstrap_expect = gossip->expect;
    m.n_known = gossip->n_known;
    m.known = to_servers(gossip->known, gossip->n_known, &list);
    put_frame(b, FRAME_GOSSIP, &m.base, 0);
}

static void to_promise(const struct frame_promise *promise,
                       struct server_list *list, Mr__Rpc__Promise *out)
{
    mr__rpc__promise__init(out);
    out->cluster_id = promise->cluster_id;
    out->proposer = promise->proposer;
    out->n_servers = promise->n_servers;
    out->servers = to_servers(promise->servers, promise->n_servers, list);
}

void frame_put_promise(struct mr_buf *b, const struct frame_promise *promise)
{
    Mr__Rpc__Promise m;
    struct server_list list;

    to_promise(promise, &list, &m);
    put_frame(b, FRAME_PROMISE, &m.base, 0);
}

void frame_put_promise_reply(struct mr_buf *b,
                             const struct frame_promise_reply *reply)
{
    Mr__Rpc__PromiseReply m = MR__RPC__PROMISE_REPLY__INIT;

    m.cluster_id = reply->cluster_id;
    m.accepted = reply->accepted;
    m.reason = unconst(reply->reason);
    put_frame(b, FRAME_PROMISE_REPLY, &m.base, 0);
}

void frame_put_snapshot(struct mr_buf *b, const struct frame_snapshot *s)
{
    Mr__Rpc__Snapshot m = MR__RPC__SNAPSHOT__INIT;

    m.term = s->term;
    m.index = s->meta.index;
    m.last_term = s->meta.term;
    m.conf_index = s->meta.conf_index;
    m.conf.data = (uint8_t *)(uintptr_t)s->meta.conf.data;
    m.conf.len = s->meta.conf.len;
    put_frame(b, FRAME_SNAPSHOT, &m.base, 0);
}

void frame_put_chunk(struct mr_buf *b, struct mr_slice bytes)
{
    put_frame(b, FRAME_SNAPSHOT_CHUNK, NULL, bytes.len);
    mr_buf_add(b, bytes.data, bytes.len);
}

void frame_put_opaque(struct mr_buf *b, struct mr_slice bytes)
{
    put_frame(b, FRAME_OPAQUE, NULL, bytes.len);
    mr_buf_add(b, bytes.data, bytes.len);
}

void frame_put_snapshot_reply(struct mr_buf *b, enum mr_err err)
{
    Mr__Rpc__SnapshotReply m = MR__RPC__SNAPSHOT_REPLY__INIT;

    m.err = frame_err_to_wire(err);
    put_frame(b, FRAME_SNAPSHOT_REPLY, &m.base, 0);
}

static void store(struct mr_buf *b, const ProtobufCMessage *m)
{
    uint8_t *p = mr_buf_grow(b, protobuf_c_message_get_packed_size(m));

    if (p != NULL) {
        (void)protobuf_c_message_pack(m, p);
    }
}

void frame_store_promise(struct mr_buf *b, const struct frame_promise *promise)
{
    Mr__Rpc__Promise m;
    struct server_list list;

    to_promise(promise, &list, &m);
    store(b, &m.base);
}

void frame_store_servers(struct mr_buf *b, const struct frame_server *servers,
                         size_t n)
{
    Mr__Rpc__Directory m = MR__RPC__DIRECTORY__INIT;
    struct server_list list;

    m.n_servers = n < FRAME_SERVERS_MAX ? n : FRAME_SERVERS_MAX;
    m.servers = to_servers(servers, m.n_servers, &list);
    store(b, &m.base);
}
