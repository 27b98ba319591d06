/* SPDX-License-Identifier: Apache-2.0 */
/* A server: the real driver, and the threads around it in virtual time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

/* ------------------------------------------------------------- posting */

struct post {
    struct sim_server *server;
    uint64_t generation;
    void (*fn)(struct sim_server *s, void *arg);
    void *arg;
    void (*free_fn)(void *arg);
};

static void report_applied(struct sim_server *s);

static void post_fire(struct sim *sim, void *arg)
{
    struct post *p = arg;
    struct sim_server *s = p->server;

    if (s->generation == p->generation && s->is_up &&
        sim->now < s->paused_until) {
        sim_at(sim, s->paused_until, post_fire, p);
        return;
    }
    if (s->generation == p->generation && s->is_up && !sim->failed) {
        driver_tick(s->driver, sim->now);
        p->fn(s, p->arg);
        if (s->is_up) {
            driver_flush(s->driver);
            sim_oracle_watch(s);
            report_applied(s);
        }
    }
    if (p->free_fn != NULL) {
        p->free_fn(p->arg);
    }
    free(p);
}

void sim_post(struct sim_server *s, uint64_t when,
              void (*fn)(struct sim_server *s, void *arg), void *arg,
              void (*free_fn)(void *arg))
{
    struct post *p = calloc(1, sizeof *p);

    mr_assert(p != NULL);
    *p = (struct post){s, s->generation, fn, arg, free_fn};
    sim_at(s->sim, when, post_fire, p);
}

/* A thread of the process at work: like a post, without the core's round. */
struct job {
    struct sim_server *server;
    uint64_t generation;
    void (*fn)(struct sim_server *s, void *arg);
    void *arg;
};

static void job_fire(struct sim *sim, void *arg)
{
    struct job *j = arg;
    struct sim_server *s = j->server;

    if (s->generation == j->generation && s->is_up) {
        if (sim->now < s->paused_until) {
            sim_at(sim, s->paused_until, job_fire, j);
            return;
        }
        j->fn(s, j->arg);
    } else if (j->arg != NULL) {
        free(j->arg);
    }
    free(j);
}

/* @arg (malloc'd or NULL) is freed by @fn, or here when it does not run. */
static void job_at(struct sim_server *s, uint64_t when,
                   void (*fn)(struct sim_server *s, void *arg), void *arg)
{
    struct job *j = calloc(1, sizeof *j);

    mr_assert(j != NULL);
    *j = (struct job){s, s->generation, fn, arg};
    sim_at(s->sim, when, job_fire, j);
}

static uint64_t *boxed(uint64_t n)
{
    uint64_t *box = malloc(sizeof *box);

    mr_assert(box != NULL);
    *box = n;
    return box;
}

/* ------------------------------------------------------------- timer */

static void nothing(struct sim_server *s, void *arg)
{
    (void)s;
    (void)arg;
}

static void timer_fires(struct sim_server *s, void *arg)
{
    uint64_t at = *(uint64_t *)arg;

    free(arg);
    if (at == s->timer_ms) {
        sim_post(s, s->sim->now, nothing, NULL, NULL);
    }
}

static void io_set_timer(void *arg, uint64_t deadline_ms)
{
    struct sim_server *s = arg;

    s->timer_ms = deadline_ms;
    job_at(s, deadline_ms, timer_fires, boxed(deadline_ms));
}

/* ------------------------------------------------------------- log thread */

static void log_reported(struct sim_server *s, void *arg)
{
    driver_log_done(s->driver, *(uint64_t *)arg, MR_OK);
}

static void write_happens(struct sim_server *s, void *arg)
{
    struct mr_list *at;
    uint64_t ticket = 0;

    (void)arg;
    if (s->sim->now < s->slow_until) {
        job_at(s, s->slow_until, write_happens, NULL);
        return;
    }
    /* Everything whose time has come: a group commit. */
    while (!mr_list_empty(&s->writes)) {
        struct sim_write *w =
            mr_container_of(s->writes.next, struct sim_write, link);
        if (w->done_ms > s->sim->now) {
            break;
        }
        at = mr_list_pop(&s->writes);
        w = mr_container_of(at, struct sim_write, link);
        if (!sim_disk_write(&s->disk, &w->w)) {
            sim_fail(s->sim, "server %zu: a log write does not fit", s->slot);
        }
        ticket = w->w.ticket;
        sim_write_free(w);
    }
    if (ticket != 0) {
        sim_post(s, s->sim->now + sim_random(s->sim, 2), log_reported,
                 boxed(ticket), free);
    }
}

