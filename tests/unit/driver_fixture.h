/* SPDX-License-Identifier: Apache-2.0 */
/* One driver with a world that only takes notes. */
#ifndef MR_TEST_DRIVER_FIXTURE_H
#define MR_TEST_DRIVER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "raft/batch.h"
#include "raft/driver.h"

#define FIXTURE __attribute__((unused)) static

#define NOTES 256

/* A message that went out; no payload is kept. */
struct note {
    uint64_t peer;
    struct driver_message msg;
};

struct fixture {
    struct driver *d;
    uint64_t now;
    struct note notes[NOTES];
    size_t n_notes;
    uint64_t ticket; /* Of the last write. */
    uint64_t write_term;
    uint64_t last_index; /* Of the last entry written. */
    uint64_t truncated;  /* Where the log was cut last. */
    size_t n_entries;    /* Written in all. */
    uint64_t lease_ms;
    struct driver_batch *batches[NOTES];
    size_t n_batches;
    size_t n_loads; /* Asked of the log. */
    uint64_t installs;
    uint64_t dropped; /* File. */
    bool is_fatal;
};

FIXTURE void fx_set_timer(void *arg, uint64_t deadline_ms)
{
    (void)arg;
    (void)deadline_ms;
}

FIXTURE void fx_log_write(void *arg, const struct driver_log_write *w)
{
    struct fixture *f = arg;

    assert_int_equal(w->ticket, f->ticket + 1);
    f->ticket = w->ticket;
    if (w->has_vote) {
        f->write_term = w->term;
    }
    if (w->truncate_from != 0) {
        f->truncated = w->truncate_from;
    }
    if (w->n_entries > 0) {
        f->last_index = w->first_index + w->n_entries - 1;
        f->n_entries += w->n_entries;
    }
}

FIXTURE void fx_log_load(void *arg, uint64_t token, uint64_t first,
                         uint64_t last, size_t max_bytes)
{
    struct fixture *f = arg;

    f->n_loads++;
    (void)token;
    (void)first;
    (void)last;
    (void)max_bytes;
}

FIXTURE void fx_send(void *arg, uint64_t peer, const struct driver_message *m)
{
    struct fixture *f = arg;

    assert_true(f->n_notes < NOTES);
    f->notes[f->n_notes].peer = peer;
    f->notes[f->n_notes++].msg = *m;
}

FIXTURE void fx_apply(void *arg, struct driver_batch *batch)
{
    struct fixture *f = arg;

    assert_true(f->n_batches < NOTES);
    f->batches[f->n_batches++] = batch;
}

FIXTURE void fx_snapshot_take(void *arg)
{
    (void)arg;
}

FIXTURE void fx_snapshot_send(void *arg, uint64_t peer, uint64_t term)
{
    (void)arg;
    (void)peer;
    (void)term;
}

FIXTURE void fx_snapshot_install(void *arg, uint64_t file,
                                 const struct driver_snapshot *meta)
{
    struct fixture *f = arg;

    (void)meta;
    f->installs = file;
}

FIXTURE void fx_snapshot_drop(void *arg, uint64_t file)
{
    struct fixture *f = arg;

    f->dropped = file;
}

FIXTURE void fx_set_lease(void *arg, uint64_t until_ms)
{
    struct fixture *f = arg;

    f->lease_ms = until_ms;
}

FIXTURE void fx_changed(void *arg)
{
    (void)arg;
}

FIXTURE void fx_fatal(void *arg, enum mr_err err, const char *why)
{
    struct fixture *f = arg;

    (void)err;
    (void)why;
    f->is_fatal = true;
}

FIXTURE struct driver_options fx_options(struct fixture *f)
{
    return (struct driver_options){
        .id = 1,
        .address = "10.0.0.1:8300",
        .incarnation = 5,
        .seed = 1,
        .io = {f, fx_set_timer, fx_log_write, fx_log_load, fx_send, fx_apply,
               fx_snapshot_take, fx_snapshot_send, fx_snapshot_install,
               fx_snapshot_drop, fx_set_lease, fx_changed, fx_fatal}};
}

FIXTURE void fx_open(struct fixture *f, const struct driver_disk *disk)
{
    struct driver_options options = fx_options(f);
    struct mr_detail detail = {""};

    f->now = f->now == 0 ? 1000 : f->now;
    if (driver_new(&options, disk, f->now, &f->d, &detail) != MR_OK) {
        fail_msg("driver_new: %s", detail.text);
    }
}

FIXTURE void fx_close(struct fixture *f)
{
    driver_free(f->d);
    for (size_t i = 0; i < f->n_batches; i++) {
        driver_batch_free(f->batches[i]);
    }
    memset(f, 0, sizeof *f);
}

/* A round at @ms later. */
FIXTURE void fx_round(struct fixture *f, uint64_t ms)
{
    f->now += ms;
    driver_tick(f->d, f->now);
    driver_flush(f->d);
}

/* The log is written, and what can be applied is applied. */
FIXTURE void fx_durable(struct fixture *f)
{
    driver_log_done(f->d, f->ticket, MR_OK);
    driver_flush(f->d);
    if (f->n_batches > 0) {
        driver_applied(f->d, f->batches[f->n_batches - 1]->last_index);
        driver_flush(f->d);
    }
}

/* The driver of an empty disk begins a cluster of @n servers 1 .. n. */
FIXTURE void fx_bootstrap(struct fixture *f, size_t n)
{
    static const struct driver_server set[] = {
        {1, "10.0.0.1:8300"}, {2, "10.0.0.2:8300"}, {3, "10.0.0.3:8300"}};
    struct driver_disk disk = {.first_index = 1};

    memset(f, 0, sizeof *f);
    fx_open(f, &disk);
    assert_int_equal(driver_bootstrap(f->d, set, n), MR_OK);
    fx_durable(f);
}

