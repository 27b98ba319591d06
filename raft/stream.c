/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries to the other servers.
 *
 * The core says "send entries a to b" without the entries and without an idea
 * of bytes. Per server this file keeps the stretch next .. end that is still to
 * go out and the chunks that are on their way:
 *
 * - In the usual case the entries are cached and leave at once, in one message.
 * - Long stretches go in chunks, as far as the window of unacknowledged bytes
 *   allows; an acknowledgement opens it again.
 * - What is not cached is loaded from the log, one load at a time.
 * - A refusal, or the core starting over, drops what is under way; messages
 *   that were sent too early are refused and cost a round trip, nothing more.
 *
 * Followers learn the commit index with the next entries. When none go out,
 * driver_propagate_commit() sends an empty message at the end of the round, so
 * that they apply after one round trip and not at the next heartbeat.
 */
#include "raft/driver_impl.h"

#include "base/mem.h"

#define CHUNK_BYTES (1024u * 1024u)
#define CHUNK_ENTRIES 512
#define WINDOW_BYTES (8u * 1024u * 1024u)
#define STUCK_MS 2000   /* Nothing moved: it is lost, the core starts over. */
#define PATIENCE_MS 200 /* Before a repeated stretch is sent again. */

void driver_stream_reset(struct driver_remote *r)
{
    r->next = 1;
    r->end = 0;
    r->start = 0;
    r->load_token = 0;
    r->n_chunks = 0;
    r->window_bytes = 0;
}

static bool window_is_open(const struct driver_remote *r)
{
    return r->n_chunks < STREAM_CHUNKS && r->window_bytes < WINDOW_BYTES;
}

static void note_commit(struct driver *d, struct driver_remote *r,
                        uint64_t last)
{
    uint64_t told = d->commit < last ? d->commit : last;

    r->told_commit = told > r->told_commit ? told : r->told_commit;
}

/* Send @n entries that follow each other from r->next on. */
static void send_chunk(struct driver *d, struct driver_remote *r,
                       const struct driver_entry *entries, size_t n)
{
    struct driver_message msg = {.type = DRIVER_MSG_APPEND,
                                 .term = d->core.current_term};
    struct driver_chunk *chunk;

    msg.append.prev_index = r->next - 1;
    msg.append.prev_term = entries_term(&d->log, r->next - 1);
    msg.append.commit = d->commit;
    msg.append.entries = entries;
    msg.append.n_entries = n;
    if (msg.append.prev_index != 0 && msg.append.prev_term == 0) {
        driver_stream_reset(r); /* Compacted: the core will send a snapshot. */
        return;
    }
    chunk = &r->chunks[(r->chunk_head + r->n_chunks++) % STREAM_CHUNKS];
    chunk->last = r->next + n - 1;
    chunk->bytes = 0;
    for (size_t i = 0; i < n; i++) {
        chunk->bytes += entries[i].data.len;
    }
    r->window_bytes += chunk->bytes;
    r->next += n;
    r->sent_ms = d->now;
    note_commit(d, r, chunk->last);
    driver_send(d, r->id, &msg);
}

/* Send what is cached from r->next on; false: it is not. */
static bool send_cached(struct driver *d, struct driver_remote *r)
{
    struct driver_entry entries[CHUNK_ENTRIES];
    size_t bytes = 0;
    size_t n = 0;

    while (n < CHUNK_ENTRIES && bytes < CHUNK_BYTES && r->next + n <= r->end) {
        const struct driver_entry *e = entries_get(&d->log, r->next + n);
        if (e == NULL) {
            break;
        }
        entries[n++] = *e;
        bytes += e->data.len;
    }
    if (n > 0) {
        send_chunk(d, r, entries, n);
    }
    return n > 0;
}

static void pump(struct driver *d, struct driver_remote *r)
{
    while (r->next <= r->end && r->load_token == 0 && window_is_open(r)) {
        if (r->end > d->log.last) {
            r->end = d->log.last;
        } else if (r->next <= d->log.offset) {
            driver_stream_reset(r);
        } else if (!send_cached(d, r)) {
            r->load_token = ++d->next_token;
            d->opt.io.log_load(d->opt.io.arg, r->load_token, r->next, r->end,
                               CHUNK_BYTES);
        }
    }
}

