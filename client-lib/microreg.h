/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libmicroreg: the C client of microreg.
 *
 * Register services with a TTL, find them, watch them; keys and values,
 * sessions and locks. The calls mirror go-micro's Registry interface, and each
 * has a twin that speaks go-micro's JSON, for bindings in other languages.
 *
 * The rules, which hold everywhere unless a comment says otherwise:
 *
 * Errors    A function that can fail returns MICROREG_OK (0) or another code
 *           of enum microreg_err, and writes a sentence for people into
 *           *@out_error, which may be NULL. The sentence names each address
 *           that was tried and what became of it. On failure no other output
 *           is touched.
 * Ownership Arguments are borrowed for the call. What a call hands out through
 *           a pointer to a pointer belongs to the caller, who frees it with
 *           the function named there.
 * Threads   Every function may be called from any thread, on the same client
 *           at the same time. A watch has one reader at a time, and can be
 *           stopped from any thread. No handle may be used after its _close,
 *           nor in the child of a fork().
 * Time      No call blocks longer than the client's timeout_ms (or the timeout
 *           it was given). Addresses are tried one after the other, and a
 *           server that does not answer soon is not waited for when the
 *           request can be sent to another one without harm.
 * Text      Strings end with NUL and are UTF-8; others are refused. Values of
 *           keys are bytes. A key is no path: "a/b" is one, but there is none
 *           with an empty part before a '/', nor with a part "." or "..".
 *
 * Signals: the library ignores SIGPIPE on its own sockets and installs nothing.
 * Threads of its own: one per client from the first watch on, and one from the
 * first session or registration that is kept alive.
 */
#ifndef MICROREG_H
#define MICROREG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MICROREG_API __attribute__((visibility("default")))
#define MICROREG_MUST_CHECK __attribute__((warn_unused_result))
#else
#define MICROREG_API
#define MICROREG_MUST_CHECK
#endif

#define MICROREG_VERSION "0.4.0"
#define MICROREG_DEFAULT_ADDRESS "127.0.0.1:8500"
#define MICROREG_DEFAULT_PORT 8500

struct microreg;         /* A client: addresses, connections, options. */
struct microreg_watch;   /* One watcher. */
struct microreg_session; /* A session, kept alive until it is closed. */

/* ---- errors ------------------------------------------------------------- */

/* The numbers are stable. */
enum microreg_err {
    MICROREG_OK = 0,
    MICROREG_E_NOTFOUND = -1, /* No such service, key or session. */
    MICROREG_E_STOPPED = -2,  /* The watch was stopped, or its client closed. */
    MICROREG_E_TIMEOUT = -3,  /* No answer in time. A write may be done. */
    MICROREG_E_INVALID = -4,  /* Refused: the text names the member. */
    MICROREG_E_UNAVAILABLE =
        -5,                   /* Servers answer that they cannot: no leader. */
    MICROREG_E_CONNECT = -6,  /* No server was reached. Nothing was done. */
    MICROREG_E_PROTOCOL = -7, /* The answer is not one of microreg's. */
    MICROREG_E_DENIED = -8,   /* Token, certificate or permission. */
    MICROREG_E_NOMEM = -9,    /* Out of memory, threads or descriptors. */
    MICROREG_E_AGAIN = -10,   /* Nothing there yet: call again later. */
    MICROREG_E_REFUSED = -11, /* A condition was not met: cas, fence, lock. */
    MICROREG_E_FENCED = -12   /* A newer incarnation owns this. */
};

/* Room for the sentence; longer ones are cut. */
#define MICROREG_ERROR_TEXT 512

/* What a call says about its failure. Nothing in it needs to be freed. */
struct microreg_error {
    int code; /* An enum microreg_err. */
    char text[MICROREG_ERROR_TEXT];
};

/* The short name of a code: "not found". Never NULL. */
MICROREG_API const char *microreg_strerror(int code);

/* The version of the library, MICROREG_VERSION when it was built. */
MICROREG_API const char *microreg_version(void);

