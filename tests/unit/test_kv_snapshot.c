/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots: what is written is restored, and damage is noticed. */
#include <pthread.h>
#include <stdatomic.h>

#include "kv/mr_kv_history.h"
#include "tests/unit/kv_fixture.h"

struct stream {
    uint8_t *data;
    size_t len;
    size_t at;
    size_t piece; /* Bytes a read supplies at most. */
    enum mr_err err;
};

static enum mr_err write_stream(void *arg, struct mr_slice bytes)
{
    struct stream *s = arg;

    assert_true(bytes.len > 0 && bytes.len <= 65536);
    s->data = realloc(s->data, s->len + bytes.len);
    assert_non_null(s->data);
    memcpy(s->data + s->len, bytes.data, bytes.len);
    s->len += bytes.len;
    return s->err;
}

static enum mr_err read_stream(void *arg, void *out, size_t cap,
                               size_t *out_len)
{
    struct stream *s = arg;
    size_t n = s->len - s->at;

    n = n < cap ? n : cap;
    n = s->piece > 0 && n > s->piece ? s->piece : n;
    memcpy(out, s->data + s->at, n);
    s->at += n;
    *out_len = n;
    return s->err;
}

static struct stream take(struct fixture *f)
{
    struct stream s = {NULL, 0, 0, 0, MR_OK};
    struct mr_kv_view *view = fx_view(f);

    assert_int_equal(mr_kv_snapshot(view, write_stream, &s), MR_OK);
    mr_kv_view_end(view);
    return s;
}

/* A bit of everything. */
static void fill(struct fixture *f)
{
    char key[700];
    char *big = malloc(200001);
    int i;

    assert_non_null(big);
    memset(big, 'b', 200000);
    big[200000] = '\0';
    memset(key, 'k', sizeof key);
    key[sizeof key - 1] = '\0';
    (void)fx_put(f, key, "long");
    (void)fx_put(f, "big", big);
    for (i = 0; i < 300; i++) {
        (void)snprintf(key, sizeof key, "key/%d", i);
        (void)fx_put(f, key, key);
        (void)snprintf(key, sizeof key, "N%d", i % 7);
        (void)fx_register(
            f, (struct fx_reg){.node = key,
                               .address = "10.0.0.9",
                               .service = i % 2 == 0 ? "Web" : "db",
                               .id = i % 5 == 0 ? "x" : "y",
                               .tag = i % 3 == 0 ? "t" : "u",
                               .service_address = "10.1.1.1",
                               .check = i % 2 == 0 ? "c1" : "c2",
                               .status = i % 4 == 0 ? "warning" : "passing",
                               .check_service = i % 5 == 0 ? "x" : "y",
                               .port = i});
    }
    (void)fx_delete(f, "key/7", false);
    (void)fx_delete(f, "key/1", true);
    free(big);
}

static bool same_answer(struct fixture *a, struct fixture *b, const char *name)
{
    struct fx_text t;
    struct fx_text u;
    uint64_t i;
    uint64_t j;

    return strcmp(fx_instances(a, name, &t, &i),
                  fx_instances(b, name, &u, &j)) == 0 &&
           i == j && t.len > 0;
}

static bool add_name(void *arg, const struct mr_kv_service_name *name)
{
    size_t i;

    fx_add(arg, "%s(%d", name->name, (int)name->n_instances);
    for (i = 0; i < name->n_tags; i++) {
        fx_add(arg, " %s", name->tags[i]);
    }
    fx_add(arg, ") ");
    return true;
}

static bool add_check(void *arg, const Mr__Check *check)
{
    fx_add(arg, "%s/%s/%s=%s ", check->node, check->service_name,
           check->check_id, check->status);
    return true;
}

static bool add_service(void *arg, const Mr__Service *service)
{
    fx_add(arg, "%s/%s ", service->node, service->id);
    return true;
}

