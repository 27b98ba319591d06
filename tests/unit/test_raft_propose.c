/* SPDX-License-Identifier: Apache-2.0 */
/* raft/propose: the truth about every proposal's end. */
#include "driver_fixture.h"

/* The entry that holds @w's command reaches a follower from its leader. */
static void deliver_own(struct fixture *f, uint64_t peer, uint64_t term,
                        uint64_t index, uint64_t prev_term, struct fx_write *w)
{
    struct driver_message m = {.type = DRIVER_MSG_APPEND, .term = term};
    struct driver_entry e = {term, DRIVER_ENTRY_COMMANDS, {NULL, 0}, NULL};
    struct batch_id id = {1, 5, w->p.seq};
    struct batch_builder b;

    batch_init(&b);
    assert_int_equal(batch_add(&b, id, w->p.cmd), MR_OK);
    e.blob = b.blob;
    e.data = mr_slice(b.blob->data, b.len);
    m.append = (struct driver_append){index - 1, prev_term, index, &e, 1};
    driver_receive(f->d, peer, &m);
    fx_durable(f);
    batch_deinit(&b);
}

static struct mr_raft_proposal *last_own(struct fixture *f)
{
    struct driver_batch *b = f->batches[f->n_batches - 1];

    return b->n_commands == 0 ? NULL : b->commands[b->n_commands - 1].own;
}

/* Forwards of the process @incarnation of server 2. */
static void send_forward_of(struct fixture *f, uint64_t incarnation,
                            uint64_t prev, uint64_t seq, size_t n)
{
    struct driver_message m = {.type = DRIVER_MSG_FORWARD,
                               .term = fx_status(f).term};
    struct batch_builder b;

    batch_init(&b);
    for (size_t i = 0; i < n; i++) {
        struct batch_id id = {2, incarnation, seq + i};
        assert_int_equal(batch_add(&b, id, mr_slice_str("x")), MR_OK);
    }
    m.forward.incarnation = incarnation;
    m.forward.prev_seq = prev;
    m.forward.blob = b.blob;
    m.forward.data = mr_slice(b.blob->data, b.len);
    driver_receive(f->d, 2, &m);
    driver_flush(f->d);
    batch_deinit(&b);
}

static void send_forward(struct fixture *f, uint64_t prev, uint64_t seq,
                         size_t n)
{
    send_forward_of(f, 77, prev, seq, n);
}

/* ------------------------------------------------------------- success */

/* A lone command does not wait for company. */
static void lone_command_is_submitted_in_its_round(void **state)
{
    struct fixture f;
    struct fx_write w;

    (void)state;
    fx_bootstrap(&f, 3);
    fx_lead(&f);
    fx_propose(&f, &w, "a");
    driver_flush(f.d);
    assert_int_equal(f.last_index, 3);
    fx_durable(&f);
    fx_ack(&f, 3, 3);
    assert_ptr_equal(last_own(&f), &w.p);
    assert_int_equal(w.n_done, 0); /* The apply thread completes it. */
    fx_close(&f);
}

/* Everything that waits goes into one entry. */
static void waiting_commands_share_an_entry(void **state)
{
    struct fixture f;
    struct fx_write w[10];

    (void)state;
    fx_bootstrap(&f, 3);
    fx_lead(&f);
    for (size_t i = 0; i < 10; i++) {
        fx_propose(&f, &w[i], "a");
    }
    driver_flush(f.d);
    assert_int_equal(f.last_index, 3);
    fx_durable(&f);
    fx_ack(&f, 3, 3);
    assert_int_equal(f.batches[f.n_batches - 1]->n_commands, 10);
    fx_close(&f);
}

