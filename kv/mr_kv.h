/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kv: the replicated state (keys, catalog, leases, sessions), in LMDB.
 *
 * The state is a pure function of the commands applied so far. Nothing here
 * reads a clock, a random source or the network, so two servers that applied
 * the same commands hold the same rows; mr_kv_digest() lets anyone check it.
 *
 * Threads: applying, snapshot install and close are the apply thread's; views
 * are for any thread; waiters have their own header, kv/mr_kv_watch.h.
 * May use: base, LMDB, protobuf-c. Must not know that raft/ exists.
 *
 * Limits, in bytes: keys 8192, node names 180, service names 160, service IDs
 * 150, check IDs 178; a command that exceeds one is refused. How large a value
 * or a message may be is the caller's rule.
 *
 * Messages (Mr__Service ...) are those of kv/schema.proto. What a view hands
 * out is borrowed and valid until the view ends, unless stated otherwise.
 */
#ifndef MR_KV_H
#define MR_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/slice.h"
#include "kv/mr_kv_hooks.h"
#include "kv/schema.pb-c.h"

#define MR_KV_COMMAND_VERSION 1

struct mr_kv;      /* The store. One per server. */
struct mr_kv_view; /* A consistent read of the store at one revision. */

struct mr_kv_options {
    const char *dir; /* Created if missing; belongs to this store alone. */
    struct mr_kv_hooks hooks;
    /* Commit with sync: the store alone keeps what it holds (an agent's own
     * registrations), no log stands behind it. boot_id is not looked at. */
    bool is_durable;
    /* Identifies the running kernel. When the store was not closed cleanly
     * under this very boot, what it holds cannot be trusted (it is written
     * without sync) and it starts empty. "" trusts only a clean close. */
    const char *boot_id;
    uint64_t
        map_size; /* Upper bound of the store's size in bytes; 0: default. */
    size_t history_bytes; /* Of each part at most; 0: default. */
};

/* Open the store in @options->dir.
 *
 * On success the caller owns *@out_kv and releases it with mr_kv_close(). The
 * store may be empty although it held data, see boot_id: the caller rebuilds it
 * by mr_kv_restore() and the log.
 *
 * MR_E_IO, MR_E_NOSPACE: the folder cannot be read or written.
 * MR_E_CORRUPT:          the store fails its checks.
 * MR_E_VERSION:          a newer version wrote it. */
MR_MUST_CHECK enum mr_err mr_kv_open(const struct mr_kv_options *options,
                                     struct mr_kv **out_kv,
                                     struct mr_detail *detail);

/* Close the store, syncing it so that the next open trusts it. Every view must
 * have ended. NULL is a no-op. */
void mr_kv_close(struct mr_kv *kv);

/* ------------------------------------------------------------- applying */

/* What one command did. A refused command (a failed compare, an unknown check)
 * is a result and not an error: every server must refuse it alike. */
struct mr_kv_result {
    enum mr_kv_verdict {
        MR_KV_DONE,     /* It holds now, whether or not it changed anything. */
        MR_KV_MISMATCH, /* A compare-and-set did not match. */
        MR_KV_REFUSED /* Against a rule; text says which, in Consul's words. */
    } verdict;
    bool changed;      /* Whether the command got a revision of its own. */
    uint64_t revision; /* The store's revision after the command. */
    uint64_t fence;    /* A successful KeyPut.acquire: Key.fence. Else 0. */
    char text[256];    /* Why it was refused, else "". */
};

/* Begin a batch: the commands of one or more raft entries, applied in one
 * transaction. Readers see nothing of it before mr_kv_batch_commit().
 * MR_E_IO: the transaction cannot begin. */
MR_MUST_CHECK enum mr_err mr_kv_batch_begin(struct mr_kv *kv);

/* Apply one committed command (bytes of a Command) within the batch.
 *
 * Calls come in log order; @cmd is borrowed for the call. Any error means that
 * this server cannot follow the log any more: the caller must stop the process
 * and must not skip the command.
 *
 * MR_E_CORRUPT: @cmd does not decode. MR_E_VERSION: it is a newer version's.
 * MR_E_IO, MR_E_NOSPACE, MR_E_NOMEM: the transaction failed. */
MR_MUST_CHECK enum mr_err mr_kv_apply(struct mr_kv *kv, struct mr_slice cmd,
                                      struct mr_kv_result *out_result);

