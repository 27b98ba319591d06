/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The addresses that others may be found under: resolved late and again, all
 * addresses of a name, and dialled to see who is there.
 */
#include "raft/join_impl.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define DEFAULT_PORT 8300
#define FIRST_MS 100 /* Between the first tries of an address. */
#define TRIES_MAX 64 /* Addresses being tried on demand. */

/* An address to try, by name. */
struct target {
    struct mr_list link;
    struct join *j;
    char *text;
    bool is_self;    /* It turned out to be us. */
    bool is_busy;    /* Being resolved. */
    bool has_failed; /* Since the start, and never answered. */
    bool has_answered;
    uint64_t next_ms;
    uint64_t wait_ms;
    mr_raft_change_cb cb; /* On demand: tried once. */
    void *cb_arg;
    uint64_t deadline_ms;
    uv_getaddrinfo_t req;
    uint16_t port;
};

static void free_target(struct join *j, struct target *t)
{
    mr_list_remove(&t->link);
    j->n_targets--;
    mr_free(t->text);
    mr_free(t);
}

static struct target *add_target(struct join *j, const char *text)
{
    struct target *t = mr_calloc(1, sizeof *t);

    if (t == NULL || (t->text = mr_strdup(text)) == NULL) {
        mr_free(t);
        return NULL;
    }
    t->j = j;
    t->wait_ms = FIRST_MS;
    mr_list_init(&t->link);
    mr_list_push(&j->targets, &t->link);
    j->n_targets++;
    return t;
}

/* The first round is over when every address has answered or failed. */
static void check_first_round(struct join *j)
{
    struct mr_list *at;
    size_t n_failed = 0;
    size_t n = 0;

    if (!j->options.must_succeed || j->has_failed_said) {
        return;
    }
    MR_LIST_FOREACH(at, &j->targets)
    {
        const struct target *t = mr_container_of(at, struct target, link);

        if (t->has_answered && !t->is_self) {
            j->options.must_succeed = false;
            return;
        }
        if (t->cb == NULL && !t->is_self) {
            n++;
            n_failed += t->has_failed;
        }
    }
    if (n != 0 && n_failed == n) {
        j->has_failed_said = true;
        j->options.failed(j->options.arg);
    }
}

static void end_try(struct join *j, struct target *t, enum mr_err err,
                    const char *detail)
{
    t->has_failed = err != MR_OK && !t->has_answered;
    t->has_answered = t->has_answered || err == MR_OK;
    if (t->cb != NULL) {
        mr_raft_change_cb cb = t->cb;
        void *arg = t->cb_arg;

        free_target(j, t);
        cb(arg, err, detail);
        return;
    }
    check_first_round(j);
}

void join_probed(struct join *j, const char *address, enum mr_err err,
                 enum frame_refusal refusal)
{
    struct mr_list *at = j->targets.next;

    while (at != &j->targets) {
        struct target *t = mr_container_of(at, struct target, link);

        at = at->next;
        if (strcmp(t->text, address) != 0) {
            continue;
        }
        t->is_self = t->is_self || refusal == FRAME_IS_SELF;
        end_try(j, t, refusal == FRAME_IS_SELF ? MR_OK : err,
                err == MR_OK ? "" : "no server of this cluster answers there");
    }
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *res)
{
    struct target *t = mr_container_of(req, struct target, req);
    struct join *j = t->j;
    char host[64];
    char address[FRAME_ADDRESS_MAX];

    t->is_busy = false;
    if (j->is_closing) {
        uv_freeaddrinfo(res);
        join_handle_gone(j);
        return;
    }
    j->n_handles--;
    if (status != 0) {
        end_try(j, t, MR_E_ADDRESS, uv_strerror(status));
        return;
    }
    /* All of a name's addresses: several servers may stand behind it. */
    for (struct addrinfo *a = res; a != NULL; a = a->ai_next) {
        if (uv_ip_name(a->ai_addr, host, sizeof host) == 0) {
            (void)snprintf(address, sizeof address,
                           a->ai_family == AF_INET6 ? "[%s]:%u" : "%s:%u", host,
                           (unsigned)t->port);
            transport_probe(j->options.transport, address, t->text);
        }
    }
    uv_freeaddrinfo(res);
}

static void try_target(struct join *j, struct target *t)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct mr_hostport hp;
    struct mr_detail detail;
    char address[FRAME_ADDRESS_MAX];
    enum mr_err err = mr_hostport_parse(t->text, DEFAULT_PORT, &hp, &detail);

    if (err != MR_OK) {
        end_try(j, t, err, detail.text);
        return;
    }
    t->port = hp.port;
    if (mr_ip_family(hp.host) != 0) {
        (void)snprintf(address, sizeof address,
                       mr_ip_family(hp.host) == 6 ? "[%s]:%u" : "%s:%u",
                       hp.host, (unsigned)hp.port);
        transport_probe(j->options.transport, address, t->text);
        return;
    }
    if (uv_getaddrinfo(j->options.loop, &t->req, on_resolved, hp.host, NULL,
                       &hints) != 0) {
        end_try(j, t, MR_E_ADDRESS, "it cannot be resolved now");
        return;
    }
    t->is_busy = true;
    j->n_handles++;
}

void join_targets_try(struct join *j, uint64_t now, bool looking)
{
    uint64_t slowest = j->options.interval_ms < JOIN_SLOWEST_MS
                           ? j->options.interval_ms
                           : JOIN_SLOWEST_MS;
    struct mr_list *at = j->targets.next;

    while (at != &j->targets) {
        struct target *t = mr_container_of(at, struct target, link);

        at = at->next;
        if (t->cb != NULL && now >= t->deadline_ms && !t->is_busy) {
            end_try(j, t, MR_E_TIMEOUT, "no answer");
            continue;
        }
        if (!looking || t->cb != NULL || t->is_self || t->is_busy ||
            now < t->next_ms) {
            continue;
        }
        t->wait_ms = t->wait_ms * 2 < slowest ? t->wait_ms * 2 : slowest;
        t->next_ms = now + t->wait_ms;
        try_target(j, t);
    }
}

void join_try(struct join *j, const char *address, mr_raft_change_cb cb,
              void *arg)
{
    struct target *t = j->n_targets < TRIES_MAX ? add_target(j, address) : NULL;

    if (t == NULL) {
        cb(arg, MR_E_BUSY, "too many addresses are being tried");
        return;
    }
    t->cb = cb;
    t->cb_arg = arg;
    t->deadline_ms = mr_now_ms(j->options.clock) + JOIN_SLOWEST_MS;
    try_target(j, t);
}

bool join_targets_add(struct join *j, const char *address)
{
    return add_target(j, address) != NULL;
}

void join_targets_stop(struct join *j)
{
    struct mr_list *at = j->targets.next;

    while (at != &j->targets) {
        struct target *t = mr_container_of(at, struct target, link);

        at = at->next;
        if (t->is_busy) {
            (void)uv_cancel((uv_req_t *)&t->req); /* Or it ends by itself. */
        }
        if (t->cb != NULL) {
            t->cb(t->cb_arg, MR_E_CLOSED, "shutting down");
            t->cb = NULL;
        }
    }
}

void join_targets_free(struct join *j)
{
    while (!mr_list_empty(&j->targets)) {
        free_target(j, mr_container_of(j->targets.next, struct target, link));
    }
}
