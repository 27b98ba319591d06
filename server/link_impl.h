/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the link: requests (link.c), what curl does for one of them
 * (link_curl.c), and choosing a server (link_find.c).
 *
 * Everything is the link's thread's, but what comes through the queues, the
 * atomic flags, and the status under its lock.
 */
#ifndef MR_SERVER_LINK_IMPL_H
#define MR_SERVER_LINK_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include <curl/curl.h>

#include "base/list.h"
#include "base/queue.h"
#include "server/link.h"

#define LINK_ADDRESS_MAX (MR_HOST_MAX + 8)
#define LINK_SERVERS_MAX 32
#define LINK_CONNECT_MS 700

struct link_transfer;
typedef void (*link_ended_fn)(struct link_transfer *t, CURLcode code);

/* One request in curl's hands. Embedded. */
struct link_transfer {
    struct server_link *link;
    CURL *easy;
    struct curl_slist *headers;
    struct mr_buf *answer;         /* Borrowed. */
    struct mr_buf *answer_headers; /* Borrowed; may be NULL. */
    link_ended_fn ended;           /* Outside of curl's callbacks. */
    bool sends_once;               /* Must not be repeated by curl. */
    bool is_sent;                  /* Some of it may have left. */
    char error[CURL_ERROR_SIZE];
};

/* What to ask, and whom. Borrowed for the call. */
struct link_request {
    const char *address; /* host:port */
    const char *method;
    const char *target;
    const char *const *headers; /* Name, value ... */
    size_t n_headers;           /* Pairs. */
    struct mr_slice body;       /* Stays until the transfer ended. */
    uint64_t timeout_ms;
};

/* A request of a client. */
struct link_op {
    struct mr_list link; /* In the inbox, waiting or flying. */
    struct link_transfer transfer;
    struct mr_api_forward *forward;
    uint64_t deadline_ms;
    uint64_t wait_until_ms; /* For a server. */
    char server[LINK_ADDRESS_MAX];
    bool is_long;       /* A blocking query. */
    bool is_repeatable; /* Asking twice does no harm. */
    atomic_bool is_canceled;
};

/* One server asked who it is. */
struct link_probe {
    struct mr_list link;
    struct link_transfer transfer;
    struct mr_buf answer;
    char address[LINK_ADDRESS_MAX];
    bool is_refresh;   /* Not of a round. */
    mr_api_host_cb cb; /* Of a join; else NULL. */
    void *request;
};

enum link_state {
    LINK_SEEKING, /* A round is under way. */
    LINK_PAUSING, /* Nobody answered: until retry_ms. */
    LINK_USING    /* server is good, as far as we know. */
};

/* Servers, and the round that looks for one. */
struct link_find {
    enum link_state state;
    char known[LINK_SERVERS_MAX][LINK_ADDRESS_MAX]; /* As a server said. */
    size_t n_known;
    char **join; /* As they were given; owned. */
    size_t n_join;
    char candidates[2 * LINK_SERVERS_MAX][LINK_ADDRESS_MAX];
    size_t n_candidates;
    size_t next;       /* Candidate that is asked next, */
    uint64_t next_ms;  /* at this time. */
    uint64_t retry_ms; /* Next round, or next refresh. */
    struct mr_list probes;
    char fallback[LINK_ADDRESS_MAX]; /* Without a leader, or foreign. */
    char fallback_cluster[17];
    char why[256]; /* What went wrong last. */
    bool is_first; /* No round has ended yet. */
    bool is_told;  /* That nobody answers was logged. */
};

struct server_link {
    struct server_link_options options; /* With texts of our own. */
    CURLM *multi;
    pthread_t thread;
    atomic_bool is_stopping;
    atomic_bool is_doubted;
    atomic_bool has_canceled;
    struct mr_queue inbox; /* struct link_op. */
    struct mr_queue joins; /* struct link_probe. */
    struct mr_list waiting;
    struct mr_list flying;
    struct link_find find;
    char server[LINK_ADDRESS_MAX]; /* In use, or "". */
    char cluster[17];
    atomic_uint n_long;
    atomic_uint n_open;
    /* Guards the status and mr_api_forward.op. */
    pthread_mutex_t lock;
    struct server_link_status status;
};

/* ---- link_curl.c ---- */

/* Begin @t, whose link, ended, answer and answer_headers are set. MR_E_NOMEM:
 * ended will not be called. */
MR_MUST_CHECK enum mr_err link_transfer_begin(struct link_transfer *t,
                                              const struct link_request *what);

/* Take @t out of curl's hands; ended will not be called. */
void link_transfer_abort(struct link_transfer *t);

/* Call ended of all that are done. */
void link_transfers_end(struct server_link *link);

/* ---- link_find.c ---- */

/* Begin to look for a server. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err link_find_init(struct server_link *link);

/* Release everything; joins that wait are told MR_E_CLOSED. */
void link_find_deinit(struct server_link *link);

/* Do what is due; returns the milliseconds until more is. */
uint64_t link_find_run(struct server_link *link);

/* The server in use failed because of @why: look for another one. */
void link_find_failed(struct server_link *link, const char *why);

/* Whether a request may wait for a server: nobody was found in vain yet. */
bool link_find_has_hope(const struct server_link *link);

/* ---- link.c ---- */

/* The server in use is @address of @cluster ("": none) from now on: what waits
 * goes there, and what another one has and may be repeated, too. */
void link_use(struct server_link *link, const char *address,
              const char *cluster);

/* Now, in milliseconds. */
static inline uint64_t link_now(const struct server_link *link)
{
    return mr_now_ms(link->options.clock);
}

#endif /* MR_SERVER_LINK_IMPL_H */