static uint64_t disk_delay(struct sim_server *s)
{
    struct sim *sim = s->sim;

    return sim_chance(sim, 20) ? sim_random(sim, 150)
                               : sim_random(sim, sim->disk_ms);
}

static void io_log_write(void *arg, const struct driver_log_write *w)
{
    struct sim_server *s = arg;
    struct sim_write *write = sim_write_new(w);
    uint64_t when = s->sim->now + disk_delay(s);

    if (w->has_snapshot) {
        driver_blob_unref(s->force_conf);
        s->force_conf = driver_blob_ref(write->conf);
        s->force = w->snapshot;
        s->force.conf.data = s->force_conf->data;
        s->force_file = w->file;
    }
    s->write_ms = when > s->write_ms ? when : s->write_ms;
    write->done_ms = s->write_ms;
    mr_list_push(&s->writes, &write->link);
    job_at(s, write->done_ms, write_happens, NULL);
}

struct load {
    uint64_t token;
    uint64_t first;
    uint64_t last;
    size_t max_bytes;
    struct driver_entry *entries;
    size_t n;
};

static void load_free(void *arg)
{
    struct load *l = arg;

    for (size_t i = 0; i < l->n; i++) {
        driver_blob_unref(l->entries[i].blob);
    }
    free(l->entries);
    free(l);
}

static void load_reported(struct sim_server *s, void *arg)
{
    struct load *l = arg;
    size_t n = l->n;

    l->n = 0; /* The references are the driver's now. */
    driver_log_loaded(s->driver, l->token, n > 0 ? MR_OK : MR_E_NOTFOUND,
                      l->first, l->entries, n);
}

static void load_happens(struct sim_server *s, void *arg)
{
    struct load *l = arg;
    struct sim_disk *disk = &s->disk;
    size_t bytes = 0;

    if (s->sim->now < s->write_ms || s->sim->now < s->slow_until) {
        job_at(s,
               s->write_ms > s->slow_until ? s->write_ms + 1
                                           : s->slow_until + 1,
               load_happens, l);
        return;
    }
    l->entries = calloc((size_t)(l->last - l->first + 1), sizeof *l->entries);
    mr_assert(l->entries != NULL);
    for (uint64_t i = l->first;
         i <= l->last && i >= disk->first && i < disk->first + disk->n; i++) {
        if (l->n > 0 && bytes > l->max_bytes) {
            break;
        }
        l->entries[l->n] = disk->entries[i - disk->first];
        driver_blob_ref(l->entries[l->n].blob);
        bytes += l->entries[l->n++].data.len;
    }
    sim_post(s, s->sim->now + sim_random(s->sim, 3), load_reported, l,
             load_free);
}

static void io_log_load(void *arg, uint64_t token, uint64_t first,
                        uint64_t last, size_t max_bytes)
{
    struct sim_server *s = arg;
    struct load *l = calloc(1, sizeof *l);

    mr_assert(l != NULL);
    l->token = token;
    l->first = first;
    l->last = last;
    l->max_bytes = max_bytes;
    if (first > last) {
        sim_fail(s->sim, "server %zu: loads nothing", s->slot);
        l->last = first;
    }
    job_at(s, s->sim->now + sim_random(s->sim, 4), load_happens, l);
}

/* ------------------------------------------------------------- apply thread */

static void applied_reported(struct sim_server *s, void *arg)
{
    (void)arg;
    driver_applied(s->driver, s->disk.fsm.index);
}

/* What was applied is told at once when the driver waits for it; else it comes
 * along later. */
static void report_applied(struct sim_server *s)
{
    if (s->said_applied < s->disk.fsm.index &&
        driver_wants_applied(s->driver)) {
        s->said_applied = s->disk.fsm.index;
        sim_post(s, s->sim->now + sim_random(s->sim, 2), applied_reported, NULL,
                 NULL);
    }
}

static bool feed_store(struct sim_kv *kv, const struct driver_batch *b)
{
    enum mr_err err = sim_kv_begin(kv);

    for (size_t i = 0; err == MR_OK && i < b->n_commands; i++) {
        err = sim_kv_apply(kv, b->commands[i].data);
    }
    return err == MR_OK &&
           sim_kv_commit(kv, b->last_index, b->last_term) == MR_OK;
}

