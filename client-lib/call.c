/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls: the order of events is told in call.h.
 *
 * What can go wrong, and what becomes of it:
 * - nobody is reached: MICROREG_E_CONNECT after UNREACHED_MS, because a server
 *   that restarts is back sooner than that; but each is tried twice, because the
 *   first packet of a connection may get lost;
 * - servers answer that they cannot (no leader): asked again until the deadline,
 *   then MICROREG_E_UNAVAILABLE;
 * - garbage: as if the server had failed, MICROREG_E_PROTOCOL if all do so;
 * - a request that must not be done twice was sent and has no good answer:
 *   MICROREG_E_TIMEOUT at once, and nobody else is asked.
 */
#include "call.h"

#include <string.h>

#include "transfer.h"

#define ATTEMPTS_MAX 3
#define IDLE_LINES_MAX 32 /* As many threads keep their connections. */
#define IDLE_BUFFER_MAX ((size_t)64 << 10)
#define ANSWER_MAX ((size_t)64 << 20)
#define UNREACHED_MS UINT64_C(1000)
#define PAUSE_MIN_MS UINT64_C(25)
#define PAUSE_MAX_MS UINT64_C(400)
#define CANCEL_POLL_MS UINT64_C(50)
#define QUOTE_MAX 160 /* Of what a server answered, in our error text. */

struct attempt {
    struct mrg_transfer t;
    struct mrg_text body;
    bool is_running;
    uint64_t started_ms;
    size_t server; /* Its place in servers->items. */
};

struct mrg_line {
    CURLM *multi;
    struct attempt attempts[ATTEMPTS_MAX];
    struct mrg_line *next;
};

/* One call on its way. */
struct run {
    struct microreg *client;
    struct mrg_call *call;
    struct mrg_servers *servers;
    struct mrg_line *line;
    unsigned char order[MRG_SERVERS_MAX];
    size_t n_tried; /* Of this round. */
    int n_running;
    int round;
    uint64_t started_ms;
    uint64_t deadline_ms;
    uint64_t hedge_ms; /* When the next is asked as well. */
    uint64_t pause_ms; /* Until when nobody is asked. */
    bool was_reached;  /* Some server has taken a request. */
    bool is_done;
    int err;                            /* Of the call, once it is done. */
    int worst;                          /* Of the attempts that failed. */
    const char *notes[MRG_SERVERS_MAX]; /* What became of each. */
};

/* ------------------------------------------------------------- lines */

static void free_line(struct mrg_line *line)
{
    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        mrg_transfer_deinit(&line->attempts[i].t);
        mrg_text_deinit(&line->attempts[i].body);
    }
    if (line->multi != NULL) {
        (void)curl_multi_cleanup(line->multi);
    }
    mrg_free(line);
}

void mrg_lines_free(struct mrg_line *lines)
{
    while (lines != NULL) {
        struct mrg_line *next = lines->next;

        free_line(lines);
        lines = next;
    }
}

/* A line that nobody uses, or a new one. NULL: no memory. */
static struct mrg_line *take_line(struct microreg *client)
{
    struct mrg_line *line;

    pthread_mutex_lock(&client->lock);
    line = client->lines;
    if (line != NULL) {
        client->lines = line->next;
        client->n_lines--;
    }
    pthread_mutex_unlock(&client->lock);
    if (line != NULL) {
        return line;
    }
    line = mrg_alloc(sizeof *line);
    if (line == NULL) {
        return NULL;
    }
    line->multi = curl_multi_init();
    if (line->multi == NULL) {
        mrg_free(line);
        return NULL;
    }
    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        line->attempts[i].body.limit = ANSWER_MAX;
    }
    return line;
}

static void give_line(struct microreg *client, struct mrg_line *line)
{
    pthread_mutex_lock(&client->lock);
    if (client->n_lines < IDLE_LINES_MAX) {
        line->next = client->lines;
        client->lines = line;
        client->n_lines++;
        line = NULL;
    }
    pthread_mutex_unlock(&client->lock);
    if (line != NULL) {
        free_line(line);
    }
}

/* ------------------------------------------------------------- results */

static void finish(struct run *run, int err)
{
    run->is_done = true;
    run->err = err;
}

/* How much a failure says about the whole; the greatest one is reported. */
static int weight(int err)
{
    switch (err) {
    case MICROREG_E_CONNECT:
        return 1;
    case MICROREG_E_DENIED:
        return 2;
    case MICROREG_E_PROTOCOL:
        return 3;
    case MICROREG_E_UNAVAILABLE:
        return 4;
    default:
        return 5;
    }
}

