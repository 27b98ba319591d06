/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients, and the oracle that judges what they saw.
 *
 * Every command is unique. The first server that applies the n-th command fixes
 * which one it is; every other server must agree. From this total order follow
 * the other judgements:
 *
 * - a command stands in it once at most, and not at all when it was refused;
 * - an acknowledged command stands in it, behind everything that was known to
 *   be complete when it began;
 * - a consistent read sees at least everything that was known to be complete
 *   when it began (the completed writes, and what completed reads have seen):
 *   that is linearizability, for all keys at once.
 */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "tests/sim/sim.h"

enum op_state { OP_OPEN, OP_ACKED, OP_REFUSED, OP_UNKNOWN };

struct op_record {
    uint64_t position; /* In the order; 0: not applied anywhere. */
    uint8_t state;
};

struct sim_oracle {
    struct sim *sim;
    uint64_t *order; /* Position to operation, from 1. */
    size_t n_order;
    size_t cap_order;
    struct op_record *ops; /* By operation, from 1. */
    size_t n_ops;
    size_t cap_ops;
    uint64_t *at_index; /* Commands applied up to a log index, plus one. */
    size_t cap_index;
    uint64_t *leader_of; /* By term. */
    size_t cap_term;
    uint64_t floor; /* Position that every new operation must see. */
    struct sim_counts counts;
    uint64_t quiet_acks;
};

struct sim_client {
    struct sim *sim;
    uint64_t n_open;
};

/* An operation under way. */
struct op {
    struct sim_client *client;
    struct sim_server *server;
    uint64_t number; /* Of a write. */
    uint64_t floor;
    bool was_quiet;
    struct mr_raft_proposal proposal;
    struct mr_raft_read read;
    uint8_t cmd[];
};

/* ------------------------------------------------------------- tables */

/* Make @*table hold element @i, zeroed when new. */
static void *reach(void *table, size_t *cap, size_t i, size_t size)
{
    size_t wanted = *cap == 0 ? 1024 : *cap;

    if (i < *cap) {
        return table;
    }
    while (wanted <= i) {
        wanted *= 2;
    }
    table = realloc(table, wanted * size);
    mr_assert(table != NULL);
    memset((char *)table + *cap * size, 0, (wanted - *cap) * size);
    *cap = wanted;
    return table;
}

static uint64_t new_op(struct sim_oracle *o)
{
    o->ops = reach(o->ops, &o->cap_ops, ++o->n_ops, sizeof *o->ops);
    return o->n_ops;
}

/* ------------------------------------------------------------- judging */

static void place(struct sim_oracle *o, struct sim_server *s, uint64_t position,
                  uint64_t number)
{
    struct op_record *op = &o->ops[number];

    if (position <= o->n_order) {
        if (o->order[position] != number) {
            sim_fail(o->sim, "server %zu diverged at command %llu", s->slot,
                     (unsigned long long)position);
        }
        return;
    }
    if (op->position != 0) {
        sim_fail(o->sim, "server %zu applied command %llu twice", s->slot,
                 (unsigned long long)number);
    }
    if (op->state == OP_REFUSED) {
        sim_fail(o->sim, "server %zu applied refused command %llu", s->slot,
                 (unsigned long long)number);
    }
    o->order = reach(o->order, &o->cap_order, position, sizeof *o->order);
    o->order[position] = number;
    o->n_order = position;
    op->position = position;
}

void sim_oracle_apply(struct sim_server *s, struct mr_slice cmd,
                      struct mr_raft_proposal *own)
{
    struct sim_oracle *o = s->sim->oracle;
    struct sim_fsm *fsm = &s->disk.fsm;
    uint64_t words[2];

    if (cmd.len < sizeof words) {
        sim_fail(s->sim, "server %zu: a command is cut", s->slot);
        return;
    }
    memcpy(words, cmd.data, sizeof words);
    if (words[0] == 0 || words[0] > o->n_ops || words[1] >= SIM_KEYS ||
        (own != NULL && (own->cmd.len != cmd.len ||
                         memcmp(own->cmd.data, cmd.data, cmd.len) != 0))) {
        sim_fail(s->sim, "server %zu: a command is another one", s->slot);
        return;
    }
    fsm->n_applied++;
    fsm->regs[words[1]] = words[0];
    fsm->digest = mr_hash64(cmd, fsm->digest);
    place(o, s, fsm->n_applied, words[0]);
}

void sim_oracle_commit(struct sim_server *s, uint64_t index, uint64_t term)
{
    struct sim_oracle *o = s->sim->oracle;
    struct sim_fsm *fsm = &s->disk.fsm;

    if (index <= fsm->index || term < fsm->term) {
        sim_fail(s->sim, "server %zu: the state goes back", s->slot);
    }
    fsm->index = index;
    fsm->term = term;
    o->at_index = reach(o->at_index, &o->cap_index, index, sizeof *o->at_index);
    if (o->at_index[index] == 0) {
        o->at_index[index] = fsm->n_applied + 1;
    } else if (o->at_index[index] != fsm->n_applied + 1) {
        sim_fail(s->sim, "server %zu: other commands up to entry %llu", s->slot,
                 (unsigned long long)index);
    }
}

