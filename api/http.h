/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seam between the HTTP core and the endpoints.
 *
 * The core parses, routes, checks what is common to all endpoints, reads the
 * body, picks the read mode, blocks, caches, compresses and answers. An
 * endpoint is one row of api/routes.c and one or two functions of the shapes
 * below; it never sees the HTTP library.
 *
 * Everything here runs on an HTTP worker and must not block, unless the comment
 * says "any thread".
 */
#ifndef API_HTTP_H
#define API_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/mr_api.h"
#include "base/buf.h"
#include "base/json.h"
#include "kv/mr_kv_watch.h"

struct api_request;

/* ------------------------------------------------------------- shapes */

/* Checks a read's input before anything else is asked, also before a leader is:
 * texts like `Missing service name`. Answers a bad request with api_error() and
 * returns false. What it parsed may be kept in req->state. */
typedef bool (*api_prepare_fn)(struct api_request *req);

/* Renders the answer of a read from @view into @out, compact JSON unless
 * req->reply.type says otherwise. It is called again, on another worker
 * perhaps, when a blocking query has to look again, so it must not consume its
 * input. It tells
 *  - api_depends(): the topic whose change alters the answer,
 *  - req->reply.index: the X-Consul-Index (API_READ rows),
 *  - req->reply.status: when it is not 200.
 * Errors: api_error() and MR_OK, or the code of the failed kv call.
 * @view is NULL on API_PLAIN rows. */
typedef enum mr_err (*api_read_fn)(struct api_request *req,
                                   struct mr_kv_view *view, struct mr_buf *out);

/* Does what a PUT, POST or DELETE asks for; req->body holds the whole body. It
 * ends with exactly one of api_error(), api_reply_true() and its likes,
 * api_submit(), or api_async_begin() and a call that completes it. */
typedef void (*api_write_fn)(struct api_request *req);

/* Answers a write that was applied: ends as an api_write_fn does. @result is
 * valid for the call. */
typedef void (*api_done_fn)(struct api_request *req,
                            const struct mr_kv_result *result);

/* Answers after api_async_begin(), with what api_async_done() was told. @text
 * is the failure's sentence or "". */
typedef void (*api_resume_fn)(struct api_request *req, enum mr_err err,
                              const char *text);

/* ------------------------------------------------------------- routes */

enum api_needs {
    API_PLAIN, /* A read that needs no state: no view, no index. */
    API_LOCAL, /* A read of the local state as it is: agent's own lists. */
    API_READ,  /* A read with modes, index, blocking and their headers. */
    API_WRITE  /* Calls route->write with the whole body. */
};

enum api_route_flags {
    API_CONSISTENCY = 1,  /* Sends X-Consul-Effective-Consistency. */
    API_META_ON_FAIL = 2, /* A failed read says index 1, leader unknown. */
    API_CACHE = 4,        /* The rendered answer may be kept and shared. */
    API_HASH_BLOCK = 8,   /* Blocks by ?hash= instead of ?index=. */
    API_VALUE_BODY = 16,  /* The body is a key's value: its own limit. */
    API_ANY_METHOD = 32,  /* Answers every method; outside /v1. */
    API_NEEDS_UI = 128,   /* Only there with the user interface. */
    API_AGENT_CACHE = 64, /* Takes ?cached: X-Cache and Age are sent. */
    API_OWN = 256,        /* About the agent that is asked: never passed on. */
    API_INTERNAL = 512,   /* For agents, on the servers' port only. */
    API_NATIVE = 1024,    /* Sends X-Microreg-Index as well. */
    API_BODY = 2048       /* A read that takes a body, in req->body. */
};

/* One method of one path. Rows of one path stand together, in the order in
 * which Allow names them. */