/* Commit the batch and record that everything up to the raft entry @index of
 * @term is applied (also for entries that hold no command). Then the new
 * revision is visible and the waiters of what changed are woken.
 *
 * Errors as mr_kv_apply(). */
MR_MUST_CHECK enum mr_err mr_kv_batch_commit(struct mr_kv *kv, uint64_t index,
                                             uint64_t term);

/* The last raft entry whose effects the store holds; 0 when empty. Any thread;
 * @out_term may be NULL. */
uint64_t mr_kv_applied(struct mr_kv *kv, uint64_t *out_term);

/* The store's revision: 1 when empty, and one step per command that changed
 * something. Any thread. */
uint64_t mr_kv_revision(struct mr_kv *kv);

/* The digest of the whole replicated state as of the last committed batch,
 * kept up to date incrementally: the sum over all rows of a 128-bit hash of
 * table, key and value. Equal on servers that applied the same log. Any
 * thread. @out_index (may be NULL) is the raft entry it belongs to. */
struct mr_hash128 mr_kv_digest(struct mr_kv *kv, uint64_t *out_index);

/* Recompute the digest from the rows of @kv, for checking the incremental
 * one. Any thread; walks everything. */
MR_MUST_CHECK enum mr_err mr_kv_digest_verify(struct mr_kv *kv,
                                              struct mr_hash128 *out_digest);

/* Encode @cmd (its version is set by the call) at the end of @out, whose sticky
 * failure reports a lack of memory. Any thread. */
void mr_kv_command_encode(Mr__Command *cmd, struct mr_buf *out);

/* ------------------------------------------------------------- snapshots */

/* Receives a snapshot's bytes in order; an error stops the writing and is
 * returned by mr_kv_snapshot(). */
typedef enum mr_err (*mr_kv_write_cb)(void *arg, struct mr_slice bytes);

/* Supplies up to @cap bytes; *@out_len 0 is the end. */
typedef enum mr_err (*mr_kv_read_cb)(void *arg, void *out, size_t cap,
                                     size_t *out_len);

/* Write the whole state as @view sees it, header first, in pieces of at most
 * 64 KiB. Snapshot thread; neither readers nor the apply thread wait. */
MR_MUST_CHECK enum mr_err mr_kv_snapshot(struct mr_kv_view *view,
                                         mr_kv_write_cb write, void *arg);

/* Replace the whole state by a snapshot. Apply thread, no batch open. All
 * waiters are woken; the revision may jump, never backwards for the caller's
 * clients because snapshots are of the same log.
 *
 * MR_E_CORRUPT: the bytes fail their checks (row count, digest); the state is
 * as before. Others as mr_kv_apply(). */
MR_MUST_CHECK enum mr_err mr_kv_restore(struct mr_kv *kv, mr_kv_read_cb read,
                                        void *arg, struct mr_detail *detail);

/* ------------------------------------------------------------- views */

/* Begin a read of the store as of its last committed batch. Any thread; cheap.
 * The view must end soon and on the same thread: while it lives, LMDB cannot
 * reuse pages. MR_E_BUSY: too many views at once. */
MR_MUST_CHECK enum mr_err mr_kv_view_begin(struct mr_kv *kv,
                                           struct mr_kv_view **out_view);

/* End the view and everything borrowed from it. NULL is a no-op. */
void mr_kv_view_end(struct mr_kv_view *view);

/* The revision the view shows. */
uint64_t mr_kv_view_revision(const struct mr_kv_view *view);

/* The raft entry up to which the view has applied, and its term (may be
 * NULL). */
uint64_t mr_kv_view_applied(const struct mr_kv_view *view, uint64_t *out_term);

/* Every query below reports in *@out_index (may be NULL) the index Consul sends
 * as X-Consul-Index for it: it moves when the query's answer changed, and never
 * goes backwards. It is at least 1.
 *
 * A callback returns false to stop the walk early. Walks are in the order of
 * Consul's answers (consul-parity: nodes by lower-cased name, instances by node
 * and service ID, checks by node and check ID).
 *
 * Names of nodes, services and tags match case-insensitively (ASCII).
 *
 * Errors of all: MR_E_NOMEM, MR_E_IO, MR_E_CORRUPT (a row does not decode). */

/* The key @key, or NULL in *@out_key when absent. */
MR_MUST_CHECK enum mr_err mr_kv_key_get(struct mr_kv_view *view,
                                        struct mr_slice key,
                                        const Mr__Key **out_key,
                                        uint64_t *out_index);

