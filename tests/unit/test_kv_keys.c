/* SPDX-License-Identifier: Apache-2.0 */
/* Keys: writes, deletes, listings and their indexes. */
#include "tests/unit/kv_fixture.h"

static const Mr__Key *get(struct mr_kv_view *view, const char *key,
                          uint64_t *out_index)
{
    const Mr__Key *k = NULL;

    assert_int_equal(mr_kv_key_get(view, mr_slice_str(key), &k, out_index),
                     MR_OK);
    return k;
}

/* ------------------------------------------------------------ success */

/* A value that was put is read back with its revisions. */
static void put_then_get_returns_value(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_view *view;
    const Mr__Key *k;
    uint64_t index;

    assert_int_equal(fx_put(f, "a", "1").revision, 2);
    assert_int_equal(fx_put(f, "a", "22").revision, 3);
    view = fx_view(f);
    k = get(view, "a", &index);
    assert_non_null(k);
    assert_memory_equal(k->value.data, "22", 2);
    assert_int_equal(k->create_rev, 2);
    assert_int_equal(k->modify_rev, 3);
    assert_int_equal(index, 3);
    assert_int_equal(mr_kv_view_revision(view), 3);
    assert_int_equal(mr_kv_view_applied(view, NULL), 2);
    mr_kv_view_end(view);
    fx_check_digest(f);
}

/* A write of the same value gets no revision. */
static void same_value_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_result r;

    (void)fx_put(f, "a", "1");
    r = fx_put(f, "a", "1");
    assert_false(r.changed);
    assert_int_equal(r.revision, 2);
    assert_int_equal(r.verdict, MR_KV_DONE);
}

/* Compare-and-set: 0 creates only, another number must be the revision. */
static void cas_put_needs_the_revision(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(fx_put_cas(f, "c", "v", 5).verdict, MR_KV_MISMATCH);
    assert_int_equal(fx_put_cas(f, "c", "v", 0).verdict, MR_KV_DONE);
    assert_int_equal(fx_put_cas(f, "c", "w", 0).verdict, MR_KV_MISMATCH);
    assert_int_equal(fx_put_cas(f, "c", "w", 2).verdict, MR_KV_DONE);
    assert_int_equal(fx_put_cas(f, "c", "x", 2).verdict, MR_KV_MISMATCH);
    assert_int_equal(mr_kv_revision(f->kv), 3);
}

/* An absent key deletes fine, and cas 0 never deletes one that is there. */
static void cas_delete_follows_consul(void **state)
{
    struct fixture *f = *state;

    (void)fx_put(f, "c", "v");
    assert_int_equal(fx_delete_cas(f, "c", 0).verdict, MR_KV_MISMATCH);
    assert_int_equal(fx_delete_cas(f, "c", 9).verdict, MR_KV_MISMATCH);
    assert_int_equal(fx_delete_cas(f, "absent", 9).verdict, MR_KV_DONE);
    assert_true(fx_delete_cas(f, "c", 2).changed);
    assert_false(fx_delete_cas(f, "c", 2).changed);
}

/* An absent key has the table's index, which its own deletion moved. */
static void absent_key_has_index_of_table(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_view *view = fx_view(f);
    uint64_t index;

    assert_null(get(view, "a", &index));
    assert_int_equal(index, 1);
    mr_kv_view_end(view);
    (void)fx_put(f, "a", "1");
    (void)fx_put(f, "b", "1");
    (void)fx_delete(f, "a", false);
    view = fx_view(f);
    assert_null(get(view, "a", &index));
    assert_int_equal(index, 4);
    mr_kv_view_end(view);
}

/* A prefix is any leading part of a key, and order is by bytes. */
static void list_is_by_prefix_in_byte_order(void **state)
{
    struct fixture *f = *state;
    struct fx_text t;
    uint64_t index;

    (void)fx_put(f, "dirz", "1");
    (void)fx_put(f, "dir/b", "1");
    (void)fx_put(f, "dir/", "1");
    (void)fx_put(f, "other", "1");
    assert_string_equal(fx_keys(f, "dir", &t, &index), "dir/ dir/b dirz ");
    assert_int_equal(index, 4);
    assert_string_equal(fx_keys(f, "dir/", &t, &index), "dir/ dir/b ");
    assert_string_equal(fx_keys(f, "", &t, &index), "dir/ dir/b dirz other ");
    assert_int_equal(index, 5);
    assert_string_equal(fx_keys(f, "nope", &t, &index), "");
    assert_int_equal(index, 5);
}

