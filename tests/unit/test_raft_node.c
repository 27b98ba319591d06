/* SPDX-License-Identifier: Apache-2.0 */
/* raft/node: whole servers on real sockets and disks, all on one loop. */
#include "raft/mr_raft.h"

#include "raft_fixture.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"

#define SERVERS_MAX 5
#define PADDING (200 * 1024) /* Makes a snapshot several blocks long. */
#define WAIT_MS 20000

/* A state machine: how many commands, and a hash over all in order. */
struct machine {
    uint64_t n;
    uint64_t digest;
    uint64_t index;
    uint64_t term;
    uint64_t restored; /* Snapshots read. */
};

struct server {
    struct world *w;
    unsigned number;
    unsigned host; /* Last number of its address. */
    char uuid[MR_UUID_LEN + 1];
    char name[16];
    char host_text[32];
    char dir[128];
    struct mr_raft *raft;
    struct machine m;
    pthread_mutex_t lock; /* Of m: the snapshot thread reads it. */
    unsigned expect;
    const char *datacenter;
    bool is_closed;
};

struct world {
    uv_loop_t loop;
    uv_timer_t timer;
    uint64_t now_ms;
    char dir[64];
    char net[24]; /* "127.x.y" */
    char join_texts[SERVERS_MAX][32];
    const char *join[SERVERS_MAX];
    size_t n;
    struct server s[SERVERS_MAX];
    uint64_t snapshot_bytes;
};

/* ------------------------------------------------------------- machine */

static enum mr_err fsm_begin(void *arg)
{
    struct server *s = arg;

    (void)pthread_mutex_lock(&s->lock);
    return MR_OK;
}

static enum mr_err fsm_apply(void *arg, struct mr_slice cmd,
                             struct mr_raft_proposal *own)
{
    struct server *s = arg;

    (void)own;
    s->m.n++;
    s->m.digest = mr_hash64(cmd, s->m.digest);
    return MR_OK;
}

static enum mr_err fsm_commit(void *arg, uint64_t index, uint64_t term)
{
    struct server *s = arg;

    s->m.index = index;
    s->m.term = term;
    (void)pthread_mutex_unlock(&s->lock);
    return MR_OK;
}

static uint64_t fsm_applied(void *arg, uint64_t *out_term)
{
    struct server *s = arg;

    *out_term = s->m.term;
    return s->m.index;
}

static enum mr_err fsm_write(void *arg,
                             enum mr_err (*write)(void *, struct mr_slice),
                             void *ctx, uint64_t *out_index, uint64_t *out_term)
{
    static const char padding[PADDING];
    struct server *s = arg;
    struct machine m;
    enum mr_err err;

    (void)pthread_mutex_lock(&s->lock);
    m = s->m;
    (void)pthread_mutex_unlock(&s->lock);
    *out_index = m.index;
    *out_term = m.term;
    err = write(ctx, mr_slice(&m, sizeof m));
    return err == MR_OK ? write(ctx, mr_slice(padding, sizeof padding)) : err;
}

static enum mr_err
fsm_read(void *arg, enum mr_err (*read)(void *, void *, size_t, size_t *),
         void *ctx, struct mr_detail *detail)
{
    struct server *s = arg;
    char buf[5000];
    struct machine m;
    size_t total = 0;
    size_t len = 1;

    while (len != 0) {
        enum mr_err err = read(ctx, buf, sizeof buf, &len);

        if (err != MR_OK) {
            return mr_fail(detail, err, "reading the snapshot");
        }
        if (total == 0) {
            memcpy(&m, buf, sizeof m);
        }
        total += len;
    }
    if (total != sizeof m + PADDING) {
        return MR_E_CORRUPT;
    }
    (void)pthread_mutex_lock(&s->lock);
    m.restored = s->m.restored + 1;
    s->m = m;
    (void)pthread_mutex_unlock(&s->lock);
    return MR_OK;
}

static struct machine machine_of(struct server *s)
{
    struct machine m;

    (void)pthread_mutex_lock(&s->lock);
    m = s->m;
    (void)pthread_mutex_unlock(&s->lock);
    return m;
}

/* ------------------------------------------------------------- world */

static void on_fatal(void *arg, enum mr_err err, const char *why)
{
    struct server *s = arg;

    fprintf(stderr, "server %u cannot go on: %s %s\n", s->number,
            mr_err_name(err), why);
    abort();
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer; /* Makes the loop come round. */
}

