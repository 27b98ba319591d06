/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions, locks, fencing numbers, lock-delays and members that left. */
#include "tests/unit/kv_lease_fixture.h"

#define A "aaaaaaaa-0000-0000-0000-000000000001"
#define B "bbbbbbbb-0000-0000-0000-000000000002"

/* A session on node n; what is 0 or NULL is left out. */
struct session {
    const char *id;
    const char *check; /* "": none; NULL: serfHealth. */
    const char *service_check;
    uint64_t ttl_ms;
    uint64_t lock_delay_ms;
    bool is_delete;
};

static struct mr_kv_result create(struct lease_store *s, struct session in)
{
    Mr__Session session = MR__SESSION__INIT;
    Mr__SessionCreate create = MR__SESSION_CREATE__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    char *node_checks[] = {S(in.check == NULL ? "serfHealth" : in.check)};
    char *service_checks[] = {S(in.service_check)};

    session.id = S(in.id);
    session.name = S("lock");
    session.node = S("n");
    session.ttl_ms = in.ttl_ms;
    session.lock_delay_ms = in.lock_delay_ms;
    session.behavior = in.is_delete ? MR__SESSION_BEHAVIOR__DELETE
                                    : MR__SESSION_BEHAVIOR__RELEASE;
    session.node_checks = node_checks;
    session.n_node_checks = node_checks[0][0] == '\0' ? 0 : 1;
    session.service_checks = service_checks;
    session.n_service_checks = in.service_check == NULL ? 0 : 1;
    create.session = &session;
    cmd.op_case = MR__COMMAND__OP_SESSION_CREATE;
    cmd.session_create = &create;
    return fx_apply(&s->f, &cmd);
}

static struct mr_kv_result destroy(struct lease_store *s, const char *id)
{
    Mr__SessionDestroy destroy = MR__SESSION_DESTROY__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    destroy.id = S(id);
    cmd.op_case = MR__COMMAND__OP_SESSION_DESTROY;
    cmd.session_destroy = &destroy;
    return fx_apply(&s->f, &cmd);
}

/* A write of key "k", with what is given of a lock. */
struct put {
    const char *value;
    const char *acquire;
    const char *release;
    const char *fence_key;
    uint64_t fence;
    uint64_t flags;
};

static struct mr_kv_result put(struct lease_store *s, struct put p)
{
    Mr__KeyPut put = MR__KEY_PUT__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    put.key = fx_bytes("k");
    put.value = fx_bytes(p.value);
    put.flags = p.flags;
    put.acquire = S(p.acquire == NULL ? "" : p.acquire);
    put.release = S(p.release == NULL ? "" : p.release);
    put.fence_key = fx_bytes(p.fence_key == NULL ? "" : p.fence_key);
    put.fence = p.fence;
    cmd.op_case = MR__COMMAND__OP_KEY_PUT;
    cmd.key_put = &put;
    return fx_apply(&s->f, &cmd);
}

/* Key k as "VALUE SESSION(first letter) LOCKINDEX FLAGS CREATE MODIFY FENCE". */
static void key_is(struct lease_store *s, const char *want)
{
    struct mr_kv_view *view = fx_view(&s->f);
    const Mr__Key *key;
    char text[256] = "gone";

    assert_int_equal(mr_kv_key_get(view, mr_slice_str("k"), &key, NULL), MR_OK);
    if (key != NULL) {
        (void)snprintf(text, sizeof text, "%.*s %.1s %d %d %d %d %d",
                       (int)key->value.len, (const char *)key->value.data,
                       key->session, (int)key->lock_index, (int)key->flags,
                       (int)key->create_rev, (int)key->modify_rev,
                       (int)key->fence);
    }
    mr_kv_view_end(view);
    assert_string_equal(text, want);
}

static bool add_session(void *arg, const Mr__Session *session)
{
    fx_add(arg, "%.1s:%d:%d ", session->id, (int)session->create_rev,
           (int)session->lease_id);
    return true;
}

