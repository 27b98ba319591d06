/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the HTTP core: the service, an exchange (one request and its answer),
 * and the calls between http.c, dispatch.c, read.c, write.c and park.c.
 *
 * An exchange is driven by its worker: http.c calls exchange->next, which
 * either finishes the answer (API_STEP_REPLY) or has handed the exchange to
 * somebody who will wake it (API_STEP_WAIT). The wait protocol, by wait_state:
 *
 *   IDLE --arm--> ARMED --suspend--> PARKED --wake--> WOKEN --run--> IDLE
 *                   |                                   ^
 *                   +------ wake before the suspend ----+
 *
 * The worker arms before it hands the exchange over, and suspends the
 * connection only after the handing over; api_wake() may come at any point in
 * between, from any thread, and more than once. Whoever moves PARKED to WOKEN
 * queues the exchange for its resumption.
 */
#ifndef API_CORE_H
#define API_CORE_H

#include <netinet/in.h>
#include <stdatomic.h>

#include "api/http.h"
#include "api/routes.h"
#include "base/heap.h"
#include "base/list.h"

struct MHD_Connection;
struct MHD_Response;

/* ------------------------------------------------------------- exchange */

enum api_step {
    API_STEP_REPLY, /* exchange->req.reply is complete: send it. */
    API_STEP_WAIT   /* Armed and handed over. */
};

enum api_wait_state {
    API_WAIT_IDLE,
    API_WAIT_ARMED,
    API_WAIT_PARKED,
    API_WAIT_WOKEN
};

/* Where an exchange stands with http.c. */
enum api_phase {
    API_PHASE_NEW,    /* The request line is known. */
    API_PHASE_BODY,   /* Headers are known, the body is arriving. */
    API_PHASE_REFUSE, /* Answered already; the body is read and dropped. */
    API_PHASE_RUN,    /* The body is complete. */
    API_PHASE_SENT    /* The answer is MHD's. */
};

struct api_cached;
struct api_chunk; /* A further piece of an exchange's memory. */
struct api_forward;
struct api_relay_exchange;
struct api_stream;
struct api_websocket;

#define API_INLINE_MEMORY 384

/* The topic that a read depends on. */
struct api_topic {
    bool is_set;
    enum mr_kv_topic_kind kind;
    const char *name;
    size_t name_len;
};

struct api_http {
    struct api_request req;
    struct MHD_Connection *connection;
    enum api_phase phase;
    enum api_step (*next)(struct api_http *x);

    struct api_match match;
    size_t path_len;
    uint64_t body_expected; /* Content-Length; 0 when absent. */
    uint64_t body_max;
    uint64_t body_reserved; /* Its share of api->body_bytes. */
    bool close_after;       /* The connection cannot be used again. */
    bool accepts_gzip;
    bool is_http10;
    bool bad_query;
    const char *location;      /* Of a 301. */
    bool allow;                /* Send Allow. */
    bool vary;                 /* Send Vary. */
    struct MHD_Response *made; /* The answer while the body is dropped. */

    /* Reading. */
    bool is_timed_out;
    bool known_leader;
    uint64_t last_contact_ms;
    bool tells_cache; /* ?cached: say whether the answer was kept. */
    uint64_t max_stale_ms;
    uint64_t wait_ms;
    struct api_topic topic;
    bool knows_answer;         /* What the client has, and its digest: */
    uint64_t known_digest;     /* api_answer_digest(). */
    struct api_cached *cached; /* A ready answer; a reference of ours. */

    /* Waiting. */
    atomic_int wait_state;
    struct mr_list park_link;     /* In the park's list of the woken. */
    struct mr_heap_node deadline; /* In the park's heap. */
    int watched_fd;               /* Watched for the client's going, or -1. */
    bool is_blocking;             /* Between api_block() and api_unblock(). */
    bool has_left_park;           /* By the park's own doing. */
    atomic_bool is_client_gone;   /* Set by the park, with its lock. */
    /* A stream stays in the park while it sends. */
    atomic_uint_fast64_t quiet_until_ms; /* Later than its place in the heap. */
    atomic_bool is_due;                  /* It left the heap. */
    atomic_bool waiter_fired;            /* The hub's callback has ended. */

    /* Passed on to a server: agents without -server. */
    const char *raw_target;           /* As it was sent. */
    struct api_forward *forward;      /* NULL: it was not passed on. */
    bool is_forwarding;               /* A server is asked. */
    bool has_answer;                  /* The reply is the server's. */
    struct api_relay_exchange *relay; /* Likewise, piece by piece. */

    struct api_stream *stream;       /* The answer is a stream. */
    struct api_websocket *websocket; /* The answer is a WebSocket, which has
                                        not been handed over yet. */

    union {
        struct mr_write *write; /* In the exchange's memory. */
        struct mr_raft_read read;
        struct mr_kv_waiter waiter;
    } op;
    uint64_t wait_until_ms; /* 0: not waited yet. */
    unsigned n_looks; /* In a row, at a topic that changes all the time. */
    enum mr_err op_err;
    char *op_text;
    union {
        api_done_fn done;
        api_resume_fn resume;
    } then;
    bool wants_refused;
    bool is_handed_over; /* The write handler submitted or went async. */

