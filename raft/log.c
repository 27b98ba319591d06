/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log thread.
 *
 * - Requests that have come since the last commit are run in one transaction
 *   and end together when it is on the disk: while one commit runs, the next
 *   gathers. Reads among them run behind the commit.
 * - Disk full: the reserve, a file of some megabytes beside the log, is given
 *   up, so that votes, and the compaction that will free space, still find
 *   room; the owner is told and refuses new commands. If even that is used up,
 *   requests that free space run alone, and the others wait and are tried
 *   again; nothing is reported as stored before it is.
 * - When the reserve can be made again there is room, and the owner is told.
 * - Any other failure ends the log: the owner is told once, and no request
 *   ends after it.
 */
#include "raft/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define RESERVE_BYTES ((size_t)16 << 20)
#define RETRY_MS 250 /* Between tries while the disk is full. */
#define STACK_BYTES ((size_t)256 << 10)

struct raftlog {
    struct logdb *db;
    struct raftlog_options options;
    char dir[3072];
    char reserve[3104]; /* The reserve's path. */
    int lock_fd;
    struct mr_queue queue;
    pthread_t thread;
    bool is_running;
    /* Log thread only. */
    bool is_full; /* The reserve is given up. */
    bool is_dead;
    /* Any thread. */
    _Atomic uint64_t syncs;
    _Atomic uint64_t bytes;
};

/* ------------------------------------------------------------- reserve */

