/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads: input that all reads share, how fresh the state must be, evaluation,
 * blocking and the cache, in one place for every endpoint.
 *
 *  - options and prepare, then
 *  - freshness: `stale` goes on at once; `default` as well where this server
 *    leads, else it asks raft, as `consistent` always does;
 *  - evaluation from a view, or from the cache;
 *  - a blocking query whose index has not passed waits for its topic and is
 *    evaluated again; an answer as before is no reason to end the wait.
 *
 * The state only moves forward, so what was fresh enough when the request came
 * is so for every evaluation after it: waiting does not ask again.
 */
#include <string.h>

#include "api/cache.h"
#include "api/core.h"
#include "api/silence.h"
#include "base/hash.h"
#include "base/text.h"

/* "For ever" in X-Consul-LastContact: clients multiply it into nanoseconds of
 * 64 bits. */
#define LAST_CONTACT_MAX_MS ((uint64_t)1000 * 3600 * 24 * 365)

/* ------------------------------------------------------------- options */

/* ?stale, ?consistent, ?cached, ?max_stale. */
static bool parse_mode(struct api_http *x)
{
    struct api_request *req = &x->req;
    const char *max_stale = api_query(req, "max_stale");
    bool stale = api_query_has(req, "stale");
    bool consistent = api_query_has(req, "consistent");
    int64_t ns = 0;

    if (max_stale != NULL && max_stale[0] != '\0') {
        if (mr_duration_parse(max_stale, &ns, NULL) != MR_OK) {
            return api_error(req, 400, "Invalid max_stale value \"%s\"",
                             max_stale);
        }
        stale = true;
        x->max_stale_ms = ns > 0 ? (uint64_t)ns / 1000000 : 0;
    }
    if (stale && consistent) {
        return api_error(req, 400,
                         "Cannot specify ?stale with ?consistent, conflicting "
                         "semantics.");
    }
    if (consistent && api_query_has(req, "cached")) {
        return api_error(req, 400,
                         "Cannot specify ?cached with ?consistent, conflicting "
                         "semantics.");
    }
    x->tells_cache = (req->route->flags & API_AGENT_CACHE) != 0 &&
                     api_query_has(req, "cached");
    req->mode = stale        ? API_MODE_STALE
                : consistent ? API_MODE_CONSISTENT
                             : API_MODE_DEFAULT;
    return true;
}

/* ?wait and ?index. */
static bool parse_wait(struct api_http *x)
{
    struct api_request *req = &x->req;
    const char *wait = api_query(req, "wait");
    const char *index = api_query(req, "index");
    int64_t wait_ns = 0;

    if (wait != NULL && wait[0] != '\0' &&
        mr_duration_parse(wait, &wait_ns, NULL) != MR_OK) {
        return api_error(req, 400, "Invalid wait time");
    }
    if (index != NULL && index[0] != '\0' &&
        api_parse_uint(index, &req->min_index, NULL) != MR_OK) {
        return api_error(req, 400, "Invalid index");
    }
    x->wait_ms = wait_ns > 0 ? ((uint64_t)wait_ns + 999999) / 1000000
                             : req->options->default_query_time_ms;
    if (x->wait_ms > req->options->max_query_time_ms) {
        x->wait_ms = req->options->max_query_time_ms;
    }
    return true;
}

static bool parse_options(struct api_http *x)
{
    if (x->req.n_params == 0) {
        x->wait_ms = x->req.options->default_query_time_ms;
        return true;
    }
    return parse_mode(x) && parse_wait(x);
}

/* ------------------------------------------------------------- evaluating */

uint64_t api_answer_digest(const struct api_http *x)
{
    return mr_hash64(mr_buf_slice(api_out()), x->req.reply.status);
}

/* Whether an answer that is as before is no news even with a greater index: a
 * key that is not there has that of other keys, and a list is about less than
 * what its index counts. Of keys that are there every write is news. */
static bool may_stay_silent(const struct api_http *x)
{
    return (x->topic.kind != MR_KV_TOPIC_KEY &&
            x->topic.kind != MR_KV_TOPIC_PREFIX) ||
           x->req.reply.status == 404;
}

bool api_is_news(const struct api_http *x, uint64_t index, uint64_t digest)
{
    uint64_t min_index = x->req.min_index;

    if (min_index == 0 || x->is_timed_out) {
        return true;
    }
    return index > min_index && !(x->knows_answer && x->known_digest == digest);
}

/* Note what the client has: the answer to an index that the view has reached
 * and that nothing followed. */
static void note_known(struct api_http *x, uint64_t revision)
{
    x->knows_answer = revision >= x->req.min_index && may_stay_silent(x);
    x->known_digest = x->knows_answer ? api_answer_digest(x) : 0;
}

