/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of the driver, shared by its files only:
 *
 *   driver.c      life, time, flush, status
 *   step.c        one step of the core and what it asks for
 *   receive.c     messages that come in
 *   stream.c      entries to the other servers, commit propagation
 *   commit.c      committed entries to the state machine
 *   propose.c     the queue, batching, forwarding
 *   read.c        read rounds, leadership confirmation, the lease
 *   compact.c     snapshots taken, sent and installed
 *   membership.c  bootstrap, servers added and removed
 *
 * Each part owns one struct in struct driver; the others only look at it.
 */
#ifndef MR_RAFT_DRIVER_IMPL_H
#define MR_RAFT_DRIVER_IMPL_H

#include <raft.h>

#include "base/list.h"
#include "raft/batch.h"
#include "raft/driver.h"
#include "raft/entries.h"

#define DRIVER_MAX_SERVERS 32
#define BATCHES_MAX 2 /* Being applied at a time. */

/* A log write that is not durable yet. */
struct driver_write {
    struct mr_list link;
    uint64_t ticket;
    uint64_t last; /* Highest of its entries still in the log; 0: none. */
    uint64_t since_ms;
};

/* Entries that are sent but not acknowledged, see stream.c. */
struct driver_chunk {
    uint64_t last;
    size_t bytes;
};

#define STREAM_CHUNKS 256

/* What this server knows of another one. */
struct driver_remote {
    uint64_t id;
    /* Leader: the entries next .. end go out when the window allows. */
    uint64_t next;
    uint64_t end;
    uint64_t start;              /* Where the core began this stretch. */
    uint64_t sent_ms;            /* Last chunk. */
    uint64_t told_commit;        /* Highest it can have learned. */
    uint64_t load_token;         /* 0: no load in flight. */
    struct driver_chunk *chunks; /* Ring of STREAM_CHUNKS; NULL: unused. */
    size_t chunk_head;
    size_t n_chunks;
    size_t window_bytes; /* Sum of the chunks. */
    uint64_t confirmed;  /* Highest round acknowledged in this term. */
    bool is_receiving;   /* A snapshot is on its way to it. */
    /* As an origin of forwarded commands, in this term. */
    uint64_t incarnation;
    uint64_t taken_seq;
    bool owes_reply;
    enum mr_err reply_err;
};

/* What a message behind a vote needs to be sent later. */
struct driver_held {
    struct mr_list link;
    uint64_t peer;
    struct driver_message msg;
};

/* A full batch that waits to be submitted. */
struct driver_ready {
    struct mr_list link;
    struct driver_blob *blob;
    size_t len;
};

struct driver_proposals {
    struct mr_list queue; /* Waiting, oldest first. */
    size_t n_queue;
    struct mr_list sent; /* On their way in the term p->term, in order. */
    size_t n_sent;
    size_t sent_bytes;
    uint64_t next_seq;
    uint64_t seen_term; /* Of the newest entry handed to apply. */
    /* Leader: the batch that collects commands, and the full ones. */
    struct batch_builder batch;
    struct mr_list ready;
    size_t n_ready;
    /* Follower: what went to the leader in session_term. */
    uint64_t session_term;
    uint64_t session_last;  /* Sequence number sent last. */
    uint64_t session_acked; /* Known to have arrived. */
    uint64_t progress_ms;   /* When something arrived last. */
    uint64_t gap_ms;        /* When a gap was repaired last. */
    uint64_t busy_until_ms; /* The leader had no room. */
};

/* Reads that wait for the same thing, see read.c. */
struct driver_read_group {
    struct mr_list link;
    struct mr_list reads; /* Of this server. */
    uint64_t peer;        /* Or of that server; 0: ours. */
    uint64_t peer_seq;
    bool consistent;
    uint64_t seq;   /* Follower: of the request. */
    uint64_t round; /* Leader: the round it waits for. */
    uint64_t index; /* To be applied before it is served. */
    uint64_t since_ms;
};

#define READ_ROUNDS 64

