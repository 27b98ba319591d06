/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A raft for tests of the layers above: one server that is always the leader,
 * applies what is proposed to a real kv on a thread of its own, and can be told
 * to fail. It defines mr_raft_*, so the test program links no real one; include
 * it in one file of the program only.
 */
#ifndef TESTS_FAKE_RAFT_H
#define TESTS_FAKE_RAFT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "api/mr_api.h"
#include "base/mem.h"
#include "base/queue.h"

struct mr_raft {
    struct mr_kv *kv;
    struct mr_queue proposals;
    pthread_t thread;
    uint64_t index;
    /* What the next calls answer; MR_OK: as usual. */
    atomic_int refuse_propose; /* mr_raft_propose() itself. */
    atomic_int fail_propose;   /* done of a proposal. */
    atomic_int fail_read;      /* done of a read. */
    atomic_bool is_follower;   /* Default reads have to ask. */
    atomic_bool never_led;     /* No leader was ever seen. */
    atomic_uint reads;         /* How often mr_raft_read() was called. */
};

static void fake_raft_apply(struct mr_raft *raft, struct mr_list *batch)
{
    struct mr_list done;
    struct mr_list *link;

    mr_list_init(&done);
    mr_assert(mr_kv_batch_begin(raft->kv) == MR_OK);
    while ((link = mr_list_pop(batch)) != NULL) {
        struct mr_raft_proposal *p =
            mr_container_of(link, struct mr_raft_proposal, link);
        struct mr_write *write = mr_container_of(p, struct mr_write, proposal);

        if (atomic_load(&raft->fail_propose) == MR_OK) {
            mr_assert(mr_kv_apply(raft->kv, p->cmd, &write->result) == MR_OK);
        }
        mr_list_push(&done, &p->link);
    }
    mr_assert(mr_kv_batch_commit(raft->kv, ++raft->index, 1) == MR_OK);
    while ((link = mr_list_pop(&done)) != NULL) {
        struct mr_raft_proposal *p =
            mr_container_of(link, struct mr_raft_proposal, link);

        p->done(p, (enum mr_err)atomic_load(&raft->fail_propose));
    }
}

static void *fake_raft_run(void *arg)
{
    struct mr_raft *raft = arg;
    struct mr_list batch;

    while (mr_queue_wait(&raft->proposals, &batch) > 0) {
        fake_raft_apply(raft, &batch);
    }
    return NULL;
}

static void fake_raft_start(struct mr_raft *raft, struct mr_kv *kv)
{
    memset(raft, 0, sizeof *raft);
    raft->kv = kv;
    mr_queue_init(&raft->proposals, 0, NULL, NULL);
    mr_assert(pthread_create(&raft->thread, NULL, fake_raft_run, raft) == 0);
}

static void fake_raft_stop(struct mr_raft *raft)
{
    mr_queue_close(&raft->proposals);
    pthread_join(raft->thread, NULL);
    mr_queue_deinit(&raft->proposals);
}

enum mr_err mr_raft_propose(struct mr_raft *raft,
                            struct mr_raft_proposal *proposal)
{
    enum mr_err err = (enum mr_err)atomic_load(&raft->refuse_propose);

    mr_list_init(&proposal->link);
    return err != MR_OK ? err
                        : mr_queue_push(&raft->proposals, &proposal->link);
}

enum mr_err mr_raft_read(struct mr_raft *raft, struct mr_raft_read *read)
{
    atomic_fetch_add(&raft->reads, 1);
    read->done(read, (enum mr_err)atomic_load(&raft->fail_read));
    return MR_OK;
}

bool mr_raft_may_read_local(const struct mr_raft *raft)
{
    return !atomic_load(&raft->is_follower) && !atomic_load(&raft->never_led);
}

void mr_raft_status(const struct mr_raft *raft,
                    struct mr_raft_status *out_status)
{
    bool led = !atomic_load(&raft->never_led);
    bool follows = atomic_load(&raft->is_follower);

    memset(out_status, 0, sizeof *out_status);
    out_status->has_leader = led;
    out_status->ever_had_leader = led;
    out_status->is_leader = led && !follows;
    out_status->last_contact_ms = follows ? 12 : 0;
    out_status->role = "Leader";
    (void)snprintf(out_status->leader_address,
                   sizeof out_status->leader_address, "%s",
                   led ? "127.0.0.1:8300" : "");
}

size_t mr_raft_peers(const struct mr_raft *raft, struct mr_raft_peer *out_peers,
                     size_t cap)
{
    (void)raft;
    mr_assert(cap > 0);
    memset(out_peers, 0, sizeof *out_peers);
    out_peers->id = 1;
    (void)snprintf(out_peers->node_name, sizeof out_peers->node_name, "n1");
    (void)snprintf(out_peers->node_id, sizeof out_peers->node_id,
                   "11111111-2222-3333-4444-555555555555");
    (void)snprintf(out_peers->address, sizeof out_peers->address,
                   "127.0.0.1:8300");
    out_peers->is_self = true;
    out_peers->is_voter = true;
    out_peers->is_leader = true;
    out_peers->is_connected = true;
    return 1;
}

void mr_raft_remove_peer(struct mr_raft *raft, uint64_t id,
                         mr_raft_change_cb cb, void *arg)
{
    (void)raft;
    (void)id;
    cb(arg, MR_E_INVALID, "it would leave no voter");
}

void mr_raft_join(struct mr_raft *raft, const char *address,
                  mr_raft_change_cb cb, void *arg)
{
    (void)raft;
    (void)address;
    cb(arg, MR_OK, NULL);
}

#endif /* TESTS_FAKE_RAFT_H */
