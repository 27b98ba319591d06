/* SPDX-License-Identifier: Apache-2.0 */
/* Leases: which rows have one, and what follows when it ends. */
#include "tests/unit/kv_lease_fixture.h"

static const struct ls_reg ttl_check = {.node = "n",
                                        .service = "web",
                                        .check = "c",
                                        .check_ttl = 10 * SECOND,
                                        .deregister_after = 60 * SECOND};
static const struct ls_reg agent = {.node = "n",
                                    .node_ttl_ms = 4000,
                                    .reap_ms = 9000,
                                    .check = "serfHealth",
                                    .output = "Agent alive and reachable"};

/* Status and output of the check @id of node n, or "gone". */
static void check_is(struct lease_store *s, const char *id, const char *want)
{
    struct mr_kv_view *view = fx_view(&s->f);
    const Mr__Check *check;
    char text[256] = "gone";

    assert_int_equal(mr_kv_check_get(view, "n", id, &check), MR_OK);
    if (check != NULL) {
        (void)snprintf(text, sizeof text, "%s: %s", check->status,
                       check->output);
    }
    mr_kv_view_end(view);
    assert_string_equal(text, want);
}

static bool has_service(struct lease_store *s, const char *node, const char *id)
{
    return ls_find(s, MR_KV_SUBJECT_SERVICE, node, id).exists;
}

static bool has_node(struct lease_store *s, const char *node)
{
    return ls_find(s, MR_KV_SUBJECT_NODE, node, "").exists;
}

/* ------------------------------------------------------------ checks */

/* A TTL check that is not critical has a lease, which the look-up finds. */
static void ttl_check_has_a_lease(void **state)
{
    struct lease_store *s = *state;
    struct mr_kv_lease_ref ref;
    struct fx_text t;

    (void)ls_register(s, ttl_check);
    assert_string_equal(ls_list(s, &t), "1:check n/c 10000 ");
    assert_string_equal(s->changes.text, "+1:10000 ");
    ref = ls_find(s, MR_KV_SUBJECT_CHECK, "N", "c");
    assert_true(ref.exists);
    assert_int_equal(ref.lease_id, 1);
    assert_false(ls_find(s, MR_KV_SUBJECT_CHECK, "n", "x").exists);
    assert_int_equal(ls_find(s, MR_KV_SUBJECT_SERVICE, "n", "web").lease_id, 0);
}

/* The same registration again keeps the lease and takes no revision. */
static void unchanged_registration_keeps_the_lease(void **state)
{
    struct lease_store *s = *state;
    struct fx_text t;

    (void)ls_register(s, ttl_check);
    ls_forget(s);
    assert_false(ls_register(s, ttl_check).changed);
    assert_string_equal(s->changes.text, "");
    assert_string_equal(ls_list(s, &t), "1:check n/c 10000 ");
}

/* Who reports a change is alive: the check gets a new lease, so that an end
 * that is on its way misses it. */
static void changed_check_gets_a_new_lease(void **state)
{
    struct lease_store *s = *state;
    struct fx_text t;

    (void)ls_register(s, ttl_check);
    (void)fx_update(&s->f, "n", "c", "warning", true);
    assert_string_equal(ls_list(s, &t), "2:check n/c 10000 ");
    assert_string_equal(s->changes.text, "+1:10000 -1 +2:10000 ");
    assert_false(ls_end(s, 1).changed);
    check_is(s, "c", "warning: ");
}

/* A TTL check whose lease ends is critical, and its service goes when the
 * second lease ends too. */
