/* SPDX-License-Identifier: Apache-2.0 */
/* health/lease: one to three engines and what they promise. Whole clusters under
 * faults are in tests/sim/test_leases.c. */
#include "health/mr_lease.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

#define N 3
#define MAIL_MAX 4096
#define COMMANDS_MAX 64

struct mail {
    size_t from, to;
    size_t len;
    uint8_t *bytes;
};

struct command {
    uint64_t ticket;
    uint64_t term;
    size_t n;
    uint64_t ids[1000];
    uint64_t silent_ms; /* Of the first. */
    size_t n_gaps;      /* Likewise. */
};

struct cluster;

struct member {
    struct cluster *cluster;
    size_t slot;
    struct mr_leases *engine;
    unsigned n_confirms;
    enum mr_err propose_err;
    struct command commands[COMMANDS_MAX];
    size_t n_commands;
};

struct cluster {
    size_t n;
    uint64_t now;
    struct member members[N];
    struct mail mail[MAIL_MAX];
    size_t n_mail;
    bool is_cut[N]; /* Neither sends nor receives. */
};

struct asked {
    struct mr_lease_renewal renewal;
    struct mr_lease_item item;
    bool is_done;
    enum mr_err err;
};

/* ---- the fixture ---- */

static void on_send(void *arg, uint64_t to, struct mr_slice msg)
{
    struct member *m = arg;
    struct cluster *c = m->cluster;
    struct mail *mail = &c->mail[c->n_mail];

    assert_true(msg.len <= MR_LEASES_MESSAGE_MAX);
    if (c->is_cut[m->slot] || to > c->n || c->is_cut[to - 1]) {
        return;
    }
    assert_true(c->n_mail < MAIL_MAX);
    *mail = (struct mail){m->slot, to - 1, msg.len, malloc(msg.len)};
    memcpy(mail->bytes, msg.data, msg.len);
    c->n_mail++;
}

static enum mr_err on_propose(void *arg, uint64_t term, struct mr_slice cmd,
                              uint64_t ticket)
{
    struct member *m = arg;
    struct command *to = &m->commands[m->n_commands];
    Mr__Command *c;

    if (m->propose_err != MR_OK) {
        return m->propose_err;
    }
    c = mr__command__unpack(NULL, cmd.len, cmd.data);
    assert_non_null(c);
    assert_int_equal(c->op_case, MR__COMMAND__OP_LEASE_END);
    assert_string_equal(c->lease_end->leader, "n1");
    assert_true(m->n_commands < COMMANDS_MAX);
    to->ticket = ticket;
    to->term = term;
    to->n = c->lease_end->n_leases;
    for (size_t i = 0; i < to->n; i++) {
        to->ids[i] = c->lease_end->leases[i]->id;
    }
    to->silent_ms = c->lease_end->leases[0]->silent_ms;
    to->n_gaps = c->lease_end->leases[0]->n_gaps_ms;
    m->n_commands++;
    mr__command__free_unpacked(c, NULL);
    return MR_OK;
}

static void on_confirm(void *arg, uint64_t term)
{
    struct member *m = arg;

    (void)term;
    m->n_confirms++;
}

static void on_done(struct mr_lease_renewal *renewal, enum mr_err err)
{
    struct asked *a = mr_container_of(renewal, struct asked, renewal);

    assert_false(a->is_done);
    a->is_done = true;
    a->err = err;
}

static void start(struct cluster *c, size_t slot)
{
    struct member *m = &c->members[slot];
    struct mr_leases_io io = {m, slot + 7, on_send, on_propose, on_confirm};

    m->cluster = c;
    m->slot = slot;
    m->engine = mr_leases_new(&io, c->now);
    assert_non_null(m->engine);
}

static struct cluster *new_cluster(size_t n)
{
    struct cluster *c = calloc(1, sizeof *c);

