/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Active checks: HTTP, TCP, script, gRPC and alias, run by the agent that owns
 * the service.
 *
 * The runner follows the node's checks in the state: a check of origin AGENT
 * with a target and an interval is run, one that is gone is stopped. Its result
 * is reported when the status changed (after SuccessBeforePassing or
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
    /* Where to ask for other nodes, which aliases may name: the URL of an HTTP
     * API of the cluster; NULL: the store holds all nodes. */
    const char *cluster_url;
    bool enable_scripts;         /* -enable-script-checks: from the API too. */
    bool enable_local_scripts;   /* Only those of configuration files. */
    uint64_t output_interval_ms; /* For output alone; 0: 5 min. */
    size_t output_max;           /* Bytes kept of an output; 0: 4096. */
    const struct mr_clock *clock;
    const struct mr_random *random; /* For jitter. */
    /* Whether @check is what a configuration file says; asked before a script
     * runs under enable_local_scripts. Runner's thread; NULL: none is. */
    bool (*is_local)(void *arg, const Mr__Check *check);
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

/* Whether the parts of @check's definition go together, in Consul's words:
 * exactly one kind, an interval where one is needed, no negative sizes.
 * MR_E_INVALID with @detail. Any thread. */
MR_MUST_CHECK enum mr_err mr_check_validate(const Mr__Check *check,
                                            struct mr_detail *detail);

/* Whether @check runs a command, which an agent does only where it is allowed
 * to. Any thread. */
bool mr_check_is_script(const Mr__Check *check);

/* Why an agent that @may_run_scripts or not does not take @check, which came
 * from a configuration file or over the network; NULL: it does. Consul's words,
 * static. Any thread. */
const char *mr_check_refusal(const Mr__Check *check, bool may_run_scripts,
                             bool from_file);

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
