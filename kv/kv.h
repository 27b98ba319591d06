/* SPDX-License-Identifier: Apache-2.0 */
/* The store's insides, shared by the files of kv/. */
#ifndef MR_KV_INTERNAL_H
#define MR_KV_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "kv/arena.h"
#include "kv/capture.h"
#include "kv/history.h"
#include "kv/mr_kv.h"
#include "kv/row.h"
#include "kv/store.h"
#include "kv/tally.h"
#include "kv/twins.h"
#include "kv/view.h"
#include "kv/watch.h"

#define KV_FORMAT_VERSION 1

/* Names in the store's folder. */
#define KV_STATE_FILE "state.mdb"
#define KV_RESTORE_FILE "restore.mdb"
#define KV_OPEN_FILE "open"
#define KV_PATH_LEN 4096

/* Counters that every server has alike: the META row, part of the digest. */
struct kv_meta {
    uint64_t revision;
    uint64_t keys_rev;     /* Last change of any key, deletions included. */
    uint64_t nodes_rev;    /* Last change of any node row. */
    uint64_t services_rev; /* Last change of any instance. */
    uint64_t checks_rev;   /* Last change of any check. */
    uint64_t extinct_rev;  /* When a service last lost its last instance. */
    uint64_t graves_rev;   /* Graves up to this revision are forgotten. */
    uint64_t keys;
    uint64_t graves;
    uint64_t nodes;
    uint64_t services;
    uint64_t instances;
    uint64_t checks;
    /* From here on 0 is left out of the row's end: it had no more fields before
     * there were leases. */
    uint64_t last_lease; /* The ID that was given last; none is used twice. */
    uint64_t leases;
    uint64_t sessions_rev; /* Last change of any session. */
    uint64_t sessions;
    uint64_t lefts;
};

#define KV_META_FIELDS 18
#define KV_META_FIELDS_MIN 13

_Static_assert(sizeof(struct kv_meta) == KV_META_FIELDS * sizeof(uint64_t),
               "struct kv_meta is copied as words");

/* What this server knows about its copy: the LOCAL row. */
struct kv_local {
    uint64_t applied_index;
    uint64_t applied_term;
    struct mr_hash128 digest;
};

/* A range of keys without rows, from one key to before another (len 0: to the
 * end of the table), as long as nothing is added to the table. */
struct kv_gap {
    bool is_known;
    struct kv_row_key from;
    struct kv_row_key to;
};

/* A lease whose end is being applied. */
struct kv_ending {
    const Mr__Lease *lease;
    const Mr__LeaseEnd__Ended *evidence;
    const Mr__LeaseEnd *cmd;
};

struct kv_batch;

/* Where the changes of a command are put together; see kv/record.h. */
struct kv_recorder {
    struct kv_batch *b;
    struct kv_capture *capture;
    struct mr_buf gone;    /* Events of deletions. */
    struct mr_buf *others; /* Other events; of b->pending. */
    bool is_lost;          /* They are not all of them. */
};

/* A command being applied. */
struct kv_batch {
    struct kv_tx tx;
    struct kv_meta meta;
    struct kv_touched touched;
    struct kv_tallies tallies;
    struct kv_gap check_gap; /* Where there are no checks. */
    struct kv_arena arena;   /* Of the command; reset before each. */
    struct kv_arena scratch; /* Of one step of a command. */
    struct mr_buf body;      /* Where a command packs a row's body. */
    struct mr_buf row;       /* Where kv_batch_upsert() puts a row together. */
    uint64_t commands;
    struct kv_capture capture;
    struct kv_recorder recorder;
    struct kv_pending pending;
    struct kv_twins twins;
    struct mr_buf leases; /* struct mr_kv_lease_change, for the hook. */
    const struct mr_kv_hooks *hooks;
    struct mr_kv_result *result; /* Of the command. */
    const Mr__Command *cmd;      /* The command. */
    struct kv_ending *ending;    /* The lease it is ending now, or NULL. */
    const Mr__Service *bumped;   /* The instance that the command changed last:
                                  its service was bumped already. */
    bool is_open;
};

struct mr_kv {
    char *dir;
    char *boot_id;
    uint64_t map_size;
    bool is_durable;
    struct mr_kv_hooks hooks;

    struct kv_pool *_Atomic pool; /* Current environment and its readers. */
    struct kv_pool *old_pools;    /* Replaced by a restore; freed at close. */
    struct kv_hub hub;
    struct kv_history history;

    /* The apply thread's. */
    struct kv_batch batch;

