/* SPDX-License-Identifier: Apache-2.0 */
/* raft/frame: what is written is read back, and nothing else is believed. */
#include "raft/frame.h"

#include "raft_fixture.h"

static struct frame parse(const struct mr_buf *b)
{
    struct frame f;
    size_t len;

    assert_false(mr_buf_failed(b));
    assert_int_equal(frame_parse(mr_buf_slice(b), FRAME_MAX, &f, &len), MR_OK);
    assert_int_equal(len, b->len);
    return f;
}

/* Encode @msg, decode it into @out; the caller releases blob and arena. */
static void carry(const struct driver_message *msg, struct mr_buf *b,
                  struct frame_arena *arena, struct driver_message *out,
                  struct driver_blob **blob)
{
    struct frame f;

    mr_buf_reset(b);
    frame_put_message(b, msg);
    f = parse(b);
    assert_int_equal(frame_get_message(&f, arena, out, blob), MR_OK);
    assert_int_equal(out->type, msg->type);
    assert_int_equal(out->term, msg->term);
}

static struct frame_server a_server(uint64_t id)
{
    struct frame_server s;

    memset(&s, 0, sizeof s);
    s.id = id;
    (void)snprintf(s.node_id, sizeof s.node_id, "%s", FX_UUID);
    (void)snprintf(s.name, sizeof s.name, "node%llu", (unsigned long long)id);
    (void)snprintf(s.address, sizeof s.address, "127.0.0.%llu:8300",
                   (unsigned long long)id);
    return s;
}

static void a_hello(struct frame_hello *h)
{
    memset(h, 0, sizeof *h);
    h->version = FRAME_VERSION;
    h->min_version = FRAME_VERSION_MIN;
    h->cluster_id = 77;
    h->self = a_server(1);
    (void)snprintf(h->datacenter, sizeof h->datacenter, "dc1");
    h->purpose = FRAME_FOR_PEER;
    h->expect = 3;
    h->known[0] = a_server(2);
    h->known[1] = a_server(3);
    h->n_known = 2;
}

/* ------------------------------------------------------------- success */

/* Entries arrive with their bytes, in one block that all share. */
static void append_carries_its_entries(void **state)
{
    struct driver_entry entries[3] = {
        {4, DRIVER_ENTRY_COMMANDS, {"abc", 3}, NULL},
        {4, DRIVER_ENTRY_BARRIER, {"", 0}, NULL},
        {5, DRIVER_ENTRY_CHANGE, {"configuration", 13}, NULL}};
    struct driver_message msg = {.type = DRIVER_MSG_APPEND, .term = 5};
    struct driver_message out;
    struct frame_arena arena = {0};
    struct driver_blob *blob;
    struct mr_buf b = MR_BUF_INIT;

    (void)state;
    msg.append = (struct driver_append){10, 3, 9, entries, 3};
    carry(&msg, &b, &arena, &out, &blob);
    assert_int_equal(out.append.prev_index, 10);
    assert_int_equal(out.append.prev_term, 3);
    assert_int_equal(out.append.commit, 9);
    assert_int_equal(out.append.n_entries, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(out.append.entries[i].term, entries[i].term);
        assert_int_equal(out.append.entries[i].type, entries[i].type);
        assert_true(mr_slice_eq(out.append.entries[i].data, entries[i].data));
        assert_ptr_equal(out.append.entries[i].blob, blob);
    }
    driver_blob_unref(blob);
    frame_arena_deinit(&arena);
    mr_buf_deinit(&b);
}

/* More entries than fit on the encoder's stack. */
static void append_carries_many_entries(void **state)
{
    static struct driver_entry entries[1000];
    struct driver_message msg = {.type = DRIVER_MSG_APPEND, .term = 5};
    struct driver_message out;
    struct frame_arena arena = {0};
    struct driver_blob *blob;
    struct mr_buf b = MR_BUF_INIT;

    (void)state;
    for (size_t i = 0; i < 1000; i++) {
        entries[i] = (struct driver_entry){
            i, DRIVER_ENTRY_COMMANDS, {"0123456789", i % 10}, NULL};
    }
    msg.append = (struct driver_append){1, 1, 1, entries, 1000};
    carry(&msg, &b, &arena, &out, &blob);
    assert_int_equal(out.append.n_entries, 1000);
    assert_int_equal(out.append.entries[999].data.len, 9);
    driver_blob_unref(blob);
    frame_arena_deinit(&arena);
    mr_buf_deinit(&b);
}

