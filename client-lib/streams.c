/* SPDX-License-Identifier: Apache-2.0 */
/* The streams of a client, and the thread that reads them. */
#include <string.h>

#include "stream.h"
#include "watch.h"

/* So long after a new watch the stream connects anew: a program that opens
 * twenty watches in a row connects once. */
#define GATHER_MS UINT64_C(3)
#define FOLLOWED_MAX 256
#define POLL_MAX_MS 60000

/* ------------------------------------------------------------- the thread */

/* Whether the stream has waited for a sign of life for too long. */
static bool is_silent(const struct mrg_stream *stream, uint64_t now_ms)
{
    return stream->is_running && now_ms >= mrg_stream_patience(stream);
}

/* Bring one stream to where it should be. Returns when to look again. */
static uint64_t tend(struct mrg_streams *streams, struct mrg_stream *stream,
                     uint64_t now_ms)
{
    uint64_t at;

    if (is_silent(stream, now_ms)) {
        mrg_stream_fail(stream, streams->multi, "is silent");
    }
    if (stream->is_running && now_ms >= stream->restart_ms) {
        mrg_stream_stop(stream, streams->multi);
        stream->retry_ms = 0;
    }
    if (!stream->is_running && now_ms >= stream->retry_ms &&
        stream->topics.n > 0) {
        mrg_stream_start(stream, streams->multi);
    }
    if (stream->topics.n == 0) {
        mrg_stream_stop(stream, streams->multi);
        return UINT64_MAX;
    }
    at = stream->is_running ? mrg_stream_patience(stream) : stream->retry_ms;
    return at < stream->restart_ms ? at : stream->restart_ms;
}

/* Bring all to where they should be, and free those that nobody needs. */
static uint64_t tend_all(struct mrg_streams *streams)
{
    struct mrg_stream **link = &streams->list;
    uint64_t next_ms = UINT64_MAX;
    uint64_t now_ms = mrg_now_ms();

    while (*link != NULL) {
        struct mrg_stream *stream = *link;
        uint64_t at = tend(streams, stream, now_ms);

        next_ms = at < next_ms ? at : next_ms;
        if (stream->topics.n == 0 && stream != streams->services) {
            *link = stream->next;
            mrg_stream_free(stream);
        } else {
            link = &stream->next;
        }
    }
    return next_ms;
}

/* Take the connections that have ended. */
static void reap_streams(struct mrg_streams *streams)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(streams->multi, &left)) != NULL) {
        CURLcode code = message->data.result;

        for (struct mrg_stream *s = streams->list; s != NULL; s = s->next) {
            if (s->is_running && s->t.easy == message->easy_handle) {
                mrg_stream_fail(s, streams->multi,
                                code == CURLE_OK
                                    ? "ended the stream"
                                    : mrg_transfer_text(&s->t, code));
                break;
            }
        }
    }
}

static void *run_streams(void *arg)
{
    struct microreg *client = arg;
    struct mrg_streams *streams = client->streams;

    pthread_mutex_lock(&client->lock);
    while (!streams->is_stopping) {
        uint64_t next_ms;
        uint64_t now_ms;
        int wait_ms = POLL_MAX_MS;
        int n_running;

        reap_streams(streams);
        next_ms = tend_all(streams);
        pthread_mutex_unlock(&client->lock);
        now_ms = mrg_now_ms();
        if (next_ms <= now_ms) {
            wait_ms = 0;
        } else if (next_ms - now_ms < POLL_MAX_MS) {
            wait_ms = (int)(next_ms - now_ms);
        }
        /* What ends in here must be taken before anything is waited for. */
        (void)curl_multi_poll(streams->multi, NULL, 0, wait_ms, NULL);
        (void)curl_multi_perform(streams->multi, &n_running);
        pthread_mutex_lock(&client->lock);
    }
    pthread_mutex_unlock(&client->lock);
    return NULL;
}

/* The client's streams, made and started if there are none. With the lock. */
static struct mrg_streams *get_streams(struct microreg *client)
{
    struct mrg_streams *streams = client->streams;

