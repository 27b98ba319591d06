/* SPDX-License-Identifier: Apache-2.0 */
/* raft/driver: the rules of the core that the library does not check. */
#include "driver_fixture.h"

/* ------------------------------------------------------------- success */

/* A vote that is not on disk yet could be given twice. */
static void vote_leaves_after_it_is_durable(void **state)
{
    struct fixture f;
    struct driver_message m = {.type = DRIVER_MSG_VOTE, .term = 7};

    (void)state;
    fx_bootstrap(&f, 3);
    m.vote = (struct driver_vote){2, 2, 1, 1, false, false};
    driver_receive(f.d, 2, &m);
    driver_flush(f.d);
    assert_int_equal(f.write_term, 7);
    assert_null(fx_sent(&f, 2, DRIVER_MSG_VOTE_RESULT));
    fx_durable(&f);
    assert_true(fx_sent(&f, 2, DRIVER_MSG_VOTE_RESULT)->vote_result.granted);
    fx_close(&f);
}

/* An entry is acknowledged when it is on disk, and applied then. */
static void entry_counts_when_it_is_durable(void **state)
{
    struct fixture f;
    struct driver_append a = {1, 1, 2, NULL, 1};
    size_t before;

    (void)state;
    fx_bootstrap(&f, 3);
    fx_follow(&f, 2, 2);
    f.n_notes = 0;
    before = f.n_batches;
    fx_append(&f, 2, 2, a, "x");
    assert_null(fx_sent(&f, 2, DRIVER_MSG_APPEND_RESULT));
    assert_int_equal(f.n_batches, before);
    fx_durable(&f);
    assert_int_equal(
        fx_sent(&f, 2, DRIVER_MSG_APPEND_RESULT)->append_result.last_index, 2);
    assert_int_equal(f.n_batches, before + 1);
    fx_close(&f);
}

/* What was cut off meanwhile is not reported as stored. */
static void write_overtaken_by_a_truncation_does_not_count(void **state)
{
    struct fixture f;
    struct driver_append a = {1, 1, 0, NULL, 1};
    struct driver_append heartbeat = {1, 1, 0, NULL, 0};
    struct driver_message *result;
    uint64_t old_ticket;

    (void)state;
    fx_bootstrap(&f, 3);
    fx_follow(&f, 2, 2);
    fx_append(&f, 2, 2, a, "old");
    old_ticket = f.ticket;
    fx_append(&f, 3, 3, heartbeat, NULL); /* The term is written. */
    fx_append(&f, 3, 3, a, "new");
    assert_int_equal(f.truncated, 2);
    driver_log_done(f.d, old_ticket, MR_OK);
    driver_log_done(f.d, old_ticket + 1, MR_OK);
    driver_flush(f.d);
    result = fx_sent(&f, 3, DRIVER_MSG_APPEND_RESULT);
    assert_int_equal(result->append_result.last_index, 1);
    fx_durable(&f);
    result = fx_sent(&f, 3, DRIVER_MSG_APPEND_RESULT);
    assert_int_equal(result->append_result.last_index, 2);
    fx_close(&f);
}

/* Raft, figure 8: an entry of an older term that lies on a majority is not
 * committed by that, but by an entry of the leader's own term behind it. */
static void old_entry_is_not_committed_by_counting(void **state)
{
    struct fixture f;
    struct driver_append a = {1, 1, 0, NULL, 1};

    (void)state;
    fx_bootstrap(&f, 3);
    fx_follow(&f, 2, 2);
    fx_append(&f, 2, 2, a, "x");
    fx_durable(&f);
    fx_elect(&f);
    fx_durable(&f);
    assert_int_equal(f.last_index, 3);
    fx_ack(&f, 3, 2);
    assert_int_equal(fx_status(&f).commit_index, 1);
    fx_ack(&f, 3, 3);
    assert_int_equal(fx_status(&f).commit_index, 3);
    fx_close(&f);
}

/* The only voter leads without an election, but in a term of its own. */
static void sole_voter_leads_in_a_new_term(void **state)
{
    struct fixture f;
    uint64_t term;

    (void)state;
    fx_bootstrap(&f, 1);
    fx_round(&f, 1);
    assert_true(fx_status(&f).is_leader);
    term = fx_status(&f).term;
    assert_int_equal(f.write_term, term);
    assert_true(term > 1);
    fx_close(&f);
}

/* The first entry is not applied before it is on disk, though the core takes
 * it for stored: the state would be ahead of an empty log. */
