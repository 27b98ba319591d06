/* SPDX-License-Identifier: Apache-2.0 */
/* client-lib/address: what an address may be, and who is asked first. */
#include "client-lib/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "client-lib/mem.h"

static struct mrg_servers *parse(const char *text)
{
    struct mrg_servers *servers;
    struct microreg_error error = {0, ""};
    int err = mrg_servers_parse(text, false, &servers, &error);

    assert_string_equal(error.text, "");
    assert_int_equal(err, MICROREG_OK);
    return servers;
}

/* ------------------------------------------------------------- success */

static void what_is_missing_is_added(void **state)
{
    static const char *const urls[] = {
        "http://a:8500",
        "http://b.c:1",
        "http://[::1]:8500",
        "http://[fe80::1%eth0]:2",
        "https://d:8500",
        "http://127.0.0.1:8500",
        "http://[2001:db8::2]:8500",
    };
    struct mrg_servers *servers =
        parse(" a, b.c:1,[::1] ,[fe80::1%eth0]:2,https://d/,http://127.0.0.1,"
              "2001:db8::2,,");

    (void)state;
    assert_int_equal(servers->n, sizeof urls / sizeof *urls);
    for (size_t i = 0; i < servers->n; i++) {
        assert_string_equal(servers->items[i].url, urls[i]);
    }
    assert_string_equal(servers->items[0].name, "a:8500");
    mrg_servers_unref(servers);
}

static void secure_is_for_those_without_a_scheme(void **state)
{
    struct mrg_servers *servers;

    (void)state;
    assert_int_equal(mrg_servers_parse("a,http://b", true, &servers, NULL),
                     MICROREG_OK);
    assert_string_equal(servers->items[0].url, "https://a:8500");
    assert_string_equal(servers->items[1].url, "http://b:8500");
    mrg_servers_unref(servers);
}

/* Who failed is asked last, longer each time, and first again after that. */
static void who_failed_has_its_turn_again(void **state)
{
    struct mrg_servers *servers = parse("a,b,c");
    unsigned char order[3];

    (void)state;
    mrg_servers_order(servers, 100, order);
    assert_memory_equal(order, "\0\1\2", 3);
    mrg_server_failed(&servers->items[0], 100);
    mrg_servers_order(servers, 101, order);
    assert_memory_equal(order, "\1\2\0", 3);
    mrg_servers_order(servers, 1100, order);
    assert_memory_equal(order, "\0\1\2", 3);
    mrg_server_failed(&servers->items[0], 1100);
    mrg_servers_order(servers, 2200, order);
    assert_memory_equal(order, "\1\2\0", 3);
    mrg_server_failed(&servers->items[1], 1100);
    mrg_servers_order(servers, 1200, order);
    assert_memory_equal(order, "\2\1\0", 3);
    mrg_server_worked(&servers->items[0]);
    mrg_servers_order(servers, 1200, order);
    assert_memory_equal(order, "\0\2\1", 3);
    mrg_servers_unref(servers);
}

/* ------------------------------------------------------------- failure */

static void nonsense_is_refused(void **state)
{
    static const char *const cases[] = {
        "",        ",",    " , ",    "a:",    "a:0",     "a:65536",      "a:b",
        "a b",     "[::1", "[::1]x", "[x]:1", "ftp://a", "a:80:",        "::g",
        "http://", "a/b",  "a:-1",   "\xff",  "user@a",  "http://a:1/x",
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mrg_servers *servers = NULL;
        struct microreg_error error = {0, ""};

        if (mrg_servers_parse(cases[i], false, &servers, &error) !=
            MICROREG_E_INVALID) {
            fail_msg("\"%s\" was taken", cases[i]);
        }
        assert_null(servers);
        assert_string_not_equal(error.text, "");
    }
}

/* What other programs take for an address is told what it is. */
static void other_schemes_are_named(void **state)
{
    struct mrg_servers *servers;
    struct microreg_error error;

    (void)state;
    assert_int_equal(
        mrg_servers_parse("unix:///run/x", false, &servers, &error),
        MICROREG_E_INVALID);
    assert_string_equal(error.text, "address \"unix:///run/x\": only http:// "
                                    "and https:// are known");
}

static void a_lack_of_memory_leaves_nothing_behind(void **state)
{
    struct mrg_servers *servers;
    int err = MICROREG_E_NOMEM;

    (void)state;
    for (long n = 1; err != MICROREG_OK; n++) {
        mrg_mem_fail_at(n);
        err = mrg_servers_parse("a,b", false, &servers, NULL);
        mrg_mem_fail_at(0);
        assert_true(err == MICROREG_OK || err == MICROREG_E_NOMEM);
    }
    mrg_servers_unref(servers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_missing_is_added),
        cmocka_unit_test(secure_is_for_those_without_a_scheme),
        cmocka_unit_test(who_failed_has_its_turn_again),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(other_schemes_are_named),
        cmocka_unit_test(a_lack_of_memory_leaves_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