/* Free what a call returned as text (the JSON twins). NULL is a no-op. */
MICROREG_API void microreg_free(void *text);

/* ---- opening and closing ------------------------------------------------ */

enum microreg_log_level {
    MICROREG_LOG_ERROR = 0,
    MICROREG_LOG_WARN = 1,
    MICROREG_LOG_INFO = 2,
    MICROREG_LOG_DEBUG = 3
};

/* Called for what happens in the background. Runs on the library's thread and
 * must not call the library. */
typedef void (*microreg_log_cb)(void *arg, int level, const char *text);

/* How to reach the servers. Start from MICROREG_OPTIONS_INIT, so that members
 * that later versions add have their defaults. A member that is 0 or NULL has
 * its default. */
struct microreg_options {
    size_t size; /* sizeof(struct microreg_options); the macro sets it. */
    /* "host", "host:port", "[ipv6]:port", with http:// or https:// before it,
     * separated by commas. A missing port is 8500. Default: the environment's
     * MICROREG_HTTP_ADDR, else CONSUL_HTTP_ADDR, else 127.0.0.1:8500. */
    const char *addresses;
    int timeout_ms;      /* Deadline of a call. 5000. */
    int progress_ms;     /* A silent stream says "progress" so often. 5000. */
    bool secure;         /* TLS for all addresses without a scheme. */
    bool insecure;       /* TLS without looking at the server's certificate. */
    const char *ca_file; /* PEM. Default: the system's. */
    const char *cert_file;   /* PEM, our certificate. */
    const char *key_file;    /* PEM, its key. */
    const char *server_name; /* Expected in the certificate, not the host. */
    /* Sent as X-Consul-Token. Default: the environment's
     * MICROREG_HTTP_TOKEN, else CONSUL_HTTP_TOKEN. */
    const char *token;
    /* Grows with each start of the program (a clock reading will do): older
     * ones can neither replace nor remove what this one registered. 0: none. */
    uint64_t incarnation;
    microreg_log_cb log;
    void *log_arg;
};

#define MICROREG_OPTIONS_INIT                                                  \
    {                                                                          \
        sizeof(struct microreg_options), NULL, 0, 0, false, false, NULL, NULL, \
            NULL, NULL, NULL, 0, NULL, NULL                                    \
    }

/* Open a client. Dials nothing and resolves nothing: a server that cannot be
 * reached is an error of the calls. @options may be NULL.
 *
 * The caller releases *@out_client with microreg_close().
 *
 * MICROREG_E_INVALID: an address or a number does not make sense. */
MICROREG_API MICROREG_MUST_CHECK int
microreg_open(const struct microreg_options *options,
              struct microreg **out_client, struct microreg_error *out_error);

/* Close a client. Its watches are stopped and its sessions left alone until
 * their TTL (their handles are still to be closed); registrations are no
 * longer renewed, so they end with their TTL: call microreg_deregister() for
 * a quick end. Calls on other threads must have returned. NULL is a no-op. */
MICROREG_API void microreg_close(struct microreg *client);

/* Use other addresses from now on, also for what runs in the background: that
 * is go-micro's Init(registry.Addrs(...)). Dials nothing. NULL or "" is the
 * default.
 *
 * MICROREG_E_INVALID: an address does not make sense; the old ones stay. */
MICROREG_API MICROREG_MUST_CHECK int
microreg_set_addresses(struct microreg *client, const char *addresses,
                       struct microreg_error *out_error);

/* The name of this registry: "microreg". */
MICROREG_API const char *microreg_string(const struct microreg *client);

/* The options as they hold now, defaults filled in. The strings are borrowed
 * until microreg_set_addresses() or microreg_close(). */
MICROREG_API void microreg_get_options(struct microreg *client,
                                       struct microreg_options *out_options);

