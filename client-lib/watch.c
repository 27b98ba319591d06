/* SPDX-License-Identifier: Apache-2.0 */
/* Watches, as a program sees them. */
#include "watch.h"

#include <string.h>

#include "key.h"
#include "kv.h"
#include "queue.h"
#include "service.h"
#include "stream.h"
#include "wake.h"

/* ------------------------------------------------------------- telling */

void mrg_watch_wake(struct microreg_watch *watch)
{
    if (!watch->is_signaled) {
        watch->is_signaled = true;
        if (watch->fds[1] >= 0) {
            mrg_wake_set(watch->fds);
        }
    }
    (void)pthread_cond_signal(&watch->ready);
}

/* Nothing is there: unreadable. */
static void quiet(struct microreg_watch *watch)
{
    if (watch->is_signaled) {
        watch->is_signaled = false;
        if (watch->fds[0] >= 0) {
            mrg_wake_clear(watch->fds);
        }
    }
}

void mrg_watch_tell(struct microreg_watch *watch, enum microreg_action action,
                    struct mrg_object *object, uint64_t index)
{
    const struct mrg_queued event = {object, index, action, true};

    if (!watch->is_behind &&
        (!mrg_queue_push(watch, &event) || mrg_queue_is_full(watch))) {
        mrg_queue_collapse(watch);
        atomic_fetch_add(&watch->client->stats.collapses, 1);
    }
    mrg_watch_wake(watch);
}

void mrg_watch_orphan(struct microreg_watch *watch)
{
    watch->topic = NULL;
    watch->next = NULL;
    mrg_queue_deinit(watch);
    mrg_watch_wake(watch);
}

/* ------------------------------------------------------------- opening */

static int open_watch(struct microreg *client, const char *name, bool is_keys,
                      unsigned flags, struct microreg_watch **out_watch,
                      struct microreg_error *out_error)
{
    struct microreg_watch *watch = mrg_alloc(sizeof *watch);
    int err;

    if (watch == NULL || mrg_cond_init(&watch->ready) != MICROREG_OK) {
        mrg_free(watch);
        return mrg_nomem(out_error);
    }
    mrg_client_ref(client);
    watch->client = client;
    watch->flags = flags;
    watch->is_keys = is_keys;
    watch->is_behind = true;
    watch->fds[0] = watch->fds[1] = -1;
    pthread_mutex_lock(&client->lock);
    err = client->is_closed ? MICROREG_E_STOPPED
                            : mrg_streams_join(client, name, watch);
    pthread_mutex_unlock(&client->lock);
    if (err != MICROREG_OK) {
        microreg_watch_close(watch);
        return mrg_fail(out_error, err, "cannot watch: %s",
                        microreg_strerror(err));
    }
    *out_watch = watch;
    return MICROREG_OK;
}

int microreg_watch_open(struct microreg *client, const char *service,
                        unsigned flags, struct microreg_watch **out_watch,
                        struct microreg_error *out_error)
{
    const char *name = service != NULL ? service : "";

    if (!mrg_is_utf8(name, strlen(name))) {
        return mrg_fail(out_error, MICROREG_E_INVALID,
                        "the name of the service is not UTF-8");
    }
    if (strlen(name) > MRG_NAME_MAX) {
        return mrg_fail(out_error, MICROREG_E_INVALID,
                        "the name of the service has more than %d bytes",
                        MRG_NAME_MAX);
    }
    return open_watch(client, name, false, flags, out_watch, out_error);
}

int microreg_kv_watch_open(struct microreg *client, const char *key,
                           unsigned flags, struct microreg_watch **out_watch,
                           struct microreg_error *out_error)
{
    int err = mrg_key_check(key, out_error);

    if (err != MICROREG_OK) {
        return err;
    }
    if (key[0] == '\0' && (flags & MICROREG_PREFIX) == 0) {
        return mrg_fail(out_error, MICROREG_E_INVALID, "the key is missing");
    }
    return open_watch(client, key, true, flags, out_watch, out_error);
}

/* ------------------------------------------------------------- reading */

/* Wait for an event and take it. */
static int take_event(struct microreg_watch *watch, int timeout_ms,
                      struct mrg_queued *out_event)
{
    struct microreg *client = watch->client;
    uint64_t deadline_ms =
        timeout_ms < 0 ? UINT64_MAX : mrg_now_ms() + (uint64_t)timeout_ms;
    bool has_time = timeout_ms != 0;

    while (watch->topic != NULL) {
        if (watch->is_behind && watch->topic->is_synced &&
            !mrg_queue_catch_up(watch)) {
            return MICROREG_E_NOMEM;
        }
        if (watch->n_queued > 0) {
            if (!mrg_queue_pop(watch, out_event)) {
                return MICROREG_E_NOMEM;
            }
            if (watch->n_queued == 0) {
                quiet(watch);
            }
            atomic_fetch_add(&client->stats.events, 1);
            return MICROREG_OK;
        }
        quiet(watch);
        if (!has_time) {
            return MICROREG_E_AGAIN;
        }
        has_time =
            mrg_cond_wait_until(&watch->ready, &client->lock, deadline_ms);
    }
    return MICROREG_E_STOPPED;
}

/* The event that was taken is `current`, and could not be handed out. */
static void owe(struct microreg_watch *watch)
{
    pthread_mutex_lock(&watch->client->lock);
    watch->is_owed = true;
    mrg_watch_wake(watch);
    pthread_mutex_unlock(&watch->client->lock);
}

