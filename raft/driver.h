/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver: the pure part of raft/. It drives libraft's core and adds to it
 * batching, forwarding, read rounds, commit propagation, compaction and
 * membership.
 *
 * Events go in as driver_*() calls; what must happen in the world comes out
 * through struct driver_io. The driver has no thread, no clock, no disk and no
 * network of its own, so a whole cluster of drivers runs in one process, in
 * virtual time, from a seed (tests/sim).
 *
 * How its user calls it, on one thread, in each round of the loop:
 *
 *   driver_tick(now) -> any number of events -> driver_tick(now) ->
 *   driver_flush()
 *
 * The second tick matters to a process that was stopped in between: what it
 * believed at the beginning of the round may be long over.
 *
 * driver_tick() sets the time for what follows and fires what is due. Events
 * only do what cannot wait; driver_flush() packs the waiting proposals, sends
 * the read rounds, propagates the commit index and sets the timer. A driver_io
 * function may be called from inside any of the three; its result comes back
 * later, as an event, never from inside the call.
 */
#ifndef MR_RAFT_DRIVER_H
#define MR_RAFT_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/slice.h"
#include "raft/mr_raft.h"

struct driver; /* One server's part in the cluster. */

/* ------------------------------------------------------------- entries */

/* Reference-counted bytes, shared without copies by the driver, the log
 * thread, the transport and the apply thread. Immutable once shared. */
struct driver_blob {
    uint32_t refs; /* Atomic. */
    size_t len;
    uint8_t data[];
};

/* A blob of @len uninitialised bytes with one reference; NULL: no memory. Any
 * thread. */
struct driver_blob *driver_blob_new(size_t len);

/* One more reference to @blob, which is returned. Any thread. */
struct driver_blob *driver_blob_ref(struct driver_blob *blob);

/* Drop a reference; the last one frees. NULL is a no-op. Any thread. */
void driver_blob_unref(struct driver_blob *blob);

enum driver_entry_type { /* Stored and sent: never renumber. */
                         DRIVER_ENTRY_COMMANDS =
                             1, /* A batch of commands, see raft/batch.h. */
                         DRIVER_ENTRY_BARRIER =
                             2, /* Nothing; opens a leader's term. */
                         DRIVER_ENTRY_CHANGE =
                             3 /* A configuration (libraft's encoding). */
};

/* One log entry. @data lies inside @blob, which several entries may share. */
struct driver_entry {
    uint64_t term;
    enum driver_entry_type type;
    struct mr_slice data;
    struct driver_blob *blob;
};

/* What a snapshot stands for. @conf is the configuration as of @index, encoded,
 * opaque; it was committed at @conf_index. */
struct driver_snapshot {
    uint64_t index;
    uint64_t term;
    uint64_t conf_index;
    struct mr_slice conf;
};

/* ------------------------------------------------------------- messages */

enum driver_message_type { /* Sent: never renumber. */
                           DRIVER_MSG_APPEND = 1,
                           DRIVER_MSG_APPEND_RESULT = 2,
                           DRIVER_MSG_VOTE = 3,
                           DRIVER_MSG_VOTE_RESULT = 4,
                           DRIVER_MSG_TIMEOUT_NOW = 5,
                           DRIVER_MSG_INSTALL =
                               6, /* Never sent: made by raft-io, see below. */
                           DRIVER_MSG_FORWARD = 7,
                           DRIVER_MSG_FORWARD_REPLY = 8,
                           DRIVER_MSG_READ = 9,
                           DRIVER_MSG_READ_REPLY = 10,
                           DRIVER_MSG_CONFIRM = 11,
                           DRIVER_MSG_CONFIRM_ACK = 12,
                           DRIVER_MSG_MEMBER = 13,
                           DRIVER_MSG_MEMBER_REPLY = 14
};

/* AppendEntries; the entries follow @prev_index without a gap. */
struct driver_append {
    uint64_t prev_index;
    uint64_t prev_term;
    uint64_t commit;
    const struct driver_entry *entries;
    size_t n_entries;
};