static void first_entry_is_applied_when_it_is_durable(void **state)
{
    static const struct driver_server set[] = {{1, "10.0.0.1:8300"}};
    struct driver_disk disk = {.first_index = 1};
    struct fixture f = {0};

    (void)state;
    fx_open(&f, &disk);
    assert_int_equal(driver_bootstrap(f.d, set, 1), MR_OK);
    driver_flush(f.d);
    assert_int_equal(f.n_batches, 0);
    fx_durable(&f);
    assert_true(f.n_batches > 0);
    fx_close(&f);
}

/* Followers learn of a commit at once, not with the next heartbeat. */
static void commit_is_told_in_its_round(void **state)
{
    struct fixture f;
    struct fx_write w;

    (void)state;
    fx_bootstrap(&f, 3);
    fx_lead(&f);
    fx_propose(&f, &w, "a");
    driver_flush(f.d);
    fx_durable(&f);
    f.n_notes = 0;
    fx_ack(&f, 2, 3);
    assert_int_equal(fx_sent(&f, 2, DRIVER_MSG_APPEND)->append.commit, 3);
    assert_int_equal(fx_sent(&f, 2, DRIVER_MSG_APPEND)->append.n_entries, 0);
    f.n_notes = 0;
    fx_round(&f, 1);
    assert_null(fx_sent(&f, 2, DRIVER_MSG_APPEND)); /* Once. */
    fx_close(&f);
}

/* A consistent read waits for a majority's word of after its arrival. */
static void consistent_read_asks_the_quorum(void **state)
{
    struct fixture f;
    struct fx_read r;
    struct driver_message ack = {.type = DRIVER_MSG_CONFIRM_ACK};

    (void)state;
    fx_bootstrap(&f, 3);
    fx_lead(&f);
    ack.term = fx_status(&f).term;
    ack.confirm.round = fx_sent(&f, 2, DRIVER_MSG_CONFIRM)->confirm.round;
    fx_read(&f, &r, MR_RAFT_READ_CONSISTENT);
    driver_flush(f.d);
    driver_receive(f.d, 2, &ack); /* Of a round before. */
    driver_flush(f.d);
    assert_int_equal(r.n_done, 0);
    ack.confirm.round = fx_sent(&f, 2, DRIVER_MSG_CONFIRM)->confirm.round;
    driver_receive(f.d, 2, &ack);
    assert_int_equal(r.n_done, 1);
    assert_int_equal(r.err, MR_OK);
    fx_close(&f);
}

/* The lease runs from when the round began, and ends by itself before anyone
 * else could lead. */
static void lease_ends_before_the_election_timeout(void **state)
{
    struct fixture f;
    struct driver_message ack = {.type = DRIVER_MSG_CONFIRM_ACK};
    uint64_t begun;

    (void)state;
    fx_bootstrap(&f, 3);
    fx_lead(&f);
    fx_round(&f, 60);
    begun = f.now;
    ack.term = fx_status(&f).term;
    ack.confirm.round = fx_sent(&f, 2, DRIVER_MSG_CONFIRM)->confirm.round;
    driver_tick(f.d, f.now += 20);
    driver_receive(f.d, 2, &ack);
    assert_int_equal(f.lease_ms, begun + 300 - 2 * 50);
    fx_close(&f);
}

/* A follower asks once for all reads that wait, and waits until it is there. */
static void follower_reads_at_the_leaders_index(void **state)
{
    struct fixture f;
    struct fx_read r[3];
    struct driver_append a = {1, 1, 2, NULL, 1};
    struct driver_message reply = {.type = DRIVER_MSG_READ_REPLY};

    (void)state;
    fx_bootstrap(&f, 3);
    fx_follow(&f, 2, 2);
    for (size_t i = 0; i < 3; i++) {
        fx_read(&f, &r[i], MR_RAFT_READ_DEFAULT);
    }
    f.n_notes = 0;
    driver_flush(f.d);
    assert_int_equal(f.n_notes, 1);
    reply.read_reply.seq = fx_sent(&f, 2, DRIVER_MSG_READ)->read.seq;
    reply.read_reply.index = 2;
    driver_receive(f.d, 2, &reply);
    assert_int_equal(r[0].n_done, 0);
    fx_append(&f, 2, 2, a, "x");
    fx_durable(&f);
    driver_applied(f.d, 2);
    assert_int_equal(r[0].n_done + r[1].n_done + r[2].n_done, 3);
    fx_close(&f);
}

