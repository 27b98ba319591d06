/* SPDX-License-Identifier: Apache-2.0 */
/* Checks given to an agent, alone or within a service. */
#include "api/define_check.h"

#include <stdio.h>
#include <string.h>

#include "api/body_tables.h"
#include "base/mem.h"
#include "health/mr_check.h"

#define OUTPUT_MAX 4096

/* ------------------------------------------------------------- bodies */

static void init_check_body(void *object)
{
    struct define_check_body *body = object;

    mr__check__init(&body->check);
    mr__check_definition__init(&body->def);
}

#define CHECK(kind, name, member)                                              \
    DECODE_FIELD(struct define_check_body, kind, name, check.member)
#define DEF(kind, name, member)                                                \
    DECODE_FIELD(struct define_check_body, kind, name, def.member)
#define DEF_MANY(kind, name, member, table)                                    \
    DECODE_MANY_IN(struct define_check_body, kind, name, def, member, table)
/* What a check has in common wherever it is defined. */
#define CHECK_MEMBERS                                                          \
    CHECK(DECODE_TEXT, "Name", name), CHECK(DECODE_TEXT, "Status", status),    \
        CHECK(DECODE_TEXT, "Notes", notes),                                    \
        DEF(DECODE_DURATION, "TTL", ttl_ns), DEF(DECODE_TEXT, "HTTP", http),   \
        DEF(DECODE_DURATION, "Interval", interval_ns),                         \
        DEF(DECODE_DURATION, "Timeout", timeout_ns),                           \
        DEF(DECODE_DURATION, "DeregisterCriticalServiceAfter",                 \
            deregister_after_ns),                                              \
        DEF(DECODE_DURATION, "deregister_critical_service_after",              \
            deregister_after_ns),                                              \
        DEF(DECODE_TEXT, "Method", method), DEF(DECODE_TEXT, "Body", body),    \
        DEF_MANY(DECODE_MAP, "Header", header, &body_headers),                 \
        DEF(DECODE_BOOL, "TLSSkipVerify", tls_skip_verify),                    \
        DEF(DECODE_BOOL, "tls_skip_verify", tls_skip_verify),                  \
        DEF(DECODE_TEXT, "TCP", tcp), DEF(DECODE_TEXT, "GRPC", grpc),          \
        DEF(DECODE_BOOL, "GRPCUseTLS", grpc_use_tls),                          \
        DEF_MANY(DECODE_TEXTS, "Args", args, NULL),                            \
        DEF_MANY(DECODE_TEXTS, "ScriptArgs", args, NULL),                      \
        DEF_MANY(DECODE_TEXTS, "script_args", args, NULL),                     \
        DEF(DECODE_TEXT, "DockerContainerID", docker_container_id),            \
        DEF(DECODE_TEXT, "docker_container_id", docker_container_id),          \
        DEF(DECODE_TEXT, "Shell", shell),                                      \
        DEF(DECODE_TEXT, "AliasNode", alias_node),                             \
        DEF(DECODE_TEXT, "AliasService", alias_service),                       \
        DEF(DECODE_INT, "SuccessBeforePassing", success_before_passing),       \
        DEF(DECODE_INT, "FailuresBeforeCritical", failures_before_critical),   \
        DEF(DECODE_INT, "OutputMaxSize", output_max_size)

static const struct decode_field service_check_fields[] = {
    CHECK_MEMBERS,
    CHECK(DECODE_TEXT, "CheckID", check_id),
    /* Known to Consul here, and without effect. */
    DECODE_SKIP("ServiceID"),
    DECODE_SKIP("service_id"),
    DECODE_SKIP("ProxyHTTP"),
    DECODE_SKIP("ProxyGRPC"),
};
const struct decode_table define_service_check = {
    .go_name = "",
    .fields = service_check_fields,
    .n_fields = MR_ARRAY_LEN(service_check_fields),
    .size = sizeof(struct define_check_body),
    .init = init_check_body,
};

static const struct decode_field check_fields[] = {
    CHECK_MEMBERS,
    CHECK(DECODE_TEXT, "ID", check_id),
    CHECK(DECODE_TEXT, "ServiceID", service_id),
    CHECK(DECODE_TEXT, "service_id", service_id),
    DECODE_SKIP("Token"),
};
static const struct decode_table check_table = {
    .go_name = "",
    .fields = check_fields,
    .n_fields = MR_ARRAY_LEN(check_fields),
    .size = sizeof(struct define_check_body),
    .init = init_check_body,
};

/* In a file there is one form of check, alone or within a service. */
static const struct decode_field file_fields[] = {
    CHECK_MEMBERS,
    CHECK(DECODE_TEXT, "ID", check_id),
    CHECK(DECODE_TEXT, "CheckID", check_id),
    CHECK(DECODE_TEXT, "ServiceID", service_id),
    DECODE_SKIP("Token"),
};
const struct decode_table define_file_check_table = {
    .go_name = "",
    .fields = file_fields,
    .n_fields = MR_ARRAY_LEN(file_fields),
    .size = sizeof(struct define_check_body),
    .init = init_check_body,
};

static const struct decode_field update_fields[] = {
    DECODE_FIELD(Mr__CheckUpdate, DECODE_TEXT, "Status", status),
    DECODE_FIELD(Mr__CheckUpdate, DECODE_TEXT, "Output", output),
};
static const struct decode_table update_table = {
    .go_name = "checkUpdate",
    .fields = update_fields,
    .n_fields = MR_ARRAY_LEN(update_fields),
    .size = sizeof(Mr__CheckUpdate),
};

enum mr_err define_decode_failed(struct decode *d)
{
    char why[sizeof d->error];

