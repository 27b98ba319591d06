/* SPDX-License-Identifier: Apache-2.0 */
/*
 * go-micro's services as JSON: what a client registers, removes and renews, and
 * what the state holds for it.
 *
 * Unknown members are ignored, because later versions of go-micro may have
 * more; everything else is checked, and errors name the member.
 */
#ifndef API_REGISTRY_BODY_H
#define API_REGISTRY_BODY_H

#include <stddef.h>
#include <stdint.h>

#include "api/decode.h"
#include "base/err.h"
#include "base/json.h"
#include "base/slice.h"
#include "base/text.h"
#include "kv/mr_kv.h"

#define REGISTRY_NODES_MAX 512     /* Nodes of one registration. */
#define REGISTRY_RENEW_MAX 5000    /* Nodes of one renewal. */
#define REGISTRY_NAME_MAX 160      /* Bytes of a service's name. */
#define REGISTRY_ID_MAX 150        /* Bytes of a node's ID. */
#define REGISTRY_VERSION_MAX 128   /* Bytes of a version. */
#define REGISTRY_ENDPOINTS_MAX 512 /* Endpoints of a service. */
#define REGISTRY_PAIRS_MAX 128     /* Pairs of one metadata. */
#define REGISTRY_KEY_MAX 128       /* Bytes of a metadata key. */
#define REGISTRY_VALUE_MAX 4096    /* Bytes of a metadata value. */
#define REGISTRY_TTL_MIN_MS UINT64_C(1000)
#define REGISTRY_TTL_MAX_MS (UINT64_C(24) * 3600 * 1000)

/* The node of the catalog on which the instances of a service lie. */
#define REGISTRY_NODE_PREFIX "registry:"
#define REGISTRY_NODE_NAME_MAX                                                 \
    (sizeof REGISTRY_NODE_PREFIX - 1 + REGISTRY_NAME_MAX)

struct registry_value {
    char *name;
    char *type;
    struct registry_value **values;
    size_t n_values;
};

struct registry_endpoint {
    char *name;
    struct registry_value *request;  /* NULL: null. */
    struct registry_value *response; /* Likewise. */
    Mr__Pair **metadata;
    size_t n_metadata;
};

struct registry_node {
    char *id;
    char *address;
    Mr__Pair **metadata;
    size_t n_metadata;
    char *host; /* From the address. */
    uint16_t port;
    uint64_t digest; /* Of the service with this node alone; never 0. */
};

/* A service with its nodes. Points into the decode it came from. */
struct registry_service {
    char *name;
    char *version;
    Mr__Pair **metadata;
    size_t n_metadata;
    struct registry_endpoint **endpoints;
    size_t n_endpoints;
    struct registry_node **nodes;
    size_t n_nodes;
};

/* Decode and check what POST /registry got, with the digests under @ttl_ms.
 *
 * MR_E_INVALID: d->error says why. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err registry_body_service(struct decode *d,
                                                struct mr_slice body,
                                                uint64_t ttl_ms,
                                                struct registry_service *out);

/* As registry_body_service(), for DELETE: of the nodes only the IDs are looked
 * at, and there are no digests. */
MR_MUST_CHECK enum mr_err registry_body_removal(struct decode *d,
                                                struct mr_slice body,
                                                struct registry_service *out);

/* One node of a renewal. */
struct registry_renewal {
    char *name; /* Of the service. */
    char *id;
    char *digest_text;
    uint64_t digest;
    int64_t incarnation; /* 0: none. */
};

struct registry_renewals {
    struct registry_renewal **nodes;
    size_t n_nodes;
};

/* Decode and check what PUT /registry/renew got. Errors as above. */
MR_MUST_CHECK enum mr_err registry_body_renewals(struct decode *d,
                                                 struct mr_slice body,
                                                 struct registry_renewals *out);

/* Decode one endpoint, of a tag. Errors as above. */
MR_MUST_CHECK enum mr_err registry_body_endpoint(struct decode *d,
                                                 struct mr_slice json,
                                                 struct registry_endpoint *out);

/* Decode a pair of metadata, of a tag: an object of texts. Errors as above. */
MR_MUST_CHECK enum mr_err registry_body_pairs(struct decode *d,
                                              struct mr_slice json,
                                              Mr__Pair ***out_pairs,
                                              size_t *out_n);

/* Parse ?ttl=. NULL, "" and zero: 0. @detail says what is wrong.
 * MR_E_INVALID: no duration, or not within the limits above. */
MR_MUST_CHECK enum mr_err registry_ttl_parse(const char *text,
                                             uint64_t *out_ttl_ms,
                                             struct mr_detail *detail);

/* Write the name of the catalog's node of the service @name. */
void registry_node_name(const char *name, char out[REGISTRY_NODE_NAME_MAX + 1]);

/* Write @endpoint as go-micro does; null for what is empty. */
void registry_write_endpoint(struct mr_json *j,
                             const struct registry_endpoint *endpoint);

/* Write metadata as an object, or null when there is none. */
void registry_write_pairs(struct mr_json *j, Mr__Pair *const *pairs, size_t n);

/* Encode the command that registers @service at the end of @out; what it needs
 * meanwhile comes from @d. MR_E_TOOBIG: an endpoint is longer than a tag may be.
 * MR_E_NOMEM; a failure of @out itself is for the caller to see. */
MR_MUST_CHECK enum mr_err
registry_encode(struct decode *d, const struct registry_service *service,
                const char *datacenter, uint64_t ttl_ms, uint64_t incarnation,
                struct mr_buf *out);

#endif /* API_REGISTRY_BODY_H */
