/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lock for many: entries of contenders, and the list of those who hold it.
 *
 * PREFIX/SESSION is a key that the session holds and that goes with it;
 * PREFIX/.lock is {"Limit":N,"Holders":{"SESSION":true}}, changed by
 * compare-and-set only. A holder whose entry is gone does not count.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/lock.h"

#define FLAGS "16210313421097356768" /* Says that a key is a semaphore's. */
#define RETRY_MS 1000

struct pool {
    struct server_answer answer;
    json_t *list;        /* What stands under the prefix. */
    const json_t *entry; /* Of .lock, or NULL. */
    json_t *holders;     /* Those that live. */
    uint64_t limit;
};

static void list_key(const struct lock *lock, struct mr_buf *out)
{
    mr_buf_printf(out, "%s/.lock", lock->prefix);
}

/* Whether the session @id has an entry. */
static bool is_living(const json_t *list, const char *id)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *session =
            server_json_text(json_array_get(list, i), "Session");

        if (strcasecmp(session, id) == 0) {
            return true;
        }
    }
    return false;
}

/* Read .lock's value into @pool; false: it is not a semaphore's. */
static bool decode(struct pool *pool)
{
    struct mr_buf bytes = MR_BUF_INIT;
    json_t *value = NULL;
    const char *id;
    json_t *held;
    size_t bad;

    if (server_cli_base64(server_json_text(pool->entry, "Value"), &bytes,
                          &bad)) {
        value = json_loadb((const char *)bytes.data, bytes.len, 0, NULL);
    }
    mr_buf_deinit(&bytes);
    pool->limit = (uint64_t)json_integer_value(json_object_get(value, "Limit"));
    json_object_foreach(json_object_get(value, "Holders"), id, held)
    {
        if (is_living(pool->list, id)) {
            (void)json_object_set(pool->holders, id, held); /* Or no memory. */
        }
    }
    json_decref(value);
    return value != NULL &&
           json_number_value(json_object_get(pool->entry, "Flags")) ==
               (double)UINT64_C(16210313421097356768);
}

/* Look at everything under the prefix. To be closed whatever comes. */
static enum mr_err pool_open(struct lock *lock, const char *query,
                             struct pool *pool, struct mr_detail *why)
{
    struct mr_buf key = MR_BUF_INIT;
    struct mr_buf prefix = MR_BUF_INIT;

    memset(pool, 0, sizeof *pool);
    list_key(lock, &key);
    mr_buf_printf(&prefix, "%s/", lock->prefix);
    pool->holders = json_object();
    pool->list = lock_get(lock, mr_buf_cstr(&prefix), query, &pool->answer);
    for (size_t i = 0; i < json_array_size(pool->list); i++) {
        const json_t *entry = json_array_get(pool->list, i);

        if (strcmp(server_json_text(entry, "Key"), mr_buf_cstr(&key)) == 0) {
            pool->entry = entry;
        }
    }
    mr_buf_deinit(&prefix);
    mr_buf_deinit(&key);
    if (pool->list == NULL) {
        return lock_is_over(lock)
                   ? MR_E_CANCELED
                   : mr_fail(why, MR_E_IO, "%s", pool->answer.error);
    }
    if (pool->entry != NULL && !decode(pool)) {
        return mr_fail(why, MR_E_INVALID,
                       "Existing key does not match semaphore use");
    }
    return MR_OK;
}

static void pool_close(struct pool *pool)
{
    json_decref(pool->holders);
    json_decref(pool->list);
    server_answer_deinit(&pool->answer);
}

/* Write the list of holders if nobody else did. MR_E_EXISTS: somebody did. */
static enum mr_err pool_write(struct lock *lock, const struct pool *pool,
                              struct mr_detail *why)
{
    char *holders = json_dumps(pool->holders, JSON_COMPACT);
    struct mr_buf key = MR_BUF_INIT;
    struct mr_buf value = MR_BUF_INIT;
    char query[64];
    enum mr_err err = MR_E_NOMEM;

    (void)snprintf(query, sizeof query, "cas=%" PRIu64 "&flags=" FLAGS,
                   lock_number(pool->entry, "ModifyIndex"));
    list_key(lock, &key);
    if (holders != NULL) {
        mr_buf_printf(&value, "{\"Limit\":%" PRIu64 ",\"Holders\":%s}",
                      lock->limit, holders);
    }
    if (holders != NULL && !mr_buf_failed(&value) && !mr_buf_failed(&key)) {
        err = lock_write(lock, "PUT", mr_buf_cstr(&key), query,
                         mr_buf_slice(&value), why);
    }
    free(holders); /* jansson's own memory. */
    mr_buf_deinit(&value);
    mr_buf_deinit(&key);
    return err;
}

