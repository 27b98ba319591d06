/* SPDX-License-Identifier: Apache-2.0 */
/* server/sync_rows: what differs between the agent's store and the cluster. */
#include "server/sync_rows.h"

#include "api/mr_rows.h"
#include "tests/unit/kv_fixture.h"

#define NODE "agent"

static const struct mr_api_agent self = {.node_name = NODE,
                                         .node_id = "id",
                                         .address = "127.0.0.1",
                                         .datacenter = "dc1"};

struct sync_fixture {
    struct fixture base;
    struct sync_rows known;
    struct sync_diff diff;
};

static int set_up(void **state)
{
    struct sync_fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    fx_init(&f->base);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct sync_fixture *f = *state;

    mr_mem_fail_after(UINT64_MAX);
    sync_diff_deinit(&f->diff);
    sync_rows_deinit(&f->known);
    fx_deinit(&f->base);
    free(f);
    return 0;
}

/* ------------------------------------------------------------ the store */

static void apply(struct sync_fixture *f, Mr__Command *cmd)
{
    struct mr_kv_result result = fx_apply(&f->base, cmd);

    assert_int_equal(result.verdict, MR_KV_DONE);
}

/* Register the service @id (NULL: none) with a TTL check of that @status (NULL:
 * no check). */
static void add(struct sync_fixture *f, const char *id, const char *status,
                const char *output)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Register body = MR__REGISTER__INIT;
    Mr__Node node = MR__NODE__INIT;
    Mr__Service service = MR__SERVICE__INIT;
    Mr__Service *services[] = {&service};
    Mr__Check check = MR__CHECK__INIT;
    Mr__Check *checks[] = {&check};
    Mr__CheckDefinition definition = MR__CHECK_DEFINITION__INIT;

    node.name = (char *)NODE;
    node.address = (char *)"127.0.0.1";
    service.id = (char *)id;
    service.name = (char *)id;
    service.origin = MR__ORIGIN__AGENT;
    check.check_id = (char *)id;
    check.name = (char *)"check";
    check.service_id = (char *)id;
    check.status = (char *)status;
    check.output = (char *)output;
    check.origin = MR__ORIGIN__AGENT;
    check.type = (char *)"ttl";
    definition.ttl_ns = INT64_C(1000000000);
    check.definition = &definition;
    body.node = &node;
    body.services = services;
    body.n_services = 1;
    body.checks = checks;
    body.n_checks = status == NULL ? 0 : 1;
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = &body;
    apply(f, &cmd);
}

static void drop(struct sync_fixture *f, const char *id)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Deregister body = MR__DEREGISTER__INIT;

    body.node = (char *)NODE;
    body.service_id = (char *)id;
    cmd.op_case = MR__COMMAND__OP_DEREGISTER;
    cmd.deregister = &body;
    apply(f, &cmd);
}

/* ------------------------------------------------------------ a pass */

static enum mr_err try_diff(struct sync_fixture *f, bool with_output)
{
    struct mr_kv_view *view = NULL;
    enum mr_err err = mr_kv_view_begin(f->base.kv, &view);

    sync_diff_deinit(&f->diff);
    f->diff = (struct sync_diff){
        .self = &self, .known = &f->known, .with_output = with_output};
    if (err == MR_OK) {
        err = sync_diff_make(&f->diff, view);
    }
    mr_kv_view_end(view);
    return err;
}

static void diff(struct sync_fixture *f)
{
    assert_int_equal(try_diff(f, false), MR_OK);
}

/* The cluster did all of it. */
static void cluster_did(struct sync_fixture *f)
{
    sync_rows_deinit(&f->known);
    f->known = f->diff.after;
    f->diff.after = (struct sync_rows){0};
}

static Mr__Command *command(const struct sync_fixture *f, size_t i)
{
    Mr__Command *cmd = mr__command__unpack(NULL, f->diff.commands[i].len,
                                           f->diff.commands[i].data);

    assert_non_null(cmd);
    return cmd;
}

/* ------------------------------------------------------------ success */

