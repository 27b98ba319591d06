/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows that count, kept in memory while a batch is applied: those of service
 * names and of tags. Many commands of a batch change the same ones, so they are
 * read once and written once, in the order of their keys. Until the flush nobody
 * may look at these tables past the tallies.
 */
#ifndef MR_KV_TALLY_H
#define MR_KV_TALLY_H

#include "kv/arena.h"
#include "kv/store.h"

#define KV_TALLY_BUCKETS 1024 /* A power of two. */

struct kv_tally {
    struct kv_tally *next; /* In its bucket. */
    uint64_t hash;
    struct mr_slice key;
    uint64_t count; /* Instances; 0: there is no row. */
    uint64_t index; /* A service name's, see struct kv_service_name_row. */
    struct mr_slice text; /* The name as written, or the whole tag. */
    bool is_stored;       /* There is a row in the tree. */
    bool is_dirty;
    bool is_touched; /* Its topic was noted in this batch. */

    /* For kv/record_names.c. */
    struct kv_tally *name; /* A tag's: of its service. */
    struct kv_tally *tags; /* A name's: the newest of its tags that are here, */
    struct kv_tally *older; /* and a tag's: the next of them. */
    struct kv_tally *noted; /* Noted before this one, by this command. */
    uint64_t command;       /* That noted it last; 0: none. */
    uint64_t was_count;     /* Before it. */
    struct mr_slice was_text;
    bool is_large; /* A name's: it has too many tags to be recorded. */
};

struct kv_tallies {
    struct kv_arena arena;
    struct kv_tally *buckets[KV_TALLY_BUCKETS];
    size_t n;
    uint64_t command;
    struct kv_tally *noted; /* The last one noted by this command. */
};

/* Make them empty. They must not be moved afterwards. No allocation. */
void kv_tallies_init(struct kv_tallies *t);
/* Release them. */
void kv_tallies_deinit(struct kv_tallies *t);
/* Forget everything, also what was not flushed. */
void kv_tallies_reset(struct kv_tallies *t);

/* The tally of the row @k (of KV_SERVICE_NAME or KV_TAG), read from @tx the
 * first time; NULL when @tx has failed. */
struct kv_tally *kv_tally_get(struct kv_tallies *t, struct kv_tx *tx,
                              const struct kv_row_key *k);

/* Let @tag be one of @name. */
void kv_tally_link(struct kv_tally *name, struct kv_tally *tag);

/* Begin a command: none is noted. */
void kv_tallies_begin(struct kv_tallies *t);

/* Note what @tally is, because the command is about to change it. */
void kv_tally_note(struct kv_tallies *t, struct kv_tally *tally);

/* How many @tally counted before the command. */
uint64_t kv_tally_was(const struct kv_tallies *t, const struct kv_tally *tally);

/* The tally of the row @key if the batch has one, or NULL. */
struct kv_tally *kv_tally_find(const struct kv_tallies *t, struct mr_slice key);

/* Set what @tally's row has as its text; a copy is kept. */
void kv_tally_set_text(struct kv_tallies *t, struct kv_tally *tally,
                       struct mr_slice text);

/* Write what changed, and forget everything. */
void kv_tallies_flush(struct kv_tallies *t, struct kv_tx *tx);

#endif /* MR_KV_TALLY_H */
