/* SPDX-License-Identifier: Apache-2.0 */
/* server/cli: flags of the commands, tables, escaping, exit codes. */
#include "server/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

#define WORDS_MAX 8

static enum mr_err parse(struct server_cli *cli, const char *allowed, ...)
{
    static char *argv[WORDS_MAX];
    int argc = 0;
    va_list ap;

    va_start(ap, allowed);
    while (argc < WORDS_MAX && (argv[argc] = va_arg(ap, char *)) != NULL) {
        argc++;
    }
    va_end(ap);
    return server_cli_parse(cli, allowed, argc, argv);
}

static int set_up(void **state)
{
    (void)state;
    return unsetenv("MICROREG_HTTP_ADDR") + unsetenv("CONSUL_HTTP_ADDR") +
           unsetenv("MICROREG_HTTP_TOKEN") + unsetenv("CONSUL_HTTP_TOKEN");
}

/* ---- success ---- */

/* Parsing ends at the first word that is no flag, so values may have dashes. */
static void flags_end_at_the_first_word(void **state)
{
    struct server_cli cli;

    (void)state;
    assert_int_equal(parse(&cli, "cas flags", "-cas", "--flags", "7", "key",
                           "-cas=false", NULL),
                     MR_OK);
    assert_true(cli.cas);
    assert_string_equal(cli.flags, "7");
    assert_int_equal(cli.argc, 2);
    assert_string_equal(cli.argv[0], "key");
    assert_string_equal(cli.argv[1], "-cas=false");
}

/* A single dash is an argument: standard input. */
static void single_dash_is_an_argument(void **state)
{
    struct server_cli cli;

    (void)state;
    assert_int_equal(parse(&cli, "cas", "-", NULL), MR_OK);
    assert_int_equal(cli.argc, 1);
    assert_int_equal(parse(&cli, "cas", "--", "-cas", NULL), MR_OK);
    assert_int_equal(cli.argc, 1);
    assert_false(cli.cas);
}

/* Our variable wins over Consul's, a flag over both. */
static void environment_is_read_ours_first(void **state)
{
    struct server_cli cli;

    (void)state;
    assert_int_equal(setenv("CONSUL_HTTP_ADDR", "theirs", 1), 0);
    assert_int_equal(parse(&cli, "http-addr", NULL), MR_OK);
    assert_string_equal(cli.http_addr, "theirs");
    assert_int_equal(setenv("MICROREG_HTTP_ADDR", "ours", 1), 0);
    assert_int_equal(parse(&cli, "http-addr", NULL), MR_OK);
    assert_string_equal(cli.http_addr, "ours");
    assert_int_equal(parse(&cli, "http-addr", "-http-addr=flag", NULL), MR_OK);
    assert_string_equal(cli.http_addr, "flag");
    server_cli_deinit(&cli);
}

/* Metadata comes as pairs, later ones replace. */
static void metadata_is_collected(void **state)
{
    struct server_cli cli;

    (void)state;
    assert_int_equal(parse(&cli, "node-meta", "-node-meta=a=1",
                           "-node-meta=b=x=y", "-node-meta=a=2", NULL),
                     MR_OK);
    assert_int_equal(cli.node_meta.n, 4);
    assert_string_equal(cli.node_meta.items[1], "2");
    assert_string_equal(cli.node_meta.items[3], "x=y");
    server_cli_deinit(&cli);
}

/* Columns are as wide as their widest cell, in characters; the last is bare. */
static void tables_are_aligned(void **state)
{
    struct server_table table;
    struct mr_buf out = MR_BUF_INIT;

    (void)state;
    assert_int_equal(server_table_init(&table, 3), MR_OK);
    for (const char *const *cell =
             (const char *const[]){"Node", "ID", "DC", "caf\xc3\xa9", "", "dc1",
                                   "n", "12345", "", NULL};
         *cell != NULL; cell++) {
        server_table_add(&table, *cell);
    }
    server_table_format(&table, &out);
    assert_string_equal(mr_buf_cstr(&out), "Node  ID     DC\n"
                                           "caf\xc3\xa9         dc1\n"
                                           "n     12345  \n");
    mr_buf_deinit(&out);
    server_table_deinit(&table);
}

/* Paths keep their slashes; parameters escape everything. */
static void texts_are_escaped(void **state)
{
    struct mr_buf out = MR_BUF_INIT;

    (void)state;
    server_cli_escape("a/b c?%\xff", &out);
    assert_string_equal(mr_buf_cstr(&out), "a/b%20c%3F%25%FF");
    mr_buf_reset(&out);
    server_cli_param(&out, "x", NULL);
    server_cli_param(&out, "a", "1/2");
    server_cli_param(&out, "b", "&=");
    assert_string_equal(mr_buf_cstr(&out), "a=1%2F2&b=%26%3D");
    mr_buf_deinit(&out);
}