/* Deleting below a prefix moves its index, and writes elsewhere do not. */
static void prefix_index_counts_deletions(void **state)
{
    struct fixture *f = *state;
    struct fx_text t;
    uint64_t index;

    (void)fx_put(f, "pre/a", "1");
    (void)fx_put(f, "pre/b", "1");
    (void)fx_delete(f, "pre/a", false);
    (void)fx_put(f, "else", "1");
    (void)fx_keys(f, "pre/", &t, &index);
    assert_int_equal(index, 4);
    (void)fx_delete(f, "pre/", true);
    (void)fx_put(f, "else", "2");
    assert_string_equal(fx_keys(f, "pre/", &t, &index), "");
    assert_int_equal(index, 6);
}

/* When old deletions are forgotten, indexes still do not go back. */
static void forgotten_deletions_keep_indexes_rising(void **state)
{
    struct fixture *f = *state;
    struct fx_text t;
    char key[32];
    uint64_t before;
    uint64_t after;
    int i;

    (void)fx_put(f, "keep/a", "1");
    (void)fx_put(f, "keep/b", "1");
    (void)fx_delete(f, "keep/b", false);
    (void)fx_keys(f, "keep/", &t, &before);
    for (i = 0; i < 8300; i++) {
        (void)snprintf(key, sizeof key, "gone/%d", i);
        (void)fx_put(f, key, "1");
        (void)fx_delete(f, key, false);
    }
    (void)fx_keys(f, "keep/", &t, &after);
    assert_true(after >= before);
    (void)fx_keys(f, "gone/", &t, &after);
    assert_int_equal(after, mr_kv_revision(f->kv));
    fx_check_digest(f);
}

struct names {
    const char *prefix;
    const char *separator;
    const char *expected;
};

/* Names are cut behind the separator, without repeating. */
static void names_are_cut_at_the_separator(void **state)
{
    static const struct names cases[] = {
        {"", "/", "bin dir/ dirz foo "},
        {"dir/", "/", "dir/ dir/a dir/b/ "},
        {"dir", "/", "dir/ dirz "},
        {"", "", "bin dir/ dir/a dir/b/c dir/b/d dirz foo "},
        {"", "ir", "bin dir foo "},
        {"nope", "/", ""},
    };
    static const char *const keys[] = {"bin",     "dir/", "dir/a", "dir/b/c",
                                       "dir/b/d", "dirz", "foo"};
    struct fixture *f = *state;
    struct mr_kv_view *view;
    uint64_t index;
    size_t i;

    for (i = 0; i < MR_ARRAY_LEN(keys); i++) {
        (void)fx_put(f, keys[i], "1");
    }
    view = fx_view(f);
    for (i = 0; i < 2 * MR_ARRAY_LEN(cases); i++) {
        const struct names *c = &cases[i / 2];
        struct fx_text t = {.text = ""};

        assert_int_equal(mr_kv_key_names(view, mr_slice_str(c->prefix),
                                         mr_slice_str(c->separator), fx_add_key,
                                         &t, i % 2 == 0 ? &index : NULL),
                         MR_OK);
        assert_string_equal(t.text, c->expected);
    }
    mr_kv_view_end(view);
}

/* A separator of the highest bytes does not lead the walk out of its prefix. */
static void names_skip_subtrees_of_high_bytes(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_view *view;
    struct fx_text t = {.text = ""};

    (void)fx_put(f,
                 "a\xff\xff"
                 "1",
                 "1");
    (void)fx_put(f,
                 "a\xff\xff"
                 "2",
                 "1");
    (void)fx_put(f, "b1", "1");
    (void)fx_put(f, "b2", "1");
    view = fx_view(f);
    assert_int_equal(mr_kv_key_names(view, mr_slice_str("a"),
                                     mr_slice_str("\xff\xff"), fx_add_key, &t,
                                     NULL),
                     MR_OK);
    assert_string_equal(t.text, "a\xff\xff ");
    mr_kv_view_end(view);
}

/* A walk can be stopped, and the index is still that of everything. */
static bool stop_at_once(void *arg, const Mr__Key *key)
{
    (void)key;
    (*(int *)arg)++;
    return false;
}

static void stopped_walk_still_knows_the_index(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_view *view;
    uint64_t index;
    int seen = 0;

    (void)fx_put(f, "a/1", "1");
    (void)fx_put(f, "a/2", "1");
    view = fx_view(f);
    assert_int_equal(
        mr_kv_key_list(view, mr_slice_str("a/"), stop_at_once, &seen, &index),
        MR_OK);
    assert_int_equal(seen, 1);
    assert_int_equal(index, 3);
    mr_kv_view_end(view);
}

/* ------------------------------------------------------------ long keys */

#define LONG 600

