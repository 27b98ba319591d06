/* SPDX-License-Identifier: Apache-2.0 */
/* What the history keeps and what it forgets. What it says of each command:
 * test_kv_record.c; against the state: test_kv_history_model.c. */
#include "kv/mr_kv_history.h"

#include <pthread.h>

#include "kv/kv.h"
#include "tests/unit/kv_fixture.h"

static bool count(void *arg, const struct mr_kv_change *change)
{
    (void)change;
    ++*(size_t *)arg;
    return true;
}

/* Read the changes of keys after @after. */
static enum mr_err read_keys(struct mr_kv *kv, uint64_t after, size_t *out_n)
{
    struct mr_kv_topic topic = {MR_KV_TOPIC_PREFIX, mr_slice_str("")};
    struct mr_kv_history_query query = {&topic, 1, after};
    uint64_t revision;

    *out_n = 0;
    return mr_kv_history_read(kv, &query, count, out_n, &revision);
}

static void oldest_is_forgotten_when_it_is_too_much(void **state)
{
    struct fixture *f = *state;
    char *big = malloc(1000001);
    uint64_t start = mr_kv_revision(f->kv);
    size_t n;

    memset(big, 'x', 1000000);
    big[1000000] = '\0';
    for (int i = 0; i < 20; i++) {
        big[0] = (char)('a' + i);
        (void)fx_put(f, "big", big);
    }
    free(big);
    assert_int_equal(read_keys(f->kv, start, &n), MR_E_NOTFOUND);
    assert_int_equal(read_keys(f->kv, start + 20, &n), MR_OK);
    assert_int_equal(n, 0);
    assert_int_equal(read_keys(f->kv, start + 15, &n), MR_OK);
    assert_int_equal(n, 5);
    assert_int_equal(read_keys(f->kv, start + 21, &n), MR_E_INVALID);
}

/* One that does not fit at all leaves nothing, but of its own part only. */
static void revision_larger_than_the_history_is_forgotten(void **state)
{
    struct fixture *f = *state;
    size_t len = 9000000;
    char *big = malloc(len + 1);
    uint64_t start = mr_kv_revision(f->kv);
    struct mr_kv_topic nodes = {MR_KV_TOPIC_NODES, mr_slice_str("")};
    struct mr_kv_history_query query = {&nodes, 1, start};
    uint64_t revision;
    size_t n;

    memset(big, 'x', len);
    big[len] = '\0';
    (void)fx_register(f, (struct fx_reg){.node = "n"});
    (void)fx_put(f, "a", "1");
    (void)fx_put(f, "big", big);
    free(big);
    (void)fx_put(f, "a", "2");
    assert_int_equal(read_keys(f->kv, start, &n), MR_E_NOTFOUND);
    assert_int_equal(read_keys(f->kv, start + 2, &n), MR_E_NOTFOUND);
    assert_int_equal(read_keys(f->kv, start + 3, &n), MR_OK);
    assert_int_equal(n, 1);
    n = 0;
    assert_int_equal(mr_kv_history_read(f->kv, &query, count, &n, &revision),
                     MR_OK);
    assert_int_equal(n, 1);
}

/* A batch is not kept whole before it is committed. */
static void batch_larger_than_the_history_keeps_its_end(void **state)
{
    static uint8_t event[1000];
    struct kv_pending p;
    struct kv_history h;
    uint64_t bytes;
    uint64_t n;

    (void)state;
    kv_pending_init(&p, 100000);
    kv_history_init(&h, 100000, 0);
    for (uint64_t revision = 1; revision <= 10000; revision++) {
        mr_buf_add(kv_pending_begin(&p, KV_HISTORY_KEYS), event, sizeof event);
        kv_pending_end(&p, KV_HISTORY_KEYS, mr_slice(NULL, 0), revision);
        assert_true(p.parts[KV_HISTORY_KEYS].bytes <= 100000);
    }
    kv_history_publish(&h, &p, 10000);
    kv_history_count(&h, &bytes, &n);
    assert_true(bytes <= 100000);
    assert_in_range(n, 90, 100);
    assert_int_equal(h.rings[KV_HISTORY_KEYS].floor, 10000 - n);
    kv_pending_deinit(&p);
    kv_history_deinit(&h);
}