/* Every other message of the driver, field by field. */
static void messages_arrive_as_they_were_sent(void **state)
{
    struct driver_message m;
    struct driver_message out;
    struct frame_arena arena = {0};
    struct driver_blob *blob;
    struct mr_buf b = MR_BUF_INIT;

    (void)state;
    memset(&m, 0, sizeof m);
    m.term = UINT64_MAX;
    m.type = DRIVER_MSG_APPEND_RESULT;
    m.append_result = (struct driver_append_result){1, 2, 3, 4, 5};
    carry(&m, &b, &arena, &out, &blob);
    assert_memory_equal(&out.append_result, &m.append_result,
                        sizeof m.append_result);

    m.type = DRIVER_MSG_VOTE;
    m.vote = (struct driver_vote){1, UINT64_MAX, 3, 4, true, true};
    carry(&m, &b, &arena, &out, &blob);
    assert_int_equal(out.vote.candidate, UINT64_MAX);
    assert_int_equal(out.vote.last_index, 3);
    assert_int_equal(out.vote.last_term, 4);
    assert_true(out.vote.disrupt && out.vote.pre_vote);

    m.type = DRIVER_MSG_VOTE_RESULT;
    m.vote_result = (struct driver_vote_result){1, true, false, 7, 65535};
    carry(&m, &b, &arena, &out, &blob);
    assert_true(out.vote_result.granted && !out.vote_result.pre_vote);
    assert_int_equal(out.vote_result.capacity, 65535);

    m.type = DRIVER_MSG_TIMEOUT_NOW;
    m.timeout_now = (struct driver_timeout_now){8, 9};
    carry(&m, &b, &arena, &out, &blob);
    assert_int_equal(out.timeout_now.last_index, 8);
    assert_int_equal(out.timeout_now.last_term, 9);

    m.type = DRIVER_MSG_FORWARD;
    m.forward = (struct driver_forward){5, 6, {"commands", 8}, NULL};
    carry(&m, &b, &arena, &out, &blob);
    assert_int_equal(out.forward.incarnation, 5);
    assert_int_equal(out.forward.prev_seq, 6);
    assert_true(mr_slice_eq(out.forward.data, m.forward.data));
    assert_ptr_equal(out.forward.blob, blob);
    driver_blob_unref(blob);

    m.type = DRIVER_MSG_FORWARD_REPLY;
    m.forward_reply = (struct driver_forward_reply){5, 6, MR_E_NOTLEADER};
    carry(&m, &b, &arena, &out, &blob);
    assert_int_equal(out.forward_reply.err, MR_E_NOTLEADER);
    assert_int_equal(out.forward_reply.last_seq, 6);

    m.type = DRIVER_MSG_READ;
    m.read = (struct driver_read_request){1, true};
    carry(&m, &b, &arena, &out, &blob);
    assert_true(out.read.consistent);

    m.type = DRIVER_MSG_READ_REPLY;
    m.read_reply = (struct driver_read_reply){1, 2, MR_OK};
    carry(&m, &b, &arena, &out, &blob);
    assert_int_equal(out.read_reply.index, 2);

    m.type = DRIVER_MSG_CONFIRM_ACK;
    m.confirm = (struct driver_confirm){3};
    carry(&m, &b, &arena, &out, &blob);
    assert_int_equal(out.confirm.round, 3);

    m.type = DRIVER_MSG_MEMBER;
    m.member =
        (struct driver_member){0, DRIVER_MEMBER_ADD, 9, "127.0.0.1:8300"};
    carry(&m, &b, &arena, &out, &blob);
    assert_int_equal(out.member.op, DRIVER_MEMBER_ADD);
    assert_string_equal(out.member.address, "127.0.0.1:8300");

    m.type = DRIVER_MSG_MEMBER_REPLY;
    m.member_reply = (struct driver_member_reply){1, MR_E_BUSY, 4, ""};
    carry(&m, &b, &arena, &out, &blob);
    assert_int_equal(out.member_reply.err, MR_E_BUSY);
    assert_int_equal(out.member_reply.leader_id, 4);
    frame_arena_deinit(&arena);
    mr_buf_deinit(&b);
}