/* A follower's command completes when its own state machine gets it. */
static void forwarded_command_comes_back_as_own(void **state)
{
    struct fixture f;
    struct fx_write w;

    (void)state;
    fx_bootstrap(&f, 3);
    fx_follow(&f, 2, 2);
    fx_propose(&f, &w, "a");
    driver_flush(f.d);
    assert_non_null(fx_sent(&f, 2, DRIVER_MSG_FORWARD));
    deliver_own(&f, 2, 2, 2, 1, &w);
    assert_ptr_equal(last_own(&f), &w.p);
    fx_close(&f);
}

/* Its leader fell; the next leader's first entry came without the command. */
static void lost_command_is_proposed_again(void **state)
{
    struct fixture f;
    struct fx_write w;
    struct driver_append a = {1, 1, 2, NULL, 1};

    (void)state;
    fx_bootstrap(&f, 3);
    fx_follow(&f, 2, 2);
    fx_propose(&f, &w, "a");
    driver_flush(f.d);
    f.n_notes = 0;
    fx_follow(&f, 3, 3);
    assert_null(fx_sent(&f, 3, DRIVER_MSG_FORWARD)); /* It may still come. */
    fx_append(&f, 3, 3, a, NULL);
    fx_durable(&f);
    assert_non_null(fx_sent(&f, 3, DRIVER_MSG_FORWARD));
    deliver_own(&f, 3, 3, 3, 3, &w);
    assert_ptr_equal(last_own(&f), &w.p);
    assert_int_equal(w.n_done, 0);
    fx_close(&f);
}

/* What is repeated is taken once, and what has a gap before it not at all. */
static void leader_takes_forwarded_commands_once_and_in_order(void **state)
{
    struct fixture f;

    (void)state;
    fx_bootstrap(&f, 3);
    fx_lead(&f);
    send_forward(&f, 0, 1, 3);
    assert_int_equal(f.last_index, 3);
    send_forward(&f, 0, 1, 3);
    assert_int_equal(f.last_index, 3);
    assert_int_equal(
        fx_sent(&f, 2, DRIVER_MSG_FORWARD_REPLY)->forward_reply.last_seq, 3);
    send_forward(&f, 5, 6, 1);
    assert_int_equal(f.last_index, 3);
    send_forward(&f, 2, 3, 2); /* 3 again, and 4. */
    assert_int_equal(f.last_index, 4);
    fx_durable(&f);
    fx_ack(&f, 3, 4);
    assert_int_equal(f.batches[f.n_batches - 1]->n_commands, 4);
    fx_close(&f);
}

/* A server that was started again counts anew, and what its process before
 * said is late: taken now, it would make the numbers begin once more, and
 * repeated commands would enter the log again. */
static void forwards_of_a_process_that_is_gone_are_dropped(void **state)
{
    struct fixture f;

    (void)state;
    fx_bootstrap(&f, 3);
    fx_lead(&f);
    send_forward_of(&f, 77, 0, 1, 3);
    send_forward_of(&f, 78, 0, 1, 2);
    assert_int_equal(f.last_index, 4);
    f.n_notes = 0;
    send_forward_of(&f, 77, 3, 4, 1);
    send_forward_of(&f, 77, 0, 1, 3);
    assert_int_equal(f.last_index, 4);
    assert_null(fx_sent(&f, 2, DRIVER_MSG_FORWARD_REPLY));
    send_forward_of(&f, 78, 0, 1, 2);
    assert_int_equal(f.last_index, 4);
    send_forward_of(&f, 78, 2, 3, 1);
    assert_int_equal(f.last_index, 5);
    fx_close(&f);
}

/* ------------------------------------------------------------- failure */

/* Nobody led: the command certainly did not enter the log. */
static void without_leader_the_end_is_noleader(void **state)
{
    struct fixture f;
    struct fx_write w;

    (void)state;
    fx_bootstrap(&f, 3);
    fx_propose(&f, &w, "a");
    fx_round(&f, 4000);
    assert_int_equal(w.n_done, 0);
    fx_round(&f, 1200);
    assert_int_equal(w.n_done, 1);
    assert_int_equal(w.err, MR_E_NOLEADER);
    fx_close(&f);
}

