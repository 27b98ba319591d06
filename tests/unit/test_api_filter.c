/* SPDX-License-Identifier: Apache-2.0 */
/* api/filter: the grammar, what its matches mean, and its bounds. */
#include "api/filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

/* One entry with something in every kind of field. */
static Mr__Pair ver = {PROTOBUF_C_MESSAGE_INIT(&mr__pair__descriptor),
                       (char *)"ver", (char *)"1.0"};
static Mr__Pair dashed = {PROTOBUF_C_MESSAGE_INIT(&mr__pair__descriptor),
                          (char *)"k-y", (char *)"v"};
static Mr__Pair *meta[] = {&dashed, &ver};
static Mr__TaggedAddress lan;
static Mr__TaggedAddress *addresses[] = {&lan};
static char *tags[] = {(char *)"v1", (char *)"primary"};
static Mr__Node node;
static Mr__Service service;
static Mr__Check good;
static Mr__Check bad;
static const Mr__Check *const checks[] = {&good, &bad};

static int set_up(void **state)
{
    static struct filter_entry entry;

    mr__tagged_address__init(&lan);
    lan.tag = (char *)"lan";
    lan.address = (char *)"10.0.0.1";
    lan.port = 99;
    mr__node__init(&node);
    node.name = (char *)"n1";
    node.n_meta = 2;
    node.meta = meta;
    mr__service__init(&service);
    service.id = (char *)"web-1";
    service.name = (char *)"web";
    service.port = 8080;
    service.weight_passing = 10;
    service.enable_tag_override = true;
    service.n_tags = 2;
    service.tags = tags;
    service.n_meta = 2;
    service.meta = meta;
    service.n_tagged_addresses = 1;
    service.tagged_addresses = addresses;
    mr__check__init(&good);
    good.status = (char *)"passing";
    mr__check__init(&bad);
    bad.status = (char *)"warning";
    entry = (struct filter_entry){&node, &service, &bad, checks, 2};
    *state = &entry;
    return 0;
}

static bool holds(const struct filter_entry *entry, enum filter_shape shape,
                  const char *text)
{
    struct filter *f = NULL;
    struct mr_detail detail = {""};
    bool result;

    if (filter_compile(text, shape, &f, &detail) != MR_OK) {
        fail_msg("%s: %s", text, detail.text);
    }
    result = filter_match(f, entry);
    filter_free(f);
    return result;
}

static void all_hold(const struct filter_entry *entry, enum filter_shape shape,
                     bool wanted, const char *const *texts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (holds(entry, shape, texts[i]) != wanted) {
            fail_msg("%s should be %s", texts[i], wanted ? "true" : "false");
        }
    }
}

/* ------------------------------------------------------------- success */

/* What is true of the entry is found true, in every notation. */
static void true_matches_hold(void **state)
{
    static const char *const texts[] = {
        "Service==web",
        "Service == web",
        "Service == \"web\"",
        "Service==`web`",
        "Service != db",
        "Port==8080",
        "Port!=80",
        "EnableTagOverride==true",
        "EnableTagOverride != false",
        "Weights.Passing==10",
        "\"v1\" in Tags",
        "v1 in Tags",
        "Tags contains \"v1\"",
        "Tags not contains v2",
        "\"v2\" not in Tags",
        "Tags is not empty",
        "Meta.ver==\"1.0\"",
        "Meta[\"k-y\"] == v",
        "Meta[ `k-y` ]==v",
        "ver in Meta",
        "Meta contains ver",
        "Meta is not empty",
        "Meta.nope != x",
        "\"eb\" in Service",
        "Service contains we",
        "ID matches \"^web-[0-9]+$\"",
        "ID matches `w.b-\\d`",
        "ID not matches \"^x\"",
        "ID matches \"(?i)WEB\"",
        "ID matches \"(?:web|db)-1\"",
        "ID matches \"w.*?1\"",
        "ID matches \"[\\\\w\\\\-]{3,9}\"",
        "ID matches \"[[:alpha:]]{3}-[[0-9]\"",
        "TaggedAddresses.lan.Address == \"10.0.0.1\"",
        "TaggedAddresses.lan.Port == 99",
        "lan in TaggedAddresses",
        "Address == \"\"",
        "Kind==``",
    };

    all_hold(*state, FILTER_SERVICE, true, texts, MR_ARRAY_LEN(texts));
}

/* And what is not true is not. */
static void false_matches_do_not_hold(void **state)
{
    static const char *const texts[] = {
        "Service==WEB",
        "Port==80",
        "Port != 8080",
        "Port == -8080",
        "\"v\" in Tags",
        "Tags is empty",
        "Meta.nope == \"\"",
        "Meta.nope matches \".*\"",
        "nope in Meta",
        "EnableTagOverride==F",
        "Service not contains we",
        "ID matches \"^$\"",
        "wan in TaggedAddresses",
    };

    all_hold(*state, FILTER_SERVICE, false, texts, MR_ARRAY_LEN(texts));
}

/* "and" binds tighter than "or", "not" tighter than both, and parentheses
 * win. */
