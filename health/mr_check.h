/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Active checks: HTTP, TCP, script, gRPC and alias, run by the agent that owns
 * the service.
 *
 * The runner follows the node's checks in the state: a check with a definition
 * that has a target and an interval is run, one that is gone is stopped. Its
 * result is reported when the status changed (after SuccessBeforePassing or
 * FailuresBeforeCritical runs in a row), and for a changed output alone at most
 * every output_interval. TTL checks stand on leases (health/mr_lease.h).
 *
 * Threads: one of its own, with a loop; nothing of it blocks another.
 * May use: base, kv, libuv, libcurl.
 */
#ifndef MR_CHECK_H
#define MR_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "kv/mr_kv.h"

struct mr_checks; /* The runner of one node. */

struct mr_checks_options {
    struct mr_kv *kv; /* Borrowed; outlives the runner. */
    const char *node; /* Whose checks to run; copied, as all texts. */
    const char *node_address;
    bool enable_scripts;         /* -enable-script-checks: from the API too. */
    bool enable_local_scripts;   /* Only those of configuration files. */
    uint64_t output_interval_ms; /* For output alone; 0: 5 min. */
    size_t output_max;           /* Bytes kept of an output; 0: 4096. */
    const struct mr_clock *clock;
    const struct mr_random *random; /* For jitter. */
    /* The check @check_id has this result; the texts are borrowed for the
     * call. Runner's thread; must only hand over. The runner goes on comparing
     * with what the state says, so a report that was lost is made again. */
    void (*report)(void *arg, const char *check_id, const char *status,
                   const char *output);
    void *arg;
};

/* Start the runner's thread. On success the caller owns *@out_checks and
 * releases it with mr_checks_stop(). MR_E_NOMEM, MR_E_IO. */
MR_MUST_CHECK enum mr_err
mr_checks_start(const struct mr_checks_options *options,
                struct mr_checks **out_checks, struct mr_detail *detail);

/* Stop: running probes and scripts (with their children) end; no report comes
 * after it returns. NULL is a no-op. */
void mr_checks_stop(struct mr_checks *checks);

/* Whether @check says one thing to probe, in Consul's words: exactly one kind,
 * an interval where one is needed, scripts only where they are allowed.
 * @from_file: it comes from a configuration file. MR_E_INVALID with @detail.
 * Any thread. */
MR_MUST_CHECK enum mr_err mr_check_validate(const Mr__Check *check,
                                            bool enable_scripts,
                                            bool enable_local_scripts,
                                            bool from_file,
                                            struct mr_detail *detail);

struct mr_checks_stats {
    uint64_t running; /* Checks followed now. */
    uint64_t probes;  /* Runs ended. */
    uint64_t reports;
    uint64_t timeouts;
};

/* Any thread. */
void mr_checks_stats(struct mr_checks *checks,
                     struct mr_checks_stats *out_stats);

#endif /* MR_CHECK_H */
