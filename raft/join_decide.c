/* SPDX-License-Identifier: Apache-2.0 */
/* The decisions of joining, as pure functions. The reasons are in join.c. */
#include "raft/join.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static bool contains(const struct frame_promise *p, uint64_t id)
{
    for (size_t i = 0; i < p->n_servers; i++) {
        if (p->servers[i].id == id) {
            return true;
        }
    }
    return false;
}

static uint64_t lowest(const struct frame_promise *p)
{
    uint64_t id = UINT64_MAX;

    for (size_t i = 0; i < p->n_servers; i++) {
        id = p->servers[i].id < id ? p->servers[i].id : id;
    }
    return id;
}

static int by_id(const void *a, const void *b)
{
    const struct frame_server *x = a;
    const struct frame_server *y = b;

    return x->id < y->id ? -1 : x->id > y->id;
}

/* A cluster that a connected server is in, 0 for none. The promised one comes
 * first, then the smallest number, so that all decide alike. */
static uint64_t existing_cluster(const struct join_view *v)
{
    uint64_t found = 0;

    for (size_t i = 0; i < v->n_servers; i++) {
        uint64_t id = v->servers[i].is_up ? v->servers[i].cluster_id : 0;

        if (id != 0 && v->promise != NULL && v->promise->cluster_id == id) {
            return id;
        }
        if (id != 0 && (found == 0 || id < found)) {
            found = id;
        }
    }
    return found;
}

/* The set that we would propose: the servers with the lowest IDs among those
 * that are there and expect as many as we do. */
static void choose_set(const struct join_view *v, struct frame_promise *out)
{
    struct frame_promise all = {0};

    all.servers[all.n_servers++] = v->self;
    for (size_t i = 0; i < v->n_servers && all.n_servers < FRAME_SERVERS_MAX;
         i++) {
        const struct join_server *s = &v->servers[i];

        if (s->is_up && s->cluster_id == 0 && s->expect == v->expect) {
            all.servers[all.n_servers++] = s->s;
        }
    }
    qsort(all.servers, all.n_servers, sizeof all.servers[0], by_id);
    if (all.n_servers > v->expect) {
        all.n_servers = v->expect;
    }
    *out = all;
}

void join_decide(const struct join_view *view, struct join_decision *out)
{
    uint64_t cluster = existing_cluster(view);

    memset(out, 0, sizeof *out);
    out->step = JOIN_WAIT;
    if (view->cluster_id != 0) {
        return;
    }
    if (cluster != 0) {
        out->cluster_id = cluster;
        out->step = view->promise != NULL &&
                            view->promise->cluster_id == cluster &&
                            contains(view->promise, view->self.id)
                        ? JOIN_BEGIN
                        : JOIN_ENTER;
        return;
    }
    if (view->expect == 0) {
        return;
    }
    choose_set(view, &out->propose);
    if (out->propose.n_servers == view->expect &&
        out->propose.servers[0].id == view->self.id) {
        out->propose.proposer = view->self.id;
        out->step = JOIN_PROPOSE;
    }
}

static bool is_up(const struct join_view *v, uint64_t id)
{
    for (size_t i = 0; i < v->n_servers; i++) {
        if (v->servers[i].s.id == id) {
            return v->servers[i].is_up;
        }
    }
    return false;
}

static bool refuse(char reason[FRAME_REASON_MAX + 1], const char *why)
{
    (void)snprintf(reason, FRAME_REASON_MAX + 1, "%s", why);
    return false;
}

bool join_may_promise(const struct join_view *view,
                      const struct frame_promise *wanted, uint64_t from,
                      char reason[FRAME_REASON_MAX + 1])
{
    const struct frame_promise *given = view->promise;

    if (view->cluster_id != 0) {
        return refuse(reason, "in a cluster already");
    }
    if (wanted->n_servers != view->expect || view->expect == 0) {
        return refuse(reason, "another number of servers is expected");
    }
    if (!contains(wanted, view->self.id) || wanted->proposer != from ||
        lowest(wanted) != from) {
        return refuse(reason, "the proposal is not consistent");
    }
    if (given != NULL && given->cluster_id != wanted->cluster_id &&
        given->proposer != from && !contains(wanted, given->proposer) &&
        is_up(view, given->proposer)) {
        return refuse(reason, "another proposal is being decided");
    }
    return true;
}
