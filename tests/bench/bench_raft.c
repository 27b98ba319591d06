/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes through raft alone: N servers in this process, each with a loop and a
 * thread of its own, on loopback addresses, with a state machine that counts.
 *
 *     bench_raft [servers 3] [writers 64] [seconds 5] [bytes 256] [dir]
 *
 * Prints one JSON line.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <uv.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "raft/mr_raft.h"

#define SERVERS_MAX 5
#define WRITERS_MAX 4096

struct server {
    uv_loop_t loop;
    uv_async_t stop;
    pthread_t thread;
    struct mr_raft *raft;
    _Atomic uint64_t applied;
    uint64_t term;
    uint64_t n;
    bool is_stopped;
};

struct writer {
    struct mr_raft_proposal p;
    uint64_t since_ns;
};

static struct server servers[SERVERS_MAX];
static struct writer writers[WRITERS_MAX];
static struct mr_raft *leader;
static _Atomic uint64_t n_done;
static _Atomic uint64_t n_failed;
static _Atomic uint64_t sum_ns;
static _Atomic uint64_t max_ns;
static _Atomic bool is_over;

static enum mr_err fsm_begin(void *arg)
{
    (void)arg;
    return MR_OK;
}

static enum mr_err fsm_apply(void *arg, struct mr_slice cmd,
                             struct mr_raft_proposal *own)
{
    struct server *s = arg;

    (void)cmd;
    (void)own;
    s->n++;
    return MR_OK;
}

static enum mr_err fsm_commit(void *arg, uint64_t index, uint64_t term)
{
    struct server *s = arg;

    s->term = term;
    atomic_store(&s->applied, index);
    return MR_OK;
}

static uint64_t fsm_applied(void *arg, uint64_t *out_term)
{
    (void)arg;
    *out_term = 0;
    return 0;
}

static enum mr_err fsm_write(void *arg,
                             enum mr_err (*write)(void *, struct mr_slice),
                             void *ctx, uint64_t *out_index, uint64_t *out_term)
{
    struct server *s = arg;

    *out_index = atomic_load(&s->applied);
    *out_term = s->term;
    return write(ctx, mr_slice("state", 5));
}

static enum mr_err
fsm_read(void *arg, enum mr_err (*read)(void *, void *, size_t, size_t *),
         void *ctx, struct mr_detail *detail)
{
    char buf[64];
    size_t len;
    enum mr_err err;

    (void)arg;
    (void)detail;
    do {
        err = read(ctx, buf, sizeof buf, &len);
    } while (err == MR_OK && len != 0);
    return err;
}

static void on_fatal(void *arg, enum mr_err err, const char *why)
{
    (void)arg;
    fprintf(stderr, "fatal: %s: %s\n", mr_err_name(err), why);
    abort();
}

static void closed(void *arg)
{
    struct server *s = arg;

    uv_close((uv_handle_t *)&s->stop, NULL);
}

static void on_stop(uv_async_t *a)
{
    struct server *s = a->data;

    mr_raft_close(s->raft, closed, s);
}

static void *run(void *arg)
{
    struct server *s = arg;

    uv_run(&s->loop, UV_RUN_DEFAULT);
    return NULL;
}

static void submit(struct writer *w);

static void done(struct mr_raft_proposal *p, enum mr_err err)
{
    struct writer *w = mr_container_of(p, struct writer, p);
    uint64_t took = uv_hrtime() - w->since_ns;

    if (err == MR_OK) {
        atomic_fetch_add(&n_done, 1);
        atomic_fetch_add(&sum_ns, took);
        if (took > atomic_load(&max_ns)) {
            atomic_store(&max_ns, took);
        }
    } else {
        atomic_fetch_add(&n_failed, 1);
    }
    if (!atomic_load(&is_over)) {
        submit(w);
    }
}

static void submit(struct writer *w)
{
    w->since_ns = uv_hrtime();
    if (mr_raft_propose(leader, &w->p) != MR_OK) {
        atomic_fetch_add(&n_failed, 1);
    }
}

