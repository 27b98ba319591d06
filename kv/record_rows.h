/* SPDX-License-Identifier: Apache-2.0 */
/* Rows as they were before a command and as they are after it, and events made
 * of them. */
#ifndef MR_KV_RECORD_ROWS_H
#define MR_KV_RECORD_ROWS_H

#include "kv/kv.h"

enum kv_when { KV_WAS, KV_IS };

/* A row before and after the command; without data where it is not there. */
struct kv_change {
    struct kv_row at[2];
    bool is_changed; /* In what answers show. */
};

struct kv_changes {
    struct kv_change *list;
    size_t n;
    size_t cap;
};

/* Whether the row was, or is, there. */
static inline bool kv_is_there(const struct kv_change *c, enum kv_when when)
{
    return c->at[when].value.data != NULL;
}

/* Read what the captured rows of the catalog hold now, and find out which of
 * them the command changed in what answers show: they are new, or gone, or hold
 * something else besides their revision, leases and what they are compared
 * by. */
void kv_rows_compare(struct kv_recorder *r);

/* What became of the row @key (borrowed). */
struct kv_change kv_row_change(struct kv_recorder *r, struct mr_slice key);

/* Append to @out what became of each row whose key begins with @prefix, in the
 * order of the keys. r->b->scratch says when there is no memory. */
void kv_row_changes(struct kv_recorder *r, struct mr_slice prefix,
                    struct kv_changes *out);

/* Whether @c, which was and is there, differs in any of @members. */
bool kv_row_differs(const struct kv_change *c, uint64_t members);

/* The status of a check's row. */
struct mr_slice kv_row_status(const struct kv_row *row);

/* Append @row to the event that is being written to @out. */
void kv_event_row(struct mr_buf *out, const struct kv_row *row);

/* Begin an event with @head and the status before, @was; kv_event_end() takes
 * what it returns. */
size_t kv_event_begin(struct mr_buf *out, struct kv_event_head head,
                      struct mr_slice was);

/* End the event that began at @at. */
void kv_event_end(struct mr_buf *out, size_t at);

/* A whole event of one row. */
void kv_event_add(struct mr_buf *out, struct kv_event_head head,
                  const struct kv_row *row);

/* Where events with @action belong: deletions come first. */
struct mr_buf *kv_event_out(struct kv_recorder *r, enum mr_kv_action action);

/* Sort @keys and drop what is there twice. Returns how many are left. */
size_t kv_keys_unique(struct mr_slice *keys, size_t n);

/* record_names.c. Record the services' names that the command changed. */
void kv_record_names(struct kv_recorder *r);

#endif /* MR_KV_RECORD_ROWS_H */
