/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of rows and their differences.
 *
 * A service and its checks travel in one command, so that it is never seen
 * without them; what is gone is removed one by one.
 */
#include "server/sync_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "api/mr_rows.h"
#include "base/mem.h"

#define SYNC_BY_MAX 256
#define COMMANDS_MAX 64 /* In one pass. */
#define COMMAND_ROWS 64
#define COMMAND_BYTES ((size_t)256 * 1024)

/* ------------------------------------------------------------- lists */

static void row_deinit(struct sync_row *row)
{
    mr_free(row->id);
    mr_free(row->output);
}

void sync_rows_deinit(struct sync_rows *rows)
{
    for (size_t i = 0; i < rows->n; i++) {
        row_deinit(&rows->items[i]);
    }
    mr_free(rows->items);
    *rows = (struct sync_rows){0};
}

static int compare(const void *a, const void *b)
{
    const struct sync_row *x = a;
    const struct sync_row *y = b;

    if (x->is_check != y->is_check) {
        return x->is_check ? 1 : -1;
    }
    return strcmp(x->id, y->id);
}

static void sort(struct sync_rows *rows)
{
    if (rows->n > 1) {
        qsort(rows->items, rows->n, sizeof *rows->items, compare);
    }
}

struct sync_row *sync_rows_find(const struct sync_rows *rows, bool is_check,
                                const char *id)
{
    struct sync_row key = {.id = (char *)id, .is_check = is_check};

    return rows->n == 0 ? NULL
                        : bsearch(&key, rows->items, rows->n,
                                  sizeof *rows->items, compare);
}

void sync_rows_drop(struct sync_rows *rows, struct sync_row *row)
{
    size_t at = (size_t)(row - rows->items);

    row_deinit(row);
    rows->n--;
    memmove(row, row + 1, (rows->n - at) * sizeof *row);
}

/* A new row at the end, or NULL without memory. */
static struct sync_row *add(struct sync_rows *rows, bool is_check,
                            const char *id)
{
    struct sync_row *row;

    if (rows->n == rows->cap) {
        size_t cap = rows->cap == 0 ? 16 : rows->cap * 2;
        struct sync_row *grown = mr_realloc(rows->items, cap * sizeof *grown);

        if (grown == NULL) {
            return NULL;
        }
        rows->items = grown;
        rows->cap = cap;
    }
    row = &rows->items[rows->n];
    *row = (struct sync_row){.id = mr_strdup(id), .is_check = is_check};
    if (row->id == NULL) {
        return NULL;
    }
    rows->n++;
    return row;
}

/* A copy of @from, without its output. */
static bool add_copy(struct sync_rows *rows, const struct sync_row *from)
{
    struct sync_row *row = add(rows, from->is_check, from->id);

    if (row != NULL) {
        row->row = from->row;
        row->state = from->state;
        row->seen = from->seen;
        memcpy(row->status, from->status, sizeof row->status);
    }
    return row != NULL;
}

/* ------------------------------------------------------------- parsing */

static bool parse_digest(const json_t *value, uint64_t *out)
{
    const char *text = json_string_value(value);
    char *end;

    if (text == NULL || text[0] == '\0') {
        return false;
    }
    *out = strtoull(text, &end, 16);
    return *end == '\0';
}

static enum mr_err parse_check(struct sync_rows *rows, const char *id,
                               const json_t *value)
{
    const char *status = json_string_value(json_object_get(value, "Status"));
    const char *output = json_string_value(json_object_get(value, "Output"));
    struct sync_row *row = add(rows, true, id);

    if (row == NULL) {
        return MR_E_NOMEM;
    }
    if (status == NULL ||
        !parse_digest(json_object_get(value, "Row"), &row->row) ||
        !parse_digest(json_object_get(value, "State"), &row->state)) {
        return MR_E_INVALID;
    }
    row->seen = row->state;
    (void)snprintf(row->status, sizeof row->status, "%s", status);
    if (output != NULL) {
        row->output = mr_strdup(output);
    }
    return output != NULL && row->output == NULL ? MR_E_NOMEM : MR_OK;
}

static enum mr_err parse_all(struct sync_rows *rows, json_t *root)
{
    enum mr_err err = MR_OK;
    const char *id;
    json_t *value;

    json_object_foreach(json_object_get(root, "Services"), id, value)
    {
        struct sync_row *row = add(rows, false, id);

        if (row == NULL) {
            return MR_E_NOMEM;
        }
        if (!parse_digest(value, &row->row)) {
            return MR_E_INVALID;
        }
    }
    json_object_foreach(json_object_get(root, "Checks"), id, value)
    {
        err = parse_check(rows, id, value);
        if (err != MR_OK) {
            return err;
        }
    }
    return err;
}

