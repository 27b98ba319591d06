/* SPDX-License-Identifier: Apache-2.0 */
/* Definitions given to an agent. */
#include "api/define.h"

#include <stdio.h>
#include <string.h>

#include "api/body_tables.h"
#include "base/mem.h"
#include "base/text.h"

#define OUTPUT_MAX 4096
#define META_PAIRS_MAX 64
#define META_KEY_MAX 128
#define META_VALUE_MAX 512
#define META_RESERVED "consul-"
#define WEIGHT_MAX 65535

const char define_no_scripts[] =
    "Scripts are disabled on this agent from remote calls; to enable, "
    "configure 'enable_script_checks' to true";

/* ------------------------------------------------------------- bodies */

struct check_body {
    Mr__Check check;
    Mr__CheckDefinition def;
};

struct service_body {
    Mr__Service service;
    struct body_weights *weights; /* NULL: not given. */
    struct check_body *check;
    struct check_body **checks;
    size_t n_checks;
};

static void init_check_body(void *object)
{
    struct check_body *body = object;

    mr__check__init(&body->check);
    mr__check_definition__init(&body->def);
}

#define CHECK(kind, name, member)                                              \
    {                                                                          \
        name, kind, offsetof(struct check_body, check.member), 0, NULL         \
    }
#define DEF(kind, name, member)                                                \
    {                                                                          \
        name, kind, offsetof(struct check_body, def.member), 0, NULL           \
    }
#define DEF_MANY(kind, name, member, table)                                    \
    {                                                                          \
        name, kind, offsetof(struct check_body, def.member),                   \
            offsetof(struct check_body, def.n_##member), table                 \
    }
#define IGNORED(name)                                                          \
    {                                                                          \
        name, DECODE_IGNORED, 0, 0, NULL                                       \
    }

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
    IGNORED("ServiceID"),
    IGNORED("service_id"),
    IGNORED("ProxyHTTP"),
    IGNORED("ProxyGRPC"),
};
static const struct decode_table service_check_table = {
    .go_name = "",
    .fields = service_check_fields,
    .n_fields = MR_ARRAY_LEN(service_check_fields),
    .size = sizeof(struct check_body),
    .init = init_check_body,
};

static const struct decode_field check_fields[] = {
    CHECK_MEMBERS,
    CHECK(DECODE_TEXT, "ID", check_id),
    CHECK(DECODE_TEXT, "ServiceID", service_id),
    CHECK(DECODE_TEXT, "service_id", service_id),
    IGNORED("Token"),
};
static const struct decode_table check_table = {
    .go_name = "",
    .fields = check_fields,
    .n_fields = MR_ARRAY_LEN(check_fields),
    .size = sizeof(struct check_body),
    .init = init_check_body,
};

#define SERVICE(kind, name, member)                                            \
    {                                                                          \
        name, kind, offsetof(struct service_body, service.member), 0, NULL     \
    }
