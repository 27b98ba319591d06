/* SPDX-License-Identifier: Apache-2.0 */
/* raft/join_decide: when servers begin, enter or wait, as a table. */
#include "raft/join.h"

#include "raft_fixture.h"

#define SELF 10

struct known {
    uint64_t id; /* 0: the end. */
    uint64_t cluster_id;
    uint32_t expect;
    bool is_up;
};

struct world {
    struct join_view view;
    struct join_server servers[8];
    struct frame_promise promise;
};

static void a_server(struct frame_server *s, uint64_t id)
{
    memset(s, 0, sizeof *s);
    s->id = id;
    (void)snprintf(s->address, sizeof s->address, "127.0.0.%u:8300",
                   (unsigned)id);
}

static void a_world(struct world *w, uint32_t expect, const struct known *known)
{
    memset(w, 0, sizeof *w);
    a_server(&w->view.self, SELF);
    w->view.expect = expect;
    w->view.servers = w->servers;
    for (; known->id != 0; known++) {
        struct join_server *s = &w->servers[w->view.n_servers++];

        a_server(&s->s, known->id);
        s->cluster_id = known->cluster_id;
        s->expect = known->expect;
        s->is_up = known->is_up;
    }
}

static void promise_of(struct frame_promise *p, uint64_t cluster_id,
                       uint64_t proposer, const uint64_t *ids, size_t n)
{
    memset(p, 0, sizeof *p);
    p->cluster_id = cluster_id;
    p->proposer = proposer;
    p->n_servers = n;
    for (size_t i = 0; i < n; i++) {
        a_server(&p->servers[i], ids[i]);
    }
}

static struct join_decision decide(const struct world *w)
{
    static struct join_decision d;

    join_decide(&w->view, &d);
    return d;
}

/* One row a situation of a server with ID 10 that expects three. */
static void decisions_follow_the_table(void **state)
{
    static const struct {
        const char *what;
        uint32_t expect;
        struct known known[6];
        enum join_step step;
        uint64_t cluster_id;
    } rows[] = {
        {"alone", 3, {{0}}, JOIN_WAIT, 0},
        {"two of three", 3, {{11, 0, 3, true}}, JOIN_WAIT, 0},
        {"three, lowest",
         3,
         {{11, 0, 3, true}, {12, 0, 3, true}},
         JOIN_PROPOSE,
         0},
        {"three, not lowest",
         3,
         {{9, 0, 3, true}, {12, 0, 3, true}},
         JOIN_WAIT,
         0},
        {"one is not connected",
         3,
         {{11, 0, 3, true}, {12, 0, 3, false}},
         JOIN_WAIT,
         0},
        {"one expects another number",
         3,
         {{11, 0, 3, true}, {12, 0, 5, true}},
         JOIN_WAIT,
         0},
        {"one only joins",
         3,
         {{11, 0, 3, true}, {12, 0, 0, true}},
         JOIN_WAIT,
         0},
        {"we only join", 0, {{11, 0, 3, true}, {12, 0, 3, true}}, JOIN_WAIT, 0},
        {"more than expected, lowest",
         3,
         {{11, 0, 3, true}, {12, 0, 3, true}, {13, 0, 3, true}},
         JOIN_PROPOSE,
         0},
        {"a cluster exists",
         3,
         {{11, 7, 3, true}, {12, 0, 3, true}},
         JOIN_ENTER,
         7},
        {"a cluster exists, we only join",
         0,
         {{11, 7, 3, true}},
         JOIN_ENTER,
         7},
        {"a cluster existed, its server is gone",
         3,
         {{11, 7, 3, false}, {12, 0, 3, true}},
         JOIN_WAIT,
         0},
        {"two clusters: the smaller number",
         3,
         {{11, 7, 3, true}, {12, 6, 3, true}},
         JOIN_ENTER,
         6},
        {"alone is enough", 1, {{0}}, JOIN_PROPOSE, 0},
    };

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(rows); i++) {
        static struct world w;
        struct join_decision d;

        a_world(&w, rows[i].expect, rows[i].known);
        d = decide(&w);
        if (d.step != rows[i].step || d.cluster_id != rows[i].cluster_id) {
            fail_msg("%s: step %d cluster %llu", rows[i].what, (int)d.step,
                     (unsigned long long)d.cluster_id);
        }
    }
}

/* The set that is proposed: the lowest IDs, in order, us as the proposer. */
static void proposal_names_the_lowest(void **state)
{
    static const struct known known[] = {
        {30, 0, 3, true}, {20, 0, 3, true}, {40, 0, 3, true}, {0}};
    static struct world w;
    struct join_decision d;

    (void)state;
    a_world(&w, 3, known);
    d = decide(&w);
    assert_int_equal(d.step, JOIN_PROPOSE);
    assert_int_equal(d.propose.proposer, SELF);
    assert_int_equal(d.propose.n_servers, 3);
    assert_int_equal(d.propose.servers[0].id, SELF);
    assert_int_equal(d.propose.servers[1].id, 20);
    assert_int_equal(d.propose.servers[2].id, 30);
}

