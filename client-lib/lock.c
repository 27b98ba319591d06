/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks: keys that a session holds.
 *
 * - Ask for the lock. It is ours: the answer has the fencing number.
 * - It is another's: wait with a blocking query until the key changes, or a moment
 *   when nobody holds it (a lock delay runs), and ask again.
 * - An answer is lost: ask again. Who holds a lock already and asks for it again
 *   gets the same number, so nothing is lost by that.
 */
#include <string.h>

#include "kv.h"
#include "session.h"

#define WAIT_MS UINT64_C(5000)   /* Of one blocking query. */
#define ANSWER_MS UINT64_C(1000) /* And how much later it may be answered. */
#define DELAY_POLL_MS UINT64_C(200)

struct locking {
    struct microreg *client;
    struct microreg_session *session;
    const char *key;
    uint64_t deadline_ms;
    struct microreg_error *error;
};

/* What is left until the deadline, at most @most. */
static int time_left(const struct locking *l, uint64_t most)
{
    uint64_t now_ms = mrg_now_ms();
    uint64_t left = l->deadline_ms > now_ms ? l->deadline_ms - now_ms : 0;

    return (int)(left < most ? left : most);
}

/* How long a request may take: what is left, but enough for an answer. */
static int answer_time(const struct locking *l)
{
    uint64_t most = (uint64_t)l->client->options.timeout_ms;
    uint64_t left = (uint64_t)time_left(l, most);
    uint64_t least = most < ANSWER_MS ? most : ANSWER_MS;

    return (int)(left > least ? left : least);
}

/* Ask once. MICROREG_E_REFUSED: not now. */
static int acquire(struct locking *l, uint64_t *out_fence)
{
    struct mrg_text path = MRG_TEXT_INIT;
    struct mrg_call call = {.method = "PUT",
                            .repeat = MRG_REPEATABLE,
                            .timeout_ms = answer_time(l)};
    int err = mrg_key_path(&path, l->key, l->error);

    mrg_text_printf(&path, "?acquire=%s", l->session->id);
    if (err == MICROREG_OK && path.failed) {
        err = mrg_nomem(l->error);
    }
    if (err == MICROREG_OK) {
        call.path = path.data;
        err = mrg_call_run(l->client, &call, l->error);
    }
    if (err == MICROREG_OK &&
        (call.json == NULL || call.json->type != MRG_JSON_TRUE)) {
        err = mrg_fail(l->error, MICROREG_E_REFUSED,
                       "lock %.200s is held by another session", l->key);
    } else if (err == MICROREG_OK && call.fence == 0) {
        err = mrg_fail(l->error, MICROREG_E_PROTOCOL,
                       "the server gave no fencing number: is it microreg?");
    } else if (err == MICROREG_OK) {
        *out_fence = call.fence;
    }
    mrg_call_deinit(&call);
    mrg_text_deinit(&path);
    return err;
}

/* Wait until the key is other than at *@index, which goes on. */
static void wait_for_change(struct locking *l, uint64_t *index, bool *out_held)
{
    struct mrg_text path = MRG_TEXT_INIT;
    struct mrg_call call = {.method = "GET", .is_patient = *index != 0};
    uint64_t wait_ms = (uint64_t)time_left(l, WAIT_MS);

    *out_held = false;
    if (mrg_key_path(&path, l->key, NULL) == MICROREG_OK) {
        mrg_text_printf(&path, "?index=%llu&wait=%llums",
                        (unsigned long long)*index,
                        (unsigned long long)wait_ms);
    }
    if (!path.failed) {
        call.path = path.data;
        call.timeout_ms = (int)(wait_ms + ANSWER_MS);
        *index = 0;
        if (mrg_call_run(l->client, &call, NULL) == MICROREG_OK) {
            const struct mrg_json *key =
                call.json != NULL ? call.json->child : NULL;

            *index = call.index;
            *out_held = mrg_json_str(mrg_json_get(key, "Session"))[0] != '\0';
        }
    }
    mrg_call_deinit(&call);
    mrg_text_deinit(&path);
}

/* Nobody holds it, and it is refused all the same: a delay runs. */
static void wait_a_moment(struct locking *l)
{
    pthread_cond_t never;
    pthread_mutex_t *lock = &l->client->lock;
    uint64_t until_ms = mrg_now_ms() + (uint64_t)time_left(l, DELAY_POLL_MS);

    if (mrg_cond_init(&never) != MICROREG_OK) {
        return;
    }
    pthread_mutex_lock(lock);
    while (mrg_cond_wait_until(&never, lock, until_ms)) {
    }
    pthread_mutex_unlock(lock);
    (void)pthread_cond_destroy(&never);
}

/* What came of a try that failed. MICROREG_OK: go on trying. */
static int check_failure(struct locking *l, int err)
{
    if (!microreg_session_alive(l->session)) {
        return mrg_fail(l->error, MICROREG_E_NOTFOUND, "session %s has ended",
                        l->session->id);
    }
    bool may_pass = err == MICROREG_E_REFUSED || err == MICROREG_E_TIMEOUT ||
                    err == MICROREG_E_UNAVAILABLE || err == MICROREG_E_CONNECT;

    return may_pass && mrg_now_ms() < l->deadline_ms ? MICROREG_OK : err;
}

int microreg_lock(struct microreg_session *session, const char *key,
                  int timeout_ms, uint64_t *out_fence,
                  struct microreg_error *out_error)
{
    struct locking l = {session->client, session, key,
                        timeout_ms < 0 ? UINT64_MAX
                                       : mrg_now_ms() + (uint64_t)timeout_ms,
                        out_error};
    uint64_t index = 0;
    bool was_held = true;

    if (key[0] == '\0') {
        return mrg_fail(out_error, MICROREG_E_INVALID, "the key is missing");
    }
    for (;;) {
        int err = acquire(&l, out_fence);

        if (err == MICROREG_OK) {
            return MICROREG_OK;
        }
        err = check_failure(&l, err);
        if (err != MICROREG_OK) {
            return err;
        }
        if (!was_held) {
            wait_a_moment(&l);
        }
        if (was_held || index == 0) {
            wait_for_change(&l, &index, &was_held);
        }
        was_held = was_held && index != 0;
    }
}

int microreg_unlock(struct microreg_session *session, const char *key,
                    struct microreg_error *out_error)
{
    struct mrg_text path = MRG_TEXT_INIT;
    struct mrg_call call = {.method = "PUT"};
    int err = mrg_key_path(&path, key, out_error);

    mrg_text_printf(&path, "?release=%s", session->id);
    if (err == MICROREG_OK && path.failed) {
        err = mrg_nomem(out_error);
    }
    if (err == MICROREG_OK) {
        call.path = path.data;
        err = mrg_kv_write(session->client, &call, out_error);
    }
    mrg_call_deinit(&call);
    mrg_text_deinit(&path);
    return err;
}
