/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's functions: log, snapshots, applying. */
#include "raft/node.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "raft/snapshot.h"

#define COMPACT_STEP 512 /* Entries dropped in one commit. */

/* ------------------------------------------------------------- log writes */

/* One change of the log on its way to the disk. */
struct write_req {
    struct raftlog_req req;
    struct mr_raft *node;
    struct driver_log_write w; /* w.entries is below. */
    struct driver_entry entries[];
};

static void append_entries(const struct driver_log_write *w, struct logdb *db)
{
    for (size_t i = 0; i < w->n_entries; i++) {
        const struct driver_entry *e = &w->entries[i];
        struct logdb_entry entry = {w->first_index + i, e->term,
                                    (uint8_t)e->type, e->data};

        logdb_append(db, &entry);
    }
}

static void run_write(struct raftlog_req *req, struct logdb *db)
{
    struct write_req *wr = mr_container_of(req, struct write_req, req);
    const struct driver_log_write *w = &wr->w;

    if (w->has_vote) {
        logdb_set_vote(db, w->term, w->voted_for);
    }
    if (w->truncate_from != 0) {
        logdb_truncate(db, w->truncate_from);
    }
    append_entries(w, db);
    if (w->has_snapshot) {
        struct logdb_snapshot s = {w->snapshot.index, w->snapshot.term,
                                   w->snapshot.conf_index, w->file,
                                   w->snapshot.conf};

        logdb_set_snapshot(db, &s);
        if (w->replace || logdb_state(db)->last < s.index) {
            logdb_reset(db, s.index + 1);
        }
    }
}

static void free_write(struct write_req *wr)
{
    for (size_t i = 0; i < wr->w.n_entries; i++) {
        driver_blob_unref(wr->entries[i].blob);
    }
    mr_free((void *)(uintptr_t)wr->w.snapshot.conf.data);
    mr_free(wr);
}

/* Drops entries below the snapshot, a step at a time. */
struct compact_req {
    struct raftlog_req req;
    struct mr_raft *node;
    uint64_t upto;
    bool has_more;
};

static void run_compact(struct raftlog_req *req, struct logdb *db)
{
    struct compact_req *c = mr_container_of(req, struct compact_req, req);

    c->has_more = logdb_compact(db, c->upto, COMPACT_STEP);
}

static void compacted(struct raftlog_req *req)
{
    struct compact_req *c = mr_container_of(req, struct compact_req, req);

    if (c->has_more && !c->node->is_closing) {
        raftlog_submit(c->node->log, &c->req);
        return;
    }
    mr_free(c);
}

/* Without memory nothing is dropped now, but by the next snapshot. */
static void compact(struct mr_raft *n, uint64_t first_kept)
{
    struct compact_req *c = mr_calloc(1, sizeof *c);

    if (c == NULL) {
        return;
    }
    c->req.kind = RAFTLOG_FREE;
    c->req.run = run_compact;
    c->req.done = compacted;
    c->node = n;
    c->upto = first_kept - 1;
    raftlog_submit(n->log, &c->req);
}

/* The file of the write is in force; the one before has no use any more. */
static void file_in_force(struct mr_raft *n, struct driver_log_write *w)
{
    if (n->file != 0 && n->file != w->file) {
        snapshot_remove(n->snapshot_dir, n->file);
    }
    n->file = w->file;
    mr_free(n->conf);
    n->conf = (char *)(uintptr_t)w->snapshot.conf.data;
    n->snapshot = w->snapshot;
    w->snapshot.conf.data = NULL; /* Ours now. */
    if (!w->replace && w->first_kept > 1 && !n->is_closing) {
        compact(n, w->first_kept);
    }
}

static void written(struct raftlog_req *req)
{
    struct write_req *wr = mr_container_of(req, struct write_req, req);
    struct mr_raft *n = wr->node;

    if (wr->w.has_snapshot) {
        file_in_force(n, &wr->w);
    }
    n->done_ticket = wr->w.ticket;
    free_write(wr);
}