/* What is right only as the work of one term's leader goes nowhere else: it is
 * refused on a follower and in another term. */
static void command_of_one_term_is_not_forwarded(void **state)
{
    struct fixture f;
    struct fx_write w;

    (void)state;
    fx_bootstrap(&f, 3);
    fx_follow(&f, 2, 2);
    fx_propose_in(&f, &w, "a", 2, MR_E_NOLEADER);
    fx_close(&f);
    fx_bootstrap(&f, 3);
    fx_lead(&f);
    fx_propose_in(&f, &w, "a", fx_status(&f).term + 1, MR_E_NOLEADER);
    fx_propose_in(&f, &w, "a", fx_status(&f).term, MR_OK);
    driver_flush(f.d);
    assert_int_equal(f.last_index, 3);
    fx_close(&f);
}

/* Its term is over and it is proved not to be in the log: it is not proposed
 * again, which others would be. */
static void command_of_one_term_ends_with_it(void **state)
{
    struct fixture f;
    struct fx_write w;
    struct driver_append a = {2, 1, 3, NULL, 1};
    uint64_t term;

    (void)state;
    fx_bootstrap(&f, 3);
    fx_lead(&f);
    fx_durable(&f);
    fx_ack(&f, 3, 2);
    term = fx_status(&f).term;
    a.prev_term = term;
    fx_propose_in(&f, &w, "a", term, MR_OK);
    driver_flush(f.d);
    f.n_notes = 0;
    fx_follow(&f, 3, term + 1);
    fx_append(&f, 3, term + 1, a, NULL);
    fx_durable(&f);
    driver_flush(f.d);
    assert_null(fx_sent(&f, 3, DRIVER_MSG_FORWARD));
    assert_int_equal(w.n_done, 1);
    assert_int_equal(w.err, MR_E_NOLEADER);
    fx_close(&f);
}

/* It was sent to a leader and nothing was heard: it may be in the log. */
static void sent_command_without_answer_is_unknown(void **state)
{
    struct fixture f;
    struct fx_write w;

    (void)state;
    fx_bootstrap(&f, 3);
    fx_follow(&f, 2, 2);
    fx_propose(&f, &w, "a");
    fx_round(&f, 10);
    fx_round(&f, 5200);
    assert_int_equal(w.n_done, 1);
    assert_int_equal(w.err, MR_E_UNKNOWN);
    fx_close(&f);
}

/* A command that ended as unknown and comes after all belongs to nobody. */
static void late_command_is_not_completed_twice(void **state)
{
    struct fixture f;
    struct fx_write w;

    (void)state;
    fx_bootstrap(&f, 3);
    fx_follow(&f, 2, 2);
    fx_propose(&f, &w, "a");
    fx_round(&f, 10);
    fx_round(&f, 5200);
    deliver_own(&f, 2, fx_status(&f).term, 2, 1, &w);
    assert_null(last_own(&f));
    assert_int_equal(w.n_done, 1);
    fx_close(&f);
}

/* The queue has an end. */
static void full_queue_is_busy(void **state)
{
    struct fixture f;
    struct driver_options options = fx_options(&f);
    struct driver_disk disk = {.first_index = 1};
    struct fx_write w[3] = {0};

    (void)state;
    memset(&f, 0, sizeof f);
    options.max_queue = 2;
    assert_int_equal(driver_new(&options, &disk, 1000, &f.d, NULL), MR_OK);
    fx_propose(&f, &w[0], "a");
    fx_propose(&f, &w[1], "a");
    assert_int_equal(driver_propose(f.d, &w[2].p), MR_E_BUSY);
    fx_close(&f);
    assert_int_equal(w[0].err, MR_E_CLOSED);
}

