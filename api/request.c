/* SPDX-License-Identifier: Apache-2.0 */
/* What endpoints call on their request: parameters, memory, answers. */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/core.h"
#include "api/forward.h"
#include "api/gzip.h"
#include "api/status.h"
#include "api/target.h"
#include "base/mem.h"
#include "base/text.h"

struct api_chunk {
    struct api_chunk *next;
    _Alignas(max_align_t) unsigned char data[];
};

static const char no_text[] = "";

/* ------------------------------------------------------------- memory */

#define ALIGNMENT _Alignof(max_align_t)

void *api_alloc(struct api_request *req, size_t size)
{
    struct api_http *x = req->http;
    size_t used = (x->inline_used + ALIGNMENT - 1) & ~(ALIGNMENT - 1);

    if (size <= API_INLINE_MEMORY && used <= API_INLINE_MEMORY - size) {
        x->inline_used = used + size;
        return x->inline_memory + used;
    }
    struct api_chunk *chunk = mr_malloc(sizeof *chunk + size);

    if (chunk == NULL) {
        return NULL;
    }
    chunk->next = x->chunks;
    x->chunks = chunk;
    return chunk->data;
}

void api_memory_keep(struct api_http *x)
{
    x->kept_chunks = x->chunks;
    x->inline_kept = x->inline_used;
}

void api_memory_release(struct api_http *x)
{
    while (x->chunks != x->kept_chunks) {
        struct api_chunk *next = x->chunks->next;

        mr_free(x->chunks);
        x->chunks = next;
    }
    x->inline_used = x->inline_kept;
}

char *api_dup(struct api_request *req, const void *data, size_t len)
{
    char *copy = api_alloc(req, len + 1);

    if (copy != NULL) {
        if (len > 0) {
            memcpy(copy, data, len);
        }
        copy[len] = '\0';
    }
    return copy;
}

/* ------------------------------------------------------------- the worker */

/* One answer is rendered at a time on a worker, so the memory is the worker's:
 * no allocation a request once it has grown. */
static _Thread_local struct mr_buf worker_out;

/* Answers larger than this do not stay with the worker. */
#define KEEP_OUT_MAX ((size_t)64 * 1024)

struct mr_buf *api_out(void)
{
    return &worker_out;
}

/* Exchanges that ended, for the next ones: a connection's requests come one
 * after the other on the same worker. */
#define SPARE_MAX 64

static _Thread_local struct {
    struct api_http *list[SPARE_MAX];
    size_t n;
} spare;

static struct api_http *exchange_alloc(void)
{
    return spare.n > 0 ? spare.list[--spare.n]
                       : mr_malloc(sizeof(struct api_http));
}

static void exchange_release(struct api_http *x)
{
    if (spare.n < SPARE_MAX) {
        spare.list[spare.n++] = x;
    } else {
        mr_free(x);
    }
}

static pthread_key_t worker_key;
static pthread_once_t worker_once = PTHREAD_ONCE_INIT;

static void release_worker(void *unused)
{
    (void)unused;
    mr_buf_deinit(&worker_out);
    api_gzip_release();
    while (spare.n > 0) {
        mr_free(spare.list[--spare.n]);
    }
}

static void make_worker_key(void)
{
    mr_assert(pthread_key_create(&worker_key, release_worker) == 0);
}

/* Have the calling thread's buffers released when it ends. */
static void register_worker(void)
{
    static _Thread_local bool is_registered;

    if (!is_registered) {
        pthread_once(&worker_once, make_worker_key);
        is_registered = pthread_setspecific(worker_key, &worker_out) == 0;
    }
}

/* ------------------------------------------------------------- exchange */

/* Fill the request from its target; a target that does not parse leaves
 * req->path NULL, which dispatch answers with a 400. */
static bool parse_target(struct api_http *x, const char *raw)
{
    struct api_request *req = &x->req;
    size_t len = strlen(raw);
    void *memory = api_alloc(req, api_target_size(raw, len));
    struct api_target target;

    if (memory == NULL) {
        return false;
    }
    if (api_target_parse(raw, len, memory, &target) != MR_OK) {
        return true;
    }
    req->path = target.path;
    req->raw_query = target.raw_query;
    req->params = target.params;
    req->n_params = target.n_params;
    x->path_len = target.path_len;
    x->bad_query = target.query_is_bad;
    return true;
}

struct api_http *api_exchange_new(struct mr_api *api, const char *raw)
{
    struct api_http *x = exchange_alloc();

    if (x == NULL) {
        return NULL;
    }
    register_worker();
    memset(x, 0, offsetof(struct api_http, inline_memory));
    x->req.http = x;
    x->req.api = api;
    x->req.options = &api->options;
    x->req.raw_query = no_text;
    x->req.arg = no_text;
    x->watched_fd = -1;
    atomic_init(&x->wait_state, API_WAIT_IDLE);
    atomic_init(&x->waiter_fired, false);
    mr_list_init(&x->park_link);
    api_reply_reset(&x->req);
    if (api->options.raft == NULL) {
        x->raw_target = api_dup(&x->req, raw, strlen(raw));
    }
    if (!parse_target(x, raw)) {
        api_exchange_free(x);
        return NULL;
    }
    return x;
}

