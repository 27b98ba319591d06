/* SPDX-License-Identifier: Apache-2.0 */
/* set_layout: the inside of a set, for set.c and set_write.c only. */
#ifndef MR_DNS_SET_LAYOUT_H
#define MR_DNS_SET_LAYOUT_H

#include "dns/set.h"

#define SET_CLASS_IN 1
#define SET_RR_FIXED_LEN 10 /* Type, class, TTL and length of a record. */

/* A record in the set's bytes: the owner if it has its own, and the rest. */
struct set_record {
    uint32_t at;
    uint16_t len; /* Without the owner. */
    uint8_t owner;
    uint8_t owner_len; /* Of DNS_OWNER_NAME, else 0. */
};

struct set_group {
    uint32_t first; /* Its records end where those of the next begin. */
    uint32_t n_records;
    uint16_t target_at; /* The target's place in the answer, behind the owner;
                           0: none. */
    uint8_t target_len;
    bool no_answer;
};

/* The records of all groups, one group's behind another's. */
static inline struct set_record *set_records(const struct dns_set *s)
{
    return (struct set_record *)(void *)s->records.data;
}

/* The groups, as they were added. */
static inline struct set_group *set_groups(const struct dns_set *s)
{
    return (struct set_group *)(void *)s->groups.data;
}

#endif /* MR_DNS_SET_LAYOUT_H */