static void silent_ttl_check_turns_critical_and_takes_its_service(void **state)
{
    struct lease_store *s = *state;
    struct fx_text t;

    (void)ls_register(s, ttl_check);
    ls_forget(s);
    assert_true(ls_end(s, 1).changed);
    check_is(s, "c", "critical: TTL expired");
    assert_string_equal(ls_list(s, &t), "2:critical n/c 60000 ");
    assert_string_equal(s->changes.text, "-1 +2:60000 ");
    assert_string_equal(s->events.text,
                        "check ended n/c@web=critical lease 1 kind 0 silent "
                        "4000 gaps 10 by n1/7\n");
    assert_int_equal(ls_find(s, MR_KV_SUBJECT_CHECK, "n", "c").lease_id, 0);
    assert_true(ls_end(s, 2).changed);
    assert_false(has_service(s, "n", "web"));
    check_is(s, "c", "gone");
    assert_string_equal(ls_list(s, &t), "");
}

/* The last output is kept in the new one. */
static void expired_output_names_the_last_one(void **state)
{
    struct lease_store *s = *state;
    struct ls_reg r = ttl_check;

    r.output = "fine";
    (void)ls_register(s, r);
    (void)ls_end(s, 1);
    check_is(s, "c",
             "critical: TTL expired (last output before timeout follows): "
             "fine");
}

/* Another failure does not put off the removal, a success calls it off. */
static void critical_service_has_one_deadline(void **state)
{
    struct lease_store *s = *state;
    struct ls_reg r = ttl_check;
    struct fx_text t;

    r.check_ttl = 0;
    r.status = "critical";
    (void)ls_register(s, r);
    assert_string_equal(ls_list(s, &t), "1:critical n/c 60000 ");
    r.output = "worse";
    assert_true(ls_register(s, r).changed);
    assert_string_equal(ls_list(s, &t), "1:critical n/c 60000 ");
    (void)fx_update(&s->f, "n", "c", "passing", false);
    assert_string_equal(ls_list(s, &t), "");
    assert_false(ls_end(s, 1).changed);
    assert_true(has_service(s, "n", "web"));
}

/* Another time is another deadline; parts of a millisecond count as one. */
static void changed_times_are_new_leases(void **state)
{
    struct lease_store *s = *state;
    struct ls_reg r = ttl_check;
    struct fx_text t;

    r.status = "critical";
    (void)ls_register(s, r);
    r.deregister_after = 90 * SECOND;
    (void)ls_register(s, r);
    assert_string_equal(ls_list(s, &t), "2:critical n/c 90000 ");
    r.status = "passing";
    r.check_ttl = 1;
    (void)ls_register(s, r);
    assert_string_equal(ls_list(s, &t), "3:check n/c 1 ");
}

/* Times that cannot be are none. */
static void negative_times_are_no_leases(void **state)
{
    struct lease_store *s = *state;
    struct ls_reg r = ttl_check;
    struct fx_text t;

    r.check_ttl = -1;
    r.deregister_after = INT64_MIN;
    (void)ls_register(s, r);
    (void)fx_update(&s->f, "n", "c", "critical", false);
    assert_string_equal(ls_list(s, &t), "");
    r.check_ttl = INT64_MAX;
    (void)ls_register(s, r);
    assert_string_equal(ls_list(s, &t), "1:check n/c 9223372036855 ");
}

/* Only a check of a service can have it removed. */
static void check_of_a_node_removes_nothing(void **state)
{
    struct lease_store *s = *state;
    struct ls_reg r = ttl_check;
    struct fx_text t;

    r.service = NULL;
    (void)ls_register(s, r);
    (void)ls_end(s, 1);
    check_is(s, "c", "critical: TTL expired");
    assert_string_equal(ls_list(s, &t), "");
}

/* A lease goes with its row. */
static void removal_takes_the_lease(void **state)
{
    struct lease_store *s = *state;
    struct fx_text t;

    (void)ls_register(s, ttl_check);
    (void)fx_deregister(&s->f, "n", NULL, "c");
    assert_string_equal(ls_list(s, &t), "");
    (void)ls_register(s, ttl_check);
    (void)fx_deregister(&s->f, "n", "web", NULL);
    assert_string_equal(ls_list(s, &t), "");
    (void)ls_register(s, ttl_check);
    (void)fx_deregister(&s->f, "n", NULL, NULL);
    assert_string_equal(ls_list(s, &t), "");
    assert_string_equal(s->changes.text,
                        "+1:10000 -1 +2:10000 -2 +3:10000 -3 ");
}

