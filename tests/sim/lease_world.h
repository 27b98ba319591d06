/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cluster of lease engines in virtual time, from a seed.
 *
 * The engines are the real ones. Raft is played: one log, leaders with terms,
 * deposed ones that do not know it yet, entries of an old leader that survive or
 * not, servers that apply late, restart without memory or get a snapshot. Clocks
 * have offsets and drift, and stand still while a machine is suspended.
 *
 *   lease_world.c   time, network, the played raft, faults
 *   lease_owners.c  owners that renew, and what they demand
 */
#ifndef TESTS_SIM_LEASE_WORLD_H
#define TESTS_SIM_LEASE_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "health/mr_lease.h"

#define WORLD_SERVERS 5
#define WORLD_LEASES 4000
#define WORLD_OWNERS 24
#define WORLD_LOG 20000
#define WORLD_PENDING 256
#define WORLD_EVENTS 65536
#define WORLD_RING 8192 /* Milliseconds that an event may lie ahead. */

/* What is true of one lease. */
struct world_lease {
    uint64_t ttl_ms;
    uint64_t made_ms;
    uint64_t ended_ms; /* 0: it lives. */
    bool by_engine;    /* Ended by a LeaseEnd. */
    int owner;         /* -1: dead or elsewhere. */
    uint64_t asked_ms; /* When the last answered renewal was asked. */
    uint64_t tried_ms; /* When any was asked last. */
    uint64_t bad_ms;   /* world->bad_ms at that time. */
    uint64_t forgot;   /* world->n_forgot at that time. */
};

/* An entry of the played log. */
struct world_entry {
    enum world_entry_kind { ENTRY_NEW, ENTRY_GONE, ENTRY_NOOP } kind;
    uint64_t id;
    uint64_t ticket; /* Of the proposal it came from. */
    int proposer;    /* Slot, or -1. */
    unsigned incarnation;
};

/* A LeaseEnd that is not committed yet. */
struct world_pending {
    bool is_open;
    int slot;
    unsigned incarnation;
    uint64_t term;
    uint64_t ticket;
    uint64_t at_ms;
    bool reached[WORLD_SERVERS]; /* Who has it in its log. */
    size_t n;
    uint64_t ids[1000];
};

struct world_server {
    struct world *world;
    int slot;
    bool is_up;
    uint64_t paused_until;
    uint64_t suspended_until;
    unsigned incarnation;
    uint64_t started_ms;
    struct mr_leases *engine;
    int64_t clock_offset;
    int64_t drift_ppm;
    int64_t suspended_ms; /* In all. */
    uint64_t tick_ms;     /* World's time of the next tick. */
    uint64_t up_again_ms;
    /* Raft, as this server sees it. */
    uint64_t term;
    int leader; /* Slot or -1. */
    bool is_ready;
    uint64_t quorum_ms; /* Leader: when a majority was there last. */
    size_t n_applied;
    uint64_t apply_from; /* Applies nothing before. */
    bool must_confirm;
    uint64_t confirm_at;
    uint64_t confirm_term;
};

struct world_owner {
    int lease;  /* Index in leases, or -1. */
    int server; /* Asked last. */
    uint64_t interval_ms;
    uint64_t patience_ms; /* Then the next server is tried. */
    uint64_t next_ms;
    uint64_t dies_ms;
    bool leaves;    /* Takes its lease back instead of dying. */
    unsigned round; /* Renewals of older rounds do not matter. */
    bool is_waiting;
    uint64_t retry_ms;
};

struct world_event {
    struct mr_list link;
    enum { EVENT_MESSAGE, EVENT_ASK } kind;
    int from;
    int to;
    unsigned incarnation; /* Of the receiver. */
    struct world_ask *ask;
    size_t len;
    uint8_t *bytes;
};

/* One renewal asked of a server. */
struct world_ask {
    struct mr_lease_renewal renewal;
    struct mr_lease_item item;
    struct world *world;
    int owner;
    unsigned round;
    uint64_t asked_ms;
};

/* How bad the luck is. */
struct world_mood {
    unsigned servers;
    unsigned drop_permille;
    unsigned double_permille;
    unsigned late_permille; /* Messages delayed up to late_ms. */
    unsigned late_ms;
    unsigned fault_every_ms; /* 0: none. */
    bool one_at_a_time;      /* Faults leave a majority in good shape. */
    bool amnesia;            /* Nothing but kills, and quick restarts. */
    bool blackouts;          /* All servers at once are paused or cut off. */
    unsigned patience_ms;    /* Ends may be later by so much. */
};

struct world {
    uint64_t seed;
    uint64_t random;
    uint64_t now;
    struct world_mood mood;
    struct world_server servers[WORLD_SERVERS];
    bool cut[WORLD_SERVERS][WORLD_SERVERS];
    uint64_t healed_at[WORLD_SERVERS][WORLD_SERVERS];
    struct mr_list ring[WORLD_RING];

    /* The played raft. */
    uint64_t term;
    int leader;
    uint64_t ready_ms;
    bool is_ready;
    uint64_t election_ms;
    uint64_t quorum_lost_ms; /* A leader gives up after so long. */
    struct world_entry *log;
    size_t n_log;
    struct world_pending pending[WORLD_PENDING];

    struct world_lease *leases; /* ID is the index plus one. */
    size_t n_leases;
    struct world_owner owners[WORLD_OWNERS];

    uint64_t fault_ms;
    uint64_t bad_ms;   /* How long no majority could hear a renewal. */
    uint64_t n_forgot; /* Restarts that may have cost a majority its memory. */

    bool failed;
    char why[512];
    struct world_counts {
        uint64_t asked, renewed, unknown, unanswered, ended, left, elections,
            kills, pauses, cuts, resets, confirms;
        uint64_t latest_ms; /* The worst lateness that was allowed. */
    } counts;
};

/* ---- lease_world.c ---- */

/* Begin a world of @seed. */
void world_init(struct world *w, uint64_t seed, const struct world_mood *mood);

/* Go on until @end_ms. */
void world_run(struct world *w, uint64_t end_ms);

/* Stop all and release everything. */
void world_deinit(struct world *w);

/* A random number below @n. */
uint64_t world_random(struct world *w, uint64_t n);

/* Note what went wrong, once. */
void world_fail(struct world *w, const char *fmt, ...) MR_PRINTF(2, 3);

/* The clock of @s. */
uint64_t world_clock(const struct world_server *s);

/* Whether the cluster can commit something now. */
bool world_can_commit(const struct world *w);

/* Append to the log what clients did. */
void world_commit(struct world *w, enum world_entry_kind kind, uint64_t id);

/* Hand @ask to the server @slot after a moment. */
void world_send_ask(struct world *w, int slot, struct world_ask *ask);

/* No faults from now on. */
void world_heal(struct world *w);

/* ---- lease_owners.c ---- */

/* Make the owners. */
void owners_init(struct world *w);

/* Let them do what is due. */
void owners_step(struct world *w);

/* The lease @id was ended by a LeaseEnd that is committed now. */
void owners_on_end(struct world *w, uint64_t id);

/* A server takes @ask now: a renewal that lay in the socket of a paused one
 * counts from then on. */
void owners_on_taken(struct world *w, const struct world_ask *ask);

/* Look for leases that should be gone. */
void owners_look(struct world *w);

#endif /* TESTS_SIM_LEASE_WORLD_H */
