/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's life, its time, and what it shows of itself. */
#include "raft/driver_impl.h"

#include <string.h>

#include "base/mem.h"
#include "raft/error.h"

#define ELECTION_MS 300
#define HEARTBEAT_MS 50
#define INSTALL_MS 1500
#define INFLIGHT_MAX 4096
#define MAX_WAIT_MS 5000
#define MAX_QUEUE 65536
#define SNAPSHOT_BYTES (16ull * 1024 * 1024)
#define SNAPSHOT_ENTRIES 100000
#define TRAILING_ENTRIES 10000
#define CACHE_BYTES (4u * 1024u * 1024u)
#define SCAN_MS 100 /* Between looks at the deadlines. */

/* ------------------------------------------------------------- shared */

void driver_fatal(struct driver *d, enum mr_err err, const char *why)
{
    if (!d->is_dead) {
        d->is_dead = true;
        d->opt.io.set_lease(d->opt.io.arg, 0);
        d->opt.io.fatal(d->opt.io.arg, err, why);
    }
}

struct driver_remote *driver_remote_of(struct driver *d, uint64_t id)
{
    struct driver_remote *r;

    for (size_t i = 0; i < d->n_remotes; i++) {
        if (d->remotes[i]->id == id) {
            return d->remotes[i];
        }
    }
    if (d->n_remotes == MR_ARRAY_LEN(d->remotes)) {
        for (size_t i = 0; i < d->n_remotes; i++) {
            if (driver_server_of(d, d->remotes[i]->id) == NULL) {
                mr_free(d->remotes[i]->chunks);
                mr_free(d->remotes[i]);
                d->remotes[i] = d->remotes[--d->n_remotes];
                break;
            }
        }
    }
    if (d->n_remotes == MR_ARRAY_LEN(d->remotes)) {
        return NULL;
    }
    r = mr_calloc(1, sizeof *r);
    if (r != NULL) {
        r->id = id;
        driver_stream_reset(r);
        d->remotes[d->n_remotes++] = r;
    }
    return r;
}

bool driver_leads(const struct driver *d)
{
    return d->core.state == RAFT_LEADER;
}

uint64_t driver_leader(const struct driver *d)
{
    if (driver_leads(d)) {
        return d->opt.id;
    }
    return d->core.state == RAFT_FOLLOWER
               ? d->core.follower_state.current_leader.id
               : 0;
}

const struct raft_server *driver_server_of(const struct driver *d, uint64_t id)
{
    for (unsigned i = 0; i < d->core.configuration.n; i++) {
        if (d->core.configuration.servers[i].id == id) {
            return &d->core.configuration.servers[i];
        }
    }
    return NULL;
}

size_t driver_n_voters(const struct driver *d)
{
    size_t n = 0;

    for (unsigned i = 0; i < d->core.configuration.n; i++) {
        n += d->core.configuration.servers[i].role == RAFT_VOTER;
    }
    return n;
}

bool driver_is_sole_voter(const struct driver *d)
{
    const struct raft_server *self = driver_server_of(d, d->opt.id);

    return self != NULL && self->role == RAFT_VOTER && driver_n_voters(d) == 1;
}

/* ------------------------------------------------------------- starting */

static void set_defaults(struct driver_options *o)
{
    o->election_ms = o->election_ms != 0 ? o->election_ms : ELECTION_MS;
    o->heartbeat_ms = o->heartbeat_ms != 0 ? o->heartbeat_ms : HEARTBEAT_MS;
    o->max_wait_ms = o->max_wait_ms != 0 ? o->max_wait_ms : MAX_WAIT_MS;
    o->max_queue = o->max_queue != 0 ? o->max_queue : MAX_QUEUE;
    o->snapshot_bytes =
        o->snapshot_bytes != 0 ? o->snapshot_bytes : SNAPSHOT_BYTES;
    o->snapshot_entries =
        o->snapshot_entries != 0 ? o->snapshot_entries : SNAPSHOT_ENTRIES;
    o->trailing_entries =
        o->trailing_entries != 0 ? o->trailing_entries : TRAILING_ENTRIES;
    o->cache_bytes = o->cache_bytes != 0 ? o->cache_bytes : CACHE_BYTES;
}

static enum mr_err open_core(struct driver *d)
{
    memset(&d->core, 0, sizeof d->core);
    if (raft_init(&d->core, NULL, NULL, d->opt.id, d->address) != 0) {
        return MR_E_NOMEM;
    }
    d->is_open = true;
    raft_seed(&d->core, d->opt.seed);
    raft_set_election_timeout(&d->core, d->opt.election_ms);
    raft_set_heartbeat_timeout(&d->core, d->opt.heartbeat_ms);
    raft_set_install_snapshot_timeout(&d->core, INSTALL_MS);
    raft_set_pre_vote(&d->core, true);
    raft_set_max_inflight_entries(&d->core, INFLIGHT_MAX);
    return MR_OK;
}

