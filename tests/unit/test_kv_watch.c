/* SPDX-License-Identifier: Apache-2.0 */
/* The watch hub: who is woken, who is not, and that nothing is lost. */
#include <pthread.h>
#include <stdatomic.h>

#include "tests/unit/kv_fixture.h"

struct waiter {
    struct mr_kv_waiter w;
    atomic_int woken;
};

static void on_wake(struct mr_kv_waiter *w)
{
    atomic_fetch_add(&mr_container_of(w, struct waiter, w)->woken, 1);
}

static enum mr_err wait_for(struct fixture *f, struct waiter *w,
                            enum mr_kv_topic_kind kind, const char *name,
                            uint64_t revision)
{
    struct mr_kv_topic topic = {kind, mr_slice_str(name)};

    w->w.wake = on_wake;
    return mr_kv_wait(f->kv, &w->w, &topic, revision);
}

/* Park waiters for each topic of @topics at the current revision. */
struct topic {
    enum mr_kv_topic_kind kind;
    const char *name;
};

static void park_all(struct fixture *f, struct waiter *waiters,
                     const struct topic *topics, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        atomic_store(&waiters[i].woken, 0);
        assert_int_equal(wait_for(f, &waiters[i], topics[i].kind,
                                  topics[i].name, mr_kv_revision(f->kv)),
                         MR_OK);
    }
}

/* Compare who was woken with @expected, a 0 or 1 each, and take back the
 * others. */
static void check_woken(struct fixture *f, struct waiter *waiters,
                        const char *expected)
{
    struct mr_kv_stats stats;
    size_t i;

    for (i = 0; expected[i] != '\0'; i++) {
        int want = expected[i] - '0';

        if (atomic_load(&waiters[i].woken) != want) {
            fail_msg("waiter %zu was woken %d times", i,
                     atomic_load(&waiters[i].woken));
        }
        assert_int_equal(mr_kv_wait_cancel(f->kv, &waiters[i].w), want == 0);
    }
    mr_kv_stats(f->kv, &stats);
    assert_int_equal(stats.waiters, 0);
}

/* ------------------------------------------------------------ success */

/* A key wakes its waiters and those of its prefixes. */
static void key_wakes_itself_and_its_prefixes(void **state)
{
    static const struct topic topics[] = {
        {MR_KV_TOPIC_KEY, "a/b/c"},      {MR_KV_TOPIC_KEY, "a/b"},
        {MR_KV_TOPIC_PREFIX, ""},        {MR_KV_TOPIC_PREFIX, "a/"},
        {MR_KV_TOPIC_PREFIX, "a/b"},     {MR_KV_TOPIC_PREFIX, "a/x"},
        {MR_KV_TOPIC_PREFIX, "a/b/c/d"}, {MR_KV_TOPIC_SERVICE, "a/b/c"}};
    struct fixture *f = *state;
    struct waiter w[MR_ARRAY_LEN(topics)];

    park_all(f, w, topics, MR_ARRAY_LEN(topics));
    (void)fx_put(f, "a/b/c", "1");
    check_woken(f, w, "10111000");
    park_all(f, w, topics, MR_ARRAY_LEN(topics));
    (void)fx_put(f, "a/b/c", "1"); /* The same value. */
    check_woken(f, w, "00000000");
    park_all(f, w, topics, MR_ARRAY_LEN(topics));
    (void)fx_delete(f, "a/", true);
    check_woken(f, w, "10111000");
}

/* An instance wakes its service, its node and the lists, and no other. */
static void instance_wakes_what_lists_it(void **state)
{
    static const struct topic topics[] = {
        {MR_KV_TOPIC_SERVICE, "WEB"}, {MR_KV_TOPIC_SERVICE, "db"},
        {MR_KV_TOPIC_SERVICES, ""},   {MR_KV_TOPIC_NODE, "N"},
        {MR_KV_TOPIC_NODE, "m"},      {MR_KV_TOPIC_NODES, ""},
        {MR_KV_TOPIC_CHECKS, ""},     {MR_KV_TOPIC_CATALOG, ""}};
    struct fixture *f = *state;
    struct waiter w[MR_ARRAY_LEN(topics)];

    (void)fx_register(f, (struct fx_reg){.node = "n"});
    park_all(f, w, topics, MR_ARRAY_LEN(topics));
    (void)fx_register(f, (struct fx_reg){.node = "n", .service = "web"});
    check_woken(f, w, "10110001");
    park_all(f, w, topics, MR_ARRAY_LEN(topics));
    (void)fx_register(f, (struct fx_reg){.node = "n", .service = "web"});
    check_woken(f, w, "00000000");
    park_all(f, w, topics, MR_ARRAY_LEN(topics));
    (void)fx_register(
        f, (struct fx_reg){.node = "n", .check = "c", .status = "passing"});
    check_woken(f, w, "10010011");
    park_all(f, w, topics, MR_ARRAY_LEN(topics));
    (void)fx_update(f, "n", "c", "critical", false);
    check_woken(f, w, "10010011");
    park_all(f, w, topics, MR_ARRAY_LEN(topics));
    (void)fx_register(f, (struct fx_reg){.node = "n", .address = "1.1.1.1"});
    check_woken(f, w, "10010101");
    park_all(f, w, topics, MR_ARRAY_LEN(topics));
    (void)fx_deregister(f, "n", NULL, NULL);
    check_woken(f, w, "10110111");
}

