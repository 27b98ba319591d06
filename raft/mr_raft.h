/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raft: gets opaque commands committed by a quorum, from any server, and hands
 * them back in order on every server.
 *
 * It owns libraft's core, the log, the snapshots' files and their transfer,
 * the connections between servers, joining and membership, and forwarding to
 * the leader. It does not know what a command means: the state machine is a
 * table of callbacks.
 *
 * Threads: the core runs on the loop given at open; the log has a thread, and
 * so has applying. Functions are core-thread-only unless they say "any thread".
 * May use: base, libraft, libuv, lmdb, protobuf-c. Must not know kv/.
 */
#ifndef MR_RAFT_H
#define MR_RAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/list.h"
#include "base/slice.h"
#include "base/text.h"

struct mr_raft; /* One server's part in the cluster. */
struct mr_raft_proposal;

/* The state machine. All calls come from the apply thread, one at a time,
 * except write_snapshot. An error stops the process (see on_fatal). */
struct mr_raft_fsm {
    void *arg;
    /* A batch of committed commands begins. */
    enum mr_err (*begin)(void *arg);
    /* Apply one command. @own is the proposal of this server that the command
     * came from, or NULL; the machine may leave the result in the struct that
     * embeds it. */
    enum mr_err (*apply)(void *arg, struct mr_slice cmd,
                         struct mr_raft_proposal *own);
    /* The batch is complete and covers the log up to @index of @term. After
     * this the proposals in it are completed. */
    enum mr_err (*commit)(void *arg, uint64_t index, uint64_t term);
    /* The last entry the machine holds; asked once, at open. */
    uint64_t (*applied)(void *arg, uint64_t *out_term);
    /* Write the machine's current state through @write. Called on the snapshot
     * thread. *@out_index and *@out_term are the entry it stands at, known
     * before the first byte is written. */
    enum mr_err (*write_snapshot)(
        void *arg, enum mr_err (*write)(void *ctx, struct mr_slice bytes),
        void *ctx, uint64_t *out_index, uint64_t *out_term);
    /* Replace the state by the snapshot that @read supplies (0 bytes: end). */
    enum mr_err (*read_snapshot)(void *arg,
                                 enum mr_err (*read)(void *ctx, void *out,
                                                     size_t cap,
                                                     size_t *out_len),
                                 void *ctx, struct mr_detail *detail);
};

struct mr_raft_options {
    const char *dir;     /* Log, snapshots, identity; created if missing. */
    const char *node_id; /* UUID of this server: its identity. */
    const char *node_name;
    const char *datacenter; /* Servers of another one are refused. */
    const char *bind_host;  /* IP literal to listen on. */
    uint16_t bind_port;
    const char *advertise_host; /* IP literal that the others use. */
    uint16_t advertise_port;
    unsigned
        bootstrap_expect;    /* Servers to wait for; 1: alone; 0: only join. */
    const char *const *join; /* host[:port], resolved late and again. */
    size_t n_join;
    uint64_t join_interval_ms;
    bool join_must_succeed;  /* -join: on_fatal when the first try fails. */
    uint64_t snapshot_bytes; /* Log size that starts a snapshot; 0: default. */
    uint64_t trailing_entries; /* Kept below a snapshot; 0: default. */
    size_t max_queue;          /* Proposals that may wait; 0: default. */
    const struct mr_clock *clock;
    const struct mr_random *random;
    struct mr_raft_fsm fsm;
    /* This server cannot go on (disk broken, log damaged, state machine
     * failed). Any thread; the process must stop. */
    void (*on_fatal)(void *arg, enum mr_err err, const char *why);
    /* Something in the status or the peers changed. Core thread. */
    void (*on_change)(void *arg);
    /* The server @from sent @msg with mr_raft_send(); borrowed for the call.
     * Core thread; NULL: such messages are dropped. */
    void (*on_message)(void *arg, uint64_t from, struct mr_slice msg);
    /* A connection to the servers' port speaks HTTP: an agent that is no
     * server. @fd, of which nothing was read, is the callee's from now on. Core
     * thread; NULL: such connections are closed. */
    void (*on_http)(void *arg, int fd);
    void *arg;
};

