/* SPDX-License-Identifier: Apache-2.0 */
/* One stream and its connection. */
#include "stream.h"

#include <string.h>

#define NAMES_MAX ((size_t)256) /* The server's limit. */
#define ANSWER_MIN_MS UINT64_C(750)
#define ANSWER_MAX_MS UINT64_C(10000)
#define RETRY_MIN_MS UINT64_C(50)
#define RETRY_MAX_MS UINT64_C(2000)
#define WHY_MAX ((size_t)200)

struct mrg_stream *mrg_stream_new(struct microreg *client, const char *key,
                                  bool is_prefix)
{
    struct mrg_stream *stream = mrg_alloc(sizeof *stream);

    if (stream == NULL) {
        return NULL;
    }
    stream->client = client;
    stream->is_prefix = is_prefix;
    stream->restart_ms = UINT64_MAX;
    stream->buffer.limit = MRG_LINE_MAX;
    stream->path.limit = stream->body.limit = MRG_TEXT_LIMIT;
    stream->why.limit = MRG_TEXT_LIMIT;
    if (key != NULL) {
        stream->key = mrg_dup(key, strlen(key));
        if (stream->key == NULL) {
            mrg_free(stream);
            return NULL;
        }
    }
    return stream;
}

void mrg_stream_free(struct mrg_stream *stream)
{
    struct mrg_topic *topic;
    size_t at = 0;

    mrg_stream_drop_pending(stream);
    while ((topic = mrg_map_next(&stream->topics, &at)) != NULL) {
        mrg_topic_free(topic);
    }
    mrg_map_deinit(&stream->topics);
    mrg_transfer_deinit(&stream->t);
    mrg_servers_unref(stream->servers);
    mrg_text_deinit(&stream->path);
    mrg_text_deinit(&stream->body);
    mrg_text_deinit(&stream->buffer);
    mrg_text_deinit(&stream->why);
    mrg_arena_deinit(&stream->arena);
    mrg_free(stream->key);
    mrg_free(stream);
}

/* ------------------------------------------------------------- asking */

/* The least index of all topics; 0: one of them has none. */
static uint64_t least_index(const struct mrg_stream *stream)
{
    const struct mrg_topic *topic;
    uint64_t least = UINT64_MAX;
    size_t at = 0;

    while ((topic = mrg_map_next(&stream->topics, &at)) != NULL) {
        least = topic->index < least ? topic->index : least;
    }
    return least;
}

/* {"services":[{"name":"a","index":25},{"name":"b"}]} */
static void write_names(struct mrg_stream *stream)
{
    const struct mrg_topic *topic;
    size_t at = 0;
    bool is_first = true;

    mrg_text_str(&stream->body, "{\"services\":[");
    while ((topic = mrg_map_next(&stream->topics, &at)) != NULL) {
        mrg_text_str(&stream->body, is_first ? "{\"name\":" : ",{\"name\":");
        mrg_text_json(&stream->body, topic->name, topic->name_len);
        if (topic->index != 0) {
            mrg_text_printf(&stream->body, ",\"index\":%llu",
                            (unsigned long long)topic->index);
        }
        mrg_text_byte(&stream->body, '}');
        is_first = false;
    }
    mrg_text_str(&stream->body, "]}");
}

/* Write what to ask for: path and body. */
static void write_request(struct mrg_stream *stream)
{
    unsigned long long progress_ms =
        (unsigned long long)stream->client->options.progress_ms;
    uint64_t least = least_index(stream);

    mrg_text_clear(&stream->path);
    mrg_text_clear(&stream->body);
    stream->wants_all = stream->key != NULL ||
                        mrg_map_get(&stream->topics, "", 0) != NULL ||
                        stream->topics.n > NAMES_MAX;
    if (stream->key != NULL) {
        mrg_text_str(&stream->path, stream->is_prefix ? "/v1/watch/keyprefix/"
                                                      : "/v1/watch/key/");
        mrg_text_url(&stream->path, stream->key, true);
    } else {
        mrg_text_str(&stream->path, "/registry/watch");
    }
    mrg_text_printf(&stream->path, "?progress=%llums", progress_ms);
    if (!stream->wants_all) {
        write_names(stream);
    } else if (least != 0) {
        mrg_text_printf(&stream->path, "&index=%llu",
                        (unsigned long long)least);
    }
}