static bool wants_to_block(const struct api_http *x, uint64_t revision)
{
    const struct api_request *req = &x->req;
    const struct api_reply *reply = &req->reply;

    if (x->is_timed_out || reply->is_error || !x->topic.is_set) {
        return false;
    }
    if (req->route->flags & API_HASH_BLOCK) {
        const char *hash = api_query(req, "hash");

        return hash != NULL && reply->hash != NULL &&
               strcmp(hash, reply->hash) == 0;
    }
    return req->route->needs == API_READ && req->min_index > 0 &&
           (!api_is_news(x, reply->index,
                         x->knows_answer ? api_answer_digest(x) : 0) ||
            (!x->knows_answer && api_has_coarse_index(x) &&
             api_nothing_changed(x, &x->topic, revision)));
}

/* Render from a view. False: answered with an error. */
static bool render(struct api_http *x, uint64_t *out_revision)
{
    struct api_request *req = &x->req;
    struct mr_kv_view *view = NULL;
    enum mr_err err = MR_OK;

    *out_revision = 0;
    api_memory_release(x);
    api_reply_reset(req);
    if (req->route->needs != API_PLAIN) {
        err = mr_kv_view_begin(req->options->kv, &view);
        if (err == MR_OK) {
            *out_revision = mr_kv_view_revision(view);
        }
    }
    if (err == MR_OK) {
        err = req->route->read(req, view, api_out());
    }
    mr_kv_view_end(view);
    if (err == MR_OK && mr_buf_failed(api_out())) {
        err = MR_E_NOMEM;
    }
    if (err != MR_OK) {
        api_fail(req, err);
    }
    return err == MR_OK;
}

static enum api_step after_block(struct api_http *x);

static enum api_step evaluate(struct api_http *x)
{
    enum mr_err err = MR_OK;
    uint64_t revision;

    do {
        if (api_cache_get(x) || !render(x, &revision)) {
            return API_STEP_REPLY;
        }
        if (!wants_to_block(x, revision)) {
            api_cache_put(x, revision);
            return API_STEP_REPLY;
        }
        if (!x->knows_answer) {
            note_known(x, revision);
        }
        x->next = after_block;
        if (api_block(x, revision, &err)) {
            return API_STEP_WAIT;
        }
    } while (err == MR_OK);
    api_fail(&x->req, err);
    return API_STEP_REPLY;
}

static enum api_step after_block(struct api_http *x)
{
    api_unblock(x);
    if (atomic_load(&x->req.api->is_quiescing)) {
        api_fail(&x->req, MR_E_CANCELED);
        return API_STEP_REPLY;
    }
    return evaluate(x);
}

/* ------------------------------------------------------------- freshness */

static void on_raft_read(struct mr_raft_read *read, enum mr_err err)
{
    struct api_http *x = mr_container_of(read, struct api_http, op.read);

    x->op_err = err;
    api_wake_now(x);
}

static enum api_step after_raft_read(struct api_http *x)
{
    if (x->op_err != MR_OK) {
        api_fail(&x->req, x->op_err);
        return API_STEP_REPLY;
    }
    x->known_leader = true;
    x->last_contact_ms = 0;
    return evaluate(x);
}

/* Ask raft until when the local state has to be applied. */
static enum api_step ask_raft(struct api_http *x)
{
    api_wait_arm(x);
    x->next = after_raft_read;
    memset(&x->op.read, 0, sizeof x->op.read);
    x->op.read.mode = x->req.mode == API_MODE_CONSISTENT
                          ? MR_RAFT_READ_CONSISTENT
                          : MR_RAFT_READ_DEFAULT;
    x->op.read.done = on_raft_read;
    enum mr_err err = mr_raft_read(x->req.options->raft, &x->op.read);

    if (err != MR_OK) {
        api_wait_disarm(x);
        api_fail(&x->req, err);
        return API_STEP_REPLY;
    }
    return API_STEP_WAIT;
}

/* A stale read: any state that was committed once, unless it is older than the
 * client wants. */
static enum api_step read_stale(struct api_http *x)
{
    struct mr_raft_status status;

    mr_raft_status(x->req.options->raft, &status);
    if (!status.ever_had_leader) {
        api_fail(&x->req, MR_E_NOLEADER);
        return API_STEP_REPLY;
    }
    x->known_leader = status.has_leader;
    x->last_contact_ms = status.is_leader ? 0
                         : status.last_contact_ms > LAST_CONTACT_MAX_MS
                             ? LAST_CONTACT_MAX_MS
                             : status.last_contact_ms;
    if (x->max_stale_ms > 0 && x->last_contact_ms > x->max_stale_ms) {
        x->req.mode = API_MODE_DEFAULT;
        return ask_raft(x);
    }
    return evaluate(x);
}

enum api_step api_read_start(struct api_http *x)
{
    struct api_request *req = &x->req;

    if (!parse_options(x) ||
        (req->route->prepare != NULL && !req->route->prepare(req)) ||
        !api_check_dc(req)) {
        return API_STEP_REPLY;
    }
    api_memory_keep(x);
    if (req->route->needs != API_READ) {
        return evaluate(x);
    }
    if (req->mode == API_MODE_STALE) {
        return read_stale(x);
    }
    if (req->mode == API_MODE_DEFAULT &&
        mr_raft_may_read_local(req->options->raft)) {
        x->known_leader = true;
        return evaluate(x);
    }
    return ask_raft(x);
}