/* ------------------------------------------------------------ registrations */

/* A registration with a TTL is removed when nobody renews it. */
static void silent_registration_is_removed(void **state)
{
    struct lease_store *s = *state;
    struct ls_reg r = {.node = "n",
                       .service = "web",
                       .ttl_ms = 3000,
                       .digest = 77,
                       .incarnation = 5};
    struct mr_kv_lease_ref ref;

    (void)ls_register(s, r);
    ref = ls_find(s, MR_KV_SUBJECT_SERVICE, "n", "web");
    assert_int_equal(ref.lease_id, 1);
    assert_int_equal(ref.digest, 77);
    assert_int_equal(ref.incarnation, 5);
    ls_forget(s);
    assert_true(ls_end(s, 1).changed);
    assert_false(has_service(s, "n", "web"));
    assert_true(has_node(s, "n"));
    assert_string_equal(s->changes.text, "-1 ");
    assert_string_equal(s->events.text,
                        "service ended n/web@web lease 1 kind 2 silent 4000 "
                        "gaps 10 by n1/7\n");
}

/* A changed registration has a lease of its own; without a TTL it has none. */
static void changed_registration_gets_a_new_lease(void **state)
{
    struct lease_store *s = *state;
    struct ls_reg r = {.node = "n", .service = "web", .ttl_ms = 3000};
    struct fx_text t;

    (void)ls_register(s, r);
    r.port = 80;
    (void)ls_register(s, r);
    assert_string_equal(ls_list(s, &t), "2:registration n/web 3000 ");
    assert_false(ls_register(s, r).changed);
    assert_false(ls_end(s, 1).changed);
    r.ttl_ms = 0;
    (void)ls_register(s, r);
    assert_string_equal(ls_list(s, &t), "");
    assert_string_equal(s->changes.text, "+1:3000 -1 +2:3000 -2 ");
}

/* ------------------------------------------------------------ native */

/* An older incarnation replaces and removes nothing; the same one, a newer one
 * and one that names none may. */
static void older_incarnation_is_fenced(void **state)
{
    struct lease_store *s = *state;
    struct ls_reg r = {.node = "registry:web",
                       .service = "web",
                       .ttl_ms = 3000,
                       .incarnation = 5,
                       .is_registry = true};
    struct mr_kv_result result;

    (void)ls_register(s, r);
    r.port = 1;
    r.incarnation = 4;
    result = ls_register(s, r);
    assert_int_equal(result.verdict, MR_KV_REFUSED);
    assert_non_null(strstr(result.text, "fenced"));
    assert_false(result.changed);
    assert_int_equal(ls_find(s, MR_KV_SUBJECT_SERVICE, r.node, "web").lease_id,
                     1);
    result = ls_deregister(s, r.node, "web", 4);
    assert_int_equal(result.verdict, MR_KV_REFUSED);
    r.incarnation = 5;
    assert_true(ls_register(s, r).changed);
    r.incarnation = 6;
    assert_true(ls_register(s, r).changed);
    assert_true(ls_deregister(s, r.node, "web", 6).changed);
}

/* The node that the native registry made goes with its last instance, whatever
 * removed that. */
static void registry_node_goes_with_its_last_instance(void **state)
{
    struct lease_store *s = *state;
    struct ls_reg r = {.node = "registry:web",
                       .service = "a",
                       .ttl_ms = 3000,
                       .is_registry = true};

    (void)ls_register(s, r);
    r.service = "b";
    (void)ls_register(s, r);
    (void)ls_end(s, 1);
    assert_true(has_node(s, r.node));
    (void)ls_end(s, 2);
    assert_false(has_node(s, r.node));
    (void)ls_register(s, r);
    (void)ls_deregister(s, r.node, "b", 0);
    assert_false(has_node(s, r.node));
    (void)ls_register(s, (struct ls_reg){.node = r.node, .check = "c"});
    (void)ls_register(s, r);
    (void)ls_deregister(s, r.node, "b", 0);
    assert_true(has_node(s, r.node));
}