    assert_non_null(c);
    c->n = n;
    c->now = 10000;
    for (size_t i = 0; i < n; i++) {
        start(c, i);
    }
    return c;
}

static void free_cluster(struct cluster *c)
{
    for (size_t i = 0; i < c->n; i++) {
        mr_leases_free(c->members[i].engine);
    }
    for (size_t i = 0; i < c->n_mail; i++) {
        free(c->mail[i].bytes);
    }
    free(c);
}

static void set_role(struct cluster *c, size_t slot, size_t leader,
                     uint64_t term)
{
    const uint64_t voters[N] = {1, 2, 3};
    const struct mr_leases_role role = {.self = slot + 1,
                                        .leader = leader + 1,
                                        .term = term,
                                        .is_ready = slot == leader,
                                        .voters = voters,
                                        .n_voters = c->n,
                                        .name = "n1"};

    mr_leases_set_role(c->members[slot].engine, &role, c->now);
}

static void tick(struct cluster *c, size_t slot)
{
    struct mr_leases *engine = c->members[slot].engine;
    struct mr_lease_renewal *r;

    (void)mr_leases_tick(engine, c->now);
    while ((r = mr_leases_finished(engine)) != NULL) {
        r->done(r, r->err);
    }
}

/* Deliver what is under way, and let everybody do what is due. */
static void turn(struct cluster *c)
{
    struct mail mail[MAIL_MAX];
    size_t n = c->n_mail;

    memcpy(mail, c->mail, n * sizeof mail[0]);
    c->n_mail = 0;
    for (size_t i = 0; i < n; i++) {
        if (!c->is_cut[mail[i].to]) {
            mr_leases_receive(c->members[mail[i].to].engine, mail[i].from + 1,
                              mr_slice(mail[i].bytes, mail[i].len), c->now);
        }
        free(mail[i].bytes);
    }
    for (size_t i = 0; i < c->n; i++) {
        tick(c, i);
    }
}

static void run(struct cluster *c, uint64_t ms)
{
    for (uint64_t end = c->now + ms; c->now < end; c->now += 5) {
        turn(c);
    }
}

static void lead(struct cluster *c, size_t leader, uint64_t term)
{
    for (size_t i = 0; i < c->n; i++) {
        if (!c->is_cut[i]) {
            set_role(c, i, leader, term);
        }
    }
    run(c, 100);
}

static void change(struct cluster *c, uint64_t id, uint64_t ttl_ms)
{
    const struct mr_kv_lease_change one = {
        .id = id, .ttl_ms = ttl_ms, .is_new = ttl_ms > 0};

    for (size_t i = 0; i < c->n; i++) {
        assert_int_equal(
            mr_leases_change(c->members[i].engine, &one, 1, c->now), MR_OK);
    }
}

static void ask(struct cluster *c, size_t slot, struct asked *a, uint64_t id)
{
    *a = (struct asked){.item = {.id = id}};
    a->renewal.items = &a->item;
    a->renewal.n_items = 1;
    a->renewal.done = on_done;
    mr_leases_renew(c->members[slot].engine, &a->renewal, c->now);
}

static void assert_answered(const struct asked *a, enum mr_lease_answer answer)
{
    assert_true(a->is_done);
    assert_int_equal(a->err, MR_OK);
    assert_int_equal(a->item.answer, answer);
}

/* ---- success ---- */

/* Not earlier than the TTL, and a moment later; with the evidence. */
static void a_lease_ends_at_its_ttl(void **state)
{
    struct cluster *c = new_cluster(1);
    struct member *m = &c->members[0];

    (void)state;
    lead(c, 0, 1);
    change(c, 1, 2000);
    run(c, 2000);
    assert_int_equal(m->n_commands, 0);
    run(c, 30);
    assert_int_equal(m->n_commands, 1);
    assert_int_equal(m->commands[0].n, 1);
    assert_int_equal(m->commands[0].ids[0], 1);
    assert_int_equal(m->commands[0].term, 1);
    assert_in_range(m->commands[0].silent_ms, 2000, 2030);
    free_cluster(c);
}

