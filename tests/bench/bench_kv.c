/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the state is, on its own: one thread, batches of 64 commands, per
 * second of processor time.
 * Prints one JSON line. Usage: bench_kv DIR [INSTANCES]
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "kv/mr_kv.h"
#include "kv/mr_kv_watch.h"

#define BATCH 64
#define N_PUTS 300000
#define N_READS 1000000
#define N_WALKS 20000
#define PER_SERVICE 50
#define ENDED_AT_ONCE 1000

static struct mr_kv *kv;
static uint64_t applied;
static struct mr_buf cmd_buf = MR_BUF_INIT;
static unsigned in_batch;

static double now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void must(enum mr_err err, const char *what)
{
    if (err != MR_OK) {
        (void)fprintf(stderr, "%s: %s\n", what, mr_strerror(err));
        exit(1);
    }
}

static void finish(void)
{
    if (in_batch > 0) {
        must(mr_kv_batch_commit(kv, ++applied, 1), "commit");
    }
    in_batch = 0;
}

static void apply(Mr__Command *cmd)
{
    struct mr_kv_result r;

    if (in_batch == 0) {
        must(mr_kv_batch_begin(kv), "begin");
    }
    mr_buf_reset(&cmd_buf);
    mr_kv_command_encode(cmd, &cmd_buf);
    must(mr_kv_apply(kv, mr_buf_slice(&cmd_buf), &r), "apply");
    if (r.verdict == MR_KV_REFUSED) {
        (void)fprintf(stderr, "refused: %s\n", r.text);
        exit(1);
    }
    if (++in_batch == BATCH) {
        finish();
    }
}

static double puts_per_s(unsigned n_keys)
{
    double start = now();
    unsigned i;

    for (i = 0; i < N_PUTS; i++) {
        Mr__KeyPut put = MR__KEY_PUT__INIT;
        Mr__Command cmd = MR__COMMAND__INIT;
        char key[64];
        char value[64];

        (void)snprintf(key, sizeof key, "bench/key/%08u",
                       (unsigned)(i * 2654435761u) % n_keys);
        (void)snprintf(value, sizeof value, "value-%032u", i);
        put.key = (ProtobufCBinaryData){strlen(key), (uint8_t *)key};
        put.value = (ProtobufCBinaryData){strlen(value), (uint8_t *)value};
        cmd.op_case = MR__COMMAND__OP_KEY_PUT;
        cmd.key_put = &put;
        apply(&cmd);
    }
    finish();
    return N_PUTS / (now() - start);
}

/* Register instance @i with a TTL check, as an agent does. */
static void register_one(unsigned i, int64_t port)
{
    Mr__Node node = MR__NODE__INIT;
    Mr__Service service = MR__SERVICE__INIT;
    Mr__Service *services[] = {&service};
    Mr__Check check = MR__CHECK__INIT;
    Mr__CheckDefinition definition = MR__CHECK_DEFINITION__INIT;
    Mr__Check *checks[] = {&check};
    Mr__Register reg = MR__REGISTER__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Pair meta = MR__PAIR__INIT;
    Mr__Pair *metas[] = {&meta};
    char node_name[32];
    char address[32];
    char id[64];
    char name[32];
    char check_id[80];
    char *tags[] = {(char *)"v1", (char *)"primary"};

    (void)snprintf(node_name, sizeof node_name, "node-%05u", i % 1000);
    (void)snprintf(address, sizeof address, "10.1.%u.%u", i / 256 % 256,
                   i % 256);
    (void)snprintf(name, sizeof name, "service-%04u", i / PER_SERVICE);
    (void)snprintf(id, sizeof id, "%s-%08x-instance", name, i * 2654435761u);
    (void)snprintf(check_id, sizeof check_id, "service:%s", id);
    node.name = node_name;
    node.address = (char *)"10.0.0.1";
    node.datacenter = (char *)"dc1";
    service.id = id;
    service.name = name;
    service.address = address;
    service.port = port;
    service.tags = tags;
    service.n_tags = 2;
    service.weight_passing = 1;
    service.weight_warning = 1;
    meta.key = (char *)"version";
    meta.value = (char *)"1.2.3";
    service.meta = metas;
    service.n_meta = 1;
    definition.ttl_ns = 30000000000;
    check.check_id = check_id;
    check.name = (char *)"Service check";
    check.status = (char *)"passing";
    check.service_id = id;
    check.type = (char *)"ttl";
    check.definition = &definition;
    reg.node = &node;
    reg.services = services;
    reg.n_services = 1;
    reg.checks = checks;
    reg.n_checks = 1;
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = &reg;
    apply(&cmd);
}

