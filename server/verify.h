/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch-verify: many streams beside the store, and proof that each tells what
 * docs/watch.md promises.
 *
 * All streams of one topic tell the same story, so there is one log for each
 * topic: what is known to have happened, and in which spans of indexes it is
 * known that nothing else did. Whatever a stream says either extends the log or
 * must be in it, word for word; a snapshot, a read and the answer of a blocking
 * query must be the state that the log has at their index.
 */
#ifndef MR_SERVER_VERIFY_H
#define MR_SERVER_VERIFY_H

#include "server/watch.h"

/* ---- verify_object.c ---- */

/* The hash of an object as reads and streams have in common: without
 * ModifyIndex, but for keys. 0: no memory. */
uint64_t verify_object_hash(enum watch_kind kind, const json_t *object);

/* Whether two objects of one ID say the same, but for ModifyIndex. */
bool verify_object_same(enum watch_kind kind, const json_t *a, const json_t *b);

/* Whether the indexes in @object can be those of a change at @index. */
bool verify_object_dated(enum watch_kind kind, enum watch_action action,
                         const json_t *object, uint64_t index);

/* The state that the answer to a read is: the sum of its objects' hashes. */
uint64_t verify_answer_state(enum watch_kind kind, struct mr_slice body,
                             bool *out_ok);

/* ---- verify_log.c ---- */

/* One index at which something changed. */
struct verify_entry {
    uint64_t index;
    uint64_t text;  /* Hash of its lines, as the first stream told them. */
    uint64_t state; /* After it. */
    uint64_t ms;    /* When it was first told. */
};

/* All that happened in (base, tip]. */
struct verify_span {
    uint64_t base;
    uint64_t tip;
    uint64_t base_state;
    uint64_t state; /* At the tip. */
    json_t *model;  /* At the tip: ID -> object. */
    struct verify_entry *entries;
    size_t n_entries;
    size_t cap_entries;
};

struct verify_change;

/* Something new is in the log. False: @why it cannot be. */
typedef bool (*verify_news_cb)(void *arg, const struct verify_change *change,
                               struct mr_detail *why);

struct verify_log {
    enum watch_kind kind;
    bool is_filtered;       /* After a delete the object is as it is now. */
    verify_news_cb on_news; /* Or NULL. */
    void *arg;
    struct verify_span **spans; /* Ascending, apart from each other. */
    size_t n_spans;
};

/* What a stream told of one index, whole. */
struct verify_event {
    enum watch_action action;
    json_t *object;
};

struct verify_change {
    uint64_t index;
    uint64_t text;
    uint64_t now_ms;
    const struct verify_event *events;
    size_t n_events;
};

enum verify_verdict {
    VERIFY_GOOD,
    VERIFY_BREACH,  /* Said in why. */
    VERIFY_UNKNOWN, /* The log does not reach there (yet). */
    VERIFY_NOMEM
};

/* Release all that it holds. */
void verify_log_deinit(struct verify_log *log);

/* A snapshot: at @index there are the objects of @model (ID -> object), which is
 * taken. */
enum verify_verdict verify_log_snapshot(struct verify_log *log, uint64_t index,
                                        json_t *model, struct mr_detail *why);

/* Somebody who knew all up to @after was told @change next. *@out_first_ms is
 * when it was told first. */
enum verify_verdict verify_log_change(struct verify_log *log, uint64_t after,
                                      const struct verify_change *change,
                                      uint64_t *out_first_ms,
                                      struct mr_detail *why);

/* Somebody who knew all up to @after was told that nothing changed up to
 * @until. */
enum verify_verdict verify_log_quiet(struct verify_log *log, uint64_t after,
                                     uint64_t until, struct mr_detail *why);

/* The state at @index is said to be @state. */
enum verify_verdict verify_log_check(const struct verify_log *log,
                                     uint64_t index, uint64_t state,
                                     struct mr_detail *why);

/* Whether anything changed in (@after, @until]: GOOD or BREACH. */
enum verify_verdict verify_log_changed(const struct verify_log *log,
                                       uint64_t after, uint64_t until,
                                       struct mr_detail *why);

/* The first change that is known after @after, or NULL. */
const struct verify_entry *verify_log_next(const struct verify_log *log,
                                           uint64_t after);

/* The index up to which something is known; 0: nothing. */
uint64_t verify_log_tip(const struct verify_log *log);

/* ---- cli_verify.c ---- */

#define VERIFY_DELAY_MAX_MS 10000
#define VERIFY_PROGRESS "2s"
#define VERIFY_SILENT_MS 6000

struct verify_figures {
    uint64_t changes; /* Told, over all streams. */
    uint64_t lines;
    uint64_t snapshots;
    uint64_t resets;
    uint64_t marks; /* Progress. */
    uint64_t connects;
    uint64_t losses;  /* Streams that ended though nobody asked. */
    uint64_t wakes;   /* Blocking queries answered with a change. */
    uint64_t quiet;   /* And without one, when their time was over. */
    uint64_t failed;  /* Requests without an answer. */
    uint64_t states;  /* Reads and wakes compared with the log. */
    uint64_t unknown; /* Those that could not be: the log has a gap there. */
    uint64_t written; /* Changes of our own that were acknowledged. */
    uint64_t unsure;  /* And those without an answer. */
    uint64_t breaches;
    uint32_t delays[VERIFY_DELAY_MAX_MS + 1]; /* After the first stream. */
};

