/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands as bytes: those of released versions decode for ever, others are
 * refused in a way that stops the server instead of losing something.
 */
#include "tests/unit/kv_fixture.h"

static enum mr_err apply_bytes(struct fixture *f, const void *data, size_t len,
                               struct mr_kv_result *r)
{
    enum mr_err err;

    assert_int_equal(mr_kv_batch_begin(f->kv), MR_OK);
    err = mr_kv_apply(f->kv, mr_slice(data, len), r);
    if (err == MR_OK) {
        assert_int_equal(mr_kv_batch_commit(f->kv, ++f->index, 1), MR_OK);
    } else {
        assert_int_equal(mr_kv_batch_commit(f->kv, f->index + 1, 1), err);
    }
    return err;
}

/* ------------------------------------------------------------ golden */

/* Lines of hexadecimal bytes: the commands of a version, one a line. */
static size_t read_line(FILE *file, uint8_t *out, size_t cap)
{
    char line[2048];
    size_t n = 0;
    char *at = line;

    if (fgets(line, sizeof line, file) == NULL) {
        return 0;
    }
    for (; n < cap && at[0] != '\n' && at[0] != '\0'; at += 2) {
        unsigned byte;

        assert_int_equal(sscanf(at, "%2x", &byte), 1);
        out[n++] = (uint8_t)byte;
    }
    return n;
}

/* Apply the commands in the golden file @name: they make a state of @revision
 * with the digest that it had when they were written. */
static void apply_golden(struct fixture *f, const char *name, uint64_t revision,
                         const char *want)
{
    FILE *file = fopen(name, "re");
    uint8_t bytes[1024];
    char digest[64];
    struct mr_kv_result r;
    size_t len;

    assert_non_null(file);
    while ((len = read_line(file, bytes, sizeof bytes)) > 0) {
        assert_int_equal(apply_bytes(f, bytes, len, &r), MR_OK);
        assert_int_equal(r.verdict, MR_KV_DONE);
        assert_true(r.changed);
    }
    assert_int_equal(fclose(file), 0);
    assert_int_equal(mr_kv_revision(f->kv), revision);
    (void)snprintf(digest, sizeof digest, "%016llx%016llx",
                   (unsigned long long)mr_kv_digest(f->kv, NULL).high,
                   (unsigned long long)mr_kv_digest(f->kv, NULL).low);
    assert_string_equal(digest, want);
}

/* The commands of version 1 still do what they did. */
static void version_1_commands_still_apply(void **state)
{
    apply_golden(*state, "tests/unit/golden/kv_commands_v1.hex", 7,
                 "26622813ee190e02481eb6f858e41b40");
}

/* As above, those on leases, sessions and locks. */
static void version_1_lease_commands_still_apply(void **state)
{
    apply_golden(*state, "tests/unit/golden/kv_commands_v1_leases.hex", 20,
                 "cf152c0bb59e5a36ac5ce93b5ff3847a");
}

/* ------------------------------------------------------------ success */

/* The encoder writes the version; what it wrote is what it was given. */
static void encoded_command_has_the_version(void **state)
{
    Mr__KeyPut put = MR__KEY_PUT__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    struct mr_buf b = MR_BUF_INIT;
    Mr__Command *back;

    (void)state;
    put.key = fx_bytes("k");
    cmd.op_case = MR__COMMAND__OP_KEY_PUT;
    cmd.key_put = &put;
    mr_kv_command_encode(&cmd, &b);
    back = mr__command__unpack(NULL, b.len, b.data);
    assert_non_null(back);
    assert_int_equal(back->version, MR_KV_COMMAND_VERSION);
    assert_memory_equal(back->key_put->key.data, "k", 1);
    mr__command__free_unpacked(back, NULL);
    mr_buf_deinit(&b);
}

/* However the commands fall into batches, the state is the same. */
static void batches_do_not_show_in_the_digest(void **state)
{
    struct fixture *f = *state;
    struct fixture g = {.kv = NULL};
    Mr__KeyPut put = MR__KEY_PUT__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    char key[16];
    int i;

    fx_init(&g);
    assert_int_equal(mr_kv_batch_begin(g.kv), MR_OK);
    for (i = 0; i < 300; i++) {
        (void)snprintf(key, sizeof key, "k%d", i % 37);
        put.key = fx_bytes(key);
        put.flags = (uint64_t)i;
        cmd.op_case = MR__COMMAND__OP_KEY_PUT;
        cmd.key_put = &put;
        assert_int_equal(fx_apply(f, &cmd).revision,
                         fx_step(&g, &cmd).revision);
        if (i % 17 == 0) {
            assert_int_equal(mr_kv_batch_commit(g.kv, ++g.index, 2), MR_OK);
            assert_int_equal(mr_kv_batch_begin(g.kv), MR_OK);
        }
    }
    assert_int_equal(mr_kv_batch_commit(g.kv, ++g.index, 2), MR_OK);
    assert_int_equal(mr_kv_digest(f->kv, NULL).high,
                     mr_kv_digest(g.kv, NULL).high);
    assert_int_equal(mr_kv_digest(f->kv, NULL).low,
                     mr_kv_digest(g.kv, NULL).low);
    fx_check_digest(f);
    fx_check_digest(&g);
    fx_deinit(&g);
}

/* A batch that is given up on close leaves no trace. */
static void open_batch_is_given_up_on_close(void **state)
{
    struct fixture *f = *state;
    Mr__KeyPut put = MR__KEY_PUT__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    put.key = fx_bytes("k");
    cmd.op_case = MR__COMMAND__OP_KEY_PUT;
    cmd.key_put = &put;
    assert_int_equal(mr_kv_batch_begin(f->kv), MR_OK);
    (void)fx_step(f, &cmd);
    mr_kv_close(f->kv);
    fx_open_as(f, "boot");
    assert_int_equal(mr_kv_revision(f->kv), 1);
    assert_int_equal(mr_kv_applied(f->kv, NULL), 0);
}