static double registers_per_s(unsigned n, unsigned instances, int64_t port)
{
    double start = now();
    unsigned i;

    for (i = 0; i < n; i++) {
        register_one((unsigned)((uint64_t)i * 7919 % instances), port);
    }
    finish();
    return n / (now() - start);
}

/* ------------------------------------------------------------ leases */

/* The leases there are. */
struct lease_ids {
    struct lease_at {
        uint64_t place;
        uint64_t id;
    } * ids;
    size_t n;
    size_t cap;
};

static bool add_lease(void *arg, const Mr__Lease *lease)
{
    struct lease_ids *list = arg;

    if (list->n == list->cap) {
        list->cap = list->cap == 0 ? 4096 : list->cap * 2;
        list->ids = realloc(list->ids, list->cap * sizeof *list->ids);
        if (list->ids == NULL) {
            exit(1);
        }
    }
    list->ids[list->n++] =
        (struct lease_at){mr_kv_lease_place(lease), lease->id};
    return true;
}

static struct lease_ids all_leases(void)
{
    struct lease_ids list = {NULL, 0, 0};
    struct mr_kv_view *view;

    must(mr_kv_view_begin(kv, &view), "view");
    must(mr_kv_lease_list(view, add_lease, &list), "leases");
    mr_kv_view_end(view);
    return list;
}

static int by_place(const void *a, const void *b)
{
    const struct lease_at *x = a;
    const struct lease_at *y = b;

    return (x->place > y->place) - (x->place < y->place);
}

/* End every lease there is now, ENDED_AT_ONCE in a command, each command in a
 * batch of its own; in the order of their places, as the leader does, or in
 * that of their IDs, which tells nothing. Returns microseconds a lease. */
static double end_all_us(bool is_placed)
{
    struct lease_ids list = all_leases();
    Mr__LeaseEnd__Ended *ended = calloc(ENDED_AT_ONCE, sizeof *ended);
    Mr__LeaseEnd__Ended **items = calloc(ENDED_AT_ONCE, sizeof(void *));
    double start = now();
    size_t at = 0;

    if (ended == NULL || items == NULL) {
        exit(1);
    }
    if (is_placed) {
        qsort(list.ids, list.n, sizeof *list.ids, by_place);
    }
    while (at < list.n) {
        Mr__LeaseEnd end = MR__LEASE_END__INIT;
        Mr__Command cmd = MR__COMMAND__INIT;
        size_t n = 0;

        for (; n < ENDED_AT_ONCE && at < list.n; n++) {
            mr__lease_end__ended__init(&ended[n]);
            ended[n].id = list.ids[at++].id;
            ended[n].silent_ms = 30000;
            items[n] = &ended[n];
        }
        end.leases = items;
        end.n_leases = n;
        end.leader = (char *)"bench";
        cmd.op_case = MR__COMMAND__OP_LEASE_END;
        cmd.lease_end = &end;
        apply(&cmd);
        finish();
    }
    free(items);
    free(ended);
    free(list.ids);
    return (now() - start) * 1e6 / (double)(list.n == 0 ? 1 : list.n);
}

