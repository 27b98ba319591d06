/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding of frames. */
#include "raft/frame.h"

#include <string.h>

#include "base/mem.h"
#include "raft/frame_codec.h"
#include "raft/rpc.pb-c.h"

#define CHUNK_BYTES 4096

/* ------------------------------------------------------------- arena */

struct chunk {
    struct chunk *next;
    max_align_t data[];
};

static void free_chunks(struct chunk *chunk)
{
    while (chunk != NULL) {
        struct chunk *next = chunk->next;

        mr_free(chunk);
        chunk = next;
    }
}

/* Forget everything; one chunk stays. */
static void arena_reset(struct frame_arena *arena)
{
    struct chunk *chunk = arena->chunk;

    if (chunk != NULL) {
        free_chunks(chunk->next);
        chunk->next = NULL;
    }
    arena->used = 0;
}

void frame_arena_deinit(struct frame_arena *arena)
{
    free_chunks(arena->chunk);
    memset(arena, 0, sizeof *arena);
}

/* What comes from outside is bounded by the frame: an entry of a list of
 * numbers takes at most eight times its bytes. */
static void *arena_alloc(void *arg, size_t size)
{
    struct frame_arena *arena = arg;
    void *p;

    size = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) *
           sizeof(max_align_t);
    if (arena->chunk == NULL || arena->cap - arena->used < size) {
        size_t cap = size > CHUNK_BYTES ? size : CHUNK_BYTES;
        struct chunk *chunk = mr_malloc(sizeof *chunk + cap);

        if (chunk == NULL) {
            return NULL;
        }
        chunk->next = arena->chunk;
        arena->chunk = chunk;
        arena->used = 0;
        arena->cap = cap;
    }
    p = (char *)((struct chunk *)arena->chunk)->data + arena->used;
    arena->used += size;
    return p;
}

static void arena_free(void *arg, void *p)
{
    (void)arg;
    (void)p;
}

static void *unpack(struct frame_arena *arena, struct mr_slice bytes,
                    const ProtobufCMessageDescriptor *desc)
{
    ProtobufCAllocator allocator = {arena_alloc, arena_free, arena};

    arena_reset(arena);
    return protobuf_c_message_unpack(desc, &allocator, bytes.len, bytes.data);
}

/* ------------------------------------------------------------- driver's */

static enum mr_err copy_bulk(const struct frame *f,
                             struct driver_blob **out_blob)
{
    struct driver_blob *blob = driver_blob_new(f->bulk.len);

    if (blob == NULL) {
        return MR_E_NOMEM;
    }
    memcpy(blob->data, f->bulk.data, f->bulk.len);
    *out_blob = blob;
    return MR_OK;
}

/* Lay the entries over the bulk, which they must fill exactly. */
static enum mr_err lay_entries(const Mr__Rpc__Append *m,
                               struct driver_blob *blob,
                               struct driver_entry *entries)
{
    size_t at = 0;

    for (size_t i = 0; i < m->n_lens; i++) {
        if (m->lens[i] > blob->len - at ||
            m->types[i] < DRIVER_ENTRY_COMMANDS ||
            m->types[i] > DRIVER_ENTRY_CHANGE) {
            return MR_E_CORRUPT;
        }
        entries[i].term = m->terms[i];
        entries[i].type = (enum driver_entry_type)m->types[i];
        entries[i].data = mr_slice(blob->data + at, m->lens[i]);
        entries[i].blob = blob;
        at += m->lens[i];
    }
    return at == blob->len ? MR_OK : MR_E_CORRUPT;
}

static enum mr_err get_append(const struct frame *f, struct frame_arena *arena,
                              struct driver_message *out,
                              struct driver_blob **out_blob)
{
    const Mr__Rpc__Append *m =
        unpack(arena, f->head, &mr__rpc__append__descriptor);
    struct driver_entry *entries;
    enum mr_err err;

