/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and closing the store, and what anyone may ask of it.
 *
 * The folder holds state.mdb and, while the store is open, the file `open` with
 * the boot ID of the kernel that keeps the unsynced pages. A clean close syncs
 * and removes it. So at open:
 *   no `open` file            closed cleanly: trusted
 *   `open` names this boot    the process died, its pages did not: trusted
 *   `open` names another one  the machine went down: emptied
 * A durable store is synced with every commit and always trusted: no such file.
 */
#include "kv/kv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "kv/record.h"

#define LOCAL_LEN (6 * 8)

/* What the history keeps of keys, of the catalog, and of services' names. */
#define HISTORY_BYTES ((size_t)8 * 1024 * 1024)

/* ------------------------------------------------------------ counters */

static struct mr_slice table_key(const uint8_t *table)
{
    return mr_slice(table, 1);
}

static void put_u64(uint8_t *at, uint64_t n)
{
    int i;

    for (i = 0; i < 8; i++) {
        at[i] = (uint8_t)(n >> (56 - 8 * i));
    }
}

static uint64_t get_u64(const uint8_t *at)
{
    uint64_t n = 0;
    int i;

    for (i = 0; i < 8; i++) {
        n = n << 8 | at[i];
    }
    return n;
}

/* The stored order of the fields of struct kv_meta. */
static void meta_fields(struct kv_meta *m, uint64_t *out[KV_META_FIELDS])
{
    uint64_t *fields[KV_META_FIELDS] = {
        &m->revision,   &m->keys_rev,    &m->nodes_rev,  &m->services_rev,
        &m->checks_rev, &m->extinct_rev, &m->graves_rev, &m->keys,
        &m->graves,     &m->nodes,       &m->services,   &m->instances,
        &m->checks,     &m->last_lease,  &m->leases,     &m->sessions_rev,
        &m->sessions,   &m->lefts};

    memcpy(out, fields, sizeof fields);
}

void kv_meta_store(struct kv_tx *tx, const struct kv_meta *meta)
{
    static const uint8_t table = KV_META;
    struct kv_meta copy = *meta;
    uint64_t *fields[KV_META_FIELDS];
    uint8_t row[KV_META_FIELDS * 8];
    size_t n = KV_META_FIELDS;
    size_t i;

    meta_fields(&copy, fields);
    while (n > KV_META_FIELDS_MIN && *fields[n - 1] == 0) {
        n--;
    }
    for (i = 0; i < n; i++) {
        put_u64(row + 8 * i, *fields[i]);
    }
    kv_tx_put(tx, table_key(&table), mr_slice(row, n * 8));
}

enum mr_err kv_meta_load(struct kv_tx *tx, struct kv_meta *out)
{
    static const uint8_t table = KV_META;
    struct kv_meta meta = {0};
    uint64_t *fields[KV_META_FIELDS];
    struct mr_slice row;
    size_t i;

    if (!kv_tx_get(tx, table_key(&table), &row) ||
        row.len < KV_META_FIELDS_MIN * 8 || row.len % 8 != 0 ||
        row.len > KV_META_FIELDS * 8) {
        return tx->err != MR_OK ? tx->err : MR_E_CORRUPT;
    }
    meta_fields(&meta, fields);
    for (i = 0; i < row.len / 8; i++) {
        *fields[i] = get_u64((const uint8_t *)row.data + 8 * i);
    }
    *out = meta;
    return MR_OK;
}

void kv_local_store(struct kv_tx *tx, const struct kv_local *local)
{
    static const uint8_t table = KV_LOCAL;
    uint8_t row[LOCAL_LEN];

    put_u64(row, KV_FORMAT_VERSION);
    put_u64(row + 8, local->applied_index);
    put_u64(row + 16, local->applied_term);
    put_u64(row + 24, local->digest.high);
    put_u64(row + 32, local->digest.low);
    put_u64(row + 40, mr_hash64(mr_slice(row, 40), KV_FORMAT_VERSION));
    kv_tx_put(tx, table_key(&table), mr_slice(row, sizeof row));
}

enum mr_err kv_local_load(struct kv_tx *tx, struct kv_local *out)
{
    static const uint8_t table = KV_LOCAL;
    struct mr_slice row;
    const uint8_t *at;