__attribute__((format(printf, 4, 5))) static void
note(struct run *run, size_t server, int err, const char *format, ...)
{
    struct mrg_text text = MRG_TEXT_INIT;
    va_list args;

    va_start(args, format);
    mrg_text_vprintf(&text, format, args);
    va_end(args);
    run->notes[server] =
        text.failed ? NULL
                    : mrg_arena_dup(&run->call->arena, text.data, text.len);
    mrg_text_deinit(&text);
    if (run->worst == MICROREG_OK || weight(err) > weight(run->worst)) {
        run->worst = err;
    }
}

/* The first line of what a server answered, for people. */
static int quote_length(const struct mrg_text *body)
{
    size_t len = body->len == 0 ? 0 : strcspn(body->data, "\r\n");

    if (len > QUOTE_MAX) {
        len = QUOTE_MAX;
    }
    while (len > 0 && !mrg_is_utf8(body->data, len)) {
        len--;
    }
    return (int)len;
}

static void note_answer(struct run *run, const struct attempt *a, int err)
{
    if (a->body.len == 0) {
        note(run, a->server, err, "answered %d", a->t.status);
    } else {
        note(run, a->server, err, "answered %d: %.*s", a->t.status,
             quote_length(&a->body), a->body.data);
    }
}

/* Whether a refusal says that the request has not been done. */
static bool was_not_done(const struct attempt *a)
{
    return a->t.status == 429 ||
           (a->body.len > 0 &&
            (strstr(a->body.data, "nothing was changed") != NULL ||
             strncmp(a->body.data, "No cluster leader", 17) == 0));
}

/* A server failed: the next one may be asked, unless the request may have been
 * done and must not be done twice. */
static void fail_attempt(struct run *run, struct attempt *a, bool may_be_done)
{
    mrg_server_failed(a->t.server, mrg_now_ms());
    if (run->call->repeat == MRG_ONCE && may_be_done) {
        finish(run, MICROREG_E_TIMEOUT);
    }
    run->hedge_ms = 0; /* The next one, now. */
}

/* Take the answer of @a as the call's. */
static void take_answer(struct run *run, struct attempt *a)
{
    struct mrg_call *call = run->call;

    call->status = a->t.status;
    call->index = a->t.index;
    call->fence = a->t.fence;
    mrg_text_deinit(&call->answer);
    call->answer = a->body;
    memset(&a->body, 0, sizeof a->body);
    a->body.limit = ANSWER_MAX;
    mrg_server_worked(a->t.server);
    finish(run, MICROREG_OK);
}

/* A 2xx, 404 or 409. False: it is garbage. */
static bool parse_answer(struct run *run, const struct attempt *a)
{
    struct mrg_call *call = run->call;
    int err = MICROREG_OK;

    call->json = NULL;
    if (a->body.len > 0) {
        err = mrg_json_parse(&call->arena, a->body.data, a->body.len,
                             &call->json, NULL);
    }
    if (err != MICROREG_OK) {
        call->json = NULL; /* Errors are told in plain words. */
    }
    if (call->is_answer != NULL) {
        return call->is_answer(a->t.status, call->json);
    }
    return a->t.status != 200 || call->json != NULL;
}

static void judge_answer(struct run *run, struct attempt *a)
{
    int status = a->t.status;

    run->was_reached = true;
    if ((status >= 200 && status < 300) || status == 404 || status == 409) {
        if (parse_answer(run, a)) {
            take_answer(run, a);
            return;
        }
        note(run, a->server, MICROREG_E_PROTOCOL,
             "answered %d, but not as a microreg server does: %.*s",
             a->t.status, quote_length(&a->body),
             a->body.len > 0 ? a->body.data : "");
        fail_attempt(run, a, true);
    } else if (status >= 500 || status == 429) {
        note_answer(run, a, MICROREG_E_UNAVAILABLE);
        fail_attempt(run, a, !was_not_done(a));
    } else if (status >= 400) {
        int err = status == 401 || status == 403 ? MICROREG_E_DENIED
                                                 : MICROREG_E_INVALID;

        note_answer(run, a, err);
        finish(run, err);
    } else {
        note_answer(run, a, MICROREG_E_PROTOCOL);
        fail_attempt(run, a, false); /* A redirection: nothing was done. */
    }
}

static void judge(struct run *run, struct attempt *a, CURLcode code)
{
    if (code == CURLE_OK) {
        judge_answer(run, a);
        return;
    }
    run->was_reached = run->was_reached || a->t.was_sent;
    if (a->body.failed && a->body.len < ANSWER_MAX / 2) {
        code = CURLE_OUT_OF_MEMORY; /* Else the answer was too large. */
    }
    note(run, a->server, mrg_transfer_error(&a->t, code), "%s",
         a->body.failed ? "answered more than 64 MiB"
                        : mrg_transfer_text(&a->t, code));
    if (code == CURLE_OUT_OF_MEMORY) {
        finish(run, MICROREG_E_NOMEM);
    } else {
        fail_attempt(run, a, a->t.was_sent);
    }
}