/* Its own deregistration leaves alone what came from elsewhere. */
static void registry_removes_its_own_only(void **state)
{
    struct lease_store *s = *state;

    (void)ls_register(s, (struct ls_reg){.node = "n", .service = "web"});
    assert_false(ls_deregister(s, "n", "web", 0).changed);
    assert_true(has_service(s, "n", "web"));
}

/* ------------------------------------------------------------ nodes */

/* A node whose agent falls silent is critical, then removed with all it has. */
static void silent_node_turns_critical_and_is_removed(void **state)
{
    struct lease_store *s = *state;
    struct fx_text t;

    (void)ls_register(s, agent);
    assert_int_equal(ls_find(s, MR_KV_SUBJECT_NODE, "n", "").lease_id, 1);
    (void)ls_register(s, (struct ls_reg){.node = "n", .service = "web"});
    ls_forget(s);
    (void)ls_end(s, 1);
    check_is(s, "serfHealth", "critical: Agent not live or unreachable");
    assert_string_equal(ls_list(s, &t), "2:reap n/ 9000 ");
    assert_string_equal(
        s->events.text,
        "node ended n/ lease 1 kind 3 silent 4000 gaps 10 by n1/7\n"
        "check ended n/serfHealth=critical lease 1 kind 3 silent 4000 gaps 10 "
        "by n1/7\n");
    assert_int_equal(ls_find(s, MR_KV_SUBJECT_NODE, "n", "").lease_id, 0);
    assert_true(ls_find(s, MR_KV_SUBJECT_NODE, "n", "").exists);
    (void)ls_end(s, 2);
    assert_false(has_node(s, "n"));
    assert_false(has_service(s, "n", "web"));
    assert_string_equal(ls_list(s, &t), "");
}

/* The agent that comes back gets a lease and is not removed. */
static void node_that_is_back_is_not_removed(void **state)
{
    struct lease_store *s = *state;
    struct fx_text t;

    (void)ls_register(s, agent);
    (void)ls_end(s, 1);
    assert_true(ls_register(s, agent).changed);
    assert_string_equal(ls_list(s, &t), "3:node n/ 4000 ");
    check_is(s, "serfHealth", "passing: Agent alive and reachable");
    assert_false(ls_register(s, agent).changed);
    assert_false(ls_end(s, 2).changed);
    assert_true(has_node(s, "n"));
}

/* Somebody else's registration on the node neither ends nor renews its lease,
 * and takes nothing from it. */
static void registration_of_others_leaves_the_nodes_lease(void **state)
{
    struct lease_store *s = *state;
    struct fx_text t;

    (void)ls_register(s, agent);
    (void)fx_register(&s->f,
                      (struct fx_reg){.node = "N", .address = "10.9.9.9"});
    assert_string_equal(ls_list(s, &t), "1:node n/ 4000 ");
    (void)ls_end(s, 1);
    (void)fx_register(&s->f, (struct fx_reg){.node = "n"});
    assert_string_equal(ls_list(s, &t), "2:reap N/ 9000 ");
}

/* When a node falls silent, the services that are to be removed when critical
 * get their deadline, and lose it when the node is back. */
static void silent_node_gives_its_services_a_deadline(void **state)
{
    struct lease_store *s = *state;
    struct ls_reg r = ttl_check;
    struct fx_text t;

    r.check_ttl = 0;
    (void)ls_register(s, agent);
    (void)ls_register(s, r);
    assert_string_equal(ls_list(s, &t), "1:node n/ 4000 ");
    (void)ls_end(s, 1);
    assert_string_equal(ls_list(s, &t), "2:reap n/ 9000 3:critical n/c 60000 ");
    check_is(s, "c", "passing: ");
    r.output = "still";
    (void)ls_register(s, r);
    assert_string_equal(ls_list(s, &t), "2:reap n/ 9000 3:critical n/c 60000 ");
    (void)ls_register(s, agent);
    assert_string_equal(ls_list(s, &t), "4:node n/ 4000 ");
    (void)ls_register(s, (struct ls_reg){.node = "n", .check = "x"});
    (void)ls_end(s, 4);
    (void)ls_end(s, 6);
    assert_false(has_service(s, "n", "web"));
    assert_true(has_node(s, "n"));
}