/* A service and its check travel together, and are known when they arrived. */
static void what_is_new_is_pushed_once(void **state)
{
    struct sync_fixture *f = *state;
    Mr__Command *cmd;

    add(f, "web", "passing", "fine");
    diff(f);
    assert_int_equal(f->diff.n_commands, 1);
    cmd = command(f, 0);
    assert_int_equal(cmd->op_case, MR__COMMAND__OP_REGISTER);
    assert_int_equal(cmd->register_->n_services, 1);
    assert_int_equal(cmd->register_->n_checks, 1);
    assert_true(cmd->register_->skip_node_update);
    assert_false(cmd->register_->keep_check_state);
    assert_string_equal(cmd->register_->node->id, "id");
    mr__command__free_unpacked(cmd, NULL);
    cluster_did(f);
    diff(f);
    assert_int_equal(f->diff.n_commands, 0);
    assert_int_equal(f->diff.after.n, 2);
}

/* Another status alone pushes the check alone. */
static void a_changed_status_is_pushed(void **state)
{
    struct sync_fixture *f = *state;
    Mr__Command *cmd;

    add(f, "web", "passing", "fine");
    diff(f);
    cluster_did(f);
    add(f, "web", "critical", "broken");
    diff(f);
    assert_int_equal(f->diff.n_commands, 1);
    cmd = command(f, 0);
    assert_int_equal(cmd->register_->n_services, 0);
    assert_int_equal(cmd->register_->n_checks, 1);
    assert_string_equal(cmd->register_->checks[0]->status, "critical");
    mr__command__free_unpacked(cmd, NULL);
}

/* Another output alone renews, once, and is pushed with the next comparison. */
static void a_changed_output_renews_until_it_is_compared(void **state)
{
    struct sync_fixture *f = *state;

    add(f, "web", "passing", "fine");
    diff(f);
    cluster_did(f);
    add(f, "web", "passing", "finer");
    diff(f);
    assert_int_equal(f->diff.n_commands, 0);
    assert_int_equal(f->diff.n_renewals, 1);
    assert_string_equal(f->diff.renewals[0], "web");
    cluster_did(f);
    diff(f);
    assert_int_equal(f->diff.n_renewals, 0);
    cluster_did(f);
    assert_int_equal(try_diff(f, true), MR_OK);
    assert_int_equal(f->diff.n_commands, 1);
    cluster_did(f);
    assert_int_equal(try_diff(f, true), MR_OK);
    assert_int_equal(f->diff.n_commands, 0);
}

/* What the store has not any more is removed, service and check. */
static void what_is_gone_is_removed(void **state)
{
    struct sync_fixture *f = *state;
    Mr__Command *cmd;

    add(f, "web", "passing", "");
    add(f, "db", NULL, NULL);
    diff(f);
    cluster_did(f);
    drop(f, "web");
    diff(f);
    assert_int_equal(f->diff.n_commands, 2);
    for (size_t i = 0; i < 2; i++) {
        cmd = command(f, i);
        assert_int_equal(cmd->op_case, MR__COMMAND__OP_DEREGISTER);
        assert_true(cmd->deregister->agent_only);
        assert_string_equal(i == 0 ? cmd->deregister->service_id
                                   : cmd->deregister->check_id,
                            "web");
        mr__command__free_unpacked(cmd, NULL);
    }
    assert_int_equal(f->diff.after.n, 1);
    assert_string_equal(f->diff.after.items[0].id, "db");
}

/* A row that the cluster lost is new again. */
static void what_the_cluster_lost_is_pushed_again(void **state)
{
    struct sync_fixture *f = *state;

    add(f, "web", "passing", "");
    diff(f);
    cluster_did(f);
    sync_rows_drop(&f->known, sync_rows_find(&f->known, true, "web"));
    assert_null(sync_rows_find(&f->known, true, "web"));
    assert_non_null(sync_rows_find(&f->known, false, "web"));
    diff(f);
    assert_int_equal(f->diff.n_commands, 1);
}

/* Thousands of differences take several passes, none of which is lost. */
static void a_pass_is_bounded_and_the_next_goes_on(void **state)
{
    struct sync_fixture *f = *state;
    const size_t n = 6000;
    size_t n_passes = 0;
    char id[16];

    for (size_t i = 0; i < n; i++) {
        (void)snprintf(id, sizeof id, "s%05zu", i);
        add(f, id, i % 2 == 0 ? "passing" : NULL, "");
    }
    do {
        diff(f);
        assert_true(f->diff.n_commands <= 64);
        cluster_did(f);
        n_passes++;
    } while (f->diff.is_more);
    assert_true(n_passes > 1);
    assert_int_equal(f->known.n, n + n / 2);
    diff(f);
    assert_int_equal(f->diff.n_commands, 0);
}