/* A term is told when no restart can bring an older one back. */
static void term_is_stored_when_it_is_durable(void **state)
{
    struct fixture f;
    struct driver_append heartbeat = {1, 1, 0, NULL, 0};

    (void)state;
    fx_bootstrap(&f, 3);
    fx_follow(&f, 2, 2);
    assert_int_equal(fx_status(&f).stored_term, 2);
    fx_append(&f, 3, 7, heartbeat, NULL);
    assert_int_equal(fx_status(&f).term, 7);
    assert_int_equal(fx_status(&f).stored_term, 2);
    fx_durable(&f);
    assert_int_equal(fx_status(&f).stored_term, 7);
    fx_close(&f);
}

/* A probe far behind takes the core's commit index back, but not ours: it would
 * be told to readers, and what is applied would be applied again. */
static void commit_index_never_goes_back(void **state)
{
    struct fixture f;
    struct driver_append first = {1, 1, 1, NULL, 1};
    struct driver_append second = {2, 2, 3, NULL, 1};
    struct driver_append probe = {1, 1, 4, NULL, 0};
    size_t handed;

    (void)state;
    fx_bootstrap(&f, 3);
    fx_follow(&f, 2, 2);
    fx_append(&f, 2, 2, first, "x");
    fx_append(&f, 2, 2, second, "y");
    fx_durable(&f);
    assert_int_equal(fx_status(&f).commit_index, 3);
    handed = f.n_batches;
    fx_append(&f, 2, 2, probe, NULL);
    assert_int_equal(fx_status(&f).commit_index, 3);
    fx_durable(&f);
    assert_int_equal(f.n_batches, handed);
    assert_int_equal(fx_status(&f).applied_index, 3);
    assert_false(f.is_fatal);
    fx_close(&f);
}

/* From the arrival of a snapshot until the state machine holds it nothing is
 * applied, whatever becomes durable or is known to be committed meanwhile. */
static void nothing_is_applied_while_a_snapshot_is_installed(void **state)
{
    static const uint8_t conf[] = {
        1, 3, 0, 0, 0, 0, 0, 0, 0,                   /* Three servers: */
        1, 0, 0, 0, 0, 0, 0, 0, 'a', ':', '1', 0, 1, /* voters all. */
        2, 0, 0, 0, 0, 0, 0, 0, 'b', ':', '1', 0, 1,
        3, 0, 0, 0, 0, 0, 0, 0, 'c', ':', '1', 0, 1};
    struct fixture f;
    struct driver_append before = {1, 1, 2, NULL, 1};
    struct driver_append after = {50, 2, 51, NULL, 1};
    struct driver_message m = {.type = DRIVER_MSG_INSTALL, .term = 2};
    uint64_t ticket;
    size_t handed;

    (void)state;
    fx_bootstrap(&f, 3);
    fx_follow(&f, 2, 2);
    handed = f.n_batches;
    fx_append(&f, 2, 2, before, "x"); /* Committed, not yet on disk. */
    ticket = f.ticket;
    m.install.meta =
        (struct driver_snapshot){50, 2, 1, mr_slice(conf, sizeof conf)};
    m.install.file = 12;
    driver_receive(f.d, 2, &m);
    driver_flush(f.d);
    driver_log_done(f.d, ticket, MR_OK);
    fx_append(&f, 2, 2, after, "y");
    assert_int_equal(f.installs, 0);
    driver_log_done(f.d, f.ticket, MR_OK);
    assert_int_equal(f.installs, 12);
    fx_append(&f, 2, 2, after, "y");
    fx_round(&f, 60);
    assert_int_equal(f.n_batches, handed);
    assert_int_equal(f.n_loads, 0);
    assert_int_equal(fx_status(&f).applied_index, 1);
    driver_snapshot_installed(f.d, 12, MR_OK);
    assert_int_equal(fx_status(&f).applied_index, 50);
    fx_append(&f, 2, 2, after, "y");
    fx_durable(&f);
    assert_int_equal(f.n_batches, handed + 1);
    assert_int_equal(f.batches[handed]->first_index, 51);
    assert_false(f.is_fatal);
    fx_close(&f);
}

/* ------------------------------------------------------------- failure */

/* A leader whose disk hangs hands over, and then says nothing more. */
static void leader_with_a_hanging_disk_falls_silent(void **state)
{
    struct fixture f;
    struct fx_write w;

    (void)state;
    fx_bootstrap(&f, 3);
    fx_lead(&f);
    fx_propose(&f, &w, "a");
    driver_flush(f.d); /* Never durable. */
    for (int i = 0; i < 8; i++) {
        fx_round(&f, 100);
        fx_ack(&f, 2, 3);
    }
    assert_non_null(fx_sent(&f, 2, DRIVER_MSG_TIMEOUT_NOW));
    for (int i = 0; i < 4; i++) {
        fx_round(&f, 100);
        fx_ack(&f, 2, 3);
    }
    f.n_notes = 0;
    fx_round(&f, 100);
    assert_null(fx_sent(&f, 0, DRIVER_MSG_APPEND));
    fx_close(&f);
}