    if (!kv_tx_get(tx, table_key(&table), &row) || row.len < 8) {
        return tx->err != MR_OK ? tx->err : MR_E_CORRUPT;
    }
    at = row.data;
    if (get_u64(at) > KV_FORMAT_VERSION) {
        return MR_E_VERSION;
    }
    if (row.len != LOCAL_LEN ||
        get_u64(at + 40) != mr_hash64(mr_slice(at, 40), KV_FORMAT_VERSION)) {
        return MR_E_CORRUPT;
    }
    out->applied_index = get_u64(at + 8);
    out->applied_term = get_u64(at + 16);
    out->digest = (struct mr_hash128){get_u64(at + 24), get_u64(at + 32)};
    return MR_OK;
}

/* ------------------------------------------------------------ files */

static enum mr_err system_error(void)
{
    return errno == ENOSPC || errno == EDQUOT ? MR_E_NOSPACE
           : errno == ENOMEM                  ? MR_E_NOMEM
                                              : MR_E_IO;
}

bool kv_path(char out[KV_PATH_LEN], const char *dir, const char *name)
{
    int n = snprintf(out, KV_PATH_LEN, "%s/%s", dir, name);

    return n > 0 && n < KV_PATH_LEN;
}

void kv_remove_file(const char *dir, const char *name)
{
    char path[KV_PATH_LEN];

    if (kv_path(path, dir, name)) {
        (void)unlink(path); /* It may be absent. */
    }
}

enum mr_err kv_sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rv;

    if (fd < 0) {
        return system_error();
    }
    rv = fsync(fd);
    (void)close(fd); /* Nothing was written through it. */
    return rv == 0 ? MR_OK : system_error();
}

/* Whether state.mdb may be used, see the top of the file, and whether the last
 * process closed it. */
static bool is_trusted(const char *dir, const char *boot_id, bool *out_closed)
{
    char path[KV_PATH_LEN];
    char text[256];
    size_t len;
    FILE *f;

    if (!kv_path(path, dir, KV_OPEN_FILE)) {
        return false;
    }
    f = fopen(path, "re");
    *out_closed = f == NULL && errno == ENOENT;
    if (f == NULL) {
        return *out_closed;
    }
    len = fread(text, 1, sizeof text - 1, f);
    (void)fclose(f); /* Read only. */
    text[len] = '\0';
    return len > 0 && strcmp(text, boot_id) == 0;
}

/* Leave the mark of an open store, on the disk before the first write. */
static enum mr_err mark_open(const char *dir, const char *boot_id)
{
    char path[KV_PATH_LEN];
    size_t len = strlen(boot_id);
    enum mr_err err = MR_OK;
    int fd;

    if (!kv_path(path, dir, KV_OPEN_FILE)) {
        return MR_E_IO;
    }
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return system_error();
    }
    if (write(fd, boot_id, len) != (ssize_t)len || fsync(fd) != 0) {
        err = system_error();
    }
    if (close(fd) != 0 && err == MR_OK) {
        err = system_error();
    }
    return err == MR_OK ? kv_sync_dir(dir) : err;
}

static enum mr_err prepare_dir(struct mr_kv *kv, bool *out_closed,
                               struct mr_detail *detail)
{
    const char *dir = kv->dir;
    enum mr_err err;

    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return mr_fail(detail, system_error(), "cannot create the folder %s",
                       dir);
    }
    kv_remove_file(dir, KV_RESTORE_FILE);
    kv_remove_file(dir, KV_RESTORE_FILE "-lock");
    kv_remove_file(dir, KV_STATE_FILE "-lock"); /* Of a process that is gone. */
    if (kv->is_durable) {
        return MR_OK;
    }
    if (!is_trusted(dir, kv->boot_id, out_closed)) {
        kv_remove_file(dir, KV_STATE_FILE);
    }
    err = mark_open(dir, kv->boot_id);
    if (err != MR_OK) {
        return mr_fail(detail, err, "cannot write in the folder %s", dir);
    }
    return MR_OK;
}

/* ------------------------------------------------------------ open, close */

enum mr_err kv_env_format(struct kv_env *env)
{
    struct kv_tx tx;
    /* 1, because an index of 0 is reported as 1: who waits for something newer
     * than that must see the first command. */
    struct kv_meta meta = {.revision = 1};
    struct kv_local local = {0};
    enum mr_err err = kv_tx_begin_write(env, &tx);

    if (err != MR_OK) {
        return err;
    }
    kv_meta_store(&tx, &meta);
    local.digest = tx.digest;
    kv_local_store(&tx, &local);
    return kv_tx_commit(&tx);
}

/* Read the counters of @kv's environment; an empty one gets them first. */
static enum mr_err load(struct mr_kv *kv, struct kv_env *env)
{
    struct kv_tx tx;
    enum mr_err err = MR_OK;