    if (m == NULL || m->n_terms != m->n_lens || m->n_types != m->n_lens ||
        (m->n_lens == 0 && f->bulk.len != 0)) {
        return MR_E_CORRUPT;
    }
    out->term = m->term;
    out->append = (struct driver_append){m->prev_index, m->prev_term, m->commit,
                                         NULL, m->n_lens};
    if (m->n_lens == 0) {
        return MR_OK;
    }
    entries = arena_alloc(arena, m->n_lens * sizeof *entries);
    if (entries == NULL) {
        return MR_E_NOMEM;
    }
    err = copy_bulk(f, out_blob);
    if (err == MR_OK) {
        err = lay_entries(m, *out_blob, entries);
    }
    out->append.entries = entries;
    return err;
}

static enum mr_err get_append_result(const struct frame *f,
                                     struct frame_arena *arena,
                                     struct driver_message *out,
                                     struct driver_blob **out_blob)
{
    const Mr__Rpc__AppendResult *m =
        unpack(arena, f->head, &mr__rpc__append_result__descriptor);

    (void)out_blob;
    if (m == NULL) {
        return MR_E_CORRUPT;
    }
    out->term = m->term;
    out->append_result = (struct driver_append_result){
        m->rejected, m->last_index, m->version, m->features, m->capacity};
    return MR_OK;
}

static enum mr_err get_vote(const struct frame *f, struct frame_arena *arena,
                            struct driver_message *out,
                            struct driver_blob **out_blob)
{
    const Mr__Rpc__Vote *m = unpack(arena, f->head, &mr__rpc__vote__descriptor);

    (void)out_blob;
    if (m == NULL) {
        return MR_E_CORRUPT;
    }
    out->term = m->term;
    out->vote = (struct driver_vote){m->version,   m->candidate, m->last_index,
                                     m->last_term, m->disrupt,   m->pre_vote};
    return MR_OK;
}

static enum mr_err get_vote_result(const struct frame *f,
                                   struct frame_arena *arena,
                                   struct driver_message *out,
                                   struct driver_blob **out_blob)
{
    const Mr__Rpc__VoteResult *m =
        unpack(arena, f->head, &mr__rpc__vote_result__descriptor);

    (void)out_blob;
    if (m == NULL) {
        return MR_E_CORRUPT;
    }
    out->term = m->term;
    out->vote_result = (struct driver_vote_result){
        m->version, m->granted, m->pre_vote, m->features, m->capacity};
    return MR_OK;
}

static enum mr_err get_timeout_now(const struct frame *f,
                                   struct frame_arena *arena,
                                   struct driver_message *out,
                                   struct driver_blob **out_blob)
{
    const Mr__Rpc__TimeoutNow *m =
        unpack(arena, f->head, &mr__rpc__timeout_now__descriptor);

    (void)out_blob;
    if (m == NULL) {
        return MR_E_CORRUPT;
    }
    out->term = m->term;
    out->timeout_now = (struct driver_timeout_now){m->last_index, m->last_term};
    return MR_OK;
}

static enum mr_err get_forward(const struct frame *f, struct frame_arena *arena,
                               struct driver_message *out,
                               struct driver_blob **out_blob)
{
    const Mr__Rpc__Forward *m =
        unpack(arena, f->head, &mr__rpc__forward__descriptor);
    enum mr_err err;

    if (m == NULL) {
        return MR_E_CORRUPT;
    }
    err = copy_bulk(f, out_blob);
    if (err != MR_OK) {
        return err;
    }
    out->term = m->term;
    out->forward = (struct driver_forward){
        m->incarnation, m->prev_seq,
        mr_slice((*out_blob)->data, (*out_blob)->len), *out_blob};
    return MR_OK;
}

static enum mr_err get_forward_reply(const struct frame *f,
                                     struct frame_arena *arena,
                                     struct driver_message *out,
                                     struct driver_blob **out_blob)
{
    const Mr__Rpc__ForwardReply *m =
        unpack(arena, f->head, &mr__rpc__forward_reply__descriptor);

    (void)out_blob;
    if (m == NULL) {
        return MR_E_CORRUPT;
    }
    out->term = m->term;
    out->forward_reply = (struct driver_forward_reply){
        m->incarnation, m->last_seq, frame_err_from_wire(m->err)};
    return MR_OK;
}