/* The sessions of @node (NULL: of all) and the index. */
static void sessions_are(struct lease_store *s, const char *node,
                         const char *want)
{
    struct mr_kv_view *view = fx_view(&s->f);
    struct fx_text t = {.len = 0};
    uint64_t index;

    assert_int_equal(mr_kv_session_list(view, node, add_session, &t, &index),
                     MR_OK);
    fx_add(&t, "at %d", (int)index);
    mr_kv_view_end(view);
    assert_string_equal(t.text, want);
}

/* Node n with serfHealth and a service "web" with the check c. Revision 3. */
static void add_node(struct lease_store *s)
{
    (void)ls_register(s, (struct ls_reg){.node = "n", .check = "serfHealth"});
    (void)ls_register(
        s, (struct ls_reg){.node = "n", .service = "web", .check = "c"});
    ls_forget(s);
}

/* ------------------------------------------------------------ sessions */

/* A session is found by its ID in any case, and in the lists. */
static void created_session_is_found(void **state)
{
    struct lease_store *s = *state;
    struct mr_kv_view *view;
    const Mr__Session *session;
    struct mr_kv_lease_ref ref;
    uint64_t index;

    add_node(s);
    sessions_are(s, NULL, "at 1");
    assert_true(create(s, (struct session){.id = B}).changed);
    assert_true(create(s, (struct session){.id = A, .ttl_ms = 9000}).changed);
    sessions_are(s, NULL, "a:5:1 b:4:0 at 5");
    sessions_are(s, "N", "a:5:1 b:4:0 at 5");
    sessions_are(s, "other", "at 5");
    view = fx_view(&s->f);
    assert_int_equal(mr_kv_session_get(view,
                                       "AAAAAAAA-0000-0000-0000-000000000001",
                                       &session, &index),
                     MR_OK);
    assert_string_equal(session->id, A);
    assert_string_equal(session->node_checks[0], "serfHealth");
    assert_int_equal(session->ttl_ms, 9000);
    assert_int_equal(index, 5);
    mr_kv_view_end(view);
    ref = ls_find(s, MR_KV_SUBJECT_SESSION, "", A);
    assert_int_equal(ref.lease_id, 1);
    assert_false(ls_find(s, MR_KV_SUBJECT_SESSION, "", "x").exists);
    assert_true(ls_find(s, MR_KV_SUBJECT_SESSION, "", B).exists);
}

/* A session needs its node and its checks, none of them critical, and an ID of
 * its own. */
static void impossible_sessions_are_refused(void **state)
{
    struct lease_store *s = *state;
    char long_id[80];

    memset(long_id, 'x', sizeof long_id);
    long_id[sizeof long_id - 1] = '\0';
    assert_string_equal(create(s, (struct session){.id = A}).text,
                        "Missing node registration");
    add_node(s);
    assert_string_equal(create(s, (struct session){.id = ""}).text,
                        "Missing session ID");
    assert_string_equal(create(s, (struct session){.id = long_id}).text,
                        "Session ID is too long (limit: 64 bytes)");
    assert_string_equal(create(s, (struct session){.id = A, .check = "x"}).text,
                        "Missing check 'x' registration");
    (void)fx_update(&s->f, "n", "c", "critical", false);
    assert_string_equal(
        create(s, (struct session){.id = A, .service_check = "c"}).text,
        "Check 'c' is in critical state");
    (void)create(s, (struct session){.id = A});
    assert_int_equal(create(s, (struct session){.id = A}).verdict,
                     MR_KV_REFUSED);
    sessions_are(s, NULL, "a:5:0 at 5");
}

/* Destroying a session twice is done the first time. */
static void destroyed_session_is_gone(void **state)
{
    struct lease_store *s = *state;
    struct fx_text t;

    add_node(s);
    (void)create(s, (struct session){.id = A, .ttl_ms = 9000});
    assert_true(destroy(s, A).changed);
    assert_false(destroy(s, A).changed);
    sessions_are(s, NULL, "at 5");
    sessions_are(s, "n", "at 5");
    assert_string_equal(ls_list(s, &t), "");
    assert_string_equal(s->events.text, "session registered n/" A "\n"
                                        "session deregistered n/" A "\n");
}

/* A session ends with its lease, with a check that turns critical or goes, and
 * with its node; a warning is fine. */