/* Alone, a renewal is answered at once, and the TTL begins anew. */
static void a_renewal_moves_the_end(void **state)
{
    struct cluster *c = new_cluster(1);
    struct asked a;

    (void)state;
    lead(c, 0, 1);
    change(c, 1, 2000);
    run(c, 1500);
    ask(c, 0, &a, 1);
    turn(c);
    assert_answered(&a, MR_LEASE_RENEWED);
    run(c, 1995);
    assert_int_equal(c->members[0].n_commands, 0);
    run(c, 50);
    assert_int_equal(c->members[0].n_commands, 1);
    assert_int_equal(c->members[0].commands[0].n_gaps, 1);
    free_cluster(c);
}

/* The gaps between renewals are told, newest first. */
static void ages_tell_the_gaps(void **state)
{
    struct cluster *c = new_cluster(1);
    struct mr_lease_age age;
    struct asked a;

    (void)state;
    lead(c, 0, 1);
    change(c, 1, 60000);
    for (uint64_t i = 1; i <= 6; i++) {
        run(c, i * 100);
        ask(c, 0, &a, 1);
        turn(c);
    }
    run(c, 50);
    assert_true(mr_leases_age(c->members[0].engine, 1, c->now, &age));
    assert_int_equal(age.ttl_ms, 60000);
    assert_int_equal(age.silent_ms, 50);
    assert_int_equal(age.n_gaps, 4);
    assert_int_equal(age.gaps_ms[0], 600);
    assert_int_equal(age.gaps_ms[3], 300);
    assert_false(mr_leases_age(c->members[0].engine, 2, c->now, &age));
    free_cluster(c);
}

/* Asked of a follower, the leader answers, with a majority. */
static void a_follower_forwards(void **state)
{
    struct cluster *c = new_cluster(3);
    struct asked a, b;

    (void)state;
    lead(c, 0, 1);
    change(c, 1, 2000);
    change(c, 2, 2000);
    change(c, 2, 0);
    ask(c, 1, &a, 1);
    ask(c, 2, &b, 2);
    run(c, 40);
    assert_answered(&a, MR_LEASE_RENEWED);
    assert_answered(&b, MR_LEASE_UNKNOWN);
    free_cluster(c);
}

/* A renewal that only the leader has is not answered. */
static void a_renewal_needs_a_majority(void **state)
{
    struct cluster *c = new_cluster(3);
    struct asked a;

    (void)state;
    lead(c, 0, 1);
    change(c, 1, 60000);
    run(c, 300);
    c->is_cut[1] = c->is_cut[2] = true;
    ask(c, 0, &a, 1);
    run(c, 1000);
    assert_false(a.is_done);
    c->is_cut[2] = false;
    run(c, 1000);
    assert_answered(&a, MR_LEASE_RENEWED);
    free_cluster(c);
}

/* What a majority knows outlives the leader: not early, not late. */
static void a_new_leader_knows_every_answered_renewal(void **state)
{
    struct cluster *c = new_cluster(3);
    struct asked a;

    (void)state;
    lead(c, 0, 1);
    change(c, 1, 2000);
    run(c, 1000);
    c->is_cut[2] = true; /* It hears nothing of the renewal. */
    ask(c, 0, &a, 1);
    run(c, 40);
    assert_answered(&a, MR_LEASE_RENEWED);
    c->is_cut[2] = false;
    c->is_cut[0] = true;
    lead(c, 2, 2);
    run(c, 1995 - 140);
    assert_int_equal(c->members[2].n_commands, 0);
    run(c, 60);
    assert_int_equal(c->members[2].n_commands, 1);
    free_cluster(c);
}