static enum mr_err get_read(const struct frame *f, struct frame_arena *arena,
                            struct driver_message *out,
                            struct driver_blob **out_blob)
{
    const Mr__Rpc__Read *m = unpack(arena, f->head, &mr__rpc__read__descriptor);

    (void)out_blob;
    if (m == NULL) {
        return MR_E_CORRUPT;
    }
    out->term = m->term;
    out->read = (struct driver_read_request){m->seq, m->consistent};
    return MR_OK;
}

static enum mr_err get_read_reply(const struct frame *f,
                                  struct frame_arena *arena,
                                  struct driver_message *out,
                                  struct driver_blob **out_blob)
{
    const Mr__Rpc__ReadReply *m =
        unpack(arena, f->head, &mr__rpc__read_reply__descriptor);

    (void)out_blob;
    if (m == NULL) {
        return MR_E_CORRUPT;
    }
    out->term = m->term;
    out->read_reply = (struct driver_read_reply){m->seq, m->index,
                                                 frame_err_from_wire(m->err)};
    return MR_OK;
}

static enum mr_err get_confirm(const struct frame *f, struct frame_arena *arena,
                               struct driver_message *out,
                               struct driver_blob **out_blob)
{
    const Mr__Rpc__Confirm *m =
        unpack(arena, f->head, &mr__rpc__confirm__descriptor);

    (void)out_blob;
    if (m == NULL) {
        return MR_E_CORRUPT;
    }
    out->term = m->term;
    out->confirm = (struct driver_confirm){m->round};
    return MR_OK;
}

static enum mr_err get_member(const struct frame *f, struct frame_arena *arena,
                              struct driver_message *out,
                              struct driver_blob **out_blob)
{
    const Mr__Rpc__Member *m =
        unpack(arena, f->head, &mr__rpc__member__descriptor);

    (void)out_blob;
    if (m == NULL || m->op < DRIVER_MEMBER_ADD ||
        m->op > DRIVER_MEMBER_TRANSFER ||
        strlen(m->address) >= FRAME_ADDRESS_MAX) {
        return MR_E_CORRUPT;
    }
    out->term = m->term;
    out->member = (struct driver_member){m->seq, (enum driver_member_op)m->op,
                                         m->id, m->address};
    return MR_OK;
}

static enum mr_err get_member_reply(const struct frame *f,
                                    struct frame_arena *arena,
                                    struct driver_message *out,
                                    struct driver_blob **out_blob)
{
    const Mr__Rpc__MemberReply *m =
        unpack(arena, f->head, &mr__rpc__member_reply__descriptor);

    (void)out_blob;
    if (m == NULL || strlen(m->leader_address) >= FRAME_ADDRESS_MAX) {
        return MR_E_CORRUPT;
    }
    out->term = m->term;
    out->member_reply = (struct driver_member_reply){
        m->seq, frame_err_from_wire(m->err), m->leader_id, m->leader_address};
    return MR_OK;
}

enum mr_err frame_get_message(const struct frame *f, struct frame_arena *arena,
                              struct driver_message *out,
                              struct driver_blob **out_blob)
{
    static enum mr_err (*const get[])(
        const struct frame *, struct frame_arena *, struct driver_message *,
        struct driver_blob **) = {
        [DRIVER_MSG_APPEND] = get_append,
        [DRIVER_MSG_APPEND_RESULT] = get_append_result,
        [DRIVER_MSG_VOTE] = get_vote,
        [DRIVER_MSG_VOTE_RESULT] = get_vote_result,
        [DRIVER_MSG_TIMEOUT_NOW] = get_timeout_now,
        [DRIVER_MSG_FORWARD] = get_forward,
        [DRIVER_MSG_FORWARD_REPLY] = get_forward_reply,
        [DRIVER_MSG_READ] = get_read,
        [DRIVER_MSG_READ_REPLY] = get_read_reply,
        [DRIVER_MSG_CONFIRM] = get_confirm,
        [DRIVER_MSG_CONFIRM_ACK] = get_confirm,
        [DRIVER_MSG_MEMBER] = get_member,
        [DRIVER_MSG_MEMBER_REPLY] = get_member_reply,
    };
    struct driver_message msg;
    struct driver_blob *blob = NULL;
    enum mr_err err;

