/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Following watch streams (docs/watch.md), for the commands watch and
 * watch-verify: lines, topics, the loop and one stream.
 *
 *   bytes -> lines -> struct watch_line -> the command
 *   a stream that ends goes on, after its index, at another address
 *
 * One thread does everything: libcurl's multi interface on an epoll instance,
 * so a process follows thousands of streams.
 */
#ifndef MR_SERVER_WATCH_H
#define MR_SERVER_WATCH_H

#include <signal.h>

#include "base/list.h"
#include "server/cli.h"

/* A key's value may have 512 KiB, an object of the registry 1 MiB. */
#define WATCH_LINE_MAX ((size_t)8 << 20)

/* ---- watch_line.c ---- */

enum watch_action {
    WATCH_CREATE,
    WATCH_UPDATE,
    WATCH_DELETE,
    WATCH_RESET,
    WATCH_SYNCED,
    WATCH_PROGRESS
};

struct watch_line {
    uint64_t index;
    enum watch_action action;
    bool more;
    json_t *object; /* Owned; NULL unless create, update or delete. */
};

/* What has come of a stream and is no whole line yet. */
struct watch_lines {
    struct mr_buf rest;
};

/* Return false to stop. */
typedef bool (*watch_lines_cb)(void *arg, struct mr_slice line);

/* Hand out the lines that @data completes, without their ends; empty ones are
 * left out. False: @cb stopped, a line is too long, or no memory. */
bool watch_lines_feed(struct watch_lines *lines, struct mr_slice data,
                      watch_lines_cb cb, void *arg);

/* Release it. It can be used again. */
void watch_lines_deinit(struct watch_lines *lines);

/* Parse a line; release *@out with watch_line_deinit(). MR_E_INVALID: it is
 * not what docs/watch.md says; @why. */
MR_MUST_CHECK enum mr_err watch_line_parse(struct mr_slice text,
                                           struct watch_line *out,
                                           struct mr_detail *why);

/* Release the object. */
void watch_line_deinit(struct watch_line *line);

/* "create" and so on: static. */
const char *watch_action_name(enum watch_action action);

/* ---- watch_topic.c ---- */

enum watch_kind {
    WATCH_KEY,
    WATCH_KEYPREFIX,
    WATCH_SERVICES,
    WATCH_SERVICE,
    WATCH_NODES,
    WATCH_CHECKS,
    WATCH_REGISTRY
};

/* What a stream is about. Texts are borrowed. */
struct watch_topic {
    enum watch_kind kind;
    const char *const *names; /* One key, prefix, service; of the registry any
                                 number of services. */
    size_t n_names;
    bool passing;        /* SERVICE: only instances that pass. */
    const char *state;   /* CHECKS: only in this state, or NULL. */
    const char *service; /* CHECKS: only of this service, or NULL. */
};

/* A request: path and query as server_request_begin() takes them; with a body
 * it is a POST. */
struct watch_request {
    struct mr_buf path;
    struct mr_buf query;
    struct mr_buf body;
};

/* Find the kind called @name; false: there is none. */
bool watch_kind_find(const char *name, enum watch_kind *out_kind);

/* "service" and so on: static. */
const char *watch_kind_name(enum watch_kind kind);

/* The stream of @topic after @index (0: with a snapshot). */
void watch_topic_stream(const struct watch_topic *topic, uint64_t index,
                        struct watch_request *out);

/* The read whose answer is the state of @topic. */
void watch_topic_read(const struct watch_topic *topic,
                      struct watch_request *out);

/* Release it. */
void watch_request_deinit(struct watch_request *request);

/* Append what tells an object of @kind from the others. */
void watch_object_id(enum watch_kind kind, const json_t *object,
                     struct mr_buf *out);

/* Append a few words about an object of @kind, for people. */
void watch_object_describe(enum watch_kind kind, const json_t *object,
                           struct mr_buf *out);

/* Called with each object; it is borrowed. */
typedef void (*watch_object_cb)(void *arg, json_t *object);

/* Hand out the objects, as streams have them, in the answer to a read of
 * @kind. */
void watch_read_objects(enum watch_kind kind, json_t *answer,
                        watch_object_cb cb, void *arg);

/* ---- watch_loop.c ---- */

