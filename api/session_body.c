/* SPDX-License-Identifier: Apache-2.0 */
/* What PUT /v1/session/create takes (consul-parity 9.1). */
#include "api/session_body.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/self.h"
#include "base/mem.h"
#include "base/text.h"

#define NAME_MAX_LEN 512
#define CHECKS_MAX 128
#define NS_PER_MS INT64_C(1000000)
#define LOCK_DELAY_NS (INT64_C(15) * 1000 * NS_PER_MS)

struct service_check {
    const char *id;
};

struct body {
    char *name;
    char *node;
    char *behavior;
    char *ttl;
    int64_t lock_delay_ns;
    /* NULL: not given, which is not the same as none. */
    char **checks; /* Consul's old name of node_checks. */
    size_t n_checks;
    char **node_checks;
    size_t n_node_checks;
    struct service_check **service_checks;
    size_t n_service_checks;
};

static const struct decode_field service_check_fields[] = {
    DECODE_FIELD(struct service_check, DECODE_TEXT, "ID", id),
};
static const struct decode_table service_check_table = {
    .go_name = "ServiceCheck",
    .fields = service_check_fields,
    .n_fields = MR_ARRAY_LEN(service_check_fields),
    .size = sizeof(struct service_check),
    .skips_unknown = true,
};

static const struct decode_field body_fields[] = {
    DECODE_FIELD(struct body, DECODE_TEXT, "Name", name),
    DECODE_FIELD(struct body, DECODE_TEXT, "Node", node),
    DECODE_FIELD(struct body, DECODE_TEXT, "Behavior", behavior),
    DECODE_FIELD(struct body, DECODE_TEXT, "TTL", ttl),
    DECODE_FIELD(struct body, DECODE_DELAY, "LockDelay", lock_delay_ns),
    DECODE_MANY(struct body, DECODE_CHECK_IDS, "Checks", checks, NULL),
    DECODE_MANY(struct body, DECODE_TEXTS, "NodeChecks", node_checks, NULL),
    DECODE_MANY(struct body, DECODE_OBJECTS, "ServiceChecks", service_checks,
                &service_check_table),
};
static const struct decode_table body_table = {
    .go_name = "",
    .fields = body_fields,
    .n_fields = MR_ARRAY_LEN(body_fields),
    .size = sizeof(struct body),
    .go_type = "struct { LockDelay interface {}; *structs.Alias }",
    .skips_unknown = true,
};

const char *session_id_refusal(const char *id)
{
    if (strlen(id) != MR_UUID_LEN) {
        return "failed session lookup: index error: UUID must be 36 characters";
    }
    return mr_uuid_valid(id)
               ? NULL
               : "failed session lookup: index error: Invalid UUID";
}

/* ------------------------------------------------------------- members */

static enum mr_err take_ttl(struct decode *d, const struct body *b,
                            Mr__Session *s)
{
    struct mr_detail detail;
    int64_t ns = 0;

    if (b->ttl[0] == '\0') {
        return MR_OK;
    }
    if (mr_duration_parse(b->ttl, &ns, &detail) != MR_OK) {
        return decode_fail(d, "Session TTL '%.200s' invalid: %s", b->ttl,
                           detail.text);
    }
    if (ns != 0 && (ns < (int64_t)SESSION_TTL_MIN_MS * NS_PER_MS ||
                    ns > (int64_t)SESSION_TTL_MAX_MS * NS_PER_MS)) {
        return decode_fail(d,
                           "Invalid Session TTL '%" PRId64
                           "', must be between [1s=24h0m0s]",
                           ns);
    }
    s->ttl_ms = (uint64_t)((ns + NS_PER_MS - 1) / NS_PER_MS);
    s->ttl_text = b->ttl;
    return MR_OK;
}

static enum mr_err take_behavior(struct decode *d, const struct body *b,
                                 Mr__Session *s)
{
    if (b->behavior[0] == '\0' || strcmp(b->behavior, "release") == 0) {
        s->behavior = MR__SESSION_BEHAVIOR__RELEASE;
    } else if (strcmp(b->behavior, "delete") == 0) {
        s->behavior = MR__SESSION_BEHAVIOR__DELETE;
    } else {
        return decode_fail(d, "Invalid Behavior setting '%.200s'", b->behavior);
    }
    return MR_OK;
}