static void session_ends_with_what_it_is_bound_to(void **state)
{
    struct lease_store *s = *state;

    add_node(s);
    (void)create(s, (struct session){.id = A, .ttl_ms = 9000});
    (void)ls_end(s, 1);
    sessions_are(s, NULL, "at 5");
    (void)create(s, (struct session){.id = A, .service_check = "c"});
    (void)create(s, (struct session){.id = B, .check = ""});
    (void)fx_update(&s->f, "n", "c", "warning", false);
    sessions_are(s, NULL, "a:6:0 b:7:0 at 7");
    (void)fx_update(&s->f, "n", "c", "critical", false);
    sessions_are(s, NULL, "b:7:0 at 9");
    (void)create(s, (struct session){.id = A});
    (void)fx_deregister(&s->f, "n", NULL, "serfHealth");
    sessions_are(s, NULL, "b:7:0 at 11");
    (void)fx_update(&s->f, "n", "c", "passing", false);
    (void)create(s, (struct session){.id = A, .check = "c"});
    (void)fx_deregister(&s->f, "n", "web", NULL);
    sessions_are(s, NULL, "b:7:0 at 14");
    (void)fx_deregister(&s->f, "n", NULL, NULL);
    sessions_are(s, NULL, "at 15");
}

/* The death of an agent ends the sessions that are bound to its health. */
static void session_ends_with_the_agent(void **state)
{
    struct lease_store *s = *state;
    struct fx_text t;

    (void)ls_register(s, (struct ls_reg){.node = "n",
                                         .node_ttl_ms = 4000,
                                         .check = "serfHealth"});
    (void)create(s, (struct session){.id = A, .lock_delay_ms = 15000});
    (void)put(s, (struct put){.value = "v", .acquire = A});
    ls_forget(s);
    (void)ls_end(s, 1);
    sessions_are(s, NULL, "at 5");
    assert_string_equal(ls_list(s, &t), "2:lock-delay /k 15000 ");
    assert_non_null(strstr(s->events.text,
                           "session ended n/" A " lease 1 kind 3 silent 4000"));
}

/* ------------------------------------------------------------ locks */

/* Acquire, again, by another, release: values, flags and lock index as Consul
 * has them; the fencing number is the revision of the acquisition. */
static void lock_is_held_by_one(void **state)
{
    struct lease_store *s = *state;
    struct mr_kv_result r;

    add_node(s);
    (void)create(s, (struct session){.id = A});
    (void)create(s, (struct session){.id = B});
    r = put(s, (struct put){.value = "1", .acquire = A, .flags = 7});
    assert_int_equal(r.verdict, MR_KV_DONE);
    assert_int_equal(r.fence, 6);
    key_is(s, "1 a 1 7 6 6 6");
    r = put(s, (struct put){.value = "2", .acquire = B});
    assert_int_equal(r.verdict, MR_KV_MISMATCH);
    assert_int_equal(r.fence, 0);
    r = put(s, (struct put){.value = "1", .acquire = A, .flags = 7});
    assert_false(r.changed);
    assert_int_equal(r.fence, 6);
    (void)put(s, (struct put){.value = "2", .acquire = A});
    key_is(s, "2 a 1 0 6 7 6");
    assert_int_equal(put(s, (struct put){.value = "3", .release = B}).verdict,
                     MR_KV_MISMATCH);
    assert_true(put(s, (struct put){.value = "3", .release = A}).changed);
    key_is(s, "3  1 0 6 8 0");
    assert_int_equal(put(s, (struct put){.value = "4", .release = A}).verdict,
                     MR_KV_MISMATCH);
    assert_int_equal(put(s, (struct put){.value = "4", .acquire = B}).fence, 9);
    key_is(s, "4 b 2 0 6 9 9");
}

/* Locks are advisory: a plain write keeps the holder and its number, and resets
 * the lock index; a held key can be deleted. */