/* A leader without disk space refuses, before anything enters the log. */
static void full_disk_is_busy(void **state)
{
    struct fixture f;
    struct fx_write w = {0};

    (void)state;
    fx_bootstrap(&f, 3);
    fx_lead(&f);
    driver_disk_full(f.d, true);
    assert_int_equal(driver_propose(f.d, &w.p), MR_E_BUSY);
    send_forward(&f, 0, 1, 1);
    assert_int_equal(
        fx_sent(&f, 2, DRIVER_MSG_FORWARD_REPLY)->forward_reply.err, MR_E_BUSY);
    assert_int_equal(f.last_index, 2);
    fx_close(&f);
}

/* A command larger than the limit is not taken. */
static void large_command_is_refused(void **state)
{
    static char large[MR_RAFT_COMMAND_MAX + 1];
    struct fixture f;
    struct fx_write w = {0};

    (void)state;
    fx_bootstrap(&f, 3);
    w.p.cmd = mr_slice(large, sizeof large);
    assert_int_equal(driver_propose(f.d, &w.p), MR_E_TOOBIG);
    fx_close(&f);
}

/* Whatever allocation fails, a proposal ends once and truthfully, or the server
 * stops. */
static void lack_of_memory_does_not_lie(void **state)
{
    struct fixture f;
    struct fx_write w;

    (void)state;
    for (uint64_t n = 0; n < 30; n++) {
        fx_bootstrap(&f, 3);
        fx_lead(&f);
        fx_propose(&f, &w, "a");
        mr_mem_fail_after(n);
        driver_flush(f.d);
        driver_log_done(f.d, f.ticket, MR_OK);
        fx_ack(&f, 3, 3);
        mr_mem_fail_after(UINT64_MAX);
        fx_round(&f, 1);
        fx_durable(&f);
        fx_ack(&f, 3, 3);
        assert_int_equal(w.n_done, 0);
        assert_true(f.is_fatal || last_own(&f) == &w.p);
        fx_close(&f);
        assert_true(w.n_done == 0 || w.err == MR_E_CLOSED);
    }
}

/* A forward of another term is not taken, whoever leads. */
static void forward_of_another_term_is_refused(void **state)
{
    struct fixture f;
    struct driver_message m = {.type = DRIVER_MSG_FORWARD};
    struct batch_id id = {2, 77, 1};
    struct batch_builder b;

    (void)state;
    fx_bootstrap(&f, 3);
    fx_lead(&f);
    batch_init(&b);
    assert_int_equal(batch_add(&b, id, mr_slice_str("x")), MR_OK);
    m.term = fx_status(&f).term - 1;
    m.forward.incarnation = 77;
    m.forward.blob = b.blob;
    m.forward.data = mr_slice(b.blob->data, b.len);
    driver_receive(f.d, 2, &m);
    driver_flush(f.d);
    assert_int_equal(
        fx_sent(&f, 2, DRIVER_MSG_FORWARD_REPLY)->forward_reply.err,
        MR_E_NOTLEADER);
    assert_int_equal(f.last_index, 2);
    batch_deinit(&b);
    fx_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lone_command_is_submitted_in_its_round),
        cmocka_unit_test(waiting_commands_share_an_entry),
        cmocka_unit_test(forwarded_command_comes_back_as_own),
        cmocka_unit_test(lost_command_is_proposed_again),
        cmocka_unit_test(leader_takes_forwarded_commands_once_and_in_order),
        cmocka_unit_test(forwards_of_a_process_that_is_gone_are_dropped),
        cmocka_unit_test(without_leader_the_end_is_noleader),
        cmocka_unit_test(command_of_one_term_is_not_forwarded),
        cmocka_unit_test(command_of_one_term_ends_with_it),
        cmocka_unit_test(sent_command_without_answer_is_unknown),
        cmocka_unit_test(late_command_is_not_completed_twice),
        cmocka_unit_test(full_queue_is_busy),
        cmocka_unit_test(full_disk_is_busy),
        cmocka_unit_test(large_command_is_refused),
        cmocka_unit_test(lack_of_memory_does_not_lie),
        cmocka_unit_test(forward_of_another_term_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