/* A leader that was replaced gets no acknowledgement any more. */
static void an_older_term_is_refused(void **state)
{
    struct cluster *c = new_cluster(3);
    struct asked a;

    (void)state;
    lead(c, 0, 1);
    change(c, 1, 60000);
    set_role(c, 1, 1, 2);
    set_role(c, 2, 1, 2);
    ask(c, 0, &a, 1);
    run(c, 500);
    assert_false(a.is_done);
    set_role(c, 0, 1, 2); /* Now it knows, and asks the other. */
    run(c, 500);
    assert_answered(&a, MR_LEASE_RENEWED);
    free_cluster(c);
}

/* A server that was started again counts from its start, until it is told. */
static void a_server_without_memory_is_careful(void **state)
{
    struct cluster *c = new_cluster(3);
    const struct mr_kv_lease_change one = {
        .id = 1, .ttl_ms = 2000, .is_new = true};
    struct mr_lease_age age;

    (void)state;
    lead(c, 0, 1);
    change(c, 1, 2000);
    run(c, 1000);
    mr_leases_free(c->members[1].engine);
    start(c, 1);
    assert_int_equal(mr_leases_change(c->members[1].engine, &one, 1, c->now),
                     MR_OK);
    c->is_cut[0] = true;
    set_role(c, 1, 1, 2);
    set_role(c, 2, 1, 2);
    run(c, 400);
    assert_true(mr_leases_age(c->members[1].engine, 1, c->now, &age));
    assert_in_range(age.silent_ms, 390, 400);
    free_cluster(c);
}

/* Told by the leader, it knows what the others know. */
static void a_server_is_told_after_its_start(void **state)
{
    struct cluster *c = new_cluster(3);
    const struct mr_kv_lease_change one = {
        .id = 1, .ttl_ms = 9000, .is_new = true};
    struct mr_lease_age age;

    (void)state;
    lead(c, 0, 1);
    change(c, 1, 9000);
    run(c, 1000);
    mr_leases_free(c->members[1].engine);
    start(c, 1);
    assert_int_equal(mr_leases_change(c->members[1].engine, &one, 1, c->now),
                     MR_OK);
    set_role(c, 1, 0, 1);
    run(c, 500);
    assert_true(mr_leases_age(c->members[1].engine, 1, c->now, &age));
    assert_in_range(age.silent_ms, 1490, 1520);
    free_cluster(c);
}

/* Many leases take several messages. */
static void many_leases_are_told_in_parts(void **state)
{
    struct cluster *c = new_cluster(3);
    struct mr_lease_age age;

    (void)state;
    lead(c, 0, 1);
    for (uint64_t id = 1; id <= 60000; id++) {
        change(c, id, 60000);
    }
    run(c, 500);
    c->is_cut[0] = true;
    lead(c, 1, 2);
    assert_true(mr_leases_age(c->members[1].engine, 60000, c->now, &age));
    assert_in_range(age.silent_ms, 500, 700);
    free_cluster(c);
}

/* What ends together goes into few commands, a few at a time, ordered by
 * place. */
static void ends_come_in_batches(void **state)
{
    struct cluster *c = new_cluster(1);
    struct member *m = &c->members[0];
    struct mr_leases_stats stats;

    (void)state;
    lead(c, 0, 1);
    for (uint64_t id = 1; id <= 5000; id++) {
        const struct mr_kv_lease_change one = {
            .id = id, .ttl_ms = 1000, .is_new = true, .place = id % 5};

        assert_int_equal(mr_leases_change(m->engine, &one, 1, c->now), MR_OK);
    }
    run(c, 1100);
    assert_int_equal(m->n_commands, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(m->commands[i].n, 1000);
        assert_int_equal(m->commands[i].ids[999] % 5, i);
    }
    for (uint64_t id = 5; id <= 5000; id += 5) {
        change(c, id, 0);
    }
    mr_leases_proposed(m->engine, m->commands[0].ticket, MR_OK, c->now);
    turn(c);
    assert_int_equal(m->n_commands, 5);
    assert_int_equal(m->commands[4].ids[0] % 5, 4);
    mr_leases_stats(m->engine, &stats);
    assert_int_equal(stats.ended, 5000);
    assert_int_equal(stats.leases, 4000);
    free_cluster(c);
}