    if (kv_env_bytes_used(env) == 0) {
        err = kv_env_format(env);
    }
    if (err == MR_OK) {
        err = kv_tx_begin_read(env, &tx);
    }
    if (err != MR_OK) {
        return err;
    }
    err = kv_local_load(&tx, &kv->local);
    if (err == MR_OK) {
        err = kv_meta_load(&tx, &kv->meta);
    }
    kv_tx_end_read(&tx);
    return err;
}

static enum mr_err open_env(struct mr_kv *kv, bool was_closed,
                            struct mr_detail *detail)
{
    char path[KV_PATH_LEN];
    struct kv_env *env = NULL;
    struct kv_pool *pool;
    enum mr_err err;

    if (!kv_path(path, kv->dir, KV_STATE_FILE)) {
        return mr_fail(detail, MR_E_INVALID, "the path %s is too long",
                       kv->dir);
    }
    err = kv_env_open(path, kv->map_size, kv->is_durable, &env, detail);
    if (err == MR_OK && was_closed && kv_env_is_cut(env)) {
        err = MR_E_CORRUPT; /* Reading beyond the end would kill us. */
    }
    if (err == MR_OK) {
        err = load(kv, env);
    }
    if (err == MR_OK && kv->is_durable) {
        err = kv_sync_dir(kv->dir); /* The file may be new. */
    }
    if (err == MR_OK) {
        err = kv_pool_new(env, &pool);
    }
    if (err == MR_OK) {
        atomic_store(&kv->pool, pool);
        return MR_OK;
    }
    kv_env_close(env);
    if (err == MR_E_CORRUPT) {
        return mr_fail(detail, err,
                       "the state %s is damaged: with the server stopped, "
                       "delete this file and start again; %s",
                       path,
                       kv->is_durable
                           ? "what was registered here must be so again"
                           : "it is rebuilt from the newest snapshot and the "
                             "log");
    }
    return mr_fail(detail, err, "cannot open the state %s: %s", path,
                   mr_strerror(err));
}

static enum mr_err init(struct mr_kv *kv, const struct mr_kv_options *options)
{
    size_t history_bytes =
        options->history_bytes == 0 ? HISTORY_BYTES : options->history_bytes;

    mr_assert(pthread_mutex_init(&kv->lock, NULL) == 0);
    kv_touched_init(&kv->batch.touched);
    kv_tallies_init(&kv->batch.tallies);
    kv_arena_init(&kv->batch.arena);
    kv_arena_init(&kv->batch.scratch);
    mr_buf_init(&kv->batch.body, 0);
    mr_buf_init(&kv->batch.row, 0);
    mr_buf_init(&kv->batch.leases, 0);
    kv_recorder_init(&kv->batch.recorder, &kv->batch, history_bytes);
    kv_pending_init(&kv->batch.pending, history_bytes);
    enum mr_err err = kv_twins_init(&kv->batch.twins);

    kv_history_init(&kv->history, history_bytes, 0);
    kv->hooks = options->hooks;
    kv->is_durable = options->is_durable;
    kv->map_size = options->map_size;
    kv->dir = mr_strdup(options->dir);
    kv->boot_id = mr_strdup(options->is_durable ? "" : options->boot_id);
    return kv->dir == NULL || kv->boot_id == NULL ? MR_E_NOMEM : err;
}

static void destroy(struct mr_kv *kv)
{
    struct kv_pool *pool = atomic_load(&kv->pool);

    kv_pool_free(pool);
    while (kv->old_pools != NULL) {
        pool = kv->old_pools;
        kv->old_pools = pool->next;
        kv_pool_free(pool);
    }
    kv_hub_deinit(&kv->hub);
    kv_touched_deinit(&kv->batch.touched);
    kv_tallies_deinit(&kv->batch.tallies);
    kv_arena_deinit(&kv->batch.arena);
    kv_arena_deinit(&kv->batch.scratch);
    mr_buf_deinit(&kv->batch.body);
    mr_buf_deinit(&kv->batch.row);
    mr_buf_deinit(&kv->batch.leases);
    kv_recorder_deinit(&kv->batch.recorder);
    kv_pending_deinit(&kv->batch.pending);
    kv_twins_deinit(&kv->batch.twins);
    kv_history_deinit(&kv->history);
    mr_assert(pthread_mutex_destroy(&kv->lock) == 0);
    mr_free(kv->boot_id);
    mr_free(kv->dir);
    mr_free(kv);
}

/* Learn from the rows what is kept in memory. */
static enum mr_err load_twins(struct mr_kv *kv)
{
    struct kv_tx tx;
    enum mr_err err = kv_tx_begin_read(kv_current_env(kv), &tx);