enum mr_err sync_rows_parse(struct sync_rows *rows, struct mr_slice json,
                            bool *out_node)
{
    json_t *root = json_loadb(json.data, json.len, 0, NULL);
    const json_t *node = json_object_get(root, "Node");
    enum mr_err err = MR_E_INVALID;

    if (json_is_boolean(node) &&
        json_is_object(json_object_get(root, "Services")) &&
        json_is_object(json_object_get(root, "Checks"))) {
        err = parse_all(rows, root);
    }
    if (err == MR_OK) {
        *out_node = json_is_true(node);
        sort(rows);
    } else {
        sync_rows_deinit(rows);
    }
    json_decref(root);
    return err;
}

/* ------------------------------------------------------------- the pass */

/* Local rows, and which of them are to be pushed. */
struct pass {
    struct sync_diff *diff;
    const Mr__Service **services; /* To be pushed, by ID. */
    size_t n_services;
    size_t cap_services;
    const Mr__Check **checks; /* To be pushed, by service and ID. */
    size_t n_checks;
    size_t cap_checks;
    struct sync_rows local;
    enum mr_err err;
};

/* Room for one more pointer in *@list. */
static bool grow(void *list, size_t n, size_t *cap)
{
    void **at = list;
    size_t wanted = *cap == 0 ? 16 : *cap * 2;
    void *grown;

    if (n < *cap) {
        return true;
    }
    grown = mr_realloc(*at, wanted * sizeof(void *));
    if (grown == NULL) {
        return false;
    }
    *at = grown;
    *cap = wanted;
    return true;
}

static bool on_service(void *arg, const Mr__Service *service)
{
    struct pass *p = arg;
    const struct sync_row *known;
    struct sync_row *row;

    if (service->origin != MR__ORIGIN__AGENT) {
        return true;
    }
    row = add(&p->local, false, service->id);
    if (row == NULL || !grow(&p->services, p->n_services, &p->cap_services)) {
        p->err = MR_E_NOMEM;
        return false;
    }
    row->row = mr_rows_service(service);
    known = sync_rows_find(p->diff->known, false, service->id);
    if (known == NULL || known->row != row->row) {
        p->services[p->n_services++] = service;
    }
    return true;
}

static bool has_ttl(const Mr__Check *check)
{
    return check->definition != NULL && check->definition->ttl_ns > 0;
}

/* The lease of a check whose output alone changed: it was renewed. */
static bool add_renewal(struct pass *p, const char *id)
{
    struct sync_diff *d = p->diff;
    char **grown = mr_realloc(d->renewals, (d->n_renewals + 1) * sizeof *grown);

    if (grown == NULL) {
        return false;
    }
    d->renewals = grown;
    grown[d->n_renewals] = mr_strdup(id);
    if (grown[d->n_renewals] == NULL) {
        return false;
    }
    d->n_renewals++;
    return true;
}

static bool on_check(void *arg, const Mr__Check *check)
{
    struct pass *p = arg;
    const struct sync_row *known;
    struct sync_row *row;
    bool ok = true;

    if (check->origin != MR__ORIGIN__AGENT) {
        return true;
    }
    row = add(&p->local, true, check->check_id);
    if (row == NULL || !grow(&p->checks, p->n_checks, &p->cap_checks)) {
        p->err = MR_E_NOMEM;
        return false;
    }
    row->row = mr_rows_check(check);
    row->state = mr_rows_check_state(check);
    row->seen = row->state;
    (void)snprintf(row->status, sizeof row->status, "%s", check->status);
    known = sync_rows_find(p->diff->known, true, check->check_id);
    if (known == NULL || known->row != row->row ||
        strcmp(known->status, row->status) != 0 ||
        (p->diff->with_output && known->state != row->state)) {
        p->checks[p->n_checks++] = check;
    } else if (known->state != row->state) {
        row->state = known->state; /* Pushed with the next comparison. */
        ok = !has_ttl(check) || row->seen == known->seen ||
             add_renewal(p, check->check_id);
    }
    p->err = ok ? MR_OK : MR_E_NOMEM;
    return ok;
}

static int by_service(const void *a, const void *b)
{
    const Mr__Check *x = *(const Mr__Check *const *)a;
    const Mr__Check *y = *(const Mr__Check *const *)b;
    int order = strcmp(x->service_id, y->service_id);

    return order != 0 ? order : strcmp(x->check_id, y->check_id);
}

static int by_id(const void *a, const void *b)
{
    const Mr__Service *x = *(const Mr__Service *const *)a;
    const Mr__Service *y = *(const Mr__Service *const *)b;

    return strcmp(x->id, y->id);
}