static void io_log_write(void *arg, const struct driver_log_write *w)
{
    struct mr_raft *n = arg;
    struct write_req *wr =
        mr_malloc(sizeof *wr + w->n_entries * sizeof *wr->entries);
    char *conf = mr_memdup0(w->snapshot.conf.data, w->snapshot.conf.len);

    if (wr == NULL || conf == NULL) {
        mr_free(wr);
        mr_free(conf);
        node_fatal(n, MR_E_NOMEM, "no memory for a write to the raft log");
        return;
    }
    wr->req.kind = RAFTLOG_WRITE;
    wr->req.run = run_write;
    wr->req.done = written;
    wr->node = n;
    wr->w = *w;
    wr->w.entries = wr->entries;
    wr->w.snapshot.conf.data = conf;
    for (size_t i = 0; i < w->n_entries; i++) {
        wr->entries[i] = w->entries[i];
        (void)driver_blob_ref(w->entries[i].blob);
    }
    raftlog_submit(n->log, &wr->req);
}

void node_take_ended(struct mr_raft *n)
{
    uint64_t told = n->done_ticket;
    struct mr_list list;
    struct mr_list *link;

    if (mr_queue_take(&n->ended, &list) == 0) {
        return;
    }
    while ((link = mr_list_pop(&list)) != NULL) {
        struct raftlog_req *req =
            mr_container_of(link, struct raftlog_req, link);

        req->done(req);
    }
    if (n->done_ticket != told && n->driver != NULL) {
        driver_log_done(n->driver, n->done_ticket, MR_OK);
    }
}

/* ------------------------------------------------------------- log reads */

struct load_req {
    struct raftlog_req req;
    struct mr_raft *node;
    uint64_t token;
    uint64_t first;
    uint64_t last;
    size_t max_bytes;
    struct driver_entry *entries;
    size_t n;
};

/* Copy @batch into one blob that its entries share. */
static enum mr_err to_entries(const struct logdb_batch *batch,
                              struct driver_entry **out_entries)
{
    struct driver_entry *entries = mr_malloc(batch->n * sizeof *entries);
    struct driver_blob *blob;
    size_t bytes = 0;

    for (size_t i = 0; i < batch->n; i++) {
        bytes += batch->entries[i].data.len;
    }
    blob = driver_blob_new(bytes);
    if (entries == NULL || blob == NULL) {
        mr_free(entries);
        driver_blob_unref(blob);
        return MR_E_NOMEM;
    }
    bytes = 0;
    for (size_t i = 0; i < batch->n; i++) {
        const struct logdb_entry *e = &batch->entries[i];

        memcpy(blob->data + bytes, e->data.data, e->data.len);
        entries[i].term = e->term;
        entries[i].type = (enum driver_entry_type)e->type;
        entries[i].data = mr_slice(blob->data + bytes, e->data.len);
        entries[i].blob = i == 0 ? blob : driver_blob_ref(blob);
        bytes += e->data.len;
    }
    *out_entries = entries;
    return MR_OK;
}

static void run_load(struct raftlog_req *req, struct logdb *db)
{
    struct load_req *l = mr_container_of(req, struct load_req, req);
    struct logdb_batch batch;

    req->err = logdb_read(db, l->first, l->last, l->max_bytes, &batch);
    if (req->err != MR_OK) {
        return;
    }
    l->n = batch.n;
    req->err = to_entries(&batch, &l->entries);
    logdb_batch_free(&batch);
}

static void loaded(struct raftlog_req *req)
{
    struct load_req *l = mr_container_of(req, struct load_req, req);
    struct mr_raft *n = l->node;

    if (n->driver != NULL) {
        driver_log_loaded(n->driver, l->token, req->err, l->first, l->entries,
                          req->err == MR_OK ? l->n : 0);
    } else if (req->err == MR_OK) {
        for (size_t i = 0; i < l->n; i++) {
            driver_blob_unref(l->entries[i].blob);
        }
    }
    mr_free(l->entries);
    mr_free(l);
}

