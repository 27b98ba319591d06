/* SPDX-License-Identifier: Apache-2.0 */
/* A hash map from bytes to pointers. The keys belong to the values. */
#ifndef MICROREG_MAP_H
#define MICROREG_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mrg_map_slot {
    const char *key;
    uint32_t key_len;
    uint32_t hash;
    void *value; /* NULL: the slot is free. */
};

/* Zeroed is empty. */
struct mrg_map {
    struct mrg_map_slot *slots;
    size_t n_slots; /* A power of two, or 0. */
    size_t n;
};

/* The value of a key, or NULL. */
void *mrg_map_get(const struct mrg_map *map, const char *key, size_t len);

/* Make room for @n more values, so that so many puts cannot fail. False: no
 * memory. */
bool mrg_map_reserve(struct mrg_map *map, size_t n);

/* Set the value of a key; room for it was reserved. Returns the value that it
 * had, or NULL. From now on the key is the bytes at @key. */
void *mrg_map_put(struct mrg_map *map, const char *key, size_t len,
                  void *value);

/* Remove a key. Returns the value that it had, or NULL. */
void *mrg_map_remove(struct mrg_map *map, const char *key, size_t len);

/* The next value behind *@at, in no order; begin with 0. NULL: no more. The map
 * must not change meanwhile. */
void *mrg_map_next(const struct mrg_map *map, size_t *at);

/* Free the map, not the values. It is empty then. */
void mrg_map_deinit(struct mrg_map *map);

#endif /* MICROREG_MAP_H */
