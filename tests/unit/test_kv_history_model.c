/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The history against the state: KV_SEED=n repeats a run.
 *
 * Random commands, in random batches. From time to time the whole state is
 * written down. Whatever was written down at a revision, and then changed by what
 * the history tells, must be the state as it is now, object by object and byte by
 * byte: so nothing is missing, too much, out of order or told twice. ModifyIndex
 * alone is no change.
 */
#include "kv/mr_kv_history.h"

#include <ctype.h>
#include <strings.h>

#include "tests/unit/kv_random.h"

#define N_STEPS 3000
#define N_KEPT 12
#define OBJECTS_MAX 512

/* ------------------------------------------------------------ objects */

/* An object: what tells it from others, and all it says. */
struct object {
    char *name;
    uint8_t *bytes; /* First the text of its status, see pack_status(). */
    size_t len;
};

struct objects {
    uint64_t revision;
    struct object list[OBJECTS_MAX];
    size_t n;
};

static void forget(struct objects *o)
{
    for (size_t i = 0; i < o->n; i++) {
        free(o->list[i].name);
        free(o->list[i].bytes);
    }
    o->n = 0;
}

static struct object *find(struct objects *o, const char *name)
{
    for (size_t i = 0; i < o->n; i++) {
        if (strcmp(o->list[i].name, name) == 0) {
            return &o->list[i];
        }
    }
    return NULL;
}

static void set(struct objects *o, const char *name, const struct mr_buf *bytes)
{
    struct object *object = find(o, name);

    if (object == NULL) {
        assert_true(o->n < OBJECTS_MAX);
        object = &o->list[o->n++];
        object->name = strdup(name);
    } else {
        free(object->bytes);
    }
    object->bytes = malloc(bytes->len + 1);
    object->len = bytes->len;
    memcpy(object->bytes, bytes->data, bytes->len);
}

static void drop(struct objects *o, struct object *object)
{
    free(object->name);
    free(object->bytes);
    *object = o->list[--o->n];
}

/* Add @message behind what @b holds. */
static void pack(struct mr_buf *b, const ProtobufCMessage *message)
{
    uint8_t *at = mr_buf_grow(b, protobuf_c_message_get_packed_size(message));

    assert_non_null(at);
    (void)protobuf_c_message_pack(message, at);
}

/* Begin with the status of a check, or the worst of an instance's; or "". */
static void pack_status(const char *status, struct mr_buf *b)
{
    mr_buf_add(b, status, strlen(status) + 1);
}

/* Each packs what an object shows into @b, and its name into @name. */
static void pack_key(const Mr__Key *key, char *name, struct mr_buf *b)
{
    Mr__Key shown = *key;

    shown.modify_rev = 0;
    pack_status("", b);
    (void)sprintf(name, "key %.*s", (int)key->key.len, (char *)key->key.data);
    pack(b, &shown.base);
}

/* In lower case: spelled otherwise it is the same node. */
static void name_node(const char *node, char *name)
{
    size_t len = (size_t)sprintf(name, "node %s", node);

    for (size_t i = 0; i < len; i++) {
        name[i] = (char)tolower((unsigned char)name[i]);
    }
}

static void pack_node(const Mr__Node *node, char *name, struct mr_buf *b)
{
    Mr__Node shown = *node;

    shown.ttl_ms = 0;
    shown.reap_ms = 0;
    shown.lease_id = 0;
    shown.modify_rev = 0;
    name_node(node->name, name);
    pack_status("", b);
    pack(b, &shown.base);
}

static void pack_check(const Mr__Check *check, char *name, struct mr_buf *b)
{
    Mr__Check shown = *check;
    Mr__CheckDefinition definition = MR__CHECK_DEFINITION__INIT;
    char node[256];

    if (check->definition != NULL && check->origin == MR__ORIGIN__CATALOG) {
        definition.http = check->definition->http;
    }
    shown.definition = &definition;
    shown.lease_id = 0;
    shown.modify_rev = 0;
    shown.origin = MR__ORIGIN__CATALOG;
    pack_status(check->status, b);
    name_node(check->node, node);
    (void)sprintf(name, "check of %s: %s", node, check->check_id);
    pack(b, &shown.base);
}