struct driver_append_result {
    uint64_t rejected; /* 0: accepted. */
    uint64_t last_index;
    uint32_t version; /* The core's three numbers, carried as they are. */
    uint32_t features;
    uint32_t capacity;
};

struct driver_vote {
    uint32_t version;
    uint64_t candidate;
    uint64_t last_index;
    uint64_t last_term;
    bool disrupt;
    bool pre_vote;
};

struct driver_vote_result {
    uint32_t version;
    bool granted;
    bool pre_vote;
    uint32_t features;
    uint32_t capacity;
};

struct driver_timeout_now {
    uint64_t last_index;
    uint64_t last_term;
};

/* A whole snapshot has arrived from the peer and lies checked on this disk,
 * under @file, raft-io's name for it. */
struct driver_install {
    struct driver_snapshot meta;
    uint64_t file;
};

/* Commands of one origin for the leader of message.term, in the order of their
 * sequence numbers, in the format of an entry. @prev_seq is the number of the
 * one before them in this term, 0 for none: the leader takes them only when
 * nothing is missing, so that each enters the log once. */
struct driver_forward {
    uint64_t incarnation;
    uint64_t prev_seq;
    struct mr_slice data; /* Inside @blob. */
    struct driver_blob *blob;
};

/* The leader of message.term has taken everything up to @last_seq. */
struct driver_forward_reply {
    uint64_t incarnation;
    uint64_t last_seq;
    enum mr_err err; /* MR_E_NOTLEADER, MR_E_BUSY (no room on disk). */
};

/* Ask the leader for an index that a read must wait for. */
struct driver_read_request {
    uint64_t seq;
    bool consistent;
};

struct driver_read_reply {
    uint64_t seq;
    uint64_t index;
    enum mr_err err;
};

/* "Is your term still message.term?" The acknowledgement says yes, and when it
 * does not, message.term is the other's term. */
struct driver_confirm {
    uint64_t round;
};

enum driver_member_op {
    DRIVER_MEMBER_ADD = 1, /* As a non-voter; promoted when caught up. */
    DRIVER_MEMBER_REMOVE = 2,
    DRIVER_MEMBER_TRANSFER = 3 /* Hand leadership to @id (0: to anyone). */
};

/* A joiner sends DRIVER_MEMBER_ADD with its own ID to any server it can reach,
 * with seq 0, again and again until driver_status.is_member. */
struct driver_member {
    uint64_t seq;
    enum driver_member_op op;
    uint64_t id;
    const char *address; /* host:port of the server to add, else "". */
};

struct driver_member_reply {
    uint64_t seq;
    enum mr_err err; /* MR_E_NOTLEADER: see leader_*. MR_E_BUSY: again. */
    uint64_t leader_id;
    const char *leader_address; /* "" when unknown. */
};

/* One message between servers. What it points to is borrowed for the call; who
 * wants to keep entries or @forward.data takes references to their blobs. */
struct driver_message {
    enum driver_message_type type;
    uint64_t term; /* The sender's or, where said, another. */
    union {
        struct driver_append append;
        struct driver_append_result append_result;
        struct driver_vote vote;
        struct driver_vote_result vote_result;
        struct driver_timeout_now timeout_now;
        struct driver_install install;
        struct driver_forward forward;
        struct driver_forward_reply forward_reply;
        struct driver_read_request read;
        struct driver_read_reply read_reply;
        struct driver_confirm confirm; /* And its acknowledgement. */
        struct driver_member member;
        struct driver_member_reply member_reply;
    };
};

/* ------------------------------------------------------------- the world */

/* One change of the log on disk: all of it or nothing of it, in this order:
 * term and vote, truncation, entries, snapshot. Writes are made in the order
 * of their tickets; several may share one synchronous commit. */
