/* SPDX-License-Identifier: Apache-2.0 */
/* Filters' expressions, by PCRE2. */
#include "api/pattern.h"

#include <stdint.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/mem.h"

#define NESTING_MAX 30
#define WORKSPACE_INTS 4096 /* Alternatives followed at once. */
#define STEPS_MAX 100000    /* Of nested matching; a sensible one has few. */
#define MISSING_PARENTHESIS 114 /* PCRE2's number, pcre2api(3). */

struct pattern {
    pcre2_general_context *memory;
    pcre2_code *code;
    pcre2_match_context *limits;
    pcre2_match_data *match;
    int workspace[WORKSPACE_INTS];
};

static void *take(size_t size, void *arg)
{
    (void)arg;
    return mr_malloc(size);
}

static void give_back(void *ptr, void *arg)
{
    (void)arg;
    mr_free(ptr);
}

static enum mr_err refuse(struct mr_detail *detail, const char *text, int code)
{
    char why[128] = "";

    if (code == MISSING_PARENTHESIS) { /* In Go's words. */
        return mr_fail(detail, MR_E_INVALID,
                       "error parsing regexp: missing closing ): `%s`", text);
    }
    (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
    return mr_fail(detail, MR_E_INVALID, "error parsing regexp: %s: `%s`", why,
                   text);
}

/* Back references and recursion cannot be matched in one walk. */
static bool is_regular(const pcre2_code *code, const char *text)
{
    uint32_t references = 0;

    /* Asking a sound code for this number cannot fail. */
    (void)pcre2_pattern_info(code, PCRE2_INFO_BACKREFMAX, &references);
    return references == 0 && strstr(text, "(?R") == NULL &&
           strstr(text, "(?&") == NULL && strstr(text, "(?P>") == NULL;
}

static enum mr_err compile(struct pattern *p, const char *text,
                           struct mr_detail *detail)
{
    pcre2_compile_context *bounds = pcre2_compile_context_create(p->memory);
    PCRE2_SIZE at;
    int code = 0;

    if (bounds == NULL) {
        return MR_E_NOMEM;
    }
    pcre2_set_max_pattern_length(bounds, PATTERN_LENGTH_MAX);
    pcre2_set_parens_nest_limit(bounds, NESTING_MAX);
    p->code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_DOLLAR_ENDONLY |
                                PCRE2_NEVER_BACKSLASH_C,
                            &code, &at, bounds);
    pcre2_compile_context_free(bounds);
    if (p->code == NULL) {
        /* 121 is PCRE2's "failed to allocate heap memory". */
        return code == 121 ? MR_E_NOMEM : refuse(detail, text, code);
    }
    if (!is_regular(p->code, text)) {
        return mr_fail(detail, MR_E_INVALID,
                       "error parsing regexp: invalid escape sequence: `%s`",
                       text);
    }
    return MR_OK;
}

enum mr_err pattern_new(const char *text, struct pattern **out,
                        struct mr_detail *detail)
{
    struct pattern *p = mr_calloc(1, sizeof *p);
    enum mr_err err = MR_E_NOMEM;

    if (p == NULL) {
        return err;
    }
    p->memory = pcre2_general_context_create(take, give_back, NULL);
    if (p->memory != NULL) {
        err = compile(p, text, detail);
    }
    if (err == MR_OK) {
        p->limits = pcre2_match_context_create(p->memory);
        p->match = pcre2_match_data_create(1, p->memory);
        err = p->limits != NULL && p->match != NULL ? MR_OK : MR_E_NOMEM;
    }
    if (err != MR_OK) {
        pattern_free(p);
        return err;
    }
    pcre2_set_match_limit(p->limits, STEPS_MAX);
    pcre2_set_depth_limit(p->limits, NESTING_MAX);
    *out = p;
    return MR_OK;
}

bool pattern_match(struct pattern *p, const char *text)
{
    int n = pcre2_dfa_match(p->code, (PCRE2_SPTR)text, strlen(text), 0,
                            PCRE2_DFA_SHORTEST, p->match, p->limits,
                            p->workspace, WORKSPACE_INTS);

    return n >= 0; /* 0: it matched, with more alternatives than places. */
}

void pattern_free(struct pattern *p)
{
    if (p == NULL) {
        return;
    }
    pcre2_match_data_free(p->match);
    pcre2_match_context_free(p->limits);
    pcre2_code_free(p->code);
    pcre2_general_context_free(p->memory);
    mr_free(p);
}