static void pack_name(const struct mr_kv_service_name *n, char *name,
                      struct mr_buf *b)
{
    char lower[256];

    name_node(n->name, lower);
    (void)sprintf(name, "name of %s", lower);
    pack_status("", b);
    mr_buf_str(b, n->name);
    for (size_t i = 0; i < n->n_tags; i++) {
        mr_buf_printf(b, " %s", n->tags[i]);
    }
}

static const char *worst_status(const struct mr_kv_instance *i)
{
    size_t worst = 0;

    for (size_t c = 0; c < i->n_checks; c++) {
        for (size_t s = worst; s < MR_ARRAY_LEN(statuses); s++) {
            worst = strcmp(i->checks[c]->status, statuses[s]) == 0 ? s : worst;
        }
    }
    return statuses[worst];
}

static void pack_instance(const struct mr_kv_instance *i, char *name,
                          struct mr_buf *b)
{
    char ignored[256];
    char node[256];
    Mr__Service shown = *i->service;

    shown.ttl_ms = 0;
    shown.digest = 0;
    shown.incarnation = 0;
    shown.lease_id = 0;
    shown.modify_rev = 0;
    if (shown.origin != MR__ORIGIN__REGISTRY) {
        shown.origin = MR__ORIGIN__CATALOG;
    }
    pack_status(worst_status(i), b);
    pack_node(i->node, node, b);
    pack(b, &shown.base);
    for (size_t c = 0; c < i->n_checks; c++) {
        pack_check(i->checks[c], ignored, b);
    }
    (void)sprintf(name, "instance of %s: %s", node, i->service->id);
}

/* ------------------------------------------------------------ the state */

static void keep(struct objects *o, const char *name, struct mr_buf *b)
{
    assert_null(find(o, name));
    set(o, name, b);
    mr_buf_deinit(b);
}

static bool keep_key(void *arg, const Mr__Key *key)
{
    struct mr_buf b = MR_BUF_INIT;
    char name[256];

    pack_key(key, name, &b);
    keep(arg, name, &b);
    return true;
}

static bool keep_node(void *arg, const Mr__Node *node)
{
    struct mr_buf b = MR_BUF_INIT;
    char name[256];

    pack_node(node, name, &b);
    keep(arg, name, &b);
    return true;
}

static bool keep_check(void *arg, const Mr__Check *check)
{
    struct mr_buf b = MR_BUF_INIT;
    char name[512];

    pack_check(check, name, &b);
    keep(arg, name, &b);
    return true;
}

static bool keep_instance(void *arg, const struct mr_kv_instance *instance)
{
    struct mr_buf b = MR_BUF_INIT;
    char name[512];

    pack_instance(instance, name, &b);
    keep(arg, name, &b);
    return true;
}

static bool keep_name(void *arg, const struct mr_kv_service_name *n)
{
    struct mr_buf b = MR_BUF_INIT;
    char name[256];

    pack_name(n, name, &b);
    keep(arg, name, &b);
    return true;
}

/* Write the whole state down. */
static void write_down(struct mr_kv *kv, struct objects *o)
{
    struct mr_kv_view *view;

    forget(o);
    assert_int_equal(mr_kv_view_begin(kv, &view), MR_OK);
    o->revision = mr_kv_view_revision(view);
    assert_int_equal(mr_kv_key_list(view, mr_slice_str(""), keep_key, o, NULL),
                     MR_OK);
    assert_int_equal(mr_kv_node_list(view, keep_node, o, NULL), MR_OK);
    assert_int_equal(mr_kv_state_checks(view, NULL, keep_check, o, NULL),
                     MR_OK);
    assert_int_equal(mr_kv_service_names(view, keep_name, o, NULL), MR_OK);
    for (size_t i = 0; i < N_NAMES; i++) {
        assert_int_equal(mr_kv_service_instances(view, service_names[i],
                                                 keep_instance, o, NULL),
                         MR_OK);
    }
    mr_kv_view_end(view);
}

