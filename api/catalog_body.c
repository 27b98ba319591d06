/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of the catalog's writes. */
#include "api/catalog_body.h"

#include <string.h>

#include "api/body_tables.h"
#include "api/define.h"
#include "base/mem.h"
#include "base/text.h"

struct service_body {
    Mr__Service service;
    struct body_weights *weights;
};

struct check_body {
    Mr__Check check;
    Mr__CheckDefinition *def;
};

struct register_body {
    Mr__Node node;
    int skip_node_update;
    struct service_body *service;
    struct check_body *check;
    struct check_body **checks;
    size_t n_checks;
};

struct deregister_body {
    Mr__Deregister command;
    const char *datacenter;
};

static void init_service(void *object)
{
    mr__service__init(&((struct service_body *)object)->service);
}

static void init_check(void *object)
{
    mr__check__init(&((struct check_body *)object)->check);
}

static void init_definition(void *object)
{
    mr__check_definition__init(object);
}

#define SERVICE(kind, name, member)                                            \
    DECODE_FIELD(struct service_body, kind, name, service.member)
#define SERVICE_MANY(kind, name, member, table)                                \
    DECODE_MANY_IN(struct service_body, kind, name, service, member, table)

static const struct decode_field service_fields[] = {
    SERVICE(DECODE_TEXT, "ID", id),
    SERVICE(DECODE_TEXT, "Service", name),
    SERVICE_MANY(DECODE_TEXTS, "Tags", tags, NULL),
    SERVICE(DECODE_TEXT, "Address", address),
    SERVICE(DECODE_INT, "Port", port),
    SERVICE_MANY(DECODE_MAP, "Meta", meta, &body_pairs),
    SERVICE_MANY(DECODE_MAP, "TaggedAddresses", tagged_addresses,
                 &body_addresses),
    {"Weights", DECODE_OBJECT, offsetof(struct service_body, weights), 0,
     &body_weights},
    SERVICE(DECODE_BOOL, "EnableTagOverride", enable_tag_override),
    SERVICE(DECODE_TEXT, "Kind", kind),
    /* What answers say of a service is accepted when it comes back. */
    DECODE_SKIP("Proxy"),
    DECODE_SKIP("Connect"),
    DECODE_SKIP("CreateIndex"),
    DECODE_SKIP("ModifyIndex"),
};
static const struct decode_table service_table = {
    .go_name = "RegisterRequest",
    .fields = service_fields,
    .n_fields = MR_ARRAY_LEN(service_fields),
    .size = sizeof(struct service_body),
    .init = init_service,
};

#define DEF(kind, name, member)                                                \
    DECODE_FIELD(Mr__CheckDefinition, kind, name, member)

static const struct decode_field definition_fields[] = {
    DEF(DECODE_TEXT, "HTTP", http),
    DEF(DECODE_BOOL, "TLSSkipVerify", tls_skip_verify),
    DECODE_MANY(Mr__CheckDefinition, DECODE_MAP, "Header", header,
                &body_headers),
    DEF(DECODE_TEXT, "Method", method),
    DEF(DECODE_TEXT, "Body", body),
    DEF(DECODE_TEXT, "TCP", tcp),
    DEF(DECODE_DURATION, "Interval", interval_ns),
    DEF(DECODE_DURATION, "Timeout", timeout_ns),
    DEF(DECODE_DURATION, "DeregisterCriticalServiceAfter", deregister_after_ns),
};
static const struct decode_table definition_table = {
    .go_name = "RegisterRequest",
    .fields = definition_fields,
    .n_fields = MR_ARRAY_LEN(definition_fields),
    .size = sizeof(Mr__CheckDefinition),
    .init = init_definition,
};

#define CHECK(kind, name, member)                                              \
    DECODE_FIELD(struct check_body, kind, name, check.member)

static const struct decode_field check_fields[] = {
    CHECK(DECODE_TEXT, "Node", node),
    CHECK(DECODE_TEXT, "CheckID", check_id),
    CHECK(DECODE_TEXT, "Name", name),
    CHECK(DECODE_TEXT, "Status", status),
    CHECK(DECODE_TEXT, "Notes", notes),
    CHECK(DECODE_TEXT, "Output", output),
    CHECK(DECODE_TEXT, "ServiceID", service_id),
    CHECK(DECODE_TEXT, "Type", type),
    {"Definition", DECODE_OBJECT, offsetof(struct check_body, def), 0,
     &definition_table},
    /* The catalog knows these better. */
    DECODE_SKIP("ServiceName"),
    DECODE_SKIP("ServiceTags"),
    DECODE_SKIP("CreateIndex"),
    DECODE_SKIP("ModifyIndex"),
};
static const struct decode_table check_table = {
    .go_name = "RegisterRequest",
    .fields = check_fields,
    .n_fields = MR_ARRAY_LEN(check_fields),
    .size = sizeof(struct check_body),
    .init = init_check,
};

