/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocking queries and reads of watch-verify: what they answer must be the state
 * that the streams tell, and they must wake for a change and for nothing else.
 *
 * An answer may come before the streams have told its index, so what it claims
 * is kept until the log reaches there.
 */
#include "server/verify.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"

#define WAIT "10s"
#define WAIT_MS 10000
#define READ_MS 500 /* Between two answers. */

/* Streams and queries may be so far apart. */
#define SLACK_MS 5000
#define CLAIMS_MAX 1000

/* An answer that comes sooner ended no wait. */
#define AT_ONCE_MS 1000

/* "The state at until is this, and something changed since after." */
struct claim {
    struct mr_list link;
    uint64_t after; /* 0: nothing is said of changes. */
    uint64_t until;
    uint64_t state;
    const char *address;
    bool is_read;
};

static void complain(struct verify_query *q, const struct claim *claim,
                     const char *what, const struct mr_detail *why)
{
    bool is_read = claim != NULL ? claim->is_read : q->is_read;

    verify_breach(
        q->v, "%s of %s at %s: %s: %s", is_read ? "read" : "blocking query",
        mr_buf_cstr(&q->subject->name),
        claim != NULL ? claim->address : q->cli.http_addr, what, why->text);
}

/* ------------------------------------------------------------- claims */

/* Whether it could be judged. */
static bool judge(struct verify_query *q, const struct claim *claim)
{
    const struct verify_log *log = &q->subject->log;
    struct mr_detail why = {""};
    enum verify_verdict verdict =
        verify_log_check(log, claim->until, claim->state, &why);

    if (verdict == VERIFY_UNKNOWN) {
        /* What was before the first stream began nobody will tell. */
        return log->n_spans > 0 && claim->until < log->spans[0]->base;
    }
    if (verdict == VERIFY_BREACH) {
        complain(q, claim, "wrong state", &why);
    }
    q->v->figures.states++;
    if (claim->after == 0 || log->is_filtered) {
        return true;
    }
    verdict = verify_log_changed(log, claim->after, claim->until, &why);
    if (verdict == VERIFY_BREACH) {
        complain(q, claim, "woken for nothing", &why);
    }
    return true;
}

static void drop(struct verify_query *q, struct claim *claim)
{
    mr_list_remove(&claim->link);
    mr_free(claim);
    q->n_claims--;
}

static void judge_claims(struct verify_query *q)
{
    struct mr_list *next;

    for (struct mr_list *at = q->claims.next; at != &q->claims; at = next) {
        struct claim *claim = mr_container_of(at, struct claim, link);

        next = at->next;
        if (judge(q, claim)) {
            drop(q, claim);
        }
    }
    while (q->n_claims > CLAIMS_MAX) {
        q->v->figures.unknown++;
        drop(q, mr_container_of(q->claims.next, struct claim, link));
    }
}

static void keep(struct verify_query *q, const struct claim *claim)
{
    struct claim *copy = mr_malloc(sizeof *copy);

    if (copy == NULL) {
        q->v->figures.unknown++;
        return;
    }
    *copy = *claim;
    mr_list_init(&copy->link);
    mr_list_push(&q->claims, &copy->link);
    q->n_claims++;
}

/* ------------------------------------------------------------- answers */

/* Whether the query was answered because its time was over. */
static bool has_waited(const struct verify_query *q)
{
    return q->v->loop.now_ms - q->asked_ms + 100 >= WAIT_MS;
}

/* A blocking query was answered because its time was over. */
static void judge_silence(struct verify_query *q)
{
    const struct verify_entry *next =
        verify_log_next(&q->subject->log, q->index);
    uint64_t now_ms = q->v->loop.now_ms;
    struct mr_detail why = {""};

    q->v->figures.quiet++;
    if (next != NULL && next->ms + SLACK_MS < now_ms &&
        !q->subject->log.is_filtered) {
        (void)mr_fail(&why, MR_E_CORRUPT,
                      "asked after %" PRIu64 ", index %" PRIu64
                      " was known %" PRIu64 " ms ago",
                      q->index, next->index, now_ms - next->ms);
        complain(q, NULL, "not woken for a change", &why);
    }
}

/* A blocking query was answered with the index that it had. */
static void take_same(struct verify_query *q, uint64_t state)
{
    struct mr_detail why = {""};

    judge_silence(q);
    if (!has_waited(q)) {
        (void)mr_fail(&why, MR_E_CORRUPT,
                      "index %" PRIu64 " again after %" PRIu64 " ms of " WAIT,
                      q->index, q->v->loop.now_ms - q->asked_ms);
        complain(q, NULL, "woken for nothing", &why);
    }
    if (state != q->state) {
        (void)mr_fail(&why, MR_E_CORRUPT, "index %" PRIu64 " as before",
                      q->index);
        complain(q, NULL, "another state", &why);
    }
}