/* ------------------------------------------------------------ the history */

struct replay {
    struct objects *objects;
    uint64_t last;
    bool was_last; /* The change before was the last of its revision. */
};

static void pack_change(const struct mr_kv_change *change, char *name,
                        struct mr_buf *b)
{
    switch (change->object) {
    case MR_KV_OBJECT_KEY:
        pack_key(change->u.key, name, b);
        break;
    case MR_KV_OBJECT_NODE:
        pack_node(change->u.node, name, b);
        break;
    case MR_KV_OBJECT_CHECK:
        pack_check(change->u.check, name, b);
        break;
    case MR_KV_OBJECT_NAME:
        pack_name(change->u.name, name, b);
        break;
    case MR_KV_OBJECT_INSTANCE:
        pack_instance(change->u.instance, name, b);
        break;
    }
}

/* Twins share name and ID, and are on other nodes; the latest comes first. */
static void check_twins(const struct mr_kv_change *change)
{
    for (size_t i = 0; i < change->n_twins; i++) {
        const struct mr_kv_instance *twin = change->twins[i];

        assert_int_equal(change->object, MR_KV_OBJECT_INSTANCE);
        assert_string_equal(twin->service->id, change->u.instance->service->id);
        assert_int_equal(
            strcasecmp(twin->service->name, change->u.instance->service->name),
            0);
        assert_int_not_equal(
            strcasecmp(twin->node->name, change->u.instance->node->name), 0);
        assert_true(i == 0 || change->twins[i - 1]->service->create_rev >=
                                  twin->service->create_rev);
    }
}

static bool replay(void *arg, const struct mr_kv_change *change)
{
    struct replay *r = arg;
    struct mr_buf b = MR_BUF_INIT;
    struct object *object;
    char name[512];

    assert_true(change->revision > r->last ||
                (change->revision == r->last && !r->was_last));
    r->last = change->revision;
    r->was_last = change->is_last;
    pack_change(change, name, &b);
    check_twins(change);
    object = find(r->objects, name);
    if ((object == NULL) != (change->action == MR_KV_ACTION_CREATE)) {
        fail_msg("action %d of \"%s\", which was %sthere at revision %llu",
                 (int)change->action, name, object == NULL ? "not " : "",
                 (unsigned long long)change->revision);
    }
    assert_string_equal(change->was_status,
                        object == NULL ? "" : (const char *)object->bytes);
    if (change->action == MR_KV_ACTION_UPDATE) {
        assert_true(object->len != b.len || /* Something is new. */
                    memcmp(object->bytes, b.data, b.len) != 0);
    }
    if (change->action != MR_KV_ACTION_DELETE) {
        set(r->objects, name, &b);
    } else {
        assert_int_equal(object->len, b.len); /* As it was. */
        assert_memory_equal(object->bytes, b.data, b.len);
        drop(r->objects, object);
    }
    mr_buf_deinit(&b);
    return true;
}

/* Bring what was written down up to date by what is told of @kind. */
static void catch_up(struct mr_kv *kv, struct objects *o, uint64_t after,
                     enum mr_kv_topic_kind kind)
{
    struct mr_kv_topic topic = {kind, mr_slice_str("")};
    struct mr_kv_history_query query = {&topic, 1, after};
    struct replay r = {o, after, true};
    uint64_t revision;

    assert_int_equal(mr_kv_history_read(kv, &query, replay, &r, &revision),
                     MR_OK);
    assert_true(r.was_last);
    assert_int_equal(revision, mr_kv_revision(kv));
}

static void compare(const struct objects *a, struct objects *b)
{
    for (size_t i = 0; i < a->n; i++) {
        const struct object *other = find(b, a->list[i].name);

        if (other == NULL) {
            fail_msg("missing: %s", a->list[i].name);
        }
        if (other->len != a->list[i].len ||
            memcmp(other->bytes, a->list[i].bytes, other->len) != 0) {
            fail_msg("differs: %s", a->list[i].name);
        }
    }
    assert_int_equal(a->n, b->n);
}