static void io_log_load(void *arg, uint64_t token, uint64_t first,
                        uint64_t last, size_t max_bytes)
{
    struct mr_raft *n = arg;
    struct load_req *l = mr_calloc(1, sizeof *l);

    if (l == NULL) {
        node_fatal(n, MR_E_NOMEM, "no memory to read the raft log");
        return;
    }
    l->req.kind = RAFTLOG_READ;
    l->req.run = run_load;
    l->req.done = loaded;
    l->node = n;
    l->token = token;
    l->first = first;
    l->last = last;
    l->max_bytes = max_bytes;
    raftlog_submit(n->log, &l->req);
}

/* ------------------------------------------------------------- snapshots */

/* The job that writes a snapshot, with a thread of its own. */
struct node_take {
    struct node_event event;
    struct mr_raft *node;
    pthread_t thread;
    uint64_t file;
    struct snapshot_writer *writer;
    bool has_head;
    struct snapshot_head head;
    uint64_t bytes; /* Written so far. */
    enum mr_err err;
};

static enum mr_err write_cb(void *ctx, struct mr_slice bytes)
{
    struct node_take *t = ctx;

    if (atomic_load(&t->node->is_closing)) {
        return MR_E_CANCELED;
    }
    if (!t->has_head) {
        enum mr_err err = snapshot_write_head(t->writer, t->head);

        if (err != MR_OK) {
            return err;
        }
        t->has_head = true;
    }
    t->bytes += bytes.len;
    return snapshot_write(t->writer, bytes);
}

static enum mr_err take(struct node_take *t)
{
    const struct mr_raft_fsm *fsm = &t->node->options.fsm;
    enum mr_err err =
        snapshot_writer_open(t->node->snapshot_dir, t->file, &t->writer);

    if (err != MR_OK) {
        return err;
    }
    err = fsm->write_snapshot(fsm->arg, write_cb, t, &t->head.index,
                              &t->head.term);
    if (err == MR_OK) {
        err = write_cb(t, mr_slice(NULL, 0)); /* The head, if empty. */
    }
    if (err != MR_OK) {
        snapshot_writer_abort(t->writer);
        return err;
    }
    return snapshot_writer_finish(t->writer);
}

static void *run_take(void *arg)
{
    struct node_take *t = arg;

    t->err = take(t);
    /* Closed: the core thread joins us and looks at nothing else. */
    node_post(t->node, &t->event);
    return NULL;
}

static void taken(struct mr_raft *n, struct node_event *event)
{
    struct node_take *t = mr_container_of(event, struct node_take, event);

    mr_assert(pthread_join(t->thread, NULL) == 0); /* It has just ended. */
    n->take = NULL;
    if (t->err != MR_OK) {
        mr_log_warn("raft",
                    "a snapshot failed, trying again later error=\"%s\"",
                    mr_strerror(t->err));
    }
    if (n->driver != NULL) {
        driver_snapshot_taken(n->driver, t->err,
                              &(struct driver_taken){t->head.index,
                                                     t->head.term, t->file,
                                                     t->bytes});
    }
    mr_free(t);
}

/* Taking failed before it began. */
static void take_refused(struct mr_raft *n, struct node_event *event)
{
    mr_free(mr_container_of(event, struct node_take, event));
    if (n->driver != NULL) {
        driver_snapshot_taken(n->driver, MR_E_NOMEM, NULL);
    }
}

static void io_snapshot_take(void *arg)
{
    struct mr_raft *n = arg;
    struct node_take *t = mr_calloc(1, sizeof *t);

    if (t == NULL) {
        node_fatal(n, MR_E_NOMEM, "no memory to take a snapshot");
        return;
    }
    mr_assert(n->take == NULL);
    t->node = n;
    t->event.run = taken;
    t->file = ++n->last_file;
    n->take = t;
    if (pthread_create(&t->thread, NULL, run_take, t) != 0) {
        n->take = NULL;
        t->event.run = take_refused;
        node_post(n, &t->event); /* Closed: nobody waits for it. */
    }
}