/* What has happened since the client was opened. */
struct microreg_stats {
    uint64_t requests;      /* Requests sent, streams included. */
    uint64_t failovers;     /* Times that another server had to be asked. */
    uint64_t streams;       /* Streams begun. */
    uint64_t stream_resets; /* Times that a stream had lost its place. */
    uint64_t events;        /* Events that watchers were told. */
    uint64_t collapses;     /* Times that a watcher's queue was too long. */
    uint64_t renewals;      /* Nodes renewed in the background. */
    uint64_t reregistered;  /* Services registered again in the background. */
};

/* Copy the counters. */
MICROREG_API void microreg_get_stats(struct microreg *client,
                                     struct microreg_stats *out_stats);

/* ---- services ----------------------------------------------------------- */

struct microreg_pair {
    const char *key;
    const char *value;
};

/* The type of a request or response, as go-micro describes it. */
struct microreg_value {
    const char *name;
    const char *type;
    const struct microreg_value *values;
    size_t n_values;
};

struct microreg_endpoint {
    const char *name;
    const struct microreg_value *request;  /* Or NULL. */
    const struct microreg_value *response; /* Or NULL. */
    const struct microreg_pair *metadata;
    size_t n_metadata;
};

struct microreg_node {
    const char *id;
    const char *address; /* "host:port". */
    const struct microreg_pair *metadata;
    size_t n_metadata;
};

/* One version of a service and its nodes. Strings that are NULL count as "". */
struct microreg_service {
    const char *name;
    const char *version;
    const struct microreg_pair *metadata;
    size_t n_metadata;
    const struct microreg_endpoint *endpoints;
    size_t n_endpoints;
    const struct microreg_node *nodes;
    size_t n_nodes;
};

/* Services as a call found them. Everything in it belongs to it. */
struct microreg_services {
    const struct microreg_service *items; /* By name and version. */
    size_t n;
    uint64_t index; /* The revision of the state that was read. */
};

/* Flags of reads. Without one a read tells what the leader has committed. */
#define MICROREG_STALE 0x1u /* Any server's own state; works without leader. */
#define MICROREG_CONSISTENT 0x2u /* The leader asks the others first. */
/* get_service only: answer from memory when the service is watched and the
 * stream lives; what this client itself wrote is always in it. What others
 * wrote is, as a rule, milliseconds old; behind a server that hangs, at most
 * twice progress_ms; behind one that is cut off from the others, as old as
 * that. The first call with this flag begins to follow the service in the
 * background. */
#define MICROREG_WATCHED 0x4u

/* Flags of registrations. */
/* Renew it in the background each third of its TTL until it is deregistered,
 * and register it again after any loss. For programs without a loop of their
 * own; go-micro calls Register again and again instead. What has no TTL is not
 * renewed. */
#define MICROREG_KEEP_ALIVE 0x10u

/* Flags of watches. */
#define MICROREG_MARKS 0x100u  /* Tell MICROREG_SYNCED too. */
#define MICROREG_PREFIX 0x200u /* kv_watch_open: all keys that begin so. */

/* Register @service with all its nodes, for @ttl_ms milliseconds (1 s to 24 h;
 * 0: for ever). A registration that is there already is renewed if it is the
 * same and replaced otherwise, so repeating the call keeps it alive.
 *
 * MICROREG_E_INVALID: no nodes, no port in an address, not UTF-8, too large.
 * MICROREG_E_FENCED: see incarnation of struct microreg_options. */
MICROREG_API MICROREG_MUST_CHECK int
microreg_register(struct microreg *client,
                  const struct microreg_service *service, int64_t ttl_ms,
                  unsigned flags, struct microreg_error *out_error);

/* Remove the nodes of @service, and stop renewing them whatever is returned.
 * Only its name and its nodes' ids are looked at. Nodes that are not
 * registered are no error.
 *
 * When no server is reached, what had a TTL goes when that has passed. */
MICROREG_API MICROREG_MUST_CHECK int
microreg_deregister(struct microreg *client,
                    const struct microreg_service *service,
                    struct microreg_error *out_error);