/* One for each kind of object. */
static const enum mr_kv_topic_kind kinds[] = {
    MR_KV_TOPIC_PREFIX, MR_KV_TOPIC_NODES, MR_KV_TOPIC_CHECKS,
    MR_KV_TOPIC_SERVICES, MR_KV_TOPIC_CATALOG};

/* What was written down, and the history since, make the state. */
static void verify(struct mr_kv *kv, struct objects *kept)
{
    static struct objects now;

    for (size_t i = 0; i < MR_ARRAY_LEN(kinds); i++) {
        catch_up(kv, kept, kept->revision, kinds[i]);
    }
    write_down(kv, &now);
    compare(&now, kept);
    kept->revision = now.revision;
    forget(&now);
}

/* ------------------------------------------------------------ waking */

/* What a feed may wait for. */
static const struct {
    enum mr_kv_topic_kind kind;
    const char *name;
} waits[] = {
    {MR_KV_TOPIC_PREFIX, ""},      {MR_KV_TOPIC_PREFIX, "a/"},
    {MR_KV_TOPIC_KEY, "a/b"},      {MR_KV_TOPIC_NODES, ""},
    {MR_KV_TOPIC_CHECKS, ""},      {MR_KV_TOPIC_SERVICES, ""},
    {MR_KV_TOPIC_CATALOG, ""},     {MR_KV_TOPIC_SERVICE, "web"},
    {MR_KV_TOPIC_SERVICE, "DB"},   {MR_KV_TOPIC_SERVICE, "a.b.c"},
    {MR_KV_TOPIC_NODE, "alpha"},   {MR_KV_TOPIC_NODE, "beta"},
    {MR_KV_TOPIC_NODE, "gamma.x"},
};

struct waiter {
    struct mr_kv_waiter base;
    bool has_fired;
};

static void on_wake(struct mr_kv_waiter *base)
{
    mr_container_of(base, struct waiter, base)->has_fired = true;
}

static struct mr_kv_topic topic_of(size_t i)
{
    return (struct mr_kv_topic){waits[i].kind, mr_slice_str(waits[i].name)};
}

static void park(struct mr_kv *kv, struct waiter *waiters)
{
    for (size_t i = 0; i < MR_ARRAY_LEN(waits); i++) {
        struct mr_kv_topic topic = topic_of(i);

        waiters[i] = (struct waiter){.base.wake = on_wake};
        assert_int_equal(
            mr_kv_wait(kv, &waiters[i].base, &topic, mr_kv_revision(kv)),
            MR_OK);
    }
}

static bool count(void *arg, const struct mr_kv_change *change)
{
    (void)change;
    ++*(size_t *)arg;
    return true;
}

/* Nothing is recorded after @revision for which nobody is woken, or which is
 * said to have been quiet. */
static void check_woken(struct mr_kv *kv, struct waiter *waiters,
                        uint64_t revision)
{
    for (size_t i = 0; i < MR_ARRAY_LEN(waits); i++) {
        struct mr_kv_topic topic = topic_of(i);
        struct mr_kv_history_query query = {&topic, 1, revision};
        uint64_t upto;
        size_t n = 0;

        assert_int_equal(mr_kv_history_read(kv, &query, count, &n, &upto),
                         MR_OK);
        assert_int_equal(mr_kv_wait_quiet(kv, &waiters[i].base),
                         waiters[i].has_fired ? revision : upto);
        if (n > 0 && !waiters[i].has_fired) {
            fail_msg("%zu changes of topic %d \"%s\" woke nobody", n,
                     (int)waits[i].kind, waits[i].name);
        }
        assert_int_equal(mr_kv_wait_cancel(kv, &waiters[i].base),
                         !waiters[i].has_fired);
    }
}

/* ------------------------------------------------------------ tests */

