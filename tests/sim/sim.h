/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim: a whole cluster in one process, in virtual time, from a seed.
 *
 * The drivers are the real ones. Disks, network, clocks and the threads around
 * a driver are simulated: unsynced writes are lost at a crash, messages are
 * dropped, delayed, doubled and reordered, links are cut one way, processes are
 * paused, killed, lose their machine or their disk, servers come and go.
 *
 * sim_world.c   time, events, randomness, verdict
 * sim_disk.c    one server's log, snapshots and state machine
 * sim_kv.c      the real store beside the state machine, in some runs
 * sim_net.c     messages and snapshot transfers
 * sim_server.c  a driver and the threads around it
 * sim_client.c  clients, and the oracle that judges what they saw
 * sim_chaos.c   what goes wrong, and when
 */
#ifndef MR_SIM_H
#define MR_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/list.h"
#include "raft/driver.h"

#define SIM_SERVERS 8 /* Slots: addresses. A wiped server has a new ID. */
#define SIM_KEYS 16
#define SIM_CLIENTS 10
#define SIM_FILES 16

struct sim;
struct sim_server;

/* ------------------------------------------------------------- the world */

typedef void (*sim_fn)(struct sim *sim, void *arg);

/* A sound simulation ends with failed == false. */
struct sim {
    uint64_t seed;
    uint64_t rng;
    uint64_t now;
    struct mr_heap events;
    bool failed;
    char why[512];

    /* Shape and mood of this run. */
    size_t n_first;     /* Servers at the start. */
    uint64_t chaos_end; /* Faults until then ... */
    uint64_t end;       /* ... and quiet until then. */
    unsigned drop_pm;   /* Messages lost, per mille. */
    unsigned dup_pm;
    unsigned late_pm; /* Messages that are late by up to late_ms. */
    unsigned late_ms;
    unsigned write_gap_ms; /* Between a client's operations. */
    unsigned payload;      /* Bytes of a command. */
    unsigned disk_ms;      /* A write takes up to that. */
    bool has_kv;           /* With the real store. */
    bool is_quiet;         /* The faults are over ... */
    bool is_settled;       /* ... for so long that all must be well. */
    uint64_t n_crashes;
    uint64_t n_elections;
    uint64_t n_installs;
    uint64_t n_wipes;
    bool is_stopped; /* Clients begin nothing any more. */

    uint64_t max_wait_ms;
    uint64_t snapshot_entries;
    uint64_t trailing_entries;
    size_t cache_bytes;

    struct sim_server *servers[SIM_SERVERS];
    struct sim_server *graves[SIM_SERVERS]; /* Freed at the very end. */
    size_t n_graves;
    /* May change a message on its way, or lose it (false). NULL: none. */
    bool (*filter)(struct sim *sim, struct driver_message *msg);
    bool cut[SIM_SERVERS][SIM_SERVERS];         /* From, to. */
    uint64_t link_ms[SIM_SERVERS][SIM_SERVERS]; /* FIFO mark. */
    uint64_t next_id;                           /* Of servers. */
    uint64_t next_file;

    struct sim_client *clients;
    struct sim_oracle *oracle;
    struct sim_chaos *chaos;
};

/* A world without servers. */
void sim_init(struct sim *sim, uint64_t seed);

/* Release everything. */
void sim_deinit(struct sim *sim);

/* A number in [0, @n). */
uint64_t sim_random(struct sim *sim, uint64_t n);

/* True @pm times in a thousand. */
bool sim_chance(struct sim *sim, unsigned pm);

/* Call @fn with @arg at @when (not before now). */
void sim_at(struct sim *sim, uint64_t when, sim_fn fn, void *arg);

/* Run events until @until, or until the run failed. */
void sim_run(struct sim *sim, uint64_t until);

/* The run failed: remember the first reason. */
void sim_fail(struct sim *sim, const char *fmt, ...) MR_PRINTF(2, 3);

