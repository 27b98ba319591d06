/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases: who was renewed when, and who is dead.
 *
 * A lease is a row of the replicated state; its renewals are not. Every server
 * keeps in memory when each lease was renewed last. The leader answers a
 * renewal when a majority of the voters has it in memory, and when a deadline
 * passes it proposes the lease's end. A new leader ends nothing and answers
 * nothing before it has applied an entry of its own term and merged what a
 * majority knows: so every renewal that was ever answered is known to it.
 *
 * The promise: a lease ends within [TTL, TTL + 1 s] after its last answered
 * renewal, also when the leader is killed, paused or cut off in between.
 * Ages travel between servers, never clock readings that mean anything to the
 * receiver; the clock is monotonic, and a pause is noticed as a gap in it.
 *
 * Pure: time is an argument, messages and proposals go out through callbacks.
 * A struct mr_leases belongs to one thread (the core thread). The same code
 * runs in the server and, many servers in one process, in tests/sim. An agent
 * that is no server runs one alone, with itself as the only voter.
 * May use: base, kv's headers.
 */
#ifndef MR_LEASE_H
#define MR_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"
#include "base/slice.h"
#include "kv/mr_kv.h"

struct mr_leases; /* All leases of the state, as one server knows them. */

/* A renewal that waits for its answer. Embedded by the caller, which keeps it
 * and its items until done is called, later, on the owner's thread. */
struct mr_lease_renewal {
    struct mr_lease_item {
        uint64_t id;
        enum mr_lease_answer {
            MR_LEASE_UNKNOWN, /* Ended, or never was: register again. */
            MR_LEASE_RENEWED, /* Lives for its TTL from the asking on. */
            MR_LEASE_PENDING  /* Not known; only when err is not MR_OK. */
        } answer;             /* Set before done. */
    } * items;
    size_t n_items;
    /* MR_OK: every item has its answer. MR_E_NOLEADER: nobody could tell in
     * time; PENDING ones may have been renewed. MR_E_BUSY: too many wait.
     * MR_E_CLOSED: the server is stopping. */
    void (*done)(struct mr_lease_renewal *renewal, enum mr_err err);
    struct mr_list link; /* The rest is the engine's. */
    uint64_t from;       /* Server that forwarded it; 0: asked here. */
    uint64_t seq;        /* Its number there. */
    size_t n_open;
    enum mr_err err;
};

/* Where what the engine decides goes. Called on the owner's thread, from within
 * any call below except mr_leases_new(). */
struct mr_leases_io {
    void *arg;
    /* A random number, another one after each start: tells others that this
     * server forgot what it knew. */
    uint64_t instance;
    /* To another server; may be lost. @msg is at most MR_LEASES_MESSAGE_MAX and
     * borrowed for the call. */
    void (*send)(void *arg, uint64_t to, struct mr_slice msg);
    /* Propose @cmd (an encoded Command with a LeaseEnd), valid only as the work
     * of the leader of @term; borrowed for the call. When the outcome is known
     * the owner calls mr_leases_proposed() with @ticket, never from within. */
    enum mr_err (*propose)(void *arg, uint64_t term, struct mr_slice cmd,
                           uint64_t ticket);
    /* Prove that this server still leads @term (a quorum is asked), and then
     * call mr_leases_confirmed(), never from within. */
    void (*confirm)(void *arg, uint64_t term);
};

#define MR_LEASES_MESSAGE_MAX (64 * 1024)

/* What raft says of the cluster. */
struct mr_leases_role {
    uint64_t self;   /* Raft IDs. */
    uint64_t leader; /* 0: unknown. */
    uint64_t term;
    bool is_ready; /* We lead and have applied an entry of our own term. */
    const uint64_t *voters; /* Borrowed for the call; self may be missing. */
    size_t n_voters;
    const char *name; /* Our node's name, for the evidence; borrowed. */
};