/* A blocking query was answered with a greater index. */
static void take_greater(struct verify_query *q, struct claim *claim)
{
    if (has_waited(q)) {
        judge_silence(q); /* That of a key that is not there moves. */
        claim->after = 0;
        return;
    }
    q->v->figures.wakes += q->index != 0;
    if (q->v->loop.now_ms - q->asked_ms < AT_ONCE_MS &&
        verify_may_forget(q->v, q->cli.http_addr, q->index)) {
        claim->after = 0; /* It did not wait: the server cannot know. */
    }
}

static void take(struct verify_query *q, uint64_t index, uint64_t state)
{
    struct claim claim = {.after = q->index,
                          .until = index,
                          .state = state,
                          .address = q->cli.http_addr};
    struct mr_detail why = {""};

    claim.is_read = q->is_read;
    if (q->is_read) {
        claim.after = 0;
    } else if (index < q->index) {
        (void)mr_fail(&why, MR_E_CORRUPT, "%" PRIu64 " after %" PRIu64, index,
                      q->index);
        complain(q, NULL, "the index goes backwards", &why);
    } else if (index == q->index) {
        take_same(q, state);
        return;
    } else {
        take_greater(q, &claim);
    }
    if (!judge(q, &claim)) {
        keep(q, &claim);
    }
    if (!q->is_read) {
        q->index = index;
        q->state = state;
    }
}

static void on_done(struct watch_call *call, bool is_ok,
                    struct server_answer *answer)
{
    struct verify_query *q = mr_container_of(call, struct verify_query, call);
    bool is_absent = answer->status == 404 && answer->index != 0;
    struct mr_detail why = {""};
    uint64_t state = 0;

    q->next_ms = q->v->loop.now_ms + (q->is_read ? 0 : READ_MS);
    if (!is_ok && !is_absent) {
        q->v->figures.failed++;
        verify_lost(q->v, q->cli.http_addr);
        return;
    }
    if (is_ok) {
        state = verify_answer_state(q->subject->topic.kind,
                                    mr_buf_slice(&answer->body), &is_ok);
    }
    if ((!is_ok && !is_absent) || answer->index == 0) {
        (void)mr_fail(&why, MR_E_CORRUPT, "status %ld", answer->status);
        complain(q, NULL, "no JSON, or no X-Consul-Index", &why);
        return;
    }
    take(q, answer->index, state);
}

/* ------------------------------------------------------------- asking */

static void ask(struct verify_query *q)
{
    static const char *const modes[] = {"stale", "consistent", ""};
    struct verify *v = q->v;
    struct watch_request request;

    /* A read and a blocking query in turn. */
    q->is_read = !q->is_read;
    q->cli.http_addr = v->addresses.items[verify_random(v, v->addresses.n)];
    watch_topic_read(&q->subject->topic, &request);
    if (q->is_read) {
        mr_buf_printf(&request.query, "%s%s", request.query.len > 0 ? "&" : "",
                      modes[verify_random(v, MR_ARRAY_LEN(modes))]);
    } else if (q->index > 0) {
        mr_buf_printf(&request.query, "%sindex=%" PRIu64 "&wait=" WAIT,
                      request.query.len > 0 ? "&" : "", q->index);
    }
    q->asked_ms = v->loop.now_ms;
    q->next_ms = 0;
    q->call.on_done = on_done;
    watch_call_start(&q->call, &v->loop, &q->cli, "GET", &request);
    watch_request_deinit(&request);
}

void verify_query_start(struct verify_query *q, struct verify *v,
                        struct verify_subject *subject)
{
    q->v = v;
    q->subject = subject;
    q->cli = *v->cli;
    q->cli.stale = false;
    mr_list_init(&q->claims);
    ask(q);
}

void verify_query_tick(struct verify_query *q)
{
    uint64_t now_ms = q->v->loop.now_ms;

    judge_claims(q);
    if (q->next_ms != 0) {
        if (now_ms >= q->next_ms && !q->v->is_closing) {
            ask(q);
        }
    } else if (now_ms - q->asked_ms > (uint64_t)2 * WAIT_MS) {
        watch_call_cancel(&q->call);
        q->v->figures.failed++;
        q->next_ms = now_ms;
    }
}

void verify_query_stop(struct verify_query *q)
{
    watch_call_cancel(&q->call);
    judge_claims(q);
    while (!mr_list_empty(&q->claims)) {
        q->v->figures.unknown++;
        drop(q, mr_container_of(q->claims.next, struct claim, link));
    }
}