/* A Hello with the servers it knows. */
static void hello_names_who_is_known(void **state)
{
    static struct frame_hello h;
    static struct frame_welcome w;
    struct mr_buf b = MR_BUF_INIT;
    struct frame f;

    (void)state;
    a_hello(&w.hello);
    w.refusal = FRAME_OTHER_CLUSTER;
    (void)snprintf(w.reason, sizeof w.reason, "because");
    frame_put_hello(&b, &w.hello);
    f = parse(&b);
    assert_int_equal(frame_get_hello(&f, &h), MR_OK);
    assert_memory_equal(&h, &w.hello, sizeof h);
    mr_buf_reset(&b);
    frame_put_welcome(&b, &w);
    f = parse(&b);
    memset(&w, 0, sizeof w);
    assert_int_equal(frame_get_welcome(&f, &w), MR_OK);
    assert_int_equal(w.refusal, FRAME_OTHER_CLUSTER);
    assert_string_equal(w.reason, "because");
    assert_memory_equal(&w.hello, &h, sizeof h);
    mr_buf_deinit(&b);
}

/* A promise is stored and loaded. */
static void promise_is_stored_and_loaded(void **state)
{
    static struct frame_promise p;
    static struct frame_promise q;
    struct mr_buf b = MR_BUF_INIT;

    (void)state;
    p.cluster_id = 5;
    p.proposer = 2;
    p.servers[0] = a_server(2);
    p.servers[1] = a_server(4);
    p.n_servers = 2;
    frame_store_promise(&b, &p);
    assert_int_equal(frame_load_promise(mr_buf_slice(&b), &q), MR_OK);
    assert_memory_equal(&p, &q, sizeof p);
    mr_buf_deinit(&b);
}

/* A frame is found only when all of it is there. */
static void half_frames_wait(void **state)
{
    struct driver_message m = {.type = DRIVER_MSG_FORWARD};
    struct mr_buf b = MR_BUF_INIT;
    struct frame f;
    size_t len;

    (void)state;
    m.forward.data = mr_slice_str("some commands");
    frame_put_message(&b, &m);
    for (size_t n = 0; n < b.len; n++) {
        assert_int_equal(frame_parse(mr_slice(b.data, n), FRAME_MAX, &f, &len),
                         MR_OK);
        assert_int_equal(len, 0);
    }
    mr_buf_deinit(&b);
}

/* ------------------------------------------------------------- failure */

/* The handshake's table: who is let in, and what the others are told. */
static void handshake_refuses_strangers(void **state)
{
    static struct frame_hello self;
    static struct frame_hello hello;
    char reason[FRAME_REASON_MAX + 1];

    (void)state;
    a_hello(&self);
    a_hello(&hello);
    hello.self = a_server(9);
    assert_int_equal(frame_check_hello(&self, &hello, reason), FRAME_WELCOMED);
    hello.cluster_id = 0;
    assert_int_equal(frame_check_hello(&self, &hello, reason), FRAME_WELCOMED);
    hello.cluster_id = 78;
    assert_int_equal(frame_check_hello(&self, &hello, reason),
                     FRAME_OTHER_CLUSTER);
    assert_non_null(strstr(reason, "000000000000004d"));
    hello.cluster_id = 77;
    hello.to_id = 2;
    assert_int_equal(frame_check_hello(&self, &hello, reason), FRAME_NOT_HIM);
    hello.to_id = 1;
    assert_int_equal(frame_check_hello(&self, &hello, reason), FRAME_WELCOMED);
    hello.self = a_server(1);
    assert_int_equal(frame_check_hello(&self, &hello, reason), FRAME_IS_SELF);
    hello.self = a_server(9);
    (void)snprintf(hello.datacenter, sizeof hello.datacenter, "dc2");
    assert_int_equal(frame_check_hello(&self, &hello, reason),
                     FRAME_OTHER_DATACENTER);
    assert_non_null(strstr(reason, "dc1"));
    hello.version = hello.min_version = 99;
    assert_int_equal(frame_check_hello(&self, &hello, reason),
                     FRAME_BAD_VERSION);
    assert_non_null(strstr(reason, "version"));
}

/* Lengths that cannot be are no frames; a long one is named so. */
static void impossible_lengths_are_refused(void **state)
{
    uint8_t b[16] = {0, 0, 0, 4};
    struct frame f;
    size_t len;

    (void)state;
    assert_int_equal(frame_parse(mr_slice(b, 16), FRAME_MAX, &f, &len),
                     MR_E_CORRUPT);
    b[0] = 0x40;
    assert_int_equal(frame_parse(mr_slice(b, 16), FRAME_MAX, &f, &len),
                     MR_E_TOOBIG);
    b[0] = 0;
    b[3] = 12;
    b[11] = 5; /* A head longer than the frame. */
    assert_int_equal(frame_parse(mr_slice(b, 16), FRAME_MAX, &f, &len),
                     MR_E_CORRUPT);
}

