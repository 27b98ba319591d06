/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/leases: the engine between a loop, a store and threads that renew; as on
 * an agent without -server, where nobody else votes.
 */
#include "server/leases.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/mr_api.h"
#include "base/mem.h"
#include "base/queue.h"

#define THREADS 4
#define RENEWALS 300
#define TTL_MS 1000

struct fixture {
    char dir[64];
    uv_loop_t loop;
    struct mr_kv *kv;
    struct server_leases *leases;
    struct mr_queue proposals; /* For the apply thread. */
    pthread_t applier;
    uint64_t index;
    atomic_uint n_left; /* Renewals without an answer. */
    atomic_uint n_renewed;
    uint64_t lease_id;
};

/* ---- the store and its one writer ---- */

static void on_leases(void *arg, const struct mr_kv_lease_change *changes,
                      size_t n)
{
    struct fixture *f = arg;

    server_leases_changed(f->leases, changes, n);
}

static void on_reset(void *arg)
{
    struct fixture *f = arg;

    server_leases_reset(f->leases);
}

static void apply(struct fixture *f, struct mr_slice cmd,
                  struct mr_kv_result *result)
{
    mr_assert(mr_kv_batch_begin(f->kv) == MR_OK);
    mr_assert(mr_kv_apply(f->kv, cmd, result) == MR_OK);
    mr_assert(mr_kv_batch_commit(f->kv, ++f->index, 1) == MR_OK);
}

static void *apply_all(void *arg)
{
    struct fixture *f = arg;
    struct mr_list list;
    struct mr_list *link;

    while (mr_queue_wait(&f->proposals, &list) > 0) {
        while ((link = mr_list_pop(&list)) != NULL) {
            struct mr_raft_proposal *p =
                mr_container_of(link, struct mr_raft_proposal, link);

            apply(f, p->cmd,
                  &mr_container_of(p, struct mr_write, proposal)->result);
            p->done(p, MR_OK);
        }
    }
    return NULL;
}

static enum mr_err propose(void *arg, struct mr_raft_proposal *proposal)
{
    struct fixture *f = arg;

    return mr_queue_push(&f->proposals, &proposal->link);
}

static void on_fatal(void *arg, enum mr_err err, const char *why)
{
    (void)arg;
    (void)err;
    (void)why;
    abort();
}

/* An agent's node with a lease. */
static void register_node(struct fixture *f)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Register reg = MR__REGISTER__INIT;
    Mr__Node node = MR__NODE__INIT;
    Mr__Check check = MR__CHECK__INIT, *checks = &check;
    struct mr_buf out = MR_BUF_INIT;
    struct mr_kv_result result;
    struct mr_kv_lease_ref ref;
    struct mr_kv_view *view;

    node.name = (char *)"n1";
    node.address = (char *)"127.0.0.1";
    node.ttl_ms = TTL_MS;
    check.check_id = check.name = (char *)"serfHealth";
    check.status = (char *)"passing";
    reg.node = &node;
    reg.n_checks = 1;
    reg.checks = &checks;
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = &reg;
    mr_kv_command_encode(&cmd, &out);
    apply(f, mr_buf_slice(&out), &result);
    assert_int_equal(result.verdict, MR_KV_DONE);
    mr_buf_deinit(&out);
    assert_int_equal(mr_kv_view_begin(f->kv, &view), MR_OK);
    assert_int_equal(mr_kv_lease_find(view, MR_KV_SUBJECT_NODE, "n1", "", &ref),
                     MR_OK);
    mr_kv_view_end(view);
    assert_true(ref.lease_id > 0);
    f->lease_id = ref.lease_id;
}

static bool is_passing(struct fixture *f)
{
    const Mr__Check *check = NULL;
    struct mr_kv_view *view;
    bool is_so;

    assert_int_equal(mr_kv_view_begin(f->kv, &view), MR_OK);
    assert_int_equal(mr_kv_check_get(view, "n1", "serfHealth", &check), MR_OK);
    is_so = strcmp(check->status, "passing") == 0;
    mr_kv_view_end(view);
    return is_so;
}

static void open_store(struct fixture *f)
{
    struct mr_kv_options options = {
        .dir = f->dir,
        .boot_id = "boot",
        .hooks = {.arg = f, .leases = on_leases, .leases_reset = on_reset}};
    struct server_leases_options leases = {.loop = &f->loop,
                                           .node_name = "n1",
                                           .propose = propose,
                                           .on_fatal = on_fatal,
                                           .arg = f};

    assert_int_equal(server_leases_new(&leases, &f->leases), MR_OK);
    assert_int_equal(mr_kv_open(&options, &f->kv, NULL), MR_OK);
    assert_int_equal(server_leases_load(f->leases, f->kv), MR_OK);
}

