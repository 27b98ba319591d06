/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots: taken here, sent to a server that lacks compacted entries, and
 * installed when this server is the one that lags.
 *
 * Taking:     log long enough -> snapshot_take -> the core and the log learn
 *             of it together, with the same number of trailing entries kept.
 * Installing: the core drops its log at once -> log_write{replace} ->
 *             durable -> snapshot_install -> the core goes on. Nothing is
 *             applied in between, and our own snapshot is finished first.
 */
#include "raft/driver_impl.h"

#include <string.h>

#include "base/mem.h"

#define RETRY_MS 10000

static void end_waiters(struct driver *d, enum mr_err err)
{
    struct mr_list *at;

    while ((at = mr_list_pop(&d->snaps.waiters)) != NULL) {
        members_finish(d, mr_container_of(at, struct driver_request, link),
                       err);
    }
}

void snapshots_close(struct driver *d)
{
    end_waiters(d, MR_E_CLOSED);
    driver_blob_unref(d->snaps.conf);
    d->snaps.conf = NULL;
}

/* ------------------------------------------------------------- taking */

static void begin_take(struct driver *d)
{
    d->snaps.is_taking = true;
    d->snaps.bytes_at_take = d->snaps.log_bytes;
    d->opt.io.snapshot_take(d->opt.io.arg);
}

static bool may_take(const struct driver *d)
{
    return !d->is_dead && !d->snaps.is_taking &&
           d->snaps.stage == INSTALL_NONE && d->applied > d->log.snapshot_index;
}

static bool is_log_large(const struct driver *d)
{
    return d->snaps.log_bytes >= d->opt.snapshot_bytes &&
           d->snaps.log_bytes >= d->snaps.state_bytes;
}

void snapshots_check(struct driver *d)
{
    uint64_t n = d->applied > d->log.snapshot_index
                     ? d->applied - d->log.snapshot_index
                     : 0;

    if (may_take(d) && d->now >= d->snaps.retry_ms &&
        (is_log_large(d) || n >= d->opt.snapshot_entries)) {
        begin_take(d);
    }
    if (!d->snaps.is_taking && !mr_list_empty(&d->snaps.waiters)) {
        /* There is nothing new, or a snapshot is on its way in. */
        end_waiters(d, d->snaps.stage == INSTALL_NONE ? MR_OK : MR_E_BUSY);
    }
}

void driver_snapshot_now(struct driver *d, mr_raft_change_cb cb, void *arg)
{
    struct driver_request *req = mr_calloc(1, sizeof *req);

    if (req == NULL) {
        cb(arg, MR_E_NOMEM, mr_strerror(MR_E_NOMEM));
        return;
    }
    mr_list_init(&req->link);
    req->cb = cb;
    req->arg = arg;
    mr_list_push(&d->snaps.waiters, &req->link);
    if (may_take(d)) {
        begin_take(d);
    } /* Else snapshots_check() ends it, or the one that is being taken. */
}

/* How many entries to keep: as configured, unless they are large. */
static uint64_t trailing(const struct driver *d, uint64_t index)
{
    uint64_t n = index - d->log.snapshot_index;
    uint64_t each = d->snaps.bytes_at_take / n + 1;
    uint64_t most = d->opt.snapshot_bytes / 4 / each;

    return d->opt.trailing_entries < most ? d->opt.trailing_entries : most;
}

/* Put the snapshot @file at @index in force. MR_E_INVALID: it is of no use. */
static enum mr_err adopt(struct driver *d, uint64_t index, uint64_t term,
                         uint64_t file)
{
    const struct entries_change *conf = entries_conf_at(&d->log, index);
    struct raft_event event = {.type = RAFT_SNAPSHOT};
    struct driver_log_write write = {.has_snapshot = true};
    struct raft_snapshot_metadata *m = &event.snapshot.metadata;

    if (index <= d->log.snapshot_index || index > d->core.last_stored ||
        entries_term(&d->log, index) != term || conf == NULL ||
        !members_decode(mr_slice(conf->conf->data, conf->conf->len),
                        &m->configuration)) {
        return MR_E_INVALID;
    }
    m->index = index;
    m->term = term;
    m->configuration_index = conf->index;
    event.snapshot.trailing = (unsigned)trailing(d, index);
    write.snapshot.index = index;
    write.snapshot.term = term;
    write.snapshot.conf_index = conf->index;
    write.snapshot.conf = mr_slice(conf->conf->data, conf->conf->len);
    write.file = file;
    if (driver_step(d, &event) != 0) {
        return MR_E_CLOSED;
    }
    write.first_kept = d->core.trail.offset + 1;
    driver_log(d, &write);
    entries_compact(&d->log, index, term, d->core.trail.offset);
    d->snaps.log_bytes -= d->snaps.bytes_at_take;
    d->stats.snapshots_taken++;
    d->is_changed = true;
    return MR_OK;
}

