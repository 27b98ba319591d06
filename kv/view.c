/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Views and their pool.
 *
 * Beginning: count yourself in, look whether the pool is still the current one,
 * take a parked view out of a slot or make one. Ending: park it in a free slot,
 * count yourself out. Who counts out last of a retired pool closes it; a begin
 * that came too late counts itself out without having touched LMDB.
 */
#include "kv/view.h"

#include "base/mem.h"
#include "kv/kv.h"

struct mr_kv_view {
    struct kv_pool *pool;
    struct kv_tx tx;
    struct kv_arena arena;
    struct kv_meta meta;
    uint64_t applied;
    uint64_t applied_term;
};

/* ------------------------------------------------------------ pool */

enum mr_err kv_pool_new(struct kv_env *env, struct kv_pool **out_pool)
{
    struct kv_pool *pool = mr_calloc(1, sizeof *pool);

    if (pool == NULL) {
        return MR_E_NOMEM;
    }
    pool->env = env;
    *out_pool = pool;
    return MR_OK;
}

static void free_view(struct mr_kv_view *view)
{
    kv_tx_end_read(&view->tx);
    kv_arena_deinit(&view->arena);
    mr_free(view);
}

/* Close the environment if nobody reads it and nobody else closes it. */
static void close_if_idle(struct kv_pool *pool)
{
    size_t i;

    if (!atomic_load(&pool->is_retired) || atomic_load(&pool->active) != 0 ||
        atomic_exchange(&pool->is_closed, true)) {
        return;
    }
    for (i = 0; i < KV_POOL_SLOTS; i++) {
        struct mr_kv_view *view = atomic_exchange(&pool->slots[i], NULL);

        if (view != NULL) {
            free_view(view);
        }
    }
    kv_env_close(pool->env);
}

void kv_pool_retire(struct kv_pool *pool)
{
    atomic_store(&pool->is_retired, true);
    close_if_idle(pool);
}

void kv_pool_free(struct kv_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    mr_assert(atomic_load(&pool->active) == 0); /* A view is still open. */
    kv_pool_retire(pool);
    mr_free(pool);
}

static void count_out(struct kv_pool *pool)
{
    if (atomic_fetch_sub(&pool->active, 1) == 1) {
        close_if_idle(pool);
    }
}

/* The current pool, with the caller counted in. */
static struct kv_pool *count_in(struct mr_kv *kv)
{
    for (;;) {
        struct kv_pool *pool = atomic_load(&kv->pool);

        atomic_fetch_add(&pool->active, 1);
        if (atomic_load(&kv->pool) == pool) {
            return pool;
        }
        count_out(pool);
    }
}

/* ------------------------------------------------------------ slots */

/* Where this thread looks first, so that threads do not meet in one slot. */
static unsigned home_slot(void)
{
    static atomic_uint next_home;
    static _Thread_local unsigned home; /* Plus one; 0 is not chosen yet. */

    if (home == 0) {
        home = atomic_fetch_add(&next_home, 8) % KV_POOL_SLOTS + 1;
    }
    return home - 1;
}

static struct mr_kv_view *take_parked(struct kv_pool *pool)
{
    unsigned home = home_slot();
    unsigned i;

    for (i = 0; i < KV_POOL_SLOTS; i++) {
        struct mr_kv_view *_Atomic *slot =
            &pool->slots[(home + i) % KV_POOL_SLOTS];
        struct mr_kv_view *view;

        if (atomic_load_explicit(slot, memory_order_relaxed) == NULL) {
            continue;
        }
        view = atomic_exchange(slot, NULL);
        if (view != NULL) {
            return view;
        }
    }
    return NULL;
}

static void park(struct kv_pool *pool, struct mr_kv_view *view)
{
    unsigned home = home_slot();
    unsigned i;

    kv_arena_reset(&view->arena);
    kv_tx_park(&view->tx);
    for (i = 0; i < KV_POOL_SLOTS; i++) {
        struct mr_kv_view *none = NULL;

        if (atomic_compare_exchange_strong(
                &pool->slots[(home + i) % KV_POOL_SLOTS], &none, view)) {
            return;
        }
    }
    free_view(view);
}

static enum mr_err new_view(struct kv_pool *pool, struct mr_kv_view **out_view)
{
    struct mr_kv_view *view = mr_calloc(1, sizeof *view);
    enum mr_err err;

    if (view == NULL) {
        return MR_E_NOMEM;
    }
    view->pool = pool;
    kv_arena_init(&view->arena);
    err = kv_tx_begin_read(pool->env, &view->tx);
    if (err != MR_OK) {
        mr_free(view);
        return err;
    }
    *out_view = view;
    return MR_OK;
}

