/* SPDX-License-Identifier: Apache-2.0 */
/* The turns of the command lock: requests, signals, renewals. */
#include "server/lock.h"

#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define RENEW_RETRY_MS 1000
#define TURN_MAX_MS 10000

static uint64_t now(void)
{
    return mr_now_ms(mr_clock_system());
}

enum mr_err lock_loop_open(struct lock *lock)
{
    sigset_t mask;

    (void)sigemptyset(&mask);
    (void)sigaddset(&mask, SIGINT);
    (void)sigaddset(&mask, SIGTERM);
    (void)sigaddset(&mask, SIGHUP);
    (void)sigaddset(&mask, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &mask, &lock->old_mask) != 0) {
        return MR_E_IO;
    }
    lock->signals = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
    lock->multi = curl_multi_init();
    return lock->signals < 0     ? MR_E_IO
           : lock->multi == NULL ? MR_E_NOMEM
                                 : MR_OK;
}

static void end_renewal(struct lock *lock, CURLcode code);

void lock_loop_close(struct lock *lock)
{
    end_renewal(lock, CURLE_ABORTED_BY_CALLBACK);
    (void)curl_multi_cleanup(lock->multi);
    if (lock->signals >= 0) {
        (void)close(lock->signals);
    }
}

/* ------------------------------------------------------------- signals */

static void reap(struct lock *lock)
{
    if (lock->child != 0 &&
        waitpid(lock->child, &lock->child_status, WNOHANG) == lock->child) {
        lock->child = 0;
    }
}

static void read_signals(struct lock *lock)
{
    struct signalfd_siginfo info;

    while (read(lock->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD) {
            reap(lock);
        } else {
            lock->is_stopped = true;
        }
    }
}

/* ------------------------------------------------------------- renewing */

void lock_renew_from(struct lock *lock, uint64_t made_ms)
{
    lock->renewed_ms = made_ms;
    lock->renew_ms = made_ms + LOCK_TTL_MS / 3;
}

static void begin_renewal(struct lock *lock)
{
    struct mr_buf path = MR_BUF_INIT;

    mr_buf_printf(&path, "/v1/session/renew/%s", lock->session);
    lock->renewal =
        (struct server_request){.method = "PUT", .out = &lock->renewal_answer};
    lock->asked_ms = now();
    lock->is_renewing = true;
    if (server_request_begin(&lock->renewal, lock->cli, mr_buf_cstr(&path),
                             NULL, mr_slice(NULL, 0))) {
        (void)curl_easy_setopt(lock->renewal.curl, CURLOPT_TIMEOUT_MS,
                               (long)LOCK_TTL_MS / 3);
        (void)curl_multi_add_handle(lock->multi, lock->renewal.curl);
    } else {
        end_renewal(lock, CURLE_OUT_OF_MEMORY);
    }
    mr_buf_deinit(&path);
}

static void end_renewal(struct lock *lock, CURLcode code)
{
    if (!lock->is_renewing) {
        return;
    }
    lock->is_renewing = false;
    if (lock->renewal.curl != NULL) {
        (void)curl_multi_remove_handle(lock->multi, lock->renewal.curl);
    }
    if (server_request_end(&lock->renewal, code)) {
        lock_renew_from(lock, lock->asked_ms);
    } else if (lock->renewal_answer.status == 404) {
        lock->is_lost = true;
    } else {
        lock->renew_ms = now() + RENEW_RETRY_MS;
    }
    server_answer_deinit(&lock->renewal_answer);
}

/* When to give up: so that the child has ended when the session has. */
static uint64_t lost_ms(const struct lock *lock)
{
    return lock->renewed_ms + LOCK_TTL_MS - LOCK_GRACE_MS;
}

static bool wants_renewal(const struct lock *lock)
{
    return lock->session[0] != '\0' && !lock->is_last;
}

/* ------------------------------------------------------------- turns */

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return b != 0 && b < a ? b : a;
}

/* What to wait for at the longest, before @until_ms. */
static int wait_ms(const struct lock *lock, uint64_t until_ms)
{
    uint64_t at = now();
    uint64_t next = sooner(at + TURN_MAX_MS, until_ms);

    if (!lock->is_last) {
        next = sooner(next, lock->deadline_ms);
    }
    if (wants_renewal(lock)) {
        next = sooner(next, lost_ms(lock));
        next = lock->is_renewing ? next : sooner(next, lock->renew_ms);
    }
    return next <= at ? 0 : (int)(next - at);
}

/* Take note of what ended. Returns whether the request of @curl did, with
 * *@out_code. */
static bool take_ended(struct lock *lock, const CURL *curl, CURLcode *out_code)
{
    bool is_done = false;
    CURLMsg *msg;
    int n;

    (void)curl_multi_perform(lock->multi, &n);
    while ((msg = curl_multi_info_read(lock->multi, &n)) != NULL) {
        if (msg->easy_handle == curl) {
            *out_code = msg->data.result;
            is_done = true;
        } else if (lock->is_renewing &&
                   msg->easy_handle == lock->renewal.curl) {
            end_renewal(lock, msg->data.result);
        }
    }
    return is_done;
}

/* One turn, until @until_ms (0: as long as it takes) at the latest; returns as
 * take_ended(). */
static bool turn(struct lock *lock, const CURL *curl, uint64_t until_ms,
                 CURLcode *out_code)
{
    struct curl_waitfd extra = {lock->signals, CURL_WAIT_POLLIN, 0};
    bool is_done;

    if (wants_renewal(lock) && !lock->is_renewing && now() >= lock->renew_ms) {
        begin_renewal(lock);
    }
    is_done = take_ended(lock, curl, out_code);
    if (!is_done) {
        (void)curl_multi_poll(lock->multi, &extra, 1, wait_ms(lock, until_ms),
                              NULL);
        is_done = take_ended(lock, curl, out_code);
    }
    read_signals(lock);
    if (wants_renewal(lock) && now() >= lost_ms(lock)) {
        lock->is_lost = true;
    }
    return is_done;
}

static bool child_ended(const struct lock *lock)
{
    return lock->has_child && lock->child == 0;
}

bool lock_is_over(const struct lock *lock)
{
    return !lock->is_last &&
           (lock->is_stopped || lock->is_lost || child_ended(lock) ||
            (lock->deadline_ms != 0 && now() >= lock->deadline_ms));
}

bool lock_ask(struct lock *lock, const char *method, const char *path,
              const char *query, struct mr_slice body,
              struct server_answer *out)
{
    struct server_request r = {.method = method, .out = out};
    CURLcode code = CURLE_ABORTED_BY_CALLBACK;

    if (server_request_begin(&r, lock->cli, path, query, body)) {
        if (lock->is_last) {
            (void)curl_easy_setopt(r.curl, CURLOPT_TIMEOUT_MS,
                                   (long)LOCK_TTL_MS);
        }
        (void)curl_multi_add_handle(lock->multi, r.curl);
        while (!turn(lock, r.curl, 0, &code) && !lock_is_over(lock)) {
        }
        (void)curl_multi_remove_handle(lock->multi, r.curl);
    }
    return server_request_end(&r, code);
}

void lock_sleep(struct lock *lock, uint64_t ms)
{
    uint64_t until = now() + ms;
    CURLcode code;

    while (now() < until && !lock_is_over(lock) && !child_ended(lock)) {
        (void)turn(lock, NULL, until, &code);
    }
}