/* Only what an outcome says decides about a renewal in between. */
static void a_renewal_waits_for_the_outcome(void **state)
{
    struct cluster *c = new_cluster(1);
    struct member *m = &c->members[0];
    struct asked a, b;

    (void)state;
    lead(c, 0, 1);
    change(c, 1, 1000);
    change(c, 2, 1000);
    run(c, 1100);
    assert_int_equal(m->n_commands, 1);
    ask(c, 0, &a, 1);
    run(c, 100);
    assert_false(a.is_done);
    mr_leases_proposed(m->engine, m->commands[0].ticket, MR_E_NOLEADER, c->now);
    run(c, 60);
    assert_answered(&a, MR_LEASE_RENEWED);
    run(c, 200);
    assert_int_equal(m->n_commands, 2); /* The other one, again. */
    assert_int_equal(m->commands[1].n, 1);
    ask(c, 0, &b, 2);
    change(c, 2, 0);
    mr_leases_proposed(m->engine, m->commands[1].ticket, MR_OK, c->now);
    run(c, 60);
    assert_answered(&b, MR_LEASE_UNKNOWN);
    free_cluster(c);
}

/* An outcome that is not known is not a refusal; the end is proposed again. */
static void an_unknown_outcome_is_tried_again(void **state)
{
    struct cluster *c = new_cluster(1);
    struct member *m = &c->members[0];
    struct asked a;

    (void)state;
    lead(c, 0, 1);
    change(c, 1, 3000);
    run(c, 3100);
    mr_leases_proposed(m->engine, m->commands[0].ticket, MR_E_UNKNOWN, c->now);
    ask(c, 0, &a, 1);
    run(c, 900);
    assert_false(a.is_done);
    assert_int_equal(m->n_commands, 1);
    run(c, 200);
    assert_int_equal(m->n_commands, 2);
    free_cluster(c);
}

/* In another term it is decided, whatever it was: a lease that is still there can
 * be renewed, and is ended anew if it is not. */
static void a_new_term_forgets_what_was_proposed(void **state)
{
    struct cluster *c = new_cluster(1);
    struct member *m = &c->members[0];
    struct asked a;

    (void)state;
    lead(c, 0, 1);
    change(c, 1, 3000);
    change(c, 2, 3000);
    run(c, 3100);
    assert_int_equal(m->n_commands, 1);
    ask(c, 0, &a, 1);
    lead(c, 0, 2);
    assert_answered(&a, MR_LEASE_RENEWED);
    run(c, 300);
    assert_int_equal(m->n_commands, 2);
    assert_int_equal(m->commands[1].n, 1);
    assert_int_equal(m->commands[1].ids[0], 2);
    mr_leases_proposed(m->engine, m->commands[0].ticket, MR_E_NOLEADER, c->now);
    run(c, 100);
    assert_int_equal(m->n_commands, 2); /* That outcome is old news. */
    free_cluster(c);
}

/* Nor is a lease held back whose outcome was never known. */
static void a_new_term_forgets_what_was_unknown(void **state)
{
    struct cluster *c = new_cluster(1);
    struct member *m = &c->members[0];
    struct asked a;

    (void)state;
    lead(c, 0, 1);
    change(c, 1, 3000);
    run(c, 3100);
    mr_leases_proposed(m->engine, m->commands[0].ticket, MR_E_UNKNOWN, c->now);
    ask(c, 0, &a, 1);
    lead(c, 0, 2);
    assert_answered(&a, MR_LEASE_RENEWED);
    run(c, 2000);
    assert_int_equal(m->n_commands, 1);
    free_cluster(c);
}

