/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The changes that watch-verify makes itself: keys, registrations, checks, and
 * all kinds of removals, several objects at a time too. Each value is written
 * once, so whoever is told it is told that write.
 */
#include "server/verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

#define CALLS_MAX 128
#define CALL_MAX_MS 15000
#define N_KEYS 100
#define N_FOLDERS 5
#define N_NAMES 4
#define N_NODES 4

enum fate { FATE_NONE, FATE_ACKNOWLEDGED = 1, FATE_TOLD = 2 };

struct write {
    struct watch_call call;
    struct verify_writer *writer;
    struct server_cli cli;
    uint64_t number; /* Of a put; else 0. */
    uint64_t sent_ms;
};

struct verify_writer {
    struct verify *v;
    struct write calls[CALLS_MAX];
    size_t n_under_way;
    uint64_t begun_ms;
    uint64_t base; /* Where the witness began. */
    uint64_t n_sent;
    uint64_t n_puts;
    struct mr_buf fates; /* Of each put, a byte. */
};

/* ------------------------------------------------------------- requests */

static const char *put_key(struct verify_writer *w, struct write *call,
                           struct watch_request *out)
{
    struct verify *v = w->v;

    if (verify_random(v, 2) == 0) {
        mr_buf_printf(&out->path, "/v1/kv/" VERIFY_WRITE_PREFIX "k/%" PRIu64,
                      verify_random(v, N_KEYS));
    } else {
        mr_buf_printf(&out->path,
                      "/v1/kv/" VERIFY_WRITE_PREFIX "t%" PRIu64 "/%" PRIu64,
                      verify_random(v, N_FOLDERS), verify_random(v, N_KEYS));
    }
    mr_buf_byte(&w->fates, FATE_NONE);
    call->number = ++w->n_puts;
    mr_buf_printf(&out->body, "write %" PRIu64, call->number);
    return "PUT";
}

static const char *delete_key(struct verify_writer *w,
                              struct watch_request *out)
{
    struct verify *v = w->v;

    if (verify_random(v, 8) == 0) {
        mr_buf_printf(&out->path, "/v1/kv/" VERIFY_WRITE_PREFIX "t%" PRIu64 "/",
                      verify_random(v, N_FOLDERS));
        mr_buf_str(&out->query, "recurse");
    } else {
        mr_buf_printf(&out->path, "/v1/kv/" VERIFY_WRITE_PREFIX "k/%" PRIu64,
                      verify_random(v, N_KEYS));
    }
    return "DELETE";
}

static const char *change_registry(struct verify_writer *w,
                                   struct watch_request *out)
{
    uint64_t name = verify_random(w->v, N_NAMES);
    uint64_t node = verify_random(w->v, N_NODES);
    bool is_there = verify_random(w->v, 3) > 0;

    mr_buf_str(&out->path, "/registry");
    if (is_there) {
        mr_buf_str(&out->query, "ttl=60s");
    }
    mr_buf_printf(
        &out->body,
        "{\"name\":\"watch-verify-r%" PRIu64 "\",\"version\":\"%" PRIu64
        "\",\"nodes\":[{\"id\":\"watch-verify-r%" PRIu64 "-%" PRIu64
        "\",\"address\":\"127.0.0.1:80\",\"metadata\":{\"n\":\"%" PRIu64
        "\"}}]}",
        name, verify_random(w->v, 2), name, node, w->n_sent);
    return is_there ? "POST" : "DELETE";
}

static const char *random_status(struct verify *v)
{
    static const char *const all[] = {"passing", "warning", "critical"};

    return all[verify_random(v, MR_ARRAY_LEN(all))];
}

/* Take out an instance, or a node with all that is on it. */
static void deregister(struct verify *v, uint64_t name, uint64_t node,
                       struct watch_request *out)
{
    mr_buf_str(&out->path, "/v1/catalog/deregister");
    mr_buf_printf(&out->body, "{\"Node\":\"watch-verify-n%" PRIu64 "\"", node);
    if (verify_random(v, 2) == 0) {
        mr_buf_printf(&out->body,
                      ",\"ServiceID\":\"watch-verify-s%" PRIu64 "-%" PRIu64
                      "\"",
                      name, node);
    }
    mr_buf_byte(&out->body, '}');
}

static void add_check(struct verify *v, struct mr_json *j, const char *id,
                      const char *service)
{
    mr_json_object(j);
    mr_json_kstr(j, "CheckID", id);
    mr_json_kstr(j, "Name", id);
    mr_json_kstr(j, "Status", random_status(v));
    mr_json_kstr(j, "ServiceID", service);
    mr_json_object_end(j);
}

