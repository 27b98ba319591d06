/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that keeps registrations and sessions alive; keep.h has the story. */
#include "keep.h"

#include <string.h>

#include "session.h"

#define BATCH_MAX 500
#define EARLY_MS UINT64_C(50) /* What is due so soon goes along. */
#define RENEW_RETRY_MIN_MS UINT64_C(100)
#define RENEW_RETRY_MAX_MS UINT64_C(1000)

struct mrg_keeper *mrg_keeper_get(struct microreg *client)
{
    struct mrg_keeper *keeper = client->keeper;

    if (keeper == NULL) {
        keeper = mrg_alloc(sizeof *keeper);
        if (keeper == NULL || mrg_cond_init(&keeper->changed) != MICROREG_OK) {
            mrg_free(keeper);
            return NULL;
        }
        client->keeper = keeper;
    }
    return keeper;
}

/* ------------------------------------------------------------- renewing */

/* Whether an entry is the thread's to work on at @now_ms. */
static bool is_due(const struct mrg_kept *kept, uint64_t now_ms)
{
    return kept->is_kept && !kept->is_busy && kept->due_ms <= now_ms + EARLY_MS;
}

/* Claim what is due at @now_ms. Returns how many. With the lock. */
static size_t claim_due(struct mrg_keeper *keeper, uint64_t now_ms,
                        struct mrg_kept **out_entries)
{
    struct mrg_kept *kept;
    size_t at = 0;
    size_t n = 0;

    while (n < BATCH_MAX && (kept = mrg_map_next(&keeper->entries, &at))) {
        if (is_due(kept, now_ms) && kept->digest[0] != '\0') {
            kept->is_busy = true;
            out_entries[n++] = kept;
        }
    }
    return n;
}

/* When to try an entry again that could not be renewed. */
static uint64_t retry_at(const struct mrg_kept *kept, uint64_t now_ms)
{
    uint64_t wait_ms = (uint64_t)kept->ttl_ms / 10;

    wait_ms = wait_ms < RENEW_RETRY_MIN_MS ? RENEW_RETRY_MIN_MS : wait_ms;
    return now_ms +
           (wait_ms > RENEW_RETRY_MAX_MS ? RENEW_RETRY_MAX_MS : wait_ms);
}

/* Run a request about claimed entries without the lock. */
static struct mrg_kept_job begin_job(struct microreg *client,
                                     struct mrg_kept *const *entries, size_t n,
                                     struct microreg_error *error)
{
    const struct mrg_kept_job job = {
        client, entries, n, mrg_now_ms() + (uint64_t)client->options.timeout_ms,
        error};

    pthread_mutex_unlock(&client->lock);
    return job;
}

static void end_job(const struct mrg_kept_job *job)
{
    pthread_mutex_lock(&job->client->lock);
    for (size_t i = 0; i < job->n; i++) {
        job->entries[i]->is_busy = false;
    }
    (void)pthread_cond_broadcast(&job->client->keeper->changed);
}

