/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Committed entries to the state machine.
 *
 * An entry is handed over when it is committed and durable here. The second
 * half is ours: the core would allow to apply what only the others have on
 * disk, but then the state machine could be ahead of the log after a crash.
 *
 * At most BATCHES_MAX batches are on their way, so under load they grow, and
 * one transaction serves many commands.
 */
#include "raft/driver_impl.h"

#include <string.h>

#include "base/mem.h"

#define COMMANDS_MAX 2048
#define ENTRIES_MAX 1024
#define BYTES_MAX (1024u * 1024u)

/* Entries to be handed over, chosen and counted. */
struct stretch {
    const struct driver_entry *entries[ENTRIES_MAX];
    size_t n_entries;
    size_t n_commands;
    size_t bytes;
};

/* Whether there is room for @e, which is then counted. MR_E_CORRUPT. */
static enum mr_err stretch_add(struct stretch *s, const struct driver_entry *e,
                               bool *out_fits)
{
    struct batch_iter it;
    size_t n = 0;

    if (e->type == DRIVER_ENTRY_COMMANDS) {
        enum mr_err err = batch_open(e->data, &it, &n);
        if (err != MR_OK) {
            return err;
        }
    }
    *out_fits = s->n_entries == 0 || (s->n_entries < ENTRIES_MAX &&
                                      s->n_commands + n <= COMMANDS_MAX &&
                                      s->bytes + e->data.len <= BYTES_MAX);
    if (*out_fits) {
        s->entries[s->n_entries++] = e;
        s->n_commands += n;
        s->bytes += e->data.len;
    }
    return MR_OK;
}

static struct driver_batch *batch_new(const struct stretch *s)
{
    size_t size = sizeof(struct driver_batch) +
                  s->n_commands * sizeof(struct driver_command) +
                  s->n_entries * sizeof(struct driver_blob *);
    struct driver_batch *b = mr_calloc(1, size);

    if (b != NULL) {
        b->commands = (struct driver_command *)(void *)(b + 1);
        b->blobs = (struct driver_blob **)(void *)(b->commands + s->n_commands);
    }
    return b;
}

static void fill_entry(struct driver *d, struct driver_batch *b,
                       const struct driver_entry *e)
{
    struct batch_iter it;

    proposals_saw_term(d, e->term);
    if (e->type != DRIVER_ENTRY_COMMANDS ||
        batch_open(e->data, &it, NULL) != MR_OK) {
        return; /* It was opened before: only the type decides. */
    }
    b->blobs[b->n_blobs++] = driver_blob_ref(e->blob);
    while (batch_next(&it)) {
        struct driver_command *c = &b->commands[b->n_commands++];
        c->data = it.cmd;
        c->own = proposals_match(d, &it.id);
    }
}

/* Hand over what @s holds, which follows d->handed. */
static void hand_stretch(struct driver *d, const struct stretch *s)
{
    struct driver_batch *b = batch_new(s);

    if (b == NULL) {
        driver_fatal(d, MR_E_NOMEM, "no memory for a batch");
        return;
    }
    b->first_index = d->handed + 1;
    b->last_index = d->handed + s->n_entries;
    b->last_term = s->entries[s->n_entries - 1]->term;
    for (size_t i = 0; i < s->n_entries; i++) {
        fill_entry(d, b, s->entries[i]);
    }
    d->handed = b->last_index;
    d->batches[d->n_batches++] = b->last_index;
    d->opt.io.apply(d->opt.io.arg, b);
}

static uint64_t ready_index(const struct driver *d)
{
    uint64_t index = d->commit;

    if (index > d->core.last_stored) {
        index = d->core.last_stored;
    }
    return index > d->log.last ? d->log.last : index;
}

static bool may_hand_over(const struct driver *d)
{
    return !d->is_dead && d->snaps.stage == INSTALL_NONE &&
           d->n_batches < BATCHES_MAX && d->load_token == 0 &&
           d->done_ticket >= d->first_ticket;
}

/* Hand over entries, of which the @i-th is found by @get. */
static bool hand_some(struct driver *d, uint64_t upto,
                      const struct driver_entry *loaded, size_t n)
{
    struct stretch s;
    uint64_t index = d->handed + 1;
    bool fits = true;

    s.n_entries = 0;
    s.n_commands = 0;
    s.bytes = 0;
    for (size_t i = 0; fits && index <= upto; i++, index++) {
        const struct driver_entry *e = loaded == NULL
                                           ? entries_get(&d->log, index)
                                           : (i < n ? &loaded[i] : NULL);
        if (e == NULL) {
            break;
        }
        if (stretch_add(&s, e, &fits) != MR_OK) {
            driver_fatal(d, MR_E_CORRUPT, "an entry does not decode");
            return false;
        }
    }
    if (s.n_entries > 0) {
        hand_stretch(d, &s);
    }
    return s.n_entries > 0;
}

void driver_hand_over(struct driver *d)
{
    while (may_hand_over(d) && d->handed < ready_index(d)) {
        if (!hand_some(d, ready_index(d), NULL, 0) && !d->is_dead) {
            d->load_token = ++d->next_token;
            d->opt.io.log_load(d->opt.io.arg, d->load_token, d->handed + 1,
                               ready_index(d), BYTES_MAX);
        }
    }
}

void driver_apply_loaded(struct driver *d, enum mr_err err, uint64_t first,
                         const struct driver_entry *entries, size_t n)
{
    d->load_token = 0;
    if (d->snaps.stage != INSTALL_NONE || first != d->handed + 1) {
        return; /* Overtaken by an install. */
    }
    if (err != MR_OK || n == 0) {
        driver_fatal(d, err == MR_OK ? MR_E_CORRUPT : err,
                     "committed entries cannot be loaded");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (entries[i].term != entries_term(&d->log, first + i)) {
            driver_fatal(d, MR_E_CORRUPT, "a loaded entry is another one");
            return;
        }
    }
    if (d->n_batches < BATCHES_MAX) {
        (void)hand_some(d, first + n - 1, entries, n); /* Some or fatal. */
    }
}

void driver_log_loaded(struct driver *d, uint64_t token, enum mr_err err,
                       uint64_t first, const struct driver_entry *entries,
                       size_t n)
{
    if (!d->is_dead) {
        if (token == d->load_token) {
            driver_apply_loaded(d, err, first, entries, n);
        } else {
            (void)driver_stream_loaded(d, token, err, first, entries, n);
        }
    }
    for (size_t i = 0; i < n; i++) {
        driver_blob_unref(entries[i].blob);
    }
    driver_settle(d);
}

void driver_applied(struct driver *d, uint64_t index)
{
    if (d->is_dead || index <= d->applied) {
        return;
    }
    d->applied = index;
    while (d->n_batches > 0 && d->batches[0] <= index) {
        d->n_batches--;
        memmove(d->batches, d->batches + 1,
                d->n_batches * sizeof d->batches[0]);
    }
    reads_applied(d);
    driver_settle(d);
}

bool driver_wants_applied(const struct driver *d)
{
    return d->n_batches == BATCHES_MAX || !mr_list_empty(&d->reads.applying) ||
           !mr_list_empty(&d->snaps.waiters) ||
           (driver_leads(d) && d->applied < d->own_term_index);
}