/* What others did meanwhile is nothing to it. */
static void quiet_grows_until_the_topic_changes(void **state)
{
    struct fixture *f = *state;
    struct waiter w = {.woken = 0};
    uint64_t start = mr_kv_revision(f->kv);

    assert_int_equal(wait_for(f, &w, MR_KV_TOPIC_KEY, "a", start), MR_OK);
    assert_int_equal(mr_kv_wait_quiet(f->kv, &w.w), start);
    (void)fx_put(f, "b", "1");
    (void)fx_put(f, "b", "2");
    assert_int_equal(mr_kv_wait_quiet(f->kv, &w.w), start + 2);
    (void)fx_put(f, "a", "1");
    assert_int_equal(atomic_load(&w.woken), 1);
    (void)fx_put(f, "b", "3");
    assert_int_equal(mr_kv_wait_quiet(f->kv, &w.w), start + 2);
}

/* Who asks with an outdated revision is told to look again. */
static void outdated_waiter_is_not_parked(void **state)
{
    struct fixture *f = *state;
    struct waiter w = {.woken = 0};

    (void)fx_put(f, "a", "1");
    assert_int_equal(wait_for(f, &w, MR_KV_TOPIC_KEY, "a", 1), MR_E_EXISTS);
    assert_int_equal(wait_for(f, &w, MR_KV_TOPIC_PREFIX, "", 1), MR_E_EXISTS);
    assert_int_equal(wait_for(f, &w, MR_KV_TOPIC_KEY, "b", 0), MR_OK);
    assert_true(mr_kv_wait_cancel(f->kv, &w.w));
    assert_false(mr_kv_wait_cancel(f->kv, &w.w));
}

/* A guard is stale before anyone can see the change, and a waiter is woken
 * after. */
static void guard_turns_stale_once(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_topic topic = {MR_KV_TOPIC_SERVICE, mr_slice_str("web")};
    struct mr_kv_guard *guard = mr_kv_guard_new(f->kv, &topic, 0);
    struct mr_kv_guard *other = mr_kv_guard_new(f->kv, &topic, 0);

    assert_non_null(guard);
    (void)fx_put(f, "a", "1");
    assert_false(mr_kv_guard_stale(guard));
    mr_kv_guard_free(f->kv, other);
    (void)fx_register(f, (struct fx_reg){.node = "n", .service = "web"});
    assert_true(mr_kv_guard_stale(guard));
    mr_kv_guard_free(f->kv, guard);
    assert_null(mr_kv_guard_new(f->kv, &topic, 2));
    guard = mr_kv_guard_new(f->kv, &topic, 3);
    assert_non_null(guard);
    mr_kv_guard_free(f->kv, guard);
    mr_kv_guard_free(f->kv, NULL);
}

/* Many waiters of one topic are all woken by one change, each once. */
static void many_waiters_are_woken_once(void **state)
{
    enum { N = 10000 };
    struct fixture *f = *state;
    struct waiter *w = calloc(N, sizeof *w);
    struct mr_kv_stats stats;
    char name[32];
    int i;

    assert_non_null(w);
    for (i = 0; i < N; i++) {
        (void)snprintf(name, sizeof name, "key/%d", i / 2);
        assert_int_equal(wait_for(f, &w[i], MR_KV_TOPIC_KEY, name, 0), MR_OK);
    }
    mr_kv_stats(f->kv, &stats);
    assert_int_equal(stats.waiters, N);
    (void)fx_put(f, "other", "1");
    for (i = 0; i < N / 2; i++) {
        (void)snprintf(name, sizeof name, "key/%d", i);
        (void)fx_put(f, name, "1");
    }
    for (i = 0; i < N; i++) {
        assert_int_equal(atomic_load(&w[i].woken), 1);
    }
    free(w);
}