struct driver_reads {
    struct mr_list waiting[2]; /* New reads, by mode. */
    size_t n_reads;            /* Of this server, in any state. */
    struct mr_list foreign;    /* Groups of others, not yet in a round. */
    struct mr_list asked;      /* Groups that wait for the leader's answer. */
    struct mr_list confirming; /* Groups that wait for a round. */
    struct mr_list applying;   /* Groups that wait for the state machine. */
    size_t n_groups;
    uint64_t next_seq;
    uint64_t round;                 /* Of the newest round; never reset. */
    uint64_t confirmed;             /* Highest round a majority acknowledged. */
    uint64_t term_round;            /* Rounds up to it were of earlier terms. */
    uint64_t round_ms[READ_ROUNDS]; /* When round i % READ_ROUNDS began. */
    uint64_t lease_ms;              /* What was published last. */
};

enum driver_install_stage {
    INSTALL_NONE,
    INSTALL_WAITS,   /* For our own snapshot to be finished. */
    INSTALL_LOGGED,  /* The log is being replaced. */
    INSTALL_RESTORES /* The state machine is being replaced. */
};

struct driver_snapshots {
    uint64_t log_bytes;     /* Since the snapshot in force. */
    uint64_t bytes_at_take; /* What the one being taken will save. */
    uint64_t state_bytes;   /* Size of the last one taken here. */
    bool is_taking;
    uint64_t retry_ms; /* Not before, after a failure. */
    enum driver_install_stage stage;
    uint64_t ticket; /* Of the replacing write. */
    uint64_t file;
    struct driver_snapshot meta; /* meta.conf lies in conf. */
    struct driver_blob *conf;
    struct mr_list waiters; /* struct driver_request of snapshot_now. */
};

/* Something an operator or a joiner asked for. */
struct driver_request {
    struct mr_list link;
    enum driver_member_op op;
    uint64_t id;
    char address[MR_HOST_MAX + 8];
    uint64_t peer; /* Who asked; 0: this server, then cb. */
    uint64_t seq;
    mr_raft_change_cb cb;
    void *arg;
    uint64_t deadline_ms;
    uint64_t retry_ms; /* Asked the leader; again after this. */
    bool was_tried;    /* It may have been done already. */
    unsigned repeats;  /* Times the leader was asked. */
    uint64_t index;    /* Leader: the change that will do it; 0: none yet. */
    uint64_t term;
    bool has_result;
    enum mr_err result;
};

struct driver_members {
    struct mr_list requests; /* Of this server and, on the leader, others. */
    size_t n_requests;
    uint64_t next_seq;
    uint64_t promoting; /* Server whose catch-up the core watches. */
    uint64_t retry_ms;  /* Next promotion attempt. */
    bool was_removed;   /* The cluster told us so. */
};

struct driver {
    struct raft core;
    bool is_open; /* core is initialised. */
    bool is_dead; /* A fatal error was reported. */
    struct driver_options opt;
    char *address;
    uint64_t now;
    uint64_t timer_ms; /* What set_timer was told last. */
    struct entries log;

    /* Log writes, oldest first. */
    struct mr_list writes;
    uint64_t last_ticket;
    uint64_t done_ticket;
    uint64_t vote_ticket;  /* Messages wait for it. */
    uint64_t stored_term;  /* On disk. */
    uint64_t first_ticket; /* Of the bootstrap; applying waits for it. */
    struct mr_list held;

    /* The entries behind the step's event, for RAFT_UPDATE_ENTRIES. */
    const struct driver_entry *step_entries;
    const struct raft_entry *step_array;
    bool step_took_entries; /* The update handed them back. */

    /* The file behind a RAFT_RECEIVE of an install. */
    const struct driver_install *step_install;

    /* Commit and apply: applied <= handed <= commit. */
    uint64_t commit; /* Never goes back, unlike the core's. */
    uint64_t handed;
    uint64_t applied;
    uint64_t batches[BATCHES_MAX]; /* Last indexes of those on their way. */
    unsigned n_batches;
    uint64_t load_token; /* Of the load for applying; 0: none. */
    uint64_t next_token;