/* Open the log in @options->dir, listen, and take part in the cluster on
 * @loop, which must not run yet or be run by the calling thread. @options is
 * copied, with its texts.
 *
 * On success the caller owns *@out_raft and releases it with mr_raft_close().
 *
 * MR_E_INUSE, MR_E_ADDRESS: the address cannot be listened on.
 * After a failure the loop may still have to run once, to close handles.
 *
 * MR_E_FOREIGN: the folder belongs to another server (other node_id).
 * MR_E_VERSION: a newer version wrote it. MR_E_CORRUPT: it fails its checks.
 * MR_E_IO, MR_E_NOSPACE, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err mr_raft_open(uv_loop_t *loop,
                                       const struct mr_raft_options *options,
                                       struct mr_raft **out_raft,
                                       struct mr_detail *detail);

/* Stop: open proposals and reads end with MR_E_CLOSED, threads are joined, the
 * log is closed. @closed is called once, later, from the loop. Until it returns
 * other threads may still call, and are refused; then *@raft is gone. */
void mr_raft_close(struct mr_raft *raft, void (*closed)(void *arg), void *arg);

/* ------------------------------------------------------------- writing */

#define MR_RAFT_COMMAND_MAX (1024 * 1024)

/* Completes a proposal, once; apply thread or core thread. */
typedef void (*mr_raft_done_cb)(struct mr_raft_proposal *proposal,
                                enum mr_err err);

/* Embedded by the caller, which keeps it and its command until done is called.
 * What done tells is the truth:
 * MR_OK:         committed and applied here; the machine left the result.
 * MR_E_NOLEADER: no leader for max_wait_ms; certainly not committed.
 * MR_E_BUSY:     refused before it entered the log (queue or disk full).
 * MR_E_UNKNOWN:  it may or may not be committed, now or later.
 * MR_E_CLOSED:   this server is shutting down; as MR_E_UNKNOWN. */
struct mr_raft_proposal {
    struct mr_slice cmd;  /* Set by the caller; at most MR_RAFT_COMMAND_MAX. */
    mr_raft_done_cb done; /* Set by the caller. */
    /* Set by the caller: the command is right only as the work of the leader of
     * this term, so it is neither forwarded nor ever proposed again in another
     * term: it ends with MR_E_NOLEADER, or with MR_E_UNKNOWN when it may still
     * be committed. 0: any term. */
    uint64_t only_term;
    struct mr_list link; /* The rest is raft's. */
    uint64_t seq;
    uint64_t deadline_ms;
    uint64_t term;
    uint64_t index;
    int state;
};

/* Get @proposal->cmd committed, from any server: it is forwarded to the leader
 * when this server is not it. Commands proposed together are packed into one
 * log entry. A command that provably did not enter the log because its leader
 * fell is proposed again by itself. Any thread.
 *
 * MR_E_BUSY: too many wait; done will not be called.
 * MR_E_TOOBIG, MR_E_CLOSED: likewise. */
MR_MUST_CHECK enum mr_err mr_raft_propose(struct mr_raft *raft,
                                          struct mr_raft_proposal *proposal);

/* ------------------------------------------------------------- reading */

enum mr_raft_read_mode {
    MR_RAFT_READ_DEFAULT,   /* The leader's state. */
    MR_RAFT_READ_CONSISTENT /* Linearizable: the leader asked its quorum. */
};

struct mr_raft_read;
typedef void (*mr_raft_read_cb)(struct mr_raft_read *read, enum mr_err err);

/* Embedded by the caller and kept until done is called, on any of raft's
 * threads. MR_OK: a view begun now is fresh enough. MR_E_NOLEADER,
 * MR_E_TIMEOUT, MR_E_CLOSED: it is not. */
struct mr_raft_read {
    enum mr_raft_read_mode mode; /* Set by the caller. */
    mr_raft_read_cb done;        /* Set by the caller. */
    struct mr_list link;         /* The rest is raft's. */
    uint64_t deadline_ms;
    uint64_t index;
    int state;
};

/* Wait until the local state may answer a read of @read->mode. All reads that
 * wait together share one round of messages. Any thread.
 * MR_E_BUSY, MR_E_CLOSED: done will not be called. */
MR_MUST_CHECK enum mr_err mr_raft_read(struct mr_raft *raft,
                                       struct mr_raft_read *read);

/* Whether a default read may be answered from a local view at once: this
 * server leads, a majority confirmed that within the last election timeout,
 * and everything that it knows to be committed is applied, an entry of its own
 * term among it. False is always safe. Lock-free, any thread. */
bool mr_raft_may_read_local(const struct mr_raft *raft);

/* ------------------------------------------------------------- cluster */