/* More lengths of prefixes than are told apart: all are still woken. */
static void many_prefix_lengths_lose_nothing(void **state)
{
    enum { N = 200 };
    struct fixture *f = *state;
    struct waiter *w = calloc(N, sizeof *w);
    char name[400];
    int i;

    assert_non_null(w);
    memset(name, 'p', sizeof name);
    for (i = 0; i < N; i++) {
        struct mr_kv_topic topic = {MR_KV_TOPIC_PREFIX,
                                    mr_slice(name, (size_t)(2 * (N - i)))};

        w[i].w.wake = on_wake;
        assert_int_equal(mr_kv_wait(f->kv, &w[i].w, &topic, 0), MR_OK);
    }
    (void)fx_put(f, "q", "1");
    name[399] = '\0';
    (void)fx_put(f, name, "1"); /* 399 bytes: not below the longest. */
    for (i = 1; i < N; i++) {
        assert_in_range(atomic_load(&w[i].woken), 1, 1);
    }
    (void)mr_kv_wait_cancel(f->kv, &w[0].w); /* Woken or not, both are fine. */
    free(w);
}

/* So many keys in one batch that they are not listed: everyone looks again. */
static void huge_batch_wakes_everyone(void **state)
{
    static const struct topic topics[] = {{MR_KV_TOPIC_KEY, "k/77777"},
                                          {MR_KV_TOPIC_PREFIX, "k/1"},
                                          {MR_KV_TOPIC_SERVICE, "web"}};
    struct fixture *f = *state;
    struct waiter w[MR_ARRAY_LEN(topics)];
    char key[32];
    int i;

    assert_int_equal(mr_kv_batch_begin(f->kv), MR_OK);
    for (i = 0; i < 140000; i++) {
        Mr__KeyPut put = MR__KEY_PUT__INIT;
        Mr__Command cmd = MR__COMMAND__INIT;

        (void)snprintf(key, sizeof key, "k/%d", i);
        put.key = fx_bytes(key);
        cmd.op_case = MR__COMMAND__OP_KEY_PUT;
        cmd.key_put = &put;
        (void)fx_step(f, &cmd);
    }
    assert_int_equal(mr_kv_batch_commit(f->kv, ++f->index, 1), MR_OK);
    park_all(f, w, topics, MR_ARRAY_LEN(topics));
    (void)fx_delete(f, "k/", true);
    check_woken(f, w, "111");
}

/* ------------------------------------------------------------ threads */

#define ROUNDS 3000
#define READERS 3

struct race {
    struct fixture *f;
    atomic_bool is_over;
    atomic_uint_fast64_t looks;
};

struct turn {
    struct mr_kv_waiter w;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool is_woken;
};

static void wake_turn(struct mr_kv_waiter *w)
{
    struct turn *t = mr_container_of(w, struct turn, w);

    (void)pthread_mutex_lock(&t->lock);
    t->is_woken = true;
    (void)pthread_cond_signal(&t->cond);
    (void)pthread_mutex_unlock(&t->lock);
}

/* Follow the key until it holds the last value, waiting in between: a lost
 * wake-up would hang here. */
static void *follow(void *arg)
{
    struct race *race = arg;
    struct mr_kv *kv = race->f->kv;
    struct mr_kv_topic topic = {MR_KV_TOPIC_KEY, mr_slice_str("a")};
    struct turn t = {.lock = PTHREAD_MUTEX_INITIALIZER,
                     .cond = PTHREAD_COND_INITIALIZER};
    long last = -1;

    while (last != ROUNDS - 1) {
        struct mr_kv_view *view = NULL;
        const Mr__Key *key = NULL;
        char text[16] = "-1";
        uint64_t revision;

        if (mr_kv_view_begin(kv, &view) != MR_OK ||
            mr_kv_key_get(view, topic.name, &key, NULL) != MR_OK) {
            return NULL;
        }
        if (key != NULL) {
            memcpy(text, key->value.data, key->value.len);
            text[key->value.len] = '\0';
        }
        revision = mr_kv_view_revision(view);
        mr_kv_view_end(view);
        if (strtol(text, NULL, 10) < last) {
            return NULL; /* Time went backwards. */
        }
        last = strtol(text, NULL, 10);
        atomic_fetch_add(&race->looks, 1);
        t.w.wake = wake_turn;
        t.is_woken = false;
        if (last == ROUNDS - 1 ||
            mr_kv_wait(kv, &t.w, &topic, revision) != MR_OK) {
            continue;
        }
        (void)pthread_mutex_lock(&t.lock);
        while (!t.is_woken) {
            (void)pthread_cond_wait(&t.cond, &t.lock);
        }
        (void)pthread_mutex_unlock(&t.lock);
    }
    return race;
}