#define NODE(kind, name, member)                                               \
    DECODE_FIELD(struct register_body, kind, name, node.member)
#define NODE_PAIRS(name, member)                                               \
    DECODE_MANY_IN(struct register_body, DECODE_MAP, name, node, member,       \
                   &body_pairs)

static const struct decode_field register_fields[] = {
    NODE(DECODE_TEXT, "Datacenter", datacenter),
    NODE(DECODE_TEXT, "ID", id),
    NODE(DECODE_TEXT, "Node", name),
    NODE(DECODE_TEXT, "Address", address),
    NODE_PAIRS("TaggedAddresses", tagged_addresses),
    NODE_PAIRS("NodeMeta", meta),
    {"Service", DECODE_OBJECT, offsetof(struct register_body, service), 0,
     &service_table},
    {"Check", DECODE_OBJECT, offsetof(struct register_body, check), 0,
     &check_table},
    DECODE_MANY(struct register_body, DECODE_OBJECTS, "Checks", checks,
                &check_table),
    DECODE_FIELD(struct register_body, DECODE_BOOL, "SkipNodeUpdate",
                 skip_node_update),
    DECODE_SKIP("Token"),
    DECODE_SKIP("CreateIndex"),
    DECODE_SKIP("ModifyIndex"),
};
static const struct decode_table register_table = {
    .go_name = "RegisterRequest",
    .fields = register_fields,
    .n_fields = MR_ARRAY_LEN(register_fields),
    .size = sizeof(struct register_body),
};

static const struct decode_field deregister_fields[] = {
    DECODE_FIELD(struct deregister_body, DECODE_TEXT, "Node", command.node),
    DECODE_FIELD(struct deregister_body, DECODE_TEXT, "ServiceID",
                 command.service_id),
    DECODE_FIELD(struct deregister_body, DECODE_TEXT, "CheckID",
                 command.check_id),
    DECODE_FIELD(struct deregister_body, DECODE_TEXT, "Datacenter", datacenter),
    DECODE_SKIP("Address"),
    DECODE_SKIP("Token"),
};
static const struct decode_table deregister_table = {
    .go_name = "DeregisterRequest",
    .fields = deregister_fields,
    .n_fields = MR_ARRAY_LEN(deregister_fields),
    .size = sizeof(struct deregister_body),
};

/* ------------------------------------------------------------- register */

static bool is_given(const char *text)
{
    return text[0] != '\0';
}

static enum mr_err validate_node(struct decode *d,
                                 const struct register_body *b,
                                 const char *datacenter)
{
    const Mr__Node *node = &b->node;

    if (is_given(node->datacenter) && strcmp(node->datacenter, datacenter)) {
        return decode_fail(d, "No path to datacenter");
    }
    if (!is_given(node->name)) {
        return decode_fail(d, "Must provide node");
    }
    if (!is_given(node->address) && !b->skip_node_update) {
        return decode_fail(d,
                           "Must provide address if SkipNodeUpdate is not set");
    }
    if (is_given(node->id) && !mr_uuid_valid(node->id)) {
        return decode_fail(d, "Bad node ID: uuid string is wrong length");
    }
    return MR_OK;
}

/* Check the service and fill in what it leaves out. */
static enum mr_err finish_service(struct decode *d, struct service_body *b)
{
    Mr__Service *service = &b->service;

    if (is_given(service->id) && !is_given(service->name)) {
        return decode_fail(d, "Must provide service name with ID");
    }
    if (!is_given(service->name)) {
        return decode_fail(d, "failed inserting service: failed inserting "
                              "service: object missing primary index");
    }
    if (!is_given(service->id)) {
        service->id = service->name;
    }
    service->weight_passing = 1;
    service->weight_warning = 1;
    if (b->weights != NULL &&
        (b->weights->passing != 0 || b->weights->warning != 0)) {
        service->weight_passing = b->weights->passing;
        service->weight_warning = b->weights->warning;
    }
    service->origin = MR__ORIGIN__CATALOG;
    return MR_OK;
}