static void log_install(struct driver *d);

void driver_snapshot_taken(struct driver *d, enum mr_err err,
                           const struct driver_taken *taken)
{
    if (d->is_dead) {
        return;
    }
    d->snaps.is_taking = false;
    if (err != MR_OK) {
        d->snaps.retry_ms = d->now + RETRY_MS;
    } else if (d->snaps.stage != INSTALL_NONE) {
        err = MR_E_CANCELED; /* A newer one is on its way in. */
        d->opt.io.snapshot_drop(d->opt.io.arg, taken->file);
    } else {
        d->snaps.state_bytes = taken->bytes;
        err = adopt(d, taken->index, taken->term, taken->file);
        if (err != MR_OK) {
            d->opt.io.snapshot_drop(d->opt.io.arg, taken->file);
        }
    }
    end_waiters(d, err);
    if (d->snaps.stage == INSTALL_WAITS) {
        log_install(d);
    }
    driver_settle(d);
}

/* ------------------------------------------------------------- sending */

void snapshots_send(struct driver *d, uint64_t peer)
{
    struct driver_remote *r = driver_remote_of(d, peer);

    if (r == NULL || r->is_receiving || d->is_dead || d->is_muted) {
        return; /* The core repeats itself while a transfer runs. */
    }
    r->is_receiving = true;
    d->opt.io.snapshot_send(d->opt.io.arg, peer, d->core.current_term);
}

void driver_snapshot_sent(struct driver *d, uint64_t peer, enum mr_err err)
{
    struct driver_remote *r = driver_remote_of(d, peer);

    if (r != NULL) {
        r->is_receiving = false;
    }
    if (err == MR_OK) {
        d->stats.snapshots_sent++;
    }
}

/* ------------------------------------------------------------- installing */

static void log_install(struct driver *d)
{
    struct driver_log_write write = {.has_snapshot = true, .replace = true};

    write.snapshot = d->snaps.meta;
    write.file = d->snaps.file;
    write.first_kept = d->snaps.meta.index + 1;
    driver_log(d, &write);
    d->snaps.stage = INSTALL_LOGGED;
    d->snaps.ticket = d->last_ticket;
}

void snapshots_install(struct driver *d)
{
    const struct driver_install *in = d->step_install;
    struct driver_snapshots *s = &d->snaps;

    mr_assert(in != NULL && s->stage == INSTALL_NONE);
    d->step_install = NULL;
    if (in->meta.index < d->handed) {
        driver_fatal(d, MR_E_CORRUPT, "a snapshot is older than the state");
        return;
    }
    s->conf = driver_blob_new(in->meta.conf.len);
    if (s->conf == NULL || entries_replace(&d->log, &in->meta) != MR_OK) {
        driver_fatal(d, MR_E_NOMEM, "no memory for a snapshot");
        return;
    }
    memcpy(s->conf->data, in->meta.conf.data, in->meta.conf.len);
    s->meta = in->meta;
    s->meta.conf.data = s->conf->data;
    s->file = in->file;
    s->log_bytes = 0;
    s->stage = INSTALL_WAITS;
    if (!s->is_taking) {
        log_install(d);
    }
}

void snapshots_logged(struct driver *d)
{
    if (d->snaps.stage == INSTALL_LOGGED && d->done_ticket >= d->snaps.ticket) {
        d->snaps.stage = INSTALL_RESTORES;
        d->opt.io.snapshot_install(d->opt.io.arg, d->snaps.file,
                                   &d->snaps.meta);
    }
}

void driver_snapshot_installed(struct driver *d, uint64_t file, enum mr_err err)
{
    struct driver_snapshots *s = &d->snaps;
    struct raft_event event = {.type = RAFT_PERSISTED_SNAPSHOT};
    struct raft_snapshot_metadata *m = &event.persisted_snapshot.metadata;

    if (d->is_dead || s->stage != INSTALL_RESTORES || file != s->file) {
        return;
    }
    if (err != MR_OK || !members_decode(s->meta.conf, &m->configuration)) {
        driver_fatal(d, err == MR_OK ? MR_E_NOMEM : err,
                     "a snapshot cannot be installed");
        return;
    }
    m->index = s->meta.index;
    m->term = s->meta.term;
    m->configuration_index = s->meta.conf_index;
    event.persisted_snapshot.last = true;
    s->stage = INSTALL_NONE;
    driver_blob_unref(s->conf);
    s->conf = NULL;
    d->handed = s->meta.index;
    d->applied = s->meta.index;
    d->n_batches = 0;
    d->load_token = 0;
    d->commit = d->commit > s->meta.index ? d->commit : s->meta.index;
    d->stats.snapshots_installed++;
    d->is_changed = true;
    proposals_skipped(d, s->meta.term);
    (void)driver_step(d, &event); /* Failure is fatal inside. */
    reads_applied(d);
    driver_settle(d);
}