/* A node, a service on it and checks of both, at one index. */
static void register_all(struct verify *v, uint64_t name, uint64_t node,
                         struct watch_request *out)
{
    char text[64];
    char id[64];
    struct mr_json j;

    mr_buf_str(&out->path, "/v1/catalog/register");
    mr_json_init(&j, &out->body);
    mr_json_object(&j);
    (void)snprintf(text, sizeof text, "watch-verify-n%" PRIu64, node);
    (void)snprintf(id, sizeof id, "watch-verify-s%" PRIu64 "-%" PRIu64, name,
                   node);
    mr_json_kstr(&j, "Node", text);
    (void)snprintf(text, sizeof text, "127.0.0.%" PRIu64, verify_random(v, 3));
    mr_json_kstr(&j, "Address", text);
    mr_json_kbool(&j, "SkipNodeUpdate", verify_random(v, 3) > 0);
    mr_json_key(&j, "Service");
    mr_json_object(&j);
    mr_json_kstr(&j, "ID", id);
    (void)snprintf(text, sizeof text, "watch-verify-s%" PRIu64, name);
    mr_json_kstr(&j, "Service", text);
    mr_json_ku64(&j, "Port", 80 + verify_random(v, 3));
    mr_json_object_end(&j);
    mr_json_key(&j, "Checks");
    mr_json_array(&j);
    add_check(v, &j, "node", "");
    add_check(v, &j, id, id);
    mr_json_array_end(&j);
    mr_json_object_end(&j);
}

static const char *change_catalog(struct verify_writer *w,
                                  struct watch_request *out)
{
    uint64_t name = verify_random(w->v, N_NAMES);
    uint64_t node = verify_random(w->v, N_NODES);

    if (verify_random(w->v, 6) == 0) {
        deregister(w->v, name, node, out);
    } else {
        register_all(w->v, name, node, out);
    }
    return "PUT";
}

static const char *choose(struct verify_writer *w, struct write *call,
                          struct watch_request *out)
{
    uint64_t what = verify_random(w->v, 100);

    call->number = 0;
    return what < 50   ? put_key(w, call, out)
           : what < 65 ? delete_key(w, out)
           : what < 80 ? change_registry(w, out)
                       : change_catalog(w, out);
}

/* ------------------------------------------------------------- sending */

static void on_done(struct watch_call *call, bool is_ok,
                    struct server_answer *answer)
{
    struct write *write = mr_container_of(call, struct write, call);
    struct verify_writer *w = write->writer;

    w->n_under_way--;
    if (answer->status >= 400 && answer->status < 500 &&
        answer->status != 429) {
        verify_breach(w->v, "a write is refused: %s", answer->error);
    } else if (!is_ok) {
        w->v->figures.unsure++;
    } else {
        w->v->figures.written++;
        if (write->number != 0) {
            w->fates.data[write->number - 1] |= FATE_ACKNOWLEDGED;
        }
    }
}

static void send_one(struct verify_writer *w, struct write *write)
{
    struct verify *v = w->v;
    struct watch_request request = {.path = MR_BUF_INIT};
    const char *method = choose(w, write, &request);

    write->writer = w;
    write->cli = *v->cli;
    write->cli.http_addr = v->addresses.items[verify_random(v, v->addresses.n)];
    write->sent_ms = v->loop.now_ms;
    write->call.on_done = on_done;
    w->n_under_way++;
    watch_call_start(&write->call, &v->loop, &write->cli, method, &request);
    watch_request_deinit(&request);
}

struct verify_writer *verify_writer_start(struct verify *v)
{
    struct verify_writer *w = mr_calloc(1, sizeof *w);

    if (w != NULL) {
        w->v = v;
        w->begun_ms = v->loop.now_ms;
    }
    return w;
}

/* Whether somebody sees our writes, from the first on. */
static bool is_witnessed(struct verify_writer *w)
{
    const struct verify_subject *witness = w->v->witness;

    if (witness == NULL || w->base != 0) {
        return true;
    }
    if (witness->log.n_spans > 0) {
        w->base = witness->log.spans[0]->base;
    }
    w->begun_ms = w->v->loop.now_ms;
    return false;
}