struct verify_writer;

/* One topic: its log, and who compares the store with it. */
struct verify_subject {
    struct watch_topic topic;
    struct mr_buf name; /* As in -topic. */
    char **names;       /* topic.names, owned. */
    struct verify_log log;
    bool has_reads; /* There is a read whose answer is its state. */
};

struct verify {
    const struct server_cli *cli;
    struct watch_loop loop;
    struct server_list addresses;
    struct verify_subject *subjects;
    size_t n_subjects;
    struct verify_stream *streams;
    size_t n_streams;
    struct verify_query *queries;
    size_t n_queries;
    struct verify_writer *writer;   /* NULL: none. */
    struct verify_subject *witness; /* Is told our writes; NULL: nobody is. */
    struct verify_figures figures;
    uint64_t *floors; /* By address: the last index when it was lost last. */
    uint64_t move_ms; /* 0: never. */
    uint64_t random;
    uint64_t rate;
    size_t n_slow;
    bool is_ending;  /* Nothing is written any more. */
    bool is_closing; /* And nothing asked. */
};

/* A random number below @limit, which is not 0. */
uint64_t verify_random(struct verify *v, uint64_t limit);

/* About @ms: between half of it and one and a half. */
uint64_t verify_about(struct verify *v, uint64_t ms);

/* The server at @address, one of v->addresses, does not answer: it may have
 * forgotten what was before. */
void verify_lost(struct verify *v, const char *address);

/* Whether the server at @address may have forgotten what followed @index. */
bool verify_may_forget(const struct verify *v, const char *address,
                       uint64_t index);

/* Count and print a breach. */
void verify_breach(struct verify *v, const char *fmt, ...) MR_PRINTF(2, 3);

/* ---- verify_stream.c ---- */

struct verify_stream {
    struct watch_stream stream;
    struct verify *v;
    struct verify_subject *subject;
    size_t number;
    bool is_slow;
    bool is_snapshot;            /* Being told. */
    bool was_more;               /* The last line had it. */
    bool was_said;               /* What is wrong with the last line. */
    uint64_t at_index;           /* Of the lines being collected. */
    json_t *model;               /* Of a snapshot being told. */
    struct verify_event *events; /* Of a change being told. */
    size_t n_events;
    size_t cap_events;
    uint64_t text;
    uint64_t begun_ms; /* Connected since. */
    uint64_t move_ms;  /* When to go elsewhere; 0: never. */
    uint64_t pause_ms; /* When a slow one stops or goes on. */
    bool is_paused;
};

/* Begin to follow @subject. */
void verify_stream_start(struct verify_stream *s, struct verify *v,
                         struct verify_subject *subject);

/* Reconnect, move, pause, complain about what is not told. Call it often. */
void verify_stream_tick(struct verify_stream *s);

/* End it. */
void verify_stream_stop(struct verify_stream *s);

/* ---- verify_query.c ---- */

/* One who asks the store: a blocking query, and plain reads in between. */
struct verify_query {
    struct watch_call call;
    struct verify *v;
    struct verify_subject *subject;
    struct server_cli cli;
    bool is_read;   /* The one under way does not wait. */
    uint64_t index; /* Of the last answer; 0: none. */
    uint64_t state; /* And its state. */
    uint64_t asked_ms;
    uint64_t next_ms;      /* When to ask; 0: is asking. */
    struct mr_list claims; /* What could not be judged yet. */
    size_t n_claims;
};

/* Begin to ask about @subject. */
void verify_query_start(struct verify_query *q, struct verify *v,
                        struct verify_subject *subject);

/* Ask again, judge what waited. Call it often. */
void verify_query_tick(struct verify_query *q);

/* End it; what could not be judged is counted. */
void verify_query_stop(struct verify_query *q);

/* ---- verify_write.c ---- */

#define VERIFY_WRITE_PREFIX "watch-verify/"

/* Begin to make v->rate changes a second. NULL: no memory. */
struct verify_writer *verify_writer_start(struct verify *v);

/* Send what is due. Call it often. */
void verify_writer_tick(struct verify_writer *w);

/* Whether no write is under way any more. */
bool verify_writer_idle(const struct verify_writer *w);

/* Look whether a change in the log is one of ours. */
bool verify_writer_told(struct verify_writer *w,
                        const struct verify_change *change,
                        struct mr_detail *why);

/* Complain about acknowledged writes that nobody was told of. When the log has
 * a gap nothing can be said. */
void verify_writer_check(struct verify_writer *w);

/* Take away what was written, and release it. NULL is a no-op. */
void verify_writer_stop(struct verify_writer *w);

#endif /* MR_SERVER_VERIFY_H */