#define SERVICE_MANY(kind, name, member, table)                                \
    {                                                                          \
        name, kind, offsetof(struct service_body, service.member),             \
            offsetof(struct service_body, service.n_##member), table           \
    }

static const struct decode_field service_fields[] = {
    SERVICE(DECODE_TEXT, "ID", id),
    SERVICE(DECODE_TEXT, "Name", name),
    SERVICE_MANY(DECODE_TEXTS, "Tags", tags, NULL),
    SERVICE(DECODE_TEXT, "Address", address),
    SERVICE(DECODE_INT, "Port", port),
    SERVICE_MANY(DECODE_MAP, "Meta", meta, &body_pairs),
    {"Check", DECODE_OBJECT, offsetof(struct service_body, check), 0,
     &service_check_table},
    DECODE_MANY(struct service_body, DECODE_OBJECTS, "Checks", checks,
                &service_check_table),
    {"Weights", DECODE_OBJECT, offsetof(struct service_body, weights), 0,
     &body_weights},
    SERVICE(DECODE_BOOL, "EnableTagOverride", enable_tag_override),
    SERVICE(DECODE_BOOL, "enable_tag_override", enable_tag_override),
    SERVICE_MANY(DECODE_MAP, "TaggedAddresses", tagged_addresses,
                 &body_addresses),
    SERVICE_MANY(DECODE_MAP, "tagged_addresses", tagged_addresses,
                 &body_addresses),
    SERVICE(DECODE_TEXT, "Kind", kind),
    IGNORED("Token"),
    {"Proxy", DECODE_EMPTY, 0, 0, NULL},
    {"Connect", DECODE_EMPTY, 0, 0, NULL},
};
static const struct decode_table service_table = {
    .go_name = "",
    .fields = service_fields,
    .n_fields = MR_ARRAY_LEN(service_fields),
    .size = sizeof(struct service_body),
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

/* NULL when the parts of @def go together, else what Consul says. */
static const char *check_problem(const Mr__CheckDefinition *def)
{
    if (def->interval_ns > 0 && def->ttl_ns > 0) {
        return "Interval and TTL cannot both be specified";
    }
    if (is_probe(def) && def->interval_ns <= 0) {
        return "Interval must be > 0 for Script, HTTP, or TCP checks";
    }
    if (is_alias(def) && def->interval_ns != 0) {
        return "Interval must be not be set for Alias checks";
    }
    if (is_alias(def) && def->ttl_ns != 0) {
        return "TTL must be not be set for Alias checks";
    }
    if (!is_probe(def) && !is_alias(def) && def->ttl_ns <= 0) {
        return "TTL must be > 0 for TTL checks";
    }
    if (def->output_max_size < 0) {
        return "MaxOutputMaxSize must be positive";
    }
    return NULL;
}

/* Whether a service's "Check" says nothing: {} or a zero TTL. */
static bool is_empty(const struct check_body *body)
{
    const Mr__CheckDefinition *def = &body->def;

    return !is_probe(def) && !is_alias(def) && def->ttl_ns == 0 &&
           def->interval_ns == 0 && def->timeout_ns == 0 &&
           def->deregister_after_ns == 0 && !is_given(body->check.check_id) &&
           !is_given(body->check.name) && !is_given(body->check.status) &&
           !is_given(body->check.notes);
}

static enum mr_err validate_check(struct decode *d,
                                  const struct check_body *body)
{
    const char *problem = check_problem(&body->def);

    return problem == NULL ? MR_OK
                           : decode_fail(d, "Invalid check: %s", problem);
}

/* What the catalog holds for a validated check. */
static void finish_check(struct check_body *body)
{
    body->check.definition = &body->def;
    body->check.type = (char *)type_of(&body->def);
    body->check.origin = MR__ORIGIN__AGENT;
    if (!is_given(body->check.status)) {
        body->check.status = (char *)"critical";
    }
}

static enum mr_err check_name_size(struct decode *d, const char *what,
                                   const char *name)
{
    return strlen(name) <= DEFINE_NAME_MAX
               ? MR_OK
               : decode_fail(d, "Invalid %s: longer than %d bytes", what,
                             DEFINE_NAME_MAX);
}

enum mr_err define_check(struct decode *d, struct mr_slice body,
                         Mr__Check *out_check, bool *out_is_script)
{
    struct check_body *b = decode_alloc(d, sizeof *b);
    enum mr_err err;

    if (b == NULL) {
        return MR_E_NOMEM;
    }
    init_check_body(b);
    err = decode_body(d, body, &check_table, b);
    if (err != MR_OK) {
        return err == MR_E_INVALID ? define_decode_failed(d) : err;
    }
    if (!is_given(b->check.name)) {
        return decode_fail(d, "Missing check name");
    }
    if (is_given(b->check.status) && !define_status_valid(b->check.status)) {
        return decode_fail(d, "Bad check status");
    }
    err = validate_check(d, b);
    if (err != MR_OK) {
        return err;
    }
    if (!is_given(b->check.check_id)) {
        b->check.check_id = b->check.name;
    }
    err = check_name_size(d, "check ID", b->check.check_id);
    if (err != MR_OK) {
        return err;
    }
    finish_check(b);
    *out_is_script = b->def.n_args > 0;
    *out_check = b->check;
    return MR_OK;
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

/* ------------------------------------------------------------- services */

static enum mr_err apply_weights(struct decode *d, struct service_body *b)
{
    const struct body_weights *w = b->weights;

    b->service.weight_passing = 1;
    b->service.weight_warning = 1;
    if (w == NULL) {
        return MR_OK;
    }
    if (w->passing < 1) {
        return decode_fail(d,
                           "Invalid Weights: Passing must be greater than 0");
    }
    if (w->warning < 0) {
        return decode_fail(
            d, "Invalid Weights: Warning must be greater or equal than 0");
    }
    if (w->passing > WEIGHT_MAX || w->warning > WEIGHT_MAX) {
        return decode_fail(
            d, "Invalid Weights: DNS Weight must be between 0 and 65535");
    }
    b->service.weight_passing = w->passing;
    b->service.weight_warning = w->warning;
    return MR_OK;
}

/* NULL when the pair may be metadata, else what Consul says. */
static const char *pair_problem(const Mr__Pair *pair)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

    if (!is_given(pair->key)) {
        return "Key cannot be blank";
    }
    if (pair->key[strspn(pair->key, allowed)] != '\0') {
        return "Key contains invalid characters";
    }
    if (strlen(pair->key) > META_KEY_MAX) {
        return "Key is too long (limit: 128 characters)";
    }
    if (strncmp(pair->key, META_RESERVED, sizeof META_RESERVED - 1) == 0) {
        return "Key prefix 'consul-' is reserved for internal use";
    }
    if (strlen(pair->value) > META_VALUE_MAX) {
        return "Value is too long (limit: 512 characters)";
    }
    return NULL;
}

static enum mr_err validate_meta(struct decode *d, const Mr__Service *service)
{
    if (service->n_meta > META_PAIRS_MAX) {
        return decode_fail(d, "Invalid Service Meta: Node metadata cannot "
                              "contain more than 64 key/value pairs");
    }
    for (size_t i = 0; i < service->n_meta; i++) {
        const Mr__Pair *pair = service->meta[i];
        const char *problem = pair_problem(pair);

        if (problem != NULL) {
            return decode_fail(d,
                               "Invalid Service Meta: Couldn't load metadata "
                               "pair ('%.600s', '%.600s'): %s",
                               pair->key, pair->value, problem);
        }
    }
    return MR_OK;
}

static bool is_unspecified(const char *address)
{
    return strcmp(address, "0.0.0.0") == 0 || strcmp(address, "::") == 0 ||
           strcmp(address, "[::]") == 0;
}

/* A proxy says more than "Connect": null can, and that is not supported. */
static enum mr_err validate_kind(struct decode *d, const Mr__Service *service)
{
    if (strcmp(service->kind, "connect-proxy") != 0) {
        return MR_OK;
    }
    return decode_fail(
        d,
        "%s occurred:\n\t* Proxy.DestinationServiceName must "
        "be non-empty for Connect proxy services\n%s\n",
        service->port == 0 ? "2 errors" : "1 error",
        service->port == 0 ? "\t* Port must be set for a Connect proxy\n" : "");
}

/* The service's checks in the order that numbers them: "Checks", then "Check",
 * validated. */
static enum mr_err collect_checks(struct decode *d, struct service_body *b)
{
    struct check_body **all;
    enum mr_err err = MR_OK;

    if (b->check != NULL && !is_empty(b->check)) {
        all = decode_alloc(d, (b->n_checks + 1) * sizeof(struct check_body *));
        if (all == NULL) {
            return MR_E_NOMEM;
        }
        if (b->n_checks > 0) {
            memcpy(all, b->checks, b->n_checks * sizeof(struct check_body *));
        }
        all[b->n_checks++] = b->check;
        b->checks = all;
    }
    for (size_t i = b->n_checks; i > 0 && err == MR_OK; i--) {
        err = validate_check(d, b->checks[i - 1]);
    }
    for (size_t i = 0; i < b->n_checks && err == MR_OK; i++) {
        const char *status = b->checks[i]->check.status;

        if (is_given(status) && !define_status_valid(status)) {
            err = decode_fail(d, "Status for checks must 'passing', 'warning', "
                                 "'critical'");
        }
    }
    return err;
}

static enum mr_err validate_service(struct decode *d, struct service_body *b)
{
    enum mr_err err;

    if (!is_given(b->service.name)) {
        return decode_fail(d, "Missing service name");
    }
    if (is_unspecified(b->service.address)) {
        return decode_fail(d, "Invalid service address");
    }
    err = apply_weights(d, b);
    if (err == MR_OK) {
        err = validate_meta(d, &b->service);
    }
    if (err == MR_OK) {
        err = collect_checks(d, b);
    }
    if (err == MR_OK) {
        err = validate_kind(d, &b->service);
    }
    if (err == MR_OK) {
        err = check_name_size(d, "service name", b->service.name);
    }
    if (err == MR_OK) {
        err = check_name_size(d, "service ID", b->service.id);
    }
    return err;
}

/* Insert an address under @tag, sorted, unless there is one. The array has
 * room. */
static enum mr_err add_address(struct decode *d, Mr__Service *service,
                               const char *tag)
{
    Mr__TaggedAddress **all = service->tagged_addresses;
    size_t n = service->n_tagged_addresses;
    size_t at = 0;
    Mr__TaggedAddress *added;

    while (at < n && strcmp(all[at]->tag, tag) < 0) {
        at++;
    }
    if (at < n && strcmp(all[at]->tag, tag) == 0) {
        return MR_OK;
    }
    added = decode_alloc(d, sizeof *added);
    if (added == NULL) {
        return MR_E_NOMEM;
    }
    mr__tagged_address__init(added);
    added->tag = (char *)tag;
    added->address = service->address;
    added->port = service->port;
    memmove(&all[at + 1], &all[at], (n - at) * sizeof(Mr__TaggedAddress *));
    all[at] = added;
    service->n_tagged_addresses = n + 1;
    return MR_OK;
}

/* Agents tell under which families an IP address is reached. */
static enum mr_err add_addresses(struct decode *d, Mr__Service *service)
{
    int family = mr_ip_family(service->address);
    size_t n = service->n_tagged_addresses;
    Mr__TaggedAddress **all;
    enum mr_err err;

    if (family == 0) {
        return MR_OK;
    }
    all = decode_alloc(d, (n + 2) * sizeof(Mr__TaggedAddress *));
    if (all == NULL) {
        return MR_E_NOMEM;
    }
    if (n > 0) {
        memcpy(all, service->tagged_addresses, n * sizeof(Mr__TaggedAddress *));
    }
    service->tagged_addresses = all;
    err = add_address(d, service, family == 4 ? "lan_ipv4" : "lan_ipv6");
    return err != MR_OK
               ? err
               : add_address(d, service, family == 4 ? "wan_ipv4" : "wan_ipv6");
}

/* The ID and the name that a service's check has when it gives none. */
static enum mr_err name_check(struct decode *d, const struct service_body *b,
                              Mr__Check *check, size_t number)
{
    if (!is_given(check->check_id) && b->n_checks == 1) {
        check->check_id = decode_printf(d, "service:%s", b->service.id);
    } else if (!is_given(check->check_id)) {
        check->check_id =
            decode_printf(d, "service:%s:%zu", b->service.id, number);
    }
    if (!is_given(check->name)) {
        check->name = decode_printf(d, "Service '%s' check", b->service.name);
    }
    check->service_id = b->service.id;
    return d->is_out_of_memory
               ? MR_E_NOMEM
               : check_name_size(d, "check ID", check->check_id);
}

static enum mr_err finish_checks(struct decode *d, struct service_body *b,
                                 struct define_service *out)
{
    out->checks = decode_alloc(d, b->n_checks * sizeof(Mr__Check *));
    out->n_checks = b->n_checks;
    out->has_scripts = false;
    if (out->checks == NULL) {
        return MR_E_NOMEM;
    }
    for (size_t i = 0; i < b->n_checks; i++) {
        Mr__Check *check = &b->checks[i]->check;
        enum mr_err err = name_check(d, b, check, i + 1);

        if (err != MR_OK) {
            return err;
        }
        finish_check(b->checks[i]);
        out->checks[i] = check;
        out->has_scripts |= b->checks[i]->def.n_args > 0;
    }
    return MR_OK;
}

enum mr_err define_service(struct decode *d, struct mr_slice body,
                           struct define_service *out)
{
    struct service_body b = {.service = MR__SERVICE__INIT};
    struct define_service result;
    enum mr_err err = decode_body(d, body, &service_table, &b);

    if (err != MR_OK) {
        return err == MR_E_INVALID ? define_decode_failed(d) : err;
    }
    err = validate_service(d, &b);
    if (err != MR_OK) {
        return err;
    }
    if (!is_given(b.service.id)) {
        b.service.id = b.service.name;
    }
    b.service.origin = MR__ORIGIN__AGENT;
    err = add_addresses(d, &b.service);
    if (err == MR_OK) {
        err = finish_checks(d, &b, &result);
    }
    if (err != MR_OK) {
        return err;
    }
    result.service = b.service;
    *out = result;
    return MR_OK;
}