/* What is lost leaves what comes after it. */
static void lost_revision_forgets_those_before(void **state)
{
    static uint8_t event[100];
    struct kv_pending p;
    struct kv_history h;
    uint64_t bytes;
    uint64_t n;

    (void)state;
    kv_pending_init(&p, 100000);
    kv_history_init(&h, 100000, 0);
    for (uint64_t revision = 1; revision <= 9; revision++) {
        if (revision == 6) {
            kv_pending_lose(&p, KV_HISTORY_KEYS, revision);
            continue;
        }
        mr_buf_add(kv_pending_begin(&p, KV_HISTORY_KEYS), event, sizeof event);
        kv_pending_end(&p, KV_HISTORY_KEYS, mr_slice(NULL, 0), revision);
        if (revision % 2 == 0) {
            kv_history_publish(&h, &p, revision);
        }
    }
    kv_history_publish(&h, &p, 9);
    kv_history_count(&h, &bytes, &n);
    assert_int_equal(n, 3);
    assert_int_equal(h.rings[KV_HISTORY_KEYS].floor, 6);
    kv_pending_deinit(&p);
    kv_history_deinit(&h);
}

/* A command that deletes everything must not need the memory of it all. */
static void what_is_captured_is_bounded(void **state)
{
    static uint8_t bytes[10000];
    struct mr_slice old = mr_slice(bytes, sizeof bytes);
    struct kv_capture c;
    struct kv_arena arena;
    struct kv_row_key k;

    (void)state;
    kv_arena_init(&arena);
    kv_capture_begin(&c, &arena, 1000000);
    for (uint64_t i = 0; i < 1000; i++) {
        kv_key_init(&k, KV_KEY);
        kv_key_u64(&k, i);
        kv_capture_row(&c, kv_key_slice(&k), &old, true);
    }
    kv_key_init(&k, KV_NODE);
    kv_capture_row(&c, kv_key_slice(&k), &old, false);
    assert_in_range(c.n, 90, 100);
    assert_true(c.is_full[KV_HISTORY_KEYS]);
    assert_false(c.is_full[KV_HISTORY_CATALOG]);
    kv_capture_end(&c);
    assert_int_equal(*(const uint8_t *)c.rows[c.n - 1].key.data, KV_NODE);
    kv_arena_deinit(&arena);
}

static void deletion_of_too_much_is_forgotten(void **state)
{
    struct fixture *f = *state;
    char *big = malloc(1000001);
    uint64_t start;
    size_t n;

    memset(big, 'x', 1000000);
    big[1000000] = '\0';
    for (int i = 0; i < 12; i++) {
        char key[16];

        (void)snprintf(key, sizeof key, "t/%d", i);
        (void)fx_put(f, key, big);
    }
    free(big);
    start = mr_kv_revision(f->kv);
    (void)fx_delete(f, "t/", true);
    assert_int_equal(read_keys(f->kv, start, &n), MR_E_NOTFOUND);
    assert_int_equal(read_keys(f->kv, start + 1, &n), MR_OK);
}

/* As one key: then there is nothing that was captured. */
static void deletion_of_one_large_key_is_forgotten(void **state)
{
    struct fixture *f = *state;
    size_t len = 9000000;
    char *big = malloc(len + 1);
    uint64_t start;
    size_t n;

    memset(big, 'x', len);
    big[len] = '\0';
    (void)fx_put(f, "a", big);
    free(big);
    start = mr_kv_revision(f->kv);
    (void)fx_delete(f, "a", false);
    assert_int_equal(read_keys(f->kv, start, &n), MR_E_NOTFOUND);
    assert_int_equal(read_keys(f->kv, start + 1, &n), MR_OK);
}

