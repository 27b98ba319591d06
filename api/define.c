/* SPDX-License-Identifier: Apache-2.0 */
/* Services given to an agent. */
#include <string.h>

#include "api/body_tables.h"
#include "api/define_check.h"
#include "base/mem.h"
#include "base/text.h"

#define META_PAIRS_MAX 64
#define META_KEY_MAX 128
#define META_VALUE_MAX 512
#define META_RESERVED "consul-"
#define WEIGHT_MAX 65535

/* ------------------------------------------------------------- bodies */

struct service_body {
    Mr__Service service;
    struct body_weights *weights; /* NULL: not given. */
    struct define_check_body *check;
    struct define_check_body **checks;
    size_t n_checks;
};

#define SERVICE(kind, name, member)                                            \
    DECODE_FIELD(struct service_body, kind, name, service.member)
#define SERVICE_MANY(kind, name, member, table)                                \
    DECODE_MANY_IN(struct service_body, kind, name, service, member, table)

/* The members of a service, whose checks are of @check_table. */
#define SERVICE_MEMBERS(check_table)                                           \
    SERVICE(DECODE_TEXT, "ID", id), SERVICE(DECODE_TEXT, "Name", name),        \
        SERVICE_MANY(DECODE_TEXTS, "Tags", tags, NULL),                        \
        SERVICE(DECODE_TEXT, "Address", address),                              \
        SERVICE(DECODE_INT, "Port", port),                                     \
        SERVICE_MANY(DECODE_MAP, "Meta", meta, &body_pairs),                   \
        {"Check", DECODE_OBJECT, offsetof(struct service_body, check), 0,      \
         check_table},                                                         \
        DECODE_MANY(struct service_body, DECODE_OBJECTS, "Checks", checks,     \
                    check_table),                                              \
        {"Weights", DECODE_OBJECT, offsetof(struct service_body, weights), 0,  \
         &body_weights},                                                       \
        SERVICE(DECODE_BOOL, "EnableTagOverride", enable_tag_override),        \
        SERVICE(DECODE_BOOL, "enable_tag_override", enable_tag_override),      \
        SERVICE_MANY(DECODE_MAP, "TaggedAddresses", tagged_addresses,          \
                     &body_addresses),                                         \
        SERVICE_MANY(DECODE_MAP, "tagged_addresses", tagged_addresses,         \
                     &body_addresses),                                         \
        SERVICE(DECODE_TEXT, "Kind", kind), DECODE_SKIP("Token"),              \
        {"Proxy", DECODE_EMPTY, 0, 0, NULL},                                   \
    {                                                                          \
        "Connect", DECODE_EMPTY, 0, 0, NULL                                    \
    }

static const struct decode_field service_fields[] = {
    SERVICE_MEMBERS(&define_service_check),
};
static const struct decode_table service_table = {
    .go_name = "",
    .fields = service_fields,
    .n_fields = MR_ARRAY_LEN(service_fields),
    .size = sizeof(struct service_body),
};

static const struct decode_field file_fields[] = {
    SERVICE_MEMBERS(&define_file_check_table),
};
const struct decode_table define_file_service_table = {
    .go_name = "",
    .fields = file_fields,
    .n_fields = MR_ARRAY_LEN(file_fields),
    .size = sizeof(struct service_body),
};

static bool is_given(const char *text)
{
    return text[0] != '\0';
}

/* ------------------------------------------------------------- validation */

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
    struct define_check_body **all;
    enum mr_err err = MR_OK;

    if (b->check != NULL && !define_check_is_empty(b->check)) {
        all = decode_alloc(d, (b->n_checks + 1) *
                                  sizeof(struct define_check_body *));
        if (all == NULL) {
            return MR_E_NOMEM;
        }
        if (b->n_checks > 0) {
            memcpy(all, b->checks,
                   b->n_checks * sizeof(struct define_check_body *));
        }
        all[b->n_checks++] = b->check;
        b->checks = all;
    }
    for (size_t i = b->n_checks; i > 0 && err == MR_OK; i--) {
        err = define_check_validate(d, b->checks[i - 1]);
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
    return d->is_out_of_memory ? MR_E_NOMEM : MR_OK;
}

static enum mr_err finish_checks(struct decode *d, struct service_body *b,
                                 struct define_service *out)
{
    out->checks = decode_alloc(d, b->n_checks * sizeof(Mr__Check *));
    out->n_checks = b->n_checks;
    if (out->checks == NULL) {
        return MR_E_NOMEM;
    }
    for (size_t i = 0; i < b->n_checks; i++) {
        Mr__Check *check = &b->checks[i]->check;
        enum mr_err err = name_check(d, b, check, i + 1);

        if (err != MR_OK) {
            return err;
        }
        define_check_finish(b->checks[i]);
        out->checks[i] = check;
    }
    return MR_OK;
}

/* What becomes of a decoded body. */
static enum mr_err finish_service(struct decode *d, struct service_body *b,
                                  struct define_service *out)
{
    struct define_service result;
    enum mr_err err = validate_service(d, b);

    if (err != MR_OK) {
        return err;
    }
    if (!is_given(b->service.id)) {
        b->service.id = b->service.name;
    }
    b->service.origin = MR__ORIGIN__AGENT;
    err = add_addresses(d, &b->service);
    if (err == MR_OK) {
        err = finish_checks(d, b, &result);
    }
    if (err != MR_OK) {
        return err;
    }
    result.service = b->service;
    *out = result;
    return MR_OK;
}

enum mr_err define_service(struct decode *d, struct mr_slice body,
                           struct define_service *out)
{
    struct service_body b = {.service = MR__SERVICE__INIT};
    enum mr_err err = decode_body(d, body, &service_table, &b);

    if (err != MR_OK) {
        return err == MR_E_INVALID ? define_decode_failed(d) : err;
    }
    return finish_service(d, &b, out);
}

enum mr_err define_file_service(struct decode *d, struct mr_slice body,
                                struct define_service *out)
{
    struct service_body b = {.service = MR__SERVICE__INIT};
    enum mr_err err = decode_body(d, body, &define_file_service_table, &b);

    return err != MR_OK ? err : finish_service(d, &b, out);
}