static double cpu_s(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv)
{
    unsigned n = argc > 1 ? (unsigned)atoi(argv[1]) : 3;
    unsigned n_writers = argc > 2 ? (unsigned)atoi(argv[2]) : 64;
    unsigned seconds = argc > 3 ? (unsigned)atoi(argv[3]) : 5;
    size_t bytes = argc > 4 ? (size_t)atoi(argv[4]) : 256;
    char dir[256];
    char dirs[SERVERS_MAX][300];
    char uuid[SERVERS_MAX][MR_UUID_LEN + 1];
    char names[SERVERS_MAX][8];
    char hosts[SERVERS_MAX][32];
    const char *join[SERVERS_MAX];
    char *payload = calloc(1, bytes + 1);

    snprintf(dir, sizeof dir, "%s",
             argc > 5 ? argv[5] : "/tmp/bench_raft.XXXXXX");
    if (argc <= 5 && mkdtemp(dir) == NULL) {
        return 1;
    }
    mr_log_set_level(getenv("DEBUG") ? MR_LOG_DEBUG : MR_LOG_WARN);
    for (unsigned i = 0; i < n; i++) {
        snprintf(hosts[i], sizeof hosts[i], "127.9.%u.%u",
                 (unsigned)getpid() % 250, i + 1);
        join[i] = hosts[i];
    }
    for (unsigned i = 0; i < n; i++) {
        struct server *s = &servers[i];
        struct mr_detail detail = {""};
        snprintf(dirs[i], sizeof dirs[i], "%s/%u", dir, i);
        mkdir(dir, 0700);
        snprintf(names[i], sizeof names[i], "n%u", i);
        snprintf(uuid[i], sizeof uuid[i], "00000000-0000-4000-8000-%012u", i);
        uv_loop_init(&s->loop);
        uv_async_init(&s->loop, &s->stop, on_stop);
        s->stop.data = s;
        struct mr_raft_options o = {
            .dir = dirs[i],
            .node_id = uuid[i],
            .node_name = names[i],
            .datacenter = "dc1",
            .bind_host = hosts[i],
            .bind_port = 8300,
            .advertise_host = hosts[i],
            .advertise_port = 8300,
            .bootstrap_expect = n,
            .join = join,
            .n_join = n,
            .clock = mr_clock_system(),
            .random = mr_random_system(),
            .fsm = {s, fsm_begin, fsm_apply, fsm_commit, fsm_applied, fsm_write,
                    fsm_read},
            .on_fatal = on_fatal,
        };
        enum mr_err err = mr_raft_open(&s->loop, &o, &s->raft, &detail);
        if (err != MR_OK) {
            fprintf(stderr, "%s: %s\n", mr_err_name(err), detail.text);
            return 1;
        }
        pthread_create(&s->thread, NULL, run, s);
    }
    uint64_t t0 = uv_hrtime();
    struct mr_raft_status st;
    while (leader == NULL) {
        for (unsigned i = 0; i < n; i++) {
            mr_raft_status(servers[i].raft, &st);
            if (st.is_leader) {
                leader = servers[i].raft;
            }
        }
        usleep(1000);
        if (uv_hrtime() - t0 > 20000000000ull) {
            fprintf(stderr, "no leader\n");
            return 1;
        }
    }
    fprintf(stderr, "leader after %" PRIu64 " ms\n",
            (uv_hrtime() - t0) / 1000000);
    if (getenv("FOLLOWER")) {
        for (unsigned i = 0; i < n; i++) {
            if (servers[i].raft != leader) {
                leader = servers[i].raft;
                break;
            }
        }
    }
    usleep(200000);
    t0 = uv_hrtime();
    double cpu0 = cpu_s();
    for (unsigned i = 0; i < n_writers; i++) {
        writers[i].p.cmd = mr_slice(payload, bytes);
        writers[i].p.done = done;
        submit(&writers[i]);
    }
    sleep(seconds);
    double took = (double)(uv_hrtime() - t0) / 1e9;
    double cpu = cpu_s() - cpu0;
    uint64_t total = atomic_load(&n_done);
    struct mr_raft_stats stats;
    mr_raft_stats(leader, &stats);
    printf("{\"servers\":%u,\"writers\":%u,\"bytes\":%zu,\"writes_per_s\":%.0f,"
           "\"mean_ms\":%.3f,\"max_ms\":%.1f,\"failed\":%" PRIu64
           ",\"syncs_per_s\":%.0f,\"cpu_us_per_write\":%.1f}\n",
           n, n_writers, bytes, (double)total / took,
           (double)atomic_load(&sum_ns) / 1e6 / (double)(total ? total : 1),
           (double)atomic_load(&max_ns) / 1e6, atomic_load(&n_failed),
           (double)stats.log_syncs / took,
           cpu * 1e6 / (double)(total ? total : 1));
    atomic_store(&is_over, true);
    usleep(300000);
    for (unsigned i = 0; i < n; i++) {
        uv_async_send(&servers[i].stop);
        pthread_join(servers[i].thread, NULL);
        uv_loop_close(&servers[i].loop);
    }
    free(payload);
    return 0;
}