void node_stop_take(struct mr_raft *n)
{
    if (n->take != NULL) {
        mr_assert(pthread_join(n->take->thread, NULL) == 0);
        mr_free(n->take);
        n->take = NULL;
    }
}

static void io_snapshot_install(void *arg, uint64_t file,
                                const struct driver_snapshot *meta)
{
    struct mr_raft *n = arg;
    enum mr_err err = apply_install(n->apply, file, meta->index);

    if (err != MR_OK) {
        node_fatal(n, err, "no memory to install a snapshot");
    }
}

static void io_snapshot_drop(void *arg, uint64_t file)
{
    struct mr_raft *n = arg;

    if (file != 0 && file != n->file) {
        snapshot_remove(n->snapshot_dir, file);
    }
}

/* ------------------------------------------------------------- the rest */

static void io_set_timer(void *arg, uint64_t deadline_ms)
{
    struct mr_raft *n = arg;

    n->deadline_ms = deadline_ms;
}

static void io_apply(void *arg, struct driver_batch *batch)
{
    struct mr_raft *n = arg;

    apply_submit(n->apply, batch);
}

static void io_set_lease(void *arg, uint64_t until_ms)
{
    struct mr_raft *n = arg;

    atomic_store_explicit(&n->lease_until_ms, until_ms, memory_order_release);
}

static void io_changed(void *arg)
{
    struct mr_raft *n = arg;

    n->has_changed = true;
}

static void io_send(void *arg, uint64_t peer, const struct driver_message *msg)
{
    node_send(arg, peer, msg);
}

static void io_snapshot_send(void *arg, uint64_t peer, uint64_t term)
{
    node_send_snapshot(arg, peer, term);
}

struct driver_io node_driver_io(struct mr_raft *n)
{
    return (struct driver_io){
        .arg = n,
        .set_timer = io_set_timer,
        .log_write = io_log_write,
        .log_load = io_log_load,
        .send = io_send,
        .apply = io_apply,
        .snapshot_take = io_snapshot_take,
        .snapshot_send = io_snapshot_send,
        .snapshot_install = io_snapshot_install,
        .snapshot_drop = io_snapshot_drop,
        .set_lease = io_set_lease,
        .changed = io_changed,
        .fatal = node_fatal,
    };
}

/* ------------------------------------------------------------- starting */

/* What driver_new() wants to know of the log's entries. */
struct scan {
    struct driver_term_run *runs;
    size_t n_runs;
    struct driver_change_at *changes;
    size_t n_changes;
    uint64_t bytes; /* After the snapshot. */
};

static void scan_free(struct scan *s)
{
    for (size_t i = 0; i < s->n_changes; i++) {
        mr_free((void *)(uintptr_t)s->changes[i].conf.data);
    }
    mr_free(s->changes);
    mr_free(s->runs);
}

static enum mr_err scan_term(struct scan *s, uint64_t term)
{
    struct driver_term_run *runs;

    if (s->n_runs != 0 && s->runs[s->n_runs - 1].term == term) {
        s->runs[s->n_runs - 1].n_entries++;
        return MR_OK;
    }
    runs = mr_realloc(s->runs, (s->n_runs + 1) * sizeof *runs);
    if (runs == NULL) {
        return MR_E_NOMEM;
    }
    s->runs = runs;
    s->runs[s->n_runs++] = (struct driver_term_run){term, 1};
    return MR_OK;
}

static enum mr_err scan_change(struct scan *s, const struct logdb_entry *e)
{
    struct driver_change_at *changes =
        mr_realloc(s->changes, (s->n_changes + 1) * sizeof *changes);
    char *conf = mr_memdup0(e->data.data, e->data.len);