/* All versions of the service @name that have a healthy node.
 *
 * The caller frees *@out_services with microreg_services_free().
 *
 * MICROREG_E_NOTFOUND: there is none. */
MICROREG_API MICROREG_MUST_CHECK int
microreg_get_service(struct microreg *client, const char *name, unsigned flags,
                     struct microreg_services **out_services,
                     struct microreg_error *out_error);

/* All services with all their healthy nodes. None is no error.
 *
 * The caller frees *@out_services with microreg_services_free(). */
MICROREG_API MICROREG_MUST_CHECK int
microreg_list_services(struct microreg *client, unsigned flags,
                       struct microreg_services **out_services,
                       struct microreg_error *out_error);

/* Free services. NULL is a no-op. */
MICROREG_API void microreg_services_free(struct microreg_services *services);

/* ---- services, as go-micro's JSON --------------------------------------- */

/* As microreg_register(), with the JSON of go-micro's registry.Service. */
MICROREG_API MICROREG_MUST_CHECK int
microreg_register_json(struct microreg *client, const char *json, size_t len,
                       int64_t ttl_ms, unsigned flags,
                       struct microreg_error *out_error);

/* As microreg_deregister(), with the JSON of go-micro's registry.Service. */
MICROREG_API MICROREG_MUST_CHECK int
microreg_deregister_json(struct microreg *client, const char *json, size_t len,
                         struct microreg_error *out_error);

/* As microreg_get_service(). *@out_json is an array of registry.Service with
 * a NUL behind its @out_len bytes; the caller frees it with microreg_free(). */
MICROREG_API MICROREG_MUST_CHECK int
microreg_get_service_json(struct microreg *client, const char *name,
                          unsigned flags, char **out_json, size_t *out_len,
                          struct microreg_error *out_error);

/* As microreg_list_services(). *@out_json is an array of registry.Service with
 * a NUL behind its @out_len bytes; the caller frees it with microreg_free(). */
MICROREG_API MICROREG_MUST_CHECK int
microreg_list_services_json(struct microreg *client, unsigned flags,
                            char **out_json, size_t *out_len,
                            struct microreg_error *out_error);

/* ---- watching ----------------------------------------------------------- */

/* The first three are the numbers of go-micro's registry.EventType. */
enum microreg_action {
    MICROREG_CREATE = 0,
    MICROREG_DELETE = 1,
    MICROREG_UPDATE = 2,
    MICROREG_SYNCED = 3 /* All that was there has been told; see MARKS. */
};

/* One change. After a delete the object is as it was before. */
struct microreg_event {
    enum microreg_action action;
    uint64_t index; /* The revision that changed it, or of the snapshot. */
    const struct microreg_service *service; /* With one node; or NULL. */
    const struct microreg_key *key;         /* In a watch of keys; or NULL. */
};

/* Watch one service, or all when @service is NULL or "". Dials nothing and does
 * not wait: the client's thread connects, and goes on trying for ever.
 *
 * The watch tells what is there as create events, and then each change of a
 * node, whole, once and in order. When a connection breaks it goes on at any
 * server where it stopped; when the servers no longer know what happened since
 * then, it tells the difference. So whoever applies the events to an empty
 * list has the list of the servers, always.
 *
 * A watch that is not read does not grow without bound: when too much has come
 * together, what was not read is replaced by the difference between what the
 * watch has told and what is there.
 *
 * All watches of services of a client share one connection. The caller
 * releases *@out_watch with microreg_watch_close(). */
MICROREG_API MICROREG_MUST_CHECK int
microreg_watch_open(struct microreg *client, const char *service,
                    unsigned flags, struct microreg_watch **out_watch,
                    struct microreg_error *out_error);

/* The next event. Waits for at most @timeout_ms; 0 does not wait, -1 waits
 * without end. *@out_event is borrowed until the next call with this watch.
 *
 * MICROREG_E_AGAIN: nothing happened in that time.
 * MICROREG_E_STOPPED: the watch was stopped; nothing comes any more. */