/* Whether what the disk holds can be a log. */
static bool is_disk_sound(const struct driver_options *o,
                          const struct driver_disk *disk)
{
    uint64_t last = disk->first_index - 1;
    uint64_t snapshot = disk->has_snapshot ? disk->snapshot.index : 0;
    uint64_t term = 0;

    for (size_t i = 0; i < disk->n_runs; i++) {
        last += disk->runs[i].n_entries;
        if (disk->runs[i].term <= term || disk->runs[i].n_entries == 0) {
            return false;
        }
        term = disk->runs[i].term;
    }
    return o->id != 0 && o->incarnation != 0 && disk->first_index >= 1 &&
           disk->first_index <= snapshot + 1 && last >= snapshot &&
           term <= disk->term && disk->applied >= snapshot &&
           disk->applied <= last;
}

/* The entries for RAFT_START: the core wants every term, and the bytes of
 * configurations only. NULL: no memory. */
static struct raft_entry *start_entries(const struct driver_disk *disk,
                                        size_t n, void *token)
{
    struct raft_entry *entries = raft_calloc(n, sizeof *entries);
    size_t at = 0;

    if (entries == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < disk->n_runs; i++) {
        for (uint64_t k = 0; k < disk->runs[i].n_entries; k++, at++) {
            entries[at].term = disk->runs[i].term;
            entries[at].type = RAFT_COMMAND;
            entries[at].batch = token;
        }
    }
    for (size_t i = 0; i < disk->n_changes; i++) {
        struct raft_entry *e =
            &entries[disk->changes[i].index - disk->first_index];
        e->type = RAFT_CHANGE;
        e->buf.base = (void *)(uintptr_t)disk->changes[i].conf.data;
        e->buf.len = disk->changes[i].conf.len;
    }
    return entries;
}

/* The last configuration of the disk names this server as its only voter. The
 * core then makes it leader at once, in the term it was in before; a term of
 * its own keeps two entries from having the same index and term. */
static bool will_lead_alone(const struct driver *d)
{
    const struct entries_change *last = entries_conf_at(&d->log, UINT64_MAX);
    struct raft_configuration conf;
    bool is_alone = false;
    size_t n = 0;

    if (last == NULL ||
        !members_decode(mr_slice(last->conf->data, last->conf->len), &conf)) {
        return false;
    }
    for (unsigned i = 0; i < conf.n; i++) {
        if (conf.servers[i].role == RAFT_VOTER) {
            n++;
            is_alone = conf.servers[i].id == d->opt.id;
        }
    }
    raft_configuration_close(&conf);
    return is_alone && n == 1;
}

static enum mr_err start_core(struct driver *d, const struct driver_disk *disk)
{
    struct raft_event event = {.type = RAFT_START};
    struct raft_snapshot_metadata meta = {0};
    size_t n = (size_t)(d->log.last + 1 - disk->first_index);
    void *token = NULL;

    event.start.term = disk->term;
    event.start.voted_for = disk->voted_for;
    if (will_lead_alone(d)) {
        struct driver_log_write write = {.has_vote = true};
        event.start.term++;
        event.start.voted_for = d->opt.id;
        write.term = event.start.term;
        write.voted_for = d->opt.id;
        driver_log(d, &write);
    }
    if (disk->has_snapshot) {
        meta.index = disk->snapshot.index;
        meta.term = disk->snapshot.term;
        meta.configuration_index = disk->snapshot.conf_index;
        if (!members_decode(disk->snapshot.conf, &meta.configuration)) {
            return MR_E_CORRUPT;
        }
        event.start.metadata = &meta;
    }
    event.start.start_index = disk->first_index;
    event.start.n_entries = (unsigned)n;
    if (n > 0) {
        token = raft_malloc(1);
        event.start.entries = start_entries(disk, n, token);
        if (token == NULL || event.start.entries == NULL) {
            raft_free(token);
            raft_free(event.start.entries);
            raft_configuration_close(&meta.configuration);
            return MR_E_NOMEM;
        }
    }
    if (driver_step(d, &event) != 0) {
        return MR_E_CORRUPT; /* The core freed what it was given. */
    }
    raft_free(event.start.entries);
    raft_free(token);
    return MR_OK;
}

enum mr_err driver_restart_core(struct driver *d,
                                const struct driver_entry *first)
{
    struct driver_term_run run = {first->term, 1};
    struct driver_change_at change = {1, first->data};
    struct driver_disk disk = {.term = first->term,
                               .first_index = 1,
                               .runs = &run,
                               .n_runs = 1,
                               .changes = &change,
                               .n_changes = 1};
    enum mr_err err;

    raft_close(&d->core, NULL);
    d->is_open = false;
    err = open_core(d);
    if (err == MR_OK) {
        err = start_core(d, &disk);
    }
    if (err != MR_OK) {
        driver_fatal(d, err, "the core does not start");
    }
    return err;
}