/* The last message of @type to @peer (0: to anyone); NULL: none. */
FIXTURE struct driver_message *fx_sent(struct fixture *f, uint64_t peer,
                                       enum driver_message_type type)
{
    for (size_t i = f->n_notes; i > 0; i--) {
        struct note *n = &f->notes[i - 1];
        if (n->msg.type == type && (peer == 0 || n->peer == peer)) {
            return &n->msg;
        }
    }
    return NULL;
}

FIXTURE struct driver_status fx_status(struct fixture *f)
{
    struct driver_status status;

    driver_status(f->d, &status);
    return status;
}

FIXTURE void fx_vote_result(struct fixture *f, uint64_t peer, bool pre_vote)
{
    struct driver_message m = {.type = DRIVER_MSG_VOTE_RESULT};

    m.term = fx_sent(f, peer, DRIVER_MSG_VOTE)->term;
    m.vote_result.version = 2;
    m.vote_result.granted = true;
    m.vote_result.pre_vote = pre_vote;
    m.vote_result.capacity = 65535;
    driver_receive(f->d, peer, &m);
    driver_flush(f->d);
}

FIXTURE void fx_ack(struct fixture *f, uint64_t peer, uint64_t last)
{
    struct driver_message m = {.type = DRIVER_MSG_APPEND_RESULT,
                               .term = fx_status(f).term};

    m.append_result.version = 2;
    m.append_result.last_index = last;
    m.append_result.capacity = 65535;
    driver_receive(f->d, peer, &m);
    driver_flush(f->d);
}

/* Become leader by the vote of server 2. */
FIXTURE void fx_elect(struct fixture *f)
{
    fx_round(f, 700);
    fx_vote_result(f, 2, true);
    fx_durable(f); /* The vote for ourselves. */
    fx_vote_result(f, 2, false);
    assert_true(fx_status(f).is_leader);
}

/* Lead, with the term's first entry committed and applied. */
FIXTURE void fx_lead(struct fixture *f)
{
    fx_elect(f);
    fx_durable(f);
    fx_ack(f, 2, f->last_index);
    driver_applied(f->d, f->last_index);
    driver_flush(f->d);
}

/* An AppendEntries of @peer in @term with @n entries of that term. */
FIXTURE void fx_append(struct fixture *f, uint64_t peer, uint64_t term,
                       struct driver_append append, const char *cmd)
{
    struct driver_message m = {.type = DRIVER_MSG_APPEND, .term = term};
    struct driver_entry e = {term, DRIVER_ENTRY_BARRIER, {NULL, 0}, NULL};
    struct batch_builder b;
    struct batch_id id = {9, 9, term};

    batch_init(&b);
    if (cmd != NULL) {
        assert_int_equal(batch_add(&b, id, mr_slice_str(cmd)), MR_OK);
        e.type = DRIVER_ENTRY_COMMANDS;
        e.data.len = b.len;
        e.blob = b.blob;
    } else {
        e.blob = driver_blob_new(8);
        memset(e.blob->data, 0, 8);
        e.data.len = 8;
    }
    e.data.data = e.blob->data;
    m.append = append;
    if (append.n_entries > 0) {
        m.append.entries = &e;
    }
    driver_receive(f->d, peer, &m);
    driver_flush(f->d);
    driver_blob_unref(e.blob);
}

/* Follow server @peer in @term, which is known by a heartbeat. */
FIXTURE void fx_follow(struct fixture *f, uint64_t peer, uint64_t term)
{
    struct driver_append a = {1, 1, 1, NULL, 0};

    fx_append(f, peer, term, a, NULL);
    fx_durable(f);
    assert_int_equal(fx_status(f).leader_id, peer);
}

struct fx_write {
    struct mr_raft_proposal p;
    int n_done;
    enum mr_err err;
};

FIXTURE void fx_written(struct mr_raft_proposal *p, enum mr_err err)
{
    struct fx_write *w = mr_container_of(p, struct fx_write, p);

    w->n_done++;
    w->err = err;
}

/* Propose for the leader of one term only (0: of any), and get @err. */
FIXTURE void fx_propose_in(struct fixture *f, struct fx_write *w,
                           const char *cmd, uint64_t only_term, enum mr_err err)
{
    memset(w, 0, sizeof *w);
    w->p.cmd = mr_slice_str(cmd);
    w->p.done = fx_written;
    w->p.only_term = only_term;
    assert_int_equal(driver_propose(f->d, &w->p), err);
}

FIXTURE void fx_propose(struct fixture *f, struct fx_write *w, const char *cmd)
{
    fx_propose_in(f, w, cmd, 0, MR_OK);
}

struct fx_read {
    struct mr_raft_read r;
    int n_done;
    enum mr_err err;
};

FIXTURE void fx_read_done(struct mr_raft_read *r, enum mr_err err)
{
    struct fx_read *read = mr_container_of(r, struct fx_read, r);

    read->n_done++;
    read->err = err;
}

FIXTURE void fx_read(struct fixture *f, struct fx_read *read,
                     enum mr_raft_read_mode mode)
{
    memset(read, 0, sizeof *read);
    read->r.mode = mode;
    read->r.done = fx_read_done;
    assert_int_equal(driver_read(f->d, &read->r), MR_OK);
}

#endif /* MR_TEST_DRIVER_FIXTURE_H */
