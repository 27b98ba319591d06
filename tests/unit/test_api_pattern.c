/* SPDX-License-Identifier: Apache-2.0 */
/* api/pattern: RE2's syntax, matched in one walk. */
#include "api/pattern.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static bool matches(const char *text, const char *subject)
{
    struct mr_detail detail = {""};
    struct pattern *p = NULL;
    bool result;

    if (pattern_new(text, &p, &detail) != MR_OK) {
        fail_msg("%s: %s", text, detail.text);
    }
    result = pattern_match(p, subject);
    pattern_free(p);
    return result;
}

struct sample {
    const char *pattern;
    const char *subject;
};

static void all(const struct sample *samples, size_t n, bool wanted)
{
    for (size_t i = 0; i < n; i++) {
        if (matches(samples[i].pattern, samples[i].subject) != wanted) {
            fail_msg("`%s` on \"%s\" should be %s", samples[i].pattern,
                     samples[i].subject, wanted ? "true" : "false");
        }
    }
}

/* ------------------------------------------------------------- success */

/* What RE2 finds is found. */
static void matching_texts_match(void **state)
{
    static const struct sample samples[] = {
        {"", ""},
        {"", "abc"},
        {"b", "abc"},
        {"^abc$", "abc"},
        {"a.c", "abc"},
        {"^.$", "\xc3\xa9"},
        {"a|b|c", "xcx"},
        {"^(a|bb)+$", "abba"},
        {"(ab)*c", "ababc"},
        {"a?b", "b"},
        {"a+?b", "aab"},
        {"^a{2,3}$", "aaa"},
        {"^a{2,}$", "aaaaa"},
        {"^a{3}$", "aaa"},
        {"^a{0}$", ""},
        {"a{,2}", "a{,2}"},
        {"[a-c]x", "bx"},
        {"[^a-c]x", "dx"},
        {"[]a]", "]"},
        {"[a-]", "-"},
        {"[\\]\\-]", "]"},
        {"[\\d_]", "_"},
        {"[[:alpha:]]", "Q"},
        {"[[]", "["},
        {"\\d+\\s\\w", "12 x"},
        {"\\D\\S\\W", "ab!"},
        {"\\bweb\\b", "a web b"},
        {"\\Beb", "web"},
        {"\\Aab\\z", "ab"},
        {"\\.\\*\\/", ".*/"},
        {"\\t\\n", "\t\n"},
        {"(?i)WEB[a-c]", "xwebB"},
        {"(?:a)(?P<n>b)", "ab"},
        {"(|a)b", "b"},
        {"()*x", "x"},
        {"(a*)*b", "aaab"},
        {"((a|b)*c|d)+e", "abcde"},
        {"x{1,3}{", "xx{"},
        {"\xc3\xa9+", "caf\xc3\xa9\xc3\xa9"},
        {"[\xc3\xa0-\xc3\xbf]", "\xc3\xa9"},
    };

    (void)state;
    all(samples, MR_ARRAY_LEN(samples), true);
}

/* And nothing else is. */
static void other_texts_do_not_match(void **state)
{
    static const struct sample samples[] = {
        {"b", ""},
        {"^b", "ab"},
        {"b$", "ba"},
        {"^a{2,3}$", "aaaa"},
        {"^a{3}$", "aa"},
        {"[a-c]", "d"},
        {"[^a]", "a"},
        {".", "\n"},
        {"^..$", "\xc3\xa9"},
        {"\\bweb", "aweb"},
        {"\\d", "x"},
        {"\\W", "a"},
        {"A", "a"},
        {"(ab)+$", "aba"},
        {"a|b", "c"},
        {"^(a|b)$", "ab"},
        {"$a", "a"},
        {"a^", "a"},
    };

    (void)state;
    all(samples, MR_ARRAY_LEN(samples), false);
}

/* The expressions that take others exponential time or memory. */
static void evil_patterns_are_harmless(void **state)
{
    char subject[2001];

    (void)state;
    memset(subject, 'a', 2000);
    subject[2000] = '\0';
    assert_false(matches("^(a+)+$x", subject));
    assert_false(matches("^(((((((a*)*)*)*)*)*)*)*b$", subject));
    assert_false(matches("^(a|a)*b", subject));
    assert_false(matches("(a?){30}a{900}b", subject));
    assert_true(matches("((((((((a+)+)+)+)+)+)+)+)+", subject));
}

/* ------------------------------------------------------------- failure */

static void refused(const char *text, const char *sentence)
{
    struct mr_detail detail = {""};
    struct pattern *p = NULL;

    if (pattern_new(text, &p, &detail) != MR_E_INVALID) {
        pattern_free(p);
        fail_msg("`%s` is not refused", text);
    }
    if (strncmp(detail.text, sentence, strlen(sentence)) != 0) {
        fail_msg("`%s`: %s", text, detail.text);
    }
}

/* What is no expression is refused with a sentence. */
static void bad_patterns_are_refused(void **state)
{
#define WHY "error parsing regexp: "
    (void)state;
    refused("(", WHY "missing closing ): `(`");
    refused("a)", WHY "unmatched closing parenthesis: `a)`");
    refused("[a", WHY "missing terminating ] for character class");
    refused("[]", WHY);
    refused("[b-a]", WHY "range out of order");
    refused("*a", WHY "quantifier does not follow a repeatable item");
    refused("a**", WHY);
    refused("a{99999999999999999999}", WHY "number too big");
    refused("a{5,2}", WHY "numbers out of order");
    refused("\\", WHY "\\ at end of pattern");
    refused("(a)\\1", WHY "invalid escape sequence");
    refused("(?R)", WHY "invalid escape sequence");
    refused("\\C", WHY);
    refused("(?P<a", WHY);
    refused("((a{900}){900}){900}", WHY "regular expression is too large");
}

/* Length and nesting have limits. */
static void size_is_bounded(void **state)
{
    char text[PATTERN_LENGTH_MAX + 2];

    (void)state;
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    refused(text, WHY "pattern string is longer");
    memset(text, '(', 40);
    text[40] = '\0';
    refused(text, WHY "parentheses are too deeply nested");
}

static void every_allocation_may_fail(void **state)
{
    struct mr_detail detail;
    enum mr_err err = MR_E_NOMEM;
    uint64_t n;

    (void)state;
    for (n = 0; err != MR_OK && n < 100; n++) {
        struct pattern *p = NULL;

        mr_mem_fail_after(n);
        err = pattern_new("(a|b|c){3}[a-z]*d+", &p, &detail);
        mr_mem_fail_after(UINT64_MAX);
        assert_true(err == MR_OK || err == MR_E_NOMEM);
        pattern_free(p);
    }
    assert_int_equal(err, MR_OK);
    assert_true(n > 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matching_texts_match),
        cmocka_unit_test(other_texts_do_not_match),
        cmocka_unit_test(evil_patterns_are_harmless),
        cmocka_unit_test(bad_patterns_are_refused),
        cmocka_unit_test(size_is_bounded),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests_name("api_pattern", tests, NULL, NULL);
}