static void init_lists(struct driver *d)
{
    mr_list_init(&d->writes);
    mr_list_init(&d->held);
    mr_list_init(&d->snaps.waiters);
    mr_list_init(&d->members.requests);
    proposals_init(d);
    reads_init(d);
}

enum mr_err driver_new(const struct driver_options *options,
                       const struct driver_disk *disk, uint64_t now_ms,
                       struct driver **out_driver, struct mr_detail *detail)
{
    struct driver *d;
    enum mr_err err;

    if (!is_disk_sound(options, disk)) {
        return mr_fail(detail, MR_E_CORRUPT,
                       "the log contradicts itself or the state: entries from "
                       "%llu, snapshot %llu, state at %llu",
                       (unsigned long long)disk->first_index,
                       (unsigned long long)disk->snapshot.index,
                       (unsigned long long)disk->applied);
    }
    d = mr_calloc(1, sizeof *d);
    if (d == NULL) {
        return mr_fail(detail, MR_E_NOMEM, "no memory for raft");
    }
    init_lists(d);
    d->opt = *options;
    d->opt.address = NULL;
    d->now = now_ms;
    set_defaults(&d->opt);
    d->address = mr_strdup(options->address);
    err = d->address == NULL ? MR_E_NOMEM : MR_OK;
    if (err == MR_OK) {
        err = entries_init(&d->log, disk, d->opt.cache_bytes);
    }
    if (err == MR_OK && disk->applied != 0 &&
        entries_term(&d->log, disk->applied) != disk->applied_term) {
        err = MR_E_CORRUPT;
    }
    /* Numbers of questions, so that a late answer to the process before this
     * one answers none of ours. */
    d->reads.next_seq = options->incarnation << 32;
    d->reads.round = options->incarnation << 32;
    d->members.next_seq = options->incarnation << 32;
    d->snaps.log_bytes = disk->log_bytes;
    d->commit = disk->applied;
    d->handed = disk->applied;
    d->applied = disk->applied;
    d->props.seen_term = disk->applied_term;
    d->stored_term = disk->term;
    if (err == MR_OK) {
        err = open_core(d);
    }
    if (err == MR_OK) {
        err = start_core(d, disk);
    }
    if (err != MR_OK) {
        driver_free(d);
        return mr_fail(detail, err, "the log and the state do not agree");
    }
    d->is_changed = true;
    driver_settle(d);
    *out_driver = d;
    return MR_OK;
}

void driver_free(struct driver *d)
{
    struct mr_list *at;

    if (d == NULL) {
        return;
    }
    d->is_dead = true; /* Nothing goes out any more. */
    proposals_close(d, MR_E_CLOSED);
    reads_close(d, MR_E_CLOSED);
    members_close(d, MR_E_CLOSED);
    snapshots_close(d);
    while ((at = mr_list_pop(&d->writes)) != NULL) {
        mr_free(mr_container_of(at, struct driver_write, link));
    }
    while ((at = mr_list_pop(&d->held)) != NULL) {
        mr_free(mr_container_of(at, struct driver_held, link));
    }
    for (size_t i = 0; i < d->n_remotes; i++) {
        mr_free(d->remotes[i]->chunks);
        mr_free(d->remotes[i]);
    }
    if (d->is_open) {
        raft_close(&d->core, NULL);
    }
    entries_deinit(&d->log);
    mr_free(d->address);
    mr_free(d);
}

/* ------------------------------------------------------------- time */

static void fire_timeout(struct driver *d)
{
    struct raft_event event = {.type = RAFT_TIMEOUT};

    if (d->members.was_removed && !driver_leads(d)) {
        return; /* Campaigning would only disturb. */
    }
    if (d->core.state == RAFT_FOLLOWER && driver_is_sole_voter(d)) {
        driver_raise_term(d);
    }
    (void)driver_step(d, &event); /* Failure is fatal inside. */
    driver_settle(d);
}

/* A leader whose disk hangs hands over, and when nobody takes over, falls
 * silent, so that the others elect one. */
static void check_disk(struct driver *d)
{
    struct raft_event event = {.type = RAFT_TRANSFER};
    uint64_t age = 0;

    if (!mr_list_empty(&d->writes)) {
        age =
            d->now - mr_container_of(d->writes.next, struct driver_write, link)
                         ->since_ms;
    }
    if (age <= 2ull * d->opt.election_ms || !driver_leads(d) ||
        driver_n_voters(d) < 2) {
        d->is_muted = false;
        return;
    }
    if (d->transfer_ms == 0) {
        d->transfer_ms = d->now;
        (void)driver_step(d, &event); /* A refusal leads to silence. */
        driver_settle(d);
        reads_update_lease(d);
    } else if (d->now - d->transfer_ms >= d->opt.election_ms) {
        d->is_muted = true;
    }
}

