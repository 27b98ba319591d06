/* SPDX-License-Identifier: Apache-2.0 */
/* raft/membership: configurations come into force, and go again, where they
 * should; servers are added and removed by request. */
#include "driver_fixture.h"

#include <raft.h>

/* A configuration of the voters 1 .. @n_voters and stand-bys up to @n. */
static struct driver_blob *conf_blob(size_t n_voters, size_t n)
{
    struct raft_configuration conf;
    struct raft_buffer buf;
    struct driver_blob *blob;
    char address[32];

    raft_configuration_init(&conf);
    for (size_t i = 1; i <= n; i++) {
        (void)snprintf(address, sizeof address, "10.0.0.%zu:8300#%zu", i, i);
        assert_int_equal(
            raft_configuration_add(&conf, i, address,
                                   i <= n_voters ? RAFT_VOTER : RAFT_STANDBY),
            0);
    }
    assert_int_equal(raft_configuration_encode(&conf, &buf), 0);
    blob = driver_blob_new(buf.len);
    assert_non_null(blob);
    memcpy(blob->data, buf.base, buf.len);
    raft_free(buf.base);
    raft_configuration_close(&conf);
    return blob;
}

static struct driver_entry barrier(uint64_t term)
{
    struct driver_entry e = {
        term, DRIVER_ENTRY_BARRIER, {NULL, 8}, driver_blob_new(8)};

    memset(e.blob->data, 0, 8);
    e.data.data = e.blob->data;
    return e;
}

static struct driver_entry change(uint64_t term, size_t n_voters, size_t n)
{
    struct driver_entry e = {
        term, DRIVER_ENTRY_CHANGE, {NULL, 0}, conf_blob(n_voters, n)};

    e.data = mr_slice(e.blob->data, e.blob->len);
    return e;
}

/* Entries (released here) of the leader @peer behind @prev. */
static void append(struct fixture *f, uint64_t peer, uint64_t term,
                   struct driver_append a, struct driver_entry *entries,
                   size_t n)
{
    struct driver_message m = {.type = DRIVER_MSG_APPEND, .term = term};

    m.append = a;
    m.append.entries = entries;
    m.append.n_entries = n;
    driver_receive(f->d, peer, &m);
    fx_durable(f);
    for (size_t i = 0; i < n; i++) {
        driver_blob_unref(entries[i].blob);
    }
}

struct answer {
    int n;
    enum mr_err err;
};

static void answered(void *arg, enum mr_err err, const char *detail)
{
    struct answer *a = arg;

    (void)detail;
    a->n++;
    a->err = err;
}

/* ------------------------------------------------------------- success */

/* A configuration behind other entries of its message goes when it is cut. */
static void uncommitted_configuration_is_rolled_back(void **state)
{
    struct fixture f;
    struct driver_append a = {1, 1, 1, NULL, 0};
    struct driver_entry first[2] = {barrier(2), change(2, 3, 4)};
    struct driver_entry second[1] = {barrier(3)};

    (void)state;
    fx_bootstrap(&f, 3);
    append(&f, 2, 2, a, first, 2);
    assert_int_equal(fx_status(&f).n_peers, 4);
    a = (struct driver_append){2, 2, 1, NULL, 0};
    append(&f, 3, 3, a, second, 1);
    assert_int_equal(fx_status(&f).n_peers, 3);
    fx_close(&f);
}

/* Of two configurations in one message the first is committed by then: cutting
 * the second leads back to the first. */
static void second_configuration_commits_the_first(void **state)
{
    struct fixture f;
    struct driver_append a = {1, 1, 1, NULL, 0};
    struct driver_entry first[2] = {change(2, 3, 4), change(2, 3, 5)};
    struct driver_entry second[1] = {barrier(3)};

    (void)state;
    fx_bootstrap(&f, 3);
    append(&f, 2, 2, a, first, 2);
    assert_int_equal(fx_status(&f).n_peers, 5);
    a = (struct driver_append){2, 2, 2, NULL, 0};
    append(&f, 3, 3, a, second, 1);
    assert_int_equal(fx_status(&f).n_peers, 4);
    fx_close(&f);
}

/* The leader of term 2 removed itself and left one voter: that one must not
 * lead in term 2 as well. */
static void follower_left_alone_leads_in_a_new_term(void **state)
{
    struct fixture f;
    struct driver_append a = {1, 1, 2, NULL, 0};
    struct driver_entry entries[1] = {change(2, 1, 1)};

    (void)state;
    fx_bootstrap(&f, 2);
    append(&f, 2, 2, a, entries, 1);
    fx_round(&f, 700);
    fx_durable(&f);
    assert_true(fx_status(&f).is_leader);
    assert_true(fx_status(&f).term > 2);
    fx_close(&f);
}

/* A stand-by whose promotion only the candidate knows gives its vote, once its
 * leader is silent. */