static int take_owed(struct microreg_watch *watch)
{
    watch->is_owed = false;
    if (watch->n_queued == 0) {
        quiet(watch);
    }
    return MICROREG_OK;
}

/* Take the next event as `current`, whose object stays until the next call. */
static int next_event(struct microreg_watch *watch, int timeout_ms,
                      struct microreg_error *out_error)
{
    struct mrg_queued event;
    int err;

    pthread_mutex_lock(&watch->client->lock);
    if (watch->is_owed && watch->topic != NULL) {
        err = take_owed(watch);
    } else {
        mrg_object_unref(watch->object);
        watch->object = NULL;
        err = take_event(watch, timeout_ms, &event);
        if (err == MICROREG_OK) {
            watch->object = event.object;
            watch->current =
                (struct microreg_event){event.action, event.index, NULL, NULL};
        }
    }
    pthread_mutex_unlock(&watch->client->lock);
    switch (err) {
    case MICROREG_OK:
        return MICROREG_OK;
    case MICROREG_E_STOPPED:
        return mrg_fail(out_error, err, "the watch was stopped");
    case MICROREG_E_AGAIN:
        return mrg_fail(out_error, err, "nothing happened");
    default:
        return mrg_nomem(out_error);
    }
}

/* Take the object of `current` apart. It was understood when it came, so only
 * memory can be missing. */
static int read_object(struct microreg_watch *watch)
{
    const struct mrg_json *json;
    struct microreg_key *key;
    int err = mrg_json_parse(&watch->arena, mrg_object_json(watch->object),
                             watch->object->json_len, &json, NULL);

    if (err != MICROREG_OK) {
        return err;
    }
    if (!watch->is_keys) {
        err = mrg_service_read(&watch->arena, json, &watch->service);
        watch->current.service = &watch->service;
        return err;
    }
    key = mrg_arena_alloc(&watch->arena, sizeof *key);
    watch->current.key = key;
    return key == NULL ? MICROREG_E_NOMEM
                       : mrg_key_read(&watch->arena, json, key);
}

int microreg_watch_next(struct microreg_watch *watch, int timeout_ms,
                        const struct microreg_event **out_event,
                        struct microreg_error *out_error)
{
    int err;

    mrg_arena_deinit(&watch->arena);
    err = next_event(watch, timeout_ms, out_error);
    if (err == MICROREG_OK && watch->object != NULL) {
        err = read_object(watch);
        if (err != MICROREG_OK) {
            owe(watch);
            return mrg_fail(out_error, err, "the event of %s: %s",
                            mrg_object_name(watch->object),
                            microreg_strerror(err));
        }
    }
    if (err == MICROREG_OK) {
        *out_event = &watch->current;
    }
    return err;
}

static const char *action_word(enum microreg_action action)
{
    switch (action) {
    case MICROREG_CREATE:
        return "create";
    case MICROREG_DELETE:
        return "delete";
    case MICROREG_UPDATE:
        return "update";
    case MICROREG_SYNCED:
        return "synced";
    }
    return "";
}

int microreg_watch_next_json(struct microreg_watch *watch, int timeout_ms,
                             char **out_json, size_t *out_len,
                             struct microreg_error *out_error)
{
    struct mrg_text text = MRG_TEXT_INIT;
    char *json;
    int err = next_event(watch, timeout_ms, out_error);

    if (err != MICROREG_OK) {
        return err;
    }
    mrg_text_printf(&text, "{\"action\":\"%s\",\"index\":%llu",
                    action_word(watch->current.action),
                    (unsigned long long)watch->current.index);
    if (watch->object != NULL) {
        mrg_text_str(&text, watch->is_keys ? ",\"key\":" : ",\"service\":");
        mrg_text_add(&text, mrg_object_json(watch->object),
                     watch->object->json_len);
    }
    mrg_text_byte(&text, '}');
    json = mrg_text_take(&text, out_len);
    mrg_text_deinit(&text);
    if (json == NULL) {
        owe(watch);
        return mrg_nomem(out_error);
    }
    *out_json = json;
    return MICROREG_OK;
}

int microreg_watch_fd(struct microreg_watch *watch)
{
    int fd;

    pthread_mutex_lock(&watch->client->lock);
    if (watch->fds[0] < 0 && mrg_wake_init(watch->fds) && watch->is_signaled) {
        mrg_wake_set(watch->fds);
    }
    fd = watch->fds[0];
    pthread_mutex_unlock(&watch->client->lock);
    return fd;
}

/* ------------------------------------------------------------- the end */

void microreg_watch_stop(struct microreg_watch *watch)
{
    pthread_mutex_lock(&watch->client->lock);
    if (watch->topic != NULL) {
        mrg_streams_leave(watch->client, watch);
        mrg_watch_orphan(watch);
        (void)pthread_cond_broadcast(&watch->ready);
    }
    pthread_mutex_unlock(&watch->client->lock);
}

void microreg_watch_close(struct microreg_watch *watch)
{
    struct microreg *client;

    if (watch == NULL) {
        return;
    }
    client = watch->client;
    microreg_watch_stop(watch);
    pthread_mutex_lock(&client->lock);
    mrg_object_unref(watch->object);
    mrg_queue_deinit(watch);
    pthread_mutex_unlock(&client->lock);
    mrg_arena_deinit(&watch->arena);
    mrg_wake_deinit(watch->fds);
    (void)pthread_cond_destroy(&watch->ready);
    mrg_free(watch);
    mrg_client_unref(client);
}