void driver_tick(struct driver *d, uint64_t now_ms)
{
    if (d->is_dead) {
        return;
    }
    d->now = now_ms > d->now ? now_ms : d->now;
    if (d->now >= raft_timeout(&d->core)) {
        fire_timeout(d);
    }
    if (d->is_dead || d->now < d->scan_ms) {
        return;
    }
    d->scan_ms = d->now + SCAN_MS;
    check_disk(d);
    driver_streams_check(d);
    proposals_expire(d);
    reads_expire(d);
    reads_update_lease(d);
}

static void set_timer(struct driver *d)
{
    uint64_t at = raft_timeout(&d->core);
    uint64_t resend = proposals_deadline(d);

    if (d->members.was_removed && !driver_leads(d)) {
        at = d->now + d->opt.election_ms;
    }
    at = d->scan_ms < at ? d->scan_ms : at;
    at = resend < at ? resend : at;
    at = at > d->now ? at : d->now + 1;
    if (at != d->timer_ms) {
        d->timer_ms = at;
        d->opt.io.set_timer(d->opt.io.arg, at);
    }
}

void driver_flush(struct driver *d)
{
    if (d->is_dead) {
        return;
    }
    proposals_flush(d);
    driver_settle(d);
    reads_flush(d);
    members_flush(d);
    driver_settle(d);
    snapshots_check(d);
    driver_propagate_commit(d);
    entries_evict(&d->log, d->handed);
    if (d->is_dead) {
        return;
    }
    set_timer(d);
    if (d->is_changed) {
        d->is_changed = false;
        d->opt.io.changed(d->opt.io.arg);
    }
}

/* ------------------------------------------------------------- hints */

/* What was under way to @peer may be lost with its connection. */
static void forget_stream(struct driver *d, uint64_t peer)
{
    for (size_t i = 0; i < d->n_remotes; i++) {
        if (d->remotes[i]->id == peer) {
            driver_stream_reset(d->remotes[i]);
            d->remotes[i]->told_commit = 0;
        }
    }
}

void driver_peer_up(struct driver *d, uint64_t peer)
{
    forget_stream(d, peer);
    if (!d->is_dead && peer == driver_leader(d)) {
        proposals_resend(d);
    }
}

void driver_peer_down(struct driver *d, uint64_t peer)
{
    forget_stream(d, peer);
}

void driver_disk_full(struct driver *d, bool is_full)
{
    d->is_disk_full = is_full;
}

/* ------------------------------------------------------------- looking */

void driver_status(const struct driver *d, struct driver_status *out_status)
{
    const struct raft_server *self = driver_server_of(d, d->opt.id);

    *out_status = (struct driver_status){
        .is_leader = driver_leads(d),
        .is_ready = driver_leads(d) && d->applied >= d->own_term_index,
        .is_candidate = d->core.state == RAFT_CANDIDATE,
        .is_voter = self != NULL && self->role == RAFT_VOTER,
        .is_member = self != NULL && !d->members.was_removed,
        .ever_had_leader = d->ever_had_leader,
        .leader_id = driver_leader(d),
        .term = d->core.current_term,
        .stored_term = d->stored_term,
        .last_index = d->log.last,
        .commit_index = d->commit,
        .applied_index = d->applied,
        .snapshot_index = d->log.snapshot_index,
        .snapshot_term = d->log.snapshot_term,
        .log_bytes = d->snaps.log_bytes,
        .leader_seen_ms = d->leader_seen_ms,
        .conf_index = d->core.configuration_uncommitted_index != 0
                          ? d->core.configuration_uncommitted_index
                          : d->core.configuration_committed_index,
        .n_peers = d->core.configuration.n,
        .n_voters = driver_n_voters(d),
    };
}

void driver_stats(const struct driver *d, struct mr_raft_stats *stats)
{
    stats->proposals = d->stats.proposals;
    stats->forwarded = d->stats.forwarded;
    stats->entries = d->stats.entries;
    stats->elections = d->stats.elections;
    stats->leader_changes = d->stats.leader_changes;
    stats->snapshots_taken = d->stats.snapshots_taken;
    stats->snapshots_sent = d->stats.snapshots_sent;
    stats->snapshots_installed = d->stats.snapshots_installed;
    stats->read_rounds = d->stats.read_rounds;
    stats->queue_len = d->props.n_queue + d->props.n_sent;
}