/* A cached answer under a guard that is not stale is never older than what a
 * reader has already seen. */
static void *guard_cache(void *arg)
{
    struct race *race = arg;
    struct mr_kv *kv = race->f->kv;
    struct mr_kv_topic topic = {MR_KV_TOPIC_PREFIX, mr_slice_str("a")};

    while (!atomic_load(&race->is_over)) {
        struct mr_kv_view *view = NULL;
        struct mr_kv_guard *guard;
        uint64_t revision;
        uint64_t seen;

        if (mr_kv_view_begin(kv, &view) != MR_OK) {
            return NULL;
        }
        revision = mr_kv_view_revision(view);
        mr_kv_view_end(view);
        guard = mr_kv_guard_new(kv, &topic, revision);
        if (guard == NULL) {
            continue;
        }
        /* Every revision here changes the key: one that is visible and newer
         * must have made the guard stale before. */
        seen = mr_kv_revision(kv);
        if (seen > revision && !mr_kv_guard_stale(guard)) {
            return NULL;
        }
        mr_kv_guard_free(kv, guard);
    }
    return race;
}

/* Waiters that give up at once, racing with the wake. */
static void *give_up(void *arg)
{
    struct race *race = arg;
    struct mr_kv *kv = race->f->kv;
    struct mr_kv_topic topic = {MR_KV_TOPIC_KEY, mr_slice_str("a")};
    struct waiter w = {.w = {.wake = on_wake}};

    while (!atomic_load(&race->is_over)) {
        int before = atomic_load(&w.woken);

        if (mr_kv_wait(kv, &w.w, &topic, mr_kv_revision(kv)) == MR_OK &&
            !mr_kv_wait_cancel(kv, &w.w)) {
            while (atomic_load(&w.woken) == before) {
                /* It is firing right now. */
            }
        }
    }
    return race;
}

/* Readers that wait, guard and give up, beside a writer. */
static void no_wake_up_is_lost(void **state)
{
    struct race race = {.f = *state};
    pthread_t threads[READERS + 2];
    char text[16];
    int i;

    for (i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, follow, &race), 0);
    }
    assert_int_equal(
        pthread_create(&threads[READERS], NULL, guard_cache, &race), 0);
    assert_int_equal(
        pthread_create(&threads[READERS + 1], NULL, give_up, &race), 0);
    for (i = 0; i < ROUNDS; i++) {
        (void)snprintf(text, sizeof text, "%d", i);
        (void)fx_put(race.f, "a", text);
    }
    atomic_store(&race.is_over, true);
    for (i = 0; i < READERS + 2; i++) {
        void *result;

        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_non_null(result);
    }
    assert_true(atomic_load(&race.looks) >= READERS);
}

/* ------------------------------------------------------------ failure */

/* Without memory nobody is parked and no guard is made. */
static void lack_of_memory_is_reported(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_topic topic = {MR_KV_TOPIC_KEY, mr_slice_str("a")};
    struct waiter w = {.woken = 0};
    uint64_t n;

    mr_mem_fail_after(0);
    assert_int_equal(wait_for(f, &w, MR_KV_TOPIC_PREFIX, "abc", 0), MR_E_NOMEM);
    for (n = 0; n < 2; n++) {
        mr_mem_fail_after(n);
        assert_null(mr_kv_guard_new(f->kv, &topic, 0));
    }
    mr_mem_fail_after(UINT64_MAX);
    (void)fx_put(f, "abc", "1");
    assert_int_equal(atomic_load(&w.woken), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(key_wakes_itself_and_its_prefixes),
        TEST(instance_wakes_what_lists_it),
        TEST(quiet_grows_until_the_topic_changes),
        TEST(outdated_waiter_is_not_parked),
        TEST(guard_turns_stale_once),
        TEST(many_waiters_are_woken_once),
        TEST(many_prefix_lengths_lose_nothing),
        TEST(huge_batch_wakes_everyone),
        TEST(no_wake_up_is_lost),
        TEST(lack_of_memory_is_reported),
    };

    return cmocka_run_group_tests_name("kv_watch", tests, NULL, NULL);
}
