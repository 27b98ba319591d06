/* SPDX-License-Identifier: Apache-2.0 */
/* server/verify_log: what streams may tell, and that everything else is seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/mem.h"
#include "server/verify.h"

static struct mr_detail why;

/* Key @name as it was created and changed. */
static json_t *key(const char *name, uint64_t created, uint64_t modified)
{
    json_t *object = json_pack(
        "{s:s, s:I, s:I, s:s}", "Key", name, "CreateIndex", (json_int_t)created,
        "ModifyIndex", (json_int_t)modified, "Value", "eA==");

    assert_non_null(object);
    return object;
}

/* A state of keys made at @at: the names are single letters. */
static json_t *keys(const char *names, uint64_t at)
{
    json_t *model = json_object();

    for (; *names != '\0'; names++) {
        const char name[2] = {*names, '\0'};

        assert_int_equal(json_object_set_new(model, name, key(name, at, at)),
                         0);
    }
    return model;
}

/* Tell @log one event of one key, as a stream that knew all up to @after. */
static enum verify_verdict tell(struct verify_log *log, uint64_t after,
                                enum watch_action action, json_t *object,
                                uint64_t index)
{
    struct verify_event event = {.action = action, .object = object};
    char *text = json_dumps(object, 0);
    struct verify_change change = {
        .index = index,
        .text = mr_hash64(mr_slice_str(text), action),
        .now_ms = index,
        .events = &event,
        .n_events = 1,
    };
    uint64_t first_ms = 0;
    enum verify_verdict verdict =
        verify_log_change(log, after, &change, &first_ms, &why);

    free(text);
    json_decref(object);
    return verdict;
}

static uint64_t state_of(json_t *model)
{
    uint64_t state = 0;
    const char *id;
    json_t *object;

    json_object_foreach(model, id, object)
    {
        state += verify_object_hash(WATCH_KEYPREFIX, object);
    }
    json_decref(model);
    return state;
}

/* A log that begins with the keys a and b at 10. */
static struct verify_log begin(void)
{
    struct verify_log log = {.kind = WATCH_KEYPREFIX};

    assert_int_equal(verify_log_snapshot(&log, 10, keys("ab", 10), &why),
                     VERIFY_GOOD);
    return log;
}

/* ---- success ---- */

/* Two streams that tell the same are believed, the first and the second. */
static void the_same_story_twice_is_good(void **state)
{
    struct verify_log log = begin();

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tell(&log, 10, WATCH_CREATE, key("c", 11, 11), 11),
                         VERIFY_GOOD);
        assert_int_equal(verify_log_quiet(&log, 11, 15, &why), VERIFY_GOOD);
        assert_int_equal(tell(&log, 15, WATCH_DELETE, key("c", 11, 11), 16),
                         VERIFY_GOOD);
    }
    assert_int_equal(verify_log_tip(&log), 16);
    assert_int_equal(verify_log_next(&log, 11)->index, 16);
    assert_null(verify_log_next(&log, 16));
    verify_log_deinit(&log);
}

/* A snapshot ahead of all others is judged when somebody tells the way there. */
static void snapshots_ahead_are_joined(void **state)
{
    struct verify_log log = begin();
    json_t *later = keys("ab", 10);

    (void)state;
    (void)json_object_set_new(later, "c", key("c", 12, 12));
    assert_int_equal(verify_log_snapshot(&log, 13, later, &why), VERIFY_GOOD);
    assert_int_equal(tell(&log, 13, WATCH_DELETE, key("a", 10, 10), 20),
                     VERIFY_GOOD);
    assert_int_equal(log.n_spans, 2);
    assert_int_equal(tell(&log, 10, WATCH_CREATE, key("c", 12, 12), 12),
                     VERIFY_GOOD);
    assert_int_equal(tell(&log, 12, WATCH_DELETE, key("a", 10, 10), 20),
                     VERIFY_GOOD);
    assert_int_equal(log.n_spans, 1);
    verify_log_deinit(&log);
}

/* A read is compared with the state at its index, not at the newest. */
static void reads_are_judged_at_their_index(void **state)
{
    struct verify_log log = begin();

    (void)state;
    assert_int_equal(tell(&log, 10, WATCH_DELETE, key("b", 10, 10), 14),
                     VERIFY_GOOD);
    assert_int_equal(verify_log_check(&log, 13, state_of(keys("ab", 10)), &why),
                     VERIFY_GOOD);
    assert_int_equal(verify_log_check(&log, 14, state_of(keys("a", 10)), &why),
                     VERIFY_GOOD);
    assert_int_equal(verify_log_check(&log, 15, state_of(keys("a", 10)), &why),
                     VERIFY_UNKNOWN);
    assert_int_equal(verify_log_changed(&log, 10, 14, &why), VERIFY_GOOD);
    verify_log_deinit(&log);
}

/* Objects of the catalog are the same whatever their ModifyIndex. */
static void modify_index_is_no_change_of_a_node(void **state)
{
    json_t *a = json_pack("{s:s, s:i}", "Node", "n", "ModifyIndex", 4);
    json_t *b = json_pack("{s:s, s:i}", "Node", "n", "ModifyIndex", 5);

    (void)state;
    assert_true(verify_object_same(WATCH_NODES, a, b));
    assert_int_equal(verify_object_hash(WATCH_NODES, a),
                     verify_object_hash(WATCH_NODES, b));
    assert_false(verify_object_same(WATCH_KEY, a, b));
    json_decref(a);
    json_decref(b);
}

/* ---- failure ---- */

