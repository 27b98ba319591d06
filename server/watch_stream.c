/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One stream: it connects, hands out lines, and goes on at the next address
 * after its index when the connection ends or nothing is heard any more.
 */
#include "server/watch.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define RETRY_FIRST_MS 50U
#define RETRY_MAX_MS 5000U

static struct watch_stream *stream_of(struct watch_call *call)
{
    return mr_container_of(call, struct watch_stream, call);
}

/* ------------------------------------------------------------- lines */

static bool on_text(void *arg, struct mr_slice text)
{
    struct watch_stream *s = arg;
    struct watch_line line = {0};
    bool is_good = watch_line_parse(text, &line, &s->why) == MR_OK;

    if (is_good) {
        is_good = s->on_line(s, &line, text);
        if (is_good && !line.more) {
            s->index = line.index;
        }
        watch_line_deinit(&line);
    }
    s->is_broken = !is_good;
    return is_good;
}

static void on_data(struct watch_call *call, struct mr_slice data)
{
    struct watch_stream *s = stream_of(call);

    s->heard_ms = call->loop->now_ms;
    if (!s->is_answered) {
        s->is_answered = true;
        s->n_failed = 0;
        s->on_begin(s, s->cli.http_addr);
    }
    if (!watch_lines_feed(&s->lines, data, on_text, s)) {
        if (!s->is_broken) {
            (void)mr_fail(&s->why, MR_E_TOOBIG, "a line is longer than %zu",
                          WATCH_LINE_MAX);
        }
        call->is_stopping = true;
    }
}

/* ------------------------------------------------------------- connecting */

/* Wait before the next attempt only when all addresses were tried in vain. */
static uint64_t pause_ms(const struct watch_stream *s)
{
    unsigned rounds = s->n_failed / (unsigned)s->addresses->n;
    uint64_t ms = RETRY_FIRST_MS;

    while (rounds-- > 0 && ms < RETRY_MAX_MS) {
        ms *= 2;
    }
    return ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS;
}

static void plan(struct watch_stream *s, size_t at)
{
    watch_lines_deinit(&s->lines);
    s->at = at % s->addresses->n;
    s->retry_ms = s->loop->now_ms + pause_ms(s);
}

static void on_done(struct watch_call *call, bool is_ok,
                    struct server_answer *answer)
{
    struct watch_stream *s = stream_of(call);

    s->n_failed++;
    s->is_refused = answer->status >= 400 && answer->status < 500;
    if (!call->is_stopping) {
        (void)mr_fail(&s->why, MR_E_IO, "%s",
                      is_ok ? "the server ended the stream" : answer->error);
    }
    plan(s, s->at + 1);
    s->on_end(s, s->why.text);
}

static void connect_now(struct watch_stream *s)
{
    struct watch_request request;

    s->cli.http_addr = s->addresses->items[s->at];
    s->heard_ms = s->loop->now_ms;
    s->retry_ms = 0;
    s->is_answered = false;
    s->is_broken = false;
    s->call.on_data = on_data;
    s->call.on_done = on_done;
    watch_topic_stream(s->topic, s->index, &request);
    server_cli_param(&request.query, "progress", s->progress);
    watch_call_start(&s->call, s->loop, &s->cli,
                     request.body.len > 0 ? "POST" : "GET", &request);
    watch_request_deinit(&request);
}

void watch_stream_start(struct watch_stream *stream, size_t at)
{
    stream->at = at % stream->addresses->n;
    connect_now(stream);
}

void watch_stream_tick(struct watch_stream *stream)
{
    uint64_t now_ms = stream->loop->now_ms;

    if (stream->retry_ms != 0) {
        if (now_ms >= stream->retry_ms) {
            connect_now(stream);
        }
    } else if (now_ms - stream->heard_ms > stream->silent_ms) {
        watch_stream_stop(stream);
        stream->n_failed++;
        (void)mr_fail(&stream->why, MR_E_TIMEOUT, "nothing heard for %llu ms",
                      (unsigned long long)stream->silent_ms);
        plan(stream, stream->at + 1);
        stream->on_end(stream, stream->why.text);
    }
}

void watch_stream_move(struct watch_stream *stream, size_t at)
{
    watch_stream_stop(stream);
    plan(stream, at);
}

void watch_stream_stop(struct watch_stream *stream)
{
    watch_call_cancel(&stream->call);
    watch_lines_deinit(&stream->lines);
}