void driver_stream(struct driver *d, uint64_t peer, uint64_t prev, uint64_t n)
{
    struct driver_remote *r = driver_remote_of(d, peer);
    uint64_t end = prev + n;
    bool is_busy;

    if (r == NULL) {
        return;
    }
    if (r->chunks == NULL) {
        r->chunks = mr_calloc(STREAM_CHUNKS, sizeof *r->chunks);
        if (r->chunks == NULL) {
            return; /* The core asks again. */
        }
    }
    is_busy = r->next <= r->end || r->n_chunks > 0;
    if (is_busy && prev == r->end) {
        r->end = end;
    } else if (is_busy && prev + 1 == r->start && r->load_token == 0 &&
               d->now - r->sent_ms < PATIENCE_MS) {
        r->end = end > r->end ? end : r->end;
    } else if (!is_busy || r->load_token == 0 || prev + 1 != r->start) {
        driver_stream_reset(r);
        r->start = prev + 1;
        r->next = prev + 1;
        r->end = end;
    }
    pump(d, r);
}

void driver_streams_check(struct driver *d)
{
    for (size_t i = 0; i < d->n_remotes; i++) {
        struct driver_remote *r = d->remotes[i];
        if ((r->n_chunks > 0 || r->next <= r->end) &&
            d->now - r->sent_ms >= STUCK_MS) {
            driver_stream_reset(r);
        }
    }
}

void driver_stream_acked(struct driver *d, struct driver_remote *r,
                         uint64_t index)
{
    while (r->n_chunks > 0 && r->chunks[r->chunk_head].last <= index) {
        r->sent_ms = d->now; /* It moves. */
        r->window_bytes -= r->chunks[r->chunk_head].bytes;
        r->chunk_head = (r->chunk_head + 1) % STREAM_CHUNKS;
        r->n_chunks--;
    }
    if (driver_leads(d)) {
        pump(d, r);
    }
}

bool driver_stream_loaded(struct driver *d, uint64_t token, enum mr_err err,
                          uint64_t first, const struct driver_entry *entries,
                          size_t n)
{
    struct driver_remote *r = NULL;

    for (size_t i = 0; i < d->n_remotes; i++) {
        if (d->remotes[i]->load_token == token) {
            r = d->remotes[i];
        }
    }
    if (r == NULL) {
        return false;
    }
    r->load_token = 0;
    if (err != MR_OK || first != r->next || n == 0 || !driver_leads(d) ||
        r->next + n - 1 > d->log.last) {
        driver_stream_reset(r);
        return true;
    }
    for (size_t i = 0; i < n; i++) {
        if (entries_term(&d->log, first + i) != entries[i].term) {
            driver_stream_reset(r);
            return true;
        }
    }
    while (n > 0 && r->next <= r->end) { /* A reset ends it. */
        size_t some = n < CHUNK_ENTRIES ? n : CHUNK_ENTRIES;
        if (r->n_chunks == STREAM_CHUNKS) {
            break;
        }
        send_chunk(d, r, entries, some);
        entries += some;
        n -= some;
    }
    pump(d, r);
    return true;
}

void driver_propagate_commit(struct driver *d)
{
    struct driver_message msg = {.type = DRIVER_MSG_APPEND,
                                 .term = d->core.current_term};

    if (!driver_leads(d)) {
        return;
    }
    for (unsigned i = 0; i < d->core.configuration.n; i++) {
        struct driver_remote *r;
        raft_index match = 0;
        uint64_t id = d->core.configuration.servers[i].id;

        if (id == d->opt.id || raft_match_index(&d->core, id, &match) != 0 ||
            match == 0) {
            continue;
        }
        r = driver_remote_of(d, id);
        if (r == NULL ||
            (d->commit < match ? d->commit : match) <= r->told_commit) {
            continue;
        }
        msg.append.prev_index = match;
        msg.append.prev_term = entries_term(&d->log, match);
        msg.append.commit = d->commit;
        if (msg.append.prev_term == 0) {
            continue;
        }
        note_commit(d, r, match);
        driver_send(d, id, &msg);
    }
}
