/* SPDX-License-Identifier: Apache-2.0 */
/* A lock for one: a key that a session holds (consul-parity 24). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/lock.h"

#define FLAGS "3304740253564472344" /* Says that a key is a lock, in Consul. */
#define DELAY_RETRY_MS 500
#define RETRY_MS 1000
#define WAIT "wait=15000ms"

/* ------------------------------------------------------------- requests */

void lock_path(const char *key, struct mr_buf *out)
{
    mr_buf_str(out, "/v1/kv/");
    server_cli_escape(key, out);
}

json_t *lock_get(struct lock *lock, const char *key, const char *query,
                 struct server_answer *out)
{
    struct mr_buf path = MR_BUF_INIT;
    json_error_t why;
    json_t *value = NULL;

    lock_path(key, &path);
    if (lock_ask(lock, "GET", mr_buf_cstr(&path), query, mr_slice(NULL, 0),
                 out)) {
        value = json_loadb((const char *)out->body.data, out->body.len,
                           JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, &why);
        if (value == NULL) {
            (void)snprintf(out->error, sizeof out->error,
                           "the answer is not JSON: %s", why.text);
        }
    } else if (out->status == 404) {
        value = json_array();
    }
    mr_buf_deinit(&path);
    return value;
}

enum mr_err lock_write(struct lock *lock, const char *method, const char *key,
                       const char *query, struct mr_slice value,
                       struct mr_detail *why)
{
    struct mr_buf path = MR_BUF_INIT;
    struct server_answer answer;
    enum mr_err err = MR_OK;

    lock_path(key, &path);
    if (!lock_ask(lock, method, mr_buf_cstr(&path), query, value, &answer)) {
        err = lock_is_over(lock) ? MR_E_CANCELED
                                 : mr_fail(why, MR_E_IO, "%s", answer.error);
    } else if (strncmp(mr_buf_cstr(&answer.body), "true", 4) != 0) {
        err = mr_fail(why, MR_E_EXISTS, "refused");
    } else if (answer.fence != 0) {
        lock->fence = answer.fence;
    }
    server_answer_deinit(&answer);
    mr_buf_deinit(&path);
    return err;
}

uint64_t lock_number(const json_t *entry, const char *name)
{
    return (uint64_t)json_number_value(json_object_get(entry, name));
}

enum mr_err lock_remove(struct lock *lock, const char *key, const json_t *entry,
                        struct mr_detail *why)
{
    char query[32];
    enum mr_err err;

    (void)snprintf(query, sizeof query, "cas=%" PRIu64,
                   lock_number(entry, "ModifyIndex"));
    err = lock_write(lock, "DELETE", key, query, mr_slice(NULL, 0), why);
    return err == MR_E_EXISTS ? MR_E_BUSY : err;
}

/* ------------------------------------------------------------- taking */

/* The key of the lock: @name=SESSION and our flags. */
static enum mr_err put(struct lock *lock, const char *name,
                       struct mr_detail *why)
{
    char query[96];

    (void)snprintf(query, sizeof query, "%s=%s&flags=" FLAGS, name,
                   lock->session);
    return lock_write(lock, "PUT", mr_buf_cstr(&lock->key), query,
                      mr_slice(NULL, 0), why);
}

static bool is_lock(const json_t *entry)
{
    return json_number_value(json_object_get(entry, "Flags")) ==
           (double)UINT64_C(3304740253564472344);
}

/* Look at the key, from *@index on, and take it when it is free. MR_E_EXISTS:
 * it is not, look again. */
static enum mr_err try_to_take(struct lock *lock, uint64_t *index,
                               struct mr_detail *why)
{
    struct server_answer answer;
    const json_t *entry;
    char query[64];
    enum mr_err err = MR_E_EXISTS;
    json_t *list;

    (void)snprintf(query, sizeof query, WAIT "&index=%" PRIu64, *index);
    list = lock_get(lock, mr_buf_cstr(&lock->key), query, &answer);
    entry = json_array_get(list, 0);
    if (list == NULL) {
        err = lock_is_over(lock)
                  ? MR_E_CANCELED
                  : mr_fail(why, MR_E_IO, "failed to read lock: %s",
                            answer.error);
    } else if (entry != NULL && !is_lock(entry)) {
        err =
            mr_fail(why, MR_E_INVALID, "Existing key does not match lock use");
    } else if (server_json_text(entry, "Session")[0] != '\0') {
        *index = answer.index;
    } else {
        err = put(lock, "acquire", why);
        if (err == MR_E_EXISTS) {
            /* Somebody was faster, or the lock-delay of the last holder. */
            lock_sleep(lock, DELAY_RETRY_MS);
            *index = 0;
        }
    }
    json_decref(list);
    server_answer_deinit(&answer);
    return err;
}

enum mr_err lock_key_take(struct lock *lock, struct mr_detail *why)
{
    uint64_t index = 0;
    enum mr_err err;

    do {
        err =
            lock_is_over(lock) ? MR_E_CANCELED : try_to_take(lock, &index, why);
    } while (err == MR_E_EXISTS);
    return err;
}

/* ------------------------------------------------------------- holding */

void lock_key_watch(struct lock *lock)
{
    uint64_t left = lock->retries;
    uint64_t index = 0;

    while (!lock_is_over(lock)) {
        struct server_answer answer;
        char query[48];
        json_t *list;

        (void)snprintf(query, sizeof query, "consistent&index=%" PRIu64, index);
        list = lock_get(lock, mr_buf_cstr(&lock->key), query, &answer);
        if (list != NULL) {
            const char *holder =
                server_json_text(json_array_get(list, 0), "Session");

            lock->is_lost |= strcasecmp(holder, lock->session) != 0;
            index = answer.index;
            left = lock->retries;
        } else if (!lock_is_over(lock) && left-- == 0) {
            lock->is_lost = true;
        } else {
            lock_sleep(lock, RETRY_MS);
        }
        json_decref(list);
        server_answer_deinit(&answer);
    }
}

/* ------------------------------------------------------------- giving */

enum mr_err lock_key_give(struct lock *lock, struct mr_detail *why)
{
    enum mr_err err = put(lock, "release", why);

    return err == MR_E_EXISTS ? mr_fail(why, MR_E_NOTFOUND, "Lock not held")
                              : err;
}

enum mr_err lock_key_clean(struct lock *lock, struct mr_detail *why)
{
    const char *key = mr_buf_cstr(&lock->key);
    struct server_answer answer;
    enum mr_err err = MR_OK;
    json_t *list = lock_get(lock, key, NULL, &answer);
    const json_t *entry = json_array_get(list, 0);

    if (list == NULL) {
        err = mr_fail(why, MR_E_IO, "%s", answer.error);
    } else if (server_json_text(entry, "Session")[0] != '\0') {
        err = MR_E_BUSY;
    } else if (entry != NULL) {
        err = lock_remove(lock, key, entry, why);
    }
    json_decref(list);
    server_answer_deinit(&answer);
    return err;
}