static void plain_writes_pass_a_lock(void **state)
{
    struct lease_store *s = *state;

    add_node(s);
    (void)create(s, (struct session){.id = A});
    (void)put(s, (struct put){.value = "1", .acquire = A});
    (void)put(s, (struct put){.value = "1"});
    key_is(s, "1 a 0 0 5 6 5");
    assert_false(put(s, (struct put){.value = "1"}).changed);
    assert_true(fx_delete(&s->f, "k", false).changed);
    (void)put(s, (struct put){.value = "2"});
    (void)destroy(s, A);
    key_is(s, "2  0 0 8 8 0");
    (void)create(s, (struct session){.id = A});
    (void)put(s, (struct put){.value = "3", .acquire = A});
    assert_true(fx_delete(&s->f, "", true).changed);
    assert_true(destroy(s, A).changed);
    key_is(s, "gone");
}

/* Who is no session locks nothing. */
static void unknown_session_locks_nothing(void **state)
{
    struct lease_store *s = *state;
    struct mr_kv_result r = put(s, (struct put){.value = "1", .acquire = A});

    assert_int_equal(r.verdict, MR_KV_REFUSED);
    assert_string_equal(r.text, "invalid session \"" A "\"");
    assert_int_equal(put(s, (struct put){.value = "1", .release = A}).verdict,
                     MR_KV_MISMATCH);
    r = put(s, (struct put){.value = "1", .acquire = A, .release = A});
    assert_int_equal(r.verdict, MR_KV_REFUSED);
    key_is(s, "gone");
}

/* The end of a session releases its keys, once each. */
static void ended_session_releases_its_keys(void **state)
{
    struct lease_store *s = *state;

    add_node(s);
    (void)create(s, (struct session){.id = A});
    (void)put(s, (struct put){.value = "1", .acquire = A, .flags = 3});
    assert_true(destroy(s, A).changed);
    key_is(s, "1  1 3 5 6 0");
}

/* With the behaviour delete they are deleted, if it holds them still. */
static void ended_session_deletes_its_keys(void **state)
{
    struct lease_store *s = *state;

    add_node(s);
    (void)create(s, (struct session){.id = A, .is_delete = true});
    (void)put(s, (struct put){.value = "1", .acquire = A});
    (void)destroy(s, A);
    key_is(s, "gone");
    (void)create(s, (struct session){.id = A, .is_delete = true});
    (void)put(s, (struct put){.value = "1", .acquire = A});
    (void)put(s, (struct put){.value = "1", .release = A});
    (void)destroy(s, A);
    key_is(s, "1  1 0 8 9 0");
}

/* During the lock-delay nobody may lock the key, everybody may write it. */
static void lock_delay_keeps_everybody_out(void **state)
{
    struct lease_store *s = *state;
    struct fx_text t;

    add_node(s);
    (void)create(s, (struct session){.id = A, .lock_delay_ms = 90000});
    (void)create(s, (struct session){.id = B});
    (void)put(s, (struct put){.value = "1", .acquire = A});
    (void)destroy(s, A);
    assert_string_equal(ls_list(s, &t), "1:lock-delay /k 60000 ");
    assert_int_equal(put(s, (struct put){.value = "2", .acquire = B}).verdict,
                     MR_KV_MISMATCH);
    assert_true(put(s, (struct put){.value = "2"}).changed);
    assert_true(ls_end(s, 1).changed);
    assert_string_equal(ls_list(s, &t), "");
    assert_int_equal(put(s, (struct put){.value = "3", .acquire = B}).verdict,
                     MR_KV_DONE);
}

/* A release in order causes no delay. */
static void release_causes_no_delay(void **state)
{
    struct lease_store *s = *state;
    struct fx_text t;

    add_node(s);
    (void)create(s, (struct session){.id = A, .lock_delay_ms = 15000});
    (void)put(s, (struct put){.value = "1", .acquire = A});
    (void)put(s, (struct put){.value = "1", .release = A});
    (void)destroy(s, A);
    assert_string_equal(ls_list(s, &t), "");
}