static char *long_key(const char *end)
{
    char *key = malloc(LONG + strlen(end) + 1);

    assert_non_null(key);
    memset(key, 'k', LONG);
    (void)strcpy(key + LONG, end);
    return key;
}

/* Keys longer than LMDB's limit are stored, told apart and sorted. */
static void long_keys_behave_like_others(void **state)
{
    static const char *const ends[] = {"b", "a", "", "ab", "\xff"};
    static const char *const sorted[] = {"", "a", "ab", "b", "\xff"};
    struct fixture *f = *state;
    struct mr_kv_view *view;
    struct fx_text t;
    const char *at;
    char *prefix = long_key("");
    uint64_t index;
    size_t i;

    (void)fx_put(f, "k", "short");
    (void)fx_put(f, "l", "behind");
    for (i = 0; i < MR_ARRAY_LEN(ends); i++) {
        char *key = long_key(ends[i]);

        assert_true(fx_put(f, key, ends[i]).changed);
        assert_false(fx_put(f, key, ends[i]).changed);
        view = fx_view(f);
        assert_memory_equal(get(view, key, NULL)->value.data, ends[i],
                            strlen(ends[i]));
        mr_kv_view_end(view);
        free(key);
    }
    at = fx_keys(f, prefix, &t, &index);
    for (i = 0; i < MR_ARRAY_LEN(sorted); i++) {
        assert_memory_equal(at + LONG, sorted[i], strlen(sorted[i]));
        at += LONG + strlen(sorted[i]) + 1;
    }
    assert_string_equal(at, "");
    assert_int_equal(index, 8);
    assert_true(fx_delete(f, prefix, false).changed);
    prefix[LONG - 1] = 'x';
    assert_string_equal(fx_keys(f, prefix, &t, NULL), "");
    prefix[2] = '\0';
    assert_true(fx_delete(f, prefix, true).changed);
    assert_string_equal(fx_keys(f, "", &t, NULL), "k l ");
    fx_check_digest(f);
    free(prefix);
}

/* Thousands of keys go in one command, and the others stay. */
static void recursive_delete_takes_the_whole_tree(void **state)
{
    struct fixture *f = *state;
    struct mr_kv_stats stats;
    struct mr_kv_result r;
    char key[32];
    int i;

    (void)fx_put(f, "a", "1");
    (void)fx_put(f, "c", "1");
    for (i = 0; i < 2000; i++) {
        (void)snprintf(key, sizeof key, "b/%d", i);
        (void)fx_put(f, key, "1");
    }
    r = fx_delete(f, "b/", true);
    assert_int_equal(r.revision, 2004);
    mr_kv_stats(f->kv, &stats);
    assert_int_equal(stats.keys, 2);
    assert_false(fx_delete(f, "b/", true).changed);
    assert_true(fx_delete(f, "", true).changed);
    mr_kv_stats(f->kv, &stats);
    assert_int_equal(stats.keys, 0);
    fx_check_digest(f);
}

/* ------------------------------------------------------------ failure */

/* An empty key and one beyond the limit are refused with a reason. */
static void impossible_keys_are_refused(void **state)
{
    struct fixture *f = *state;
    char *key = malloc(9001);
    struct mr_kv_result r = fx_put(f, "", "x");

    assert_non_null(key);
    assert_int_equal(r.verdict, MR_KV_REFUSED);
    assert_string_equal(r.text, "Missing key name");
    memset(key, 'k', 9000);
    key[9000] = '\0';
    r = fx_put(f, key, "x");
    assert_int_equal(r.verdict, MR_KV_REFUSED);
    assert_string_equal(r.text, "Key is too long (limit: 8192 bytes)");
    assert_int_equal(fx_delete(f, key, true).verdict, MR_KV_REFUSED);
    assert_int_equal(fx_delete(f, "", false).verdict, MR_KV_REFUSED);
    assert_int_equal(mr_kv_revision(f->kv), 1);
    free(key);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(put_then_get_returns_value),
        TEST(same_value_changes_nothing),
        TEST(cas_put_needs_the_revision),
        TEST(cas_delete_follows_consul),
        TEST(absent_key_has_index_of_table),
        TEST(list_is_by_prefix_in_byte_order),
        TEST(prefix_index_counts_deletions),
        TEST(forgotten_deletions_keep_indexes_rising),
        TEST(names_are_cut_at_the_separator),
        TEST(names_skip_subtrees_of_high_bytes),
        TEST(stopped_walk_still_knows_the_index),
        TEST(long_keys_behave_like_others),
        TEST(recursive_delete_takes_the_whole_tree),
        TEST(impossible_keys_are_refused),
    };

    return cmocka_run_group_tests_name("kv_keys", tests, NULL, NULL);
}