static void standby_gives_its_vote(void **state)
{
    struct fixture f;
    struct driver_append a = {1, 1, 2, NULL, 0};
    struct driver_entry entries[1] = {change(2, 0, 3)};
    struct driver_message m = {.type = DRIVER_MSG_VOTE, .term = 3};

    (void)state;
    fx_bootstrap(&f, 3);
    append(&f, 2, 2, a, entries, 1);
    m.vote = (struct driver_vote){2, 2, 3, 2, false, false};
    driver_receive(f.d, 2, &m);
    fx_durable(&f);
    assert_false(fx_sent(&f, 2, DRIVER_MSG_VOTE_RESULT)->vote_result.granted);
    fx_round(&f, 400);
    driver_receive(f.d, 2, &m);
    fx_durable(&f);
    assert_true(fx_sent(&f, 2, DRIVER_MSG_VOTE_RESULT)->vote_result.granted);
    fx_close(&f);
}

/* Who asks to join becomes a stand-by. */
static void joiner_becomes_a_standby(void **state)
{
    struct fixture f;
    struct driver_message m = {.type = DRIVER_MSG_MEMBER};
    struct driver_peer peer;

    (void)state;
    fx_bootstrap(&f, 3);
    fx_lead(&f);
    m.member =
        (struct driver_member){0, DRIVER_MEMBER_ADD, 44, "10.0.0.44:8300"};
    driver_receive(f.d, 44, &m);
    driver_flush(f.d);
    assert_true(driver_peer_at(f.d, 3, &peer));
    assert_int_equal(peer.id, 44);
    assert_false(peer.is_voter);
    assert_int_equal(peer.address_len, strlen("10.0.0.44:8300"));
    fx_durable(&f);
    fx_ack(&f, 2, f.last_index);
    assert_int_equal(fx_sent(&f, 44, DRIVER_MSG_MEMBER_REPLY)->member_reply.err,
                     MR_OK);
    fx_close(&f);
}

/* A server is removed, and the answer comes with the commit. */
static void removal_is_answered_when_it_is_committed(void **state)
{
    struct fixture f;
    struct answer answer = {0, MR_OK};

    (void)state;
    fx_bootstrap(&f, 3);
    fx_lead(&f);
    driver_member_change(f.d, DRIVER_MEMBER_REMOVE, 3, "", answered, &answer);
    driver_flush(f.d);
    assert_int_equal(answer.n, 0);
    fx_durable(&f);
    fx_ack(&f, 2, f.last_index);
    assert_int_equal(answer.n, 1);
    assert_int_equal(answer.err, MR_OK);
    assert_int_equal(fx_status(&f).n_peers, 2);
    fx_close(&f);
}

/* A snapshot that would hold nothing new is done at once. */
static void snapshot_of_nothing_new_ends(void **state)
{
    struct fixture f;
    struct answer answer = {0, MR_E_IO};
    struct driver_disk disk = {.first_index = 1};

    (void)state;
    memset(&f, 0, sizeof f);
    fx_open(&f, &disk);
    driver_snapshot_now(f.d, answered, &answer);
    driver_flush(f.d);
    assert_int_equal(answer.n, 1);
    assert_int_equal(answer.err, MR_OK);
    fx_close(&f);
}

/* ------------------------------------------------------------- failure */

/* Nobody who is not there can be removed, nor the last one who votes. */
static void impossible_removals_are_refused(void **state)
{
    struct fixture f;
    struct answer answer = {0, MR_OK};

    (void)state;
    fx_bootstrap(&f, 1);
    fx_durable(&f);
    fx_round(&f, 1);
    fx_durable(&f);
    driver_member_change(f.d, DRIVER_MEMBER_REMOVE, 99, "", answered, &answer);
    driver_flush(f.d);
    assert_int_equal(answer.err, MR_E_NOTFOUND);
    driver_leave(f.d, answered, &answer); /* The last one may leave. */
    driver_flush(f.d);
    assert_int_equal(answer.err, MR_OK);
    assert_int_equal(answer.n, 2);
    fx_close(&f);
}

/* Without a leader the request ends, some time. */
static void request_without_leader_ends(void **state)
{
    struct fixture f;
    struct answer answer = {0, MR_OK};

    (void)state;
    fx_bootstrap(&f, 3);
    driver_member_change(f.d, DRIVER_MEMBER_REMOVE, 3, "", answered, &answer);
    fx_round(&f, 9000);
    assert_int_equal(answer.n, 0);
    fx_round(&f, 2000);
    assert_int_equal(answer.n, 1);
    assert_int_equal(answer.err, MR_E_NOLEADER);
    fx_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uncommitted_configuration_is_rolled_back),
        cmocka_unit_test(second_configuration_commits_the_first),
        cmocka_unit_test(follower_left_alone_leads_in_a_new_term),
        cmocka_unit_test(standby_gives_its_vote),
        cmocka_unit_test(joiner_becomes_a_standby),
        cmocka_unit_test(removal_is_answered_when_it_is_committed),
        cmocka_unit_test(snapshot_of_nothing_new_ends),
        cmocka_unit_test(impossible_removals_are_refused),
        cmocka_unit_test(request_without_leader_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
