/* SPDX-License-Identifier: Apache-2.0 */
/* A hash map: open addressing, linear probing, at most three quarters full. What
 * is removed leaves no mark: those behind it move up. */
#include "map.h"

#include <string.h>

#include "mem.h"

#define FIRST_SLOTS ((size_t)4)

/* FNV-1a, its high half folded in. */
static uint32_t hash_bytes(const char *key, size_t len)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ (unsigned char)key[i]) * UINT64_C(0x100000001b3);
    }
    return (uint32_t)(hash ^ (hash >> 32));
}

static bool slot_has(const struct mrg_map_slot *slot, uint32_t hash,
                     const char *key, size_t len)
{
    return slot->hash == hash && slot->key_len == len &&
           memcmp(slot->key, key, len) == 0;
}

/* The slot of a key, or the free one where it belongs. There is a free one. */
static size_t find_slot(const struct mrg_map *map, uint32_t hash,
                        const char *key, size_t len)
{
    size_t at = hash & (map->n_slots - 1);

    while (map->slots[at].value != NULL &&
           !slot_has(&map->slots[at], hash, key, len)) {
        at = (at + 1) & (map->n_slots - 1);
    }
    return at;
}

void *mrg_map_get(const struct mrg_map *map, const char *key, size_t len)
{
    if (map->n == 0) {
        return NULL;
    }
    return map->slots[find_slot(map, hash_bytes(key, len), key, len)].value;
}

bool mrg_map_reserve(struct mrg_map *map, size_t n)
{
    struct mrg_map bigger = {NULL, map->n_slots, map->n};

    if (n > SIZE_MAX / 8 - map->n) {
        return false;
    }
    while (bigger.n_slots / 4 * 3 < map->n + n) {
        bigger.n_slots = bigger.n_slots == 0 ? FIRST_SLOTS : bigger.n_slots * 2;
    }
    if (bigger.n_slots == map->n_slots) {
        return true;
    }
    bigger.slots = mrg_alloc(bigger.n_slots * sizeof *bigger.slots);
    if (bigger.slots == NULL) {
        return false;
    }
    for (size_t i = 0; i < map->n_slots; i++) {
        const struct mrg_map_slot *old = &map->slots[i];

        if (old->value != NULL) {
            bigger
                .slots[find_slot(&bigger, old->hash, old->key, old->key_len)] =
                *old;
        }
    }
    mrg_free(map->slots);
    *map = bigger;
    return true;
}

void *mrg_map_put(struct mrg_map *map, const char *key, size_t len, void *value)
{
    uint32_t hash = hash_bytes(key, len);
    struct mrg_map_slot *slot = &map->slots[find_slot(map, hash, key, len)];
    void *old = slot->value;

    map->n += old == NULL;
    *slot = (struct mrg_map_slot){key, (uint32_t)len, hash, value};
    return old;
}

void *mrg_map_remove(struct mrg_map *map, const char *key, size_t len)
{
    size_t mask = map->n_slots - 1;
    size_t hole;
    void *old;

    if (map->n == 0) {
        return NULL;
    }
    hole = find_slot(map, hash_bytes(key, len), key, len);
    old = map->slots[hole].value;
    if (old == NULL) {
        return NULL;
    }
    map->n--;
    map->slots[hole].value = NULL;
    for (size_t at = (hole + 1) & mask; map->slots[at].value != NULL;
         at = (at + 1) & mask) {
        size_t home = map->slots[at].hash & mask;

        /* It may move to the hole if that is not before its home. */
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            map->slots[hole] = map->slots[at];
            map->slots[at].value = NULL;
            hole = at;
        }
    }
    return old;
}

void *mrg_map_next(const struct mrg_map *map, size_t *at)
{
    while (*at < map->n_slots) {
        void *value = map->slots[(*at)++].value;

        if (value != NULL) {
            return value;
        }
    }
    return NULL;
}

void mrg_map_deinit(struct mrg_map *map)
{
    mrg_free(map->slots);
    memset(map, 0, sizeof *map);
}