/* Messages that contradict themselves change nothing. */
static void nonsense_is_dropped(void **state)
{
    struct fixture f;
    struct driver_append no_prev_term = {5, 0, 9, NULL, 0};
    struct driver_append future = {1, 9, 9, NULL, 0};
    struct driver_message m = {.type = (enum driver_message_type)99};

    (void)state;
    fx_bootstrap(&f, 3);
    fx_append(&f, 2, 2, no_prev_term, NULL);
    fx_append(&f, 2, 2, future, NULL);
    driver_receive(f.d, 2, &m);
    driver_receive(f.d, 0, &m);
    assert_int_equal(fx_status(&f).term, 1);
    assert_int_equal(fx_status(&f).leader_id, 0);
    assert_false(f.is_fatal);
    fx_close(&f);
}

/* A snapshot whose configuration does not decode is not installed. */
static void snapshot_without_configuration_is_dropped(void **state)
{
    static const uint8_t conf[] = {1, 1, 0, 0, 0, 0, 0, 0, 0, 5};
    struct fixture f;
    struct driver_message m = {.type = DRIVER_MSG_INSTALL, .term = 3};

    (void)state;
    fx_bootstrap(&f, 3);
    m.install.meta =
        (struct driver_snapshot){50, 2, 1, mr_slice(conf, sizeof conf)};
    m.install.file = 12;
    driver_receive(f.d, 2, &m);
    driver_flush(f.d);
    assert_int_equal(f.dropped, 12);
    assert_int_equal(fx_status(&f).snapshot_index, 0);
    fx_close(&f);
}

/* A log that does not belong to the state is refused at the start. */
static void state_ahead_of_the_log_is_corrupt(void **state)
{
    struct fixture f = {0};
    struct driver_options options = fx_options(&f);
    struct driver_disk disk = {
        .term = 3, .first_index = 1, .applied = 7, .applied_term = 3};
    struct mr_detail detail = {""};

    (void)state;
    assert_int_equal(driver_new(&options, &disk, 1000, &f.d, &detail),
                     MR_E_CORRUPT);
    assert_string_not_equal(detail.text, "");
}

/* A disk that fails ends this server, and nothing is sent after that. */
static void failing_disk_is_fatal(void **state)
{
    struct fixture f;

    (void)state;
    fx_bootstrap(&f, 3);
    fx_lead(&f);
    driver_log_done(f.d, f.ticket, MR_E_IO);
    assert_true(f.is_fatal);
    f.n_notes = 0;
    fx_round(&f, 1000);
    assert_int_equal(f.n_notes, 0);
    fx_close(&f);
}

/* Twice is once too often. */
static void second_bootstrap_is_refused(void **state)
{
    static const struct driver_server set[] = {{1, "a:1"}};
    struct fixture f;

    (void)state;
    fx_bootstrap(&f, 3);
    assert_int_equal(driver_bootstrap(f.d, set, 1), MR_E_EXISTS);
    fx_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vote_leaves_after_it_is_durable),
        cmocka_unit_test(entry_counts_when_it_is_durable),
        cmocka_unit_test(write_overtaken_by_a_truncation_does_not_count),
        cmocka_unit_test(old_entry_is_not_committed_by_counting),
        cmocka_unit_test(sole_voter_leads_in_a_new_term),
        cmocka_unit_test(first_entry_is_applied_when_it_is_durable),
        cmocka_unit_test(commit_is_told_in_its_round),
        cmocka_unit_test(consistent_read_asks_the_quorum),
        cmocka_unit_test(lease_ends_before_the_election_timeout),
        cmocka_unit_test(follower_reads_at_the_leaders_index),
        cmocka_unit_test(term_is_stored_when_it_is_durable),
        cmocka_unit_test(commit_index_never_goes_back),
        cmocka_unit_test(nothing_is_applied_while_a_snapshot_is_installed),
        cmocka_unit_test(leader_with_a_hanging_disk_falls_silent),
        cmocka_unit_test(nonsense_is_dropped),
        cmocka_unit_test(snapshot_without_configuration_is_dropped),
        cmocka_unit_test(state_ahead_of_the_log_is_corrupt),
        cmocka_unit_test(failing_disk_is_fatal),
        cmocka_unit_test(second_bootstrap_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