/* What the queries that use derived tables answer. */
static void derived_answers(struct fixture *f, struct fx_text *t)
{
    struct mr_kv_view *view = fx_view(f);

    t->len = 0;
    assert_int_equal(mr_kv_service_names(view, add_name, t, NULL), MR_OK);
    assert_int_equal(mr_kv_state_checks(view, "warning", add_check, t, NULL),
                     MR_OK);
    assert_int_equal(mr_kv_node_services(view, "n1", add_service, t, NULL),
                     MR_OK);
    assert_int_equal(
        mr_kv_address_lookup(view, "10.1.1.1", NULL, add_service, t), MR_OK);
    mr_kv_view_end(view);
}

/* ------------------------------------------------------------ success */

/* The restored store has the same digest and gives the same answers. */
static void restore_brings_back_everything(void **state)
{
    struct fixture *f = *state;
    struct fixture g = {.kv = NULL};
    struct mr_detail detail = {""};
    struct fx_text t;
    struct fx_text u;
    struct stream s;

    fill(f);
    s = take(f);
    fx_init(&g);
    (void)fx_put(&g, "gone", "1");
    assert_int_equal(mr_kv_restore(g.kv, read_stream, &s, &detail), MR_OK);
    assert_int_equal(mr_kv_digest(f->kv, NULL).high,
                     mr_kv_digest(g.kv, NULL).high);
    assert_int_equal(mr_kv_digest(f->kv, NULL).low,
                     mr_kv_digest(g.kv, NULL).low);
    assert_int_equal(mr_kv_revision(f->kv), mr_kv_revision(g.kv));
    assert_int_equal(mr_kv_applied(g.kv, NULL), f->index);
    fx_check_digest(&g);
    assert_true(same_answer(f, &g, "web"));
    assert_true(same_answer(f, &g, "db"));
    derived_answers(f, &t);
    derived_answers(&g, &u);
    assert_string_equal(t.text, u.text);
    g.index = f->index;
    assert_true(fx_delete(f, "", true).changed);
    assert_true(fx_delete(&g, "", true).changed);
    assert_int_equal(mr_kv_digest(f->kv, NULL).low,
                     mr_kv_digest(g.kv, NULL).low);
    fx_deinit(&g);
    free(s.data);
}

/* A snapshot that was written before there were leases is read for ever. */
static void snapshot_without_leases_is_restored(void **state)
{
    struct fixture *f = *state;
    FILE *file = fopen("tests/unit/golden/kv_snapshot_v1.bin", "re");
    struct stream s = {.data = calloc(1, 4096)};
    struct mr_kv_stats stats;

    assert_true(file != NULL && s.data != NULL);
    s.len = fread(s.data, 1, 4096, file);
    (void)fclose(file);
    assert_int_equal(mr_kv_restore(f->kv, read_stream, &s, NULL), MR_OK);
    mr_kv_stats(f->kv, &stats);
    assert_int_equal(stats.revision, 5);
    assert_int_equal(stats.leases, 0);
    fx_check_digest(f);
    free(s.data);
}

/* Bytes may arrive one by one. */
static void restore_reads_small_pieces(void **state)
{
    struct fixture *f = *state;
    struct stream s;

    (void)fx_put(f, "a", "1");
    s = take(f);
    (void)fx_put(f, "a", "2");
    s.piece = 1;
    assert_int_equal(mr_kv_restore(f->kv, read_stream, &s, NULL), MR_OK);
    assert_int_equal(mr_kv_revision(f->kv), 2);
    free(s.data);
}

/* A view that is open during a restore goes on with the old state. */
static void open_view_survives_a_restore(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_view *view;
    const Mr__Key *key;
    struct stream s = take(f);

    (void)fx_put(f, "a", "old");
    view = fx_view(f);
    assert_int_equal(mr_kv_restore(f->kv, read_stream, &s, NULL), MR_OK);
    assert_int_equal(mr_kv_key_get(view, mr_slice_str("a"), &key, NULL), MR_OK);
    assert_memory_equal(key->value.data, "old", 3);
    mr_kv_view_end(view);
    view = fx_view(f);
    assert_int_equal(mr_kv_key_get(view, mr_slice_str("a"), &key, NULL), MR_OK);
    assert_null(key);
    mr_kv_view_end(view);
    free(s.data);
}

static bool count_change(void *arg, const struct mr_kv_change *change)
{
    (void)change;
    ++*(size_t *)arg;
    return true;
}