static void state_and_history_make_the_later_state(void **state)
{
    static struct objects kept[N_KEPT];
    static struct waiter waiters[MR_ARRAY_LEN(waits)];
    struct fixture *f = *state;

    seed_random();
    for (size_t i = 0; i < N_KEPT; i++) {
        write_down(f->kv, &kept[i]);
    }
    for (int step = 0; step < N_STEPS; step++) {
        uint64_t revision = mr_kv_revision(f->kv);
        unsigned n = 1 + pick(6);

        park(f->kv, waiters);
        assert_int_equal(mr_kv_batch_begin(f->kv), MR_OK);
        while (n-- > 0) {
            Mr__Command cmd;

            random_command(&cmd);
            (void)fx_step(f, &cmd);
        }
        assert_int_equal(mr_kv_batch_commit(f->kv, ++f->index, 1), MR_OK);
        check_woken(f->kv, waiters, revision);
        if (pick(10) == 0) {
            verify(f->kv, &kept[pick(N_KEPT)]);
        }
    }
    for (size_t i = 0; i < N_KEPT; i++) {
        verify(f->kv, &kept[i]);
        forget(&kept[i]);
    }
}

/* ------------------------------------------------------------ two servers */

static bool write_change(void *arg, const struct mr_kv_change *change)
{
    struct mr_buf *b = arg;
    char name[512];

    mr_buf_be64(b, change->revision);
    mr_buf_byte(b, (uint8_t)change->action);
    mr_buf_byte(b, change->is_last ? 1 : 0);
    mr_buf_byte(b, change->was_service != NULL ? 1 : 0);
    mr_buf_str(b, change->was_status);
    pack_change(change, name, b);
    mr_buf_str(b, name);
    for (size_t i = 0; i < change->n_twins; i++) {
        pack_instance(change->twins[i], name, b);
        mr_buf_str(b, name);
    }
    return true;
}

/* All that @kv tells of @kind after @start. */
static void write_history(struct mr_kv *kv, enum mr_kv_topic_kind kind,
                          uint64_t start, struct mr_buf *out)
{
    struct mr_kv_topic topic = {kind, mr_slice_str("")};
    struct mr_kv_history_query query = {&topic, 1, start};
    uint64_t upto;

    mr_buf_reset(out);
    assert_int_equal(mr_kv_history_read(kv, &query, write_change, out, &upto),
                     MR_OK);
    assert_false(mr_buf_failed(out));
}

/* Servers commit the same commands in batches of their own. */
static void servers_tell_the_same_however_they_batch(void **state)
{
    struct fixture *f = *state;
    struct fixture other = {.kv = NULL};
    struct mr_buf here = MR_BUF_INIT;
    struct mr_buf there = MR_BUF_INIT;
    uint64_t start = mr_kv_revision(f->kv);

    fx_init(&other);
    seed_random();
    for (int step = 0; step < 100; step++) {
        unsigned n = 1 + pick(20);

        assert_int_equal(mr_kv_batch_begin(f->kv), MR_OK);
        while (n-- > 0) {
            Mr__Command cmd;

            random_command(&cmd);
            (void)fx_step(f, &cmd);
            (void)fx_apply(&other, &cmd);
        }
        assert_int_equal(mr_kv_batch_commit(f->kv, ++f->index, 1), MR_OK);
    }
    assert_int_equal(mr_kv_digest(f->kv, NULL).low,
                     mr_kv_digest(other.kv, NULL).low);
    for (size_t i = 0; i < MR_ARRAY_LEN(kinds); i++) {
        write_history(f->kv, kinds[i], start, &here);
        write_history(other.kv, kinds[i], start, &there);
        assert_true(here.len > 1000);
        assert_int_equal(here.len, there.len);
        assert_memory_equal(here.data, there.data, here.len);
    }
    mr_buf_deinit(&here);
    mr_buf_deinit(&there);
    fx_deinit(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(state_and_history_make_the_later_state,
                                        fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(
            servers_tell_the_same_however_they_batch, fx_setup, fx_teardown),
    };

    return cmocka_run_group_tests_name("kv_history_model", tests, NULL, NULL);
}