    pthread_mutex_t lock; /* Over what was published last. */
    struct kv_meta meta;
    struct kv_local local;
    uint64_t batches;
    uint64_t commands;
    atomic_uint_fast64_t revision; /* meta.revision, for anyone. */
};

/* Read or write the META and LOCAL rows. A missing or damaged row is
 * MR_E_CORRUPT, one of a newer version MR_E_VERSION. */
MR_MUST_CHECK enum mr_err kv_meta_load(struct kv_tx *tx, struct kv_meta *out);
/* As kv_meta_load(). */
MR_MUST_CHECK enum mr_err kv_local_load(struct kv_tx *tx, struct kv_local *out);
/* Store @meta within @tx, whose error is sticky. */
void kv_meta_store(struct kv_tx *tx, const struct kv_meta *meta);
/* As kv_meta_store(). */
void kv_local_store(struct kv_tx *tx, const struct kv_local *local);

/* Write @dir/@name to @out; false when it does not fit. */
bool kv_path(char out[KV_PATH_LEN], const char *dir, const char *name);

/* Remove the file @name of @dir; it may be absent. */
void kv_remove_file(const char *dir, const char *name);

/* Write the entries of @dir itself to the disk. MR_E_IO, MR_E_NOSPACE. */
enum mr_err kv_sync_dir(const char *dir);

/* Give the empty @env its counters. */
MR_MUST_CHECK enum mr_err kv_env_format(struct kv_env *env);

/* Let readers know the committed @meta and @local, of a batch of @commands. */
void kv_publish(struct mr_kv *kv, const struct kv_meta *meta,
                const struct kv_local *local, uint64_t commands);

/* The environment that is written. Apply thread. */
struct kv_env *kv_current_env(struct mr_kv *kv);

/* ------------------------------------------------------------ commands */

/* Give up a batch that is open; one that is not is left alone. */
void kv_batch_abort(struct kv_batch *b);

/* The revision of the command being applied; the first call takes it. */
uint64_t kv_batch_revision(struct kv_batch *b);

/* Refuse the command for a reason in Consul's words. Nothing may have been
 * written for it. */
void kv_batch_refuse(struct kv_batch *b, const char *fmt, ...) MR_PRINTF(2, 3);

/* What a row holds, compared with the body that it should have. */
enum kv_found { KV_ABSENT, KV_SAME, KV_OTHER };

/* Look at the row of @key: its value (valid until the next write) and its
 * revisions, 0 when it is absent. */
enum kv_found kv_batch_compare(struct kv_batch *b, struct mr_slice key,
                               struct mr_slice body, struct mr_slice *out_old,
                               struct kv_revs *out_revs);

/* Store @body under @key with the command's revision in front. @old as for
 * kv_tx_swap(); @create_rev 0: created now. */
void kv_batch_write(struct kv_batch *b, struct mr_slice key,
                    const struct mr_slice *old, struct mr_slice body,
                    uint64_t create_rev);

/* Store @body under @key, where @old is, as if it had always been there: for
 * what no answer shows. It takes the command's revision and keeps @revs. */
void kv_batch_rewrite(struct kv_batch *b, struct mr_slice key,
                      struct mr_slice old, struct mr_slice body,
                      struct kv_revs revs);

/* Note that a topic named by text changed. */
void kv_batch_touch(struct kv_batch *b, enum mr_kv_topic_kind kind,
                    struct mr_slice name);

/* The commands, each decoded and of a known version. */
void kv_keys_put(struct kv_batch *b, const Mr__KeyPut *cmd);
/* As kv_keys_put(). */
void kv_keys_delete(struct kv_batch *b, const Mr__KeyDelete *cmd);
/* As kv_keys_put(). */
void kv_catalog_register(struct kv_batch *b, const Mr__Register *cmd);
/* As kv_keys_put(). */
void kv_catalog_deregister(struct kv_batch *b, const Mr__Deregister *cmd);
/* As kv_keys_put(). */
void kv_catalog_check_update(struct kv_batch *b, const Mr__CheckUpdate *cmd);
/* As kv_keys_put(). */
void kv_lease_end(struct kv_batch *b, const Mr__LeaseEnd *cmd);
/* As kv_keys_put(). */
void kv_session_create(struct kv_batch *b, const Mr__SessionCreate *cmd);
/* As kv_keys_put(). */
void kv_session_destroy(struct kv_batch *b, const Mr__SessionDestroy *cmd);

/* Take the lock of @key from whoever has it; the key stays. */
void kv_key_release(struct kv_batch *b, struct mr_slice key);

/* Delete @key; nothing when there is none. */
void kv_key_remove(struct kv_batch *b, struct mr_slice key);

#endif /* MR_KV_INTERNAL_H */
