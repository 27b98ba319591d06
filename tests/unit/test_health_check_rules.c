/* SPDX-License-Identifier: Apache-2.0 */
/* health/check_rules, check_text, check_grpc_codec: what needs no loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "health/check_grpc.h"
#include "health/check_impl.h"

#define T(text) ((char *)(uintptr_t)(text))
#define S INT64_C(1000000000)

struct fixture {
    Mr__Check check;
    Mr__CheckDefinition def;
    struct mr_buf out;
};

static int set_up(void **state)
{
    static struct fixture f;

    mr__check__init(&f.check);
    mr__check_definition__init(&f.def);
    f.check.definition = &f.def;
    f.check.origin = MR__ORIGIN__AGENT;
    mr_buf_init(&f.out, 0);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    mr_buf_deinit(&((struct fixture *)*state)->out);
    return 0;
}

/* ------------------------------------------------------------- success */

/* What a definition is given decides what is run. */
static void targets_make_the_kind(void **state)
{
    struct fixture *f = *state;
    char *args[] = {T("true")};

    assert_int_equal(check_kind_of(&f->check), CHECK_NONE);
    f->def.interval_ns = 10 * S;
    assert_int_equal(check_kind_of(&f->check), CHECK_NONE);
    f->def.args = args;
    f->def.n_args = 1;
    assert_int_equal(check_kind_of(&f->check), CHECK_SCRIPT);
    assert_true(mr_check_is_script(&f->check));
    f->def.n_args = 0;
    f->def.grpc = T("x:1");
    assert_int_equal(check_kind_of(&f->check), CHECK_GRPC);
    f->def.grpc = T("");
    f->def.tcp = T("x:1");
    assert_int_equal(check_kind_of(&f->check), CHECK_TCP);
    f->def.tcp = T("");
    f->def.http = T("http://x");
    assert_int_equal(check_kind_of(&f->check), CHECK_HTTP);
    assert_int_equal(mr_check_validate(&f->check, NULL), MR_OK);
}

/* Only what came through the agent is run. */
static void the_catalogs_checks_are_not_run(void **state)
{
    struct fixture *f = *state;

    f->def.interval_ns = S;
    f->def.tcp = T("x:1");
    f->check.origin = MR__ORIGIN__CATALOG;
    assert_int_equal(check_kind_of(&f->check), CHECK_NONE);
}

/* Below a second nothing is asked; a timeout follows the interval unless it is
 * given. */
static void times_have_consuls_bounds(void **state)
{
    struct fixture *f = *state;

    f->def.interval_ns = S / 10;
    assert_int_equal(check_interval_ms(&f->def), 1000);
    assert_int_equal(check_timeout_ms(&f->def, CHECK_HTTP), 1000);
    f->def.interval_ns = 60 * S;
    assert_int_equal(check_interval_ms(&f->def), 60000);
    assert_int_equal(check_timeout_ms(&f->def, CHECK_TCP), 10000);
    assert_int_equal(check_timeout_ms(&f->def, CHECK_SCRIPT), 30000);
    f->def.timeout_ns = 5 * S;
    assert_int_equal(check_timeout_ms(&f->def, CHECK_SCRIPT), 5000);
    f->def.timeout_ns = 1;
    assert_int_equal(check_timeout_ms(&f->def, CHECK_HTTP), 1);
    f->def.interval_ns = INT64_MAX;
    assert_true(check_interval_ms(&f->def) > 60000);
}

/* A new check is passing with its first good result. */
static void the_first_good_result_counts(void **state)
{
    struct fixture *f = *state;
    struct check_judge j;

    f->check.status = T("critical");
    f->def.success_before_passing = 3;
    check_judge_init(&j, &f->check);
    assert_true(check_judge_note(&j, CHECK_PASSING));
    assert_true(check_judge_note(&j, CHECK_CRITICAL));
    assert_false(check_judge_note(&j, CHECK_PASSING));
    assert_false(check_judge_note(&j, CHECK_WARNING));
    assert_true(check_judge_note(&j, CHECK_PASSING));
}

/* Critical needs so many failures in a row, also right at the start. */
static void failures_are_counted_in_a_row(void **state)
{
    struct fixture *f = *state;
    struct check_judge j;

    f->check.status = T("passing");
    f->def.failures_before_critical = 3;
    check_judge_init(&j, &f->check);
    assert_false(check_judge_note(&j, CHECK_CRITICAL));
    assert_false(check_judge_note(&j, CHECK_CRITICAL));
    assert_true(check_judge_note(&j, CHECK_WARNING));
    assert_false(check_judge_note(&j, CHECK_CRITICAL));
    assert_false(check_judge_note(&j, CHECK_CRITICAL));
    assert_true(check_judge_note(&j, CHECK_CRITICAL));
    assert_true(check_judge_note(&j, CHECK_CRITICAL));
}

/* After a restart a critical check that had results has to earn it again. */
static void a_known_critical_check_is_not_new(void **state)
{
    struct fixture *f = *state;
    struct check_judge j;

    f->check.status = T("critical");
    f->check.output = T("connection refused");
    f->def.success_before_passing = 2;
    check_judge_init(&j, &f->check);
    assert_false(check_judge_note(&j, CHECK_PASSING));
    assert_true(check_judge_note(&j, CHECK_PASSING));
}