/* ------------------------------------------------------------- the disk */

/* The state machine: registers and the order of what was applied. */
struct sim_fsm {
    uint64_t index; /* Last entry applied. */
    uint64_t term;
    uint64_t n_applied; /* Commands. */
    uint64_t digest;
    uint64_t regs[SIM_KEYS];
};

struct sim_file {
    uint64_t name; /* 0: free. */
    struct sim_fsm fsm;
    struct driver_blob *kv; /* The store's snapshot, or NULL. */
};

struct sim_kv; /* The real store of one server. */

/* What survives a crash. */
struct sim_disk {
    uint64_t incarnation;
    uint64_t term;
    uint64_t vote;
    uint64_t first;
    struct driver_entry *entries;
    size_t n;
    size_t cap;
    bool has_snapshot;
    struct driver_snapshot snapshot;
    struct driver_blob *conf;
    uint64_t file;
    struct sim_file files[SIM_FILES];
    struct sim_fsm fsm; /* Lost with the machine, not with the process. */
    struct sim_kv *kv;  /* Likewise; NULL in most runs. */
};

/* An empty disk. */
void sim_disk_init(struct sim_disk *disk);

/* Release it. */
void sim_disk_deinit(struct sim_disk *disk);

/* A write that waits for its turn. */
struct sim_write {
    struct mr_list link;
    struct sim_server *server;
    uint64_t generation;
    uint64_t done_ms;
    struct driver_log_write w; /* Deep copy. */
    struct driver_blob *conf;
};

/* Copy @w. */
struct sim_write *sim_write_new(const struct driver_log_write *w);

/* Release it. */
void sim_write_free(struct sim_write *write);

/* Carry it out. False: it does not fit what is there. */
bool sim_disk_write(struct sim_disk *disk, const struct driver_log_write *w);

/* The file @name, or NULL. */
struct sim_file *sim_disk_file(struct sim_disk *disk, uint64_t name);

/* Remove a file; NULL is a no-op. */
void sim_disk_remove(struct sim_file *file);

/* A free place for a file; NULL: none. */
struct sim_file *sim_disk_new_file(struct sim_disk *disk, uint64_t name);

/* Start a driver on @disk. */
enum mr_err sim_disk_open(struct sim_disk *disk,
                          const struct driver_options *options, uint64_t now,
                          struct driver **out_driver, struct mr_detail *detail);

/* ------------------------------------------------------------- the store */

/* An empty store in a folder of its own. */
struct sim_kv *sim_kv_new(void);

/* Close it and remove the folder. NULL is a no-op. */
void sim_kv_free(struct sim_kv *kv);

/* Begin a batch, apply a command of a client as one of the store, commit. */
enum mr_err sim_kv_begin(struct sim_kv *kv);
/* See above. */
enum mr_err sim_kv_apply(struct sim_kv *kv, struct mr_slice cmd);
/* See above. */
enum mr_err sim_kv_commit(struct sim_kv *kv, uint64_t index, uint64_t term);

/* The store's snapshot, or NULL on failure. */
struct driver_blob *sim_kv_snapshot(struct sim_kv *kv);

/* Replace the store by a snapshot. */
enum mr_err sim_kv_restore(struct sim_kv *kv, const struct driver_blob *blob);

/* The entry it stands at. */
uint64_t sim_kv_index(struct sim_kv *kv);

/* Whether both hold the same, and what they say they hold. */
bool sim_kv_equal(struct sim_kv *a, struct sim_kv *b);

/* ------------------------------------------------------------- a server */