/* A write with a fencing number is done only while the lock has that number. */
static void old_holders_number_is_refused(void **state)
{
    struct lease_store *s = *state;
    struct put late = {.value = "x", .fence_key = "k"};
    uint64_t old;

    add_node(s);
    (void)create(s, (struct session){.id = A});
    (void)create(s, (struct session){.id = B});
    old = put(s, (struct put){.value = "1", .acquire = A}).fence;
    late.fence = old;
    assert_int_equal(put(s, late).verdict, MR_KV_DONE);
    key_is(s, "x a 0 0 6 7 6");
    (void)destroy(s, A);
    assert_int_equal(put(s, late).verdict, MR_KV_MISMATCH);
    assert_true(put(s, (struct put){.value = "2", .acquire = B}).fence > old);
    assert_int_equal(put(s, late).verdict, MR_KV_MISMATCH);
    key_is(s, "2 b 1 0 6 9 9");
    late.fence_key = "other";
    assert_int_equal(put(s, late).verdict, MR_KV_MISMATCH);
}

/* Deletions are fenced too. */
static void old_holder_deletes_nothing(void **state)
{
    struct lease_store *s = *state;
    Mr__KeyDelete del = MR__KEY_DELETE__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    add_node(s);
    (void)create(s, (struct session){.id = A});
    (void)put(s, (struct put){.value = "1", .acquire = A});
    del.key = del.fence_key = fx_bytes("k");
    del.recurse = 1;
    del.fence = 4;
    cmd.op_case = MR__COMMAND__OP_KEY_DELETE;
    cmd.key_delete = &del;
    assert_int_equal(fx_apply(&s->f, &cmd).verdict, MR_KV_MISMATCH);
    del.fence = 5;
    assert_true(fx_apply(&s->f, &cmd).changed);
    key_is(s, "gone");
}

/* A key longer than a row's key can be locked as well. */
static void long_key_can_be_locked(void **state)
{
    struct lease_store *s = *state;
    Mr__KeyPut p = MR__KEY_PUT__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    char key[2000];
    struct mr_kv_view *view;
    const Mr__Key *found;
    struct fx_text t;

    memset(key, 'k', sizeof key);
    add_node(s);
    (void)create(s, (struct session){.id = A, .lock_delay_ms = 1});
    p.key = (ProtobufCBinaryData){sizeof key, (uint8_t *)key};
    p.acquire = S(A);
    cmd.op_case = MR__COMMAND__OP_KEY_PUT;
    cmd.key_put = &p;
    assert_int_equal(fx_apply(&s->f, &cmd).fence, 5);
    (void)destroy(s, A);
    view = fx_view(&s->f);
    assert_int_equal(
        mr_kv_key_get(view, mr_slice(key, sizeof key), &found, NULL), MR_OK);
    assert_string_equal(found->session, "");
    assert_int_equal(found->lock_index, 1);
    mr_kv_view_end(view);
    assert_int_equal(fx_apply(&s->f, &cmd).verdict, MR_KV_MISMATCH);
    (void)ls_end(s, 1);
    assert_string_equal(ls_list(s, &t), "");
}

/* ------------------------------------------------------------ watching */

struct alarm {
    struct mr_kv_waiter waiter;
    int n;
};

static void on_wake(struct mr_kv_waiter *waiter)
{
    mr_container_of(waiter, struct alarm, waiter)->n++;
}

/* Who waits for sessions is woken by their comings and goings only; who waits
 * for a key by the end of its holder. */
static void changes_wake_their_waiters(void **state)
{
    struct mr_kv_topic sessions = {MR_KV_TOPIC_SESSIONS, {NULL, 0}};
    struct mr_kv_topic key = {MR_KV_TOPIC_KEY, mr_slice_str("k")};
    struct lease_store *s = *state;
    struct alarm a = {{.wake = on_wake}, 0};
    struct alarm b = {{.wake = on_wake}, 0};

    add_node(s);
    assert_int_equal(mr_kv_wait(s->f.kv, &a.waiter, &sessions, 3), MR_OK);
    (void)fx_put(&s->f, "x", "y");
    assert_int_equal(a.n, 0);
    (void)create(s, (struct session){.id = A});
    assert_int_equal(a.n, 1);
    (void)put(s, (struct put){.value = "1", .acquire = A});
    assert_int_equal(mr_kv_wait(s->f.kv, &a.waiter, &sessions, 6), MR_OK);
    assert_int_equal(mr_kv_wait(s->f.kv, &b.waiter, &key, 6), MR_OK);
    (void)destroy(s, A);
    assert_int_equal(a.n, 2);
    assert_int_equal(b.n, 1);
}

