/* SPDX-License-Identifier: Apache-2.0 */
/* Messages and snapshot transfers between simulated servers. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

#define TRANSFER_MS 400 /* A snapshot takes up to that long. */

/* A message under way, with everything it points to. */
struct packet {
    struct sim *sim;
    uint64_t from;
    uint64_t to;
    size_t from_slot;
    struct driver_message msg;
    char address[MR_HOST_MAX + 8];
    struct driver_blob *conf;
};

static void copy_payload(struct packet *p)
{
    struct driver_message *m = &p->msg;

    if (m->type == DRIVER_MSG_APPEND && m->append.n_entries > 0) {
        size_t n = m->append.n_entries;
        struct driver_entry *copy = calloc(n, sizeof *copy);
        mr_assert(copy != NULL);
        for (size_t i = 0; i < n; i++) {
            copy[i] = m->append.entries[i];
            driver_blob_ref(copy[i].blob);
        }
        m->append.entries = copy;
    } else if (m->type == DRIVER_MSG_FORWARD) {
        driver_blob_ref(m->forward.blob);
    } else if (m->type == DRIVER_MSG_MEMBER) {
        strncpy(p->address, m->member.address, sizeof p->address - 1);
        m->member.address = p->address;
    } else if (m->type == DRIVER_MSG_MEMBER_REPLY) {
        m->member_reply.leader_address = "";
    }
}

static void packet_free(void *arg)
{
    struct packet *p = arg;

    if (p->msg.type == DRIVER_MSG_APPEND && p->msg.append.n_entries > 0) {
        for (size_t i = 0; i < p->msg.append.n_entries; i++) {
            driver_blob_unref(p->msg.append.entries[i].blob);
        }
        free((void *)(uintptr_t)p->msg.append.entries);
    } else if (p->msg.type == DRIVER_MSG_FORWARD) {
        driver_blob_unref(p->msg.forward.blob);
    }
    driver_blob_unref(p->conf);
    free(p);
}

static void receive(struct sim_server *s, void *arg)
{
    struct packet *p = arg;

    driver_receive(s->driver, p->from, &p->msg);
}

/* The packet arrives: it goes to whatever process is there now. */
static void arrive(struct sim *sim, void *arg)
{
    struct packet *p = arg;
    struct sim_server *s = sim_server_by_id(sim, p->to);

    if (s == NULL || !s->is_up) {
        packet_free(p);
        return;
    }
    sim_post(s, sim->now, receive, p, packet_free);
}

/* When a message that is sent now arrives. Mostly in order. */
static uint64_t arrival(struct sim *sim, size_t from, size_t to)
{
    uint64_t when = sim->now + sim_random(sim, 3);

    if (sim_chance(sim, sim->late_pm)) {
        return when + sim_random(sim, sim->late_ms + 1);
    }
    if (when < sim->link_ms[from][to]) {
        when = sim->link_ms[from][to];
    }
    sim->link_ms[from][to] = when;
    return when;
}

void sim_net_send(struct sim_server *from, uint64_t peer,
                  const struct driver_message *msg)
{
    struct sim *sim = from->sim;
    struct sim_server *to = sim_server_by_id(sim, peer);
    struct driver_message changed = *msg;
    unsigned copies = 1;

    if (to == NULL || sim->cut[from->slot][to->slot] ||
        sim_chance(sim, sim->drop_pm) ||
        (from->mute_elections && msg->type == DRIVER_MSG_VOTE) ||
        (sim->filter != NULL && !sim->filter(sim, &changed))) {
        return;
    }
    copies += sim_chance(sim, sim->dup_pm);
    for (unsigned i = 0; i < copies; i++) {
        struct packet *p = calloc(1, sizeof *p);
        mr_assert(p != NULL);
        p->sim = sim;
        p->from = from->id;
        p->to = peer;
        p->msg = changed;
        copy_payload(p);
        sim_at(sim, arrival(sim, from->slot, to->slot), arrive, p);
    }
}

/* ------------------------------------------------------------- snapshots */

struct transfer {
    uint64_t from;
    uint64_t from_generation;
    uint64_t to;
    uint64_t term;
    struct driver_snapshot meta;
    struct driver_blob *conf;
    struct sim_fsm fsm;
    struct driver_blob *kv;
    bool arrived;
};

static void transfer_free(void *arg)
{
    struct transfer *t = arg;

    driver_blob_unref(t->conf);
    driver_blob_unref(t->kv);
    free(t);
}

static void report(struct sim_server *s, void *arg)
{
    struct transfer *t = arg;

    driver_snapshot_sent(s->driver, t->to,
                         t->arrived ? MR_OK : MR_E_UNREACHABLE);
}

static void offer(struct sim_server *s, void *arg)
{
    struct transfer *t = arg;
    struct driver_message msg = {.type = DRIVER_MSG_INSTALL, .term = t->term};
    uint64_t name = ++s->sim->next_file;
    struct sim_file *file = sim_disk_new_file(&s->disk, name);

    if (file == NULL) {
        sim_fail(s->sim, "server %zu: snapshot files are not dropped", s->slot);
        return;
    }
    file->fsm = t->fsm;
    file->kv = t->kv;
    t->kv = NULL;
    msg.install.meta = t->meta;
    msg.install.file = name;
    driver_receive(s->driver, t->from, &msg);
}

static void transfer_ends(struct sim *sim, void *arg)
{
    struct transfer *t = arg;
    struct sim_server *from = sim_server_by_id(sim, t->from);
    struct sim_server *to = sim_server_by_id(sim, t->to);
    bool from_lives =
        from != NULL && from->is_up && from->generation == t->from_generation;

    t->arrived = to != NULL && to->is_up && from_lives &&
                 !sim->cut[from->slot][to->slot];
    if (t->arrived) {
        struct transfer *copy = calloc(1, sizeof *copy);
        mr_assert(copy != NULL);
        *copy = *t;
        driver_blob_ref(copy->conf);
        if (copy->kv != NULL) {
            driver_blob_ref(copy->kv);
        }
        sim_post(to, sim->now, offer, copy, transfer_free);
    }
    if (from_lives) {
        sim_post(from, sim->now, report, t, transfer_free);
    } else {
        transfer_free(t);
    }
}

void sim_net_snapshot(struct sim_server *from, uint64_t peer, uint64_t term)
{
    struct sim *sim = from->sim;
    struct transfer *t = calloc(1, sizeof *t);
    struct sim_file *file = sim_disk_file(&from->disk, from->force_file);

    mr_assert(t != NULL);
    if (file == NULL || from->force_conf == NULL) {
        sim_fail(sim, "server %zu: no snapshot to send", from->slot);
        free(t);
        return;
    }
    t->from = from->id;
    t->from_generation = from->generation;
    t->to = peer;
    t->term = term;
    t->meta = from->force;
    t->conf = driver_blob_ref(from->force_conf);
    t->fsm = file->fsm;
    t->kv = file->kv == NULL ? NULL : driver_blob_ref(file->kv);
    sim_at(sim, sim->now + 1 + sim_random(sim, TRANSFER_MS), transfer_ends, t);
}