/* Register instance @i in the native registry, as go-micro's nodes are. */
static void register_native(unsigned i)
{
    Mr__Node node = MR__NODE__INIT;
    Mr__Service service = MR__SERVICE__INIT;
    Mr__Service *services[] = {&service};
    Mr__Register reg = MR__REGISTER__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Pair meta = MR__PAIR__INIT;
    Mr__Pair *metas[] = {&meta};
    char node_name[64];
    char address[32];
    char id[80];
    char name[32];
    char *tags[] = {
        (char *)"t-789caa564a2acd2b2928cd492c2a56b2524a2b2d29ca07",
        (char *)"e-789c5c8f410ac2301045f739c5307b69ab82143d8a74d1a4b68124",
        (char *)"v-789c32d433d03300040000ffff02ce00ee"};

    (void)snprintf(name, sizeof name, "go.micro.srv.s%04u", i / PER_SERVICE);
    (void)snprintf(node_name, sizeof node_name, "registry:%s", name);
    (void)snprintf(address, sizeof address, "10.1.%u.%u", i / 256 % 256,
                   i % 256);
    (void)snprintf(id, sizeof id, "%s-%08x-7d1b-4e5f", name, i * 2654435761u);
    node.name = node_name;
    service.id = id;
    service.name = name;
    service.address = address;
    service.port = 8080;
    service.tags = tags;
    service.n_tags = 3;
    service.origin = MR__ORIGIN__REGISTRY;
    service.ttl_ms = 30000;
    service.digest = i + 1;
    meta.key = (char *)"server";
    meta.value = (char *)"grpc";
    service.meta = metas;
    service.n_meta = 1;
    reg.node = &node;
    reg.services = services;
    reg.n_services = 1;
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = &reg;
    apply(&cmd);
}

static double natives_per_s(unsigned instances)
{
    double start = now();
    unsigned i;

    for (i = 0; i < instances; i++) {
        register_native((unsigned)((uint64_t)i * 7919 % instances));
    }
    finish();
    return instances / (now() - start);
}

/* Look-ups of registrations by what a renewal names, each in its own view. */
static double finds_per_s(unsigned instances)
{
    double start = now();
    unsigned i;

    for (i = 0; i < N_READS; i++) {
        unsigned n = (unsigned)((uint64_t)i * 7919 % instances);
        struct mr_kv_lease_ref ref;
        struct mr_kv_view *view;
        char node[64];
        char id[80];

        (void)snprintf(node, sizeof node, "registry:go.micro.srv.s%04u",
                       n / PER_SERVICE);
        (void)snprintf(id, sizeof id, "go.micro.srv.s%04u-%08x-7d1b-4e5f",
                       n / PER_SERVICE, n * 2654435761u);
        must(mr_kv_view_begin(kv, &view), "view");
        must(mr_kv_lease_find(view, MR_KV_SUBJECT_SERVICE, node, id, &ref),
             "find");
        mr_kv_view_end(view);
        if (ref.lease_id == 0) {
            (void)fprintf(stderr, "no lease: %s\n", id);
            exit(1);
        }
    }
    return N_READS / (now() - start);
}

/* Leases that end together: TTL checks (then their critical services have none)
 * and registrations. */
static void bench_leases(unsigned instances)
{
    (void)printf("\"ttl_check_end_us\":%.2f,", end_all_us(true));
    (void)printf("\"register_native\":%.0f,", natives_per_s(instances));
    (void)printf("\"lease_finds\":%.0f,", finds_per_s(instances));
    (void)printf("\"registration_end_us\":%.2f,", end_all_us(true));
    (void)natives_per_s(instances);
    (void)printf("\"registration_end_scattered_us\":%.2f,", end_all_us(false));
}

static void ignore_wake(struct mr_kv_waiter *waiter)
{
    (void)waiter;
}

/* As puts_per_s(), with 10,000 readers parked on other keys. */
static double puts_beside_waiters_per_s(unsigned n_keys)
{
    static struct mr_kv_waiter waiters[10000];
    double rate;
    size_t i;

    for (i = 0; i < sizeof waiters / sizeof waiters[0]; i++) {
        char name[32];
        int len = snprintf(name, sizeof name, "parked/%zu", i);
        struct mr_kv_topic topic = {MR_KV_TOPIC_KEY,
                                    mr_slice(name, (size_t)len)};

        waiters[i].wake = ignore_wake;
        must(mr_kv_wait(kv, &waiters[i], &topic, mr_kv_revision(kv)), "wait");
    }
    rate = puts_per_s(n_keys);
    for (i = 0; i < sizeof waiters / sizeof waiters[0]; i++) {
        (void)mr_kv_wait_cancel(kv, &waiters[i]); /* Parked to the end. */
    }
    return rate;
}