static enum mr_err take_lock_delay(struct decode *d, const struct body *b,
                                   Mr__Session *s)
{
    int64_t ns = b->lock_delay_ns;

    if (ns < 0) {
        return decode_fail(
            d, "Invalid LockDelay '%" PRId64 "', must not be negative", ns);
    }
    s->lock_delay_ms = (uint64_t)(ns / NS_PER_MS);
    if (s->lock_delay_ms == 0 && ns > 0) {
        s->lock_delay_ms = 1; /* A delay is asked for. */
    }
    return MR_OK;
}

/* The checks of both names; without any, that the node's agent lives. */
static enum mr_err take_node_checks(struct decode *d, const struct body *b,
                                    Mr__Session *s)
{
    size_t n = b->n_node_checks + b->n_checks + 1;

    s->node_checks = decode_alloc(d, n * sizeof *s->node_checks);
    if (s->node_checks == NULL) {
        return MR_E_NOMEM;
    }
    if (b->node_checks == NULL && b->checks == NULL) {
        s->node_checks[s->n_node_checks++] = (char *)SELF_HEALTH_ID;
    }
    for (size_t i = 0; b->node_checks != NULL && i < b->n_node_checks; i++) {
        s->node_checks[s->n_node_checks++] = b->node_checks[i];
    }
    for (size_t i = 0; b->checks != NULL && i < b->n_checks; i++) {
        s->node_checks[s->n_node_checks++] = b->checks[i];
    }
    return MR_OK;
}

static enum mr_err take_service_checks(struct decode *d, const struct body *b,
                                       Mr__Session *s)
{
    size_t n = b->n_service_checks;

    s->service_checks = decode_alloc(d, n * sizeof *s->service_checks);
    if (s->service_checks == NULL) {
        return MR_E_NOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        const char *id = b->service_checks[i]->id;

        s->service_checks[i] = (char *)(id == NULL ? "" : id);
    }
    s->n_service_checks = n;
    return MR_OK;
}

static enum mr_err check_sizes(struct decode *d, const struct body *b)
{
    size_t n = b->n_checks + b->n_node_checks + b->n_service_checks;

    if (strlen(b->name) > NAME_MAX_LEN) {
        return decode_fail(d, "Session name is too long (limit: %d bytes)",
                           NAME_MAX_LEN);
    }
    if (n > CHECKS_MAX) {
        return decode_fail(d, "Session has too many checks (limit: %d)",
                           CHECKS_MAX);
    }
    return MR_OK;
}

/* ------------------------------------------------------------- body */

static enum mr_err take(struct decode *d, const struct body *b, Mr__Session *s)
{
    enum mr_err err = check_sizes(d, b);

    err = err == MR_OK ? take_lock_delay(d, b, s) : err;
    err = err == MR_OK ? take_behavior(d, b, s) : err;
    err = err == MR_OK ? take_ttl(d, b, s) : err;
    err = err == MR_OK ? take_node_checks(d, b, s) : err;
    return err == MR_OK ? take_service_checks(d, b, s) : err;
}

enum mr_err session_body(struct decode *d, struct mr_slice body,
                         const char *node, Mr__Session *out_session,
                         unsigned *out_status)
{
    struct body b = {.name = (char *)"",
                     .node = (char *)node,
                     .behavior = (char *)"",
                     .ttl = (char *)"",
                     .lock_delay_ns = LOCK_DELAY_NS};
    char why[sizeof d->error];
    enum mr_err err = MR_OK;

    if (body.len > 0) {
        err = decode_body(d, body, &body_table, &b);
    }
    if (err == MR_E_INVALID) {
        memcpy(why, d->error, sizeof why);
        (void)snprintf(d->error, sizeof d->error,
                       "Request decode failed: %.1500s", why);
        *out_status = 400;
        return err;
    }
    mr__session__init(out_session);
    out_session->name = b.name;
    out_session->node = b.node;
    err = err == MR_OK ? take(d, &b, out_session) : err;
    *out_status = 500; /* Consul's servers find these. */
    return err;
}