struct driver_log_write {
    uint64_t ticket; /* One more than the last write's. */
    bool has_vote;
    uint64_t term;
    uint64_t voted_for;
    uint64_t truncate_from; /* Drop entries from this index on; 0: none. */
    uint64_t first_index;   /* Of the entries. */
    const struct driver_entry *entries; /* Borrowed; reference the blobs. */
    size_t n_entries;
    /* Make @snapshot the snapshot in force and drop the entries before
     * @first_kept (which is at most snapshot.index + 1), or all of them when
     * @replace: the log then continues after the snapshot. */
    bool has_snapshot;
    bool replace;
    struct driver_snapshot snapshot;
    uint64_t file; /* Which one: from snapshot_taken or install. */
    uint64_t first_kept;
};

/* One committed command. @own is the proposal of this server that it came from,
 * or NULL; whoever applies it completes @own with MR_OK after the commit. */
struct driver_command {
    struct mr_slice data;
    struct mr_raft_proposal *own;
};

/* Committed entries (first_index .. last_index), to be applied in one
 * transaction. Batches come in order without gaps; n_commands may be 0. Owned
 * by whoever gets it. */
struct driver_batch {
    struct driver_batch *next; /* For the owner's use. */
    uint64_t first_index;
    uint64_t last_index;
    uint64_t last_term;
    size_t n_commands;
    struct driver_command *commands;
    size_t n_blobs; /* What keeps the commands' bytes alive. */
    struct driver_blob **blobs;
};

/* Release a batch. Own proposals in it must have been completed. Any thread. */
void driver_batch_free(struct driver_batch *batch);

/* What the driver needs done. None may call back into the driver. */
struct driver_io {
    void *arg;
    /* Call driver_tick() and driver_flush() at @deadline_ms at the latest;
     * replaces the deadline before. */
    void (*set_timer)(void *arg, uint64_t deadline_ms);
    /* Write to the log; report by driver_log_done(). */
    void (*log_write)(void *arg, const struct driver_log_write *write);
    /* Read entries @first .. @last, in order, at least one, stopping after
     * @max_bytes; report by driver_log_loaded() with @token. It must see every
     * log_write that was made before. */
    void (*log_load)(void *arg, uint64_t token, uint64_t first, uint64_t last,
                     size_t max_bytes);
    /* Send; may be dropped or delayed, should not be reordered. */
    void (*send)(void *arg, uint64_t peer, const struct driver_message *msg);
    /* Apply @batch (now the callee's); report by driver_applied(). */
    void (*apply)(void *arg, struct driver_batch *batch);
    /* Write a snapshot of the state machine to a durable file; report by
     * driver_snapshot_taken(). */
    void (*snapshot_take)(void *arg);
    /* Stream the snapshot that the newest log_write put in force, under
     * @term, to @peer, whose raft-io hands it to its driver as a
     * DRIVER_MSG_INSTALL of that term; report by driver_snapshot_sent(). */
    void (*snapshot_send)(void *arg, uint64_t peer, uint64_t term);
    /* Replace the state machine by the snapshot @file, after the batches that
     * were handed over before; report by driver_snapshot_installed(). */
    void (*snapshot_install)(void *arg, uint64_t file,
                             const struct driver_snapshot *meta);
    /* An installed or offered snapshot file is of no use: forget it. */
    void (*snapshot_drop)(void *arg, uint64_t file);
    /* Default reads may be answered at once while the clock is below
     * @until_ms (0: not). Publish it atomically. */
    void (*set_lease)(void *arg, uint64_t until_ms);
    /* Role, leader, term or configuration changed: see driver_status(). */
    void (*changed)(void *arg);
    /* This server cannot go on. The driver does nothing any more. */
    void (*fatal)(void *arg, enum mr_err err, const char *why);
};

/* ------------------------------------------------------------- life */