static void operators_bind_as_documented(void **state)
{
    static const char *const yes[] = {
        "Port==8080 or Port==1 and Port==2",
        "Port==1 and Port==2 or Port==8080",
        "not Port==1 and Port==8080",
        "not (Port==1 or Port==2)",
        "not not Port==8080",
        "( Port==8080 )",
        "((Port==8080)and(Service==web))",
        "Port==1 or Port==2 or Port==8080",
    };
    static const char *const no[] = {
        "(Port==8080 or Port==1) and Port==2",
        "not (Port==8080 or Port==1)",
        "not Port==8080 or Port==1",
        "Port==8080 and Service==web and Port==1",
    };

    all_hold(*state, FILTER_SERVICE, true, yes, MR_ARRAY_LEN(yes));
    all_hold(*state, FILTER_SERVICE, false, no, MR_ARRAY_LEN(no));
}

/* Health entries have three roots; Checks is true when it is for one check. */
static void health_entries_have_three_roots(void **state)
{
    static const char *const yes[] = {
        "Node.Node==n1",
        "Node.Meta.ver==\"1.0\"",
        "Service.Port==8080 and \"v1\" in Service.Tags",
        "Service.Weights.Passing==10",
        "Checks.Status==warning",
        "Checks.Status==passing",
        "Checks.Status!=passing",
        "Checks is not empty",
    };
    static const char *const no[] = {
        "Checks.Status==critical",
        "not Checks.Status==warning",
        "Checks is empty",
    };

    all_hold(*state, FILTER_HEALTH, true, yes, MR_ARRAY_LEN(yes));
    all_hold(*state, FILTER_HEALTH, false, no, MR_ARRAY_LEN(no));
}

/* Each kind of list has its own names for the same things. */
static void shapes_have_their_own_names(void **state)
{
    assert_true(holds(*state, FILTER_NODE, "Node==n1 and ver in Meta"));
    assert_true(holds(*state, FILTER_CHECK, "Status==warning"));
    assert_true(holds(*state, FILTER_FLAT,
                      "Node==n1 and ServiceName==web and ServicePort==8080 "
                      "and \"v1\" in ServiceTags and ServiceMeta.ver==`1.0` "
                      "and NodeMeta.ver==`1.0`"));
}

/* Without a filter everything is wanted. */
static void no_filter_matches_everything(void **state)
{
    assert_true(filter_match(NULL, *state));
}

/* ------------------------------------------------------------- failure */

static void refused(const char *text, enum filter_shape shape, enum mr_err err,
                    const char *sentence)
{
    struct filter *f = NULL;
    struct mr_detail detail = {""};

    if (filter_compile(text, shape, &f, &detail) != err) {
        filter_free(f);
        fail_msg("%s: \"%s\"", text, detail.text);
    }
    if (sentence != NULL) {
        assert_string_equal(detail.text, sentence);
    }
    assert_null(f);
}

/* What is no expression is refused with the place and what could stand
 * there. */
static void syntax_errors_name_the_place(void **state)
{
    static const char operand[] =
        "no match found, expected: \"(\", \"-\", \"0\", \"\\\"\", \"`\", "
        "\"not\", [ \\t\\r\\n], [1-9] or [a-zA-Z]";
    char text[300];

    (void)state;
    (void)snprintf(text, sizeof text, "1:3 (2): %s", operand);
    refused("((", FILTER_CHECK, MR_E_INVALID, text);
    (void)snprintf(text, sizeof text, "2:2 (3): %s", operand);
    refused("(\n ", FILTER_CHECK, MR_E_INVALID, text);
    refused("CheckID==_node", FILTER_CHECK, MR_E_INVALID,
            "1:10 (9): no match found, expected: \"-\", \"0\", \"\\\"\", "
            "\"`\", [ \\t\\r\\n], [1-9] or [a-zA-Z]");
    refused("ServicePort > 80", FILTER_FLAT, MR_E_INVALID,
            "1:13 (12): no match found, expected: \"!=\", \"==\", "
            "\"contains\", \"in\", \"is\", \"matches\", \"not\" or "
            "[ \\t\\r\\n]");
}

static void junk_is_refused(void **state)
{
    static const char *const texts[] = {
        " ",
        "Port",
        "Port==",
        "Port==8080 x",
        "Port==08",
        "Port==1.",
        "Port==0x1",
        "Port=8080",
        "(Port==1",
        "Port==1)",
        "Port==1 and",
        "Port==1 or or",
        "not",
        "\"a\"",
        "\"a\" in",
        "\"a\" in 5",
        "\"a",
        "`a",
        "\"a\\q\" in Tags",
        "Tags is",
        "Tags is full",
        "Tags not",
        "Meta[x]==1",
        "Meta[\"x\"==1",
        "Meta.==1",
        "Port == 8080 AND Port == 8080",
        "\xff==1",
        "Tags contains",
        "Port < 8080",
        "a.b.c.d.e.f.g.h.i==1",
    };

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(texts); i++) {
        refused(texts[i], FILTER_SERVICE, MR_E_INVALID, NULL);
    }
}