static void close_store(struct fixture *f)
{
    mr_queue_close(&f->proposals);
    (void)pthread_join(f->applier, NULL);
    server_leases_stop(f->leases);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    server_leases_free(f->leases);
    mr_queue_deinit(&f->proposals);
    mr_kv_close(f->kv);
}

static void start(struct fixture *f)
{
    mr_queue_init(&f->proposals, 0, NULL, NULL);
    assert_int_equal(pthread_create(&f->applier, NULL, apply_all, f), 0);
    server_leases_start(f->leases, NULL);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    (void)snprintf(f->dir, sizeof f->dir, "/tmp/mr_leases_XXXXXX");
    if (mkdtemp(f->dir) == NULL || uv_loop_init(&f->loop) != 0) {
        return -1;
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[128];

    (void)uv_loop_close(&f->loop);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    (void)!system(command); /* What is left is in /tmp. */
    free(f);
    return 0;
}

/* ---- renewals ---- */

struct asked {
    struct mr_lease_renewal renewal;
    struct mr_lease_item item;
    struct fixture *fixture;
};

static void on_answer(struct mr_lease_renewal *renewal, enum mr_err err)
{
    struct asked *a = mr_container_of(renewal, struct asked, renewal);
    struct fixture *f = a->fixture;

    if (err == MR_OK && a->item.answer == MR_LEASE_RENEWED) {
        atomic_fetch_add(&f->n_renewed, 1);
    }
    atomic_fetch_sub(&f->n_left, 1);
    free(a);
}

static enum mr_err ask(struct fixture *f)
{
    struct asked *a = calloc(1, sizeof *a);
    enum mr_err err;

    a->fixture = f;
    a->item.id = f->lease_id;
    a->renewal.items = &a->item;
    a->renewal.n_items = 1;
    a->renewal.done = on_answer;
    err = server_leases_renew(f->leases, &a->renewal);
    if (err != MR_OK) {
        free(a);
    }
    return err;
}

static void *renew_and_look(void *arg)
{
    struct fixture *f = arg;
    struct mr_lease_age age;

    for (int i = 0; i < RENEWALS; i++) {
        mr_assert(ask(f) == MR_OK);
        (void)server_leases_age(f->leases, f->lease_id, &age);
    }
    return NULL;
}

/* ---- tests ---- */

/* Threads renew and look at once; all are answered; then, silent, the node dies
 * at its TTL. */
static void threads_renew_and_silence_kills(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[THREADS];
    struct mr_leases_stats stats;
    uint64_t begin;

    open_store(f);
    register_node(f);
    start(f);
    atomic_store(&f->n_left, THREADS * RENEWALS);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, renew_and_look, f),
                         0);
    }
    while (atomic_load(&f->n_left) > 0) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    for (size_t i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    begin = mr_now_ms(mr_clock_system());
    assert_int_equal(atomic_load(&f->n_renewed), THREADS * RENEWALS);
    while (is_passing(f)) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    assert_in_range(mr_now_ms(mr_clock_system()) - begin, TTL_MS - 100,
                    TTL_MS + 1000);
    server_leases_stats(f->leases, &stats);
    assert_int_equal(stats.renewals, THREADS * RENEWALS);
    assert_int_equal(stats.ended, 1);
    close_store(f);
}

/* The leases of a store that is opened again are known, from then on. */
static void a_stored_lease_is_known_after_a_start(void **state)
{
    struct fixture *f = *state;
    struct mr_lease_age age;

    open_store(f);
    register_node(f);
    start(f);
    close_store(f);
    open_store(f);
    start(f);
    assert_true(server_leases_age(f->leases, f->lease_id, &age));
    assert_int_equal(age.ttl_ms, TTL_MS);
    assert_false(server_leases_age(f->leases, f->lease_id + 1, &age));
    close_store(f);
}

/* What waits when it stops is told so, and later ones are refused. */
static void stopping_ends_what_waits(void **state)
{
    struct fixture *f = *state;
    struct mr_lease_age age;

    open_store(f);
    register_node(f);
    start(f);
    atomic_store(&f->n_left, 1);
    assert_int_equal(ask(f), MR_OK);
    mr_queue_close(&f->proposals);
    (void)pthread_join(f->applier, NULL);
    server_leases_stop(f->leases);
    assert_int_equal(atomic_load(&f->n_left), 0);
    assert_int_equal(atomic_load(&f->n_renewed), 0);
    assert_int_equal(ask(f), MR_E_CLOSED);
    assert_false(server_leases_age(f->leases, f->lease_id, &age));
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    server_leases_free(f->leases);
    mr_queue_deinit(&f->proposals);
    mr_kv_close(f->kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(threads_renew_and_silence_kills, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_stored_lease_is_known_after_a_start,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(stopping_ends_what_waits, setup,
                                        teardown),
    };

    return cmocka_run_group_tests_name("server/leases", tests, NULL, NULL);
}