/* Without a reap time a silent node stays. */
static void node_without_a_reap_time_stays(void **state)
{
    struct lease_store *s = *state;
    struct ls_reg r = agent;
    struct fx_text t;

    r.reap_ms = 0;
    (void)ls_register(s, r);
    (void)ls_end(s, 1);
    assert_string_equal(ls_list(s, &t), "");
    assert_true(has_node(s, "n"));
    assert_true(ls_register(s, r).changed);
    assert_string_equal(ls_list(s, &t), "2:node n/ 4000 ");
}

/* ------------------------------------------------------------ ends */

/* One command ends many; those that are gone are skipped. */
static void many_leases_end_at_once(void **state)
{
    static const uint64_t ids[] = {3, 99, 1, 1, 2, 0};
    struct lease_store *s = *state;
    struct fx_text t;
    struct mr_kv_result r;

    (void)ls_register(
        s, (struct ls_reg){.node = "n", .service = "a", .ttl_ms = 1});
    (void)ls_register(
        s, (struct ls_reg){.node = "n", .service = "b", .ttl_ms = 1});
    (void)ls_register(s, ttl_check);
    ls_forget(s);
    r = ls_end_all(s, ids, MR_ARRAY_LEN(ids));
    assert_true(r.changed);
    assert_int_equal(r.revision, 5);
    assert_string_equal(ls_list(s, &t), "4:critical n/c 60000 ");
    assert_string_equal(s->changes.text, "-3 +4:60000 -1 -2 ");
}

/* Leases of one node have one place, however its name is written. */
static void leases_of_a_node_have_one_place(void **state)
{
    struct lease_store *s = *state;
    struct mr_kv_view *view;
    const Mr__Lease *lease;

    (void)ls_register(
        s, (struct ls_reg){.node = "n", .service = "a", .ttl_ms = 1});
    (void)ls_register(
        s, (struct ls_reg){.node = "N", .service = "b", .ttl_ms = 1});
    (void)ls_register(
        s, (struct ls_reg){.node = "m", .service = "a", .ttl_ms = 1});
    assert_true(s->places[1] == s->places[2]);
    assert_true(s->places[1] != s->places[3]);
    view = fx_view(&s->f);
    assert_int_equal(mr_kv_lease_get(view, 3, &lease), MR_OK);
    assert_true(mr_kv_lease_place(lease) == s->places[3]);
    assert_int_equal(mr_kv_lease_get(view, 4, &lease), MR_OK);
    assert_null(lease);
    mr_kv_view_end(view);
}

/* A batch that is not committed tells nothing. */
static void only_committed_changes_are_told(void **state)
{
    struct lease_store *s = *state;

    assert_int_equal(mr_kv_batch_begin(s->f.kv), MR_OK);
    assert_int_equal(s->n_changes, 0);
    assert_int_equal(mr_kv_batch_commit(s->f.kv, ++s->f.index, 1), MR_OK);
    (void)ls_register(s, ttl_check);
    assert_int_equal(s->n_changes, 1);
    (void)fx_put(&s->f, "k", "v");
    assert_int_equal(s->n_changes, 1);
}

/* ------------------------------------------------------------ restore */

struct stream {
    uint8_t data[65536];
    size_t len;
    size_t at;
};

static enum mr_err write_stream(void *arg, struct mr_slice bytes)
{
    struct stream *s = arg;

    assert_true(s->len + bytes.len <= sizeof s->data);
    memcpy(s->data + s->len, bytes.data, bytes.len);
    s->len += bytes.len;
    return MR_OK;
}