void sim_oracle_watch(struct sim_server *s)
{
    struct sim_oracle *o = s->sim->oracle;
    struct driver_status status;

    driver_status(s->driver, &status);
    if (!status.is_leader) {
        return;
    }
    o->leader_of =
        reach(o->leader_of, &o->cap_term, status.term, sizeof *o->leader_of);
    if (o->leader_of[status.term] == 0) {
        o->leader_of[status.term] = s->id;
        o->counts.terms++;
    } else if (o->leader_of[status.term] != s->id) {
        sim_fail(s->sim, "two leaders in term %llu",
                 (unsigned long long)status.term);
    }
}

static void raise_floor(struct sim_oracle *o, uint64_t position)
{
    o->floor = position > o->floor ? position : o->floor;
}

static void judge_write(struct sim_oracle *o, struct op *op, enum mr_err err)
{
    struct op_record *r = &o->ops[op->number];

    if (err == MR_OK) {
        r->state = OP_ACKED;
        o->counts.acked++;
        o->quiet_acks += op->was_quiet;
        if (r->position == 0) {
            sim_fail(o->sim, "an acknowledged command was not applied");
        } else if (r->position <= op->floor) {
            sim_fail(o->sim, "a command was ordered before it was proposed");
        }
        raise_floor(o, r->position);
    } else if (err == MR_E_NOLEADER || err == MR_E_BUSY) {
        r->state = OP_REFUSED;
        o->counts.refused++;
        if (r->position != 0) {
            sim_fail(o->sim, "a refused command (%s) had been applied",
                     mr_err_name(err));
        }
    } else {
        r->state = OP_UNKNOWN;
        o->counts.unknown++;
        if (err != MR_E_UNKNOWN && err != MR_E_CLOSED) {
            sim_fail(o->sim, "a proposal ended with %s", mr_err_name(err));
        }
    }
}

static void judge_read(struct sim_oracle *o, struct op *op, enum mr_err err)
{
    uint64_t seen = op->server->disk.fsm.n_applied;
    bool consistent = op->read.mode == MR_RAFT_READ_CONSISTENT;

    if (err != MR_OK) {
        o->counts.reads[2]++;
        if (err != MR_E_NOLEADER && err != MR_E_TIMEOUT && err != MR_E_CLOSED &&
            err != MR_E_BUSY) {
            sim_fail(o->sim, "a read ended with %s", mr_err_name(err));
        }
        return;
    }
    o->counts.reads[consistent]++;
    if (seen < op->floor) {
        o->counts.stale_defaults += !consistent;
        if (consistent || op->was_quiet) {
            sim_fail(o->sim, "a %s read saw %llu and should have seen %llu",
                     consistent ? "consistent" : "default",
                     (unsigned long long)seen, (unsigned long long)op->floor);
        }
    }
    if (consistent) {
        raise_floor(o, seen);
    }
}

/* ------------------------------------------------------------- clients */

static void client_next(struct sim *sim, void *arg);

static void op_end(struct op *op)
{
    struct sim_client *c = op->client;
    struct sim *sim = c->sim;

    c->n_open--;
    sim_at(sim, sim->now + sim_random(sim, sim->write_gap_ms + 1), client_next,
           c);
    free(op);
}

static void write_done(struct mr_raft_proposal *p, enum mr_err err)
{
    struct op *op = mr_container_of(p, struct op, proposal);

    judge_write(op->client->sim->oracle, op, err);
    op_end(op);
}

static void read_done(struct mr_raft_read *r, enum mr_err err)
{
    struct op *op = mr_container_of(r, struct op, read);

    judge_read(op->client->sim->oracle, op, err);
    op_end(op);
}

static void begin_op(struct sim_server *s, void *arg)
{
    struct op *op = arg;
    struct sim_oracle *o = s->sim->oracle;
    enum mr_err err;

    op->floor = o->floor;
    op->was_quiet = s->sim->is_settled;
    if (op->number != 0) {
        err = driver_propose(s->driver, &op->proposal);
        if (err != MR_OK) {
            judge_write(o, op, err);
        }
    } else {
        err = driver_read(s->driver, &op->read);
        if (err != MR_OK) {
            judge_read(o, op, err);
        }
    }
    if (err != MR_OK) {
        op_end(op);
    }
}

/* The server died before it began with it. */
struct pending {
    struct op *op;
    bool begun;
};

static void pending_begin(struct sim_server *s, void *arg)
{
    struct pending *p = arg;

    p->begun = true;
    begin_op(s, p->op);
}

static void pending_free(void *arg)
{
    struct pending *p = arg;

    if (!p->begun) {
        op_end(p->op);
    }
    free(p);
}

static struct op *op_new(struct sim_client *c, struct sim_server *s)
{
    struct sim *sim = c->sim;
    size_t len = 16 + sim_random(sim, sim->payload + 1);
    struct op *op = calloc(1, sizeof *op + len);
    uint64_t words[2];
    uint64_t kind = sim_random(sim, 10);