/* What the state was replaced by is not what readers saw before. */
static void restore_forgets_the_history(void **state)
{
    struct mr_kv_topic topic = {MR_KV_TOPIC_PREFIX, mr_slice_str("")};
    struct mr_kv_history_query query = {&topic, 1, 0};
    struct fixture *f = *state;
    struct fixture g = {.kv = NULL};
    struct stream s;
    uint64_t upto;
    size_t n = 0;

    (void)fx_put(f, "a", "1");
    (void)fx_put(f, "a", "2");
    s = take(f);
    fx_init(&g);
    (void)fx_put(&g, "a", "1");
    query.after = mr_kv_revision(g.kv);
    assert_int_equal(mr_kv_restore(g.kv, read_stream, &s, NULL), MR_OK);
    assert_int_equal(mr_kv_history_read(g.kv, &query, count_change, &n, &upto),
                     MR_E_NOTFOUND);
    query.after = mr_kv_revision(g.kv);
    (void)fx_put(&g, "a", "3");
    assert_int_equal(mr_kv_history_read(g.kv, &query, count_change, &n, &upto),
                     MR_OK);
    assert_int_equal(n, 1);
    fx_deinit(&g);
    free(s.data);
}

/* A restored store is found again after a close. */
static void restored_store_opens_again(void **state)
{
    struct fixture *f = *state;
    struct stream s;
    int i;

    fill(f);
    s = take(f);
    for (i = 0; i < 3; i++) {
        s.at = 0;
        assert_int_equal(mr_kv_restore(f->kv, read_stream, &s, NULL), MR_OK);
    }
    mr_kv_close(f->kv);
    fx_open_as(f, "boot");
    fx_check_digest(f);
    assert_true(mr_kv_revision(f->kv) > 300);
    free(s.data);
}

static void count_wake(struct mr_kv_waiter *waiter)
{
    waiter->topic = waiter; /* Seen by the test: the hub is done with it. */
}

/* A restore wakes everyone and makes every guard stale. */
static void restore_wakes_everyone(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_topic topic = {MR_KV_TOPIC_KEY, mr_slice_str("a")};
    struct mr_kv_waiter waiter = {.wake = count_wake};
    struct mr_kv_guard *guard;
    struct stream s;

    (void)fx_put(f, "b", "1");
    s = take(f);
    guard = mr_kv_guard_new(f->kv, &topic, 2);
    assert_non_null(guard);
    assert_int_equal(mr_kv_wait(f->kv, &waiter, &topic, 2), MR_OK);
    assert_int_equal(mr_kv_restore(f->kv, read_stream, &s, NULL), MR_OK);
    assert_ptr_equal(waiter.topic, &waiter);
    assert_true(mr_kv_guard_stale(guard));
    mr_kv_guard_free(f->kv, guard);
    free(s.data);
}

struct race {
    struct mr_kv *kv;
    atomic_bool is_over;
};

/* Read all the time; every view must show one whole state. */
static void *read_on(void *arg)
{
    struct race *race = arg;

    while (!atomic_load(&race->is_over)) {
        struct mr_kv_view *view = NULL;
        const Mr__Key *a = NULL;
        const Mr__Key *b = NULL;

        if (mr_kv_view_begin(race->kv, &view) != MR_OK ||
            mr_kv_key_get(view, mr_slice_str("a"), &a, NULL) != MR_OK ||
            mr_kv_key_get(view, mr_slice_str("b"), &b, NULL) != MR_OK ||
            (a != NULL && b != NULL &&
             memcmp(a->value.data, b->value.data, 1) != 0)) {
            return NULL;
        }
        mr_kv_view_end(view);
    }
    return race;
}