    if (streams != NULL) {
        return streams;
    }
    streams = mrg_alloc(sizeof *streams);
    if (streams == NULL) {
        return NULL;
    }
    streams->multi = curl_multi_init();
    streams->services = mrg_stream_new(client, NULL, false);
    streams->list = streams->services;
    client->streams = streams;
    if (streams->multi == NULL || streams->services == NULL ||
        mrg_thread_start(&streams->thread, run_streams, client) !=
            MICROREG_OK) {
        if (streams->services != NULL) {
            mrg_stream_free(streams->services);
        }
        (void)curl_multi_cleanup(streams->multi);
        mrg_free(streams);
        client->streams = NULL;
    }
    return client->streams;
}

void mrg_streams_stop(struct microreg *client)
{
    struct mrg_streams *streams = client->streams;

    if (streams == NULL) {
        return;
    }
    pthread_mutex_lock(&client->lock);
    streams->is_stopping = true;
    (void)curl_multi_wakeup(streams->multi);
    pthread_mutex_unlock(&client->lock);
    (void)pthread_join(streams->thread, NULL);
    pthread_mutex_lock(&client->lock);
    while (streams->list != NULL) {
        struct mrg_stream *stream = streams->list;
        struct mrg_topic *topic;
        size_t at = 0;

        streams->list = stream->next;
        while ((topic = mrg_map_next(&stream->topics, &at)) != NULL) {
            while (topic->watches != NULL) {
                struct microreg_watch *watch = topic->watches;

                topic->watches = watch->next;
                mrg_watch_orphan(watch);
            }
        }
        mrg_stream_stop(stream, streams->multi);
        mrg_stream_free(stream);
    }
    client->streams = NULL;
    pthread_mutex_unlock(&client->lock);
    (void)curl_multi_cleanup(streams->multi);
    mrg_free(streams);
}

/* ------------------------------------------------------------- topics */

/* The stream must ask for something else than before. */
static void reconnect_soon(struct mrg_streams *streams,
                           struct mrg_stream *stream)
{
    if (stream->restart_ms == UINT64_MAX) {
        stream->restart_ms = mrg_now_ms() + GATHER_MS;
    }
    (void)curl_multi_wakeup(streams->multi);
}

/* Fill a new topic with what is known of all services. */
static void fill_from_all(struct mrg_stream *stream, struct mrg_topic *topic)
{
    struct mrg_topic *all = mrg_map_get(&stream->topics, "", 0);
    struct mrg_object *object;
    size_t at = 0;

    if (all == NULL || all == topic || !all->is_synced || all->has_snapshot ||
        all->index == 0) {
        return;
    }
    if (stream->n_pending > 0) {
        return; /* Of that revision it would get only the rest. */
    }
    while ((object = mrg_map_next(&all->view, &at)) != NULL) {
        if (strcmp(mrg_object_name(object), topic->name) != 0) {
            continue;
        }
        if (!mrg_map_reserve(&topic->view, 1)) {
            mrg_view_deinit(&topic->view);
            return;
        }
        mrg_view_put(&topic->view, object);
    }
    topic->is_asked = all->is_asked;
    topic->is_synced = true;
    topic->index = all->index;
}

/* The topic of @name in @stream, made if there is none. NULL: no memory. */
static struct mrg_topic *get_topic(struct mrg_streams *streams,
                                   struct mrg_stream *stream, const char *name)
{
    struct mrg_topic *topic = mrg_map_get(&stream->topics, name, strlen(name));

    if (topic != NULL) {
        return topic;
    }
    if (!mrg_map_reserve(&stream->topics, 1)) {
        return NULL;
    }
    topic = mrg_topic_new(stream, name);
    if (topic != NULL) {
        (void)mrg_map_put(&stream->topics, topic->name, topic->name_len, topic);
        if (stream->key == NULL && stream->wants_all) {
            fill_from_all(stream, topic);
        }
        if (!topic->is_asked) {
            reconnect_soon(streams, stream);
        }
    }
    return topic;
}