static enum mr_err read_stream(void *arg, void *out, size_t cap,
                               size_t *out_len)
{
    struct stream *s = arg;
    size_t n = s->len - s->at < cap ? s->len - s->at : cap;

    memcpy(out, s->data + s->at, n);
    s->at += n;
    *out_len = n;
    return MR_OK;
}

/* A restore brings the leases, tells them, and goes on counting their IDs. */
static void restore_tells_all_leases(void **state)
{
    struct lease_store *s = *state;
    struct stream *bytes = calloc(1, sizeof *bytes);
    struct mr_kv_view *view;
    struct fx_text t;

    (void)ls_register(s, ttl_check);
    (void)ls_register(s, agent);
    view = fx_view(&s->f);
    assert_int_equal(mr_kv_snapshot(view, write_stream, bytes), MR_OK);
    mr_kv_view_end(view);
    (void)fx_deregister(&s->f, "n", NULL, NULL);
    ls_forget(s);
    assert_int_equal(mr_kv_restore(s->f.kv, read_stream, bytes, NULL), MR_OK);
    assert_string_equal(s->changes.text, "reset +1:10000 +2:4000 ");
    assert_string_equal(ls_list(s, &t), "1:check n/c 10000 2:node n/ 4000 ");
    (void)ls_end(s, 1);
    assert_string_equal(ls_list(s, &t), "2:node n/ 4000 3:critical n/c 60000 ");
    free(bytes);
}

/* Copy the file of @from to where @to is not open yet. */
static void copy_file(const struct fixture *from, const struct fixture *to)
{
    char path[128];
    char bytes[4096];
    FILE *in;
    FILE *out;
    size_t n;

    (void)snprintf(path, sizeof path, "%s/state.mdb", from->dir);
    in = fopen(path, "re");
    (void)snprintf(path, sizeof path, "%s/state.mdb", to->dir);
    out = fopen(path, "we");
    assert_true(in != NULL && out != NULL);
    while ((n = fread(bytes, 1, sizeof bytes, in)) > 0) {
        assert_int_equal(fwrite(bytes, 1, n, out), n);
    }
    (void)fclose(in);
    assert_int_equal(fclose(out), 0);
}

/* What a durable store has committed is in its file, without a boot ID or a
 * clean close. */
static void durable_store_needs_no_clean_close(void **state)
{
    struct lease_store *s = *state;
    struct lease_store copy = {.f = {.is_durable = true}};
    struct fx_text t;

    fx_deinit(&s->f);
    s->f.is_durable = true;
    fx_init(&s->f);
    (void)ls_register(s, ttl_check);
    fx_init(&copy.f);
    mr_kv_close(copy.f.kv);
    copy_file(&s->f, &copy.f);
    fx_open_as(&copy.f, NULL);
    assert_string_equal(ls_list(&copy, &t), "1:check n/c 10000 ");
    fx_deinit(&copy.f);
}

/* Events name who asked for it, and when. */
static void events_name_who_asked(void **state)
{
    struct lease_store *s = *state;
    Mr__Deregister dereg = MR__DEREGISTER__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    (void)ls_register(s, ttl_check);
    assert_string_equal(s->events.text, "node registered n/\n"
                                        "service registered n/web@web\n"
                                        "check registered n/c@web=passing\n");
    ls_forget(s);
    dereg.node = S("n");
    cmd.op_case = MR__COMMAND__OP_DEREGISTER;
    cmd.deregister = &dereg;
    cmd.by = S("n1 for 127.0.0.1");
    cmd.time_ms = 1700000000000;
    (void)fx_apply(&s->f, &cmd);
    assert_string_equal(
        s->events.text,
        "check deregistered n/c@web=passing n1 for 127.0.0.1 at 1700000000000\n"
        "service deregistered n/web@web n1 for 127.0.0.1 at 1700000000000\n"
        "node deregistered n/ n1 for 127.0.0.1 at 1700000000000\n");
}

/* ------------------------------------------------------------ failure */