/* Readers beside a thread that restores again and again. */
static void views_race_with_restores(void **state)
{
    struct fixture *f = *state;
    struct race race = {.kv = f->kv};
    pthread_t threads[3];
    struct stream s;
    void *result;
    size_t i;

    (void)fx_put(f, "a", "1");
    (void)fx_put(f, "b", "1");
    s = take(f);
    for (i = 0; i < MR_ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &race), 0);
    }
    for (i = 0; i < 50; i++) {
        (void)fx_delete(f, "a", false);
        (void)fx_put(f, "b", "2");
        (void)fx_put(f, "a", "2");
        s.at = 0;
        assert_int_equal(mr_kv_restore(f->kv, read_stream, &s, NULL), MR_OK);
    }
    atomic_store(&race.is_over, true);
    for (i = 0; i < MR_ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_non_null(result);
    }
    free(s.data);
}

/* ------------------------------------------------------------ failure */

static void must_refuse(struct fixture *f, struct stream *s)
{
    struct mr_hash128 before = mr_kv_digest(f->kv, NULL);
    struct mr_detail detail = {""};
    enum mr_err err;

    s->at = 0;
    err = mr_kv_restore(f->kv, read_stream, s, &detail);
    if (err != MR_E_CORRUPT && err != MR_E_VERSION) {
        fail_msg("restore says %s", mr_strerror(err));
    }
    assert_true(strlen(detail.text) > 0);
    assert_int_equal(mr_kv_digest(f->kv, NULL).low, before.low);
    fx_check_digest(f);
}

/* Any byte that differs, and any missing end, is noticed; the state stays. */
static void damaged_snapshot_is_refused(void **state)
{
    struct fixture *f = *state;
    struct stream s;
    size_t i;

    (void)fx_put(f, "a", "1");
    (void)fx_put(f, "b", "1");
    (void)fx_delete(f, "b", false);
    (void)fx_register(f, (struct fx_reg){.node = "n", .service = "web"});
    s = take(f);
    for (i = 0; i < s.len; i++) {
        s.data[i] ^= 0x10;
        must_refuse(f, &s);
        s.data[i] ^= 0x10;
    }
    for (i = 0; i < s.len; i += 7) {
        size_t len = s.len;

        s.len = i;
        must_refuse(f, &s);
        s.len = len;
    }
    s.data = realloc(s.data, s.len + 1);
    assert_non_null(s.data);
    s.data[s.len++] = 0;
    must_refuse(f, &s);
    free(s.data);
}

/* The reader's and the writer's own failures are passed on. */
static void stream_failures_are_passed_on(void **state)
{
    struct fixture *f = *state;
    struct stream s = take(f);
    struct mr_kv_view *view = fx_view(f);

    s.err = MR_E_CANCELED;
    assert_int_equal(mr_kv_restore(f->kv, read_stream, &s, NULL),
                     MR_E_CANCELED);
    s.err = MR_E_NOSPACE;
    assert_int_equal(mr_kv_snapshot(view, write_stream, &s), MR_E_NOSPACE);
    mr_kv_view_end(view);
    free(s.data);
}

/* Whichever allocation fails, the state is the old one or the new one. */
static void restore_survives_a_lack_of_memory(void **state)
{
    struct fixture *f = *state;
    struct stream s;
    uint64_t n;

    (void)fx_register(
        f, (struct fx_reg){
               .node = "n", .service = "web", .check = "c", .tag = "t"});
    s = take(f);
    for (n = 0; n < 200; n++) {
        enum mr_err err;

        s.at = 0;
        mr_mem_fail_after(n);
        err = mr_kv_restore(f->kv, read_stream, &s, NULL);
        mr_mem_fail_after(UINT64_MAX);
        fx_check_digest(f);
        if (err == MR_OK) {
            break;
        }
        assert_int_equal(err, MR_E_NOMEM);
    }
    assert_in_range(n, 3, 199);
    free(s.data);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(restore_brings_back_everything),
        TEST(snapshot_without_leases_is_restored),
        TEST(restore_reads_small_pieces),
        TEST(open_view_survives_a_restore),
        TEST(restore_forgets_the_history),
        TEST(restored_store_opens_again),
        TEST(restore_wakes_everyone),
        TEST(views_race_with_restores),
        TEST(damaged_snapshot_is_refused),
        TEST(stream_failures_are_passed_on),
        TEST(restore_survives_a_lack_of_memory),
    };

    return cmocka_run_group_tests_name("kv_snapshot", tests, NULL, NULL);
}