static void restart_forgets(void **state)
{
    struct fixture *f = *state;
    uint64_t start = mr_kv_revision(f->kv);
    size_t n;

    (void)fx_put(f, "a", "1");
    mr_kv_close(f->kv);
    fx_open_as(f, "boot");
    assert_int_equal(read_keys(f->kv, start, &n), MR_E_NOTFOUND);
    assert_int_equal(read_keys(f->kv, start + 1, &n), MR_OK);
    (void)fx_put(f, "a", "2");
    assert_int_equal(read_keys(f->kv, start + 1, &n), MR_OK);
    assert_int_equal(n, 1);
}

/* Without memory for it the history is forgotten, and the state goes on. */
static void lack_of_memory_forgets_and_goes_on(void **state)
{
    struct fixture *f = *state;

    for (uint64_t i = 0; i < 40; i++) {
        uint64_t before = mr_kv_revision(f->kv);
        struct mr_kv_result r;
        size_t n;
        char value[16];

        (void)snprintf(value, sizeof value, "%d", (int)i);
        mr_mem_fail_after(i);
        Mr__KeyPut put = MR__KEY_PUT__INIT;
        Mr__Command cmd = MR__COMMAND__INIT;
        struct mr_buf b = MR_BUF_INIT;

        put.key = fx_bytes("k");
        put.value = fx_bytes(value);
        cmd.op_case = MR__COMMAND__OP_KEY_PUT;
        cmd.key_put = &put;
        mr_kv_command_encode(&cmd, &b);
        bool ok = !mr_buf_failed(&b) && mr_kv_batch_begin(f->kv) == MR_OK &&
                  mr_kv_apply(f->kv, mr_buf_slice(&b), &r) == MR_OK &&
                  mr_kv_batch_commit(f->kv, f->index + 1, 1) == MR_OK;

        mr_mem_fail_after(UINT64_MAX);
        mr_buf_deinit(&b);
        if (!ok) {
            return; /* The command itself had no memory: the server stops. */
        }
        f->index++;
        enum mr_err err = read_keys(f->kv, before, &n);

        assert_true((err == MR_OK && n == 1) || err == MR_E_NOTFOUND);
    }
}

struct follower {
    struct mr_kv *kv;
    uint64_t start;
    size_t n;
    enum mr_err err;
};

#define N_FOLLOWED 3000

/* Read on and on until all writes have been told. */
static void *follow(void *arg)
{
    struct follower *f = arg;
    struct mr_kv_topic topic = {MR_KV_TOPIC_PREFIX, mr_slice_str("")};
    struct mr_kv_history_query query = {&topic, 1, f->start};

    while (f->err == MR_OK && query.after < f->start + N_FOLLOWED) {
        f->err = mr_kv_history_read(f->kv, &query, count, &f->n, &query.after);
    }
    return NULL;
}

static void readers_beside_the_writer_miss_nothing(void **state)
{
    struct fixture *f = *state;
    struct follower followers[2];
    pthread_t threads[2];

    for (int i = 0; i < 2; i++) {
        followers[i] =
            (struct follower){f->kv, mr_kv_revision(f->kv), 0, MR_OK};
        assert_int_equal(
            pthread_create(&threads[i], NULL, follow, &followers[i]), 0);
    }
    for (int i = 0; i < N_FOLLOWED; i++) {
        char value[16];

        (void)snprintf(value, sizeof value, "%d", i);
        (void)fx_put(f, "k", value);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(followers[i].err, MR_OK);
        assert_int_equal(followers[i].n, N_FOLLOWED);
    }
}

/* One that is outrun is told so, and never of a revision twice or late. */
struct outrun {
    struct mr_kv *kv;
    uint64_t end;
    uint64_t last;
    size_t n_told;
    size_t n_forgotten;
    bool is_ordered;
};

static bool check_order(void *arg, const struct mr_kv_change *change)
{
    struct outrun *o = arg;

    o->is_ordered = o->is_ordered && change->is_last &&
                    change->revision > o->last && change->u.key->value.len > 0;
    o->last = change->revision;
    o->n_told++;
    return true;
}

