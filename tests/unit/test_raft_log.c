/* SPDX-License-Identifier: Apache-2.0 */
/* raft/log: requests share commits, end in order, and outlive a full disk. */
#include "raft/log.h"

#include "raft_fixture.h"

#include "base/log.h"

#define N 500

struct entry_req {
    struct raftlog_req req;
    struct fixture *f;
    uint64_t index; /* Of the entry; of a read: to be seen; free: upto. */
    size_t bytes;
    unsigned order;
    bool is_done;
};

struct fixture {
    char dir[64];
    struct raftlog *log;
    struct mr_queue ended;
    _Atomic unsigned n_full;
    _Atomic unsigned n_room;
    _Atomic unsigned n_fatal;
    unsigned n_done;
    struct entry_req reqs[N];
};

static void on_full(void *arg, bool is_full)
{
    struct fixture *f = arg;

    if (is_full) {
        f->n_full++;
    } else {
        f->n_room++;
    }
}

static void on_fatal(void *arg, enum mr_err err, const char *why)
{
    struct fixture *f = arg;

    (void)err;
    (void)why;
    f->n_fatal++;
}

static enum mr_err try_open(struct fixture *f, size_t map, size_t reserve,
                            struct raftlog **out)
{
    struct raftlog_options o = {
        .dir = f->dir,
        .node_id = FX_UUID,
        .new_id = 5,
        .map_bytes = map,
        .reserve_bytes = reserve,
        .ended = &f->ended,
        .on_fatal = on_fatal,
        .on_full = on_full,
        .arg = f,
    };

    return raftlog_open(&o, out, NULL);
}

static void start(struct fixture *f, size_t map)
{
    assert_int_equal(try_open(f, map, 4096, &f->log), MR_OK);
    assert_int_equal(raftlog_start(f->log), MR_OK);
}

static int setup(void **state)
{
    struct fixture *f = mr_calloc(1, sizeof *f);

    fx_temp_dir(f->dir);
    mr_queue_init(&f->ended, 0, NULL, NULL);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct mr_list rest;

    raftlog_close(f->log);
    (void)mr_queue_take(&f->ended, &rest);
    mr_queue_deinit(&f->ended);
    fx_remove_dir(f->dir);
    mr_free(f);
    return 0;
}

static void run_append(struct raftlog_req *req, struct logdb *db)
{
    static const char data[4000];
    struct entry_req *r = mr_container_of(req, struct entry_req, req);
    struct logdb_entry e = {r->index, 1, 1, mr_slice(data, r->bytes)};

    logdb_append(db, &e);
}

static void run_look(struct raftlog_req *req, struct logdb *db)
{
    struct entry_req *r = mr_container_of(req, struct entry_req, req);

    req->err = logdb_state(db)->last >= r->index ? MR_OK : MR_E_NOTFOUND;
}

static void run_free(struct raftlog_req *req, struct logdb *db)
{
    struct entry_req *r = mr_container_of(req, struct entry_req, req);

    struct logdb_snapshot s = {r->index, 1, 1, 1, mr_slice_str("conf")};

    logdb_set_snapshot(db, &s);
    (void)logdb_compact(db, r->index, 1000);
}

static void done(struct raftlog_req *req)
{
    struct entry_req *r = mr_container_of(req, struct entry_req, req);

    r->order = r->f->n_done++;
    r->is_done = true;
}

static void submit(struct fixture *f, size_t i, enum raftlog_kind kind,
                   uint64_t index, size_t bytes)
{
    struct entry_req *r = &f->reqs[i];

    memset(r, 0, sizeof *r);
    r->f = f;
    r->req.kind = kind;
    r->req.run = kind == RAFTLOG_WRITE  ? run_append
                 : kind == RAFTLOG_READ ? run_look
                                        : run_free;
    r->req.done = done;
    r->index = index;
    r->bytes = bytes;
    raftlog_submit(f->log, &r->req);
}

/* Run the ends that have come. */
static void take_done(struct fixture *f)
{
    struct mr_list list;
    struct mr_list *link;

    (void)mr_queue_take(&f->ended, &list);
    while ((link = mr_list_pop(&list)) != NULL) {
        done(mr_container_of(link, struct raftlog_req, link));
    }
}