struct api_route {
    const char *method;
    const char *path; /* A prefix when it ends in '/', else exact. */
    enum api_needs needs;
    unsigned flags;         /* enum api_route_flags. */
    api_prepare_fn prepare; /* NULL: nothing to check. */
    api_read_fn read;       /* All but API_WRITE. */
    api_write_fn write;     /* API_WRITE. */
    size_t body_limit;      /* 0: API_BODY_MAX. */
    /* An endpoint whose feature is not there (or is off): both functions are
     * NULL and this is its answer. */
    unsigned refusal_status;
    const char *refusal;
};

#define API_BODY_MAX ((size_t)768 * 1024)

/* ------------------------------------------------------------- request */

#define API_TYPE_JSON "application/json"
#define API_TYPE_TEXT "text/plain; charset=utf-8"

/* One query parameter, decoded; value is "" when there was no '='. */
struct api_param {
    const char *name;
    const char *value; /* NUL-terminated; may hold more NULs. */
    size_t value_len;
};

struct api_header {
    const char *name;
    const char *value;
};

#define API_HEADERS_MAX 6

/* The answer under construction. The core resets it before each evaluation. */
struct api_reply {
    unsigned status;  /* 200 unless set. */
    const char *type; /* Static. API_TYPE_JSON unless set; an empty body is
                         sent without a type. */
    uint64_t index;   /* X-Consul-Index; 0 is sent as 1. */
    const char *hash; /* API_HASH_BLOCK: the answer's hash. Request memory. */
    bool is_error;    /* api_error() made it: no index headers. */
    bool meta_failed; /* api_rpc_error() made it. */
    bool no_cache;    /* This answer must not be shared. */
    bool is_bytes;    /* An empty body keeps its type. */
    bool is_encoded;  /* The body is as it will be sent. Core only. */
    size_t n_headers;
    struct api_header headers[API_HEADERS_MAX];
};

enum api_mode { API_MODE_DEFAULT, API_MODE_STALE, API_MODE_CONSISTENT };

struct api_http; /* The core's own part of a request. */

struct api_request {
    struct mr_api *api;
    const struct mr_api_options
        *options; /* Agent's identity, kv, raft, host. */
    const struct api_route *route;
    const char *method;
    const char *path; /* Decoded. */
    const char *arg;  /* What follows a prefix route's path; "" for exact. */
    const char *raw_query; /* As sent, without '?'; "" when absent. */
    const struct api_param *params;
    size_t n_params;
    enum api_mode mode;
    bool pretty;
    uint64_t min_index; /* ?index=, 0: do not block. */
    struct mr_buf body; /* Owned by the request. */
    struct mr_buf cmd;  /* A write's command, for api_submit(). */
    struct api_reply reply;
    /* The endpoint's own, from prepare or write on; freed with state_free
     * (may be NULL) when the request ends. */
    void *state;
    void (*state_free)(void *state);
    struct api_http *http;
};

/* The value of the first parameter @name, or NULL when it is not there. */
const char *api_query(const struct api_request *req, const char *name);

/* Whether parameter @name is there, with whatever value. */
bool api_query_has(const struct api_request *req, const char *name);

/* The value of the request header @name (any case), or NULL. Valid until the
 * request ends. */
const char *api_request_header(const struct api_request *req, const char *name);

/* The node of the agent that the request came through: this one, or the one
 * without -server that passed it on. Valid until the request ends. */
const char *api_asker_node(const struct api_request *req);

/* Memory of @size bytes that lives as long as the request, aligned for any
 * type and not initialised; NULL when there is none. */
void *api_alloc(struct api_request *req, size_t size);

/* A copy of @len bytes with a NUL behind them, as api_alloc(). */
char *api_dup(struct api_request *req, const void *data, size_t len);

/* ------------------------------------------------------------- answering */

/* Answer with a text: `api_error(req, 400, "Missing service name")`. Replaces
 * what was rendered. No index headers: for errors found before the state is
 * asked. Returns false, for api_prepare_fn. */
bool api_error(struct api_request *req, unsigned status, const char *fmt, ...)
    MR_PRINTF(3, 4);

