/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command lock: a session, a key and a child process.
 *
 * One thread does everything in turns: requests (libcurl's multi interface),
 * signals (a signalfd, also for the child's end) and the session's renewal,
 * which goes on beside whatever else is asked.
 *
 *   acquire -> run the child, watching the lock -> end the child -> release
 *
 * Without a renewal for TTL less the child's grace the lock counts as lost:
 * the child is gone before anybody else can have it.
 */
#ifndef MR_SERVER_LOCK_H
#define MR_SERVER_LOCK_H

#include <signal.h>
#include <sys/types.h>

#include "server/cli.h"

#define LOCK_SESSION_LEN 36
#define LOCK_TTL_MS 15000
#define LOCK_GRACE_MS 5000

struct lock {
    const struct server_cli *cli;
    const char *prefix;
    uint64_t limit;        /* Above 1: a semaphore. */
    uint64_t deadline_ms;  /* For acquiring; 0: none. */
    uint64_t retries;      /* -monitor-retry. */
    struct mr_buf key;     /* Of the lock, or of our entry of the semaphore. */
    struct mr_buf command; /* What the child is, in one text. */
    char session[LOCK_SESSION_LEN + 1]; /* "" when there is none. */
    uint64_t fence;
    /* The loop's. */
    CURLM *multi;
    int signals;
    sigset_t old_mask;
    bool is_stopped; /* By SIGINT, SIGTERM or SIGHUP. */
    bool is_lost;
    bool is_last; /* Releasing: nothing interrupts any more. */
    bool is_renewing;
    struct server_request renewal;
    struct server_answer renewal_answer;
    uint64_t asked_ms;   /* When the renewal on its way was sent. */
    uint64_t renewed_ms; /* When the last one that succeeded was sent. */
    uint64_t renew_ms;   /* When to send the next one. */
    bool has_child;      /* It was started. */
    pid_t child;         /* 0: none, or it ended. */
    bool has_group;      /* The child leads a group of its own. */
    int child_status;    /* As waitpid() tells it. */
};

/* ---- lock_loop.c ---- */

/* Get ready: the signals come to the loop from here on. MR_E_NOMEM, MR_E_IO. */
MR_MUST_CHECK enum mr_err lock_loop_open(struct lock *lock);

/* Undo it. */
void lock_loop_close(struct lock *lock);

/* Whether to go on makes no sense: stopped, lost, late, or the child ended. */
bool lock_is_over(const struct lock *lock);

/* Ask a server and wait for the answer; the parameters are those of
 * server_cli_request(). False also when lock_is_over() came in between. */
bool lock_ask(struct lock *lock, const char *method, const char *path,
              const char *query, struct mr_slice body,
              struct server_answer *out);

/* Let @ms pass, or less when lock_is_over() or the child ends. */
void lock_sleep(struct lock *lock, uint64_t ms);

/* Begin to renew a session made at @made_ms. */
void lock_renew_from(struct lock *lock, uint64_t made_ms);

/* ---- lock_child.c ---- */

/* Start the child. False: said why. */
bool lock_child_start(struct lock *lock);

/* End the child: SIGTERM, and SIGKILL when it does not care. */
void lock_child_end(struct lock *lock);

/* ---- lock_key.c: a lock for one ---- */

/* Wait until the lock is ours. MR_E_CANCELED: lock_is_over(); others: @why says
 * what is wrong. */
MR_MUST_CHECK enum mr_err lock_key_take(struct lock *lock,
                                        struct mr_detail *why);

/* Watch the lock until lock_is_over(). */
void lock_key_watch(struct lock *lock);

/* Give it back. MR_OK, or said why not in @why. */
MR_MUST_CHECK enum mr_err lock_key_give(struct lock *lock,
                                        struct mr_detail *why);

/* Remove the key when nobody wants it. MR_E_BUSY: somebody does. */
MR_MUST_CHECK enum mr_err lock_key_clean(struct lock *lock,
                                         struct mr_detail *why);

/* ---- lock_semaphore.c: the same for many ---- */

/* As lock_key_take(). */
MR_MUST_CHECK enum mr_err lock_semaphore_take(struct lock *lock,
                                              struct mr_detail *why);
/* As lock_key_watch(). */
void lock_semaphore_watch(struct lock *lock);
/* As lock_key_give(). */
MR_MUST_CHECK enum mr_err lock_semaphore_give(struct lock *lock,
                                              struct mr_detail *why);
/* As lock_key_clean(). */
MR_MUST_CHECK enum mr_err lock_semaphore_clean(struct lock *lock,
                                               struct mr_detail *why);

/* ---- both ---- */

/* Append the path of @key in /v1/kv. */
void lock_path(const char *key, struct mr_buf *out);

/* GET @key with @query and decode it, numbers as reals (flags need 64 bits). An
 * absent key is an empty array; NULL: out->error says why. */
json_t *lock_get(struct lock *lock, const char *key, const char *query,
                 struct server_answer *out);

/* Send a write of @key with @query and @value. MR_OK: the answer is `true`, and
 * lock->fence is what came with it, if anything; MR_E_EXISTS: it is `false`;
 * MR_E_IO: @why says what failed; MR_E_CANCELED: lock_is_over(). */
MR_MUST_CHECK enum mr_err lock_write(struct lock *lock, const char *method,
                                     const char *key, const char *query,
                                     struct mr_slice value,
                                     struct mr_detail *why);

/* Remove @key if @entry of it is still its newest. MR_E_BUSY: it is not. */
MR_MUST_CHECK enum mr_err lock_remove(struct lock *lock, const char *key,
                                      const json_t *entry,
                                      struct mr_detail *why);

/* A number of an entry that fits a double. */
uint64_t lock_number(const json_t *entry, const char *name);

#endif /* MR_SERVER_LOCK_H */
