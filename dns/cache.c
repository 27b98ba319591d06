/* SPDX-License-Identifier: Apache-2.0 */
/* The cache of record sets: a table of small rows, no chains. */
#include "base/hash.h"
#include "base/mem.h"
#include "dns/cache.h"

#define N_ROWS 1024 /* A power of two. */
#define N_WAYS 4
#define BYTES_MAX ((size_t)4 << 20)

struct entry {
    struct dns_set set;
    struct mr_kv_guard *guards[DNS_CACHE_GUARDS_MAX];
    size_t n_guards;
    size_t size; /* Of the set, for the bound. */
    uint16_t type;
    uint8_t name_len;
    uint8_t name[]; /* In lower case. */
};

struct dns_cache {
    struct mr_kv *kv;
    size_t n_entries;
    size_t bytes;
    size_t hand; /* The next place to throw out when bytes run short. */
    struct slot {
        uint64_t hash;
        struct entry *entry;
    } slots[N_ROWS * N_WAYS];
};

struct dns_cache *dns_cache_new(struct mr_kv *kv)
{
    struct dns_cache *c = mr_calloc(1, sizeof *c);

    if (c != NULL) {
        c->kv = kv;
    }
    return c;
}

static void entry_free(struct dns_cache *c, struct entry *e)
{
    for (size_t i = 0; i < e->n_guards; i++) {
        mr_kv_guard_free(c->kv, e->guards[i]);
    }
    dns_set_deinit(&e->set);
    mr_free(e);
}

static void slot_clear(struct dns_cache *c, struct slot *slot)
{
    if (slot->entry != NULL) {
        mr_assert(c->n_entries > 0 && c->bytes >= slot->entry->size);
        c->n_entries--;
        c->bytes -= slot->entry->size;
        entry_free(c, slot->entry);
        slot->entry = NULL;
    }
}

void dns_cache_free(struct dns_cache *c)
{
    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < N_ROWS * N_WAYS; i++) {
        slot_clear(c, &c->slots[i]);
    }
    mr_free(c);
}

/* The type an answer is kept under. Types without an answer of their own share
 * one, so that asking for all of them takes one place and not thousands. */
static uint16_t kept_type(uint16_t type)
{
    switch (type) {
    case DNS_TYPE_A:
    case DNS_TYPE_AAAA:
    case DNS_TYPE_SRV:
    case DNS_TYPE_TXT:
    case DNS_TYPE_ANY:
    case DNS_TYPE_NS:
    case DNS_TYPE_SOA:
    case DNS_TYPE_AXFR:
        return type;
    default:
        return 0;
    }
}

static uint64_t hash_of(const struct dns_query *q)
{
    return mr_hash64(mr_slice(q->name.wire, q->name.len), kept_type(q->type));
}

static bool is_stale(const struct entry *e)
{
    for (size_t i = 0; i < e->n_guards; i++) {
        if (mr_kv_guard_stale(e->guards[i])) {
            return true;
        }
    }
    return false;
}

static struct slot *row_of(struct dns_cache *c, uint64_t hash)
{
    return &c->slots[(hash & (N_ROWS - 1)) * N_WAYS];
}

static bool entry_is(const struct entry *e, const struct dns_query *q)
{
    return e->type == kept_type(q->type) && e->name_len == q->name.len &&
           memcmp(e->name, q->name.wire, q->name.len) == 0;
}

struct dns_set *dns_cache_get(struct dns_cache *c,
                              const struct dns_query *query)
{
    uint64_t hash = hash_of(query);
    struct slot *slot = row_of(c, hash);

    for (size_t i = 0; i < N_WAYS; i++, slot++) {
        if (slot->hash == hash && slot->entry != NULL &&
            entry_is(slot->entry, query)) {
            if (!is_stale(slot->entry)) {
                return &slot->entry->set;
            }
            slot_clear(c, slot);
            return NULL;
        }
    }
    return NULL;
}

/* A free place in the row of @hash; the oldest entry makes room. New entries
 * go to the front, so the last of a full row is the oldest. */
static struct slot *make_room(struct dns_cache *c, uint64_t hash)
{
    struct slot *row = row_of(c, hash);
    size_t i = 0;

    while (i < N_WAYS - 1 && row[i].entry != NULL) {
        i++;
    }
    slot_clear(c, &row[i]);
    memmove(row + 1, row, i * sizeof *row);
    row[0] = (struct slot){.hash = hash};
    return row;
}

static struct entry *entry_new(struct dns_cache *c, const struct dns_query *q,
                               const struct dns_depends *depends,
                               uint64_t revision)
{
    struct entry *e = mr_calloc(1, sizeof *e + q->name.len);

    if (e == NULL) {
        return NULL;
    }
    e->type = kept_type(q->type);
    e->name_len = q->name.len;
    memcpy(e->name, q->name.wire, q->name.len);
    for (size_t i = 0; i < depends->n; i++) {
        e->guards[i] = mr_kv_guard_new(c->kv, &depends->topics[i], revision);
        if (e->guards[i] == NULL) {
            entry_free(c, e);
            return NULL;
        }
        e->n_guards++;
    }
    return e;
}

struct dns_set *dns_cache_put(struct dns_cache *c,
                              const struct dns_query *query,
                              struct dns_set *set,
                              const struct dns_depends *depends,
                              uint64_t revision)
{
    size_t size = sizeof(struct entry) + query->name.len + dns_set_size(set);
    struct slot *slot;
    struct entry *e;

    if (depends->n == 0 || depends->n > DNS_CACHE_GUARDS_MAX ||
        size > BYTES_MAX / 4) {
        return NULL;
    }
    e = entry_new(c, query, depends, revision);
    if (e == NULL) {
        return NULL;
    }
    while (c->bytes + size > BYTES_MAX) {
        slot_clear(c, &c->slots[c->hand]);
        c->hand = (c->hand + 1) % (N_ROWS * N_WAYS);
    }
    e->set = *set;
    e->size = size;
    dns_set_init(set);
    slot = make_room(c, hash_of(query));
    slot->entry = e;
    c->n_entries++;
    c->bytes += size;
    return &e->set;
}

size_t dns_cache_entries(const struct dns_cache *c)
{
    return c->n_entries;
}

size_t dns_cache_bytes(const struct dns_cache *c)
{
    return c->bytes;
}