/* Run the ends that have come until @n have, in all. */
static void wait_done(struct fixture *f, unsigned n)
{
    while (f->n_done < n) {
        struct mr_list list;
        struct mr_list *link;

        (void)mr_queue_wait(&f->ended, &list);
        while ((link = mr_list_pop(&list)) != NULL) {
            struct raftlog_req *req =
                mr_container_of(link, struct raftlog_req, link);

            req->done(req);
        }
    }
}

/* ------------------------------------------------------------- success */

/* Many requests need few commits, and end in the order they came in. */
static void waiting_requests_share_a_commit(void **state)
{
    struct fixture *f = *state;

    start(f, 0);
    for (size_t i = 0; i < N; i++) {
        submit(f, i, RAFTLOG_WRITE, i + 1, 100);
    }
    wait_done(f, N);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(f->reqs[i].order, i);
        assert_int_equal(f->reqs[i].req.err, MR_OK);
    }
    assert_true(raftlog_syncs(f->log) < N);
    assert_int_equal(raftlog_bytes(f->log), N * 100);
}

/* A read sees what was submitted before it. */
static void read_sees_earlier_writes(void **state)
{
    struct fixture *f = *state;

    start(f, 0);
    for (size_t i = 0; i < 100; i += 2) {
        submit(f, i, RAFTLOG_WRITE, i / 2 + 1, 10);
        submit(f, i + 1, RAFTLOG_READ, i / 2 + 1, 0);
    }
    wait_done(f, 100);
    for (size_t i = 1; i < 100; i += 2) {
        assert_int_equal(f->reqs[i].req.err, MR_OK);
    }
}

/* What was submitted before closing is on the disk afterwards. */
static void closing_writes_what_was_submitted(void **state)
{
    struct fixture *f = *state;

    start(f, 0);
    for (size_t i = 0; i < 50; i++) {
        submit(f, i, RAFTLOG_WRITE, i + 1, 10);
    }
    raftlog_close(f->log);
    f->log = NULL;
    wait_done(f, 50);
    assert_int_equal(try_open(f, 0, 0, &f->log), MR_OK);
    assert_int_equal(logdb_state(raftlog_db(f->log))->last, 50);
    assert_int_equal(logdb_state(raftlog_db(f->log))->raft_id, 5);
}

/* ------------------------------------------------------------- failure */

/* Full: the owner is told; what frees space is run; the rest follows, and the
 * owner is told that there is room again. */
static void full_log_recovers_by_itself(void **state)
{
    struct fixture *f = *state;
    size_t n = 0;

    start(f, 512 * 1024);
    while (f->n_full == 0) {
        submit(f, n, RAFTLOG_WRITE, n + 1, 4000);
        n++;
        assert_true(n < N - 1);
        while (f->n_done < n && f->n_full == 0) {
            take_done(f);
        }
    }
    submit(f, n, RAFTLOG_FREE, n > 60 ? 60 : n / 2, 0);
    wait_done(f, (unsigned)n + 1);
    assert_true(f->n_full >= 1);
    assert_int_equal(f->n_fatal, 0);
    raftlog_close(f->log);
    f->log = NULL;
    assert_int_equal(f->n_room, f->n_full);
    assert_int_equal(try_open(f, 512 * 1024, 0, &f->log), MR_OK);
    assert_int_equal(logdb_state(raftlog_db(f->log))->last, n);
}

/* Two processes, or two servers, cannot have one folder. */
static void folder_is_locked(void **state)
{
    struct fixture *f = *state;
    struct raftlog *other;

    start(f, 0);
    assert_int_equal(try_open(f, 0, 0, &other), MR_E_INUSE);
}

/* Another failure than want of space ends the log; nothing is reported done. */
static void broken_request_ends_the_log(void **state)
{
    struct fixture *f = *state;

    start(f, 0);
    submit(f, 0, RAFTLOG_WRITE, 7, 10); /* A gap: our own mistake. */
    raftlog_close(f->log);
    f->log = NULL;
    assert_int_equal(f->n_fatal, 1);
    assert_int_equal(f->n_done, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(waiting_requests_share_a_commit, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(read_sees_earlier_writes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(closing_writes_what_was_submitted,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(full_log_recovers_by_itself, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(folder_is_locked, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_request_ends_the_log, setup,
                                        teardown),
    };

    mr_log_set_level(MR_LOG_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
