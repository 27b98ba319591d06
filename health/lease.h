/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's inside: one struct, six files that work on it.
 *
 *   lease.c        life, role, messages, the tick; pauses
 *   lease_queue.c  renewals that wait
 *   lease_renew.c  the leader's rounds
 *   lease_forward.c  a follower's renewals on their way to the leader
 *   lease_take.c   what others know: a new leader asks all, a voter the leader
 *   lease_end.c    deadlines
 *
 * A leader's phases; every other server is in LEASE_FOLLOWS:
 *
 *   FOLLOWS -> ASKING -> LEADS
 *      ^_________/_________/
 */
#ifndef MR_HEALTH_LEASE_H
#define MR_HEALTH_LEASE_H

#include "health/lease_table.h"
#include "health/lease_wire.h"
#include "health/mr_lease.h"

#define LEASE_ROUND_MAX 3000u   /* Leases in a message: always fits. */
#define LEASE_ROUNDS_PER_TICK 4 /* Bounds one turn of the loop. */

#define LEASE_NEVER (INT64_MIN / 4) /* Sums with it do not overflow. */

#define LEASE_PEERS_MAX 32
#define LEASE_NAME_MAX 256

/* A pause of our own, and a time without a majority. Nothing that is as short
 * leads to an end that comes too early; it must be shorter than the shortest TTL
 * by far. */
#define LEASE_PAUSE_MS 250
#define LEASE_DEAF_MS 450

/* For so long after a new leader, a pause or deafness nothing ends: owners that
 * were trying get through. */
#define LEASE_GRACE_MS 300

/* When nobody could be heard for longer than this, that time does not count. */
#define LEASE_OUTAGE_MS 1500

/* Older messages are not believed; longer than a slow round trip. */
#define LEASE_STALE_MS 500

#define LEASE_ROUND_MS 2    /* Renewals are collected for so long. */
#define LEASE_BEAT_MS 150   /* The leader is heard at least so often. */
#define LEASE_RESEND_MS 300 /* What nobody answered is sent again. */
#define LEASE_ASK_MS 100    /* Likewise, questions for ages. */

/* Ends: so many in a command, and so many commands on their way. */
#define LEASE_END_BATCH 1000
#define LEASE_END_COMMANDS 4

/* One lease of a waiting renewal. */
struct lease_ref {
    struct mr_lease_renewal *renewal;
    size_t item;
    int64_t asked_ms; /* Our clock. */
    int64_t date_ms;  /* From when it counts, once it is in a batch. */
};

/* A renewal that another server forwarded. */
struct lease_forwarded {
    struct mr_lease_renewal renewal; /* Its link is in l->forwarded. */
    struct mr_lease_item items[];
};

/* A growing first-in-first-out of refs. */
struct lease_queue {
    struct lease_ref *refs;
    size_t first;
    size_t n; /* From first on. */
    size_t cap;
};

/* Refs that travel together: in a round of the leader, or forwarded to it. */
struct lease_batch {
    struct mr_list link;
    uint64_t seq;
    int64_t sent_ms;
    int64_t asked_ms; /* Of the oldest ref. */
    uint64_t acked;   /* Voters, one bit each. */
    size_t n;
    struct lease_ref refs[];
};

/* Another server. */
struct lease_peer {
    uint64_t id;
    uint64_t instance;
    /* Its newest reading and when it came, from which the floor is made. */
    uint64_t reading;
    int64_t reading_at_ms;
    /* Leader: when the newest message that it acknowledged was sent. */
    int64_t heard_ms;
    /* Being asked for ages. */
    enum { LEASE_ASK_NONE, LEASE_ASK_OPEN, LEASE_ASK_DONE } ask;
    bool has_asked_instance;
    uint64_t asked_instance; /* Of the first answer. */
    uint64_t nonce;
    uint64_t cursor;
    int64_t asked_ms;
    /* What it said. */
    bool is_synced;
    int64_t since_ms;   /* Our clock when it started. */
    int64_t contact_ms; /* Our clock when it heard a leader last. */
};

/* A lease that is due, and where its row lies. */
struct lease_doomed {
    uint64_t place;
    uint64_t id;
};

struct lease_command {
    uint64_t ticket; /* 0: free. */
    size_t n;
    uint64_t ids[LEASE_END_BATCH];
};

struct mr_leases {
    struct mr_leases_io io;
    int64_t started_ms; /* Or when it became a voter. */
    int64_t now_ms;     /* Of the call that runs. */
    int64_t due_ms;     /* When the next tick was announced for. */
    uint64_t next_seq;
    struct mr_leases_stats stats;
    struct mr_buf out;   /* The message being built. */
    struct mr_buf items; /* Of a round, for all. */