/* Nobody wants a topic any more. */
static void drop_topic(struct mrg_streams *streams, struct mrg_topic *topic)
{
    struct mrg_stream *stream = topic->stream;
    size_t kept = 0;

    for (size_t i = 0; i < stream->n_pending; i++) {
        if (stream->pending[i].topic == topic) {
            mrg_object_unref(stream->pending[i].object);
        } else {
            stream->pending[kept++] = stream->pending[i];
        }
    }
    stream->n_pending = kept;
    (void)mrg_map_remove(&stream->topics, topic->name, topic->name_len);
    mrg_topic_free(topic);
    if (stream->topics.n == 0) {
        (void)curl_multi_wakeup(streams->multi);
    }
}

int mrg_streams_join(struct microreg *client, const char *name,
                     struct microreg_watch *watch)
{
    struct mrg_streams *streams = get_streams(client);
    struct mrg_stream *stream = streams == NULL ? NULL : streams->services;
    struct mrg_topic *topic;

    if (stream != NULL && watch->is_keys) {
        stream =
            mrg_stream_new(client, name, (watch->flags & MICROREG_PREFIX) != 0);
        name = "";
    }
    topic = stream == NULL ? NULL : get_topic(streams, stream, name);
    if (topic == NULL) {
        if (stream != NULL && watch->is_keys) {
            mrg_stream_free(stream);
        }
        return MICROREG_E_NOMEM;
    }
    if (watch->is_keys) {
        stream->next = streams->list;
        streams->list = stream;
    }
    watch->topic = topic;
    watch->next = topic->watches;
    topic->watches = watch;
    mrg_watch_wake(watch);
    return MICROREG_OK;
}

void mrg_streams_leave(struct microreg *client, struct microreg_watch *watch)
{
    struct microreg_watch **link = &watch->topic->watches;

    while (*link != watch) {
        link = &(*link)->next;
    }
    *link = watch->next;
    if (watch->topic->watches == NULL && !watch->topic->is_followed) {
        drop_topic(client->streams, watch->topic);
    }
}

void mrg_streams_readdress(struct microreg *client)
{
    if (client->streams == NULL) {
        return;
    }
    for (struct mrg_stream *s = client->streams->list; s != NULL; s = s->next) {
        s->restart_ms = s->retry_ms = 0;
    }
    (void)curl_multi_wakeup(client->streams->multi);
}

/* ------------------------------------------------------------- answers */

void mrg_streams_wrote(struct microreg *client, const char *service,
                       uint64_t index)
{
    struct mrg_topic *topic = NULL;

    pthread_mutex_lock(&client->lock);
    if (client->streams != NULL) {
        topic = mrg_map_get(&client->streams->services->topics, service,
                            strlen(service));
    }
    if (topic != NULL && index > topic->own_index) {
        topic->own_index = index;
    }
    pthread_mutex_unlock(&client->lock);
}

bool mrg_streams_answer(struct microreg *client, const char *service,
                        struct mrg_text *out_json, uint64_t *out_index)
{
    struct mrg_streams *streams;
    struct mrg_topic *topic = NULL;
    const struct mrg_text *text = NULL;

    pthread_mutex_lock(&client->lock);
    streams = get_streams(client);
    if (streams != NULL) {
        topic =
            mrg_map_get(&streams->services->topics, service, strlen(service));
        if (topic == NULL && streams->services->topics.n < FOLLOWED_MAX) {
            topic = get_topic(streams, streams->services, service);
        }
    }
    if (topic != NULL) {
        topic->is_followed = true;
        if (streams->services->is_live && topic->is_synced &&
            !topic->has_snapshot && topic->index != 0 &&
            topic->index >= topic->own_index) {
            text = mrg_topic_render(topic);
        }
    }
    if (text != NULL) {
        *out_index = topic->index;
        mrg_text_add(out_json, text->data, text->len);
    }
    pthread_mutex_unlock(&client->lock);
    return text != NULL && !out_json->failed;
}