static double views_per_s(void)
{
    double start = now();
    unsigned i;

    for (i = 0; i < N_READS; i++) {
        struct mr_kv_view *view;

        must(mr_kv_view_begin(kv, &view), "view");
        mr_kv_view_end(view);
    }
    return N_READS / (now() - start);
}

static double gets_per_s(unsigned n_keys)
{
    double start = now();
    unsigned i;

    for (i = 0; i < N_READS; i++) {
        struct mr_kv_view *view;
        const Mr__Key *found;
        char key[64];
        int len = snprintf(key, sizeof key, "bench/key/%08u",
                           (unsigned)(i * 40503u) % n_keys);

        must(mr_kv_view_begin(kv, &view), "view");
        must(mr_kv_key_get(view, mr_slice(key, (size_t)len), &found, NULL),
             "get");
        mr_kv_view_end(view);
    }
    return N_READS / (now() - start);
}

static bool count(void *arg, const struct mr_kv_instance *instance)
{
    (void)instance;
    (*(unsigned *)arg)++;
    return true;
}

static double walks_per_s(unsigned instances)
{
    double start = now();
    unsigned seen = 0;
    unsigned i;

    for (i = 0; i < N_WALKS; i++) {
        struct mr_kv_view *view;
        char name[32];

        (void)snprintf(name, sizeof name, "service-%04u",
                       i % (instances / PER_SERVICE));
        must(mr_kv_view_begin(kv, &view), "view");
        must(mr_kv_service_instances(view, name, count, &seen, NULL), "walk");
        mr_kv_view_end(view);
    }
    return seen / (now() - start);
}

static long rss_kb(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    long kb = 0;

    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "VmRSS:", 6) == 0) {
            kb = strtol(line + 6, NULL, 10);
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return kb;
}

int main(int argc, char **argv)
{
    unsigned instances = argc > 2 ? (unsigned)atoi(argv[2]) : 50000;
    struct mr_kv_options o = {.dir = argc > 1 ? argv[1] : "bench-kv",
                              .boot_id = ""};
    struct mr_detail detail = {""};
    struct mr_kv_stats stats;
    double fresh;
    double again;

    if (mr_kv_open(&o, &kv, &detail) != MR_OK) {
        (void)fprintf(stderr, "%s\n", detail.text);
        return 1;
    }
    applied = mr_kv_applied(kv, NULL);
    fresh = registers_per_s(instances, instances, 80);
    (void)printf("{\"register_new\":%.0f,", fresh);
    (void)printf("\"rss_kb\":%ld,", rss_kb());
    mr_kv_stats(kv, &stats);
    (void)printf("\"bytes_used\":%" PRIu64 ",", stats.bytes_used);
    again = registers_per_s(instances, instances, 81);
    (void)printf("\"register_changed\":%.0f,", again);
    (void)printf("\"register_same\":%.0f,",
                 registers_per_s(instances, instances, 81));
    (void)printf("\"put_new\":%.0f,", puts_per_s(100000));
    (void)printf("\"put_changed\":%.0f,", puts_per_s(100000));
    (void)printf("\"put_1000\":%.0f,", puts_per_s(1000));
    (void)printf("\"put_1000_beside_10000_waiters\":%.0f,",
                 puts_beside_waiters_per_s(1000));
    (void)printf("\"views\":%.0f,", views_per_s());
    (void)printf("\"gets\":%.0f,", gets_per_s(100000));
    (void)printf("\"instances_walked\":%.0f,", walks_per_s(instances));
    bench_leases(instances);
    (void)printf("\"rss_end_kb\":%ld}\n", rss_kb());
    mr_buf_deinit(&cmd_buf);
    mr_kv_close(kv);
    return 0;
}