static void batch_happens(struct sim_server *s, void *arg)
{
    struct driver_batch *b = s->batch_head; /* In order, whatever the job. */

    (void)arg;
    if (b->first_index != s->disk.fsm.index + 1) {
        sim_fail(s->sim, "server %zu: applies %llu after %llu", s->slot,
                 (unsigned long long)b->first_index,
                 (unsigned long long)s->disk.fsm.index);
    }
    for (size_t i = 0; i < b->n_commands; i++) {
        sim_oracle_apply(s, b->commands[i].data, b->commands[i].own);
    }
    sim_oracle_commit(s, b->last_index, b->last_term);
    if (s->disk.kv != NULL && !feed_store(s->disk.kv, b)) {
        sim_fail(s->sim, "server %zu: the store fails", s->slot);
    }
    for (size_t i = 0; i < b->n_commands; i++) {
        if (b->commands[i].own != NULL) {
            b->commands[i].own->done(b->commands[i].own, MR_OK);
        }
    }
    sim_post(s, s->sim->now + 10 + sim_random(s->sim, 40), applied_reported,
             NULL, NULL);
    report_applied(s);
    s->batch_head = b->next;
    driver_batch_free(b);
}

static uint64_t apply_time(struct sim_server *s)
{
    uint64_t when =
        s->sim->now + (sim_chance(s->sim, 20) ? sim_random(s->sim, 60)
                                              : sim_random(s->sim, 3));

    s->apply_ms = when > s->apply_ms ? when : s->apply_ms;
    return s->apply_ms;
}

static void io_apply(void *arg, struct driver_batch *batch)
{
    struct sim_server *s = arg;
    struct driver_batch **at = &s->batch_head;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = batch;
    batch->next = NULL;
    job_at(s, apply_time(s), batch_happens, NULL);
}

/* ------------------------------------------------------------- snapshots */

struct taken {
    enum mr_err err;
    struct driver_taken at;
};

static void taken_reported(struct sim_server *s, void *arg)
{
    struct taken *t = arg;

    driver_snapshot_taken(s->driver, t->err, &t->at);
}

static void take_happens(struct sim_server *s, void *arg)
{
    struct taken *t = calloc(1, sizeof *t);
    struct sim_file *file;

    (void)arg;
    mr_assert(t != NULL);
    t->at.index = s->disk.fsm.index;
    t->at.term = s->disk.fsm.term;
    t->at.file = ++s->sim->next_file;
    t->at.bytes = sim_random(s->sim, 3000);
    t->err = sim_chance(s->sim, 30) ? MR_E_NOSPACE : MR_OK;
    if (t->err == MR_OK) {
        file = sim_disk_new_file(&s->disk, t->at.file);
        if (file == NULL) {
            sim_fail(s->sim, "server %zu: snapshot files pile up", s->slot);
        } else {
            file->fsm = s->disk.fsm;
            file->kv = s->disk.kv == NULL ? NULL : sim_kv_snapshot(s->disk.kv);
        }
    }
    sim_post(s, s->sim->now + sim_random(s->sim, 300), taken_reported, t, free);
}

static void io_snapshot_take(void *arg)
{
    struct sim_server *s = arg;

    job_at(s, s->sim->now + sim_random(s->sim, 30), take_happens, NULL);
}

static void io_snapshot_send(void *arg, uint64_t peer, uint64_t term)
{
    sim_net_snapshot(arg, peer, term);
}

static void installed_reported(struct sim_server *s, void *arg)
{
    driver_snapshot_installed(s->driver, *(uint64_t *)arg, MR_OK);
}

/* The state machine becomes what @file holds. */
static void restore(struct sim_server *s, const struct sim_file *file)
{
    s->disk.fsm = file->fsm;
    if (s->disk.kv != NULL &&
        (file->kv == NULL || sim_kv_restore(s->disk.kv, file->kv) != MR_OK ||
         sim_kv_index(s->disk.kv) != file->fsm.index)) {
        sim_fail(s->sim, "server %zu: the store is not restored", s->slot);
    }
}

static void install_happens(struct sim_server *s, void *arg)
{
    uint64_t name = *(uint64_t *)arg;
    struct sim_file *file = sim_disk_file(&s->disk, name);

    if (s->batch_head != NULL) { /* After a pause: behind what came before. */
        job_at(s, s->sim->now + 1, install_happens, arg);
        return;
    }
    free(arg);
    if (file == NULL) {
        sim_fail(s->sim, "server %zu: installs a file that is gone", s->slot);
        return;
    }
    restore(s, file);
    sim_post(s, s->sim->now, installed_reported, boxed(name), free);
}

static void io_snapshot_install(void *arg, uint64_t file,
                                const struct driver_snapshot *meta)
{
    struct sim_server *s = arg;

    if (meta->index < s->disk.fsm.index) {
        sim_fail(s->sim, "server %zu: installs an old snapshot", s->slot);
    }
    job_at(s, apply_time(s), install_happens, boxed(file));
}