/* ------------------------------------------------------------- commands */

/* Room for one more command; NULL: there are enough, or no memory. */
static struct mr_buf *new_command(struct pass *p)
{
    struct sync_diff *d = p->diff;
    struct mr_buf *grown;

    if (d->n_commands >= COMMANDS_MAX) {
        d->is_more = true;
        return NULL;
    }
    grown = mr_realloc(d->commands, (d->n_commands + 1) * sizeof *grown);
    if (grown == NULL) {
        p->err = MR_E_NOMEM;
        return NULL;
    }
    d->commands = grown;
    mr_buf_init(&grown[d->n_commands], MR_RAFT_COMMAND_MAX);
    return &grown[d->n_commands++];
}

/* The rows that go with one command: the cluster has them when it is done. */
static void note_pushed(struct pass *p, const Mr__Register *r)
{
    for (size_t i = 0; i < r->n_services && p->err == MR_OK; i++) {
        if (!add_copy(&p->diff->after,
                      sync_rows_find(&p->local, false, r->services[i]->id))) {
            p->err = MR_E_NOMEM;
        }
    }
    for (size_t i = 0; i < r->n_checks && p->err == MR_OK; i++) {
        if (!add_copy(
                &p->diff->after,
                sync_rows_find(&p->local, true, r->checks[i]->check_id))) {
            p->err = MR_E_NOMEM;
        }
    }
}

/* Who sends, for `microreg why`; a TTL that ran out here is named. */
static void format_by(const struct pass *p, const Mr__Check *const *checks,
                      size_t n_checks, char out[SYNC_BY_MAX])
{
    static const char expired[] = "TTL expired";
    bool is_expiry = n_checks > 0;

    for (size_t i = 0; i < n_checks; i++) {
        is_expiry = is_expiry && strncmp(checks[i]->output, expired,
                                         sizeof expired - 1) == 0;
    }
    (void)snprintf(out, SYNC_BY_MAX, "%.200s (%s)", p->diff->self->node_name,
                   is_expiry ? expired : "sync");
}

/* Encode one registration; false: it is left for the next pass. */
static bool push(struct pass *p, const Mr__Service *const *services,
                 size_t n_services, const Mr__Check *const *checks,
                 size_t n_checks)
{
    const struct mr_api_agent *self = p->diff->self;
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Register body = MR__REGISTER__INIT;
    Mr__Node node = MR__NODE__INIT;
    struct mr_buf *out = new_command(p);
    char by[SYNC_BY_MAX];

    if (out == NULL) {
        return false;
    }
    format_by(p, checks, n_services == 0 ? n_checks : 0, by);
    cmd.by = by;
    /* The node is there; the row is only named. Encoding reads only. */
    node.name = (char *)self->node_name;
    node.id = (char *)self->node_id;
    node.address = (char *)self->address;
    node.datacenter = (char *)self->datacenter;
    body.node = &node;
    body.skip_node_update = true;
    body.services = (Mr__Service **)services;
    body.n_services = n_services;
    body.checks = (Mr__Check **)checks;
    body.n_checks = n_checks;
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = &body;
    mr_kv_command_encode(&cmd, out);
    if (mr_buf_failed(out)) {
        p->err = MR_E_NOMEM;
        return false;
    }
    note_pushed(p, &body);
    return true;
}

/* How many of the checks at @at belong to @service_id. */
static size_t count_checks(const struct pass *p, size_t at,
                           const char *service_id)
{
    size_t n = 0;

    while (at + n < p->n_checks &&
           strcmp(p->checks[at + n]->service_id, service_id) == 0) {
        n++;
    }
    return n;
}

/* Where the first check of @service_id or a later one is. */
static size_t skip_checks(const struct pass *p, size_t at,
                          const char *service_id)
{
    while (at < p->n_checks &&
           strcmp(p->checks[at]->service_id, service_id) < 0) {
        at++;
    }
    return at;
}

/* Push the checks in [@at, @end), whose services are there. */
static bool push_checks(struct pass *p, size_t at, size_t end)
{
    while (at < end && p->err == MR_OK) {
        size_t n = 0;
        size_t bytes = 0;

        while (at + n < end && n < COMMAND_ROWS && bytes < COMMAND_BYTES) {
            bytes += mr__check__get_packed_size(p->checks[at + n]);
            n++;
        }
        if (!push(p, NULL, 0, p->checks + at, n)) {
            return false;
        }
        at += n;
    }
    return true;
}

/* Services with the checks that go with them, some in one command; between
 * them the checks of services that the cluster has. */
