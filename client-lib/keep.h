/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this client has registered, and the thread that keeps it alive.
 *
 * - Each node has an entry with the JSON to register it again and the digest that
 *   the server gave it. Who works on an entry (registers, renews, removes)
 *   claims it first, so nothing is registered again while it is removed.
 * - The thread renews what is due in one PUT /registry/renew: each third of the
 *   TTL, sooner again after a failure.
 * - What the server does not know (it was cut off for long, or the servers lost
 *   everything) is registered again, one node a request, so that the renewal of
 *   the others goes on. What a newer incarnation owns is let go.
 * - Sessions are renewed in the same way; a lost one stays lost.
 *
 * Everything is protected by the client's lock.
 */
#ifndef MICROREG_KEEP_H
#define MICROREG_KEEP_H

#include "client.h"
#include "json.h"
#include "map.h"

#define MRG_DIGEST_MAX 64

/* One registered node. */
struct mrg_kept {
    char *key; /* Name, NUL, id. */
    size_t key_len;
    const char *name; /* Both in key. */
    const char *id;
    char *body;                  /* The service with this node alone. */
    char digest[MRG_DIGEST_MAX]; /* Empty: to be registered as a whole. */
    int64_t ttl_ms;
    uint64_t due_ms;
    bool is_new;  /* Never was registered successfully. */
    bool is_kept; /* The thread renews it. */
    bool is_busy; /* Claimed. */
};

struct mrg_keeper {
    pthread_cond_t changed;
    struct mrg_map entries;
    struct microreg_session *sessions;
    bool has_thread;
    pthread_t thread;
    atomic_bool is_stopping;
};

/* The client's keeper, made if there is none. With the lock. NULL: no memory. */
struct mrg_keeper *mrg_keeper_get(struct microreg *client);

/* Start its thread, or wake it. With the lock. */
int mrg_keeper_wake(struct microreg *client);

/* Stop the thread and forget everything. Nobody else uses the client. */
void mrg_keeper_stop(struct microreg *client);

/* A new entry. NULL: no memory. */
struct mrg_kept *mrg_kept_new(const char *name, const char *id);

/* Free it. NULL is a no-op. */
void mrg_kept_free(struct mrg_kept *kept);

struct mrg_call;

/* Run a call that changes @name, and note its revision. Without the lock.
 * MICROREG_E_FENCED and the errors of calls. */
int mrg_kept_send(struct microreg *client, struct mrg_call *call,
                  const char *name, struct microreg_error *out_error);

/* Entries that are claimed, and until when to be done with them. */
struct mrg_kept_job {
    struct microreg *client;
    struct mrg_kept *const *entries;
    size_t n;
    uint64_t deadline_ms;
    struct microreg_error *error;
};

/* Register @json, which holds the nodes of @job, and note their digests.
 * Without the lock. MICROREG_E_FENCED and the errors of calls. */
int mrg_kept_post(const struct mrg_kept_job *job, const char *json,
                  int64_t ttl_ms);

/* Renew the entries of @job. Without the lock. *@out_unknown is filled with
 * true for those that must be registered again; MICROREG_E_FENCED: there are
 * such that a newer incarnation owns, marked in @out_fenced. */
int mrg_kept_renew(const struct mrg_kept_job *job, bool *out_unknown,
                   bool *out_fenced);

/* When an entry that was heard of at @now_ms is to be renewed. */
uint64_t mrg_kept_due(const struct mrg_kept *kept, uint64_t now_ms);

#endif /* MICROREG_KEEP_H */