struct sim_server {
    struct sim *sim;
    size_t slot;
    uint64_t id;
    char address[24];
    uint64_t generation; /* Changes when the process starts or dies. */
    bool is_up;
    bool is_gone; /* Removed from the cluster: stays down. */
    bool wants_join;
    bool is_founder;     /* Begins the cluster while its disk is empty. */
    bool mute_elections; /* Its vote requests are lost. */
    uint64_t paused_until;
    uint64_t slow_until; /* The disk hangs until then. */
    struct driver *driver;
    struct sim_disk disk;
    struct mr_list writes;           /* Pending, oldest first. */
    uint64_t write_ms;               /* FIFO mark of the disk. */
    uint64_t apply_ms;               /* FIFO mark of the apply thread. */
    uint64_t said_applied;           /* To a driver that waited for it. */
    struct driver_batch *batch_head; /* Being applied, oldest first. */
    uint64_t timer_ms;
    uint64_t lease_ms;
    struct driver_snapshot force; /* Meta of the newest snapshot written. */
    struct driver_blob *force_conf;
    uint64_t force_file;
};

/* A server with an empty disk in @slot, down. */
struct sim_server *sim_server_new(struct sim *sim, size_t slot);

/* Release it. */
void sim_server_free(struct sim_server *s);

/* Start the process. */
void sim_server_start(struct sim_server *s);

/* Kill it; @power: the machine goes down, the state machine is lost. */
void sim_server_crash(struct sim_server *s, bool power);

/* Take away its disk; it is down. It comes back as a new server. */
void sim_server_wipe(struct sim_server *s);

/* Begin the cluster's log with @n servers from slot 0 on. */
void sim_server_bootstrap(struct sim_server *s, size_t n);

/* Run @fn on @s's core thread at @when; dropped when the process is another
 * one by then. @free_fn (may be NULL) releases @arg in any case. */
void sim_post(struct sim_server *s, uint64_t when,
              void (*fn)(struct sim_server *s, void *arg), void *arg,
              void (*free_fn)(void *arg));

/* The server whose ID is @id, or NULL. */
struct sim_server *sim_server_by_id(struct sim *sim, uint64_t id);

/* ------------------------------------------------------------- the network */

/* driver_io.send. */
void sim_net_send(struct sim_server *from, uint64_t peer,
                  const struct driver_message *msg);

/* driver_io.snapshot_send. */
void sim_net_snapshot(struct sim_server *from, uint64_t peer, uint64_t term);

/* ------------------------------------------------------------- the clients */

/* An oracle alone. */
void sim_oracle_new(struct sim *sim);

/* The number of a new command. */
uint64_t sim_oracle_new_op(struct sim *sim);

/* Start the clients, with an oracle. */
void sim_clients_start(struct sim *sim);

/* Let what is under way end and begin nothing new. */
void sim_clients_stop(struct sim *sim);

/* Release clients and oracle. */
void sim_clients_free(struct sim *sim);

/* @s applies @cmd, which came from @own of this server or NULL. */
void sim_oracle_apply(struct sim_server *s, struct mr_slice cmd,
                      struct mr_raft_proposal *own);

/* @s has applied everything up to @index. */
void sim_oracle_commit(struct sim_server *s, uint64_t index, uint64_t term);

/* Look at @s after every event. */
void sim_oracle_watch(struct sim_server *s);

/* After the quiet phase: everything must be well. */
void sim_oracle_end(struct sim *sim);

/* What happened, for the summary. */
struct sim_counts {
    uint64_t acked;
    uint64_t refused;
    uint64_t unknown;
    uint64_t reads[3]; /* default, consistent, failed */
    uint64_t stale_defaults;
    uint64_t terms;
    uint64_t commands;
    uint64_t crashes;
    uint64_t elections;
    uint64_t installs;
    uint64_t wipes;
};

/* The counts so far. */
void sim_oracle_counts(const struct sim *sim, struct sim_counts *out_counts);

/* ------------------------------------------------------------- the chaos */

/* Choose a mood, make the servers, start everything. */
void sim_chaos_start(struct sim *sim);

/* Release it. */
void sim_chaos_free(struct sim *sim);

#endif /* MR_SIM_H */