/* Help is no error. */
static void help_is_told_apart(void **state)
{
    struct server_cli cli;

    (void)state;
    assert_int_equal(parse(&cli, "cas", "-h", NULL), MR_E_CANCELED);
    assert_int_equal(parse(&cli, "cas", "-cas", "--help", NULL), MR_E_CANCELED);
}

/* ---- failure ---- */

/* A flag of another command is unknown, and so is what no command has. */
static void flags_of_other_commands_are_unknown(void **state)
{
    struct server_cli cli;

    (void)state;
    assert_int_equal(parse(&cli, "cas", "-recurse", NULL), MR_E_INVALID);
    assert_int_equal(parse(&cli, "cas", "-bogus", NULL), MR_E_INVALID);
    assert_int_equal(parse(&cli, "cas-flags", "-cas", NULL), MR_E_INVALID);
}

/* Values that no flag can have are refused. */
static void bad_values_are_refused(void **state)
{
    struct server_cli cli;

    (void)state;
    assert_int_equal(parse(&cli, "flags", "-flags=x", NULL), MR_E_INVALID);
    assert_int_equal(parse(&cli, "flags", "-flags=-1", NULL), MR_E_INVALID);
    assert_int_equal(parse(&cli, "flags", "-flags", NULL), MR_E_INVALID);
    assert_int_equal(parse(&cli, "cas", "-cas=maybe", NULL), MR_E_INVALID);
    assert_int_equal(parse(&cli, "format", "-format=yaml", NULL), MR_E_INVALID);
    assert_int_equal(parse(&cli, "node-meta", "-node-meta=x", NULL),
                     MR_E_INVALID);
}

/* A table that ran out of memory is not printed in part. */
static void tables_fail_as_a_whole(void **state)
{
    struct server_table table;
    struct mr_buf out = MR_BUF_INIT;

    (void)state;
    assert_int_equal(server_table_init(&table, 1), MR_OK);
    mr_mem_fail_after(0);
    server_table_add(&table, "x");
    mr_mem_fail_after(UINT64_MAX);
    server_table_add(&table, "y");
    server_table_format(&table, &out);
    assert_true(mr_buf_failed(&out));
    mr_buf_deinit(&out);
    server_table_deinit(&table);
    mr_mem_fail_after(0);
    assert_int_equal(server_table_init(&table, 1), MR_E_NOMEM);
    mr_mem_fail_after(UINT64_MAX);
}

/* Nobody listens: the command says so and fails. */
static void no_server_is_an_error(void **state)
{
    struct server_cli cli;
    struct server_answer answer;

    (void)state;
    assert_int_equal(parse(&cli, "http-addr", "-http-addr=127.0.0.1:1", NULL),
                     MR_OK);
    assert_false(server_cli_request(&cli, "GET", "/v1/x", "a=b",
                                    mr_slice(NULL, 0), &answer));
    assert_string_equal(answer.error,
                        "Get \"http://127.0.0.1:1/v1/x?a=b\": dial tcp "
                        "127.0.0.1:1: connect: connection refused");
    server_answer_deinit(&answer);
    server_cli_deinit(&cli);
}

/* Unknown commands, groups and bad flags have Consul's exit codes. */
static void exit_codes_are_consuls(void **state)
{
    static const struct {
        const char *words[3];
        int status;
    } cases[] = {
        {{"bogus", NULL, NULL}, 127},  {{"kv", NULL, NULL}, 1},
        {{"kv", "-h", NULL}, 0},       {{"kv", "bogus", NULL}, 1},
        {{"-h", NULL, NULL}, 0},       {{"operator", "raft", NULL}, 1},
        {{"kv", "get", "-x"}, 1},      {{"kv", "get", "-h"}, 0},
        {{"agent", "-h", NULL}, 0},    {{"version", NULL, NULL}, 0},
        {{"-version", NULL, NULL}, 0}, {{"agent", "-bogus", NULL}, 1},
    };

    (void)state;
    assert_int_equal(server_cli_main(0, NULL), 127);
    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        char *argv[3];
        int argc = 0;

        while (argc < 3 && cases[i].words[argc] != NULL) {
            argv[argc] = (char *)cases[i].words[argc];
            argc++;
        }
        assert_int_equal(server_cli_main(argc, argv), cases[i].status);
    }
}

#define TEST(f) cmocka_unit_test_setup(f, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(flags_end_at_the_first_word),
        TEST(single_dash_is_an_argument),
        TEST(environment_is_read_ours_first),
        TEST(metadata_is_collected),
        TEST(tables_are_aligned),
        TEST(texts_are_escaped),
        TEST(help_is_told_apart),
        TEST(flags_of_other_commands_are_unknown),
        TEST(bad_values_are_refused),
        TEST(tables_fail_as_a_whole),
        TEST(no_server_is_an_error),
        TEST(exit_codes_are_consuls),
    };

    return cmocka_run_group_tests_name("server_cli", tests, NULL, NULL);
}