/* ------------------------------------------------------------- attempts */

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
    struct mrg_text *body = arg;

    mrg_text_add(body, bytes, size * n);
    return body->failed ? 0 : size * n;
}

static void stop_attempt(struct run *run, struct attempt *a)
{
    (void)curl_multi_remove_handle(run->line->multi, a->t.easy);
    a->is_running = false;
    run->n_running--;
}

/* Send the request to the next server of the round. */
static void start_attempt(struct run *run)
{
    const struct mrg_call *call = run->call;
    const struct mrg_request request = {call->method, call->path, call->body,
                                        call->body_len,
                                        call->repeat == MRG_ONCE};
    size_t server = run->order[run->n_tried];
    struct attempt *a = run->line->attempts;

    while (a->is_running) {
        a++;
    }
    if (mrg_transfer_init(&a->t, run->client, &run->servers->items[server],
                          &request) != MICROREG_OK) {
        finish(run, MICROREG_E_NOMEM);
        return;
    }
    a->server = server;
    mrg_text_clear(&a->body);
    mrg_transfer_body(&a->t, on_body, &a->body);
    if (curl_multi_add_handle(run->line->multi, a->t.easy) != CURLM_OK) {
        finish(run, MICROREG_E_NOMEM);
        return;
    }
    if (run->n_tried + (size_t)run->round > 0) {
        atomic_fetch_add(&run->client->stats.failovers, 1);
    }
    a->is_running = true;
    a->started_ms = mrg_now_ms();
    run->n_running++;
    run->n_tried++;
    run->hedge_ms =
        call->is_patient ? UINT64_MAX : a->started_ms + MRG_HEDGE_MS;
}

/* All attempts are silent, and there are servers that were not asked yet: the
 * one that was silent for longest makes room. */
static void leave_oldest(struct run *run, uint64_t now_ms)
{
    struct attempt *oldest = run->line->attempts;

    for (int i = 1; i < ATTEMPTS_MAX; i++) {
        if (run->line->attempts[i].started_ms < oldest->started_ms) {
            oldest = &run->line->attempts[i];
        }
    }
    run->was_reached = run->was_reached || oldest->t.was_sent;
    mrg_server_failed(oldest->t.server, now_ms);
    note(run, oldest->server,
         oldest->t.was_sent ? MICROREG_E_TIMEOUT : MICROREG_E_CONNECT,
         "no answer within %llu ms",
         (unsigned long long)(now_ms - oldest->started_ms));
    stop_attempt(run, oldest);
}

/* The one that runs has been silent for long. False: it cannot be left. */
static bool leave_silent(struct run *run, uint64_t now_ms)
{
    if (run->call->repeat == MRG_REPEATABLE) {
        if (run->n_running == ATTEMPTS_MAX) {
            leave_oldest(run, now_ms);
        }
        return true;
    }
    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        struct attempt *a = &run->line->attempts[i];

        if (!a->is_running) {
            continue;
        }
        mrg_server_failed(a->t.server, now_ms);
        if (a->t.was_sent) {
            return false;
        }
        note(run, a->server, MICROREG_E_CONNECT, "does not answer");
        stop_attempt(run, a);
    }
    return true;
}

/* Everybody failed: begin again after a moment. */
static void end_round(struct run *run, uint64_t now_ms)
{
    uint64_t pause = PAUSE_MIN_MS << (run->round < 4 ? run->round : 4);

    if (!run->was_reached && run->round > 0 &&
        now_ms - run->started_ms >= UNREACHED_MS) {
        finish(run, run->worst);
        return;
    }
    run->round++;
    run->n_tried = 0;
    run->pause_ms = now_ms + (pause < PAUSE_MAX_MS ? pause : PAUSE_MAX_MS);
    mrg_servers_order(run->servers, now_ms, run->order);
}

/* Start what is to be started now. */
static void advance(struct run *run, uint64_t now_ms)
{
    if (run->n_running == 0 && run->n_tried == run->servers->n) {
        end_round(run, now_ms);
    }
    if (run->is_done || now_ms < run->pause_ms ||
        run->n_tried == run->servers->n) {
        return;
    }
    if (run->n_running == 0) {
        start_attempt(run);
    } else if (now_ms >= run->hedge_ms) {
        run->hedge_ms = now_ms + MRG_HEDGE_MS;
        if (leave_silent(run, now_ms)) {
            start_attempt(run);
        }
    }
}

static bool is_canceled(const struct run *run)
{
    return run->call->cancel != NULL && atomic_load(run->call->cancel);
}

static uint64_t next_moment(const struct run *run, uint64_t now_ms)
{
    uint64_t start = run->n_running == 0 ? run->pause_ms : run->hedge_ms;
    uint64_t at = run->deadline_ms;

    if (run->call->cancel != NULL && now_ms + CANCEL_POLL_MS < at) {
        at = now_ms + CANCEL_POLL_MS;
    }
    if (run->n_tried < run->servers->n && start < at) {
        at = start;
    }
    return at;
}

