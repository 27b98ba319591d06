/* SPDX-License-Identifier: Apache-2.0 */
/* What a server streams: lines, in pieces, for two services and for all. */
#include <stdint.h>
#include <stdlib.h>

#include "client-lib/client.h"
#include "client-lib/stream.h"
#include "client-lib/watch.h"

#define PIECE ((size_t)7)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mrg_topic *add_topic(struct mrg_stream *stream, const char *name)
{
    struct mrg_topic *topic = mrg_topic_new(stream, name);

    if (topic == NULL || !mrg_map_reserve(&stream->topics, 1)) {
        abort();
    }
    (void)mrg_map_put(&stream->topics, topic->name, topic->name_len, topic);
    topic->is_asked = true;
    mrg_topic_reset(topic);
    return topic;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct microreg client = {0};
    struct mrg_server server = {0};
    struct mrg_stream *stream = mrg_stream_new(&client, NULL, false);
    struct mrg_topic *topics[3];
    bool goes_on = true;

    if (stream == NULL) {
        abort();
    }
    stream->t.server = &server;
    topics[0] = add_topic(stream, "a");
    topics[1] = add_topic(stream, "b");
    topics[2] = add_topic(stream, "");
    while (goes_on && size > 0) {
        size_t n = size < PIECE ? size : PIECE;

        goes_on = mrg_stream_read(stream, (const char *)data, n);
        data += n;
        size -= n;
    }
    for (size_t i = 0; i < 3; i++) {
        (void)mrg_topic_render(topics[i]);
    }
    mrg_stream_free(stream);
    return 0;
}