typedef bool (*mr_kv_key_cb)(void *arg, const Mr__Key *key);

/* Every key with the byte prefix @prefix, in byte order. The message is valid
 * for the call only. The index covers deletions under the prefix. */
MR_MUST_CHECK enum mr_err mr_kv_key_list(struct mr_kv_view *view,
                                         struct mr_slice prefix,
                                         mr_kv_key_cb cb, void *arg,
                                         uint64_t *out_index);

/* The distinct keys under @prefix, each cut after the first @separator that
 * follows the prefix (empty: not cut); key->value is not filled. Skips over
 * the rest of a cut subtree instead of walking it, except for the index. */
MR_MUST_CHECK enum mr_err mr_kv_key_names(struct mr_kv_view *view,
                                          struct mr_slice prefix,
                                          struct mr_slice separator,
                                          mr_kv_key_cb cb, void *arg,
                                          uint64_t *out_index);

/* The node @name, or NULL. */
MR_MUST_CHECK enum mr_err mr_kv_node_get(struct mr_kv_view *view,
                                         const char *name,
                                         const Mr__Node **out_node,
                                         uint64_t *out_index);

typedef bool (*mr_kv_node_cb)(void *arg, const Mr__Node *node);

/* Every node. The message is valid until the view ends. */
MR_MUST_CHECK enum mr_err mr_kv_node_list(struct mr_kv_view *view,
                                          mr_kv_node_cb cb, void *arg,
                                          uint64_t *out_index);

/* One name of a service with the union of its instances' tags (sorted). */
struct mr_kv_service_name {
    const char *name;
    const char *const *tags;
    size_t n_tags;
    uint64_t n_instances;
};

typedef bool (*mr_kv_service_name_cb)(void *arg,
                                      const struct mr_kv_service_name *name);

/* Every service name, sorted. Costs by names and tags, not by instances. The
 * argument is valid for the call only. */
MR_MUST_CHECK enum mr_err mr_kv_service_names(struct mr_kv_view *view,
                                              mr_kv_service_name_cb cb,
                                              void *arg, uint64_t *out_index);

/* One instance: its node, itself, and its checks: those of the node first, then
 * its own, each by check ID. */
struct mr_kv_instance {
    const Mr__Node *node;
    const Mr__Service *service;
    const Mr__Check *const *checks;
    size_t n_checks;
};

typedef bool (*mr_kv_instance_cb)(void *arg,
                                  const struct mr_kv_instance *instance);

/* Every instance of the service @name. Valid until the view ends, all but
 * the struct itself. Each node and its node checks are decoded once. */
MR_MUST_CHECK enum mr_err
mr_kv_service_instances(struct mr_kv_view *view, const char *name,
                        mr_kv_instance_cb cb, void *arg, uint64_t *out_index);

/* Whether a service of this name has an instance: for DNS, which looks for the
 * longest registered name. */
bool mr_kv_service_exists(struct mr_kv_view *view, const char *name);

/* The service @id of @node, or NULL. */
MR_MUST_CHECK enum mr_err mr_kv_service_get(struct mr_kv_view *view,
                                            const char *node, const char *id,
                                            const Mr__Service **out_service);

typedef bool (*mr_kv_service_cb)(void *arg, const Mr__Service *service);

/* The services of one node, by ID. Index as for the node's answer. */
MR_MUST_CHECK enum mr_err mr_kv_node_services(struct mr_kv_view *view,
                                              const char *node,
                                              mr_kv_service_cb cb, void *arg,
                                              uint64_t *out_index);

typedef bool (*mr_kv_check_cb)(void *arg, const Mr__Check *check);

/* The check @check_id of @node, or NULL. */
MR_MUST_CHECK enum mr_err mr_kv_check_get(struct mr_kv_view *view,
                                          const char *node,
                                          const char *check_id,
                                          const Mr__Check **out_check);

/* The checks of one node (its own and its services'), by check ID. */
MR_MUST_CHECK enum mr_err mr_kv_node_checks(struct mr_kv_view *view,
                                            const char *node, mr_kv_check_cb cb,
                                            void *arg, uint64_t *out_index);

/* The checks of the instances of the service @name (not of their nodes). */
MR_MUST_CHECK enum mr_err mr_kv_service_checks(struct mr_kv_view *view,
                                               const char *name,
                                               mr_kv_check_cb cb, void *arg,
                                               uint64_t *out_index);