MICROREG_API MICROREG_MUST_CHECK int
microreg_watch_next(struct microreg_watch *watch, int timeout_ms,
                    const struct microreg_event **out_event,
                    struct microreg_error *out_error);

/* As microreg_watch_next(): {"action":"create","index":21,"service":{...}},
 * with "key":{...} (as in /v1/kv) in a watch of keys. The caller frees
 * *@out_json, which has a NUL behind its @out_len bytes, with
 * microreg_free(). */
MICROREG_API MICROREG_MUST_CHECK int
microreg_watch_next_json(struct microreg_watch *watch, int timeout_ms,
                         char **out_json, size_t *out_len,
                         struct microreg_error *out_error);

/* A file descriptor that is readable while the next call would return at once
 * (an event, or stopped): for poll() and event loops. Only poll it: neither
 * read nor close it; it is the watch's until microreg_watch_close(). It becomes
 * unreadable by reading the watch until MICROREG_E_AGAIN.
 *
 * -1: no descriptor is free. */
MICROREG_API int microreg_watch_fd(struct microreg_watch *watch);

/* Stop the watch: its reader gets MICROREG_E_STOPPED, now and ever after, also
 * one that waits. Any thread, as often as you like. */
MICROREG_API void microreg_watch_stop(struct microreg_watch *watch);

/* Stop the watch and free it. Nobody may read it. NULL is a no-op. */
MICROREG_API void microreg_watch_close(struct microreg_watch *watch);

/* ---- keys and values ---------------------------------------------------- */

struct microreg_key {
    const char *key;
    const void *value; /* With a NUL behind it that is not counted. */
    size_t len;
    uint64_t flags;
    uint64_t create_index;
    uint64_t modify_index; /* For microreg_kv_cas(). */
    uint64_t lock_index;
    const char *session; /* Who holds it as a lock, or "". */
};

/* Keys as a call found them. Everything in it belongs to it. */
struct microreg_keys {
    const struct microreg_key *items; /* By key. */
    size_t n;
    uint64_t index;
};

/* Conditions and additions of a write. Start from {0}. */
struct microreg_kv_options {
    uint64_t flags; /* Stored with the key. */
    bool has_cas;   /* Only when modify_index is still... */
    uint64_t cas;   /* ...this one; 0: only when there is no such key. */
    /* Only while the lock @fence_key is held under the number @fence, which
     * microreg_lock() gave. */
    const char *fence_key;
    uint64_t fence;
};

/* One key. The caller frees *@out_keys, which has one, with
 * microreg_keys_free().
 *
 * MICROREG_E_NOTFOUND: there is no such key. */
MICROREG_API MICROREG_MUST_CHECK int
microreg_kv_get(struct microreg *client, const char *key, unsigned flags,
                struct microreg_keys **out_keys,
                struct microreg_error *out_error);

/* All keys that begin with @prefix. None is no error. The caller frees
 * *@out_keys with microreg_keys_free(). */
MICROREG_API MICROREG_MUST_CHECK int
microreg_kv_list(struct microreg *client, const char *prefix, unsigned flags,
                 struct microreg_keys **out_keys,
                 struct microreg_error *out_error);

/* Free keys. NULL is a no-op. */
MICROREG_API void microreg_keys_free(struct microreg_keys *keys);

/* Set a key. @options may be NULL. It is sent once: when the answer is lost the
 * value may have been stored (MICROREG_E_TIMEOUT); it is never stored twice.
 *
 * MICROREG_E_REFUSED: a condition of @options was not met. */
MICROREG_API MICROREG_MUST_CHECK int
microreg_kv_put(struct microreg *client, const char *key, const void *value,
                size_t len, const struct microreg_kv_options *options,
                struct microreg_error *out_error);

/* Set a key if its modify_index is still @modify_index (0: if there is none).
 *
 * MICROREG_E_REFUSED: it is not. */
