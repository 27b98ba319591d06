/* SPDX-License-Identifier: Apache-2.0 */
/*
 * build: what the answers to all kinds of names are put together with. For
 * answer.c and its parts only.
 */
#ifndef MR_DNS_BUILD_H
#define MR_DNS_BUILD_H

#include "dns/answer.h"

/* One question being answered. */
struct dns_build {
    const struct dns_config *config;
    struct mr_kv_view *view;
    struct dns_set *set;
    const struct dns_zone *zone; /* Of the names inside the answer. */
    const struct dns_ask *ask;
    uint16_t type;
    enum dns_owner owner;       /* Of the answers. */
    struct mr_slice owner_name; /* For DNS_OWNER_NAME. */
    unsigned depth;             /* CNAMEs followed to get here. */
    uint32_t ttl_s;
    /* Of the walk over instances. */
    size_t chosen; /* The candidate of ask that is the service. */
    const char *service;
    struct mr_slice tag;   /* Empty: any. */
    bool is_known;         /* Something by this name is alive. */
    const char *host_name; /* The first address that is a name. */
};

/* An IP address; len 0 when the text was none. */
struct dns_address {
    uint8_t bytes[16];
    uint8_t len;
};

/* The address that @text spells; its length is 0 when it spells none. */
struct dns_address dns_build_address_parse(const char *text);

/* The type of a record that holds @a. */
uint16_t dns_build_address_type(const struct dns_address *a);

/* Whether a question of @type wants @a. TXT of a service counts as ANY, as with
 * Consul. */
bool dns_build_address_wanted(const struct dns_address *a, uint16_t type);

/* A record of @type about what was asked. */
struct dns_record dns_build_answer_record(const struct dns_build *b,
                                          uint16_t type);

/* A record of @type about the target of its group. */
struct dns_record dns_build_target_record(const struct dns_build *b,
                                          uint16_t type);

/* Make the answer a negative one: NXDOMAIN, or NOERROR for NODATA, and the
 * SOA. */
void dns_build_negative(struct dns_build *b, enum dns_rcode rcode);

/* NAME.KIND.DATACENTER.ZONE. */
void dns_build_zone_name(const struct dns_build *b, const char *name,
                         const char *kind, struct dns_name_builder *out);

/* The name that spells the address @a. */
void dns_build_address_name(const struct dns_build *b,
                            const struct dns_address *a,
                            struct dns_name_builder *out);

/* The name of a node, or of its address when its own cannot be a DNS name. */
void dns_build_node_name(const struct dns_build *b, const Mr__Node *node,
                         struct dns_name_builder *out);

/* A name outside or inside our zones, from text. */
void dns_build_host_name(const char *text, struct dns_name_builder *out);

/* Add the metadata @pair as the TXT record @r. */
void dns_build_add_meta(struct dns_build *b, const struct dns_record *r,
                        const Mr__Pair *pair);

/* Add the node's metadata as additional records of the newest group. */
void dns_build_add_node_meta(struct dns_build *b, enum dns_owner owner,
                             const Mr__Node *node);

/* Add an address as an answer of its own. */
void dns_build_add_address(struct dns_build *b, const struct dns_address *a);

/* Whether DNS may name the instance; *@out_warns: it is in warning state. */
bool dns_build_is_alive(const struct dns_build *b,
                        const struct mr_kv_instance *instance, bool *out_warns);

/* Answer with a CNAME to @text and, if that is a name of ours, with what it
 * stands for. */
MR_MUST_CHECK enum mr_err dns_build_add_cname(struct dns_build *b,
                                              const char *text);

/* Answer about the service that b->ask names. */
MR_MUST_CHECK enum mr_err dns_build_service(struct dns_build *b);

/* Answer for @name in @zone, one of ours; not SOA and NS. Uses *@ask. */
MR_MUST_CHECK enum mr_err dns_build_name(struct dns_build *b,
                                         const struct dns_name *name,
                                         const struct dns_zone *zone,
                                         struct dns_ask *ask);

#endif /* MR_DNS_BUILD_H */