    if (f->type >= MR_ARRAY_LEN(get) || get[f->type] == NULL ||
        (f->bulk.len != 0 && f->type != DRIVER_MSG_APPEND &&
         f->type != DRIVER_MSG_FORWARD)) {
        return MR_E_CORRUPT;
    }
    memset(&msg, 0, sizeof msg);
    msg.type = (enum driver_message_type)f->type;
    err = get[f->type](f, arena, &msg, &blob);
    if (err != MR_OK) {
        driver_blob_unref(blob);
        return err;
    }
    *out = msg;
    *out_blob = blob;
    return MR_OK;
}

/* ------------------------------------------------------------- others */

/* A text that must fit, without control characters, for it is logged. */
static enum mr_err copy_text(const char *from, char *to, size_t cap)
{
    size_t len = strlen(from);

    if (len >= cap) {
        return MR_E_CORRUPT;
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)from[i] < ' ' || from[i] == '"' || from[i] == 0x7f) {
            return MR_E_CORRUPT;
        }
    }
    memcpy(to, from, len + 1);
    return MR_OK;
}

static enum mr_err from_server(const Mr__Rpc__Server *m,
                               struct frame_server *out)
{
    struct mr_hostport hostport;

    out->id = m->id;
    if (m->id == 0 || !mr_uuid_valid(m->node_id) ||
        copy_text(m->node_id, out->node_id, sizeof out->node_id) != MR_OK ||
        copy_text(m->node_name, out->name, sizeof out->name) != MR_OK ||
        copy_text(m->address, out->address, sizeof out->address) != MR_OK ||
        mr_hostport_parse(m->address, 0, &hostport, NULL) != MR_OK ||
        hostport.port == 0 || mr_ip_family(hostport.host) == 0) {
        return MR_E_CORRUPT;
    }
    return MR_OK;
}

static enum mr_err from_servers(Mr__Rpc__Server *const *servers, size_t n,
                                struct frame_server *out, size_t *out_n)
{
    if (n > FRAME_SERVERS_MAX) {
        return MR_E_CORRUPT;
    }
    for (size_t i = 0; i < n; i++) {
        enum mr_err err = from_server(servers[i], &out[i]);

        if (err != MR_OK) {
            return err;
        }
    }
    *out_n = n;
    return MR_OK;
}

static enum mr_err from_hello(const Mr__Rpc__Hello *m, struct frame_hello *out)
{
    if (m == NULL || m->self == NULL || m->version < m->min_version) {
        return MR_E_CORRUPT;
    }
    out->version = m->version;
    out->min_version = m->min_version;
    out->cluster_id = m->cluster_id;
    out->purpose = m->purpose;
    out->to_id = m->to_id;
    out->expect = m->bootstrap_expect;
    if (copy_text(m->datacenter, out->datacenter, sizeof out->datacenter) !=
            MR_OK ||
        from_server(m->self, &out->self) != MR_OK) {
        return MR_E_CORRUPT;
    }
    return from_servers(m->known, m->n_known, out->known, &out->n_known);
}

/* The decoders of rare frames use an arena of their own. */
enum mr_err frame_get_hello(const struct frame *f, struct frame_hello *out)
{
    struct frame_arena arena = {0};
    enum mr_err err =
        from_hello(unpack(&arena, f->head, &mr__rpc__hello__descriptor), out);

    frame_arena_deinit(&arena);
    return err;
}

enum mr_err frame_get_welcome(const struct frame *f, struct frame_welcome *out)
{
    struct frame_arena arena = {0};
    const Mr__Rpc__Welcome *m =
        unpack(&arena, f->head, &mr__rpc__welcome__descriptor);
    enum mr_err err = MR_E_CORRUPT;

    if (m != NULL &&
        copy_text(m->reason, out->reason, sizeof out->reason) == MR_OK) {
        out->refusal = m->refusal;
        err = from_hello(m->hello, &out->hello);
    }
    frame_arena_deinit(&arena);
    return err;
}