/* ------------------------------------------------------------ left members */

static struct mr_kv_result leave(struct lease_store *s, const char *node,
                                 uint64_t left_ms)
{
    Mr__Deregister dereg = MR__DEREGISTER__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    dereg.node = S(node);
    dereg.left = 1;
    dereg.left_ms = left_ms;
    dereg.is_server = 1;
    cmd.op_case = MR__COMMAND__OP_DEREGISTER;
    cmd.deregister = &dereg;
    return fx_apply(&s->f, &cmd);
}

static bool add_left(void *arg, const Mr__Left *left)
{
    fx_add(arg, "%s@%s%s ", left->node->name, left->node->address,
           left->is_server ? " server" : "");
    return true;
}

static void left_are(struct lease_store *s, const char *want)
{
    struct mr_kv_view *view = fx_view(&s->f);
    struct fx_text t = {.len = 0};

    assert_int_equal(mr_kv_left_list(view, add_left, &t), MR_OK);
    mr_kv_view_end(view);
    assert_string_equal(t.text, want);
}

/* A member that left is remembered for a while. */
static void member_that_left_is_remembered(void **state)
{
    struct lease_store *s = *state;
    struct fx_text t;

    (void)ls_register(
        s, (struct ls_reg){.node = "n", .node_ttl_ms = 4000, .service = "web"});
    assert_true(leave(s, "N", 5000).changed);
    left_are(s, "n@10.0.0.1 server ");
    assert_string_equal(ls_list(s, &t), "2:left n/ 5000 ");
    assert_false(ls_find(s, MR_KV_SUBJECT_NODE, "n", "").exists);
    assert_true(ls_end(s, 2).changed);
    left_are(s, "");
}

/* Deregistering a member that left forgets it; leaving again does not. */
static void deregistered_member_is_forgotten(void **state)
{
    struct lease_store *s = *state;
    struct fx_text t;

    (void)ls_register(s, (struct ls_reg){.node = "n"});
    (void)leave(s, "n", 5000);
    assert_false(leave(s, "n", 9000).changed);
    left_are(s, "n@10.0.0.1 server ");
    assert_true(fx_deregister(&s->f, "N", NULL, NULL).changed);
    left_are(s, "");
    assert_string_equal(ls_list(s, &t), "");
    assert_false(fx_deregister(&s->f, "n", NULL, NULL).changed);
}

/* It is forgotten when it is back; who was not there cannot leave. */
static void member_that_is_back_did_not_leave(void **state)
{
    struct lease_store *s = *state;
    struct fx_text t;

    assert_false(leave(s, "n", 5000).changed);
    (void)ls_register(s, (struct ls_reg){.node = "n"});
    (void)leave(s, "n", 5000);
    (void)ls_register(s, (struct ls_reg){.node = "N"});
    left_are(s, "");
    assert_string_equal(ls_list(s, &t), "");
    (void)leave(s, "n", 0);
    left_are(s, "N@10.0.0.1 server ");
    assert_string_equal(ls_list(s, &t), "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, ls_setup, ls_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(created_session_is_found),
        TEST(impossible_sessions_are_refused),
        TEST(destroyed_session_is_gone),
        TEST(session_ends_with_what_it_is_bound_to),
        TEST(session_ends_with_the_agent),
        TEST(lock_is_held_by_one),
        TEST(plain_writes_pass_a_lock),
        TEST(unknown_session_locks_nothing),
        TEST(ended_session_releases_its_keys),
        TEST(ended_session_deletes_its_keys),
        TEST(lock_delay_keeps_everybody_out),
        TEST(release_causes_no_delay),
        TEST(old_holders_number_is_refused),
        TEST(old_holder_deletes_nothing),
        TEST(long_key_can_be_locked),
        TEST(changes_wake_their_waiters),
        TEST(member_that_left_is_remembered),
        TEST(deregistered_member_is_forgotten),
        TEST(member_that_is_back_did_not_leave),
    };

    return cmocka_run_group_tests_name("kv_session", tests, NULL, NULL);
}