/* Take what has ended. */
static void reap(struct run *run)
{
    int left;
    CURLMsg *message;

    while (!run->is_done &&
           (message = curl_multi_info_read(run->line->multi, &left)) != NULL) {
        struct attempt *a = run->line->attempts;
        CURLcode code = message->data.result;

        while (a->t.easy != message->easy_handle) {
            a++;
        }
        stop_attempt(run, a);
        judge(run, a, code);
    }
}

/* ------------------------------------------------------------- the call */

static void loop(struct run *run)
{
    while (!run->is_done) {
        uint64_t now_ms = mrg_now_ms();
        uint64_t at;
        int n_running;

        if (now_ms >= run->deadline_ms || is_canceled(run)) {
            finish(run, MICROREG_E_TIMEOUT);
            return;
        }
        advance(run, now_ms);
        if (run->is_done) {
            return;
        }
        (void)curl_multi_perform(run->line->multi, &n_running);
        reap(run);
        now_ms = mrg_now_ms();
        at = next_moment(run, now_ms);
        if (!run->is_done && at > now_ms &&
            (run->n_running > 0 || run->pause_ms > now_ms)) {
            (void)curl_multi_poll(run->line->multi, NULL, 0, (int)(at - now_ms),
                                  NULL);
        }
    }
}

/* The deadline is past: silent ones are to blame, else those that failed. */
static void settle_timeout(struct run *run)
{
    bool is_silent = false;

    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        struct attempt *a = &run->line->attempts[i];

        if (a->is_running) {
            is_silent = is_silent || a->t.was_sent;
            note(run, a->server,
                 a->t.was_sent ? MICROREG_E_TIMEOUT : MICROREG_E_CONNECT,
                 "no answer within %llu ms",
                 (unsigned long long)(run->deadline_ms - run->started_ms));
        }
    }
    if (!is_silent && run->worst != MICROREG_OK) {
        run->err = run->worst;
    }
}

static int report(struct run *run, struct microreg_error *out_error)
{
    struct mrg_text text = MRG_TEXT_INIT;
    const struct mrg_call *call = run->call;
    int err = run->err;

    if (err == MICROREG_OK) {
        return MICROREG_OK;
    }
    mrg_text_printf(&text, "%s %.*s:", call->method,
                    (int)strcspn(call->path, "?"), call->path);
    for (size_t i = 0; i < run->servers->n; i++) {
        if (run->notes[i] != NULL) {
            mrg_text_printf(&text, " %s: %s;", run->servers->items[i].name,
                            run->notes[i]);
        }
    }
    if (err == MICROREG_E_TIMEOUT && call->repeat == MRG_ONCE) {
        mrg_text_str(&text, " it may or may not have been done");
    } else if (text.len > 0) {
        text.data[text.len - 1] = '\0';
    }
    if (err == MICROREG_E_NOMEM || text.failed) {
        err = mrg_nomem(out_error);
    } else {
        (void)mrg_fail(out_error, err, "%s", text.data);
    }
    mrg_text_deinit(&text);
    return err;
}

int mrg_call_run(struct microreg *client, struct mrg_call *call,
                 struct microreg_error *out_error)
{
    struct run run = {.client = client, .call = call};
    int timeout_ms =
        call->timeout_ms > 0 ? call->timeout_ms : client->options.timeout_ms;
    int err;

    call->answer.limit = ANSWER_MAX;
    run.line = take_line(client);
    if (run.line == NULL) {
        return mrg_nomem(out_error);
    }
    run.servers = mrg_client_servers(client);
    run.started_ms = mrg_now_ms();
    run.deadline_ms = run.started_ms + (uint64_t)timeout_ms;
    mrg_servers_order(run.servers, run.started_ms, run.order);
    loop(&run);
    if (run.err == MICROREG_E_TIMEOUT) {
        settle_timeout(&run);
    }
    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        struct attempt *a = &run.line->attempts[i];

        if (a->is_running) {
            /* Silent, or slower than one that was asked later: not the first
             * to ask next time. */
            if (mrg_now_ms() >= a->started_ms + MRG_HEDGE_MS) {
                mrg_server_failed(a->t.server, mrg_now_ms());
            }
            stop_attempt(&run, a);
        }
        if (a->body.size > IDLE_BUFFER_MAX) {
            mrg_text_deinit(&a->body);
        }
        mrg_text_clear(&a->body);
    }
    err = report(&run, out_error);
    give_line(client, run.line);
    mrg_servers_unref(run.servers);
    return err;
}

void mrg_call_deinit(struct mrg_call *call)
{
    mrg_text_deinit(&call->answer);
    mrg_arena_deinit(&call->arena);
    call->json = NULL;
}
