/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Definitions of services and checks in configuration files: Consul's members
 * in either spelling ("enable_tag_override", "EnableTagOverride"), with the
 * rules that the HTTP API has for the same things.
 *
 * Any thread.
 */
#ifndef MR_DEFINE_H
#define MR_DEFINE_H

#include <jansson.h>

#include "api/mr_api.h"
#include "base/buf.h"
#include "base/err.h"
#include "kv/mr_kv.h"

enum mr_define_kind { MR_DEFINE_SERVICE, MR_DEFINE_CHECK };

/* What is wrong with a definition, and where. */
struct mr_define_problem {
    char path[256]; /* The member, "checks[1].ttl"; "" is the whole. */
    char text[512];
    /* Set by the caller, may be NULL: when there is no member @wanted, told each
     * @name that there is; borrowed for the call. */
    void (*candidate)(void *arg, const char *wanted, const char *name);
    void *arg;
    bool is_unknown; /* The member does not exist. */
};

/* Decode and validate the definition @json and append to @out the bytes of a
 * Register that has it (and no node). A service has its checks in it.
 *
 * MR_E_INVALID: @out_problem says why. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err mr_define_read(enum mr_define_kind kind,
                                         const json_t *json, struct mr_buf *out,
                                         struct mr_define_problem *out_problem);

/* Append to @out the command that registers @part, of mr_define_read(), on the
 * node of @agent. Checks that exist keep their results. Its sticky failure
 * reports a lack of memory. */
void mr_define_command(const struct mr_api_agent *agent, Mr__Register *part,
                       struct mr_buf *out);

#endif /* MR_DEFINE_H */