enum mr_err frame_get_gossip(const struct frame *f, struct frame_gossip *out)
{
    struct frame_arena arena = {0};
    const Mr__Rpc__Gossip *m =
        unpack(&arena, f->head, &mr__rpc__gossip__descriptor);
    enum mr_err err = MR_E_CORRUPT;

    if (m != NULL) {
        out->cluster_id = m->cluster_id;
        out->expect = m->bootstrap_expect;
        err = from_servers(m->known, m->n_known, out->known, &out->n_known);
    }
    frame_arena_deinit(&arena);
    return err;
}

static enum mr_err from_promise(const Mr__Rpc__Promise *m,
                                struct frame_promise *out)
{
    if (m == NULL || m->cluster_id == 0) {
        return MR_E_CORRUPT;
    }
    out->cluster_id = m->cluster_id;
    out->proposer = m->proposer;
    return from_servers(m->servers, m->n_servers, out->servers,
                        &out->n_servers);
}

enum mr_err frame_load_promise(struct mr_slice bytes, struct frame_promise *out)
{
    struct frame_arena arena = {0};
    enum mr_err err =
        from_promise(unpack(&arena, bytes, &mr__rpc__promise__descriptor), out);

    frame_arena_deinit(&arena);
    return err;
}

enum mr_err frame_get_promise(const struct frame *f, struct frame_promise *out)
{
    return frame_load_promise(f->head, out);
}

enum mr_err frame_get_promise_reply(const struct frame *f,
                                    struct frame_promise_reply *out)
{
    struct frame_arena arena = {0};
    const Mr__Rpc__PromiseReply *m =
        unpack(&arena, f->head, &mr__rpc__promise_reply__descriptor);
    enum mr_err err = MR_E_CORRUPT;

    if (m != NULL) {
        out->cluster_id = m->cluster_id;
        out->accepted = m->accepted;
        err = copy_text(m->reason, out->reason, sizeof out->reason);
    }
    frame_arena_deinit(&arena);
    return err;
}

static enum mr_err from_snapshot(const Mr__Rpc__Snapshot *m,
                                 struct frame_snapshot *out, char **out_conf)
{
    char *conf;

    if (m == NULL || m->index == 0) {
        return MR_E_CORRUPT;
    }
    conf = mr_memdup0(m->conf.data, m->conf.len);
    if (conf == NULL) {
        return MR_E_NOMEM;
    }
    out->term = m->term;
    out->meta = (struct driver_snapshot){m->index, m->last_term, m->conf_index,
                                         mr_slice(conf, m->conf.len)};
    *out_conf = conf;
    return MR_OK;
}

enum mr_err frame_get_snapshot(const struct frame *f,
                               struct frame_snapshot *out, char **out_conf)
{
    struct frame_arena arena = {0};
    enum mr_err err = from_snapshot(
        unpack(&arena, f->head, &mr__rpc__snapshot__descriptor), out, out_conf);

    frame_arena_deinit(&arena);
    return err;
}

enum mr_err frame_get_snapshot_reply(const struct frame *f,
                                     enum mr_err *out_err)
{
    struct frame_arena arena = {0};
    const Mr__Rpc__SnapshotReply *m =
        unpack(&arena, f->head, &mr__rpc__snapshot_reply__descriptor);
    enum mr_err err = m == NULL ? MR_E_CORRUPT : MR_OK;

    if (m != NULL) {
        *out_err = frame_err_from_wire(m->err);
    }
    frame_arena_deinit(&arena);
    return err;
}

enum mr_err frame_load_servers(struct mr_slice bytes, struct frame_server *out,
                               size_t *out_n)
{
    struct frame_arena arena = {0};
    const Mr__Rpc__Directory *m =
        unpack(&arena, bytes, &mr__rpc__directory__descriptor);
    enum mr_err err = m == NULL
                          ? MR_E_CORRUPT
                          : from_servers(m->servers, m->n_servers, out, out_n);

    frame_arena_deinit(&arena);
    return err;
}