    if (err == MR_OK) {
        kv_twins_fill(&kv->batch.twins, &tx);
        err = tx.err;
        kv_tx_end_read(&tx);
    }
    return err;
}

enum mr_err mr_kv_open(const struct mr_kv_options *options,
                       struct mr_kv **out_kv, struct mr_detail *detail)
{
    struct mr_kv *kv = mr_calloc(1, sizeof *kv);
    bool was_closed = false;
    enum mr_err err;

    if (kv == NULL) {
        return mr_fail(detail, MR_E_NOMEM, "no memory for the state");
    }
    err = init(kv, options);
    if (err == MR_OK) {
        err = prepare_dir(kv, &was_closed, detail);
    }
    if (err == MR_OK) {
        err = open_env(kv, was_closed, detail);
    }
    if (err == MR_OK) {
        err = load_twins(kv);
    }
    if (err == MR_OK) {
        err = kv_hub_init(&kv->hub, kv->meta.revision);
    }
    if (err != MR_OK) {
        destroy(kv);
        return err;
    }
    kv_history_forget(&kv->history, kv->meta.revision);
    atomic_store(&kv->revision, kv->meta.revision);
    *out_kv = kv;
    return MR_OK;
}

void mr_kv_close(struct mr_kv *kv)
{
    struct kv_pool *pool;

    if (kv == NULL) {
        return;
    }
    kv_batch_abort(&kv->batch);
    pool = atomic_load(&kv->pool);
    if (kv_env_sync(pool->env) == MR_OK && kv_sync_dir(kv->dir) == MR_OK) {
        kv_remove_file(kv->dir, KV_OPEN_FILE);
    }
    destroy(kv);
}

/* ------------------------------------------------------------ figures */

void kv_publish(struct mr_kv *kv, const struct kv_meta *meta,
                const struct kv_local *local, uint64_t commands)
{
    mr_assert(pthread_mutex_lock(&kv->lock) == 0);
    kv->meta = *meta;
    kv->local = *local;
    kv->batches++;
    kv->commands += commands;
    mr_assert(pthread_mutex_unlock(&kv->lock) == 0);
    atomic_store(&kv->revision, meta->revision);
}

struct kv_env *kv_current_env(struct mr_kv *kv)
{
    return atomic_load(&kv->pool)->env;
}

uint64_t mr_kv_applied(struct mr_kv *kv, uint64_t *out_term)
{
    uint64_t index;

    mr_assert(pthread_mutex_lock(&kv->lock) == 0);
    index = kv->local.applied_index;
    if (out_term != NULL) {
        *out_term = kv->local.applied_term;
    }
    mr_assert(pthread_mutex_unlock(&kv->lock) == 0);
    return index;
}

uint64_t mr_kv_revision(struct mr_kv *kv)
{
    return atomic_load(&kv->revision);
}

struct mr_hash128 mr_kv_digest(struct mr_kv *kv, uint64_t *out_index)
{
    struct mr_hash128 digest;

    mr_assert(pthread_mutex_lock(&kv->lock) == 0);
    digest = kv->local.digest;
    if (out_index != NULL) {
        *out_index = kv->local.applied_index;
    }
    mr_assert(pthread_mutex_unlock(&kv->lock) == 0);
    return digest;
}

static uint64_t bytes_used(struct mr_kv *kv)
{
    struct mr_kv_view *view;
    uint64_t bytes;

    if (mr_kv_view_begin(kv, &view) != MR_OK) {
        return 0; /* A figure for people; too many views at once. */
    }
    bytes = kv_env_bytes_used(kv_view_env(view)); /* Stays open meanwhile. */
    mr_kv_view_end(view);
    return bytes;
}

void mr_kv_stats(struct mr_kv *kv, struct mr_kv_stats *out_stats)
{
    struct mr_kv_stats s = {0};

    mr_assert(pthread_mutex_lock(&kv->lock) == 0);
    s.revision = kv->meta.revision;
    s.applied_index = kv->local.applied_index;
    s.keys = kv->meta.keys;
    s.nodes = kv->meta.nodes;
    s.services = kv->meta.services;
    s.instances = kv->meta.instances;
    s.checks = kv->meta.checks;
    s.leases = kv->meta.leases;
    s.sessions = kv->meta.sessions;
    s.batches = kv->batches;
    s.commands = kv->commands;
    mr_assert(pthread_mutex_unlock(&kv->lock) == 0);
    s.bytes_used = bytes_used(kv);
    s.waiters = kv_hub_waiters(&kv->hub);
    kv_history_count(&kv->history, &s.history_bytes, &s.history_revisions);
    *out_stats = s;
}