static void push_all(struct pass *p)
{
    size_t at = 0; /* Of checks. */
    size_t i = 0;
    bool goes_on = true;

    while (goes_on && i < p->n_services && p->err == MR_OK) {
        size_t first = skip_checks(p, at, p->services[i]->id);
        size_t end = first;
        size_t n = 0;
        size_t bytes = 0;

        goes_on = push_checks(p, at, first);
        /* Neighbours in both lists: no other check lies between. */
        while (i + n < p->n_services && n < COMMAND_ROWS &&
               end - first < COMMAND_ROWS && bytes < COMMAND_BYTES &&
               skip_checks(p, end, p->services[i + n]->id) == end) {
            size_t more = count_checks(p, end, p->services[i + n]->id);

            bytes += mr__service__get_packed_size(p->services[i + n]);
            for (size_t k = 0; k < more; k++) {
                bytes += mr__check__get_packed_size(p->checks[end + k]);
            }
            end += more;
            n++;
        }
        goes_on = goes_on &&
                  push(p, p->services + i, n, p->checks + first, end - first);
        at = end;
        i += n;
    }
    if (goes_on) {
        (void)push_checks(p, at, p->n_checks);
    }
}

static bool push_removal(struct pass *p, const struct sync_row *row)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Deregister body = MR__DEREGISTER__INIT;
    struct mr_buf *out = new_command(p);
    char by[SYNC_BY_MAX];

    if (out == NULL) {
        return false;
    }
    format_by(p, NULL, 0, by);
    cmd.by = by;
    body.node = (char *)p->diff->self->node_name;
    body.service_id = row->is_check ? (char *)"" : row->id;
    body.check_id = row->is_check ? row->id : (char *)"";
    body.agent_only = true;
    cmd.op_case = MR__COMMAND__OP_DEREGISTER;
    cmd.deregister = &body;
    mr_kv_command_encode(&cmd, out);
    if (mr_buf_failed(out)) {
        p->err = MR_E_NOMEM;
        return false;
    }
    return true;
}

/* What the cluster has and is not to be touched by this pass stays known; what
 * the store has not is removed. */
static void finish(struct pass *p)
{
    const struct sync_rows *known = p->diff->known;
    struct sync_rows *after = &p->diff->after;
    size_t n_pushed = after->n;

    sort(after);
    for (size_t i = 0; i < known->n && p->err == MR_OK; i++) {
        const struct sync_row *row = &known->items[i];
        const struct sync_row *own =
            sync_rows_find(&p->local, row->is_check, row->id);
        struct sync_rows pushed = {after->items, n_pushed, n_pushed};

        if (sync_rows_find(&pushed, row->is_check, row->id) != NULL ||
            (own == NULL && push_removal(p, row))) {
            continue;
        }
        row = own == NULL || p->diff->is_more ? row : own;
        if (p->err == MR_OK && !add_copy(after, row)) {
            p->err = MR_E_NOMEM;
        }
    }
    sort(after);
}

enum mr_err sync_diff_make(struct sync_diff *diff, struct mr_kv_view *view)
{
    struct pass p = {.diff = diff};
    enum mr_err err =
        mr_kv_node_services(view, diff->self->node_name, on_service, &p, NULL);

    if (err == MR_OK && p.err == MR_OK) {
        err =
            mr_kv_node_checks(view, diff->self->node_name, on_check, &p, NULL);
    }
    if (err == MR_OK && p.err == MR_OK) {
        sort(&p.local);
        if (p.n_services > 1) {
            qsort(p.services, p.n_services, sizeof *p.services, by_id);
        }
        if (p.n_checks > 1) {
            qsort(p.checks, p.n_checks, sizeof *p.checks, by_service);
        }
        push_all(&p);
        if (p.err == MR_OK) {
            finish(&p);
        }
    }
    sync_rows_deinit(&p.local);
    mr_free(p.services);
    mr_free(p.checks);
    err = err != MR_OK ? err : p.err;
    if (err != MR_OK) {
        sync_diff_deinit(diff);
    }
    return err;
}

void sync_diff_deinit(struct sync_diff *diff)
{
    for (size_t i = 0; i < diff->n_commands; i++) {
        mr_buf_deinit(&diff->commands[i]);
    }
    mr_free(diff->commands);
    diff->commands = NULL;
    diff->n_commands = 0;
    for (size_t i = 0; i < diff->n_renewals; i++) {
        mr_free(diff->renewals[i]);
    }
    mr_free(diff->renewals);
    diff->renewals = NULL;
    diff->n_renewals = 0;
    diff->is_more = false;
    sync_rows_deinit(&diff->after);
}
