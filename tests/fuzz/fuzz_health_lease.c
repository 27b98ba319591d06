/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as messages of another server, to a follower and to a leader. The
 * input is a row of messages, each behind its length (one byte).
 */
#include <stdlib.h>

#include "base/mem.h"
#include "health/mr_lease.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_send(void *arg, uint64_t to, struct mr_slice msg)
{
    (void)arg;
    (void)to;
    if (msg.len > MR_LEASES_MESSAGE_MAX) {
        abort();
    }
}

static enum mr_err on_propose(void *arg, uint64_t term, struct mr_slice cmd,
                              uint64_t ticket)
{
    (void)arg;
    (void)term;
    (void)cmd;
    (void)ticket;
    return MR_E_BUSY;
}

static void on_confirm(void *arg, uint64_t term)
{
    (void)arg;
    (void)term;
}

static void on_done(struct mr_lease_renewal *renewal, enum mr_err err)
{
    (void)renewal;
    (void)err;
}

static void play(const uint8_t *data, size_t size, uint64_t leader)
{
    const struct mr_leases_io io = {NULL, 1, on_send, on_propose, on_confirm};
    const uint64_t voters[] = {1, 2, 3};
    const struct mr_leases_role role = {1, leader, 1, true, voters, 3, "n1"};
    const struct mr_kv_lease_change lease = {
        .id = 1, .ttl_ms = 1000, .is_new = true};
    struct mr_lease_item item = {.id = 1};
    struct mr_lease_renewal renewal = {
        .items = &item, .n_items = 1, .done = on_done};
    uint64_t now = 100;
    struct mr_leases *leases = mr_leases_new(&io, now);

    if (leases == NULL || mr_leases_change(leases, &lease, 1, now) != MR_OK) {
        abort();
    }
    mr_leases_set_role(leases, &role, now);
    mr_leases_renew(leases, &renewal, now);
    while (size > 0) {
        size_t len = data[0] < size - 1 ? data[0] : size - 1;

        mr_leases_receive(leases, 2 + len % 2, mr_slice(data + 1, len), now);
        data += 1 + len;
        size -= 1 + len;
        now += mr_leases_tick(leases, now);
        (void)mr_leases_finished(leases);
    }
    mr_leases_free(leases);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    play(data, size, 2);
    play(data, size, 1);
    return 0;
}
