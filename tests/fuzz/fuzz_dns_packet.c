/* SPDX-License-Identifier: Apache-2.0 */
/* Any packet, over UDP and TCP, with and without compression: what is answered
 * is a whole message, never larger than the asker takes. */
#include <stdlib.h>

#include "dns/responder.h"
#include "tests/unit/dns_message.h"
#include "tests/unit/dns_store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct store store;
static struct dns_shared shared;
static struct dns_responder responder;

static bool has_no_leader(void *arg)
{
    (void)arg;
    return false;
}

static void stop(void)
{
    dns_responder_deinit(&responder);
    dns_config_deinit(&shared.config);
    store_close(&store);
}

/* A small catalog with one of each kind of answer. */
static bool fill(void)
{
    static const struct reg regs[] = {
        {.node = "n1",
         .address = "127.0.0.1",
         .service = "web",
         .tag = "v1",
         .meta_key = "rfc1035-x",
         .meta_value = "y"},
        {.node = "n2", .address = "fd00::1", .service = "web", .port = 7},
        {.node = "n3", .address = "db.example.com", .service = "ext"},
        {.node = "n4", .address = "web.service.micro", .service = "alias"},
        {.node = "n5",
         .address = "10.0.0.5",
         .service = "a.b",
         .service_address = "10.9.9.9"}};

    for (size_t i = 0; i < sizeof regs / sizeof regs[0]; i++) {
        if (!store_register(&store, &regs[i])) {
            return false;
        }
    }
    return true;
}

static void start(void)
{
    static const char *const alt[] = {"consul"};
    struct mr_dns_options o = {.domain = "micro",
                               .alt_domains = alt,
                               .n_alt_domains = 1,
                               .datacenter = "dc1",
                               .node_name = "n1"};

    if (!store_open(&store) || !fill() ||
        dns_config_init(&shared.config, &o, NULL) != MR_OK) {
        abort();
    }
    shared.kv = store.kv;
    shared.clock = mr_clock_system();
    shared.random = mr_random_system();
    shared.has_leader = has_no_leader;
    if (dns_responder_init(&responder, &shared) != MR_OK) {
        abort();
    }
    dns_responder_look(&responder);
    (void)atexit(stop);
}

static void check(const uint8_t *data, size_t size, bool is_tcp)
{
    static struct msg msg;
    static uint8_t out[DNS_TCP_MAX];
    size_t limit = is_tcp ? DNS_TCP_MAX : DNS_PLAIN_MAX;
    enum dns_rcode rcode;
    struct dns_query q;
    size_t len;

    len = dns_respond(&responder, mr_slice(data, size), is_tcp, out);
    if (len == 0) {
        return;
    }
    if (dns_query_parse(mr_slice(data, size), &q, &rcode) == DNS_ANSWER &&
        !is_tcp && q.edns_size > limit) {
        limit = q.edns_size;
    }
    if (len > limit || !msg_parse(out, len, &msg) ||
        (msg.flags & DNS_FLAG_QR) == 0 || memcmp(out, data, 2) != 0) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (store.kv == NULL) {
        start();
    }
    for (int i = 0; i < 4; i++) {
        shared.config.compress = i < 2;
        check(data, size, i % 2 == 1);
    }
    return 0;
}