static void *run_behind(void *arg)
{
    struct outrun *o = arg;
    struct mr_kv_topic topic = {MR_KV_TOPIC_PREFIX, mr_slice_str("")};
    struct mr_kv_history_query query = {&topic, 1, o->last};

    while (query.after < o->end) {
        enum mr_err err =
            mr_kv_history_read(o->kv, &query, check_order, o, &query.after);

        if (err != MR_OK) {
            o->is_ordered = o->is_ordered && err == MR_E_NOTFOUND;
            o->n_forgotten++;
            query.after = mr_kv_revision(o->kv);
            o->last = query.after > o->last ? query.after : o->last;
        }
    }
    return NULL;
}

static void readers_that_are_outrun_are_told(void **state)
{
    struct fixture *f = *state;
    struct outrun outrun[2];
    pthread_t threads[2];

    mr_kv_close(f->kv);
    f->history_bytes = 2000;
    fx_open_as(f, "boot");
    for (int i = 0; i < 2; i++) {
        uint64_t start = mr_kv_revision(f->kv);

        outrun[i] = (struct outrun){.kv = f->kv,
                                    .end = start + N_FOLLOWED,
                                    .last = start,
                                    .is_ordered = true};
        assert_int_equal(
            pthread_create(&threads[i], NULL, run_behind, &outrun[i]), 0);
    }
    for (int i = 0; i < N_FOLLOWED; i++) {
        char value[16];

        (void)snprintf(value, sizeof value, "%d", i);
        (void)fx_put(f, "k", value);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(outrun[i].is_ordered);
        assert_true(outrun[i].n_told <= N_FOLLOWED);
    }
}

/* Who wants none has none, and nothing else is different. */
static void history_of_no_size_keeps_nothing(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_stats stats;
    uint64_t start;
    size_t n;

    mr_kv_close(f->kv);
    f->history_bytes = 1;
    fx_open_as(f, "boot");
    start = mr_kv_revision(f->kv);
    (void)fx_put(f, "k", "1");
    (void)fx_register(f, (struct fx_reg){.node = "n", .service = "web"});
    mr_kv_stats(f->kv, &stats);
    assert_int_equal(stats.history_bytes, 0);
    assert_int_equal(read_keys(f->kv, start, &n), MR_E_NOTFOUND);
    assert_int_equal(read_keys(f->kv, mr_kv_revision(f->kv), &n), MR_OK);
}

/* A reader without memory can read again. */
static void reading_without_memory_is_reported(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_topic topic = {MR_KV_TOPIC_CATALOG, mr_slice_str("")};
    struct mr_kv_history_query query = {&topic, 1, mr_kv_revision(f->kv)};
    enum mr_err err = MR_E_NOMEM;
    uint64_t i = 0;

    (void)fx_register(f, (struct fx_reg){.node = "n",
                                         .service = "web",
                                         .check = "c",
                                         .check_service = "web"});
    for (; err != MR_OK; i++) {
        uint64_t upto = 0;
        size_t n = 0;

        mr_mem_fail_after(i);
        err = mr_kv_history_read(f->kv, &query, count, &n, &upto);
        mr_mem_fail_after(UINT64_MAX);
        assert_int_equal(err, err == MR_OK ? MR_OK : MR_E_NOMEM);
        assert_int_equal(n, err == MR_OK ? 1 : 0);
        assert_int_equal(upto, err == MR_OK ? query.after + 1 : 0);
    }
    assert_true(i > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(oldest_is_forgotten_when_it_is_too_much,
                                        fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(
            revision_larger_than_the_history_is_forgotten, fx_setup,
            fx_teardown),
        cmocka_unit_test(batch_larger_than_the_history_keeps_its_end),
        cmocka_unit_test(lost_revision_forgets_those_before),
        cmocka_unit_test(what_is_captured_is_bounded),
        cmocka_unit_test_setup_teardown(deletion_of_too_much_is_forgotten,
                                        fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(deletion_of_one_large_key_is_forgotten,
                                        fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(restart_forgets, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(readers_beside_the_writer_miss_nothing,
                                        fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(readers_that_are_outrun_are_told,
                                        fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(history_of_no_size_keeps_nothing,
                                        fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(reading_without_memory_is_reported,
                                        fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(lack_of_memory_forgets_and_goes_on,
                                        fx_setup, fx_teardown),
    };

    return cmocka_run_group_tests_name("kv_history", tests, NULL, NULL);
}
