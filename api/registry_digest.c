/* SPDX-License-Identifier: Apache-2.0 */
/* Digests of registrations: each text with its length, in a fixed order. */
#include "api/registry_digest.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"

static void add_text(struct mr_buf *b, const char *text)
{
    size_t len = strlen(text);

    mr_buf_be32(b, (uint32_t)len); /* Bodies are far smaller. */
    mr_buf_add(b, text, len);
}

static void add_pairs(struct mr_buf *b, Mr__Pair *const *pairs, size_t n)
{
    mr_buf_be32(b, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        add_text(b, pairs[i]->key);
        add_text(b, pairs[i]->value);
    }
}

/* The depth is bounded by the decoder. */
static void add_value(struct mr_buf *b, const struct registry_value *value)
{
    mr_buf_byte(b, value != NULL);
    if (value == NULL) {
        return;
    }
    add_text(b, value->name);
    add_text(b, value->type);
    mr_buf_be32(b, (uint32_t)value->n_values);
    for (size_t i = 0; i < value->n_values; i++) {
        add_value(b, value->values[i]);
    }
}

static void add_service(struct mr_buf *b, const struct registry_service *s)
{
    add_text(b, s->name);
    add_text(b, s->version);
    add_pairs(b, s->metadata, s->n_metadata);
    mr_buf_be32(b, (uint32_t)s->n_endpoints);
    for (size_t i = 0; i < s->n_endpoints; i++) {
        const struct registry_endpoint *e = s->endpoints[i];

        add_text(b, e->name);
        add_value(b, e->request);
        add_value(b, e->response);
        add_pairs(b, e->metadata, e->n_metadata);
    }
}

/* All but 0, which stands for "no digest" in rows of other origins. */
static uint64_t hash(const struct mr_buf *b, uint64_t seed)
{
    uint64_t digest = mr_hash64(mr_buf_slice(b), seed);

    return digest == 0 ? 1 : digest;
}

enum mr_err registry_digest(struct registry_service *service, uint64_t ttl_ms)
{
    struct mr_buf b = MR_BUF_INIT;
    enum mr_err err = MR_E_NOMEM;
    uint64_t seed;

    mr_buf_be64(&b, ttl_ms);
    add_service(&b, service);
    seed = hash(&b, 0);
    for (size_t i = 0; i < service->n_nodes && !mr_buf_failed(&b); i++) {
        struct registry_node *n = service->nodes[i];

        mr_buf_reset(&b);
        add_text(&b, n->id);
        add_text(&b, n->address);
        add_pairs(&b, n->metadata, n->n_metadata);
        n->digest = hash(&b, seed);
    }
    if (!mr_buf_failed(&b)) {
        err = MR_OK;
    }
    mr_buf_deinit(&b);
    return err;
}

void registry_digest_format(uint64_t digest, char out[REGISTRY_DIGEST_LEN + 1])
{
    (void)snprintf(out, REGISTRY_DIGEST_LEN + 1, "%016llx",
                   (unsigned long long)digest);
}

enum mr_err registry_digest_parse(const char *text, uint64_t *out_digest)
{
    uint64_t digest = 0;

    for (size_t i = 0; i < REGISTRY_DIGEST_LEN; i++) {
        static const char digits[] = "0123456789abcdef";
        const char *at = text[i] == '\0' ? NULL : strchr(digits, text[i]);

        if (at == NULL) {
            return MR_E_INVALID;
        }
        digest = digest << 4 | (uint64_t)(at - digits);
    }
    if (text[REGISTRY_DIGEST_LEN] != '\0') {
        return MR_E_INVALID;
    }
    *out_digest = digest;
    return MR_OK;
}