/* ------------------------------------------------------------ failure */

/* Bytes that are no command fail the batch. */
static void garbage_is_corrupt(void **state)
{
    static const uint8_t junk[] = {0xff, 0xff, 0xff, 0x01};
    static const uint8_t no_version[] = {0x12, 0x03, 0x0a, 0x01, 'k'};
    static const uint8_t no_op[] = {0x08, 0x01};
    struct fixture *f = *state;
    struct mr_kv_result r;

    assert_int_equal(apply_bytes(f, junk, sizeof junk, &r), MR_E_CORRUPT);
    assert_int_equal(apply_bytes(f, no_version, sizeof no_version, &r),
                     MR_E_CORRUPT);
    assert_int_equal(apply_bytes(f, no_op, sizeof no_op, &r), MR_E_CORRUPT);
    assert_int_equal(apply_bytes(f, "", 0, &r), MR_E_CORRUPT);
    assert_int_equal(mr_kv_applied(f->kv, NULL), 0);
}

/* A newer version's commands, operations and members stop this one. */
static void newer_commands_are_not_skipped(void **state)
{
    static const uint8_t version_2[] = {0x08, 0x02, 0x12, 0x03,
                                        0x0a, 0x01, 'k'};
    static const uint8_t op_100[] = {0x08, 0x01, 0xa2, 0x06, 0x00};
    static const uint8_t put_member_15[] = {0x08, 0x01, 0x12, 0x05, 0x0a,
                                            0x01, 'k',  0x78, 0x01};
    /* register { node { name: "n" 30: 1 } } */
    static const uint8_t node_member_30[] = {
        0x08, 0x01, 0x22, 0x08, 0x0a, 0x06, 0x0a, 0x01, 'n', 0xf0, 0x01, 0x01};
    /* lease_end { leases { id: 1 15: 1 } }, and the same of a session. */
    static const uint8_t ended_member_15[] = {0x08, 0x01, 0x4a, 0x06, 0x0a,
                                              0x04, 0x08, 0x01, 0x78, 0x01};
    static const uint8_t session_member_15[] = {
        0x08, 0x01, 0x52, 0x07, 0x0a, 0x05, 0x0a, 0x01, 'x', 0x78, 0x01};
    struct fixture *f = *state;
    struct mr_kv_result r;

    assert_int_equal(
        apply_bytes(f, ended_member_15, sizeof ended_member_15, &r),
        MR_E_VERSION);
    assert_int_equal(
        apply_bytes(f, session_member_15, sizeof session_member_15, &r),
        MR_E_VERSION);
    assert_int_equal(apply_bytes(f, version_2, sizeof version_2, &r),
                     MR_E_VERSION);
    assert_int_equal(apply_bytes(f, op_100, sizeof op_100, &r), MR_E_VERSION);
    assert_int_equal(apply_bytes(f, put_member_15, sizeof put_member_15, &r),
                     MR_E_VERSION);
    assert_int_equal(apply_bytes(f, node_member_30, sizeof node_member_30, &r),
                     MR_E_VERSION);
    assert_int_equal(mr_kv_revision(f->kv), 1);
}

/* Whichever allocation fails, the batch fails whole and the next one works. */
static void lack_of_memory_fails_the_batch_whole(void **state)
{
    struct fixture *f = *state;
    Mr__Node node = MR__NODE__INIT;
    Mr__Service service = MR__SERVICE__INIT;
    Mr__Service *services[] = {&service};
    Mr__Check check = MR__CHECK__INIT;
    Mr__Check *checks[] = {&check};
    Mr__Register reg = MR__REGISTER__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    char *tags[] = {S("tag")};
    struct mr_buf b = MR_BUF_INIT;
    uint64_t n;

    node.name = S("node");
    service.name = service.id = check.service_id = S("web");
    service.tags = tags;
    service.n_tags = 1;
    check.check_id = S("c");
    reg.node = &node;
    reg.services = services;
    reg.n_services = 1;
    reg.checks = checks;
    reg.n_checks = 1;
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = &reg;
    mr_kv_command_encode(&cmd, &b);
    for (n = 0; n < 1000; n++) {
        struct mr_kv_result r;
        enum mr_err err;

        assert_int_equal(mr_kv_batch_begin(f->kv), MR_OK);
        mr_mem_fail_after(n);
        err = mr_kv_apply(f->kv, mr_buf_slice(&b), &r);
        mr_mem_fail_after(UINT64_MAX);
        assert_int_equal(mr_kv_batch_commit(f->kv, 1, 1), err);
        if (err == MR_OK) {
            break;
        }
        assert_int_equal(err, MR_E_NOMEM);
        assert_int_equal(mr_kv_revision(f->kv), 1);
        fx_check_digest(f);
    }
    assert_in_range(n, 1, 999);
    fx_check_digest(f);
    mr_buf_deinit(&b);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(version_1_commands_still_apply),
        TEST(version_1_lease_commands_still_apply),
        TEST(encoded_command_has_the_version),
        TEST(batches_do_not_show_in_the_digest),
        TEST(open_batch_is_given_up_on_close),
        TEST(garbage_is_corrupt),
        TEST(newer_commands_are_not_skipped),
        TEST(lack_of_memory_fails_the_batch_whole),
    };

    return cmocka_run_group_tests_name("kv_command", tests, NULL, NULL);
}
