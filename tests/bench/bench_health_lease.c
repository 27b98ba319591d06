/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What leases cost: three engines in one process, in virtual time.
 *
 * LEASES (100,000) are renewed RATE (30,000) times a second for SECONDS (10),
 * each third asked of another server; then the leader changes, then all end in
 * the same second. Prints one JSON line: processor time of the three together,
 * and the longest single turn of one engine.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/mem.h"
#include "health/mr_lease.h"

#define SERVERS 3
#define TICK_MS 10
#define TTL_MS 30000
#define MAIL_MAX 4096

struct mail {
    size_t from, to;
    size_t len;
    uint8_t *bytes;
};

static struct mr_leases *engines[SERVERS];
static struct mail mail[MAIL_MAX];
static size_t n_mail;
static uint64_t n_ended, n_commands, n_renewed, n_bytes;
static uint64_t tickets[64];
static size_t n_tickets;
static uint64_t now = 1000;
static double longest;

static double seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void on_send(void *arg, uint64_t to, struct mr_slice msg)
{
    struct mail *m = &mail[n_mail++];

    mr_assert(n_mail <= MAIL_MAX);
    *m =
        (struct mail){(size_t)(uintptr_t)arg, to - 1, msg.len, malloc(msg.len)};
    memcpy(m->bytes, msg.data, msg.len);
    n_bytes += msg.len;
}

static enum mr_err on_propose(void *arg, uint64_t term, struct mr_slice cmd,
                              uint64_t ticket)
{
    Mr__Command *c = mr__command__unpack(NULL, cmd.len, cmd.data);

    (void)arg;
    (void)term;
    mr_assert(c != NULL && n_tickets < MR_ARRAY_LEN(tickets));
    for (size_t i = 0; i < c->lease_end->n_leases; i++) {
        const struct mr_kv_lease_change gone = {
            .id = c->lease_end->leases[i]->id};

        for (size_t s = 0; s < SERVERS; s++) {
            mr_assert(mr_leases_change(engines[s], &gone, 1, now) == MR_OK);
        }
    }
    n_ended += c->lease_end->n_leases;
    n_commands++;
    tickets[n_tickets++] = ticket;
    mr__command__free_unpacked(c, NULL);
    return MR_OK;
}

static void on_confirm(void *arg, uint64_t term)
{
    (void)arg;
    (void)term;
}

static void on_done(struct mr_lease_renewal *renewal, enum mr_err err)
{
    mr_assert(err == MR_OK && renewal->items[0].answer == MR_LEASE_RENEWED);
    n_renewed++;
    free(renewal);
}

struct asked {
    struct mr_lease_renewal renewal;
    struct mr_lease_item item;
};

static void ask(size_t slot, uint64_t id)
{
    struct asked *a = calloc(1, sizeof *a);

    mr_assert(a != NULL);
    a->item.id = id;
    a->renewal.items = &a->item;
    a->renewal.n_items = 1;
    a->renewal.done = on_done;
    mr_leases_renew(engines[slot], &a->renewal, now);
}

static void lead(size_t leader, uint64_t term)
{
    const uint64_t voters[SERVERS] = {1, 2, 3};

    for (size_t i = 0; i < SERVERS; i++) {
        const struct mr_leases_role role = {
            i + 1, leader + 1, term, i == leader, voters, SERVERS, "n1"};

        mr_leases_set_role(engines[i], &role, now);
    }
}

static void take_turn(size_t slot)
{
    double begin = seconds();
    struct mr_lease_renewal *r;
    double took;

    (void)mr_leases_tick(engines[slot], now);
    took = seconds() - begin;
    longest = took > longest ? took : longest;
    while ((r = mr_leases_finished(engines[slot])) != NULL) {
        r->done(r, r->err);
    }
}

static void deliver(void)
{
    while (n_mail > 0) {
        static struct mail taken[MAIL_MAX];
        size_t n = n_mail;

        memcpy(taken, mail, n * sizeof mail[0]);
        n_mail = 0;
        for (size_t i = 0; i < n; i++) {
            mr_leases_receive(engines[taken[i].to], taken[i].from + 1,
                              mr_slice(taken[i].bytes, taken[i].len), now);
            free(taken[i].bytes);
        }
    }
}

static void turn(void)
{
    now += TICK_MS;
    while (n_tickets > 0) {
        mr_leases_proposed(engines[0], tickets[--n_tickets], MR_OK, now);
        mr_leases_proposed(engines[1], tickets[n_tickets], MR_OK, now);
    }
    for (size_t i = 0; i < SERVERS; i++) {
        take_turn(i);
    }
    deliver();
}

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

int main(void)
{
    uint64_t n = number("LEASES", 100000), rate = number("RATE", 30000);
    uint64_t n_seconds = number("SECONDS", 10), next = 0, kib, sent;
    double begin, renewing, taking, ending, worst;
    struct rusage usage;

    for (size_t i = 0; i < SERVERS; i++) {
        const struct mr_leases_io io = {(void *)(uintptr_t)i, i + 1, on_send,
                                        on_propose, on_confirm};

        engines[i] = mr_leases_new(&io, now);
        mr_assert(engines[i] != NULL);
    }
    lead(0, 1);
    for (uint64_t id = 1; id <= n; id++) {
        const struct mr_kv_lease_change one = {
            .id = id, .ttl_ms = TTL_MS, .is_new = true};

        for (size_t i = 0; i < SERVERS; i++) {
            mr_assert(mr_leases_change(engines[i], &one, 1, now) == MR_OK);
        }
    }
    getrusage(RUSAGE_SELF, &usage);
    kib = (uint64_t)usage.ru_maxrss;
    for (int i = 0; i < 300; i++) {
        turn();
    }
    longest = 0;
    n_bytes = 0;
    begin = seconds();
    for (uint64_t t = 0; t < n_seconds * 1000 / TICK_MS; t++) {
        for (uint64_t i = 0; i < rate * TICK_MS / 1000; i++, next++) {
            ask(next % SERVERS, 1 + next % n);
        }
        turn();
    }
    renewing = seconds() - begin;
    worst = longest;
    sent = n_bytes;
    begin = seconds();
    lead(1, 2);
    for (int i = 0; i < 10; i++) {
        turn();
    }
    taking = seconds() - begin;
    for (uint64_t id = 1; id <= n; id++) { /* All within a moment. */
        ask(1, id);
        if (id % 3000 == 0 || id == n) {
            turn();
        }
    }
    while (n_ended == 0) {
        turn();
    }
    begin = seconds();
    while (n_ended < n) {
        turn();
    }
    ending = seconds() - begin;
    printf(
        "{\"bench\":\"lease\",\"leases\":%llu,\"rate\":%llu,\"renewed\":%llu,"
        "\"cpu_us_per_renewal\":%.2f,\"bytes_per_renewal\":%.1f,"
        "\"longest_turn_ms\":%.2f,\"takeover_cpu_ms\":%.1f,"
        "\"end_cpu_ms\":%.1f,\"end_commands\":%llu,"
        "\"rss_bytes_per_lease\":%.0f}\n",
        (unsigned long long)n, (unsigned long long)rate,
        (unsigned long long)n_renewed,
        renewing * 1e6 / (double)(rate * n_seconds),
        (double)sent / (double)(rate * n_seconds), worst * 1e3, taking * 1e3,
        ending * 1e3, (unsigned long long)n_commands,
        (double)kib * 1024 / SERVERS / (double)n);
    for (size_t i = 0; i < SERVERS; i++) {
        mr_leases_free(engines[i]);
    }
    return 0;
}