/* As api_error(), for an error that Consul's servers find (bad filter, unknown
 * datacenter): on API_META_ON_FAIL rows the answer carries X-Consul-Index: 1,
 * KnownLeader: false, LastContact: 0. */
bool api_rpc_error(struct api_request *req, unsigned status, const char *fmt,
                   ...) MR_PRINTF(3, 4);

/* Answer with the status and the text that belong to @err (api/status.c). */
void api_fail(struct api_request *req, enum mr_err err);

/* Add a header to the answer. @value is static or api_alloc()ed. */
void api_reply_header(struct api_request *req, const char *name,
                      const char *value);

/* Write handlers: 200 `true`. */
void api_reply_true(struct api_request *req);

/* Write handlers: 200 `false`. */
void api_reply_false(struct api_request *req);

/* Write handlers: 200 without a body. */
void api_reply_empty(struct api_request *req);

/* Write handlers: 200 with the JSON in @json, which is copied. Its sticky
 * failure becomes a 503. */
void api_reply_json(struct api_request *req, const struct mr_buf *json);

/* ------------------------------------------------------------- reading */

/* The read's answer changes with the topic (@kind, @name). One topic; call it
 * before any return. @name ("" for kinds without one) must live as long as the
 * request: req->arg or api_dup(). */
void api_depends(struct api_request *req, enum mr_kv_topic_kind kind,
                 const char *name);

/* A view of the local state in a write handler, for validation. It must end
 * before the handler returns, through mr_kv_view_end(). NULL after it answered
 * with an error: return then. */
struct mr_kv_view *api_view(struct api_request *req);

/* ------------------------------------------------------------- writing */

/* Get req->cmd (mr_kv_command_encode) committed. @done runs on a worker when it
 * has been applied; failures are answered by the core. A result that was
 * REFUSED is answered by the core as well, 500 with its text, unless @done
 * wants it: see api_submit_raw(). */
void api_submit(struct api_request *req, api_done_fn done);

/* As api_submit(), but @done also gets refused results. */
void api_submit_raw(struct api_request *req, api_done_fn done);

/* For api_submit(): answers `true`, or `false` on MR_KV_MISMATCH. */
void api_done_bool(struct api_request *req, const struct mr_kv_result *result);

/* For api_submit(): answers 200 without a body. */
void api_done_empty(struct api_request *req, const struct mr_kv_result *result);

/* ------------------------------------------------------------- waiting */

/* Leave the worker until api_async_done(req, ...) was called by whoever is
 * asked next; the handler returns right after asking. @resume then answers. */
void api_async_begin(struct api_request *req, api_resume_fn resume);

/* Complete what api_async_begin() announced; fits mr_api_host_cb and
 * mr_raft_change_cb with the request as argument. @text may be NULL; it is
 * copied. Once; any thread, also from within the asking call. */
void api_async_done(void *request, enum mr_err err, const char *text);

/* For api_async_begin(): 200 without a body, or 500 with the text. */
void api_resume_empty(struct api_request *req, enum mr_err err,
                      const char *text);

/* Whether the output of the check @check_id may be written although its status
 * stays. Counts it as written. */
bool api_may_write_output(struct api_request *req, const char *check_id);

/* ------------------------------------------------------------- parsing */

/* Parse a boolean as Go's strconv.ParseBool (1 t T TRUE true True ...).
 * MR_E_INVALID. */
MR_MUST_CHECK enum mr_err api_parse_bool(const char *text, bool *out_value);

/* Parse an unsigned decimal as Go's strconv.ParseUint(s, 10, 64). On failure
 * @detail gets Go's sentence: `strconv.ParseUint: parsing "x": invalid
 * syntax`. MR_E_INVALID. */
MR_MUST_CHECK enum mr_err api_parse_uint(const char *text, uint64_t *out_n,
                                         struct mr_detail *detail);

#endif /* API_HTTP_H */