void api_exchange_free(struct api_http *x)
{
    if (x == NULL) {
        return;
    }
    if (x->req.state != NULL && x->req.state_free != NULL) {
        x->req.state_free(x->req.state);
    }
    mr_buf_deinit(&x->req.body);
    mr_buf_deinit(&x->req.cmd);
    mr_free(x->op_text);
    api_forward_release(x);
    x->kept_chunks = NULL;
    api_memory_release(x);
    exchange_release(x);
}

/* ------------------------------------------------------------- reading it */

const char *api_query(const struct api_request *req, const char *name)
{
    for (size_t i = 0; i < req->n_params; i++) {
        if (strcmp(req->params[i].name, name) == 0) {
            return req->params[i].value;
        }
    }
    return NULL;
}

bool api_query_has(const struct api_request *req, const char *name)
{
    return api_query(req, name) != NULL;
}

const char *api_request_header(const struct api_request *req, const char *name)
{
    return api_http_header(req->http, name);
}

const char *api_asker_node(const struct api_request *req)
{
    const char *agent = api_http_is_adopted(req->http)
                            ? api_request_header(req, "X-Microreg-Agent")
                            : NULL;

    return agent != NULL && agent[0] != '\0' ? agent
                                             : req->options->agent.node_name;
}

void api_depends(struct api_request *req, enum mr_kv_topic_kind kind,
                 const char *name)
{
    struct api_topic *topic = &req->http->topic;

    topic->is_set = true;
    topic->kind = kind;
    topic->name = name;
    topic->name_len = strlen(name);
}

/* ------------------------------------------------------------- answering */

void api_reply_reset(struct api_request *req)
{
    memset(&req->reply, 0, sizeof req->reply);
    req->reply.status = 200;
    req->reply.type = API_TYPE_JSON;
    req->http->topic.is_set = false;
    if (worker_out.cap > KEEP_OUT_MAX) {
        mr_buf_deinit(&worker_out);
    }
    mr_buf_reset(&worker_out);
}

static void error_text(struct api_request *req, unsigned status,
                       const char *fmt, va_list args) MR_PRINTF(3, 0);

static void error_text(struct api_request *req, unsigned status,
                       const char *fmt, va_list args)
{
    struct mr_buf *out = &worker_out;
    char text[1024];
    int len = vsnprintf(text, sizeof text, fmt, args);

    api_reply_reset(req);
    req->reply.status = status;
    req->reply.type = API_TYPE_TEXT;
    req->reply.is_error = true;
    req->reply.no_cache = true;
    if (len > 0) {
        size_t n = (size_t)len < sizeof text ? (size_t)len : sizeof text - 1;

        mr_buf_add(out, text, n);
    }
}

bool api_error(struct api_request *req, unsigned status, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    error_text(req, status, fmt, args);
    va_end(args);
    return false;
}

bool api_rpc_error(struct api_request *req, unsigned status, const char *fmt,
                   ...)
{
    va_list args;

    va_start(args, fmt);
    error_text(req, status, fmt, args);
    va_end(args);
    req->reply.meta_failed =
        req->route != NULL && (req->route->flags & API_META_ON_FAIL) != 0;
    return false;
}

void api_fail(struct api_request *req, enum mr_err err)
{
    struct api_status status = api_status_of(err);

    api_rpc_error(req, status.code, "%s", status.text);
    if (status.retry_after != NULL) {
        api_reply_header(req, "Retry-After", status.retry_after);
    }
}

void api_reply_header(struct api_request *req, const char *name,
                      const char *value)
{
    struct api_reply *reply = &req->reply;

    mr_assert(reply->n_headers < API_HEADERS_MAX);
    reply->headers[reply->n_headers].name = name;
    reply->headers[reply->n_headers].value = value;
    reply->n_headers++;
}

static void reply_text(struct api_request *req, const char *text)
{
    api_reply_reset(req);
    mr_buf_str(&worker_out, text);
}

void api_reply_true(struct api_request *req)
{
    reply_text(req, "true");
}

void api_reply_false(struct api_request *req)
{
    reply_text(req, "false");
}

void api_reply_empty(struct api_request *req)
{
    reply_text(req, "");
}

void api_reply_json(struct api_request *req, const struct mr_buf *json)
{
    if (mr_buf_failed(json)) {
        api_fail(req, MR_E_NOMEM);
        return;
    }
    api_reply_reset(req);
    mr_buf_add(&worker_out, json->data, json->len);
}

/* ------------------------------------------------------------- parsing */

enum mr_err api_parse_bool(const char *text, bool *out_value)
{
    static const char *const yes[] = {"1", "t", "T", "TRUE", "true", "True"};
    static const char *const no[] = {"0", "f", "F", "FALSE", "false", "False"};

    for (size_t i = 0; i < MR_ARRAY_LEN(yes); i++) {
        if (strcmp(text, yes[i]) == 0) {
            *out_value = true;
            return MR_OK;
        }
        if (strcmp(text, no[i]) == 0) {
            *out_value = false;
            return MR_OK;
        }
    }
    return MR_E_INVALID;
}

enum mr_err api_parse_uint(const char *text, uint64_t *out_n,
                           struct mr_detail *detail)
{
    const char *why = "invalid syntax";

    if (text[0] != '\0' && text[strspn(text, "0123456789")] == '\0') {
        if (mr_parse_u64(text, out_n) == MR_OK) {
            return MR_OK;
        }
        why = "value out of range";
    }
    return mr_fail(detail, MR_E_INVALID,
                   "strconv.ParseUint: parsing \"%s\": %s", text, why);
}