    mr_assert(op != NULL);
    op->client = c;
    op->server = s;
    if (kind < 6) {
        op->number = new_op(sim->oracle);
        words[0] = op->number;
        words[1] = sim_random(sim, SIM_KEYS);
        memcpy(op->cmd, words, sizeof words);
        op->proposal.cmd = mr_slice(op->cmd, len);
        op->proposal.done = write_done;
    } else {
        op->read.mode =
            kind < 8 ? MR_RAFT_READ_DEFAULT : MR_RAFT_READ_CONSISTENT;
        op->read.done = read_done;
    }
    return op;
}

static void client_next(struct sim *sim, void *arg)
{
    struct sim_client *c = arg;
    struct sim_server *s = sim->servers[sim_random(sim, SIM_SERVERS)];
    struct pending *p;

    if (sim->is_stopped || sim->failed) {
        return;
    }
    if (s == NULL || !s->is_up || s->is_gone) {
        sim_at(sim, sim->now + 5, client_next, c);
        return;
    }
    p = calloc(1, sizeof *p);
    mr_assert(p != NULL);
    p->op = op_new(c, s);
    c->n_open++;
    sim_post(s, sim->now, pending_begin, p, pending_free);
}

void sim_oracle_new(struct sim *sim)
{
    sim->oracle = calloc(1, sizeof *sim->oracle);
    mr_assert(sim->oracle != NULL);
    sim->oracle->sim = sim;
}

uint64_t sim_oracle_new_op(struct sim *sim)
{
    return new_op(sim->oracle);
}

void sim_clients_start(struct sim *sim)
{
    sim_oracle_new(sim);
    sim->clients = calloc(SIM_CLIENTS, sizeof *sim->clients);
    mr_assert(sim->clients != NULL);
    for (size_t i = 0; i < SIM_CLIENTS; i++) {
        sim->clients[i].sim = sim;
        for (size_t k = 0; k <= i % 4; k++) { /* Operations at a time. */
            sim_at(sim, sim->now + sim_random(sim, 100), client_next,
                   &sim->clients[i]);
        }
    }
}

void sim_clients_free(struct sim *sim)
{
    if (sim->oracle != NULL) {
        free(sim->oracle->order);
        free(sim->oracle->ops);
        free(sim->oracle->at_index);
        free(sim->oracle->leader_of);
    }
    free(sim->oracle);
    free(sim->clients);
    sim->oracle = NULL;
    sim->clients = NULL;
}

/* ------------------------------------------------------------- the end */

static const struct sim_server *find_leader(struct sim *sim)
{
    struct driver_status status;

    for (size_t i = 0; i < SIM_SERVERS; i++) {
        const struct sim_server *s = sim->servers[i];
        if (s != NULL && s->is_up) {
            driver_status(s->driver, &status);
            if (status.is_leader) {
                return s;
            }
        }
    }
    return NULL;
}

static void judge_server(struct sim *sim, const struct sim_server *leader,
                         const struct driver_peer *peer)
{
    const struct sim_server *s = sim_server_by_id(sim, peer->id);

    if (s == NULL || s->is_gone) {
        sim_fail(sim, "a member is no server any more");
    } else if (!peer->is_voter) {
        sim_fail(sim, "server %zu was not promoted", s->slot);
    } else if (s->disk.fsm.index != leader->disk.fsm.index) {
        sim_fail(sim, "server %zu stays behind: %llu of %llu", s->slot,
                 (unsigned long long)s->disk.fsm.index,
                 (unsigned long long)leader->disk.fsm.index);
    } else if (s->disk.fsm.digest != leader->disk.fsm.digest) {
        sim_fail(sim, "server %zu has another digest", s->slot);
    } else if (sim->has_kv && !sim_kv_equal(s->disk.kv, leader->disk.kv)) {
        sim_fail(sim, "server %zu has another store", s->slot);
    }
}

void sim_oracle_end(struct sim *sim)
{
    const struct sim_server *leader = find_leader(sim);
    struct driver_peer peer;

    if (sim->failed) {
        return;
    }
    if (leader == NULL) {
        sim_fail(sim, "no leader at the end");
        return;
    }
    if (sim->oracle->quiet_acks < 10) {
        sim_fail(sim, "no progress after the faults");
        return;
    }
    if (leader->disk.fsm.n_applied != sim->oracle->n_order) {
        sim_fail(sim, "the leader lacks commands");
    }
    for (size_t i = 0; driver_peer_at(leader->driver, i, &peer); i++) {
        judge_server(sim, leader, &peer);
    }
    for (size_t i = 0; i < SIM_CLIENTS; i++) {
        if (sim->clients[i].n_open > 0) {
            sim_fail(sim, "an operation never ended");
        }
    }
}

void sim_clients_stop(struct sim *sim)
{
    sim->is_stopped = true;
}

void sim_oracle_counts(const struct sim *sim, struct sim_counts *out_counts)
{
    *out_counts = sim->oracle->counts;
    out_counts->commands = sim->oracle->n_order;
    out_counts->crashes = sim->n_crashes;
    out_counts->elections = sim->n_elections;
    out_counts->installs = sim->n_installs;
    out_counts->wipes = sim->n_wipes;
}