void verify_writer_tick(struct verify_writer *w)
{
    uint64_t due = (w->v->loop.now_ms - w->begun_ms) * w->v->rate / 1000 + 1;

    if (!is_witnessed(w)) {
        return;
    }
    for (size_t i = 0; i < CALLS_MAX; i++) {
        struct write *write = &w->calls[i];

        if (write->call.is_under_way) {
            if (w->v->loop.now_ms - write->sent_ms > CALL_MAX_MS) {
                watch_call_cancel(&write->call);
                w->n_under_way--;
                w->v->figures.unsure++;
            }
        } else if (w->n_sent < due && !w->v->is_ending) {
            w->n_sent++;
            send_one(w, write);
        }
    }
    if (w->n_sent < due && w->n_under_way == CALLS_MAX) {
        w->n_sent = due; /* What could not be sent is not made up for. */
    }
}

bool verify_writer_idle(const struct verify_writer *w)
{
    return w->n_under_way == 0;
}

/* ------------------------------------------------------------- judging */

/* The number of the put whose key is @object; 0: it is none of ours. */
static uint64_t number_of(const json_t *object)
{
    static const char ours[] = "write ";
    struct mr_buf value = MR_BUF_INIT;
    uint64_t number = 0;
    size_t bad;

    if (strncmp(server_json_text(object, "Key"), VERIFY_WRITE_PREFIX,
                strlen(VERIFY_WRITE_PREFIX)) == 0 &&
        server_cli_base64(server_json_text(object, "Value"), &value, &bad) &&
        strncmp(mr_buf_cstr(&value), ours, sizeof ours - 1) == 0) {
        number = strtoull(mr_buf_cstr(&value) + sizeof ours - 1, NULL, 10);
    }
    mr_buf_deinit(&value);
    return number;
}

bool verify_writer_told(struct verify_writer *w,
                        const struct verify_change *change,
                        struct mr_detail *why)
{
    for (size_t i = 0; i < change->n_events; i++) {
        uint64_t n = change->events[i].action == WATCH_DELETE
                         ? 0
                         : number_of(change->events[i].object);

        if (n == 0 || n > w->n_puts) {
            continue;
        }
        if (w->fates.data[n - 1] & FATE_TOLD) {
            (void)mr_fail(why, MR_E_CORRUPT, "write %" PRIu64 " is told twice",
                          n);
            return false;
        }
        w->fates.data[n - 1] |= FATE_TOLD;
    }
    return true;
}

void verify_writer_check(struct verify_writer *w)
{
    const struct verify_subject *witness = w->v->witness;
    uint64_t n_lost = 0;
    uint64_t first = 0;

    if (witness == NULL || witness->log.n_spans != 1 ||
        witness->log.spans[0]->base != w->base) {
        w->v->figures.unknown++; /* All streams were reset in between. */
        return;
    }

    for (uint64_t i = 0; i < w->n_puts; i++) {
        if (w->fates.data[i] == FATE_ACKNOWLEDGED) {
            n_lost++;
            first = first == 0 ? i + 1 : first;
        }
    }
    if (n_lost > 0) {
        verify_breach(w->v,
                      "%" PRIu64
                      " acknowledged writes were told to nobody, the "
                      "first is \"write %" PRIu64 "\"",
                      n_lost, first);
    }
}

/* ------------------------------------------------------------- the end */

/* Ask one server after the other until one does it. */
static void clean(struct verify_writer *w, const char *method, const char *path,
                  const char *query, const char *body)
{
    struct verify *v = w->v;
    bool is_done = false;

    for (size_t i = 0; i < v->addresses.n && !is_done; i++) {
        struct server_cli cli = *v->cli;
        struct server_answer answer;

        cli.http_addr = v->addresses.items[i];
        is_done = server_cli_request(&cli, method, path, query,
                                     mr_slice_str(body), &answer);
        server_answer_deinit(&answer);
    }
}

void verify_writer_stop(struct verify_writer *w)
{
    char body[256];

    if (w == NULL) {
        return;
    }
    for (size_t i = 0; i < CALLS_MAX; i++) {
        watch_call_cancel(&w->calls[i].call);
    }
    clean(w, "DELETE", "/v1/kv/" VERIFY_WRITE_PREFIX, "recurse", "");
    for (unsigned i = 0; i < N_NAMES; i++) {
        (void)snprintf(body, sizeof body,
                       "{\"Node\":\"registry:watch-verify-r%u\"}", i);
        clean(w, "PUT", "/v1/catalog/deregister", NULL, body);
    }
    for (unsigned i = 0; i < N_NODES; i++) {
        (void)snprintf(body, sizeof body, "{\"Node\":\"watch-verify-n%u\"}", i);
        clean(w, "PUT", "/v1/catalog/deregister", NULL, body);
    }
    mr_buf_deinit(&w->fates);
    mr_free(w);
}
