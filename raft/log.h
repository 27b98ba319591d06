/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log thread: runs requests against the stored log, one synchronous commit
 * for all that have come while the one before was running.
 *
 * Threads: requests are submitted by the core thread and run by the log thread;
 * their ends arrive, in order, in the queue given at open.
 */
#ifndef RAFT_LOG_H
#define RAFT_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/queue.h"
#include "raft/logdb.h"

struct raftlog;
struct raftlog_req;

typedef void (*raftlog_cb)(struct raftlog_req *req);

enum raftlog_kind {
    RAFTLOG_WRITE, /* Part of the next commit. */
    RAFTLOG_FREE,  /* Likewise, and goes first when the disk is full. */
    RAFTLOG_READ   /* Runs after the commit of all that came before it. */
};

/* Embedded by the caller and kept until done is called. */
struct raftlog_req {
    struct mr_list link; /* The first member, so a queue holds requests. */
    enum raftlog_kind kind;
    /* The work. Log thread, inside a transaction unless it reads. It may run
     * again when the commit failed for want of space, so it must not change
     * what it was given. */
    void (*run)(struct raftlog_req *req, struct logdb *db);
    raftlog_cb done; /* For whoever takes the queue of the ended. */
    enum mr_err err; /* MR_OK, or what a read met. */
};

struct raftlog_options {
    const char *dir; /* The server's raft folder: lock, reserve, log/. */
    const char *node_id;
    uint64_t new_id;
    size_t map_bytes;       /* As logdb_options. */
    size_t reserve_bytes;   /* Held back for a full disk; 0: default. */
    bool must_exist;        /* Likewise. */
    struct mr_queue *ended; /* Where requests go when they are done. */
    /* The log cannot go on. Log thread; no request ends after it. */
    void (*on_fatal)(void *arg, enum mr_err err, const char *why);
    /* The disk became full, or has room again. Log thread. */
    void (*on_full)(void *arg, bool is_full);
    void *arg;
};

/* Lock the folder, open and check the log in it. No thread runs yet, so the
 * caller may use raftlog_db(). Errors as logdb_open(), and
 * MR_E_INUSE: another process has the folder. */
MR_MUST_CHECK enum mr_err raftlog_open(const struct raftlog_options *options,
                                       struct raftlog **out_log,
                                       struct mr_detail *detail);

/* The stored log. Only before raftlog_start() and in requests. */
struct logdb *raftlog_db(struct raftlog *log);

/* Start the thread. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err raftlog_start(struct raftlog *log);

/* Have the log thread run @req. Core thread. */
void raftlog_submit(struct raftlog *log, struct raftlog_req *req);

/* Run what was submitted, then end the thread and close; NULL is a no-op. The
 * ended requests are in the queue afterwards. */
void raftlog_close(struct raftlog *log);

/* Synchronous commits so far. Any thread. */
uint64_t raftlog_syncs(const struct raftlog *log);

/* Bytes of the entries in the log. Any thread. */
uint64_t raftlog_bytes(const struct raftlog *log);

#endif /* RAFT_LOG_H */
