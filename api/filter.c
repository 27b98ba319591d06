/* SPDX-License-Identifier: Apache-2.0 */
/* Binding a filter to the fields of a shape, and evaluating it. */
#include "api/filter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/filter_ast.h"
#include "api/http.h"
#include "api/pattern.h"
#include "base/mem.h"

struct filter {
    struct filter_tree tree;
};

/* ------------------------------------------------------------- fields */

enum field_type {
    FIELD_TEXT,
    FIELD_INT,
    FIELD_BOOL,
    FIELD_TEXTS,
    FIELD_PAIRS,
    FIELD_ADDRESSES,
    FIELD_CHECKS
};

enum field_part { PART_NODE, PART_SERVICE, PART_CHECK };

struct filter_field {
    const char *name; /* May have dots: "Weights.Passing". */
    enum field_type type;
    enum field_part part;
    size_t offset;
    size_t n_offset;
};

#define ONE(name, type, part, message, member)                                 \
    {                                                                          \
        name, type, part, offsetof(message, member), 0                         \
    }
#define MANY(name, type, part, message, member)                                \
    {                                                                          \
        name, type, part, offsetof(message, member),                           \
            offsetof(message, n_##member)                                      \
    }
#define NODE(name, type, member) ONE(name, type, PART_NODE, Mr__Node, member)
#define NODES(name, type, member) MANY(name, type, PART_NODE, Mr__Node, member)
#define SERVICE(name, type, member)                                            \
    ONE(name, type, PART_SERVICE, Mr__Service, member)
#define SERVICES(name, type, member)                                           \
    MANY(name, type, PART_SERVICE, Mr__Service, member)
#define CHECK(name, type, member) ONE(name, type, PART_CHECK, Mr__Check, member)
#define CHECKS(name, type, member)                                             \
    MANY(name, type, PART_CHECK, Mr__Check, member)

static const struct filter_field node_fields[] = {
    NODE("ID", FIELD_TEXT, id),
    NODE("Node", FIELD_TEXT, name),
    NODE("Address", FIELD_TEXT, address),
    NODE("Datacenter", FIELD_TEXT, datacenter),
    NODES("TaggedAddresses", FIELD_PAIRS, tagged_addresses),
    NODES("Meta", FIELD_PAIRS, meta),
};

static const struct filter_field service_fields[] = {
    SERVICE("ID", FIELD_TEXT, id),
    SERVICE("Service", FIELD_TEXT, name),
    SERVICES("Tags", FIELD_TEXTS, tags),
    SERVICES("Meta", FIELD_PAIRS, meta),
    SERVICE("Port", FIELD_INT, port),
    SERVICE("Address", FIELD_TEXT, address),
    SERVICES("TaggedAddresses", FIELD_ADDRESSES, tagged_addresses),
    SERVICE("Weights.Passing", FIELD_INT, weight_passing),
    SERVICE("Weights.Warning", FIELD_INT, weight_warning),
    SERVICE("EnableTagOverride", FIELD_BOOL, enable_tag_override),
    SERVICE("Kind", FIELD_TEXT, kind),
};

static const struct filter_field check_fields[] = {
    CHECK("Node", FIELD_TEXT, node),
    CHECK("CheckID", FIELD_TEXT, check_id),
    CHECK("Name", FIELD_TEXT, name),
    CHECK("Status", FIELD_TEXT, status),
    CHECK("Notes", FIELD_TEXT, notes),
    CHECK("Output", FIELD_TEXT, output),
    CHECK("ServiceID", FIELD_TEXT, service_id),
    CHECK("ServiceName", FIELD_TEXT, service_name),
    CHECKS("ServiceTags", FIELD_TEXTS, service_tags),
    CHECK("Type", FIELD_TEXT, type),
};

static const struct filter_field flat_fields[] = {
    NODE("ID", FIELD_TEXT, id),
    NODE("Node", FIELD_TEXT, name),
    NODE("Address", FIELD_TEXT, address),
    NODE("Datacenter", FIELD_TEXT, datacenter),
    NODES("TaggedAddresses", FIELD_PAIRS, tagged_addresses),
    NODES("NodeMeta", FIELD_PAIRS, meta),
    SERVICE("ServiceKind", FIELD_TEXT, kind),
    SERVICE("ServiceID", FIELD_TEXT, id),
    SERVICE("ServiceName", FIELD_TEXT, name),
    SERVICES("ServiceTags", FIELD_TEXTS, tags),
    SERVICE("ServiceAddress", FIELD_TEXT, address),
    SERVICES("ServiceTaggedAddresses", FIELD_ADDRESSES, tagged_addresses),
    SERVICE("ServiceWeights.Passing", FIELD_INT, weight_passing),
    SERVICE("ServiceWeights.Warning", FIELD_INT, weight_warning),
    SERVICES("ServiceMeta", FIELD_PAIRS, meta),
    SERVICE("ServicePort", FIELD_INT, port),
    SERVICE("ServiceEnableTagOverride", FIELD_BOOL, enable_tag_override),
};

static const struct filter_field checks_field = {"Checks", FIELD_CHECKS,
                                                 PART_CHECK, 0, 0};

/* The fields that a shape has under a first name. */
struct scope {
    enum filter_shape shape;
    const char *first; /* NULL: at the top. */
    const struct filter_field *fields;
    size_t n_fields;
    bool any_check;
};

#define SCOPE(shape, first, fields, any)                                       \
    {                                                                          \
        shape, first, fields, MR_ARRAY_LEN(fields), any                        \
    }
static const struct scope scopes[] = {
    SCOPE(FILTER_NODE, NULL, node_fields, false),
    SCOPE(FILTER_SERVICE, NULL, service_fields, false),
    SCOPE(FILTER_CHECK, NULL, check_fields, false),
    SCOPE(FILTER_FLAT, NULL, flat_fields, false),
    SCOPE(FILTER_HEALTH, "Node", node_fields, false),
    SCOPE(FILTER_HEALTH, "Service", service_fields, false),
    SCOPE(FILTER_HEALTH, "Checks", check_fields, true),
};

/* ------------------------------------------------------------- binding */

/* How many of @parts the dotted name @name takes; 0: it is another one. */
static size_t parts_of(const char *name, const char *const *parts, size_t n)
{
    size_t used = 0;

    for (;;) {
        size_t len = strcspn(name, ".");

        if (used == n || strlen(parts[used]) != len ||
            memcmp(parts[used], name, len) != 0) {
            return 0;
        }
        used++;
        if (name[len] == '\0') {
            return used;
        }
        name += len + 1;
    }
}

/* Bind what follows the field's own name: the member of a map. */
static bool bind_rest(struct filter_node *match, const char *const *rest,
                      size_t n)
{
    enum field_type type = match->field->type;

    if (n == 0) {
        return true;
    }
    match->key = rest[0];
    if (type == FIELD_PAIRS) {
        return n == 1;
    }
    if (type != FIELD_ADDRESSES || n != 2) {
        return false;
    }
    match->wants_port = strcmp(rest[1], "Port") == 0;
    return match->wants_port || strcmp(rest[1], "Address") == 0;
}

static bool bind_in_scope(struct filter_node *match, const struct scope *scope,
                          const char *const *parts, size_t n)
{
    for (size_t i = 0; i < scope->n_fields; i++) {
        size_t used = parts_of(scope->fields[i].name, parts, n);

        if (used > 0) {
            match->field = &scope->fields[i];
            match->any_check = scope->any_check;
            return bind_rest(match, parts + used, n - used);
        }
    }
    return false;
}

static bool bind_selector(struct filter_node *match, enum filter_shape shape)
{
    const char *const *parts = match->parts;
    size_t n = match->n_parts;

    for (size_t i = 0; i < MR_ARRAY_LEN(scopes); i++) {
        const struct scope *scope = &scopes[i];

        if (scope->shape != shape) {
            continue;
        }
        if (scope->first == NULL) {
            return bind_in_scope(match, scope, parts, n);
        }
        if (strcmp(scope->first, parts[0]) == 0 && n > 1) {
            return bind_in_scope(match, scope, parts + 1, n - 1);
        }
        if (scope->any_check && strcmp(scope->first, parts[0]) == 0) {
            match->field = &checks_field;
            return true;
        }
    }
    return false;
}

/* The type of what the selector finds. */
static enum field_type bound_type(const struct filter_node *match)
{
    if (match->key == NULL) {
        return match->field->type;
    }
    return match->wants_port ? FIELD_INT : FIELD_TEXT;
}

static bool op_fits(enum field_type type, enum filter_op op)
{
    switch (type) {
    case FIELD_TEXT:
        return op != FILTER_IS_EMPTY && op != FILTER_IS_NOT_EMPTY;
    case FIELD_INT:
    case FIELD_BOOL:
        return op == FILTER_EQUAL || op == FILTER_NOT_EQUAL;
    case FIELD_TEXTS:
    case FIELD_PAIRS:
    case FIELD_ADDRESSES:
        return op == FILTER_IN || op == FILTER_NOT_IN ||
               op == FILTER_IS_EMPTY || op == FILTER_IS_NOT_EMPTY;
    case FIELD_CHECKS:
        return op == FILTER_IS_EMPTY || op == FILTER_IS_NOT_EMPTY;
    }
    return false;
}

static const char *const op_names[] = {
    [FILTER_EQUAL] = "Equal",
    [FILTER_NOT_EQUAL] = "Not Equal",
    [FILTER_IN] = "In",
    [FILTER_NOT_IN] = "Not In",
    [FILTER_MATCHES] = "Matches",
    [FILTER_NOT_MATCHES] = "Not Matches",
    [FILTER_IS_EMPTY] = "Is Empty",
    [FILTER_IS_NOT_EMPTY] = "Is Not Empty",
};

/* The selector as Consul's errors show it, names joined by dots. */
static void selector_text(const struct filter_node *match, char out[256])
{
    size_t len = 0;

    out[0] = '\0';
    for (size_t i = 0; i < match->n_parts; i++) {
        size_t part = strlen(match->parts[i]);

        if (len + part + 2 > 256) {
            return;
        }
        if (i > 0) {
            out[len++] = '.';
        }
        memcpy(out + len, match->parts[i], part + 1);
        len += part;
    }
}

static enum mr_err coerce(struct filter_node *match, enum field_type type,
                          struct mr_detail *detail)
{
    char selector[256];
    bool truth;
    char *end;

    if (type == FIELD_INT) {
        errno = 0;
        match->number = strtoll(match->value, &end, 10);
        if (end != match->value && *end == '\0' && errno == 0) {
            return MR_OK;
        }
    } else if (api_parse_bool(match->value, &truth) == MR_OK) {
        match->number = truth;
        return MR_OK;
    }
    selector_text(match, selector);
    return mr_fail(detail, MR_E_NOTFOUND,
                   "Failed to coerce value \"%.80s\" for selector \"%s\": "
                   "strconv.%s: parsing \"%.80s\": %s",
                   match->value, selector,
                   type == FIELD_INT ? "ParseInt" : "ParseBool", match->value,
                   type == FIELD_INT && errno == ERANGE ? "value out of range"
                                                        : "invalid syntax");
}

static enum mr_err bind_pattern(struct filter_node *match,
                                struct mr_detail *detail)
{
    struct mr_detail why;
    enum mr_err err = pattern_new(match->value, &match->pattern, &why);

    if (err != MR_E_INVALID) {
        return err;
    }
    return mr_fail(detail, MR_E_NOTFOUND,
                   "Failed to compile regular expression \"%.200s\": %.200s",
                   match->value, why.text);
}

static enum mr_err bind_match(struct filter_node *match,
                              enum filter_shape shape, struct mr_detail *detail)
{
    char selector[256];
    enum field_type type;

    selector_text(match, selector);
    if (!bind_selector(match, shape)) {
        return mr_fail(detail, MR_E_NOTFOUND, "Selector \"%s\" is not valid",
                       selector);
    }
    type = bound_type(match);
    if (!op_fits(type, match->op)) {
        return mr_fail(detail, MR_E_NOTFOUND,
                       "Invalid match operator \"%s\" for selector \"%s\"",
                       op_names[match->op], selector);
    }
    if (type == FIELD_INT || type == FIELD_BOOL) {
        return coerce(match, type, detail);
    }
    if (match->op == FILTER_MATCHES || match->op == FILTER_NOT_MATCHES) {
        return bind_pattern(match, detail);
    }
    return MR_OK;
}

#define PATTERNS_MAX 32 /* Of one filter: they cost memory. */

/* Bind the matches in the order of the text. */
static enum mr_err bind_tree(const struct filter_tree *tree,
                             enum filter_shape shape, struct mr_detail *detail)
{
    struct filter_node *node = tree->nodes;
    size_t n_patterns = 0;
    enum mr_err err = MR_OK;

    for (; node != NULL && err == MR_OK; node = node->next) {
        if (node->kind == FILTER_MATCH) {
            err = bind_match(node, shape, detail);
            n_patterns += node->pattern != NULL;
        }
        if (n_patterns > PATTERNS_MAX) {
            return mr_fail(detail, MR_E_NOTFOUND,
                           "more than %d regular expressions", PATTERNS_MAX);
        }
    }
    return err;
}

enum mr_err filter_compile(const char *text, enum filter_shape shape,
                           struct filter **out_filter, struct mr_detail *detail)
{
    struct filter *f;
    enum mr_err err;

    if (strlen(text) > FILTER_LENGTH_MAX) {
        return mr_fail(detail, MR_E_INVALID, "longer than %d bytes",
                       FILTER_LENGTH_MAX);
    }
    f = mr_malloc(sizeof *f);
    if (f == NULL) {
        return MR_E_NOMEM;
    }
    err = filter_parse(text, &f->tree, detail);
    if (err != MR_OK) {
        mr_free(f);
        return err;
    }
    err = bind_tree(&f->tree, shape, detail);
    if (err != MR_OK) {
        filter_free(f);
        return err;
    }
    *out_filter = f;
    return MR_OK;
}

void filter_free(struct filter *f)
{
    if (f != NULL) {
        filter_tree_deinit(&f->tree);
        mr_free(f);
    }
}

/* ------------------------------------------------------------- evaluation */

static const void *at_field(const struct filter_field *field,
                            const struct filter_entry *entry)
{
    const char *base = NULL;

    switch (field->part) {
    case PART_NODE:
        base = (const char *)entry->node;
        break;
    case PART_SERVICE:
        base = (const char *)entry->service;
        break;
    case PART_CHECK:
        base = (const char *)entry->check;
        break;
    }
    return base + field->offset;
}

static size_t count_of(const struct filter_field *field,
                       const struct filter_entry *entry)
{
    const char *at = at_field(field, entry);

    return *(const size_t *)(const void *)(at - field->offset +
                                           field->n_offset);
}

/* Whether the operator says that what it names must not be so. */
static bool is_negative(enum filter_op op)
{
    return op == FILTER_NOT_EQUAL || op == FILTER_NOT_IN ||
           op == FILTER_NOT_MATCHES || op == FILTER_IS_NOT_EMPTY;
}

static bool text_holds(const struct filter_node *match, const char *text)
{
    switch (match->op) {
    case FILTER_EQUAL:
    case FILTER_NOT_EQUAL:
        return strcmp(text, match->value) == 0;
    case FILTER_IN:
    case FILTER_NOT_IN:
        return strstr(text, match->value) != NULL;
    case FILTER_MATCHES:
    case FILTER_NOT_MATCHES:
        return pattern_match(match->pattern, text);
    case FILTER_IS_EMPTY:
    case FILTER_IS_NOT_EMPTY:
        break;
    }
    return text[0] == '\0';
}

static const char *pair_key(const void *pair)
{
    return ((const Mr__Pair *)pair)->key;
}

static const char *address_tag(const void *address)
{
    return ((const Mr__TaggedAddress *)address)->tag;
}

/* The member @key of a map, or NULL. */
static const void *find_member(const void *const *members, size_t n,
                               const char *(*key_of)(const void *member),
                               const char *key)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(key_of(members[i]), key) == 0) {
            return members[i];
        }
    }
    return NULL;
}