    /* Memory that lives as long as the exchange. */
    struct api_chunk *chunks;
    struct api_chunk *kept_chunks; /* Those from before the evaluation. */
    size_t inline_used;
    size_t inline_kept;
    _Alignas(max_align_t) unsigned char inline_memory[API_INLINE_MEMORY];
};

/* ------------------------------------------------------------- service */

struct api_listener;
struct api_park;
struct api_cache;
struct api_feeds;
struct api_relays;
struct api_websockets;

#define API_OUTPUT_SLOTS 1024

struct mr_api {
    struct mr_api_options options; /* With texts of our own. */
    struct MHD_Daemon *adopted;    /* Of connections on the servers' port. */
    struct api_listener *listeners;
    size_t n_listeners;
    uint16_t port;
    struct api_park *park;
    struct api_cache *cache;
    struct api_feeds *feeds;
    struct api_websockets *websockets;
    struct api_relays *relays;          /* NULL: a server. */
    struct MHD_Response *true_response; /* `true`, as most writes answer. */
    atomic_bool is_quiescing;
    atomic_uint_fast64_t body_bytes; /* Of bodies being received. */
    atomic_uint_fast64_t requests;
    atomic_uint_fast64_t errors_4xx;
    atomic_uint_fast64_t errors_5xx;
    atomic_uint_fast64_t cache_hits;
    atomic_uint_fast64_t parked;
    atomic_uint_fast64_t streams;
    atomic_uint_fast64_t connections;
    atomic_uint_fast64_t refused_connections;
    atomic_uint_fast64_t output_slots[API_OUTPUT_SLOTS]; /* output_rate.c */
};

/* ------------------------------------------------------------- request.c */

/* Make the exchange of a new request whose target is @raw. NULL: no memory. */
struct api_http *api_exchange_new(struct mr_api *api, const char *raw);

/* Release the exchange, which must be in nobody's hands. NULL is a no-op. */
void api_exchange_free(struct api_http *x);

/* Forget a rendered answer. */
void api_reply_reset(struct api_request *req);

/* What the request holds now stays; what it allocates from here on is given
 * back by the next api_memory_release(). */
void api_memory_keep(struct api_http *x);

/* Give back what was allocated since api_memory_keep(). */
void api_memory_release(struct api_http *x);

/* The worker's buffer in which answers are rendered; empty at the start of
 * each step. */
struct mr_buf *api_out(void);

/* ------------------------------------------------------------- dispatch.c */

/* Decide from the request line and the headers what happens: sets x->next,
 * phase and body_max. The connection is set, the body has not been read. */
void api_dispatch(struct api_http *x, const char *method);

/* Whether a request's body is wanted, or dropped. */
bool api_takes_body(const struct api_route *route);

/* ------------------------------------------------------------- read.c */

/* The first step of reads (API_PLAIN, API_LOCAL, API_READ). */
enum api_step api_read_start(struct api_http *x);

/* A digest of the answer that has been rendered. */
uint64_t api_answer_digest(const struct api_http *x);

/* Whether an answer with @index and @digest is news for a blocking query. */
bool api_is_news(const struct api_http *x, uint64_t index, uint64_t digest);

/* Whether ?dc= names this datacenter or is absent or does not matter; answers
 * otherwise. */
bool api_check_dc(struct api_request *req);

/* ------------------------------------------------------------- write.c */

/* The first step of writes. */
enum api_step api_write_start(struct api_http *x);

/* ------------------------------------------------------------- waiting */

/* Get ready to be woken: before the exchange is handed over. Worker. */
void api_wait_arm(struct api_http *x);

/* Not handed over after all: as before api_wait_arm(). Worker. */
void api_wait_disarm(struct api_http *x);

/* Wake the exchange. Any thread; may come more than once per arming. Nothing
 * of *@x may be touched afterwards by the caller. */
void api_wake(struct api_http *x);

/* As api_wake(), for a completion that comes once per arming: saves the way
 * over the park's thread when few are suspended. */
void api_wake_now(struct api_http *x);

/* Wait on x->topic until it changes from @revision, the wait is over or the
 * client is gone; for a short time only when it changes all the time. False: it cannot wait or need not, look again at once when
 * *@out_err is MR_OK. */
bool api_block(struct api_http *x, uint64_t revision, enum mr_err *out_err);

/* Undo what api_block() registered, after the wake; a no-op without it. */
void api_unblock(struct api_http *x);

/* ------------------------------------------------------------- http.c */

/* The value of a request header, or NULL. */
const char *api_http_header(const struct api_http *x, const char *name);

/* The client's IP address as text, "?" when it has none. */
void api_http_client(const struct api_http *x, char out[INET6_ADDRSTRLEN]);

/* Whether the request came over the servers' port (mr_api_adopt()). */
bool api_http_is_adopted(const struct api_http *x);

/* The connection's socket, or -1. */
int api_http_fd(const struct api_http *x);

/* Break the connection of @x, in whose answer something went wrong: the library
 * would close it only when its worker has something else to do. Worker. */
void api_http_break(struct api_http *x);

/* Let the connection of @x go on. Park thread. */
void api_http_resume(struct api_http *x);

#endif /* API_CORE_H */