static enum mr_err finish_check(struct decode *d, struct check_body *b,
                                const char *node)
{
    Mr__Check *check = &b->check;

    if (is_given(check->node) && strcmp(check->node, node) != 0) {
        return decode_fail(d,
                           "check node \"%.256s\" does not match node "
                           "\"%.256s\"",
                           check->node, node);
    }
    if (!is_given(check->check_id)) {
        check->check_id = check->name;
    }
    if (!is_given(check->check_id)) {
        return decode_fail(d,
                           "failed inserting check: failed inserting check: "
                           "object missing primary index on node \"%.256s\"",
                           node);
    }
    if (!is_given(check->status)) {
        check->status = (char *)"critical";
    }
    check->definition = b->def;
    if (!is_given(check->type) && b->def != NULL) {
        check->type = (char *)(is_given(b->def->http)  ? "http"
                               : is_given(b->def->tcp) ? "tcp"
                                                       : "");
    }
    check->origin = MR__ORIGIN__CATALOG;
    return MR_OK;
}

/* The one check and the list as one list. */
static enum mr_err finish_checks(struct decode *d, struct register_body *b,
                                 Mr__Register *out)
{
    size_t n = b->n_checks + (b->check != NULL);
    Mr__Check **checks = decode_alloc(d, n * sizeof *checks);

    if (checks == NULL) {
        return MR_E_NOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        struct check_body *one = i < b->n_checks ? b->checks[i] : b->check;
        enum mr_err err = finish_check(d, one, b->node.name);

        if (err != MR_OK) {
            return err;
        }
        checks[i] = &one->check;
    }
    out->checks = checks;
    out->n_checks = n;
    return MR_OK;
}

/* The node row, kept in the arena because the command points at it. */
static Mr__Node *finish_node(struct decode *d, const struct register_body *b,
                             const char *datacenter)
{
    Mr__Node *node = decode_alloc(d, sizeof *node);

    if (node != NULL) {
        *node = b->node;
        node->datacenter = (char *)datacenter;
        node->has_tagged_addresses = node->tagged_addresses != NULL;
        node->has_meta = node->meta != NULL;
    }
    return node;
}

/* What a body that decoded becomes. */
static enum mr_err build_register(struct decode *d, struct register_body *b,
                                  const char *datacenter, Mr__Register *out)
{
    Mr__Register command = MR__REGISTER__INIT;
    enum mr_err err = validate_node(d, b, datacenter);

    if (err != MR_OK) {
        return err;
    }
    command.node = finish_node(d, b, datacenter);
    command.services = decode_alloc(d, sizeof *command.services);
    command.skip_node_update = b->skip_node_update;
    if (command.node == NULL || command.services == NULL) {
        return MR_E_NOMEM;
    }
    if (b->service != NULL) {
        err = finish_service(d, b->service);
        command.services[0] = &b->service->service;
        command.n_services = 1;
    }
    if (err == MR_OK) {
        err = finish_checks(d, b, &command);
    }
    if (err == MR_OK) {
        *out = command;
    }
    return err;
}

enum mr_err catalog_register(struct decode *d, struct mr_slice body,
                             const char *datacenter, Mr__Register *out,
                             unsigned *out_status)
{
    struct register_body b = {.node = MR__NODE__INIT};
    enum mr_err err = decode_body(d, body, &register_table, &b);

    *out_status = 400;
    if (err != MR_OK) {
        return err == MR_E_INVALID ? define_decode_failed(d) : err;
    }
    *out_status = 500;
    return build_register(d, &b, datacenter, out);
}

enum mr_err catalog_deregister(struct decode *d, struct mr_slice body,
                               const char *datacenter, Mr__Deregister *out,
                               unsigned *out_status)
{
    struct deregister_body b = {MR__DEREGISTER__INIT, ""};
    enum mr_err err = decode_body(d, body, &deregister_table, &b);

    *out_status = 400;
    if (err != MR_OK) {
        return err == MR_E_INVALID ? define_decode_failed(d) : err;
    }
    *out_status = 500;
    if (b.datacenter[0] != '\0' && strcmp(b.datacenter, datacenter) != 0) {
        return decode_fail(d, "No path to datacenter");
    }
    if (!is_given(b.command.node)) {
        return decode_fail(d, "Must provide node");
    }
    *out = b.command;
    return MR_OK;
}