    memcpy(why, d->error, sizeof why);
    (void)snprintf(d->error, sizeof d->error, "Request decode failed: %.1500s",
                   why);
    return MR_E_INVALID;
}

/* ------------------------------------------------------------- checks */

static bool is_given(const char *text)
{
    return text[0] != '\0';
}

bool define_status_valid(const char *status)
{
    return strcmp(status, "passing") == 0 || strcmp(status, "warning") == 0 ||
           strcmp(status, "critical") == 0;
}

static bool is_alias(const Mr__CheckDefinition *def)
{
    return is_given(def->alias_node) || is_given(def->alias_service);
}

/* Whether something is run every interval. */
static bool is_probe(const Mr__CheckDefinition *def)
{
    return def->n_args > 0 || is_given(def->http) || is_given(def->tcp) ||
           is_given(def->grpc);
}

static const char *type_of(const Mr__CheckDefinition *def)
{
    if (is_given(def->grpc)) {
        return "grpc";
    }
    if (is_given(def->http)) {
        return "http";
    }
    if (def->ttl_ns > 0) {
        return "ttl";
    }
    if (is_given(def->tcp)) {
        return "tcp";
    }
    if (is_alias(def)) {
        return "alias";
    }
    return is_given(def->docker_container_id) ? "docker" : "script";
}

bool define_check_is_empty(const struct define_check_body *body)
{
    const Mr__CheckDefinition *def = &body->def;

    return !is_probe(def) && !is_alias(def) && def->ttl_ns == 0 &&
           def->interval_ns == 0 && def->timeout_ns == 0 &&
           def->deregister_after_ns == 0 && !is_given(body->check.check_id) &&
           !is_given(body->check.name) && !is_given(body->check.status) &&
           !is_given(body->check.notes);
}

enum mr_err define_check_validate(struct decode *d,
                                  struct define_check_body *body)
{
    struct mr_detail why;

    body->check.definition = &body->def;
    return mr_check_validate(&body->check, &why) == MR_OK
               ? MR_OK
               : decode_fail(d, "Invalid check: %s", why.text);
}

const char *define_refusal(Mr__Check *const *checks, size_t n_checks,
                           bool enable_scripts)
{
    const char *refusal = NULL;

    for (size_t i = 0; i < n_checks && refusal == NULL; i++) {
        refusal = mr_check_refusal(checks[i], enable_scripts, false);
    }
    return refusal;
}

/* What the catalog holds for a validated check. */
void define_check_finish(struct define_check_body *body)
{
    body->check.type = (char *)type_of(&body->def);
    body->check.origin = MR__ORIGIN__AGENT;
    if (!is_given(body->check.status)) {
        body->check.status = (char *)"critical";
    }
}

/* What becomes of a decoded body. */
static enum mr_err finish_check(struct decode *d, struct define_check_body *b,
                                Mr__Check *out_check)
{
    enum mr_err err;

    if (!is_given(b->check.name)) {
        return decode_fail(d, "Missing check name");
    }
    if (is_given(b->check.status) && !define_status_valid(b->check.status)) {
        return decode_fail(d, "Bad check status");
    }
    err = define_check_validate(d, b);
    if (err != MR_OK) {
        return err;
    }
    if (!is_given(b->check.check_id)) {
        b->check.check_id = b->check.name;
    }
    define_check_finish(b);
    *out_check = b->check;
    return MR_OK;
}

/* The struct of a body, in the arena. */
static struct define_check_body *new_body(struct decode *d)
{
    struct define_check_body *b = decode_alloc(d, sizeof *b);

    if (b != NULL) {
        init_check_body(b);
    }
    return b;
}

enum mr_err define_check(struct decode *d, struct mr_slice body,
                         Mr__Check *out_check)
{
    struct define_check_body *b = new_body(d);
    enum mr_err err =
        b == NULL ? MR_E_NOMEM : decode_body(d, body, &check_table, b);

    if (err != MR_OK) {
        return err == MR_E_INVALID ? define_decode_failed(d) : err;
    }
    return finish_check(d, b, out_check);
}

enum mr_err define_file_check(struct decode *d, struct mr_slice body,
                              Mr__Check *out_check)
{
    struct define_check_body *b = new_body(d);
    enum mr_err err = b == NULL
                          ? MR_E_NOMEM
                          : decode_body(d, body, &define_file_check_table, b);

    return err != MR_OK ? err : finish_check(d, b, out_check);
}

/* The longest start of @text that is at most @max bytes and whole characters. */
static int cut_len(const char *text, size_t max)
{
    size_t len = max;

    while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80) {
        len--;
    }
    return (int)len;
}

const char *define_output(struct decode *d, const char *output)
{
    size_t len = strlen(output);

    if (len <= OUTPUT_MAX) {
        return output;
    }
    return decode_printf(d, "%.*s ... (captured %d of %zu bytes)",
                         cut_len(output, OUTPUT_MAX), output, OUTPUT_MAX, len);
}

enum mr_err define_update(struct decode *d, struct mr_slice body,
                          Mr__CheckUpdate *out_update)
{
    Mr__CheckUpdate update = MR__CHECK_UPDATE__INIT;
    enum mr_err err = decode_body(d, body, &update_table, &update);

    if (err != MR_OK) {
        return err == MR_E_INVALID ? define_decode_failed(d) : err;
    }
    if (!define_status_valid(update.status)) {
        return decode_fail(d, "Invalid check status: '%.256s'", update.status);
    }
    update.output = (char *)define_output(d, update.output);
    if (update.output == NULL) {
        return MR_E_NOMEM;
    }
    *out_update = update;
    return MR_OK;
}