/* The topics that are asked for without an index get a snapshot. */
static void mark_asked(struct mrg_stream *stream)
{
    uint64_t least = least_index(stream);
    struct mrg_topic *topic;
    size_t at = 0;

    while ((topic = mrg_map_next(&stream->topics, &at)) != NULL) {
        topic->is_asked = true;
        if (topic->index == 0 || (stream->wants_all && least == 0)) {
            mrg_topic_reset(topic);
        }
    }
}

/* ------------------------------------------------------------- connecting */

static size_t on_stream_body(char *bytes, size_t size, size_t n, void *arg)
{
    struct mrg_stream *stream = arg;
    struct microreg *client = stream->client;
    bool is_done = true;

    if (stream->t.status != 200) {
        if (stream->why.len < WHY_MAX) {
            mrg_text_add(&stream->why, bytes, size * n);
        }
        return size * n;
    }
    pthread_mutex_lock(&client->lock);
    is_done = mrg_stream_read(stream, bytes, size * n);
    pthread_mutex_unlock(&client->lock);
    return is_done ? size * n : 0;
}

void mrg_stream_start(struct mrg_stream *stream, CURLM *multi)
{
    struct microreg *client = stream->client;
    struct mrg_request request = {0};
    unsigned char order[MRG_SERVERS_MAX];
    struct mrg_server *server;

    mrg_servers_unref(stream->servers);
    stream->servers = mrg_servers_ref(client->servers);
    mrg_servers_order(stream->servers, mrg_now_ms(), order);
    server = &stream->servers->items[order[0]];
    stream->restart_ms = UINT64_MAX;
    mrg_text_clear(&stream->buffer);
    mrg_text_clear(&stream->why);
    write_request(stream);
    request.method = stream->wants_all ? "GET" : "POST";
    request.path = stream->path.data;
    request.body = stream->body.data;
    request.body_len = stream->body.len;
    if (stream->path.failed || stream->body.failed ||
        mrg_transfer_init(&stream->t, client, server, &request) !=
            MICROREG_OK) {
        stream->retry_ms = mrg_now_ms() + RETRY_MAX_MS;
        return;
    }
    mrg_transfer_body(&stream->t, on_stream_body, stream);
    mark_asked(stream);
    stream->is_running = true;
    stream->heard_ms = mrg_now_ms();
    atomic_fetch_add(&client->stats.streams, 1);
    if (curl_multi_add_handle(multi, stream->t.easy) != CURLM_OK) {
        mrg_stream_stop(stream, multi);
        stream->retry_ms = mrg_now_ms() + RETRY_MAX_MS;
    }
}

void mrg_stream_stop(struct mrg_stream *stream, CURLM *multi)
{
    struct mrg_topic *topic;
    size_t at = 0;

    if (stream->is_running) {
        (void)curl_multi_remove_handle(multi, stream->t.easy);
    }
    stream->is_running = false;
    stream->is_live = false;
    mrg_stream_drop_pending(stream);
    while ((topic = mrg_map_next(&stream->topics, &at)) != NULL) {
        mrg_topic_cut(topic);
    }
}

/* How long to wait before the next try: not at all until each server has failed
 * once, then longer after each round. */
static uint64_t pause_ms(const struct mrg_stream *stream)
{
    unsigned round = stream->n_failures / (unsigned)stream->servers->n;
    uint64_t pause = RETRY_MIN_MS << (round < 6 ? round : 6);

    if (round == 0) {
        return 0;
    }
    return pause < RETRY_MAX_MS ? pause : RETRY_MAX_MS;
}

void mrg_stream_fail(struct mrg_stream *stream, CURLM *multi, const char *why)
{
    uint64_t now_ms = mrg_now_ms();
    const char *said = stream->why.len > 0 ? stream->why.data : why;

    mrg_server_failed(stream->t.server, now_ms);
    stream->n_failures++;
    atomic_fetch_add(&stream->client->stats.failovers, 1);
    mrg_log(stream->client, MICROREG_LOG_INFO, "%s: %s: status %d: %.*s",
            stream->key != NULL ? "watch of keys" : "watch of services",
            stream->t.server->name, stream->t.status,
            (int)strcspn(said, "\r\n"), said);
    mrg_stream_stop(stream, multi);
    stream->retry_ms = now_ms + pause_ms(stream);
}

uint64_t mrg_stream_patience(const struct mrg_stream *stream)
{
    uint64_t wait = ANSWER_MIN_MS
                    << (stream->n_failures < 4 ? stream->n_failures : 4);

    if (stream->is_live) {
        wait = 2 * (uint64_t)stream->client->options.progress_ms;
    } else if (wait > ANSWER_MAX_MS) {
        wait = ANSWER_MAX_MS;
    }
    return stream->heard_ms + wait;
}
