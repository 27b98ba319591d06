/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a frame, through every decoder; the first byte is the type. */
#include <stdlib.h>

#include "base/mem.h"
#include "raft/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_message(const struct frame *f)
{
    static struct frame_arena arena;
    struct driver_message msg;
    struct driver_blob *blob;

    if (frame_get_message(f, &arena, &msg, &blob) != MR_OK) {
        return;
    }
    for (size_t i = 0;
         msg.type == DRIVER_MSG_APPEND && i < msg.append.n_entries; i++) {
        const struct driver_entry *e = &msg.append.entries[i];

        if ((const uint8_t *)e->data.data < blob->data ||
            (const uint8_t *)e->data.data + e->data.len >
                blob->data + blob->len) {
            abort();
        }
    }
    driver_blob_unref(blob);
}

static void as_others(const struct frame *f)
{
    static struct frame_hello hello;
    static struct frame_welcome welcome;
    static struct frame_gossip gossip;
    static struct frame_promise promise;
    static struct frame_server servers[FRAME_SERVERS_MAX];
    struct frame_promise_reply reply;
    struct frame_snapshot snapshot;
    char reason[FRAME_REASON_MAX + 1];
    char *conf = NULL;
    enum mr_err err;
    size_t n;

    if (frame_get_hello(f, &hello) == MR_OK) {
        (void)frame_check_hello(&hello, &hello, reason);
    }
    (void)!frame_get_welcome(f, &welcome);
    (void)!frame_get_gossip(f, &gossip);
    (void)!frame_get_promise(f, &promise);
    (void)!frame_get_promise_reply(f, &reply);
    (void)!frame_get_snapshot_reply(f, &err);
    (void)!frame_load_servers(f->head, servers, &n);
    if (frame_get_snapshot(f, &snapshot, &conf) == MR_OK) {
        mr_free(conf);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct frame f;
    size_t len;

    if (frame_parse(mr_slice(data, size), FRAME_MAX, &f, &len) == MR_OK &&
        len > size) {
        abort();
    }
    if (size < 2) {
        return 0;
    }
    f.type = data[0];
    len = data[1] < size - 2 ? data[1] : size - 2;
    f.bulk = mr_slice(data + 2, len);
    f.head = mr_slice(data + 2 + len, size - 2 - len);
    as_message(&f);
    as_others(&f);
    return 0;
}