    /* The state's leases, and renewals of some that are not applied yet. */
    struct lease_table table;
    uint16_t epoch;  /* Of this state; leases of others are not applied. */
    uint64_t max_id; /* IDs up to this are applied or gone. */
    uint64_t n_leases;
    uint32_t sweep_slot; /* Looks for those that never came. */
    int64_t sweep_ms;

    /* What raft says. */
    uint64_t self;
    uint64_t leader;
    uint64_t term;
    uint64_t voters[LEASE_PEERS_MAX];
    size_t n_voters;
    char name[LEASE_NAME_MAX];
    struct lease_peer peers[LEASE_PEERS_MAX];
    size_t n_peers;

    /* Renewals. A ref is in one of these. */
    struct lease_queue queue; /* To be looked at. */
    struct lease_queue later; /* To be looked at again at later_ms. */
    struct mr_list rounds;    /* struct lease_batch, oldest first. */
    struct mr_list forwards;  /* Likewise. */
    struct mr_list finished;  /* struct mr_lease_renewal */
    struct mr_list forwarded; /* Renewals of others, all that exist. */
    size_t n_waiting;
    int64_t round_ms; /* When the last batch was sent. */
    int64_t later_ms;
    int64_t expire_ms; /* When to look for the old ones. */

    enum { LEASE_FOLLOWS, LEASE_ASKING, LEASE_LEADS } phase;

    /* Follower: what it asks of the leader. */
    bool is_synced;       /* Nothing that was acknowledged is forgotten. */
    bool wants_sync;      /* Ask the leader when it is heard. */
    uint64_t synced_term; /* Leader that was asked last. */
    uint64_t heard_term;  /* Leader that was heard. */
    int64_t contact_ms;   /* When a leader was heard last. */

    /* Leader. */
    uint8_t leading;   /* Counts the times we led, 1 to 255. */
    int64_t asking_ms; /* When the asking began. */
    /* Nobody could be heard in between: what was asked then counts from the
     * end of it. */
    int64_t outage_from_ms;
    int64_t outage_end_ms;
    int64_t counted_ms; /* Outages until then have moved the leases. */
    int64_t quiet_ms;   /* Nothing ends before. */
    int64_t beat_ms;    /* When all were sent something last. */
    bool is_deaf;       /* No majority answers. */
    int64_t deaf_ms;    /* When one was heard last. */
    bool must_confirm;  /* After a pause. */
    bool is_confirming;
    bool is_confirm_stale; /* Another pause came meanwhile. */
    int64_t confirm_ms;

    /* Walk over all leases, a part each tick, that moves what lies before
     * pass_cut_ms up to pass_floor_ms and on by pass_ms. */
    bool is_passing;
    uint32_t pass_slot;
    int64_t pass_cut_ms;
    int64_t pass_floor_ms;
    int64_t pass_ms;

    /* Due, in the order of their places; not in the heap, and not ending yet:
     * who is renewed in time gets away. */
    struct lease_doomed *doomed;
    size_t n_doomed;
    size_t doomed_at; /* The next one. */
    uint64_t next_ticket;
    struct lease_command commands[LEASE_END_COMMANDS];
};

/* ---- lease.c ---- */

/* The peer @id, made if need be; NULL: too many. */
struct lease_peer *lease_peer(struct mr_leases *l, uint64_t id);

/* Whether the state has @lease, as far as it is applied here. */
bool lease_is_applied(const struct mr_leases *l, const struct lease *lease);

/* Whether its end is being decided. */
bool lease_is_ending(const struct mr_leases *l, const struct lease *lease);

/* When @lease is due. */
int64_t lease_deadline(const struct lease *lease);

/* Put @lease into the heap, or further to the front when it is due earlier than
 * its place says. */
void lease_schedule(struct mr_leases *l, struct lease *lease);

/* Begin a message of @kind to @to in l->out. */
void lease_begin(struct mr_leases *l, struct lease_msg *msg, uint64_t to,
                 int64_t now);

/* Send what is in l->out. */
void lease_send(struct mr_leases *l, uint64_t to);

/* Whether @msg was sent a moment ago: only then its ages mean something. */
bool lease_is_fresh(const struct lease_msg *msg, int64_t now);

/* The greatest value that a majority of the @n values reaches; LEASE_NEVER when
 * there are none. */
int64_t lease_majority(const int64_t *values, size_t n);

/* Bit of the voter @id; 0: it is none. */
uint64_t lease_voter_bit(const struct mr_leases *l, uint64_t id);

/* Nobody could be heard from @from_ms until @now; we lead on, or begin to. All
 * leases count from @floor_ms at least. */
void lease_after_outage(struct mr_leases *l, int64_t from_ms, int64_t floor_ms,
                        int64_t now);

/* ---- lease_queue.c ---- */