/* Every check in @state; NULL is any state. */
MR_MUST_CHECK enum mr_err mr_kv_state_checks(struct mr_kv_view *view,
                                             const char *state,
                                             mr_kv_check_cb cb, void *arg,
                                             uint64_t *out_index);

/* Which rows have a lease follows from the rows (schema.proto, LeaseKind). A
 * command that changes a registration, a TTL check or an agent's node gives it
 * a new lease in place of the old one: who registers is alive, and an end that
 * is on its way misses its successor. One that changes nothing keeps the lease;
 * renewing it is the caller's part. */

typedef bool (*mr_kv_lease_cb)(void *arg, const Mr__Lease *lease);

/* Every lease, by ID. The message is valid for the call only. No index: leases
 * are not shown to clients. */
MR_MUST_CHECK enum mr_err mr_kv_lease_list(struct mr_kv_view *view,
                                           mr_kv_lease_cb cb, void *arg);

/* The lease @id, or NULL. Valid until the view ends. */
MR_MUST_CHECK enum mr_err mr_kv_lease_get(struct mr_kv_view *view, uint64_t id,
                                          const Mr__Lease **out_lease);

/* What mr_kv_lease_change.place is for @lease. Any thread. */
uint64_t mr_kv_lease_place(const Mr__Lease *lease);

/* What has to be known to renew something. */
struct mr_kv_lease_ref {
    uint64_t lease_id;    /* 0: it has no lease. */
    uint64_t digest;      /* Of a registration, else 0. */
    uint64_t incarnation; /* Likewise. */
    bool exists;          /* Whether the subject is there at all. */
};

/* The lease of the TTL check @id of @node (SUBJECT_CHECK), of the registration
 * @id on @node (SUBJECT_SERVICE), of the agent's node @node (SUBJECT_NODE; @id
 * is not looked at), or of the session @id (SUBJECT_SESSION). A lease that ends
 * something else (CRITICAL, NODE_REAP) cannot be renewed and counts as none.
 * Cheap: does not decode large rows. */
MR_MUST_CHECK enum mr_err mr_kv_lease_find(struct mr_kv_view *view,
                                           enum mr_kv_subject subject,
                                           const char *node, const char *id,
                                           struct mr_kv_lease_ref *out_ref);

typedef bool (*mr_kv_session_cb)(void *arg, const Mr__Session *session);

/* The session @id, or NULL. */
MR_MUST_CHECK enum mr_err mr_kv_session_get(struct mr_kv_view *view,
                                            const char *id,
                                            const Mr__Session **out_session,
                                            uint64_t *out_index);

/* Every session, in Consul's order; @node NULL: of all nodes. */
MR_MUST_CHECK enum mr_err mr_kv_session_list(struct mr_kv_view *view,
                                             const char *node,
                                             mr_kv_session_cb cb, void *arg,
                                             uint64_t *out_index);

typedef bool (*mr_kv_left_cb)(void *arg, const Mr__Left *left);

/* Every member that left in order and is not back, by name. */
MR_MUST_CHECK enum mr_err mr_kv_left_list(struct mr_kv_view *view,
                                          mr_kv_left_cb cb, void *arg);

/* What stands behind an IP address (text form of inet_ntop): the nodes and the
 * services that have it as their address. For DNS PTR. Either callback may be
 * NULL. */
MR_MUST_CHECK enum mr_err mr_kv_address_lookup(struct mr_kv_view *view,
                                               const char *address,
                                               mr_kv_node_cb node_cb,
                                               mr_kv_service_cb service_cb,
                                               void *arg);

/* ------------------------------------------------------------- figures */

struct mr_kv_stats {
    uint64_t revision;
    uint64_t applied_index;
    uint64_t keys;
    uint64_t nodes;
    uint64_t services; /* Distinct names. */
    uint64_t instances;
    uint64_t checks;
    uint64_t leases;
    uint64_t sessions;
    uint64_t bytes_used; /* Pages in use times page size. */
    uint64_t batches;    /* Transactions committed since open. */
    uint64_t commands;   /* Commands applied since open. */
    uint64_t waiters;    /* Parked readers now. */
    uint64_t history_bytes;
    uint64_t history_revisions; /* Of all parts together. */
};

/* Counters as of the last committed batch. Any thread. */
void mr_kv_stats(struct mr_kv *kv, struct mr_kv_stats *out_stats);

#endif /* MR_KV_H */
