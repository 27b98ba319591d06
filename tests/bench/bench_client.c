/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libmicroreg against a running cluster: registrations, renewals, and lookups of a
 * service that is not watched (a request each) and of one that is.
 *
 *   bench_client ADDRESSES [SECONDS [THREADS]]
 *
 * Each thread is a client of its own. Prints one line of JSON: calls per second
 * of all threads, and the median and the 99th percentile of one call in
 * microseconds.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client-lib/microreg.h"

#define NODES 10 /* Of the service that is looked up. */
#define SAMPLES_MAX 2000000
#define THREADS_MAX 64
#define TTL_MS 60000
#define NS_PER_S 1000000000.0
#define NS_PER_US 1000.0

struct thread {
    pthread_t id;
    int number;
    struct microreg *client;
    uint32_t *samples; /* Nanoseconds. */
    size_t n;
    size_t total; /* Calls, also those that are no sample any more. */
};

struct bench {
    const char *addresses;
    double seconds;
    int n_threads;
    struct thread threads[THREADS_MAX];
};

typedef int (*call_cb)(struct thread *thread, size_t n,
                       struct microreg_error *error);

static struct bench bench;
static call_cb running;
static atomic_bool is_ending;

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void check(int err, const struct microreg_error *error)
{
    if (err != MICROREG_OK) {
        fprintf(stderr, "bench_client: %s\n", error->text);
        exit(1);
    }
}

/* ------------------------------------------------------------- the calls */

static int put_node(struct microreg *client, const char *name, const char *id,
                    struct microreg_error *error)
{
    const struct microreg_pair metadata[] = {{"protocol", "grpc"},
                                             {"transport", "grpc"}};
    const struct microreg_node node = {id, "10.0.0.1:9090", metadata, 2};
    const struct microreg_service service = {
        .name = name, .version = "latest", .nodes = &node, .n_nodes = 1};

    return microreg_register(client, &service, TTL_MS, 0, error);
}

/* Another node with each call. */
static int call_register(struct thread *thread, size_t n,
                         struct microreg_error *error)
{
    char name[64];
    char id[64];

    snprintf(name, sizeof name, "bench-%zu", n % 100);
    /* Also another one than that of a run before. */
    snprintf(id, sizeof id, "n-%d-%d-%zu", (int)getpid(), thread->number, n);
    return put_node(thread->client, name, id, error);
}

/* The same node with each call. */
static int call_renew(struct thread *thread, size_t n,
                      struct microreg_error *error)
{
    char id[64];

    (void)n;
    snprintf(id, sizeof id, "renewed-%d", thread->number);
    return put_node(thread->client, "bench-renewed", id, error);
}

static int get(struct thread *thread, unsigned flags,
               struct microreg_error *error)
{
    struct microreg_services *found;
    int err = microreg_get_service(thread->client, "bench-found", flags, &found,
                                   error);

    if (err == MICROREG_OK) {
        microreg_services_free(found);
    }
    return err;
}

static int call_get(struct thread *thread, size_t n,
                    struct microreg_error *error)
{
    (void)n;
    return get(thread, 0, error);
}

static int call_get_watched(struct thread *thread, size_t n,
                            struct microreg_error *error)
{
    (void)n;
    return get(thread, MICROREG_WATCHED, error);
}

/* ------------------------------------------------------------- measuring */

static void *run_thread(void *arg)
{
    struct thread *thread = arg;
    struct microreg_error error;

    thread->n = thread->total = 0;
    while (!atomic_load_explicit(&is_ending, memory_order_relaxed)) {
        uint64_t begin = now_ns();

        check(running(thread, thread->total, &error), &error);
        thread->total++;
        if (thread->n < SAMPLES_MAX) {
            thread->samples[thread->n++] = (uint32_t)(now_ns() - begin);
        }
    }
    return NULL;
}

static int compare_samples(const void *a_, const void *b_)
{
    uint32_t a = *(const uint32_t *)a_;
    uint32_t b = *(const uint32_t *)b_;

    return (a > b) - (a < b);
}

static void measure(const char *name, call_cb call, const char *before)
{
    uint64_t begin = now_ns();
    struct timespec wait = {
        (time_t)bench.seconds,
        (long)((bench.seconds - (double)(time_t)bench.seconds) * NS_PER_S)};
    struct thread *first = &bench.threads[0];
    size_t total = 0;
    double seconds;

    running = call;
    atomic_store(&is_ending, false);
    for (int i = 0; i < bench.n_threads; i++) {
        pthread_create(&bench.threads[i].id, NULL, run_thread,
                       &bench.threads[i]);
    }
    nanosleep(&wait, NULL);
    atomic_store(&is_ending, true);
    for (int i = 0; i < bench.n_threads; i++) {
        pthread_join(bench.threads[i].id, NULL);
        total += bench.threads[i].total;
    }
    seconds = (double)(now_ns() - begin) / NS_PER_S;
    qsort(first->samples, first->n, sizeof *first->samples, compare_samples);
    printf("%s\"%s\":{\"per_s\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f}", before,
           name, (double)total / seconds,
           first->samples[first->n / 2] / NS_PER_US,
           first->samples[first->n * 99 / 100] / NS_PER_US);
    fflush(stdout);
}

/* ------------------------------------------------------------- the program */

static void open_all(void)
{
    struct microreg_options options = MICROREG_OPTIONS_INIT;
    struct microreg_error error;

    options.addresses = bench.addresses;
    for (int i = 0; i < bench.n_threads; i++) {
        struct thread *thread = &bench.threads[i];

        thread->number = i;
        thread->samples = malloc(SAMPLES_MAX * sizeof *thread->samples);
        check(microreg_open(&options, &thread->client, &error), &error);
    }
    for (int i = 0; i < NODES; i++) {
        char id[32];

        snprintf(id, sizeof id, "found-%d", i);
        check(put_node(bench.threads[0].client, "bench-found", id, &error),
              &error);
    }
}

/* Follow the service, and wait until its answers come from memory. */
static void follow_all(void)
{
    struct microreg_error error;

    for (int i = 0; i < bench.n_threads; i++) {
        struct thread *thread = &bench.threads[i];
        struct microreg_stats before;
        struct microreg_stats after;

        do {
            microreg_get_stats(thread->client, &before);
            check(get(thread, MICROREG_WATCHED, &error), &error);
            microreg_get_stats(thread->client, &after);
        } while (after.requests != before.requests);
    }
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "bench_client ADDRESSES [SECONDS [THREADS]]\n");
        return 2;
    }
    bench.addresses = argv[1];
    bench.seconds = argc > 2 ? atof(argv[2]) : 3;
    bench.n_threads = argc > 3 ? atoi(argv[3]) : 1;
    if (bench.n_threads < 1 || bench.n_threads > THREADS_MAX) {
        fprintf(stderr, "bench_client: 1 to %d threads\n", THREADS_MAX);
        return 2;
    }
    open_all();
    printf("{\"threads\":%d,", bench.n_threads);
    measure("register", call_register, "");
    measure("renew", call_renew, ",");
    measure("get_service_cold", call_get, ",");
    follow_all();
    measure("get_service_watched", call_get_watched, ",");
    printf("}\n");
    for (int i = 0; i < bench.n_threads; i++) {
        microreg_close(bench.threads[i].client);
        free(bench.threads[i].samples);
    }
    return 0;
}