    /* Role as last seen; see role_check() in step.c. */
    bool was_leader;
    uint64_t seen_term;
    uint64_t seen_leader;
    uint64_t own_term_index; /* Leader: first entry of its term. */
    uint64_t leader_seen_ms;
    bool ever_had_leader;
    bool is_changed; /* io.changed is due. */
    bool is_disk_full;
    bool is_muted;        /* Leader whose disk hangs: says nothing any more. */
    uint64_t transfer_ms; /* Last attempt to hand over for a hung disk. */

    struct driver_remote *remotes[DRIVER_MAX_SERVERS];
    size_t n_remotes;
    uint64_t scan_ms; /* Next look at the deadlines. */

    struct driver_proposals props;
    struct driver_reads reads;
    struct driver_snapshots snaps;
    struct driver_members members;
    struct mr_raft_stats stats;
};

/* ------------------------------------------------------------- driver.c */

/* Report a fatal error, once. */
void driver_fatal(struct driver *d, enum mr_err err, const char *why);

/* The remote @id, made when it is new; NULL: too many or no memory. */
struct driver_remote *driver_remote_of(struct driver *d, uint64_t id);

/* Start the core anew with @first, the first entry of the log. */
MR_MUST_CHECK enum mr_err driver_restart_core(struct driver *d,
                                              const struct driver_entry *first);

/* Whether this server leads. */
bool driver_leads(const struct driver *d);

/* The known leader, this server included; 0: none. */
uint64_t driver_leader(const struct driver *d);

/* The core's entry for server @id in the configuration in force, or NULL. */
const struct raft_server *driver_server_of(const struct driver *d, uint64_t id);

/* Voters of the configuration in force. */
size_t driver_n_voters(const struct driver *d);

/* Whether this server is the only voter. */
bool driver_is_sole_voter(const struct driver *d);

/* ------------------------------------------------------------- step.c */

/* Step the core with @event (time and capacity are set here) and do what the
 * update asks for. Returns libraft's code; what is not an allowed refusal of a
 * submit or transfer is fatal. */
int driver_step(struct driver *d, struct raft_event *event);

/* Follow up on a step: role, commit index, configuration. Call it after a
 * series of steps, from outside of them. */
void driver_settle(struct driver *d);

/* Tell the core that its uncommitted configuration is committed. */
void driver_commit_change(struct driver *d);

/* Start a log write: takes a ticket and remembers it. The rest of @write is
 * filled in. */
void driver_log(struct driver *d, struct driver_log_write *write);

/* Send now, or after the vote it stands for is durable. */
void driver_send(struct driver *d, uint64_t peer,
                 const struct driver_message *msg);

/* Submit @n entries; their blobs stay the caller's. */
int driver_submit(struct driver *d, const struct driver_entry *entries,
                  size_t n);

/* Submit an empty entry. */
int driver_submit_barrier(struct driver *d);

/* Raise the term by one and vote for nobody in it, so that becoming leader
 * without an election (as the core lets a sole voter) has a term of its own. */
void driver_raise_term(struct driver *d);

/* A libraft message of the core, on its way to a peer. */
void driver_send_core(struct driver *d, const struct raft_message *msg);

/* ------------------------------------------------------------- stream.c */

/* The core wants @n entries after @prev sent to @peer. */
void driver_stream(struct driver *d, uint64_t peer, uint64_t prev, uint64_t n);

/* @peer has everything up to @index. */
void driver_stream_acked(struct driver *d, struct driver_remote *r,
                         uint64_t index);

/* Give up what does not move, so that the core notices. */
void driver_streams_check(struct driver *d);

/* @peer refused; forget what is under way. */
void driver_stream_reset(struct driver_remote *r);

/* Tell followers a new commit index. */
void driver_propagate_commit(struct driver *d);

/* Entries for a stream; false: @token is of no stream. */
bool driver_stream_loaded(struct driver *d, uint64_t token, enum mr_err err,
                          uint64_t first, const struct driver_entry *entries,
                          size_t n);

/* ------------------------------------------------------------- commit.c */

/* Hand what is committed and durable to the state machine. */
void driver_hand_over(struct driver *d);