struct mr_raft_status {
    bool has_leader;
    bool is_leader;
    bool is_ready; /* Leads, and has applied an entry of its own term. */
    bool is_voter;
    bool ever_had_leader; /* Since the start of the process. */
    uint64_t id;          /* Ours, derived from node_id. */
    uint64_t leader_id;
    char leader_address[MR_HOST_MAX + 8]; /* host:port, "" when unknown. */
    const char *role; /* "Leader", "Follower", "Candidate": static. */
    uint64_t term;    /* On disk: this server will never know an older one. */
    uint64_t last_log_index;
    uint64_t commit_index;
    uint64_t applied_index;
    uint64_t snapshot_index;
    uint64_t snapshot_term;
    uint64_t log_bytes;
    uint64_t last_contact_ms; /* Since the leader was heard; 0 on the leader;
                                 UINT64_MAX: never. */
    uint64_t cluster_id;      /* 0 until bootstrapped or joined. */
    uint64_t config_index;    /* Log index of the configuration in force. */
    size_t n_peers;           /* Servers in the configuration, us included. */
    size_t n_voters;
};

/* A copy of the current status. Any thread. */
void mr_raft_status(const struct mr_raft *raft,
                    struct mr_raft_status *out_status);

#define MR_RAFT_MESSAGE_MAX (256 * 1024)

/* Send @msg (copied) to the server @to. It arrives once, whole and in order, or
 * not at all: a broken connection loses it without a word. Core thread.
 * MR_E_TOOBIG, MR_E_NOTFOUND: no such server. MR_E_BUSY: too much waits for
 * it already. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err mr_raft_send(struct mr_raft *raft, uint64_t to,
                                       struct mr_slice msg);

struct mr_raft_peer {
    uint64_t id;
    char node_id[MR_UUID_LEN + 1]; /* "" until first heard. */
    char node_name[256];           /* Likewise. */
    char address[MR_HOST_MAX + 8]; /* host:port last known. */
    bool is_self;
    bool is_voter;
    bool is_leader;
    bool is_connected;        /* A frame from it arrived within a second. */
    uint64_t last_contact_ms; /* Since its last frame; UINT64_MAX: never. */
    uint64_t match_index;     /* Leader only. */
};

/* Copy up to @cap servers of the configuration, ordered by node name; returns
 * how many there are. Any thread. */
size_t mr_raft_peers(const struct mr_raft *raft, struct mr_raft_peer *out_peers,
                     size_t cap);

typedef void (*mr_raft_change_cb)(void *arg, enum mr_err err,
                                  const char *detail);

/* Remove the server @id from the configuration, from any server. @cb is called
 * once, later, on the core thread. Any thread.
 * MR_E_NOTFOUND through @cb: no such server. MR_E_NOLEADER. MR_E_INVALID: it
 * would leave no voter. */
void mr_raft_remove_peer(struct mr_raft *raft, uint64_t id,
                         mr_raft_change_cb cb, void *arg);

/* Leave the cluster in order: hand over leadership if held, then be removed
 * from the configuration. The last server of a cluster just succeeds. Any
 * thread; @cb as above. */
void mr_raft_leave(struct mr_raft *raft, mr_raft_change_cb cb, void *arg);

/* Hand leadership to another voter, if held. Any thread; @cb as above. */
void mr_raft_transfer(struct mr_raft *raft, mr_raft_change_cb cb, void *arg);

/* Try these addresses now, besides the configured ones. Any thread; @cb tells
 * whether one of them answered. */
void mr_raft_join(struct mr_raft *raft, const char *address,
                  mr_raft_change_cb cb, void *arg);

/* Take a snapshot now. Any thread; @cb as above. */
void mr_raft_snapshot(struct mr_raft *raft, mr_raft_change_cb cb, void *arg);

struct mr_raft_stats {
    uint64_t proposals;
    uint64_t forwarded;
    uint64_t entries;   /* Log entries written here. */
    uint64_t log_syncs; /* Synchronous log commits. */
    uint64_t elections; /* Times this server became candidate. */
    uint64_t leader_changes;
    uint64_t snapshots_taken;
    uint64_t snapshots_sent;
    uint64_t snapshots_installed;
    uint64_t read_rounds;
    uint64_t frames_in;
    uint64_t frames_out;
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t refused_peers; /* Handshakes refused. */
    uint64_t queue_len;
};

/* Counters since the start. Any thread. */
void mr_raft_stats(const struct mr_raft *raft, struct mr_raft_stats *out_stats);

/* Recover a cluster that lost its quorum for ever: make the server whose
 * folder is @dir the only voter of a cluster of one, which the others join
 * anew. The process must not run. Data that only the lost ones had is gone.
 * MR_E_INUSE: the server runs. Others as mr_raft_open(). */
MR_MUST_CHECK enum mr_err mr_raft_recover(const char *dir, const char *node_id,
                                          const char *advertise,
                                          struct mr_detail *detail);

#endif /* MR_RAFT_H */