struct watch_loop {
    CURLM *multi;
    int epoll;
    int signals;           /* signalfd, or -1. */
    sigset_t old_mask;     /* For children. */
    uint64_t timer_ms;     /* When libcurl wants a turn; 0: not. */
    uint64_t now_ms;       /* At the begin of this turn. */
    bool is_stopped;       /* By SIGINT, SIGTERM or SIGHUP. */
    bool is_child_ended;   /* A SIGCHLD came; for whoever has children. */
    struct mr_list calls;  /* Under way. */
    struct mr_list failed; /* Never began; their owners are told soon. */
};

struct watch_call;

/* The end of a call, which may be started again, or freed. @answer is borrowed;
 * when it is not a good one, answer->error says why. */
typedef void (*watch_done_cb)(struct watch_call *call, bool is_ok,
                              struct server_answer *answer);

/* One request of the loop. */
struct watch_call {
    /* Set by the owner. */
    void (*on_data)(struct watch_call *call, struct mr_slice data); /* Of a
        200; NULL: it is collected in answer.body. */
    watch_done_cb on_done;
    bool is_stopping; /* Set by on_data(), it ends the call. */
    /* The loop's. */
    struct watch_loop *loop;
    struct server_request request;
    struct server_answer answer;
    struct mr_buf body;
    struct mr_list link;
    bool is_under_way;
};

/* Open it; SIGINT, SIGTERM, SIGHUP and SIGCHLD come to the loop from here on.
 * MR_E_IO, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err watch_loop_open(struct watch_loop *loop);

/* Cancel what is under way, without a word to the owners, and close. */
void watch_loop_close(struct watch_loop *loop);

/* Wait for something to do, until @until_ms at the latest, and do it. */
void watch_loop_turn(struct watch_loop *loop, uint64_t until_ms);

/* Ask the server of @cli. on_done() comes from a later turn. What @request
 * holds is copied. @method is static. */
void watch_call_start(struct watch_call *call, struct watch_loop *loop,
                      const struct server_cli *cli, const char *method,
                      struct watch_request *request);

/* End it, without on_done(). No-op when it is not under way. */
void watch_call_cancel(struct watch_call *call);

/* Stop reading, or go on: the server's buffers fill. */
void watch_call_pause(struct watch_call *call, bool is_paused);

/* ---- watch_stream.c ---- */

struct watch_stream;

/* A line came. False: it is a breach of the protocol, and the stream begins
 * anew. */
typedef bool (*watch_stream_cb)(struct watch_stream *stream,
                                struct watch_line *line, struct mr_slice text);

/* Something about the connection, @why for people. */
typedef void (*watch_stream_note_cb)(struct watch_stream *stream,
                                     const char *why);

struct watch_stream {
    /* Set by the owner. */
    struct watch_loop *loop;
    struct server_cli cli; /* http_addr is the stream's. */
    const struct server_list *addresses;
    const struct watch_topic *topic;
    uint64_t index;       /* Complete up to here; 0: nothing yet. */
    uint64_t silent_ms;   /* Who says nothing for so long is left. */
    const char *progress; /* ?progress=, or NULL. */
    watch_stream_cb on_line;
    watch_stream_note_cb on_begin; /* Answered; @why is the address. */
    watch_stream_note_cb on_end;   /* NULL, or why: goes on elsewhere. */
    void *owner;
    /* Its own. */
    struct watch_call call;
    struct watch_lines lines;
    size_t at;         /* Which address. */
    unsigned n_failed; /* In a row. */
    uint64_t heard_ms; /* When data came last. */
    uint64_t retry_ms; /* When to connect again; 0: is connected. */
    bool is_answered;
    bool is_refused;      /* The request itself is wrong (4xx). */
    bool is_broken;       /* A line was wrong. */
    struct mr_detail why; /* Of the last end. */
};

/* Connect to address number @at. */
void watch_stream_start(struct watch_stream *stream, size_t at);

/* Connect again when it is time, leave who is silent. Call it often. */
void watch_stream_tick(struct watch_stream *stream);

/* Leave the server and go on at address number @at. */
void watch_stream_move(struct watch_stream *stream, size_t at);

/* End it. */
void watch_stream_stop(struct watch_stream *stream);

#endif /* MR_SERVER_WATCH_H */