/* Apply @cmd while the @n-th allocation fails; what the batch comes to. */
static enum mr_err apply_short(struct lease_store *s, Mr__Command *cmd,
                               uint64_t n)
{
    struct mr_buf b = MR_BUF_INIT;
    struct mr_kv_result r;
    enum mr_err err;

    mr_kv_command_encode(cmd, &b);
    assert_int_equal(mr_kv_batch_begin(s->f.kv), MR_OK);
    mr_mem_fail_after(n);
    err = mr_kv_apply(s->f.kv, mr_buf_slice(&b), &r);
    if (err == MR_OK) {
        err = mr_kv_batch_commit(s->f.kv, s->f.index + 1, 1);
        mr_mem_fail_after(UINT64_MAX);
    } else {
        mr_mem_fail_after(UINT64_MAX);
        assert_int_equal(mr_kv_batch_commit(s->f.kv, 1, 1), err);
    }
    mr_buf_deinit(&b);
    return err;
}

/* Whichever allocation fails while leases end, nothing of it is seen or told,
 * and the same command works afterwards. */
static void lack_of_memory_ends_nothing(void **state)
{
    struct lease_store *s = *state;
    Mr__LeaseEnd__Ended ended[2] = {MR__LEASE_END__ENDED__INIT,
                                    MR__LEASE_END__ENDED__INIT};
    Mr__LeaseEnd__Ended *list[] = {&ended[0], &ended[1]};
    Mr__LeaseEnd end = MR__LEASE_END__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    enum mr_err err = MR_E_NOMEM;
    uint64_t n;

    (void)ls_register(s, ttl_check);
    (void)ls_register(
        s, (struct ls_reg){.node = "n", .service = "b", .ttl_ms = 1});
    mr_kv_close(s->f.kv);
    fx_open_as(&s->f, "boot"); /* With no memory kept from before. */
    ls_forget(s);
    ended[0].id = 1;
    ended[1].id = 2;
    end.leases = list;
    end.n_leases = 2;
    cmd.op_case = MR__COMMAND__OP_LEASE_END;
    cmd.lease_end = &end;
    for (n = 0; n < 200 && err == MR_E_NOMEM; n++) {
        err = apply_short(s, &cmd, n);
        assert_int_equal(s->n_changes > 0, err == MR_OK);
    }
    assert_int_equal(err, MR_OK);
    assert_in_range(n, 2, 199);
    assert_string_equal(s->changes.text, "-1 +3:60000 -2 ");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, ls_setup, ls_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ttl_check_has_a_lease),
        TEST(unchanged_registration_keeps_the_lease),
        TEST(changed_check_gets_a_new_lease),
        TEST(silent_ttl_check_turns_critical_and_takes_its_service),
        TEST(expired_output_names_the_last_one),
        TEST(critical_service_has_one_deadline),
        TEST(changed_times_are_new_leases),
        TEST(negative_times_are_no_leases),
        TEST(check_of_a_node_removes_nothing),
        TEST(removal_takes_the_lease),
        TEST(silent_registration_is_removed),
        TEST(changed_registration_gets_a_new_lease),
        TEST(older_incarnation_is_fenced),
        TEST(registry_node_goes_with_its_last_instance),
        TEST(registry_removes_its_own_only),
        TEST(silent_node_turns_critical_and_is_removed),
        TEST(node_that_is_back_is_not_removed),
        TEST(registration_of_others_leaves_the_nodes_lease),
        TEST(silent_node_gives_its_services_a_deadline),
        TEST(node_without_a_reap_time_stays),
        TEST(many_leases_end_at_once),
        TEST(leases_of_a_node_have_one_place),
        TEST(only_committed_changes_are_told),
        TEST(restore_tells_all_leases),
        TEST(durable_store_needs_no_clean_close),
        TEST(events_name_who_asked),
        TEST(lack_of_memory_ends_nothing),
    };

    return cmocka_run_group_tests_name("kv_lease", tests, NULL, NULL);
}