static void io_snapshot_drop(void *arg, uint64_t name)
{
    struct sim_server *s = arg;
    struct sim_file *file = sim_disk_file(&s->disk, name);

    if (file == NULL || name == s->force_file) {
        sim_fail(s->sim, "server %zu: drops a file it needs", s->slot);
        return;
    }
    sim_disk_remove(file);
}

/* ------------------------------------------------------------- the rest */

static void io_send(void *arg, uint64_t peer, const struct driver_message *msg)
{
    sim_net_send(arg, peer, msg);
}

static void io_set_lease(void *arg, uint64_t until_ms)
{
    struct sim_server *s = arg;

    s->lease_ms = until_ms;
}

static void io_changed(void *arg)
{
    (void)arg;
}

static void io_fatal(void *arg, enum mr_err err, const char *why)
{
    struct sim_server *s = arg;

    sim_fail(s->sim, "server %zu: fatal %s: %s", s->slot, mr_err_name(err),
             why);
}

/* ------------------------------------------------------------- life */

static void rename_server(struct sim_server *s)
{
    /* IDs are spread like real ones, and distinct. */
    s->id = (s->sim->next_id++ * 0x9E3779B97F4A7C15ull) | 1;
}

/* The store of a new machine. */
static void open_store(struct sim_server *s)
{
    if (s->sim->has_kv) {
        sim_kv_free(s->disk.kv);
        s->disk.kv = sim_kv_new();
    }
}

struct sim_server *sim_server_new(struct sim *sim, size_t slot)
{
    struct sim_server *s = calloc(1, sizeof *s);

    mr_assert(s != NULL);
    s->sim = sim;
    s->slot = slot;
    (void)snprintf(s->address, sizeof s->address, "10.0.0.%zu:8300", slot + 1);
    rename_server(s);
    sim_disk_init(&s->disk);
    open_store(s);
    mr_list_init(&s->writes);
    sim->servers[slot] = s;
    return s;
}

void sim_server_wipe(struct sim_server *s)
{
    s->sim->n_wipes++;
    sim_disk_deinit(&s->disk);
    sim_disk_init(&s->disk);
    open_store(s);
    rename_server(s);
    s->wants_join = true;
    s->is_founder = false;
}

void sim_server_free(struct sim_server *s)
{
    if (s == NULL) {
        return;
    }
    if (s->is_up) {
        sim_server_crash(s, false);
    }
    sim_disk_deinit(&s->disk);
    driver_blob_unref(s->force_conf);
    s->force_conf = NULL;
    s->sim->graves[s->sim->n_graves++] = s; /* Late events look at it. */
    s->sim->servers[s->slot] = NULL;
}

static void clean_files(struct sim_server *s)
{
    struct sim_disk *disk = &s->disk;
    struct sim_file *file;

    for (size_t i = 0; i < SIM_FILES; i++) {
        if (disk->files[i].name != disk->file) {
            sim_disk_remove(&disk->files[i]);
        }
    }
    driver_blob_unref(s->force_conf);
    s->force_conf = NULL;
    s->force_file = 0;
    if (!disk->has_snapshot) {
        return;
    }
    s->force_conf = driver_blob_ref(disk->conf);
    s->force = disk->snapshot;
    s->force_file = disk->file;
    file = sim_disk_file(disk, disk->file);
    if (file == NULL) {
        sim_fail(s->sim, "server %zu: its snapshot is gone", s->slot);
    } else if (disk->fsm.index < disk->snapshot.index) {
        restore(s, file);
    }
}

static void set_options(struct sim_server *s, struct driver_options *o)
{
    struct sim *sim = s->sim;

    memset(o, 0, sizeof *o);
    o->id = s->id;
    o->address = s->address;
    o->incarnation = ++s->disk.incarnation;
    o->seed = (unsigned)sim_random(sim, 1u << 30);
    o->max_wait_ms = sim->max_wait_ms;
    o->snapshot_entries = sim->snapshot_entries;
    o->trailing_entries = sim->trailing_entries;
    o->cache_bytes = sim->cache_bytes;
    o->io = (struct driver_io){
        .arg = s,
        .set_timer = io_set_timer,
        .log_write = io_log_write,
        .log_load = io_log_load,
        .send = io_send,
        .apply = io_apply,
        .snapshot_take = io_snapshot_take,
        .snapshot_send = io_snapshot_send,
        .snapshot_install = io_snapshot_install,
        .snapshot_drop = io_snapshot_drop,
        .set_lease = io_set_lease,
        .changed = io_changed,
        .fatal = io_fatal,
    };
}