/* What is in the state is UTF-8 without NUL, whatever a target sends. */
static void foreign_bytes_become_text(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *text;
    } cases[] = {
        {"ok", 2, "ok"},
        {"a\0b", 3,
         "a\xef\xbf\xbd"
         "b"},
        {"\xc3\xa9", 2, "\xc3\xa9"},
        {"\xe2\x82\xac\xf0\x9f\x98\x80", 7, "\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\xc3", 1, "\xef\xbf\xbd"},
        {"\xff", 1, "\xef\xbf\xbd"},
        {"\xc0\x80", 2, "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xed\xa0\x80", 3, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf4\x90\x80\x80", 4,
         "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        mr_buf_reset(&f->out);
        check_text_add(&f->out, cases[i].bytes, cases[i].len);
        assert_string_equal(mr_buf_cstr(&f->out), cases[i].text);
    }
}

static void errors_have_gos_case(void **state)
{
    struct fixture *f = *state;

    check_text_errno(&f->out, 111);
    assert_string_equal(mr_buf_cstr(&f->out), "connection refused");
}

/* The question for the service "a" is five bytes and one field. */
static void grpc_questions_are_framed(void **state)
{
    struct fixture *f = *state;

    check_grpc_encode("a", &f->out);
    assert_int_equal(f->out.len, 8);
    assert_memory_equal(f->out.data, "\0\0\0\0\3\n\1a", 8);
    mr_buf_reset(&f->out);
    check_grpc_encode("", &f->out);
    assert_memory_equal(f->out.data, "\0\0\0\0\0", 5);
}

static void grpc_answers_are_understood(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        bool is_serving;
    } cases[] = {
        {"\0\0\0\0\2\x08\1", 7, true},  {"\0\0\0\0\2\x08\2", 7, false},
        {"\0\0\0\0\0", 5, false},       {"", 0, false},
        {"\0\0\0\0\2\x08", 6, false},   {"\1\0\0\0\2\x08\1", 7, false},
        {"\0\0\0\0\1\x08\1", 7, false}, {"\0\xff\xff\xff\xff\x08\1", 7, false},
        {"\0\0\0\0\1\x08", 6, false},
    };
    struct check_grpc_answer a;

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        assert_int_equal(
            check_grpc_is_serving(mr_slice(cases[i].bytes, cases[i].len)),
            cases[i].is_serving);
    }
    check_grpc_answer_init(&a);
    check_grpc_header(&a, mr_slice_str("content-type: application/grpc\r\n"));
    assert_int_equal(a.status, CHECK_GRPC_STATUS_NONE);
    check_grpc_header(&a, mr_slice_str("Grpc-Status: 12\r\n"));
    check_grpc_header(&a, mr_slice_str("grpc-message: no %27x%27 100%\r\n"));
    assert_int_equal(a.status, 12);
    assert_string_equal(a.message, "no 'x' 100%");
    assert_string_equal(check_grpc_code_name(a.status), "Unimplemented");
    assert_string_equal(check_grpc_code_name(99), "Unknown");
}

/* ------------------------------------------------------------- failure */

static void contradictions_are_named(void **state)
{
    struct fixture *f = *state;
    struct mr_detail why;

    f->def.http = T("http://x");
    f->def.tcp = T("x:1");
    f->def.interval_ns = S;
    assert_int_equal(mr_check_validate(&f->check, &why), MR_E_INVALID);
    assert_string_equal(why.text, "only one of HTTP, TCP, GRPC, Args, "
                                  "AliasService and TTL can be specified");
    f->check.definition = NULL;
    assert_int_equal(mr_check_validate(&f->check, &why), MR_E_INVALID);
    assert_string_equal(why.text, "TTL must be > 0 for TTL checks");
}

/* Scripts depend on where they come from, containers are refused anywhere. */
static void scripts_need_permission(void **state)
{
    struct fixture *f = *state;
    char *args[] = {T("true")};

    assert_null(mr_check_refusal(&f->check, false, false));
    f->def.args = args;
    f->def.n_args = 1;
    assert_null(mr_check_refusal(&f->check, true, false));
    assert_non_null(
        strstr(mr_check_refusal(&f->check, false, false), "from remote calls"));
    assert_non_null(strstr(mr_check_refusal(&f->check, false, true),
                           "enable_local_script_checks"));
    f->def.docker_container_id = T("c");
    assert_non_null(strstr(mr_check_refusal(&f->check, true, true), "Docker"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(targets_make_the_kind),
        TEST(the_catalogs_checks_are_not_run),
        TEST(times_have_consuls_bounds),
        TEST(the_first_good_result_counts),
        TEST(failures_are_counted_in_a_row),
        TEST(a_known_critical_check_is_not_new),
        TEST(foreign_bytes_become_text),
        TEST(errors_have_gos_case),
        TEST(grpc_questions_are_framed),
        TEST(grpc_answers_are_understood),
        TEST(contradictions_are_named),
        TEST(scripts_need_permission),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