/* The lease that @ref is about. */
uint64_t lease_ref_id(const struct lease_ref *ref);

/* Put @ref at the end of @q. Room was made when the renewal came: each queue has
 * it for all that wait. */
void lease_queue_push(struct lease_queue *q, struct lease_ref ref);

/* Take the first one out of @q, which is not empty. */
struct lease_ref lease_queue_pop(struct lease_queue *q);

/* Let @ref wait until later_ms. */
void lease_push_later(struct mr_leases *l, struct lease_ref ref);

/* One lease of a renewal has its answer, or will get none here. */
void lease_finish(struct mr_leases *l, struct lease_ref ref,
                  enum mr_lease_answer answer, enum mr_err err);

/* It cannot be told yet: it waits, or the server that forwarded it asks again. */
void lease_put_off(struct mr_leases *l, struct lease_ref ref);

/* Let the renewal, asked at @asked_ms or before that by @ages, wait in the
 * queue. MR_E_BUSY, MR_E_NOMEM: it does not. */
MR_MUST_CHECK enum mr_err lease_accept(struct mr_leases *l,
                                       struct mr_lease_renewal *r,
                                       int64_t asked_ms,
                                       struct lease_items *ages);

/* Send the answers of a forwarded renewal to where it came from. */
void lease_send_answer(struct mr_leases *l, const struct mr_lease_renewal *r);

/* An empty batch for @n refs, in no list; NULL: no memory. */
struct lease_batch *lease_batch_new(struct mr_leases *l, size_t n);

/* Add @ref. */
void lease_batch_add(struct lease_batch *b, struct lease_ref ref);

/* Take what @b holds back into the queue, and free it. */
void lease_dissolve(struct mr_leases *l, struct lease_batch *b);

/* The batch's items, with their ages at @now, into l->items. */
void lease_batch_encode(struct mr_leases *l, const struct lease_batch *b,
                        int64_t now);

/* Send @msg with l->items to @to. */
void lease_send_items(struct mr_leases *l, struct lease_msg *msg, uint64_t to,
                      int64_t now);

/* Time out what waits too long; look again at what was put off. */
void lease_renew_expire(struct mr_leases *l, int64_t now);

/* Nobody of whom we wait for answers is there any more: look again. */
void lease_renew_restart(struct mr_leases *l);

/* End everything with MR_E_CLOSED. */
void lease_renew_close(struct mr_leases *l);

/* ---- lease_renew.c ---- */

/* Look at what waits: send it on, or time it out. */
void lease_renew_tick(struct mr_leases *l, int64_t now);

/* Milliseconds until lease_renew_tick() has something to do. */
int64_t lease_renew_wait(const struct mr_leases *l, int64_t now);

/* RENEW */
void lease_on_renew(struct mr_leases *l, struct lease_peer *peer,
                    const struct lease_msg *msg, int64_t now);
/* ACK */
void lease_on_ack(struct mr_leases *l, struct lease_peer *peer,
                  const struct lease_msg *msg, int64_t now);

/* ---- lease_forward.c ---- */

/* Send the leader what waits. */
void lease_follow(struct mr_leases *l, int64_t now);

/* FORWARD */
void lease_on_forward(struct mr_leases *l, struct lease_peer *peer,
                      const struct lease_msg *msg, int64_t now);
/* ANSWER */
void lease_on_answer(struct mr_leases *l, const struct lease_msg *msg);

/* ---- lease_take.c ---- */

/* We lead a new term: ask all what they know. */
void lease_take_begin(struct mr_leases *l, int64_t now);

/* Ask again, go on with a pass. */
void lease_take_tick(struct mr_leases *l, int64_t now);

/* Milliseconds until lease_take_tick() has something to do. */
int64_t lease_take_wait(const struct mr_leases *l, int64_t now);

/* Walk over all leases: those before @now begin at @floor_ms at least, and
 * @by_ms later. */
void lease_take_pass(struct mr_leases *l, int64_t floor_ms, int64_t by_ms,
                     int64_t now);

/* ASK */
void lease_on_ask(struct mr_leases *l, struct lease_peer *peer,
                  const struct lease_msg *msg, int64_t now);
/* AGES */
void lease_on_ages(struct mr_leases *l, struct lease_peer *peer,
                   const struct lease_msg *msg, int64_t now);

/* ---- lease_end.c ---- */

/* Propose the ends that are due. */
void lease_end_tick(struct mr_leases *l, int64_t now);

/* Milliseconds until lease_end_tick() has something to do. */
int64_t lease_end_wait(const struct mr_leases *l, int64_t now);

/* We lead no more: what was proposed is the log's. */
void lease_end_forget(struct mr_leases *l);

#endif /* MR_HEALTH_LEASE_H */