/* A renewal that waited for a leader counts from when there was one. */
static void waiting_for_a_leader_costs_nothing(void **state)
{
    struct cluster *c = new_cluster(3);
    struct asked a;

    (void)state;
    lead(c, 0, 1);
    change(c, 1, 1000);
    run(c, 300);
    c->is_cut[0] = true;
    run(c, 100);
    ask(c, 1, &a, 1);
    run(c, 700);
    lead(c, 1, 2);
    assert_answered(&a, MR_LEASE_RENEWED);
    run(c, 850);
    assert_int_equal(c->members[1].n_commands, 0);
    run(c, 200);
    assert_int_equal(c->members[1].n_commands, 1);
    free_cluster(c);
}

/* When nobody could be heard for long, all leases get that time. */
static void time_without_a_leader_does_not_count(void **state)
{
    struct cluster *c = new_cluster(3);

    (void)state;
    lead(c, 0, 1);
    change(c, 1, 4000);
    run(c, 1000);
    c->is_cut[0] = true;
    run(c, 3500);
    lead(c, 1, 2);
    run(c, 2900);
    assert_int_equal(c->members[1].n_commands, 0);
    run(c, 300);
    assert_int_equal(c->members[1].n_commands, 1);
    free_cluster(c);
}

/* So does a leader that hears no majority, and goes on with it. */
static void a_deaf_leader_ends_nothing(void **state)
{
    struct cluster *c = new_cluster(3);
    struct member *m = &c->members[0];

    (void)state;
    lead(c, 0, 1);
    change(c, 1, 2000);
    run(c, 1000);
    c->is_cut[1] = c->is_cut[2] = true;
    run(c, 3000);
    assert_int_equal(m->n_commands, 0);
    c->is_cut[1] = false;
    run(c, 800);
    assert_int_equal(m->n_commands, 0);
    run(c, 800);
    assert_int_equal(m->n_commands, 1);
    free_cluster(c);
}

/* After a pause nothing ends before a quorum said that we still lead. */
static void a_pause_is_confirmed(void **state)
{
    struct cluster *c = new_cluster(1);
    struct member *m = &c->members[0];

    (void)state;
    lead(c, 0, 1);
    change(c, 1, 1000);
    run(c, 500);
    c->now += 1000;
    run(c, 500);
    assert_int_equal(m->n_confirms, 1);
    assert_int_equal(m->n_commands, 0);
    c->now += 1000; /* While it is asked for: that answer is too old. */
    mr_leases_confirmed(m->engine, 1, MR_OK, c->now);
    turn(c);
    assert_int_equal(m->n_confirms, 2);
    mr_leases_confirmed(m->engine, 1, MR_E_TIMEOUT, c->now);
    run(c, 250);
    assert_int_equal(m->n_confirms, 3);
    mr_leases_confirmed(m->engine, 1, MR_OK, c->now);
    run(c, 250);
    assert_int_equal(m->n_commands, 0);
    run(c, 4000);
    assert_int_equal(m->n_commands, 1);
    free_cluster(c);
}

/* What was known of renewals survives a new state that has the same leases. */
static void a_snapshot_forgets_no_renewal(void **state)
{
    struct cluster *c = new_cluster(1);
    struct mr_leases *engine = c->members[0].engine;
    struct mr_lease_age age;

    (void)state;
    lead(c, 0, 1);
    change(c, 1, 60000);
    change(c, 2, 60000);
    run(c, 500);
    mr_leases_reset(engine, c->now);
    assert_false(mr_leases_age(engine, 1, c->now, &age));
    change(c, 1, 60000);
    change(c, 3, 60000);
    assert_true(mr_leases_age(engine, 1, c->now, &age));
    assert_int_equal(age.silent_ms, 500);
    assert_true(mr_leases_age(engine, 3, c->now, &age));
    assert_int_equal(age.silent_ms, 0);
    assert_false(mr_leases_age(engine, 2, c->now, &age));
    free_cluster(c);
}