static bool map_holds(const struct filter_node *match,
                      const struct filter_entry *entry)
{
    const struct filter_field *field = match->field;
    const void *const *members =
        *(const void *const *const *)at_field(field, entry);
    size_t n = count_of(field, entry);
    bool is_pairs = field->type == FIELD_PAIRS;
    const void *member;

    if (match->op == FILTER_IS_EMPTY || match->op == FILTER_IS_NOT_EMPTY) {
        return n == 0;
    }
    member = find_member(members, n, is_pairs ? pair_key : address_tag,
                         match->key != NULL ? match->key : match->value);
    if (match->key == NULL || member == NULL) {
        return member != NULL; /* A missing member equals nothing. */
    }
    if (is_pairs) {
        return text_holds(match, ((const Mr__Pair *)member)->value);
    }
    if (match->wants_port) {
        return ((const Mr__TaggedAddress *)member)->port == match->number;
    }
    return text_holds(match, ((const Mr__TaggedAddress *)member)->address);
}

static bool texts_hold(const struct filter_node *match,
                       const struct filter_entry *entry)
{
    const char *const *texts =
        *(const char *const *const *)at_field(match->field, entry);
    size_t n = count_of(match->field, entry);

    if (match->op == FILTER_IS_EMPTY || match->op == FILTER_IS_NOT_EMPTY) {
        return n == 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (strcmp(texts[i], match->value) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether what the operator names holds, before negation. */
static bool holds(const struct filter_node *match,
                  const struct filter_entry *entry)
{
    const struct filter_field *field = match->field;

    switch (field->type) {
    case FIELD_TEXT:
        return text_holds(match, *(const char *const *)at_field(field, entry));
    case FIELD_INT:
        return *(const int64_t *)at_field(field, entry) == match->number;
    case FIELD_BOOL:
        return *(const protobuf_c_boolean *)at_field(field, entry) ==
               match->number;
    case FIELD_TEXTS:
        return texts_hold(match, entry);
    case FIELD_PAIRS:
    case FIELD_ADDRESSES:
        return map_holds(match, entry);
    case FIELD_CHECKS:
        return entry->n_checks == 0;
    }
    return false;
}

static bool match_holds(const struct filter_node *match,
                        const struct filter_entry *entry)
{
    bool negative = is_negative(match->op);

    if (!match->any_check) {
        return holds(match, entry) != negative;
    }
    for (size_t i = 0; i < entry->n_checks; i++) {
        struct filter_entry one = {.check = entry->checks[i]};

        if (holds(match, &one) != negative) {
            return true;
        }
    }
    return false;
}

static bool node_holds(const struct filter_node *node,
                       const struct filter_entry *entry)
{
    switch (node->kind) {
    case FILTER_AND:
        return node_holds(node->left, entry) && node_holds(node->right, entry);
    case FILTER_OR:
        return node_holds(node->left, entry) || node_holds(node->right, entry);
    case FILTER_NOT:
        return !node_holds(node->left, entry);
    case FILTER_MATCH:
        break;
    }
    return match_holds(node, entry);
}

bool filter_match(const struct filter *f, const struct filter_entry *entry)
{
    return f == NULL || node_holds(f->tree.root, entry);
}