/* Whoever leaves out what another stream was told is caught. */
static void a_lost_change_is_a_breach(void **state)
{
    struct verify_log log = begin();

    (void)state;
    assert_int_equal(tell(&log, 10, WATCH_CREATE, key("c", 11, 11), 11),
                     VERIFY_GOOD);
    assert_int_equal(tell(&log, 11, WATCH_CREATE, key("d", 12, 12), 12),
                     VERIFY_GOOD);
    assert_int_equal(tell(&log, 10, WATCH_CREATE, key("d", 12, 12), 12),
                     VERIFY_BREACH);
    assert_int_equal(verify_log_quiet(&log, 10, 12, &why), VERIFY_BREACH);
    assert_int_equal(verify_log_quiet(&log, 10, 10, &why), VERIFY_GOOD);
    verify_log_deinit(&log);
}

/* And whoever tells more than another, or otherwise. */
static void an_invented_change_is_a_breach(void **state)
{
    struct verify_log log = begin();

    (void)state;
    assert_int_equal(verify_log_quiet(&log, 10, 20, &why), VERIFY_GOOD);
    assert_int_equal(tell(&log, 10, WATCH_CREATE, key("c", 15, 15), 15),
                     VERIFY_BREACH);
    assert_int_equal(tell(&log, 20, WATCH_CREATE, key("c", 21, 21), 21),
                     VERIFY_GOOD);
    assert_int_equal(tell(&log, 20, WATCH_CREATE, key("d", 21, 21), 21),
                     VERIFY_BREACH);
    verify_log_deinit(&log);
}

/* Events that cannot be, given what there was. */
static void impossible_events_are_breaches(void **state)
{
    static const struct {
        enum watch_action action;
        const char *name;
        uint64_t created;
        uint64_t modified;
    } bad[] = {
        {WATCH_CREATE, "a", 11, 11}, /* Is there. */
        {WATCH_UPDATE, "x", 11, 11}, /* Is not. */
        {WATCH_DELETE, "x", 10, 10},
        {WATCH_DELETE, "a", 10, 9},  /* Was another. */
        {WATCH_UPDATE, "a", 10, 10}, /* Did not change. */
        {WATCH_UPDATE, "a", 10, 12}, /* Of the future. */
        {WATCH_CREATE, "x", 9, 11},  /* Was not made now. */
    };

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(bad); i++) {
        struct verify_log log = begin();

        assert_int_equal(tell(&log, 10, bad[i].action,
                              key(bad[i].name, bad[i].created, bad[i].modified),
                              11),
                         VERIFY_BREACH);
        verify_log_deinit(&log);
    }
}

/* A snapshot, or a read, that differs from what the events made of it. */
static void a_wrong_state_is_a_breach(void **state)
{
    struct verify_log log = begin();

    (void)state;
    assert_int_equal(verify_log_snapshot(&log, 10, keys("a", 10), &why),
                     VERIFY_BREACH);
    assert_int_equal(verify_log_check(&log, 10, 1, &why), VERIFY_BREACH);
    assert_int_equal(verify_log_snapshot(&log, 20, keys("a", 10), &why),
                     VERIFY_GOOD);
    assert_int_equal(verify_log_quiet(&log, 10, 20, &why), VERIFY_BREACH);
    verify_log_deinit(&log);
}

/* A blocking query that wakes although nothing happened. */
static void a_wake_without_a_change_is_a_breach(void **state)
{
    struct verify_log log = begin();

    (void)state;
    assert_int_equal(verify_log_quiet(&log, 10, 20, &why), VERIFY_GOOD);
    assert_int_equal(verify_log_changed(&log, 10, 15, &why), VERIFY_BREACH);
    assert_int_equal(verify_log_changed(&log, 10, 25, &why), VERIFY_UNKNOWN);
    verify_log_deinit(&log);
}

/* Nothing is judged where nothing is known. */
static void gaps_are_unknown(void **state)
{
    struct verify_log log = begin();

    (void)state;
    assert_int_equal(tell(&log, 12, WATCH_CREATE, key("c", 13, 13), 13),
                     VERIFY_UNKNOWN);
    assert_int_equal(verify_log_quiet(&log, 5, 8, &why), VERIFY_UNKNOWN);
    assert_null(verify_log_next(&log, 5));
    verify_log_deinit(&log);
}

/* Without memory that is what is said, and nothing leaks. */
static void no_memory_is_told(void **state)
{
    (void)state;
    for (uint64_t n = 0; n < 12; n++) {
        struct verify_log log = {.kind = WATCH_KEYPREFIX};
        enum verify_verdict verdict;

        mr_mem_fail_after(n);
        verdict = verify_log_snapshot(&log, 10, keys("ab", 10), &why);
        if (verdict == VERIFY_GOOD) {
            verdict = tell(&log, 10, WATCH_CREATE, key("c", 11, 11), 11);
        }
        mr_mem_fail_after(UINT64_MAX);
        if (n < 3) {
            assert_int_equal(verdict, VERIFY_NOMEM);
        }
        verify_log_deinit(&log);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_story_twice_is_good),
        cmocka_unit_test(snapshots_ahead_are_joined),
        cmocka_unit_test(reads_are_judged_at_their_index),
        cmocka_unit_test(modify_index_is_no_change_of_a_node),
        cmocka_unit_test(a_lost_change_is_a_breach),
        cmocka_unit_test(an_invented_change_is_a_breach),
        cmocka_unit_test(impossible_events_are_breaches),
        cmocka_unit_test(a_wrong_state_is_a_breach),
        cmocka_unit_test(a_wake_without_a_change_is_a_breach),
        cmocka_unit_test(gaps_are_unknown),
        cmocka_unit_test(no_memory_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