/* Nothing is waited for when nothing is asked. */
static void an_empty_renewal_is_done(void **state)
{
    struct cluster *c = new_cluster(1);
    struct asked a;

    (void)state;
    ask(c, 0, &a, 1);
    a.renewal.n_items = 0;
    mr_leases_free(c->members[0].engine);
    start(c, 0);
    a.is_done = false;
    mr_leases_renew(c->members[0].engine, &a.renewal, c->now);
    turn(c);
    assert_true(a.is_done);
    assert_int_equal(a.err, MR_OK);
    free_cluster(c);
}

/* ---- failure ---- */

/* ID 0 is no lease; one that nobody has seen may still come, for a while. */
static void strange_ids_are_answered(void **state)
{
    struct cluster *c = new_cluster(3);
    struct asked a, b, d;

    (void)state;
    lead(c, 0, 1);
    change(c, 5, 60000);
    ask(c, 0, &a, 0);
    ask(c, 1, &b, 0);
    ask(c, 1, &d, UINT64_MAX);
    run(c, 100);
    assert_answered(&a, MR_LEASE_UNKNOWN);
    assert_answered(&b, MR_LEASE_UNKNOWN);
    assert_false(d.is_done);
    run(c, MR_LEASES_RENEW_MS + 200);
    assert_true(d.is_done);
    assert_int_equal(d.err, MR_E_NOLEADER);
    assert_int_equal(d.item.answer, MR_LEASE_PENDING);
    free_cluster(c);
}

/* Without a leader a renewal waits, and then is told so. */
static void without_a_leader_nobody_answers(void **state)
{
    struct cluster *c = new_cluster(3);
    struct asked a;

    (void)state;
    change(c, 1, 60000);
    ask(c, 1, &a, 1);
    run(c, MR_LEASES_RENEW_MS - 50);
    assert_false(a.is_done);
    run(c, 250);
    assert_true(a.is_done);
    assert_int_equal(a.err, MR_E_NOLEADER);
    free_cluster(c);
}

/* More than a server may hold is refused at once. */
static void too_many_renewals_are_refused(void **state)
{
    static struct mr_lease_item items[MR_LEASES_WAITING_MAX];
    struct cluster *c = new_cluster(1);
    struct asked a, b;

    (void)state;
    a = (struct asked){.renewal = {.items = items,
                                   .n_items = MR_LEASES_WAITING_MAX,
                                   .done = on_done}};
    mr_leases_renew(c->members[0].engine, &a.renewal, c->now);
    ask(c, 0, &b, 1);
    turn(c);
    assert_false(a.is_done);
    assert_true(b.is_done);
    assert_int_equal(b.err, MR_E_BUSY);
    mr_leases_free(c->members[0].engine); /* Tells who waits. */
    c->members[0].engine = NULL;
    assert_true(a.is_done);
    assert_int_equal(a.err, MR_E_CLOSED);
    free_cluster(c);
}

/* Bytes that are no message are counted and change nothing. */
static void bad_messages_are_counted(void **state)
{
    struct cluster *c = new_cluster(3);
    struct mr_leases *engine = c->members[0].engine;
    struct mr_leases_stats stats;

    (void)state;
    lead(c, 0, 1);
    mr_leases_receive(engine, 2, mr_slice("\1\1", 2), c->now);
    mr_leases_receive(engine, 2, mr_slice(NULL, 0), c->now);
    mr_leases_receive(engine, 0, mr_slice("\1\2\1\1\1\1\1\1", 8), c->now);
    mr_leases_stats(engine, &stats);
    assert_int_equal(stats.bad_messages, 3);
    free_cluster(c);
}