/* Who is in a cluster does nothing more. */
static void members_do_nothing(void **state)
{
    static const struct known known[] = {
        {11, 8, 3, true}, {12, 0, 3, true}, {0}};
    static struct world w;

    (void)state;
    a_world(&w, 3, known);
    w.view.cluster_id = 7;
    assert_int_equal(decide(&w).step, JOIN_WAIT);
}

/* The cluster we promised has begun: we begin with the promised set; another
 * one we enter. */
static void promised_cluster_is_begun(void **state)
{
    static const struct known known[] = {
        {5, 70, 3, true}, {6, 60, 3, true}, {0}};
    static const uint64_t ids[] = {5, 6, SELF};
    static struct world w;

    (void)state;
    a_world(&w, 3, known);
    promise_of(&w.promise, 70, 5, ids, 3);
    w.view.promise = &w.promise;
    assert_int_equal(decide(&w).step, JOIN_BEGIN);
    assert_int_equal(decide(&w).cluster_id, 70);
    w.promise.cluster_id = 71;
    assert_int_equal(decide(&w).step, JOIN_ENTER);
    assert_int_equal(decide(&w).cluster_id, 60);
}

/* ------------------------------------------------------------- promises */

/* A proposal that is consistent and names us is promised. */
static void consistent_proposal_is_promised(void **state)
{
    static const struct known known[] = {{5, 0, 3, true}, {6, 0, 3, true}, {0}};
    static const uint64_t ids[] = {5, 6, SELF};
    static struct frame_promise wanted;
    static struct world w;
    char reason[FRAME_REASON_MAX + 1];

    (void)state;
    a_world(&w, 3, known);
    promise_of(&wanted, 70, 5, ids, 3);
    assert_true(join_may_promise(&w.view, &wanted, 5, reason));
}

/* What is not: another sender, without us, another number, in a cluster. */
static void other_proposals_are_refused(void **state)
{
    static const struct known known[] = {{5, 0, 3, true}, {6, 0, 3, true}, {0}};
    static const uint64_t ids[] = {5, 6, SELF};
    static const uint64_t without[] = {5, 6, 7};
    static struct frame_promise wanted;
    static struct world w;
    char reason[FRAME_REASON_MAX + 1];

    (void)state;
    a_world(&w, 3, known);
    promise_of(&wanted, 70, 5, ids, 3);
    assert_false(join_may_promise(&w.view, &wanted, 6, reason));
    promise_of(&wanted, 70, 6, ids, 3);
    assert_false(join_may_promise(&w.view, &wanted, 6, reason));
    promise_of(&wanted, 70, 5, without, 3);
    assert_false(join_may_promise(&w.view, &wanted, 5, reason));
    promise_of(&wanted, 70, 5, ids, 2);
    assert_false(join_may_promise(&w.view, &wanted, 5, reason));
    promise_of(&wanted, 70, 5, ids, 3);
    w.view.cluster_id = 9;
    assert_false(join_may_promise(&w.view, &wanted, 5, reason));
    assert_string_equal(reason, "in a cluster already");
}

/* A promise is replaced by the same proposer, by one that needs the first
 * proposer's promise, or when that one is gone; not otherwise. */
static void promise_is_replaced_only_safely(void **state)
{
    static struct known known[] = {
        {5, 0, 3, true}, {6, 0, 3, true}, {4, 0, 3, true}, {0}};
    static const uint64_t first[] = {5, 6, SELF};
    static const uint64_t with[] = {4, 5, SELF};
    static const uint64_t instead[] = {4, 6, SELF};
    static struct frame_promise wanted;
    static struct world w;
    char reason[FRAME_REASON_MAX + 1];

    (void)state;
    a_world(&w, 3, known);
    promise_of(&w.promise, 70, 5, first, 3);
    w.view.promise = &w.promise;
    promise_of(&wanted, 71, 5, first, 3);
    assert_true(join_may_promise(&w.view, &wanted, 5, reason));
    promise_of(&wanted, 72, 4, with, 3);
    assert_true(join_may_promise(&w.view, &wanted, 4, reason));
    promise_of(&wanted, 73, 4, instead, 3);
    assert_false(join_may_promise(&w.view, &wanted, 4, reason));
    w.servers[0].is_up = false;
    assert_true(join_may_promise(&w.view, &wanted, 4, reason));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decisions_follow_the_table),
        cmocka_unit_test(proposal_names_the_lowest),
        cmocka_unit_test(members_do_nothing),
        cmocka_unit_test(promised_cluster_is_begun),
        cmocka_unit_test(consistent_proposal_is_promised),
        cmocka_unit_test(other_proposals_are_refused),
        cmocka_unit_test(promise_is_replaced_only_safely),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