/* NULL: out of memory. @io is copied. */
struct mr_leases *mr_leases_new(const struct mr_leases_io *io, uint64_t now_ms);

/* Free it; what still waits is told MR_E_CLOSED by its done. NULL is a no-op. */
void mr_leases_free(struct mr_leases *leases);

/* Leases came or went (mr_kv_hooks.leases). A new one counts as renewed at
 * @now_ms. MR_E_NOMEM: the server cannot keep its promise and must stop. */
MR_MUST_CHECK enum mr_err
mr_leases_change(struct mr_leases *leases,
                 const struct mr_kv_lease_change *changes, size_t n,
                 uint64_t now_ms);

/* Forget all leases: mr_leases_change() will tell of others. What this server
 * knew of their renewals stays for those that come again. */
void mr_leases_reset(struct mr_leases *leases, uint64_t now_ms);

/* Take over what raft says; call it after every change. */
void mr_leases_set_role(struct mr_leases *leases,
                        const struct mr_leases_role *role, uint64_t now_ms);

/* A message of the server @from. Malformed ones are dropped and counted. */
void mr_leases_receive(struct mr_leases *leases, uint64_t from,
                       struct mr_slice msg, uint64_t now_ms);

/* Renew; from any server. It comes out of mr_leases_finished() within
 * MR_LEASES_RENEW_MS and a little. */
void mr_leases_renew(struct mr_leases *leases, struct mr_lease_renewal *renewal,
                     uint64_t now_ms);

/* A renewal that nobody could answer for so long ends with MR_E_NOLEADER. */
#define MR_LEASES_RENEW_MS 5000

/* Leases that may wait for an answer on one server; more are MR_E_BUSY. */
#define MR_LEASES_WAITING_MAX 100000

/* Take out the next renewal that is answered; NULL: none. The owner calls
 * renewal->done(renewal, renewal->err). To be asked after each mr_leases_tick().
 */
struct mr_lease_renewal *mr_leases_finished(struct mr_leases *leases);

/* See mr_leases_io; @err as of mr_raft_proposal. What the command did must have
 * been told by mr_leases_change() before. */
void mr_leases_proposed(struct mr_leases *leases, uint64_t ticket,
                        enum mr_err err, uint64_t now_ms);

/* See mr_leases_io. */
void mr_leases_confirmed(struct mr_leases *leases, uint64_t term,
                         enum mr_err err, uint64_t now_ms);

/* Do what is due: send the renewals of the last milliseconds in one message to
 * each server, end leases, take over, time out. Returns when to call again, in
 * milliseconds from @now_ms; call it after every call above as well. A gap
 * between calls that is much longer than announced is a pause of this server. */
uint64_t mr_leases_tick(struct mr_leases *leases, uint64_t now_ms);

/* What is known of the renewals of one lease. */
struct mr_lease_age {
    uint64_t ttl_ms;
    uint64_t silent_ms;
    uint32_t gaps_ms[4]; /* Between the last renewals, newest first. */
    size_t n_gaps;
};

/* Tell it, for `microreg why`; false: no such lease. */
bool mr_leases_age(const struct mr_leases *leases, uint64_t id, uint64_t now_ms,
                   struct mr_lease_age *out_age);

struct mr_leases_stats {
    uint64_t leases;
    uint64_t renewals;     /* Items answered MR_LEASE_RENEWED here. */
    uint64_t unknown;      /* Items answered MR_LEASE_UNKNOWN here. */
    uint64_t rounds;       /* Messages with renewals sent to all. */
    uint64_t ended;        /* Ends proposed. */
    uint64_t takeovers;    /* Times this server merged ages as a new leader. */
    uint64_t pauses;       /* Gaps of our own clock. */
    uint64_t bad_messages; /* Dropped. */
    uint64_t waiting;      /* Leases whose renewal waits now. */
};

/* Counters since the start. */
void mr_leases_stats(const struct mr_leases *leases,
                     struct mr_leases_stats *out_stats);

#endif /* MR_LEASE_H */