/* Run the loop until @cond holds. */
#define WAIT_FOR(w, cond)                                                      \
    do {                                                                       \
        uint64_t until_ = mr_now_ms(mr_clock_system()) + WAIT_MS;              \
        while (!(cond)) {                                                      \
            if (mr_now_ms(mr_clock_system()) > until_) {                       \
                fail_msg("waited in vain for %s", #cond);                      \
            }                                                                  \
            (void)uv_run(&(w)->loop, UV_RUN_ONCE);                             \
        }                                                                      \
    } while (0)

static enum mr_err try_start(struct world *w, size_t i,
                             struct mr_detail *detail)
{
    struct server *s = &w->s[i];
    struct mr_raft_options o = {
        .dir = s->dir,
        .node_id = s->uuid,
        .node_name = s->name,
        .datacenter = s->datacenter,
        .bind_host = s->host_text,
        .bind_port = 8300,
        .advertise_host = s->host_text,
        .advertise_port = 8300,
        .bootstrap_expect = s->expect,
        .join = w->join,
        .n_join = w->n,
        .snapshot_bytes = w->snapshot_bytes,
        .trailing_entries = w->snapshot_bytes != 0 ? 10 : 0,
        .clock = mr_clock_system(),
        .random = mr_random_system(),
        .fsm = {s, fsm_begin, fsm_apply, fsm_commit, fsm_applied, fsm_write,
                fsm_read},
        .on_fatal = on_fatal,
        .arg = s,
    };

    memset(&s->m, 0, sizeof s->m); /* It has no disk. */
    (void)snprintf(s->host_text, sizeof s->host_text, "%s.%u", w->net, s->host);
    return mr_raft_open(&w->loop, &o, &s->raft, detail);
}

static void start(struct world *w, size_t i)
{
    struct mr_detail detail = {""};

    if (try_start(w, i, &detail) != MR_OK) {
        fail_msg("server %zu: %s", i, detail.text);
    }
}

static void on_closed(void *arg)
{
    struct server *s = arg;

    s->is_closed = true;
}

static void stop(struct world *w, size_t i)
{
    struct server *s = &w->s[i];

    s->is_closed = false;
    mr_raft_close(s->raft, on_closed, s);
    s->raft = NULL;
    WAIT_FOR(w, s->is_closed);
}

static void world_init(struct world *w, size_t n)
{
    unsigned pid = (unsigned)getpid();

    memset(w, 0, sizeof *w);
    fx_temp_dir(w->dir);
    assert_int_equal(uv_loop_init(&w->loop), 0);
    assert_int_equal(uv_timer_init(&w->loop, &w->timer), 0);
    assert_int_equal(uv_timer_start(&w->timer, on_tick, 10, 10), 0);
    (void)snprintf(w->net, sizeof w->net, "127.%u.%u", 16 + pid / 250 % 200,
                   1 + pid % 250);
    w->n = n;
    for (unsigned i = 0; i < SERVERS_MAX; i++) {
        struct server *s = &w->s[i];

        s->w = w;
        s->number = i;
        s->host = i + 1;
        s->expect = (unsigned)n;
        s->datacenter = "dc1";
        (void)pthread_mutex_init(&s->lock, NULL);
        (void)snprintf(s->uuid, sizeof s->uuid, "11111111-2222-4333-8444-%012u",
                       i);
        (void)snprintf(s->name, sizeof s->name, "n%u", i);
        (void)snprintf(s->dir, sizeof s->dir, "%s/%u", w->dir, i);
        (void)snprintf(w->join_texts[i], sizeof w->join_texts[i], "%s.%u",
                       w->net, s->host);
        w->join[i] = w->join_texts[i];
    }
}

static void world_deinit(struct world *w)
{
    for (size_t i = 0; i < SERVERS_MAX; i++) {
        if (w->s[i].raft != NULL) {
            stop(w, i);
        }
        (void)pthread_mutex_destroy(&w->s[i].lock);
    }
    uv_close((uv_handle_t *)&w->timer, NULL);
    (void)uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    fx_remove_dir(w->dir);
}

static struct mr_raft_status status_of(struct server *s)
{
    struct mr_raft_status st;

    mr_raft_status(s->raft, &st);
    return st;
}

/* The server that leads, or NULL. */
static struct server *leader_of(struct world *w)
{
    for (size_t i = 0; i < SERVERS_MAX; i++) {
        if (w->s[i].raft != NULL && status_of(&w->s[i]).is_leader) {
            return &w->s[i];
        }
    }
    return NULL;
}

static struct server *follower_of(struct world *w)
{
    for (size_t i = 0; i < SERVERS_MAX; i++) {
        if (w->s[i].raft != NULL && !status_of(&w->s[i]).is_leader) {
            return &w->s[i];
        }
    }
    return NULL;
}

/* Whether every server runs, follows a leader and counts @n voters. */
static bool is_settled(struct world *w, size_t n)
{
    size_t n_up = 0;

    for (size_t i = 0; i < SERVERS_MAX; i++) {
        struct mr_raft_status st;

        if (w->s[i].raft == NULL) {
            continue;
        }
        st = status_of(&w->s[i]);
        if (!st.has_leader || st.n_voters != n || st.n_peers != n ||
            !st.is_voter) {
            return false;
        }
        n_up++;
    }
    return n_up != 0;
}

struct write {
    struct mr_raft_proposal p;
    _Atomic int err; /* -1: not yet. */
    char text[64];
};

static void write_done(struct mr_raft_proposal *p, enum mr_err err)
{
    struct write *wr = mr_container_of(p, struct write, p);

    wr->err = (int)err;
}

/* Propose @text on @s and wait for it. */
static enum mr_err put(struct world *w, struct server *s, const char *text)
{
    struct write wr = {.err = -1};

    wr.p.cmd = mr_slice_str(text);
    wr.p.done = write_done;
    assert_int_equal(mr_raft_propose(s->raft, &wr.p), MR_OK);
    WAIT_FOR(w, wr.err != -1);
    return (enum mr_err)wr.err;
}

/* Put until it is certain. */
static void must_put(struct world *w, struct server *s, const char *text)
{
    enum mr_err err = put(w, s, text);

    while (err == MR_E_NOLEADER || err == MR_E_UNKNOWN || err == MR_E_BUSY) {
        err = put(w, s, text);
    }
    assert_int_equal(err, MR_OK);
}

/* Whether all that run hold the same. */
static bool is_same_everywhere(struct world *w)
{
    struct machine first = {0};
    bool has_first = false;

    for (size_t i = 0; i < SERVERS_MAX; i++) {
        struct machine m;

        if (w->s[i].raft == NULL) {
            continue;
        }
        m = machine_of(&w->s[i]);
        if (!has_first) {
            first = m;
            has_first = true;
        } else if (m.n != first.n || m.digest != first.digest) {
            return false;
        }
    }
    return has_first;
}

struct change {
    bool is_done;
    enum mr_err err;
};

static void change_done(void *arg, enum mr_err err, const char *detail)
{
    struct change *c = arg;

    (void)detail;
    c->err = err;
    c->is_done = true;
}

static void start_all(struct world *w, size_t n)
{
    world_init(w, n);
    for (size_t i = 0; i < n; i++) {
        start(w, i);
    }
    WAIT_FOR(w, is_settled(w, n));
}

/* ------------------------------------------------------------- success */

/* With bootstrap_expect 1 a server begins alone and writes at once. */
static void single_server_writes(void **state)
{
    struct world w;

    (void)state;
    start_all(&w, 1);
    must_put(&w, &w.s[0], "a");
    assert_int_equal(machine_of(&w.s[0]).n, 1);
    assert_true(status_of(&w.s[0]).cluster_id != 0);
    world_deinit(&w);
}

/* A single server finds its log again. */
static void single_server_restarts(void **state)
{
    struct world w;
    struct machine before;
    uint64_t cluster_id;

    (void)state;
    start_all(&w, 1);
    must_put(&w, &w.s[0], "a");
    must_put(&w, &w.s[0], "b");
    before = machine_of(&w.s[0]);
    cluster_id = status_of(&w.s[0]).cluster_id;
    stop(&w, 0);
    start(&w, 0);
    WAIT_FOR(&w, machine_of(&w.s[0]).n == 2);
    assert_int_equal(machine_of(&w.s[0]).digest, before.digest);
    assert_int_equal(status_of(&w.s[0]).cluster_id, cluster_id);
    world_deinit(&w);
}

/* Three servers find each other, begin one cluster, and write from each. */
static void three_servers_begin_one_cluster(void **state)
{
    struct world w;
    struct mr_raft_peer peers[4];

    (void)state;
    start_all(&w, 3);
    for (unsigned i = 0; i < 30; i++) {
        must_put(&w, &w.s[i % 3], "x");
    }
    WAIT_FOR(&w, is_same_everywhere(&w) && machine_of(&w.s[0]).n == 30);
    assert_int_equal(status_of(&w.s[0]).cluster_id,
                     status_of(&w.s[1]).cluster_id);
    assert_int_equal(status_of(&w.s[0]).cluster_id,
                     status_of(&w.s[2]).cluster_id);
    WAIT_FOR(&w, mr_raft_peers(w.s[0].raft, peers, 4) == 3 &&
                     peers[0].is_connected && peers[1].is_connected &&
                     peers[2].is_connected);
    assert_string_equal(peers[0].node_name, "n0");
    assert_string_equal(peers[2].node_id, w.s[2].uuid);
    world_deinit(&w);
}

/* The leader goes; the others elect one, and it catches up when it is back. */
static void leader_goes_and_comes_back(void **state)
{
    struct world w;
    struct server *old;
    size_t i;

    (void)state;
    start_all(&w, 3);
    must_put(&w, &w.s[0], "one");
    old = leader_of(&w);
    i = old->number;
    stop(&w, i);
    WAIT_FOR(&w, leader_of(&w) != NULL);
    must_put(&w, &w.s[(i + 1) % 3], "two");
    must_put(&w, &w.s[(i + 2) % 3], "three");
    start(&w, i);
    WAIT_FOR(&w, is_same_everywhere(&w) && machine_of(old).n >= 3);
    world_deinit(&w);
}

/* All stop and start again, and nothing is lost. */
static void cluster_restarts(void **state)
{
    struct world w;
    uint64_t digest;

    (void)state;
    start_all(&w, 3);
    for (unsigned i = 0; i < 10; i++) {
        must_put(&w, &w.s[0], "x");
    }
    digest = machine_of(&w.s[0]).digest;
    for (size_t i = 0; i < 3; i++) {
        stop(&w, i);
    }
    for (size_t i = 0; i < 3; i++) {
        start(&w, i);
    }
    WAIT_FOR(&w, is_same_everywhere(&w) && machine_of(&w.s[0]).n == 10);
    assert_int_equal(machine_of(&w.s[0]).digest, digest);
    must_put(&w, &w.s[1], "y");
    world_deinit(&w);
}

/* A server that was away for longer than the log reaches gets a snapshot. */
static void lagging_server_gets_a_snapshot(void **state)
{
    struct world w;
    struct mr_raft_stats stats;
    size_t away;

    (void)state;
    world_init(&w, 3);
    w.snapshot_bytes = 2000;
    for (size_t i = 0; i < 3; i++) {
        start(&w, i);
    }
    WAIT_FOR(&w, is_settled(&w, 3));
    must_put(&w, &w.s[0], "x");
    away = follower_of(&w)->number;
    stop(&w, away);
    for (unsigned i = 0; i < 300; i++) {
        must_put(&w,
                 leader_of(&w) != NULL ? leader_of(&w) : &w.s[(away + 1) % 3],
                 "some command of forty bytes, more or less");
    }
    WAIT_FOR(&w, leader_of(&w) != NULL &&
                     status_of(leader_of(&w)).snapshot_index > 20);
    start(&w, away);
    WAIT_FOR(&w, is_same_everywhere(&w));
    assert_true(machine_of(&w.s[away]).restored > 0);
    mr_raft_stats(w.s[away].raft, &stats);
    assert_int_equal(stats.snapshots_installed, 1);
    stop(&w, away);
    start(&w, away);
    WAIT_FOR(&w, is_same_everywhere(&w));
    must_put(&w, &w.s[away], "after");
    world_deinit(&w);
}

/* A server whose folder was lost comes back under a new ID; the old one is
 * removed and the cluster has three voters again. */
static void wiped_server_is_replaced(void **state)
{
    struct world w;
    uint64_t old_id;
    size_t i;

    (void)state;
    start_all(&w, 3);
    must_put(&w, &w.s[0], "x");
    i = follower_of(&w)->number;
    old_id = status_of(&w.s[i]).id;
    stop(&w, i);
    fx_remove_dir(w.s[i].dir);
    start(&w, i);
    WAIT_FOR(&w, is_settled(&w, 3));
    assert_true(status_of(&w.s[i]).id != old_id);
    must_put(&w, &w.s[i], "y");
    WAIT_FOR(&w, is_same_everywhere(&w));
    world_deinit(&w);
}

/* A server that restarts under another address is found there. */
static void moved_server_is_found(void **state)
{
    struct world w;
    size_t i;

    (void)state;
    start_all(&w, 3);
    i = follower_of(&w)->number;
    stop(&w, i);
    w.s[i].host = 77;
    start(&w, i);
    must_put(&w, &w.s[i], "x");
    WAIT_FOR(&w, is_same_everywhere(&w));
    world_deinit(&w);
}

/* All move at once; the join addresses that still work bring them together. */
static void cluster_survives_moving_altogether(void **state)
{
    struct world w;

    (void)state;
    start_all(&w, 3);
    must_put(&w, &w.s[0], "x");
    for (size_t i = 0; i < 3; i++) {
        stop(&w, i);
    }
    for (size_t i = 0; i < 3; i++) {
        w.s[i].host = 100 + (unsigned)i;
        (void)snprintf(w.join_texts[i], sizeof w.join_texts[i], "%s.%u", w.net,
                       w.s[i].host);
    }
    for (size_t i = 0; i < 3; i++) {
        start(&w, i);
    }
    must_put(&w, &w.s[2], "y");
    WAIT_FOR(&w, is_same_everywhere(&w) && machine_of(&w.s[0]).n >= 2);
    world_deinit(&w);
}

/* A server added later becomes a voter, and can be removed. */
static void server_is_added_and_removed(void **state)
{
    struct world w;
    struct change c = {0};

    (void)state;
    start_all(&w, 3);
    must_put(&w, &w.s[0], "x");
    w.s[3].expect = 0;
    start(&w, 3);
    WAIT_FOR(&w, is_settled(&w, 4));
    must_put(&w, &w.s[3], "y");
    mr_raft_remove_peer(w.s[0].raft, status_of(&w.s[3]).id, change_done, &c);
    WAIT_FOR(&w, c.is_done);
    assert_int_equal(c.err, MR_OK);
    stop(&w, 3);
    WAIT_FOR(&w, is_settled(&w, 3));
    world_deinit(&w);
}

/* A server leaves in order, the leader as well. */
static void leader_leaves_in_order(void **state)
{
    struct world w;
    struct change c = {0};
    size_t i;

    (void)state;
    start_all(&w, 3);
    must_put(&w, &w.s[0], "x");
    i = leader_of(&w)->number;
    mr_raft_leave(w.s[i].raft, change_done, &c);
    WAIT_FOR(&w, c.is_done);
    assert_int_equal(c.err, MR_OK);
    stop(&w, i);
    WAIT_FOR(&w, is_settled(&w, 2));
    must_put(&w, &w.s[(i + 1) % 3], "y");
    world_deinit(&w);
}

/* Who left comes back when it is started again, with the data it had. */
static void server_that_left_comes_back(void **state)
{
    struct world w;
    struct change c = {0};
    size_t i;

    (void)state;
    start_all(&w, 3);
    must_put(&w, &w.s[0], "x");
    i = follower_of(&w)->number;
    mr_raft_leave(w.s[i].raft, change_done, &c);
    WAIT_FOR(&w, c.is_done);
    assert_int_equal(c.err, MR_OK);
    stop(&w, i);
    WAIT_FOR(&w, is_settled(&w, 2));
    start(&w, i);
    WAIT_FOR(&w, is_settled(&w, 3));
    must_put(&w, &w.s[i], "y");
    WAIT_FOR(&w, is_same_everywhere(&w));
    world_deinit(&w);
}

/* So does a dead one that was removed meanwhile. */
static void removed_server_comes_back_by_a_restart(void **state)
{
    struct world w;
    struct change c = {0};
    uint64_t id;
    size_t i;

    (void)state;
    start_all(&w, 3);
    must_put(&w, &w.s[0], "x");
    i = follower_of(&w)->number;
    id = status_of(&w.s[i]).id;
    stop(&w, i);
    mr_raft_remove_peer(leader_of(&w)->raft, id, change_done, &c);
    WAIT_FOR(&w, c.is_done);
    assert_int_equal(c.err, MR_OK);
    start(&w, i);
    WAIT_FOR(&w, is_settled(&w, 3));
    must_put(&w, &w.s[i], "y");
    WAIT_FOR(&w, is_same_everywhere(&w));
    world_deinit(&w);
}

/* Two of three are lost for ever: the third is made a cluster of its own, keeps
 * its data, and an old member is not let in. */
static void lost_quorum_is_recovered(void **state)
{
    struct world w;
    struct mr_raft_stats stats;
    char address[64];

    (void)state;
    start_all(&w, 3);
    must_put(&w, &w.s[0], "x");
    WAIT_FOR(&w, is_same_everywhere(&w));
    for (size_t i = 0; i < 3; i++) {
        stop(&w, i);
    }
    (void)snprintf(address, sizeof address, "%s:8300", w.join_texts[0]);
    assert_int_equal(mr_raft_recover(w.s[0].dir, w.s[0].uuid, address, NULL),
                     MR_OK);
    start(&w, 0);
    WAIT_FOR(&w, is_settled(&w, 1));
    must_put(&w, &w.s[0], "y");
    assert_int_equal(machine_of(&w.s[0]).n, 2);
    start(&w, 1);
    do {
        (void)uv_run(&w.loop, UV_RUN_ONCE);
        mr_raft_stats(w.s[0].raft, &stats);
    } while (stats.refused_peers == 0);
    assert_false(status_of(&w.s[1]).has_leader);
    world_deinit(&w);
}

/* ------------------------------------------------------------- failure */

/* A second process cannot use the folder, nor another server. */
static void folder_belongs_to_one_server(void **state)
{
    struct world w;
    struct mr_detail detail;

    (void)state;
    start_all(&w, 1);
    memcpy(w.s[1].dir, w.s[0].dir, sizeof w.s[0].dir);
    assert_int_equal(try_start(&w, 1, &detail), MR_E_INUSE);
    stop(&w, 0);
    assert_int_equal(try_start(&w, 1, &detail), MR_E_FOREIGN);
    world_deinit(&w);
}

/* Two servers on one address: the second says so. */
static void address_in_use_is_told(void **state)
{
    struct world w;
    struct mr_detail detail;

    (void)state;
    start_all(&w, 1);
    w.s[1].host = 1;
    assert_int_equal(try_start(&w, 1, &detail), MR_E_INUSE);
    assert_non_null(strstr(detail.text, "cannot listen"));
    world_deinit(&w);
}

/* A server of another datacenter is refused. */
static void other_datacenter_is_refused(void **state)
{
    struct world w;
    struct mr_raft_stats stats;

    (void)state;
    world_init(&w, 1);
    w.s[1].datacenter = "dc2";
    w.s[1].expect = 0;
    start(&w, 0);
    start(&w, 1);
    do {
        (void)uv_run(&w.loop, UV_RUN_ONCE);
        mr_raft_stats(w.s[0].raft, &stats);
    } while (stats.refused_peers == 0);
    assert_int_equal(status_of(&w.s[1]).cluster_id, 0);
    world_deinit(&w);
}

/* Open proposals end when the server closes. */
static void closing_ends_proposals(void **state)
{
    struct world w;
    struct write wr = {.err = -1};

    (void)state;
    world_init(&w, 3);
    start(&w, 0);
    wr.p.cmd = mr_slice_str("x");
    wr.p.done = write_done;
    assert_int_equal(mr_raft_propose(w.s[0].raft, &wr.p), MR_OK);
    (void)uv_run(&w.loop, UV_RUN_ONCE);
    stop(&w, 0);
    assert_int_equal(wr.err, MR_E_CLOSED);
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single_server_writes),
        cmocka_unit_test(single_server_restarts),
        cmocka_unit_test(three_servers_begin_one_cluster),
        cmocka_unit_test(leader_goes_and_comes_back),
        cmocka_unit_test(cluster_restarts),
        cmocka_unit_test(lagging_server_gets_a_snapshot),
        cmocka_unit_test(wiped_server_is_replaced),
        cmocka_unit_test(moved_server_is_found),
        cmocka_unit_test(cluster_survives_moving_altogether),
        cmocka_unit_test(server_is_added_and_removed),
        cmocka_unit_test(leader_leaves_in_order),
        cmocka_unit_test(server_that_left_comes_back),
        cmocka_unit_test(removed_server_comes_back_by_a_restart),
        cmocka_unit_test(lost_quorum_is_recovered),
        cmocka_unit_test(folder_belongs_to_one_server),
        cmocka_unit_test(address_in_use_is_told),
        cmocka_unit_test(other_datacenter_is_refused),
        cmocka_unit_test(closing_ends_proposals),
    };

    mr_log_set_level(getenv("VERBOSE") != NULL ? MR_LOG_DEBUG : MR_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
