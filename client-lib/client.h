/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client consists of; the library's own header.
 *
 *   calls        run on the threads that make them (call.c), each with a line of
 *                its own: a curl multi handle that keeps connections
 *   watch thread reads the streams and feeds the watches (stream.c, watcher.c)
 *   keep thread  renews what is to be kept alive (keep.c)
 *
 * Locking: `lock` protects everything that its section names, and nothing is
 * sent or received while it is held. The client lives as long as somebody refers
 * to it: the program, its watches and its sessions.
 */
#ifndef MICROREG_CLIENT_H
#define MICROREG_CLIENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "address.h"
#include "err.h"
#include "mem.h"

struct mrg_line;
struct mrg_streams;
struct mrg_keeper;

struct mrg_stats {
    atomic_uint_least64_t requests, failovers, streams, stream_resets, events,
        collapses, renewals, reregistered;
};

struct microreg {
    atomic_size_t refs;
    struct mrg_stats stats;

    /* Fixed when it is opened; addresses are not in it. */
    struct microreg_options options;
    struct mrg_arena strings;

    pthread_mutex_t lock;
    bool is_closed;
    struct mrg_servers *servers;   /* lock. */
    struct mrg_servers *old_texts; /* lock: of microreg_get_options(). */
    struct mrg_line *lines;        /* lock: those that nobody uses. */
    size_t n_lines;                /* lock. */

    struct mrg_streams *streams; /* lock: NULL until the first watch. */
    struct mrg_keeper *keeper;   /* lock: NULL until something is registered. */
};

/* Take another reference. */
void mrg_client_ref(struct microreg *client);

/* Give a reference back; the last one frees the client. */
void mrg_client_unref(struct microreg *client);

/* The servers of now, with a reference that is the caller's. */
struct mrg_servers *mrg_client_servers(struct microreg *client);

/* Tell the program's log. */
__attribute__((format(printf, 3, 4))) void
mrg_log(struct microreg *client, int level, const char *format, ...);

/* Milliseconds of a clock that never goes back. */
uint64_t mrg_now_ms(void);

/* The same, but it goes on while the machine sleeps, where that is known. */
uint64_t mrg_boot_ms(void);

/* What is left until @deadline_ms: at least 1. */
int mrg_ms_until(uint64_t deadline_ms);

/* Initialise @cond so that it waits on the clock of mrg_now_ms(). */
int mrg_cond_init(pthread_cond_t *cond);

/* Wait on @cond until @deadline_ms (UINT64_MAX: without end). False: it is
 * past. */
bool mrg_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock,
                         uint64_t deadline_ms);

/* Start a thread with a small stack and all signals blocked. */
int mrg_thread_start(pthread_t *out_thread, void *(*run)(void *), void *arg);

#endif /* MICROREG_CLIENT_H */
