/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The addresses of the servers, and which to ask first.
 *
 * The first address that is not in disgrace is asked first. One that failed is
 * in disgrace for a second, and twice as long after each further failure, up to
 * half a minute; then it has its turn again.
 */
#ifndef MICROREG_ADDRESS_H
#define MICROREG_ADDRESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "microreg.h"

#define MRG_SERVERS_MAX 64

struct mrg_server {
    char *url;  /* "http://host:8500", nothing behind it. */
    char *name; /* "host:8500", for people. */
    atomic_uint_least64_t disgraced_until_ms;
    atomic_uint failures; /* In a row. */
};

/* A list, shared by those who use it. */
struct mrg_servers {
    atomic_size_t refs;
    char *text; /* What was asked for. */
    size_t n;
    struct mrg_server items[];
};

/* Parse "a,b:1,[::1]:2,https://c". With @is_secure those without a scheme get
 * https. *@out_servers has one reference, the caller's. MICROREG_E_INVALID,
 * MICROREG_E_NOMEM. */
int mrg_servers_parse(const char *text, bool is_secure,
                      struct mrg_servers **out_servers,
                      struct microreg_error *out_error);

/* Take another reference, and return @servers. */
struct mrg_servers *mrg_servers_ref(struct mrg_servers *servers);

/* Give a reference back. NULL is a no-op. */
void mrg_servers_unref(struct mrg_servers *servers);

/* The order to ask them in at @now_ms; room for servers->n. */
void mrg_servers_order(struct mrg_servers *servers, uint64_t now_ms,
                       unsigned char *out_order);

/* Note how a server did. */
void mrg_server_failed(struct mrg_server *server, uint64_t now_ms);
void mrg_server_worked(struct mrg_server *server);

#endif /* MICROREG_ADDRESS_H */