MICROREG_API MICROREG_MUST_CHECK int
microreg_kv_cas(struct microreg *client, const char *key, const void *value,
                size_t len, uint64_t modify_index,
                struct microreg_error *out_error);

/* Remove a key. @options may be NULL. That there is none is no error.
 *
 * MICROREG_E_REFUSED: a condition of @options was not met. */
MICROREG_API MICROREG_MUST_CHECK int
microreg_kv_delete(struct microreg *client, const char *key,
                   const struct microreg_kv_options *options,
                   struct microreg_error *out_error);

/* Remove all keys that begin with @prefix. */
MICROREG_API MICROREG_MUST_CHECK int
microreg_kv_delete_tree(struct microreg *client, const char *prefix,
                        struct microreg_error *out_error);

/* Watch a key, or with MICROREG_PREFIX all keys that begin with it. As
 * microreg_watch_open(), with a connection of its own. */
MICROREG_API MICROREG_MUST_CHECK int
microreg_kv_watch_open(struct microreg *client, const char *key, unsigned flags,
                       struct microreg_watch **out_watch,
                       struct microreg_error *out_error);

/* The keys that begin with @prefix, or with @recurse false the key @prefix, as
 * the JSON of /v1/kv with a NUL behind its @out_len bytes. The caller frees
 * it with microreg_free().
 *
 * MICROREG_E_NOTFOUND: there is none. */
MICROREG_API MICROREG_MUST_CHECK int
microreg_kv_list_json(struct microreg *client, const char *prefix, bool recurse,
                      char **out_json, size_t *out_len,
                      struct microreg_error *out_error);

/* ---- sessions and locks ------------------------------------------------- */

/* Start from {0}: 15 s, no delay beyond the server's default. */
struct microreg_session_options {
    const char *name;      /* For people. */
    int64_t ttl_ms;        /* 1 s to 24 h; 0: 15 s. */
    int64_t lock_delay_ms; /* Nobody gets its locks for so long after its loss,
                              at most 60 s; 0: the default, 15 s; -1: none. */
    bool delete_keys;      /* Its end removes the keys that it holds. */
};

/* Open a session and keep it alive in the background until it is closed. A
 * session that was lost does not come back: open another one.
 *
 * The caller releases *@out_session with microreg_session_close(). */
MICROREG_API MICROREG_MUST_CHECK int microreg_session_open(
    struct microreg *client, const struct microreg_session_options *options,
    struct microreg_session **out_session, struct microreg_error *out_error);

/* The session's ID. Borrowed until it is closed. */
MICROREG_API const char *
microreg_session_id(const struct microreg_session *session);

/* Whether the session is known to live: its last answered renewal is younger
 * than its TTL. What once was false stays false. */
MICROREG_API bool microreg_session_alive(struct microreg_session *session);

/* End the session, which gives its locks free, and free the handle. When no
 * server is reached it ends with its TTL. NULL is a no-op. */
MICROREG_API void microreg_session_close(struct microreg_session *session);

/* Get the lock @key, waiting for at most @timeout_ms (0: do not wait, -1:
 * without end).
 *
 * *@out_fence is the fencing number, greater than those of all holders before:
 * give it to each write on behalf of the lock (struct microreg_kv_options).
 *
 * Each request has a second to be answered, also when less is left.
 *
 * MICROREG_E_REFUSED: it is held by another session.
 * MICROREG_E_TIMEOUT: it may be held all the same: ask again, or unlock it.
 * MICROREG_E_NOTFOUND: the session has ended. */
MICROREG_API MICROREG_MUST_CHECK int
microreg_lock(struct microreg_session *session, const char *key, int timeout_ms,
              uint64_t *out_fence, struct microreg_error *out_error);

/* Give the lock @key back.
 *
 * MICROREG_E_REFUSED: this session does not hold it (any more). */
MICROREG_API MICROREG_MUST_CHECK int
microreg_unlock(struct microreg_session *session, const char *key,
                struct microreg_error *out_error);

#ifdef __cplusplus
}
#endif

#endif /* MICROREG_H */
