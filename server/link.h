/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link: the way from an agent without -server to the servers.
 *
 * One thread with libcurl's multi interface passes HTTP requests on to the
 * servers' port, over connections that stay open. It finds the servers by the
 * addresses to join, learns the others from them, keeps to one, and goes over
 * to another when that one fails:
 *
 *  - what certainly was not sent, or may be repeated, is sent to the next one;
 *  - everything else ends with MR_E_UNKNOWN: it may or may not have been done.
 *
 * While nobody answers, requests fail at once with MR_E_UNREACHABLE, and all
 * addresses are tried again at an interval.
 */
#ifndef MR_SERVER_LINK_H
#define MR_SERVER_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/mr_api.h"
#include "base/err.h"
#include "base/text.h"

struct server_link;

struct server_link_options {
    const char *const *join; /* host[:port], resolved late and again. */
    size_t n_join;
    bool must_join; /* on_fatal when the first try finds nobody. */
    uint16_t server_port;
    uint64_t interval_ms; /* Between tries. */
    const char *node_name;
    const char *datacenter; /* Servers of another one are not taken. */
    const struct mr_clock *clock;
    const struct mr_random *random;
    /* There is another server now, or none. The link's thread. */
    void (*on_change)(void *arg);
    void (*on_fatal)(void *arg, enum mr_err err, const char *why);
    void *arg;
};

/* Start the thread; @options is copied, with its texts. On success the caller
 * owns *@out_link. MR_E_NOMEM, MR_E_IO. */
MR_MUST_CHECK enum mr_err
server_link_start(const struct server_link_options *options,
                  struct server_link **out_link, struct mr_detail *detail);

/* End every request with MR_E_CLOSED and stop the thread. Others may still
 * call, and are refused. NULL is a no-op. */
void server_link_stop(struct server_link *link);

/* Release it, stopped. NULL is a no-op. */
void server_link_free(struct server_link *link);

/* Pass @forward on, as mr_api_host.forward. @forward's done is called on the
 * link's thread: MR_OK with an answer of whatever status, MR_E_UNREACHABLE (no
 * server, nothing was sent), MR_E_TIMEOUT, MR_E_UNKNOWN, MR_E_TOOBIG,
 * MR_E_CANCELED, MR_E_CLOSED. Any thread.
 * MR_E_BUSY, MR_E_CLOSED, MR_E_NOMEM: done will not be called. */
MR_MUST_CHECK enum mr_err server_link_pass(struct server_link *link,
                                           struct mr_api_forward *forward);

/* Nobody waits for @forward's answer any more: end it soon. It may have ended
 * already, but the caller must not have seen its done return. Any thread. */
void server_link_cancel(struct server_link *link,
                        struct mr_api_forward *forward);

/* The server in use does not do its work: look for one that does. Any thread.
 */
void server_link_doubt(struct server_link *link);

/* Look for a server at @address too, from now on; @cb is told whether one
 * answered. Any thread. */
void server_link_join(struct server_link *link, const char *address,
                      mr_api_host_cb cb, void *request);

struct server_link_status {
    bool is_connected;
    char server[MR_HOST_MAX + 8]; /* host:port in use, or "". */
    char cluster[17];             /* Its cluster's ID, or "". */
    size_t n_servers;             /* Known of. */
    uint64_t requests;            /* Passed on. */
    uint64_t failures;            /* That no server answered. */
    uint64_t failovers;           /* From one server to another. */
    uint64_t in_flight;           /* Now. */
};

/* A copy of how it stands. Any thread. */
void server_link_status(struct server_link *link,
                        struct server_link_status *out_status);

#endif /* MR_SERVER_LINK_H */