/* Renew what is due. With the lock, and without it meanwhile. */
static void renew_due(struct microreg *client)
{
    struct mrg_kept *entries[BATCH_MAX];
    bool unknown[BATCH_MAX] = {false};
    bool fenced[BATCH_MAX] = {false};
    struct microreg_error error;
    struct mrg_kept_job job;
    uint64_t sent_ms = mrg_now_ms();
    size_t n = claim_due(client->keeper, sent_ms, entries);
    int err;

    if (n == 0) {
        return;
    }
    job = begin_job(client, entries, n, &error);
    err = mrg_kept_renew(&job, unknown, fenced);
    end_job(&job);
    if (err != MICROREG_OK && err != MICROREG_E_FENCED) {
        mrg_log(client, MICROREG_LOG_WARN, "cannot renew %zu nodes: %s", n,
                error.text);
        for (size_t i = 0; i < n; i++) {
            entries[i]->due_ms = retry_at(entries[i], mrg_now_ms());
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (fenced[i]) {
            entries[i]->is_kept = false;
            mrg_log(client, MICROREG_LOG_ERROR,
                    "%s %s belongs to a newer incarnation: let go",
                    entries[i]->name, entries[i]->id);
        } else if (unknown[i]) {
            entries[i]->digest[0] = '\0'; /* repair_due() has the next turn. */
        } else {
            entries[i]->due_ms = mrg_kept_due(entries[i], sent_ms);
            atomic_fetch_add(&client->stats.renewals, 1);
        }
    }
}

/* Register one again that the servers have lost. With the lock, and without it
 * meanwhile. */
static void repair_due(struct microreg *client)
{
    struct microreg_error error;
    struct mrg_kept_job job;
    struct mrg_kept *kept;
    uint64_t sent_ms = mrg_now_ms();
    size_t at = 0;
    int err;

    do {
        kept = mrg_map_next(&client->keeper->entries, &at);
    } while (kept != NULL &&
             (!is_due(kept, sent_ms) || kept->digest[0] != '\0'));
    if (kept == NULL) {
        return;
    }
    kept->is_busy = true;
    job = begin_job(client, &kept, 1, &error);
    err = mrg_kept_post(&job, kept->body, kept->ttl_ms);
    end_job(&job);
    if (err == MICROREG_OK) {
        kept->due_ms = mrg_kept_due(kept, sent_ms);
        atomic_fetch_add(&client->stats.reregistered, 1);
        mrg_log(client, MICROREG_LOG_WARN,
                "%s %s was not registered any more: registered again",
                kept->name, kept->id);
        return;
    }
    kept->due_ms = retry_at(kept, mrg_now_ms());
    mrg_log(client, MICROREG_LOG_ERROR, "%s %s cannot be registered again: %s",
            kept->name, kept->id, error.text);
    if (err == MICROREG_E_FENCED || err == MICROREG_E_INVALID) {
        kept->is_kept = false;
    }
}

/* ------------------------------------------------------------- the thread */

static uint64_t next_due(const struct mrg_keeper *keeper)
{
    uint64_t due_ms = mrg_sessions_due(keeper->sessions);
    const struct mrg_kept *kept;
    size_t at = 0;

    while ((kept = mrg_map_next(&keeper->entries, &at)) != NULL) {
        if (kept->is_kept && !kept->is_busy && kept->due_ms < due_ms) {
            due_ms = kept->due_ms;
        }
    }
    return due_ms;
}

static void *run_keeper(void *arg)
{
    struct microreg *client = arg;
    struct mrg_keeper *keeper = client->keeper;

    pthread_mutex_lock(&client->lock);
    while (!atomic_load(&keeper->is_stopping)) {
        uint64_t due_ms = next_due(keeper);

        if (due_ms > mrg_now_ms()) {
            (void)mrg_cond_wait_until(&keeper->changed, &client->lock, due_ms);
            continue;
        }
        renew_due(client);
        if (!atomic_load(&keeper->is_stopping)) {
            repair_due(client);
        }
        if (!atomic_load(&keeper->is_stopping)) {
            mrg_sessions_renew(client);
        }
    }
    pthread_mutex_unlock(&client->lock);
    return NULL;
}

int mrg_keeper_wake(struct microreg *client)
{
    struct mrg_keeper *keeper = client->keeper;

    if (!keeper->has_thread) {
        if (mrg_thread_start(&keeper->thread, run_keeper, client) !=
            MICROREG_OK) {
            return MICROREG_E_NOMEM;
        }
        keeper->has_thread = true;
    }
    (void)pthread_cond_broadcast(&keeper->changed);
    return MICROREG_OK;
}

void mrg_keeper_stop(struct microreg *client)
{
    struct mrg_keeper *keeper = client->keeper;
    struct mrg_kept *kept;
    size_t at = 0;

    if (keeper == NULL) {
        return;
    }
    pthread_mutex_lock(&client->lock);
    atomic_store(&keeper->is_stopping, true);
    mrg_sessions_orphan(keeper->sessions);
    (void)pthread_cond_broadcast(&keeper->changed);
    pthread_mutex_unlock(&client->lock);
    if (keeper->has_thread) {
        (void)pthread_join(keeper->thread, NULL);
    }
    pthread_mutex_lock(&client->lock);
    keeper->sessions = NULL;
    client->keeper = NULL;
    pthread_mutex_unlock(&client->lock);
    while ((kept = mrg_map_next(&keeper->entries, &at)) != NULL) {
        mrg_kept_free(kept);
    }
    mrg_map_deinit(&keeper->entries);
    (void)pthread_cond_destroy(&keeper->changed);
    mrg_free(keeper);
}