/* ------------------------------------------------------------- taking */

static enum mr_err enter(struct lock *lock, struct mr_detail *why)
{
    char query[96];
    enum mr_err err;

    (void)snprintf(query, sizeof query, "acquire=%s&flags=" FLAGS,
                   lock->session);
    err = lock_write(lock, "PUT", mr_buf_cstr(&lock->key), query,
                     mr_slice(NULL, 0), why);
    return err == MR_E_EXISTS
               ? mr_fail(why, MR_E_IO, "failed to make contender entry")
               : err;
}

/* As lock_key.c's. */
static enum mr_err try_to_take(struct lock *lock, uint64_t *index,
                               struct mr_detail *why)
{
    char query[64];
    struct pool pool;
    enum mr_err err;

    (void)snprintf(query, sizeof query, "recurse&wait=15000ms&index=%" PRIu64,
                   *index);
    err = pool_open(lock, query, &pool, why);
    if (err == MR_OK && pool.entry != NULL && pool.limit != lock->limit) {
        err = mr_fail(why, MR_E_INVALID,
                      "Semaphore limit conflict (lock: %" PRIu64
                      ", local: %" PRIu64 ")",
                      pool.limit, lock->limit);
    } else if (err == MR_OK && json_object_size(pool.holders) >= lock->limit) {
        *index = pool.answer.index;
        err = MR_E_EXISTS;
    } else if (err == MR_OK) {
        (void)json_object_set_new(pool.holders, lock->session, json_true());
        err = pool_write(lock, &pool, why);
        *index = 0;
    }
    pool_close(&pool);
    return err;
}

enum mr_err lock_semaphore_take(struct lock *lock, struct mr_detail *why)
{
    uint64_t index = 0;
    enum mr_err err = enter(lock, why);

    if (err != MR_OK) {
        return err;
    }
    do {
        err =
            lock_is_over(lock) ? MR_E_CANCELED : try_to_take(lock, &index, why);
    } while (err == MR_E_EXISTS);
    return err;
}

/* ------------------------------------------------------------- holding */

void lock_semaphore_watch(struct lock *lock)
{
    uint64_t left = lock->retries;
    uint64_t index = 0;

    while (!lock_is_over(lock)) {
        struct mr_detail why;
        struct pool pool;
        char query[64];
        enum mr_err err;

        (void)snprintf(query, sizeof query, "recurse&consistent&index=%" PRIu64,
                       index);
        err = pool_open(lock, query, &pool, &why);
        if (err == MR_OK) {
            lock->is_lost |=
                json_object_get(pool.holders, lock->session) == NULL;
            index = pool.answer.index;
            left = lock->retries;
        } else if (err != MR_E_CANCELED && left-- == 0) {
            lock->is_lost = true;
        } else {
            lock_sleep(lock, RETRY_MS);
        }
        pool_close(&pool);
    }
}

/* ------------------------------------------------------------- giving */

enum mr_err lock_semaphore_give(struct lock *lock, struct mr_detail *why)
{
    enum mr_err err;

    do {
        struct pool pool;

        err = pool_open(lock, "recurse", &pool, why);
        if (err == MR_OK &&
            json_object_get(pool.holders, lock->session) == NULL) {
            err = mr_fail(why, MR_E_NOTFOUND, "Semaphore not held");
        } else if (err == MR_OK) {
            (void)json_object_del(pool.holders, lock->session);
            err = pool_write(lock, &pool, why);
        }
        pool_close(&pool);
    } while (err == MR_E_EXISTS);
    if (err == MR_OK) {
        err = lock_write(lock, "DELETE", mr_buf_cstr(&lock->key), NULL,
                         mr_slice(NULL, 0), why);
    }
    return err;
}

enum mr_err lock_semaphore_clean(struct lock *lock, struct mr_detail *why)
{
    struct mr_buf key = MR_BUF_INIT;
    struct pool pool;
    enum mr_err err = pool_open(lock, "recurse", &pool, why);

    list_key(lock, &key);
    if (err == MR_OK && json_object_size(pool.holders) > 0) {
        err = MR_E_BUSY;
    } else if (err == MR_OK && pool.entry != NULL) {
        err = lock_remove(lock, mr_buf_cstr(&key), pool.entry, why);
    }
    pool_close(&pool);
    mr_buf_deinit(&key);
    return err;
}