/* Make the reserve; false when the disk has no room for it. */
static bool make_reserve(struct raftlog *log)
{
    size_t bytes = log->options.reserve_bytes;
    int fd = open(log->reserve, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    bool made;

    if (fd < 0) {
        return false;
    }
    made = posix_fallocate(fd, 0, (off_t)bytes) == 0;
    (void)close(fd); /* Holds no data. */
    if (!made) {
        (void)unlink(log->reserve); /* Part of it would only take room. */
    }
    return made;
}

/* Give up the reserve and tell. */
static void become_full(struct raftlog *log)
{
    if (log->is_full) {
        return;
    }
    log->is_full = true;
    (void)unlink(log->reserve); /* If it is not there, so be it. */
    mr_log_error("raft",
                 "no space left for the log, refusing writes dir=\"%s\"",
                 log->dir);
    log->options.on_full(log->options.arg, true);
}

static void try_recover_space(struct raftlog *log)
{
    if (log->is_full && make_reserve(log)) {
        log->is_full = false;
        mr_log_info("raft", "there is space for the log again");
        log->options.on_full(log->options.arg, false);
    }
}

/* ------------------------------------------------------------- commits */

static struct raftlog_req *req_of(struct mr_list *link)
{
    return mr_container_of(link, struct raftlog_req, link);
}

static void end(struct raftlog *log, struct raftlog_req *req)
{
    mr_list_remove(&req->link);
    /* The queue of the ended has no bound and outlives the log. */
    mr_assert(mr_queue_push(log->options.ended, &req->link) == MR_OK);
}

static void die(struct raftlog *log, enum mr_err err)
{
    char why[160];

    log->is_dead = true;
    (void)snprintf(why, sizeof why, "writing the raft log failed: %s",
                   mr_strerror(err));
    log->options.on_fatal(log->options.arg, err, why);
}

/* Run the requests of @batch that write (@only_free: those that free space) in
 * one transaction. */
static enum mr_err commit(struct raftlog *log, struct mr_list *batch,
                          bool only_free)
{
    struct mr_list *at;
    size_t n = 0;
    enum mr_err err = logdb_begin(log->db);

    if (err != MR_OK) {
        return err;
    }
    MR_LIST_FOREACH(at, batch)
    {
        struct raftlog_req *req = req_of(at);

        if (req->kind == RAFTLOG_FREE ||
            (!only_free && req->kind == RAFTLOG_WRITE)) {
            req->err = MR_OK;
            req->run(req, log->db);
            n++;
        }
    }
    err = logdb_commit(log->db);
    if (err == MR_OK && n != 0) {
        atomic_fetch_add_explicit(&log->syncs, 1, memory_order_relaxed);
        atomic_store_explicit(&log->bytes, logdb_state(log->db)->bytes,
                              memory_order_relaxed);
    }
    return err;
}

static bool has_kind(const struct mr_list *batch, enum raftlog_kind kind)
{
    struct mr_list *at;

    MR_LIST_FOREACH(at, batch)
    {
        if (req_of(at)->kind == kind) {
            return true;
        }
    }
    return false;
}

/* End the requests of @batch, or only those that free space. */
static void end_all(struct raftlog *log, struct mr_list *batch, bool only_free)
{
    struct mr_list *at = batch->next;

    while (at != batch) {
        struct raftlog_req *req = req_of(at);

        at = at->next;
        if (only_free && req->kind != RAFTLOG_FREE) {
            continue;
        }
        if (req->kind == RAFTLOG_READ) {
            req->err = MR_OK;
            req->run(req, log->db);
        }
        end(log, req);
    }
}

static void sleep_ms(unsigned ms)
{
    struct timespec ts = {0, (long)ms * 1000000};

    (void)nanosleep(&ts, NULL); /* Woken early: we look again earlier. */
}

/* The disk is full: free what can be freed and gather what came meanwhile. */
static enum mr_err wait_for_space(struct raftlog *log, struct mr_list *batch)
{
    struct mr_list more;

    if (has_kind(batch, RAFTLOG_FREE)) {
        enum mr_err err = commit(log, batch, true);

        if (err == MR_OK) {
            end_all(log, batch, true);
            err = logdb_touch(log->db);
        }
        if (err != MR_OK && err != MR_E_NOSPACE) {
            return err;
        }
    }
    sleep_ms(RETRY_MS);
    if (mr_queue_take(&log->queue, &more) != 0) {
        mr_list_move(batch, &more);
    }
    return MR_OK;
}

static bool is_closed(struct raftlog *log)
{
    bool closed;

    mr_assert(pthread_mutex_lock(&log->queue.lock) == 0);
    closed = log->queue.closed;
    mr_assert(pthread_mutex_unlock(&log->queue.lock) == 0);
    return closed;
}

/* Bring @batch to the disk, however long it takes. */
static void write_batch(struct raftlog *log, struct mr_list *batch)
{
    enum mr_err err = commit(log, batch, false);

    if (err == MR_E_NOSPACE) {
        become_full(log);
        err = commit(log, batch, false);
    }
    while (err == MR_E_NOSPACE && !is_closed(log)) {
        err = wait_for_space(log, batch);
        if (err == MR_OK) {
            err = commit(log, batch, false);
        }
    }
    if (err != MR_OK) {
        die(log, err);
        return;
    }
    end_all(log, batch, false);
}

static void *run(void *arg)
{
    struct raftlog *log = arg;
    struct mr_list batch;

    while (mr_queue_wait(&log->queue, &batch) != 0) {
        if (log->is_dead) {
            continue; /* Never ended: what they wanted has not happened. */
        }
        if (has_kind(&batch, RAFTLOG_WRITE) || has_kind(&batch, RAFTLOG_FREE)) {
            write_batch(log, &batch);
        } else {
            end_all(log, &batch, false);
        }
        try_recover_space(log);
    }
    return NULL;
}

/* ------------------------------------------------------------- life */

static enum mr_err lock_dir(struct raftlog *log, struct mr_detail *detail)
{
    char path[3104];

    if (mkdir(log->dir, 0700) != 0 && errno != EEXIST) {
        return mr_fail(detail, errno == ENOSPC ? MR_E_NOSPACE : MR_E_IO,
                       "cannot create %s: %s", log->dir, strerror(errno));
    }
    (void)snprintf(path, sizeof path, "%s/lock", log->dir);
    log->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (log->lock_fd < 0) {
        return mr_fail(detail, errno == ENOSPC ? MR_E_NOSPACE : MR_E_IO,
                       "cannot open %s: %s", path, strerror(errno));
    }
    if (flock(log->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return mr_fail(detail, MR_E_INUSE,
                       "the data folder %s is used by another process",
                       log->dir);
    }
    return MR_OK;
}

enum mr_err raftlog_open(const struct raftlog_options *options,
                         struct raftlog **out_log, struct mr_detail *detail)
{
    struct raftlog *log = mr_calloc(1, sizeof *log);
    struct logdb_options db = {NULL, options->node_id, options->new_id,
                               options->map_bytes, options->must_exist};
    char path[3104];
    enum mr_err err;

    if (log == NULL) {
        return MR_E_NOMEM;
    }
    log->options = *options;
    if (log->options.reserve_bytes == 0) {
        log->options.reserve_bytes = RESERVE_BYTES;
    }
    log->lock_fd = -1;
    mr_queue_init(&log->queue, 0, NULL, NULL);
    if (strlen(options->dir) >= sizeof log->dir) {
        err = mr_fail(detail, MR_E_INVALID, "the path %s is too long",
                      options->dir);
        goto err_after_new;
    }
    memcpy(log->dir, options->dir, strlen(options->dir) + 1);
    (void)snprintf(log->reserve, sizeof log->reserve, "%s/reserve", log->dir);
    (void)snprintf(path, sizeof path, "%s/log", log->dir);
    db.dir = path;
    err = lock_dir(log, detail);
    if (err == MR_OK) {
        err = logdb_open(&db, &log->db, detail);
    }
    if (err == MR_E_NOSPACE && unlink(log->reserve) == 0) {
        err = logdb_open(&db, &log->db, detail); /* What it is there for. */
    }
    if (err != MR_OK) {
        goto err_after_new;
    }
    log->bytes = logdb_state(log->db)->bytes;
    *out_log = log;
    return MR_OK;

err_after_new:
    raftlog_close(log);
    return err;
}

struct logdb *raftlog_db(struct raftlog *log)
{
    return log->db;
}

enum mr_err raftlog_start(struct raftlog *log)
{
    pthread_attr_t attr;
    int rc;

    if (!make_reserve(log)) {
        become_full(log);
    }
    mr_assert(pthread_attr_init(&attr) == 0);
    mr_assert(pthread_attr_setstacksize(&attr, STACK_BYTES) == 0);
    rc = pthread_create(&log->thread, &attr, run, log);
    mr_assert(pthread_attr_destroy(&attr) == 0);
    log->is_running = rc == 0;
    return rc == 0 ? MR_OK : MR_E_NOMEM;
}

void raftlog_submit(struct raftlog *log, struct raftlog_req *req)
{
    mr_list_init(&req->link);
    /* Refused only after close, and then nobody submits any more. */
    mr_assert(mr_queue_push(&log->queue, &req->link) == MR_OK);
}

void raftlog_close(struct raftlog *log)
{
    struct mr_list rest;

    if (log == NULL) {
        return;
    }
    mr_queue_close(&log->queue);
    if (log->is_running) {
        mr_assert(pthread_join(log->thread, NULL) == 0);
    }
    (void)mr_queue_take(&log->queue, &rest); /* Empty unless it never ran. */
    mr_queue_deinit(&log->queue);
    logdb_close(log->db);
    if (log->lock_fd >= 0) {
        (void)close(log->lock_fd); /* Gives the folder free. */
    }
    mr_free(log);
}

uint64_t raftlog_syncs(const struct raftlog *log)
{
    return atomic_load_explicit(&log->syncs, memory_order_relaxed);
}

uint64_t raftlog_bytes(const struct raftlog *log)
{
    return atomic_load_explicit(&log->bytes, memory_order_relaxed);
}