/* A proposal that is refused is made again. */
static void a_refused_proposal_is_made_again(void **state)
{
    struct cluster *c = new_cluster(1);
    struct member *m = &c->members[0];

    (void)state;
    lead(c, 0, 1);
    change(c, 1, 1000);
    m->propose_err = MR_E_BUSY;
    run(c, 1500);
    m->propose_err = MR_OK;
    run(c, 100);
    assert_int_equal(m->n_commands, 1);
    free_cluster(c);
}

/* No allocation that fails costs a lease, an answer or memory. */
static void no_memory_is_survived(void **state)
{
    struct cluster *c = new_cluster(1);
    const struct mr_leases_io io = {0};
    struct asked a;

    (void)state;
    mr_mem_fail_after(0);
    assert_null(mr_leases_new(&io, 0));
    mr_mem_fail_after(UINT64_MAX);
    lead(c, 0, 1);
    for (uint64_t fail = 0; fail < 12; fail++) {
        mr_leases_free(c->members[0].engine);
        start(c, 0);
        c->members[0].n_commands = 0;
        lead(c, 0, 1);
        change(c, 1, 1000);
        mr_mem_fail_after(fail);
        ask(c, 0, &a, 1);
        turn(c);
        mr_mem_fail_after(UINT64_MAX);
        run(c, 50);
        assert_true(a.is_done);
        assert_true(a.err == MR_OK || a.err == MR_E_NOMEM);
        mr_mem_fail_after(fail);
        run(c, 1300);
        mr_mem_fail_after(UINT64_MAX);
        run(c, 300);
        assert_int_equal(c->members[0].n_commands, 1);
    }
    free_cluster(c);
}

/* A lease that does not fit into memory is an error of the server. */
static void a_change_tells_a_lack_of_memory(void **state)
{
    struct cluster *c = new_cluster(1);
    const struct mr_kv_lease_change one = {
        .id = 1, .ttl_ms = 1000, .is_new = true};

    (void)state;
    mr_mem_fail_after(0);
    assert_int_equal(mr_leases_change(c->members[0].engine, &one, 1, c->now),
                     MR_E_NOMEM);
    mr_mem_fail_after(UINT64_MAX);
    free_cluster(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lease_ends_at_its_ttl),
        cmocka_unit_test(a_renewal_moves_the_end),
        cmocka_unit_test(ages_tell_the_gaps),
        cmocka_unit_test(a_follower_forwards),
        cmocka_unit_test(a_renewal_needs_a_majority),
        cmocka_unit_test(a_new_leader_knows_every_answered_renewal),
        cmocka_unit_test(an_older_term_is_refused),
        cmocka_unit_test(a_server_without_memory_is_careful),
        cmocka_unit_test(a_server_is_told_after_its_start),
        cmocka_unit_test(many_leases_are_told_in_parts),
        cmocka_unit_test(ends_come_in_batches),
        cmocka_unit_test(a_renewal_waits_for_the_outcome),
        cmocka_unit_test(an_unknown_outcome_is_tried_again),
        cmocka_unit_test(a_new_term_forgets_what_was_proposed),
        cmocka_unit_test(a_new_term_forgets_what_was_unknown),
        cmocka_unit_test(waiting_for_a_leader_costs_nothing),
        cmocka_unit_test(time_without_a_leader_does_not_count),
        cmocka_unit_test(a_deaf_leader_ends_nothing),
        cmocka_unit_test(a_pause_is_confirmed),
        cmocka_unit_test(a_snapshot_forgets_no_renewal),
        cmocka_unit_test(an_empty_renewal_is_done),
        cmocka_unit_test(strange_ids_are_answered),
        cmocka_unit_test(without_a_leader_nobody_answers),
        cmocka_unit_test(too_many_renewals_are_refused),
        cmocka_unit_test(bad_messages_are_counted),
        cmocka_unit_test(a_refused_proposal_is_made_again),
        cmocka_unit_test(no_memory_is_survived),
        cmocka_unit_test(a_change_tells_a_lack_of_memory),
    };

    return cmocka_run_group_tests_name("health/lease", tests, NULL, NULL);
}
