/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What answering costs without the network: packets in, packets out, one
 * thread. Prints one JSON line. Usage: bench_dns [PACKETS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "dns/responder.h"
#include "tests/unit/dns_message.h"
#include "tests/unit/dns_store.h"

#define N_PACKETS 1000000

static struct store store;
static struct dns_shared shared;
static struct dns_responder responder;

static double now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool has_leader(void *arg)
{
    (void)arg;
    return true;
}

/* A service of @n instances. */
static bool fill(const char *service, int n)
{
    char node[32];
    char address[32];
    bool ok = true;

    for (int i = 0; i < n && ok; i++) {
        struct reg r = {.node = node,
                        .address = address,
                        .service = service,
                        .port = 8000 + i};

        (void)snprintf(node, sizeof node, "node-%d", i);
        (void)snprintf(address, sizeof address, "10.0.%d.%d", i / 256, i % 256);
        ok = store_register(&store, &r);
    }
    return ok;
}

static bool start(void)
{
    struct mr_dns_options o = {
        .domain = "micro", .datacenter = "dc1", .node_name = "node-0"};

    if (!store_open(&store) || !fill("one", 1) || !fill("three", 3) ||
        !fill("many", 50) ||
        dns_config_init(&shared.config, &o, NULL) != MR_OK) {
        return false;
    }
    shared.kv = store.kv;
    shared.clock = mr_clock_system();
    shared.random = mr_random_system();
    shared.has_leader = has_leader;
    return dns_responder_init(&responder, &shared) == MR_OK;
}

/* Nanoseconds an answer takes. */
static double measure(const struct ask *ask, unsigned n)
{
    static uint8_t out[DNS_UDP_MAX];
    uint8_t packet[512];
    size_t len = msg_query(ask, packet);
    double since = now();

    for (unsigned i = 0; i < n; i++) {
        if (dns_respond(&responder, mr_slice(packet, len), false, out) == 0) {
            exit(1);
        }
    }
    return (now() - since) / n * 1e9;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *what;
        struct ask ask;
    } cases[] = {
        {"srv_1", {.name = "one.service.micro", .type = 33, .edns = 1232}},
        {"srv_3", {.name = "three.service.micro", .type = 33, .edns = 1232}},
        {"srv_50", {.name = "many.service.micro", .type = 33, .edns = 1232}},
        {"a_50", {.name = "many.service.micro", .type = 1, .edns = 1232}},
        {"a_50_plain", {.name = "many.service.micro", .type = 1}},
        {"nxdomain", {.name = "none.service.micro", .type = 33}},
        {"node", {.name = "node-0.node.micro", .type = 1}}};
    unsigned n = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : N_PACKETS;

    if (n == 0 || !start()) {
        return 1;
    }
    (void)printf("{\"bench\":\"dns\",\"packets\":%u", n);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        (void)printf(",\"%s_ns\":%.0f", cases[i].what,
                     measure(&cases[i].ask, n));
    }
    (void)printf("}\n");
    dns_responder_deinit(&responder);
    dns_config_deinit(&shared.config);
    store_close(&store);
    return 0;
}