/* The digests do not depend on what each store fills in by itself. */
static void digests_leave_out_what_a_store_fills_in(void **state)
{
    Mr__Check check = MR__CHECK__INIT;
    uint64_t before;

    (void)state;
    check.check_id = (char *)"c";
    before = mr_rows_check(&check);
    check.create_rev = 7;
    check.lease_id = 8;
    check.node = (char *)"n";
    check.service_name = (char *)"s";
    check.status = (char *)"critical";
    assert_int_equal(mr_rows_check(&check), before);
    check.notes = (char *)"other";
    assert_int_not_equal(mr_rows_check(&check), before);
}

/* The answer of a server becomes a list that finds its rows. */
static void an_answer_is_parsed(void **state)
{
    struct sync_fixture *f = *state;
    bool is_there = false;
    const struct sync_row *row;

    assert_int_equal(
        sync_rows_parse(
            &f->known,
            mr_slice_str(
                "{\"Node\":true,\"Services\":{\"z\":\"1f\",\"a\":\"2\"},"
                "\"Checks\":{\"c\":{\"Row\":\"3\",\"State\":\"4\","
                "\"Status\":\"passing\",\"Output\":\"o\"}}}"),
            &is_there),
        MR_OK);
    assert_true(is_there);
    assert_int_equal(f->known.n, 3);
    row = sync_rows_find(&f->known, false, "z");
    assert_non_null(row);
    assert_int_equal(row->row, 0x1f);
    row = sync_rows_find(&f->known, true, "c");
    assert_non_null(row);
    assert_string_equal(row->status, "passing");
    assert_string_equal(row->output, "o");
    assert_null(sync_rows_find(&f->known, true, "z"));
}

/* ------------------------------------------------------------ failure */

/* What is no such answer leaves an empty list. */
static void a_bad_answer_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{\"Node\":true}",
        "{\"Node\":1,\"Services\":{},\"Checks\":{}}",
        "{\"Node\":true,\"Services\":{\"a\":5},\"Checks\":{}}",
        "{\"Node\":true,\"Services\":{\"a\":\"xyz\"},\"Checks\":{}}",
        "{\"Node\":true,\"Services\":{},\"Checks\":{\"c\":{}}}",
        ("{\"Node\":true,\"Services\":{},\"Checks\":{\"c\":{\"Row\":\"1\","
         "\"State\":\"\",\"Status\":\"passing\"}}}"),
    };
    struct sync_fixture *f = *state;
    bool is_there;

    for (size_t i = 0; i < MR_ARRAY_LEN(bad); i++) {
        assert_int_equal(
            sync_rows_parse(&f->known, mr_slice_str(bad[i]), &is_there),
            MR_E_INVALID);
        assert_int_equal(f->known.n, 0);
    }
}

/* A pass without memory changes nothing and can be made again. */
static void a_pass_survives_a_lack_of_memory(void **state)
{
    struct sync_fixture *f = *state;
    enum mr_err err = MR_E_NOMEM;

    add(f, "web", "passing", "");
    add(f, "db", "critical", "");
    diff(f);
    cluster_did(f);
    add(f, "web", "warning", "x");
    drop(f, "db");
    for (uint64_t n = 0; err != MR_OK && n < 1000; n++) {
        mr_mem_fail_after(n);
        err = try_diff(f, false);
        mr_mem_fail_after(UINT64_MAX);
        assert_true(err == MR_OK || err == MR_E_NOMEM || err == MR_E_BUSY);
    }
    assert_int_equal(err, MR_OK);
    assert_int_equal(f->diff.n_commands, 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_new_is_pushed_once),
        TEST(a_changed_status_is_pushed),
        TEST(a_changed_output_renews_until_it_is_compared),
        TEST(what_is_gone_is_removed),
        TEST(what_the_cluster_lost_is_pushed_again),
        TEST(a_pass_is_bounded_and_the_next_goes_on),
        TEST(digests_leave_out_what_a_store_fills_in),
        TEST(an_answer_is_parsed),
        TEST(a_bad_answer_is_refused),
        TEST(a_pass_survives_a_lack_of_memory),
    };

    return cmocka_run_group_tests_name("server_sync_rows", tests, NULL, NULL);
}