static void join_again(struct sim_server *s, void *arg)
{
    struct sim *sim = s->sim;
    struct driver_message msg = {.type = DRIVER_MSG_MEMBER};
    struct sim_server *to = sim->servers[sim_random(sim, SIM_SERVERS)];
    struct driver_status status;

    (void)arg;
    driver_status(s->driver, &status);
    if (s->wants_join && !status.is_member && to != NULL && to != s) {
        msg.member.op = DRIVER_MEMBER_ADD;
        msg.member.id = s->id;
        msg.member.address = s->address;
        sim_net_send(s, to->id, &msg);
    }
    sim_post(s, sim->now + 100, join_again, NULL, NULL);
}

void sim_server_start(struct sim_server *s)
{
    struct driver_options options;
    struct mr_detail detail = {""};
    struct driver *driver = NULL;

    s->generation++;
    s->is_up = true;
    s->paused_until = 0;
    s->lease_ms = 0;
    s->write_ms = 0;
    s->apply_ms = 0;
    s->said_applied = 0;
    clean_files(s);
    set_options(s, &options);
    if (sim_disk_open(&s->disk, &options, s->sim->now, &driver, &detail) !=
        MR_OK) {
        s->is_up = false;
        sim_fail(s->sim, "server %zu does not start: %s", s->slot, detail.text);
        return;
    }
    s->driver = driver;
    sim_post(s, s->sim->now, nothing, NULL, NULL);
    sim_post(s, s->sim->now + 100, join_again, NULL, NULL);
    if (s->is_founder && s->disk.n == 0 && !s->disk.has_snapshot &&
        s->disk.term == 0) {
        sim_server_bootstrap(s, s->sim->n_first);
    }
}

/* Some of what was being written may be on disk without having been
 * reported; the rest is lost. */
static void lose_writes(struct sim_server *s)
{
    bool is_lost = false;
    struct mr_list *at;

    while ((at = mr_list_pop(&s->writes)) != NULL) {
        struct sim_write *w = mr_container_of(at, struct sim_write, link);
        is_lost = is_lost || sim_chance(s->sim, 500);
        if (!is_lost && !sim_disk_write(&s->disk, &w->w)) {
            sim_fail(s->sim, "server %zu: a log write does not fit", s->slot);
        }
        sim_write_free(w);
    }
}

void sim_server_crash(struct sim_server *s, bool power)
{
    struct mr_raft_stats stats = {0};
    struct sim_file *file;

    driver_stats(s->driver, &stats);
    s->sim->n_crashes++;
    s->sim->n_elections += stats.elections;
    s->sim->n_installs += stats.snapshots_installed;
    s->generation++;
    s->is_up = false;
    lose_writes(s);
    while (s->batch_head != NULL) {
        struct driver_batch *b = s->batch_head;
        s->batch_head = b->next;
        for (size_t i = 0; i < b->n_commands; i++) {
            if (b->commands[i].own != NULL) {
                b->commands[i].own->done(b->commands[i].own, MR_E_CLOSED);
            }
        }
        driver_batch_free(b);
    }
    driver_free(s->driver);
    s->driver = NULL;
    if (power) {
        file =
            s->disk.has_snapshot ? sim_disk_file(&s->disk, s->disk.file) : NULL;
        memset(&s->disk.fsm, 0, sizeof s->disk.fsm);
        open_store(s);
        if (file != NULL) {
            restore(s, file);
        }
    }
}

static void bootstrap(struct sim_server *s, void *arg)
{
    struct driver_server set[SIM_SERVERS];
    size_t n = *(uint64_t *)arg;
    enum mr_err err;

    for (size_t i = 0; i < n; i++) {
        size_t k = (i + s->slot) % n; /* The order must not matter. */
        set[i].id = s->sim->servers[k]->id;
        set[i].address = s->sim->servers[k]->address;
    }
    err = driver_bootstrap(s->driver, set, n);
    if (err != MR_OK && err != MR_E_EXISTS) {
        sim_fail(s->sim, "server %zu: bootstrap: %s", s->slot,
                 mr_err_name(err));
    }
}

void sim_server_bootstrap(struct sim_server *s, size_t n)
{
    sim_post(s, s->sim->now + sim_random(s->sim, 50), bootstrap, boxed(n),
             free);
}

struct sim_server *sim_server_by_id(struct sim *sim, uint64_t id)
{
    for (size_t i = 0; i < SIM_SERVERS; i++) {
        if (sim->servers[i] != NULL && sim->servers[i]->id == id) {
            return sim->servers[i];
        }
    }
    return NULL;
}