/* What does not fit the entries is told in Consul's words. */
static void unfit_matches_are_refused(void **state)
{
    (void)state;
    refused("Name==web", FILTER_SERVICE, MR_E_NOTFOUND,
            "Selector \"Name\" is not valid");
    refused("Port.x==1", FILTER_SERVICE, MR_E_NOTFOUND,
            "Selector \"Port.x\" is not valid");
    refused("service==web", FILTER_SERVICE, MR_E_NOTFOUND,
            "Selector \"service\" is not valid");
    refused("Port==1 and Bogus==2", FILTER_HEALTH, MR_E_NOTFOUND,
            "Selector \"Port\" is not valid");
    refused("CreateIndex==1", FILTER_NODE, MR_E_NOTFOUND,
            "Selector \"CreateIndex\" is not valid");
    refused("TaggedAddresses.lan==x", FILTER_SERVICE, MR_E_NOTFOUND,
            "Selector \"TaggedAddresses.lan\" is not valid");
    refused("Service is empty", FILTER_SERVICE, MR_E_NOTFOUND,
            "Invalid match operator \"Is Empty\" for selector \"Service\"");
    refused("Tags==a", FILTER_SERVICE, MR_E_NOTFOUND,
            "Invalid match operator \"Equal\" for selector \"Tags\"");
    refused("\"8\" in Port", FILTER_SERVICE, MR_E_NOTFOUND,
            "Invalid match operator \"In\" for selector \"Port\"");
    refused("Port==abc", FILTER_SERVICE, MR_E_NOTFOUND,
            "Failed to coerce value \"abc\" for selector \"Port\": "
            "strconv.ParseInt: parsing \"abc\": invalid syntax");
    refused("Port==99999999999999999999", FILTER_SERVICE, MR_E_NOTFOUND,
            "Failed to coerce value \"99999999999999999999\" for selector "
            "\"Port\": strconv.ParseInt: parsing \"99999999999999999999\": "
            "value out of range");
    refused("EnableTagOverride==maybe", FILTER_SERVICE, MR_E_NOTFOUND,
            "Failed to coerce value \"maybe\" for selector "
            "\"EnableTagOverride\": strconv.ParseBool: parsing \"maybe\": "
            "invalid syntax");
    refused("ServiceID matches \"(\"", FILTER_FLAT, MR_E_NOTFOUND,
            "Failed to compile regular expression \"(\": error parsing "
            "regexp: missing closing ): `(`");
}

/* Patterns that would cost much or mean something else are refused. */
static void dangerous_patterns_are_refused(void **state)
{
    static const char *const texts[] = {
        "ID matches `(a)\\1`", "ID matches `((a{1,100}){1,100}){1,100}`",
        "ID matches `a{5,2}`", "ID matches `[a`",
        "ID matches `a)`",     "ID matches `\\`",
        "ID matches `*a`",     "ID matches `[b-a]`",
    };

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(texts); i++) {
        refused(texts[i], FILTER_SERVICE, MR_E_NOTFOUND, NULL);
    }
}

/* Depth, number of matches and length have limits. */
static void size_is_bounded(void **state)
{
    static char text[FILTER_LENGTH_MAX + 2];

    (void)state;
    memset(text, '(', 100);
    refused(text, FILTER_SERVICE, MR_E_INVALID, "nested deeper than 32 levels");
    memset(text, 'a', FILTER_LENGTH_MAX + 1);
    refused(text, FILTER_SERVICE, MR_E_INVALID, "longer than 8192 bytes");
    for (size_t i = 0; i < 800; i++) {
        memcpy(text + i * 10, "ID==a or  ", 11);
    }
    refused(text, FILTER_SERVICE, MR_E_INVALID,
            "more than 512 matches and operators");
}

/* Whichever allocation of ours fails, the answer is "out of memory". */
static void every_allocation_may_fail(void **state)
{
    enum mr_err err = MR_E_NOMEM;
    struct mr_detail detail;
    uint64_t n;

    (void)state;
    for (n = 0; err != MR_OK && n < 100; n++) {
        struct filter *f = NULL;

        mr_mem_fail_after(n);
        err = filter_compile("not (ID matches `a\\d` or Port==1)",
                             FILTER_SERVICE, &f, &detail);
        mr_mem_fail_after(UINT64_MAX);
        assert_true(err == MR_OK || err == MR_E_NOMEM);
        filter_free(f);
    }
    assert_int_equal(err, MR_OK);
    assert_true(n > 5);
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(true_matches_hold),
        TEST(false_matches_do_not_hold),
        TEST(operators_bind_as_documented),
        TEST(health_entries_have_three_roots),
        TEST(shapes_have_their_own_names),
        TEST(no_filter_matches_everything),
        TEST(syntax_errors_name_the_place),
        TEST(junk_is_refused),
        TEST(unfit_matches_are_refused),
        TEST(dangerous_patterns_are_refused),
        TEST(size_is_bounded),
        TEST(every_allocation_may_fail),
    };

    return cmocka_run_group_tests_name("api_filter", tests, NULL, NULL);
}
