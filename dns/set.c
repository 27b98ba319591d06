/* SPDX-License-Identifier: Apache-2.0 */
/* Building record sets. */
#include "base/hash.h"
#include "base/mem.h"
#include "dns/set_layout.h"

#define TEXT_MAX 255 /* Of one character string. */

void dns_set_init(struct dns_set *s)
{
    *s = (struct dns_set){.rcode = DNS_NOERROR, .flags = DNS_FLAG_AA};
}

void dns_set_deinit(struct dns_set *s)
{
    mr_buf_deinit(&s->bytes);
    mr_buf_deinit(&s->records);
    mr_buf_deinit(&s->groups);
    mr_free(s->order);
    mr_free(s->target_at);
    dns_set_init(s);
}

void dns_set_group(struct dns_set *s, bool no_answer)
{
    struct set_group g = {.no_answer = no_answer};

    g.first = (uint32_t)(s->records.len / sizeof(struct set_record));
    mr_buf_add(&s->groups, &g, sizeof g);
    s->n_groups++;
}

/* Append the owner and the fixed part; the data must follow. */
static void begin_record(struct dns_set *s, const struct dns_record *r,
                         size_t data_len)
{
    struct set_record rec = {.at = (uint32_t)s->bytes.len,
                             .owner = (uint8_t)r->owner};

    mr_assert(s->n_groups > 0);
    if (data_len > UINT16_MAX - SET_RR_FIXED_LEN) {
        s->bytes.failed = true;
        return;
    }
    if (r->owner == DNS_OWNER_NAME) {
        rec.owner_len = (uint8_t)r->name.len;
        mr_buf_add(&s->bytes, r->name.data, r->name.len);
    }
    rec.len = (uint16_t)(SET_RR_FIXED_LEN + data_len);
    mr_buf_be16(&s->bytes, r->type);
    mr_buf_be16(&s->bytes, SET_CLASS_IN);
    mr_buf_be32(&s->bytes, r->ttl_s);
    mr_buf_be16(&s->bytes, (uint16_t)data_len);
    mr_buf_add(&s->records, &rec, sizeof rec);
    if (!mr_buf_failed(&s->groups)) {
        set_groups(s)[s->n_groups - 1].n_records++;
    }
}

void dns_set_add(struct dns_set *s, const struct dns_record *r,
                 struct mr_slice data)
{
    begin_record(s, r, data.len);
    mr_buf_add(&s->bytes, data.data, data.len);
}

void dns_set_add_target(struct dns_set *s, const struct dns_record *r,
                        struct mr_slice data, size_t target_len)
{
    struct set_group *g;

    dns_set_add(s, r, data);
    if (!mr_buf_failed(&s->groups)) {
        g = &set_groups(s)[s->n_groups - 1];
        g->target_len = (uint8_t)target_len;
        g->target_at = (uint16_t)(SET_RR_FIXED_LEN + data.len - target_len);
    }
}

void dns_set_add_text(struct dns_set *s, const struct dns_record *r,
                      struct mr_slice text)
{
    const uint8_t *p = text.data;
    size_t n_strings = text.len / TEXT_MAX + 1;
    size_t left = text.len;
    size_t n;

    begin_record(s, r, text.len + n_strings);
    for (; n_strings > 0; n_strings--) {
        n = left < TEXT_MAX ? left : TEXT_MAX;
        mr_buf_byte(&s->bytes, (uint8_t)n);
        mr_buf_add(&s->bytes, p, n);
        p += n;
        left -= n;
    }
}

/* A group's answer without its owner. */
static struct mr_slice answer_get(const struct dns_set *s, size_t group)
{
    const struct set_record *r = &set_records(s)[set_groups(s)[group].first];

    return mr_slice(s->bytes.data + r->at + r->owner_len, r->len);
}

/* Close the gaps that duplicates leave. Sets @seen, a zeroed table of
 * @mask + 1 places, twice as many as there are groups. */
static void drop_duplicates(struct dns_set *s, uint32_t *seen, size_t mask)
{
    struct set_group *g = set_groups(s);
    struct mr_slice answer;
    size_t kept = 0;
    size_t at;

    for (size_t i = 0; i < s->n_groups; i++) {
        answer = answer_get(s, i);
        at = (size_t)mr_hash64(answer, 0) & mask;
        while (seen[at] != 0 &&
               !mr_slice_eq(answer_get(s, seen[at] - 1), answer)) {
            at = (at + 1) & mask;
        }
        if (seen[at] == 0) {
            g[kept++] = g[i];
            seen[at] = (uint32_t)kept;
        }
    }
    s->n_groups = kept;
}

enum mr_err dns_set_finish(struct dns_set *s)
{
    size_t n_places = 2;
    uint32_t *seen;

    if (mr_buf_failed(&s->bytes) || mr_buf_failed(&s->records) ||
        mr_buf_failed(&s->groups)) {
        return MR_E_NOMEM;
    }
    if (s->n_groups > 1) {
        while (n_places < 2 * s->n_groups) {
            n_places *= 2;
        }
        seen = mr_calloc(n_places, sizeof *seen);
        if (seen == NULL) {
            return MR_E_NOMEM;
        }
        drop_duplicates(s, seen, n_places - 1);
        mr_free(seen);
    }
    if (s->n_groups > 0) {
        s->order = mr_malloc(s->n_groups * sizeof *s->order);
        s->target_at = mr_malloc(s->n_groups * sizeof *s->target_at);
        if (s->order == NULL || s->target_at == NULL) {
            return MR_E_NOMEM;
        }
    }
    for (size_t i = 0; i < s->n_groups; i++) {
        s->order[i] = (uint32_t)i;
    }
    return MR_OK;
}

size_t dns_set_size(const struct dns_set *s)
{
    return sizeof *s + s->bytes.cap + s->records.cap + s->groups.cap +
           2 * s->n_groups * sizeof *s->order;
}

uint32_t dns_rng_below(struct dns_rng *rng, uint32_t n)
{
    uint64_t z = (rng->state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return (uint32_t)(((z >> 32) * n) >> 32);
}