/* ------------------------------------------------------------ views */

_Static_assert(KV_RECENT_WORDS == KV_META_FIELDS + 2,
               "the counters, and the raft position");

void kv_pool_note(struct kv_pool *pool, uint64_t tx_id,
                  const struct kv_meta *meta, const struct kv_local *local)
{
    struct kv_recent *r = &pool->recent[tx_id % KV_RECENT];
    uint64_t words[KV_RECENT_WORDS];
    size_t i;

    memcpy(words, meta, sizeof *meta);
    words[KV_META_FIELDS] = local->applied_index;
    words[KV_META_FIELDS + 1] = local->applied_term;
    /* Each release keeps the 0 before the word: no reader that sees a new word
     * sees the old number after it. */
    atomic_store_explicit(&r->tx_id, 0, memory_order_relaxed);
    for (i = 0; i < KV_RECENT_WORDS; i++) {
        atomic_store_explicit(&r->words[i], words[i], memory_order_release);
    }
    atomic_store_explicit(&r->tx_id, tx_id, memory_order_release);
}

/* A copy of what was noted for the view's transaction, if it is still there:
 * a sequence lock, with the transaction as the sequence. */
static bool copy_noted(struct mr_kv_view *view)
{
    uint64_t tx_id = kv_tx_id(&view->tx);
    struct kv_recent *r = &view->pool->recent[tx_id % KV_RECENT];
    uint64_t words[KV_RECENT_WORDS];
    size_t i;

    if (atomic_load_explicit(&r->tx_id, memory_order_acquire) != tx_id) {
        return false;
    }
    for (i = 0; i < KV_RECENT_WORDS; i++) {
        words[i] = atomic_load_explicit(&r->words[i], memory_order_acquire);
    }
    if (atomic_load_explicit(&r->tx_id, memory_order_relaxed) != tx_id) {
        return false;
    }
    memcpy(&view->meta, words, sizeof view->meta);
    view->applied = words[KV_META_FIELDS];
    view->applied_term = words[KV_META_FIELDS + 1];
    return true;
}

static enum mr_err load_counters(struct mr_kv_view *view)
{
    struct kv_local local;
    enum mr_err err;

    if (copy_noted(view)) {
        return MR_OK;
    }
    err = kv_meta_load(&view->tx, &view->meta);
    if (err == MR_OK) {
        err = kv_local_load(&view->tx, &local);
    }
    if (err == MR_OK) {
        view->applied = local.applied_index;
        view->applied_term = local.applied_term;
    }
    return err;
}

enum mr_err mr_kv_view_begin(struct mr_kv *kv, struct mr_kv_view **out_view)
{
    struct kv_pool *pool = count_in(kv);
    struct mr_kv_view *view = take_parked(pool);
    enum mr_err err;

    err = view == NULL ? new_view(pool, &view) : kv_tx_unpark(&view->tx);
    if (err != MR_OK) {
        goto err_after_count;
    }
    err = load_counters(view);
    if (err != MR_OK) {
        goto err_after_count;
    }
    *out_view = view;
    return MR_OK;

err_after_count:
    if (view != NULL) {
        free_view(view);
    }
    count_out(pool);
    return err;
}

void mr_kv_view_end(struct mr_kv_view *view)
{
    struct kv_pool *pool;

    if (view == NULL) {
        return;
    }
    pool = view->pool;
    park(pool, view);
    count_out(pool);
}

uint64_t mr_kv_view_revision(const struct mr_kv_view *view)
{
    return view->meta.revision;
}

uint64_t mr_kv_view_applied(const struct mr_kv_view *view, uint64_t *out_term)
{
    if (out_term != NULL) {
        *out_term = view->applied_term;
    }
    return view->applied;
}

struct kv_tx *kv_view_tx(struct mr_kv_view *view)
{
    return &view->tx;
}

struct kv_arena *kv_view_arena(struct mr_kv_view *view)
{
    return &view->arena;
}

const struct kv_meta *kv_view_meta(const struct mr_kv_view *view)
{
    return &view->meta;
}

struct kv_env *kv_view_env(struct mr_kv_view *view)
{
    return view->pool->env;
}

enum mr_err kv_view_error(struct mr_kv_view *view)
{
    if (view->tx.err != MR_OK) {
        return view->tx.err;
    }
    return view->arena.failed ? MR_E_NOMEM : MR_OK;
}
