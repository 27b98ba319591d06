/* SPDX-License-Identifier: Apache-2.0 */
/* health/liveness: who is dead, who is back, and who may say so. */
#include "health/mr_health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"

#define ID_A "aaaaaaaa-0000-4000-8000-000000000001"
#define ID_B "bbbbbbbb-0000-4000-8000-000000000002"

struct fixture {
    char dir[64];
    struct mr_kv *kv;
    uint64_t index;
    char said[256]; /* "a:dead b:alive " */
};

static void apply(struct fixture *f, const struct mr_buf *cmd)
{
    struct mr_kv_result result;

    assert_false(mr_buf_failed(cmd));
    assert_int_equal(mr_kv_batch_begin(f->kv), MR_OK);
    assert_int_equal(mr_kv_apply(f->kv, mr_buf_slice(cmd), &result), MR_OK);
    assert_int_equal(result.verdict, MR_KV_DONE);
    assert_int_equal(mr_kv_batch_commit(f->kv, ++f->index, 1), MR_OK);
}

/* A server as it registers itself; without @status it has no serfHealth. */
static void register_server(struct fixture *f, const char *name, const char *id,
                            const char *status)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Register reg = MR__REGISTER__INIT;
    Mr__Node node = MR__NODE__INIT;
    Mr__Service service = MR__SERVICE__INIT, *services = &service;
    Mr__Check check = MR__CHECK__INIT, *checks = &check;
    struct mr_buf out = MR_BUF_INIT;

    node.name = (char *)name;
    node.id = (char *)id;
    node.address = (char *)"127.0.0.1";
    service.id = service.name = (char *)"consul";
    check.check_id = check.name = (char *)MR_HEALTH_CHECK_ID;
    check.status = (char *)status;
    reg.node = &node;
    reg.n_services = 1;
    reg.services = &services;
    reg.n_checks = status == NULL ? 0 : 1;
    reg.checks = &checks;
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = &reg;
    mr_kv_command_encode(&cmd, &out);
    apply(f, &out);
    mr_buf_deinit(&out);
}

static int setup(void **state)
{
    struct fixture *f = mr_calloc(1, sizeof *f);
    struct mr_kv_options options = {.boot_id = ""};

    assert_non_null(f);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/mr-health-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    options.dir = f->dir;
    assert_int_equal(mr_kv_open(&options, &f->kv, NULL), MR_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[128];

    mr_kv_close(f->kv);
    (void)snprintf(command, sizeof command, "rm -rf %s", f->dir);
    assert_int_equal(system(command), 0);
    mr_free(f);
    return 0;
}

static void say(void *arg, const char *node, bool is_alive)
{
    struct fixture *f = arg;
    size_t len = strlen(f->said);

    (void)snprintf(f->said + len, sizeof f->said - len, "%s:%s ", node,
                   is_alive ? "alive" : "dead");
}

static void assert_judged(struct fixture *f,
                          const struct mr_health_contact *contacts, size_t n,
                          const char *want)
{
    struct mr_kv_view *view;

    f->said[0] = '\0';
    assert_int_equal(mr_kv_view_begin(f->kv, &view), MR_OK);
    assert_int_equal(mr_liveness_judge(view, contacts, n, say, f), MR_OK);
    mr_kv_view_end(view);
    assert_string_equal(f->said, want);
}

/* Only who is silent too long is told, and nobody twice after the command. */
static void a_silent_server_is_dead_until_it_is_heard(void **state)
{
    struct fixture *f = *state;
    struct mr_health_contact contacts[] = {{ID_A, 0},
                                           {ID_B, MR_HEALTH_SILENT_MS - 1}};
    struct mr_buf cmd = MR_BUF_INIT;

    register_server(f, "a", ID_A, "passing");
    register_server(f, "b", ID_B, "passing");
    assert_judged(f, contacts, 2, "");
    contacts[1].silent_ms = MR_HEALTH_SILENT_MS;
    assert_judged(f, contacts, 2, "b:dead ");
    mr_liveness_command("b", false, &cmd);
    apply(f, &cmd);
    mr_buf_deinit(&cmd);
    assert_judged(f, contacts, 2, "");
    contacts[1].silent_ms = 10;
    assert_judged(f, contacts, 2, "b:alive ");
}

/* A wiped server comes back under a new ID: the row of the old one is dead. */
static void a_server_without_contact_is_dead(void **state)
{
    struct fixture *f = *state;
    struct mr_health_contact contacts[] = {{ID_A, 0}, {"", 0}};

    register_server(f, "a", ID_A, "passing");
    register_server(f, "b", ID_B, "passing");
    assert_judged(f, contacts, 2, "b:dead ");
}

/* Without serfHealth there is nothing to set. */
static void a_node_without_the_check_is_left_alone(void **state)
{
    struct fixture *f = *state;

    register_server(f, "a", ID_A, NULL);
    assert_judged(f, NULL, 0, "");
}

/* Leading must last without a break before it gives the right to judge. */
static void a_new_leader_listens_first(void **state)
{
    struct mr_liveness l = {0};

    (void)state;
    assert_false(mr_liveness_may_judge(&l, true, 1000));
    assert_false(
        mr_liveness_may_judge(&l, true, 1000 + MR_HEALTH_NEW_LEADER_MS - 1));
    assert_true(
        mr_liveness_may_judge(&l, true, 1000 + MR_HEALTH_NEW_LEADER_MS));
    assert_false(mr_liveness_may_judge(&l, false, 7000));
    assert_false(mr_liveness_may_judge(&l, true, 7001));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* success */
        cmocka_unit_test_setup_teardown(
            a_silent_server_is_dead_until_it_is_heard, setup, teardown),
        cmocka_unit_test_setup_teardown(a_server_without_contact_is_dead, setup,
                                        teardown),
        cmocka_unit_test(a_new_leader_listens_first),
        /* failure */
        cmocka_unit_test_setup_teardown(a_node_without_the_check_is_left_alone,
                                        setup, teardown),
    };

    return cmocka_run_group_tests_name("health/liveness", tests, NULL, NULL);
}