struct driver_options {
    uint64_t id;
    const char *address; /* host:port, informational. */
    /* Not 0, and greater in every start of the process: a counter on disk. */
    uint64_t incarnation;
    unsigned seed;         /* For election timeouts. */
    unsigned election_ms;  /* 0: 300. */
    unsigned heartbeat_ms; /* 0: 50. */
    uint64_t max_wait_ms;  /* For a leader; proposals and reads. 0: 5000. */
    size_t max_queue;      /* Proposals and, apart, reads waiting. 0: 65536. */
    /* Log bytes that start a snapshot, 0: 16 MB. When the last snapshot was
     * larger its size counts: a large state is not written again for a little
     * log. */
    uint64_t snapshot_bytes;
    uint64_t snapshot_entries; /* Likewise in entries; 0: 100000. */
    uint64_t trailing_entries; /* Kept below a snapshot; 0: 10000. */
    size_t cache_bytes;        /* Of entries in memory; 0: 4 MB. */
    struct driver_io io;
};

/* A run of log entries of one term. */
struct driver_term_run {
    uint64_t term;
    uint64_t n_entries;
};

/* What the disk holds at the start. All borrowed for the call. */
struct driver_disk {
    uint64_t term;
    uint64_t voted_for;
    bool has_snapshot;
    struct driver_snapshot snapshot;
    uint64_t first_index; /* Of the log: at most snapshot.index + 1; or 1. */
    const struct driver_term_run *runs; /* Terms of the entries, in order. */
    size_t n_runs;
    /* The entries of type DRIVER_ENTRY_CHANGE, all of them, in order. */
    const struct driver_change_at {
        uint64_t index;
        struct mr_slice conf;
    } * changes;
    size_t n_changes;
    uint64_t log_bytes;    /* Of the entries after the snapshot. */
    uint64_t applied;      /* What the state machine holds: at least the */
    uint64_t applied_term; /* snapshot's index. It may be beyond the log. */
};

/* Make a driver and start the core on what the disk holds. @options is copied.
 * The caller owns *@out_driver and releases it with driver_free(). Functions of
 * @options->io are called before this returns.
 *
 * MR_E_NOMEM. MR_E_CORRUPT: @disk contradicts itself. */
MR_MUST_CHECK enum mr_err driver_new(const struct driver_options *options,
                                     const struct driver_disk *disk,
                                     uint64_t now_ms,
                                     struct driver **out_driver,
                                     struct mr_detail *detail);

/* Complete every open proposal and read with MR_E_CLOSED and release the
 * driver. Batches handed to apply stay their owner's. NULL is a no-op. */
void driver_free(struct driver *d);

/* ------------------------------------------------------------- events */

/* It is @now_ms (never less than before): fire what is due. */
void driver_tick(struct driver *d, uint64_t now_ms);

/* End of a round of events: send what was collected. */
void driver_flush(struct driver *d);

/* A message from the server @peer. @msg is borrowed and may be anything:
 * what is inconsistent is dropped. */
void driver_receive(struct driver *d, uint64_t peer,
                    const struct driver_message *msg);

/* The connection to @peer can be used (again), or broke. Hints. */
void driver_peer_up(struct driver *d, uint64_t peer);
/* As driver_peer_up(). */
void driver_peer_down(struct driver *d, uint64_t peer);

/* All writes up to @ticket are durable. An error is fatal. */
void driver_log_done(struct driver *d, uint64_t ticket, enum mr_err err);

/* The answer to log_load: @n entries (at least one) from @first on; the array
 * is borrowed, the references to the blobs are now the driver's.
 * MR_E_NOTFOUND: compacted meanwhile. Other errors are fatal. */
void driver_log_loaded(struct driver *d, uint64_t token, enum mr_err err,
                       uint64_t first, const struct driver_entry *entries,
                       size_t n);

/* The state machine has committed everything up to @index. */
void driver_applied(struct driver *d, uint64_t index);

/* Whether somebody waits for driver_applied(). While nobody does it may come
 * late, with the next round. Asked after driver_flush(). */
bool driver_wants_applied(const struct driver *d);

/* A snapshot that was taken: the state at @index of @term. */
struct driver_taken {
    uint64_t index;
    uint64_t term;
    uint64_t file;  /* raft-io's name for it. */
    uint64_t bytes; /* Its size. */
};