    if (changes != NULL) {
        s->changes = changes;
    }
    if (changes == NULL || conf == NULL) {
        mr_free(conf);
        return MR_E_NOMEM;
    }
    s->changes[s->n_changes++] =
        (struct driver_change_at){e->index, mr_slice(conf, e->data.len)};
    return MR_OK;
}

static enum mr_err scan_batch(struct scan *s, const struct logdb_batch *batch,
                              uint64_t snapshot_index)
{
    for (size_t i = 0; i < batch->n; i++) {
        const struct logdb_entry *e = &batch->entries[i];
        enum mr_err err = scan_term(s, e->term);

        if (err == MR_OK && e->type == DRIVER_ENTRY_CHANGE) {
            err = scan_change(s, e);
        }
        if (err != MR_OK) {
            return err;
        }
        if (e->index > snapshot_index) {
            s->bytes += e->data.len;
        }
    }
    return MR_OK;
}

static enum mr_err scan_log(struct logdb *db, struct scan *s)
{
    const struct logdb_state *st = logdb_state(db);
    uint64_t at = st->first;

    while (at <= st->last) {
        struct logdb_batch batch;
        enum mr_err err = logdb_read(db, at, st->last, (size_t)1 << 20, &batch);

        if (err != MR_OK) {
            return err;
        }
        at += batch.n;
        err = scan_batch(s, &batch, st->snapshot.index);
        logdb_batch_free(&batch);
        if (err != MR_OK) {
            return err;
        }
    }
    return MR_OK;
}

/* The state machine must stand at the snapshot or behind it. */
static enum mr_err catch_up_fsm(struct mr_raft *n, struct driver_disk *disk,
                                struct mr_detail *detail)
{
    const struct mr_raft_fsm *fsm = &n->options.fsm;

    disk->applied = fsm->applied(fsm->arg, &disk->applied_term);
    if (!disk->has_snapshot || disk->applied >= disk->snapshot.index) {
        return MR_OK;
    }
    mr_log_info("raft", "restoring the state from a snapshot index=%llu",
                (unsigned long long)disk->snapshot.index);
    enum mr_err err = apply_restore(fsm, n->snapshot_dir, n->file, detail);

    disk->applied = disk->snapshot.index;
    disk->applied_term = disk->snapshot.term;
    return err;
}

enum mr_err node_start_driver(struct mr_raft *n, struct mr_detail *detail)
{
    struct logdb *db = raftlog_db(n->log);
    const struct logdb_state *st = logdb_state(db);
    struct driver_options o = {
        .id = n->id,
        .address = n->address,
        .incarnation = n->incarnation,
        .seed = (unsigned)mr_random_u64(n->options.random),
        .max_queue = n->options.max_queue,
        .snapshot_bytes = n->options.snapshot_bytes,
        .trailing_entries = n->options.trailing_entries,
        .io = node_driver_io(n),
    };
    struct driver_disk disk = {
        .term = st->term,
        .voted_for = st->voted_for,
        .has_snapshot = st->snapshot.index != 0,
        .snapshot = {st->snapshot.index, st->snapshot.term,
                     st->snapshot.conf_index, st->snapshot.conf},
        .first_index = st->first,
    };
    struct scan scan = {0};
    enum mr_err err = catch_up_fsm(n, &disk, detail);

    n->said_applied = disk.applied;
    if (err == MR_OK) {
        err = node_start_apply(n);
    }
    if (err == MR_OK) {
        err = scan_log(db, &scan);
    }
    if (err != MR_OK) {
        goto out_after_scan;
    }
    disk.runs = scan.runs;
    disk.n_runs = scan.n_runs;
    disk.changes = scan.changes;
    disk.n_changes = scan.n_changes;
    disk.log_bytes = scan.bytes;
    n->said_applied = disk.applied;
    err =
        driver_new(&o, &disk, mr_now_ms(n->options.clock), &n->driver, detail);
out_after_scan:
    scan_free(&scan);
    return err;
}