/* Entries that do not fill their bytes, or have an unknown type. */
static void inconsistent_append_is_refused(void **state)
{
    struct driver_entry entry = {4, DRIVER_ENTRY_COMMANDS, {"abc", 3}, NULL};
    struct driver_message msg = {.type = DRIVER_MSG_APPEND, .term = 5};
    struct driver_message out;
    struct frame_arena arena = {0};
    struct driver_blob *blob = NULL;
    struct mr_buf b = MR_BUF_INIT;
    struct frame f;

    (void)state;
    msg.append = (struct driver_append){10, 3, 9, &entry, 1};
    frame_put_message(&b, &msg);
    f = parse(&b);
    f.bulk.len--;
    assert_int_equal(frame_get_message(&f, &arena, &out, &blob), MR_E_CORRUPT);
    entry.type = (enum driver_entry_type)9;
    mr_buf_reset(&b);
    frame_put_message(&b, &msg);
    f = parse(&b);
    assert_int_equal(frame_get_message(&f, &arena, &out, &blob), MR_E_CORRUPT);
    f.type = 4711;
    assert_int_equal(frame_get_message(&f, &arena, &out, &blob), MR_E_CORRUPT);
    frame_arena_deinit(&arena);
    mr_buf_deinit(&b);
}

/* Names with control characters, no address, too many servers. */
static void bad_servers_are_refused(void **state)
{
    static struct frame_hello h;
    static struct frame_hello out;
    static const char *const addresses[] = {"", "nowhere", "localhost:8300",
                                            "127.0.0.1", "127.0.0.1:0"};
    struct mr_buf b = MR_BUF_INIT;
    struct frame f;

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(addresses); i++) {
        a_hello(&h);
        (void)snprintf(h.self.address, sizeof h.self.address, "%s",
                       addresses[i]);
        mr_buf_reset(&b);
        frame_put_hello(&b, &h);
        f = parse(&b);
        assert_int_equal(frame_get_hello(&f, &out), MR_E_CORRUPT);
    }
    a_hello(&h);
    (void)snprintf(h.self.name, sizeof h.self.name, "a\nERROR: fake");
    mr_buf_reset(&b);
    frame_put_hello(&b, &h);
    f = parse(&b);
    assert_int_equal(frame_get_hello(&f, &out), MR_E_CORRUPT);
    mr_buf_deinit(&b);
}

/* Without memory a message is not decoded, and nothing leaks. */
static void decoding_fails_cleanly_without_memory(void **state)
{
    struct driver_entry entry = {4, DRIVER_ENTRY_COMMANDS, {"abc", 3}, NULL};
    struct driver_message msg = {.type = DRIVER_MSG_APPEND, .term = 5};
    struct driver_message out;
    struct driver_blob *blob = NULL;
    struct mr_buf b = MR_BUF_INIT;
    enum mr_err err = MR_E_NOMEM;
    struct frame f;

    (void)state;
    msg.append = (struct driver_append){10, 3, 9, &entry, 1};
    frame_put_message(&b, &msg);
    f = parse(&b);
    for (uint64_t n = 0; err != MR_OK; n++) {
        struct frame_arena arena = {0};

        mr_mem_fail_after(n);
        err = frame_get_message(&f, &arena, &out, &blob);
        mr_mem_fail_after(UINT64_MAX);
        assert_true(n < 10);
        if (err == MR_OK) {
            driver_blob_unref(blob);
        }
        frame_arena_deinit(&arena);
    }
    mr_buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(append_carries_its_entries),
        cmocka_unit_test(append_carries_many_entries),
        cmocka_unit_test(messages_arrive_as_they_were_sent),
        cmocka_unit_test(hello_names_who_is_known),
        cmocka_unit_test(promise_is_stored_and_loaded),
        cmocka_unit_test(half_frames_wait),
        cmocka_unit_test(handshake_refuses_strangers),
        cmocka_unit_test(impossible_lengths_are_refused),
        cmocka_unit_test(inconsistent_append_is_refused),
        cmocka_unit_test(bad_servers_are_refused),
        cmocka_unit_test(decoding_fails_cleanly_without_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