/* The answer to snapshot_take. On failure @taken is not looked at; the log
 * grows and another one is tried later. */
void driver_snapshot_taken(struct driver *d, enum mr_err err,
                           const struct driver_taken *taken);

/* The answer to snapshot_send: arrived, or given up. */
void driver_snapshot_sent(struct driver *d, uint64_t peer, enum mr_err err);

/* The answer to snapshot_install. An error is fatal. */
void driver_snapshot_installed(struct driver *d, uint64_t file,
                               enum mr_err err);

/* Whether the disk has no room: a leader then takes no proposals
 * (MR_E_BUSY). */
void driver_disk_full(struct driver *d, bool is_full);

/* As mr_raft_propose(), from the core thread. Completed by done() for a
 * failure, through a driver_batch for success. MR_E_BUSY, MR_E_TOOBIG. */
MR_MUST_CHECK enum mr_err driver_propose(struct driver *d,
                                         struct mr_raft_proposal *proposal);

/* As mr_raft_read(), from the core thread. MR_E_BUSY. */
MR_MUST_CHECK enum mr_err driver_read(struct driver *d,
                                      struct mr_raft_read *read);

struct driver_server {
    uint64_t id;
    const char *address;
};

/* Begin the cluster's log with these servers as voters. Every one of them must
 * be given the same set; the order does not matter. Once in a server's life.
 * MR_E_EXISTS: it has a log or a leader already. MR_E_INVALID: not among them,
 * or an ID twice. */
MR_MUST_CHECK enum mr_err driver_bootstrap(struct driver *d,
                                           const struct driver_server *servers,
                                           size_t n);

/* Change the membership, from any server; @cb is called once, later, from
 * driver_tick() or driver_flush(). MR_E_NOTFOUND, MR_E_INVALID (no voter would
 * be left), MR_E_NOLEADER, MR_E_BUSY and MR_E_UNKNOWN come through @cb. */
void driver_member_change(struct driver *d, enum driver_member_op op,
                          uint64_t id, const char *address,
                          mr_raft_change_cb cb, void *arg);

/* As mr_raft_leave(). */
void driver_leave(struct driver *d, mr_raft_change_cb cb, void *arg);

/* Ask for a snapshot now; @cb as above. */
void driver_snapshot_now(struct driver *d, mr_raft_change_cb cb, void *arg);

/* ------------------------------------------------------------- looking */

struct driver_status {
    bool is_leader;
    bool is_ready; /* Leads, and has applied an entry of its own term. */
    bool is_candidate;
    bool is_voter;
    bool is_member; /* In the configuration in force. */
    bool ever_had_leader;
    uint64_t leader_id; /* 0: unknown. */
    uint64_t term;
    uint64_t stored_term; /* The newest that is on disk, with its vote. */
    uint64_t last_index;
    uint64_t commit_index;
    uint64_t applied_index;
    uint64_t snapshot_index;
    uint64_t snapshot_term;
    uint64_t log_bytes;      /* Since the snapshot. */
    uint64_t leader_seen_ms; /* When the leader was last heard; 0: never. */
    uint64_t conf_index;
    size_t n_peers;
    size_t n_voters;
};

/* The current state; cheap. */
void driver_status(const struct driver *d, struct driver_status *out_status);

/* One server of the configuration. */
struct driver_peer {
    uint64_t id;
    const char *address; /* Of the configuration; borrowed until an event. */
    size_t address_len;
    bool is_voter;
    uint64_t match_index; /* Leader only, else 0. */
};

/* The @i-th server of the configuration in force; false when there is none. */
bool driver_peer_at(const struct driver *d, size_t i,
                    struct driver_peer *out_peer);

/* The counters of mr_raft_stats that the driver keeps: proposals to
 * leader_changes, snapshots_*, read_rounds and queue_len. The others are left
 * alone. */
void driver_stats(const struct driver *d, struct mr_raft_stats *stats);

#endif /* MR_RAFT_DRIVER_H */