/* Entries for applying. */
void driver_apply_loaded(struct driver *d, enum mr_err err, uint64_t first,
                         const struct driver_entry *entries, size_t n);

/* ------------------------------------------------------------- propose.c */

/* Make @props empty. */
void proposals_init(struct driver *d);

/* End everything open with @err. */
void proposals_close(struct driver *d, enum mr_err err);

/* Send or submit what waits. */
void proposals_flush(struct driver *d);

/* Leader, term or connection changed. */
void proposals_role_changed(struct driver *d);

/* An entry of @term is about to be handed over: what was sent in an older term
 * and did not come by now never will, so it is proposed again. */
void proposals_saw_term(struct driver *d, uint64_t term);

/* A snapshot skipped entries up to @term: their outcome is unknown. */
void proposals_skipped(struct driver *d, uint64_t term);

/* The own proposal that @id names, taken out of the lists; NULL: not ours. */
struct mr_raft_proposal *proposals_match(struct driver *d,
                                         const struct batch_id *id);

/* End what is past its deadline. */
void proposals_expire(struct driver *d);

/* DRIVER_MSG_FORWARD and its reply. */
void proposals_on_forward(struct driver *d, uint64_t peer,
                          const struct driver_message *msg);
/* See above. */
void proposals_on_reply(struct driver *d, uint64_t peer,
                        const struct driver_message *msg);

/* The connection to the leader is new: send again what may be lost. */
void proposals_resend(struct driver *d);

/* When proposals_flush() wants to be called at the latest. */
uint64_t proposals_deadline(const struct driver *d);

/* ------------------------------------------------------------- read.c */

/* Make the lists empty. */
void reads_init(struct driver *d);

/* End everything open with @err. */
void reads_close(struct driver *d, enum mr_err err);

/* Start the rounds and requests that wait. */
void reads_flush(struct driver *d);

/* Leader or term changed: everything starts again. */
void reads_role_changed(struct driver *d);

/* The state machine moved on. */
void reads_applied(struct driver *d);

/* End what is past its deadline, repeat what got no answer. */
void reads_expire(struct driver *d);

/* The four messages of reading. */
void reads_on_request(struct driver *d, uint64_t peer,
                      const struct driver_message *msg);
/* See above. */
void reads_on_reply(struct driver *d, uint64_t peer,
                    const struct driver_message *msg);
/* See above. */
void reads_on_confirm(struct driver *d, uint64_t peer,
                      const struct driver_message *msg);
/* See above. */
void reads_on_ack(struct driver *d, uint64_t peer,
                  const struct driver_message *msg);

/* Compute the lease and publish it when it changed. */
void reads_update_lease(struct driver *d);

/* ------------------------------------------------------------- compact.c */

/* Start a snapshot when the log is long enough. */
void snapshots_check(struct driver *d);

/* The core accepted the install that step_install describes. */
void snapshots_install(struct driver *d);

/* A log write became durable. */
void snapshots_logged(struct driver *d);

/* The core wants the newest snapshot sent to @peer. */
void snapshots_send(struct driver *d, uint64_t peer);

/* End everything open. */
void snapshots_close(struct driver *d);

/* ------------------------------------------------------------- membership.c */

/* Decode @conf into @out (the caller's, raft_configuration_close()). False:
 * it is no configuration. */
bool members_decode(struct mr_slice conf, struct raft_configuration *out);

/* Work on requests and promotions. */
void members_flush(struct driver *d);

/* End everything open with @err. */
void members_close(struct driver *d, enum mr_err err);

/* DRIVER_MSG_MEMBER and its reply. */
void members_on_request(struct driver *d, uint64_t peer,
                        const struct driver_message *msg);
/* See above. */
void members_on_reply(struct driver *d, uint64_t peer,
                      const struct driver_message *msg);

/* A server that is not a member campaigns: tell it. */
void members_stranger(struct driver *d, uint64_t peer);

/* Leadership or term changed. */
void members_role_changed(struct driver *d);

/* Call back and free @req. */
void members_finish(struct driver *d, struct driver_request *req,
                    enum mr_err err);

#endif /* MR_RAFT_DRIVER_IMPL_H */
