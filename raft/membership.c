/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Membership: the first configuration, servers added, promoted and removed.
 *
 * - Configurations change one server at a time, by the leader, by an entry.
 * - A new server becomes a stand-by first: it gets the log and does not count.
 *   Once it is near the end, the core watches its catch-up, and then it
 *   becomes a voter. Every leader promotes every stand-by by itself, so this
 *   survives a change of leaders.
 * - A server that comes back under its old address with an empty disk is a new
 *   server; the one it replaces is removed first.
 * - A request starts at any server, which repeats it to the leader of the day
 *   until it has an answer: adding and removing are idempotent.
 * - A leader that is to be removed hands over first.
 */
#include "raft/driver_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "raft/error.h"

#define REQUESTS_MAX 64
#define REQUEST_MS 10000
#define REPEAT_MS 500
#define CATCH_UP_LAG 2048 /* Entries: near enough to be watched. */
#define PROMOTE_MS 200

/* ------------------------------------------------------------- encoding */

/* libraft decodes without looking at the end, so look first. */
static bool is_conf_sound(struct mr_slice conf)
{
    const uint8_t *p = conf.data;
    size_t at = 9;
    uint64_t n = 0;

    if (conf.len < at || p[0] != 1) {
        return false;
    }
    for (int i = 8; i >= 1; i--) { /* Little-endian. */
        n = n << 8 | p[i];
    }
    if (n == 0 || n > DRIVER_MAX_SERVERS) {
        return false;
    }
    for (; n > 0; n--) {
        const uint8_t *nul;
        if (conf.len - at < 8 + 1 + 1) {
            return false;
        }
        nul = memchr(p + at + 8, 0, conf.len - at - 8);
        if (nul == NULL || (size_t)(nul - p) + 2 > conf.len) {
            return false;
        }
        at = (size_t)(nul - p) + 2;
    }
    return true;
}

bool members_decode(struct mr_slice conf, struct raft_configuration *out)
{
    struct raft_buffer buf = {(void *)(uintptr_t)conf.data, conf.len};

    if (!is_conf_sound(conf)) {
        return false;
    }
    raft_configuration_init(out);
    if (raft_configuration_decode(&buf, out) != 0) {
        return false;
    }
    for (unsigned i = 0; i < out->n; i++) {
        if (out->servers[i].id == 0) {
            raft_configuration_close(out);
            return false;
        }
    }
    return true;
}

/* Encode into a blob; NULL: no memory. */
static struct driver_blob *encode(const struct raft_configuration *conf)
{
    struct raft_buffer buf;
    struct driver_blob *blob;

    if (raft_configuration_encode(conf, &buf) != 0) {
        return NULL;
    }
    blob = driver_blob_new(buf.len);
    if (blob != NULL) {
        memcpy(blob->data, buf.base, buf.len);
    }
    raft_free(buf.base);
    return blob;
}

/* A configuration wants distinct texts, and an address can be used again by
 * another server: the text is host:port#id. */
static void address_text(char *out, size_t cap, const char *address,
                         uint64_t id)
{
    (void)snprintf(out, cap, "%s#%016llx", address, (unsigned long long)id);
}

static size_t address_len(const char *text)
{
    const char *hash = strrchr(text, '#');

    return hash == NULL ? strlen(text) : (size_t)(hash - text);
}

bool driver_peer_at(const struct driver *d, size_t i,
                    struct driver_peer *out_peer)
{
    const struct raft_server *s;
    raft_index match = 0;

    if (i >= d->core.configuration.n) {
        return false;
    }
    s = &d->core.configuration.servers[i];
    (void)raft_match_index(&d->core, s->id, &match); /* 0 unless leading. */
    out_peer->id = s->id;
    out_peer->address = s->address;
    out_peer->address_len = address_len(s->address);
    out_peer->is_voter = s->role == RAFT_VOTER;
    out_peer->match_index = match;
    return true;
}

/* ------------------------------------------------------------- bootstrap */

static int by_id(const void *a, const void *b)
{
    const struct driver_server *x = a;
    const struct driver_server *y = b;

    return x->id < y->id ? -1 : x->id > y->id;
}

/* Write @conf as the first entry and start the core anew with it. */
static enum mr_err begin_log(struct driver *d, struct driver_blob *conf)
{
    struct driver_entry entry = {1, DRIVER_ENTRY_CHANGE,
                                 mr_slice(conf->data, conf->len), conf};
    struct driver_log_write write = {.has_vote = true, .term = 1};
    enum mr_err err = entries_append(&d->log, &entry);

    if (err != MR_OK) {
        return err;
    }
    write.first_index = 1;
    write.entries = &entry;
    write.n_entries = 1;
    driver_log(d, &write);
    d->first_ticket = d->last_ticket; /* The core takes it for stored. */
    return driver_restart_core(d, &entry);
}

enum mr_err driver_bootstrap(struct driver *d,
                             const struct driver_server *servers, size_t n)
{
    struct driver_server sorted[DRIVER_MAX_SERVERS];
    struct raft_configuration conf;
    struct driver_blob *blob = NULL;
    enum mr_err err = MR_OK;
    bool has_self = false;

    if (d->log.last != 0 || d->core.current_term != 0 ||
        d->log.snapshot_index != 0 || driver_leader(d) != 0) {
        return MR_E_EXISTS;
    }
    if (n == 0 || n > DRIVER_MAX_SERVERS) {
        return MR_E_INVALID;
    }
    memcpy(sorted, servers, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_id);
    raft_configuration_init(&conf);
    for (size_t i = 0; i < n && err == MR_OK; i++) {
        char text[MR_HOST_MAX + 32];
        address_text(text, sizeof text, sorted[i].address, sorted[i].id);
        has_self |= sorted[i].id == d->opt.id;
        err = sorted[i].id == 0 ? MR_E_INVALID
                                : driver_error(raft_configuration_add(
                                      &conf, sorted[i].id, text, RAFT_VOTER));
    }
    if (err == MR_E_EXISTS || (err == MR_OK && !has_self)) {
        err = MR_E_INVALID;
    }
    if (err == MR_OK) {
        blob = encode(&conf);
        err = blob == NULL ? MR_E_NOMEM : begin_log(d, blob);
    }
    driver_blob_unref(blob);
    raft_configuration_close(&conf);
    driver_settle(d);
    return err;
}

/* ------------------------------------------------------------- changing */

/* Submit a configuration. MR_E_BUSY: another change is under way. */
static enum mr_err submit_change(struct driver *d,
                                 const struct raft_configuration *conf)
{
    struct driver_entry entry = {
        d->core.current_term, DRIVER_ENTRY_CHANGE, {NULL, 0}, NULL};
    int rv;

    if (d->core.configuration_uncommitted_index != 0 ||
        d->core.leader_state.promotee_id != 0 ||
        d->commit < d->own_term_index) {
        return MR_E_BUSY;
    }
    entry.blob = encode(conf);
    if (entry.blob == NULL) {
        return MR_E_NOMEM;
    }
    entry.data = mr_slice(entry.blob->data, entry.blob->len);
    rv = driver_submit(d, &entry, 1);
    driver_blob_unref(entry.blob);
    return driver_error(rv);
}

/* The configuration in force with @id left out, or in the role @role (added
 * under @address when it is not there). The order of the others stays. */
static enum mr_err derive(const struct driver *d, uint64_t id, int role,
                          const char *address, struct raft_configuration *out)
{
    const struct raft_configuration *now = &d->core.configuration;
    bool is_there = false;
    int rv = 0;

    raft_configuration_init(out);
    for (unsigned i = 0; i < now->n && rv == 0; i++) {
        const struct raft_server *s = &now->servers[i];
        bool is_it = s->id == id;
        is_there |= is_it;
        if (!is_it || role >= 0) {
            rv = raft_configuration_add(out, s->id, s->address,
                                        is_it ? role : s->role);
        }
    }
    if (rv == 0 && !is_there && role >= 0) {
        char text[MR_HOST_MAX + 32];
        address_text(text, sizeof text, address, id);
        rv = raft_configuration_add(out, id, text, role);
    }
    if (rv != 0) {
        raft_configuration_close(out);
    }
    return driver_error(rv);
}

static enum mr_err change(struct driver *d, uint64_t id, int role,
                          const char *address)
{
    struct raft_configuration conf;
    enum mr_err err = derive(d, id, role, address, &conf);

    if (err == MR_OK) {
        err = submit_change(d, &conf);
        raft_configuration_close(&conf);
    }
    return err;
}

/* ------------------------------------------------------------- promotion */

/* Watch one stand-by's catch-up, or make it a voter when it is done. */
static void promote(struct driver *d)
{
    struct driver_members *m = &d->members;
    int status = RAFT_CATCH_UP_NONE;
    uint64_t id = m->promoting;

    if (raft_catch_up(&d->core, id, &status) != 0 ||
        status == RAFT_CATCH_UP_ABORTED || status == RAFT_CATCH_UP_NONE) {
        m->promoting = 0;
        m->retry_ms = d->now + PROMOTE_MS;
    } else if (status == RAFT_CATCH_UP_FINISHED &&
               change(d, id, RAFT_VOTER, "") != MR_E_BUSY) {
        m->promoting = 0;
    }
}

static void find_candidate(struct driver *d)
{
    struct raft_event event = {.type = RAFT_CATCH_UP};

    for (unsigned i = 0; i < d->core.configuration.n; i++) {
        const struct raft_server *s = &d->core.configuration.servers[i];
        raft_index match = 0;

        if (s->role == RAFT_VOTER || s->id == d->opt.id ||
            raft_match_index(&d->core, s->id, &match) != 0 || match == 0 ||
            match + CATCH_UP_LAG < d->log.last) {
            continue;
        }
        d->members.promoting = s->id;
        event.catch_up.server_id = s->id;
        if (driver_step(d, &event) == 0) {
            /* The core looks only when something new arrives there. */
            (void)driver_submit_barrier(d); /* Else it is tried again. */
        }
        return;
    }
}

static void watch_promotion(struct driver *d)
{
    if (d->members.promoting != 0) {
        promote(d);
    } else if (d->now >= d->members.retry_ms &&
               d->core.configuration_uncommitted_index == 0 &&
               d->core.leader_state.promotee_id == 0 &&
               raft_transferee(&d->core) == 0 &&
               d->commit >= d->own_term_index) {
        d->members.retry_ms = d->now + PROMOTE_MS;
        find_candidate(d);
    }
}

/* ------------------------------------------------------------- requests */

void members_finish(struct driver *d, struct driver_request *req,
                    enum mr_err err)
{
    struct driver_message msg = {.type = DRIVER_MSG_MEMBER_REPLY};
    const struct raft_server *leader;
    char address[MR_HOST_MAX + 8] = "";

    mr_list_remove(&req->link);
    if (req->peer == 0) {
        if (req->cb != NULL) {
            req->cb(req->arg, err, err == MR_OK ? "" : mr_strerror(err));
        }
        mr_free(req);
        return;
    }
    leader =
        driver_leader(d) == 0 ? NULL : driver_server_of(d, driver_leader(d));
    if (leader != NULL) {
        (void)snprintf(address, sizeof address, "%.*s",
                       (int)address_len(leader->address), leader->address);
    }
    msg.term = d->core.current_term;
    msg.member_reply.seq = req->seq;
    msg.member_reply.err = err;
    msg.member_reply.leader_id = driver_leader(d);
    msg.member_reply.leader_address = address;
    driver_send(d, req->peer, &msg);
    mr_free(req);
}

void members_close(struct driver *d, enum mr_err err)
{
    while (!mr_list_empty(&d->members.requests)) {
        struct driver_request *req = mr_container_of(
            d->members.requests.next, struct driver_request, link);
        d->members.n_requests--;
        members_finish(d, req, err);
    }
}

/* A new request, not yet in the list; NULL: no room. */
static struct driver_request *request_new(struct driver *d,
                                          const struct driver_member *m)
{
    struct driver_request *req;

    if (m->seq == 0 && d->members.n_requests >= REQUESTS_MAX) {
        return NULL;
    }
    req = mr_calloc(1, sizeof *req);
    if (req == NULL) {
        return NULL;
    }
    mr_list_init(&req->link);
    req->op = m->op;
    req->id = m->id;
    (void)snprintf(req->address, sizeof req->address, "%s",
                   m->address == NULL ? "" : m->address);
    req->seq = m->seq;
    req->deadline_ms = d->now + REQUEST_MS;
    mr_list_push(&d->members.requests, &req->link);
    d->members.n_requests++;
    return req;
}

void driver_member_change(struct driver *d, enum driver_member_op op,
                          uint64_t id, const char *address,
                          mr_raft_change_cb cb, void *arg)
{
    struct driver_member m = {++d->members.next_seq, op, id, address};
    struct driver_request *req = request_new(d, &m);

    if (req == NULL) {
        cb(arg, MR_E_BUSY, mr_strerror(MR_E_BUSY));
        return;
    }
    req->cb = cb;
    req->arg = arg;
}

void driver_leave(struct driver *d, mr_raft_change_cb cb, void *arg)
{
    driver_member_change(d, DRIVER_MEMBER_REMOVE, d->opt.id, "", cb, arg);
}

/* ------------------------------------------------------------- the leader */

static enum mr_err hand_over_to(struct driver *d, uint64_t id)
{
    struct raft_event event = {.type = RAFT_TRANSFER};
    int rv;

    if (driver_is_sole_voter(d)) {
        return MR_E_NOTFOUND;
    }
    if (raft_transferee(&d->core) != 0) {
        return MR_E_BUSY;
    }
    event.transfer.server_id = id;
    rv = driver_step(d, &event);
    reads_update_lease(d); /* The next one may lead at any moment. */
    return driver_error(rv);
}

/* The server that has @address now and is not @id; 0: none. */
static uint64_t replaced_by(const struct driver *d, uint64_t id,
                            const char *address)
{
    for (unsigned i = 0; i < d->core.configuration.n; i++) {
        const struct raft_server *s = &d->core.configuration.servers[i];
        size_t len = address_len(s->address);
        if (s->id != id && strlen(address) == len &&
            memcmp(s->address, address, len) == 0) {
            return s->id;
        }
    }
    return 0;
}

static enum mr_err start_add(struct driver *d, struct driver_request *req)
{
    uint64_t old = replaced_by(d, req->id, req->address);

    if (driver_server_of(d, req->id) != NULL) {
        req->index = d->core.configuration_uncommitted_index;
        return req->index == 0 ? MR_OK : MR_E_BUSY;
    }
    if (old != 0 && old != d->opt.id && driver_n_voters(d) > 1) {
        (void)change(d, old, -1, ""); /* The joiner asks again. */
        return MR_E_BUSY;
    }
    if (d->core.configuration.n >= DRIVER_MAX_SERVERS ||
        req->address[0] == '\0' || req->id == 0) {
        return MR_E_INVALID;
    }
    return change(d, req->id, RAFT_STANDBY, req->address);
}

static enum mr_err start_remove(struct driver *d, struct driver_request *req)
{
    const struct raft_server *s = driver_server_of(d, req->id);

    if (s == NULL) {
        return req->was_tried ? MR_OK : MR_E_NOTFOUND;
    }
    if (s->role == RAFT_VOTER && driver_n_voters(d) == 1) {
        /* The last server of a cluster may leave: nothing to hand over. */
        return req->peer == 0 && req->id == d->opt.id &&
                       d->core.configuration.n == 1
                   ? MR_OK
                   : MR_E_INVALID;
    }
    if (req->id == d->opt.id) {
        (void)hand_over_to(d, 0); /* The next leader removes us. */
        return MR_E_BUSY;
    }
    return change(d, req->id, -1, "");
}

/* Work on @req as the leader. MR_OK: done, or submitted when req->index is
 * set. MR_E_BUSY: tried again. */
static enum mr_err start(struct driver *d, struct driver_request *req)
{
    uint64_t last = d->log.last;
    enum mr_err err;

    switch (req->op) {
    case DRIVER_MEMBER_ADD:
        err = start_add(d, req);
        break;
    case DRIVER_MEMBER_REMOVE:
        err = start_remove(d, req);
        break;
    case DRIVER_MEMBER_TRANSFER:
        err = hand_over_to(d, req->id);
        req->was_tried |= err == MR_OK;
        return err == MR_OK ? MR_E_BUSY : err;
    default:
        return MR_E_INVALID;
    }
    if (err == MR_OK && d->log.last > last) {
        req->index = last + 1;
        req->term = d->core.current_term;
        req->was_tried = true;
    }
    return err;
}

/* Work on one request; true: it ended. */
static bool lead_request(struct driver *d, struct driver_request *req)
{
    enum mr_err err = MR_OK;

    if (req->index != 0 && req->term == d->core.current_term) {
        if (d->commit < req->index) {
            return false;
        }
    } else {
        req->index = 0;
        err = start(d, req);
        if (err == MR_E_BUSY || err == MR_E_NOTLEADER ||
            (err == MR_OK && req->index != 0)) {
            return false;
        }
    }
    d->members.n_requests--;
    members_finish(d, req, err);
    return true;
}

/* ------------------------------------------------------------- elsewhere */

static void ask(struct driver *d, struct driver_request *req)
{
    struct driver_message msg = {.type = DRIVER_MSG_MEMBER,
                                 .term = d->core.current_term};

    if (driver_leader(d) == 0 || d->now < req->retry_ms) {
        return;
    }
    req->retry_ms = d->now + REPEAT_MS;
    msg.member.seq = req->seq;
    msg.member.op = req->op;
    msg.member.id = req->id;
    msg.member.address = req->address;
    driver_send(d, driver_leader(d), &msg);
    req->was_tried = true;
    req->repeats++;
}

/* Work on one request where this server does not lead; true: it ended. */
static bool follow_request(struct driver *d, struct driver_request *req)
{
    enum mr_err err;

    if (req->op == DRIVER_MEMBER_TRANSFER && driver_leader(d) == 0) {
        return false; /* Who took over will show. */
    }
    if (req->op == DRIVER_MEMBER_TRANSFER) {
        err = req->was_tried ? MR_OK : MR_E_NOTLEADER;
    } else if (req->peer != 0) {
        err = MR_E_NOTLEADER;
    } else if (req->op == DRIVER_MEMBER_REMOVE && req->id == d->opt.id &&
               req->was_tried && d->members.was_removed) {
        err = MR_OK;
    } else {
        ask(d, req);
        return false;
    }
    d->members.n_requests--;
    members_finish(d, req, err);
    return true;
}

void members_flush(struct driver *d)
{
    struct mr_list *at = d->members.requests.next;

    while (at != &d->members.requests && !d->is_dead) {
        struct driver_request *req =
            mr_container_of(at, struct driver_request, link);
        at = at->next;
        if (driver_leads(d) ? lead_request(d, req) : follow_request(d, req)) {
            continue;
        }
        if (d->now >= req->deadline_ms) {
            d->members.n_requests--;
            members_finish(d, req,
                           driver_leader(d) == 0 ? MR_E_NOLEADER
                           : req->was_tried      ? MR_E_UNKNOWN
                                                 : MR_E_TIMEOUT);
        }
    }
    if (driver_leads(d) && !d->is_dead) {
        watch_promotion(d);
    }
}

void members_role_changed(struct driver *d)
{
    struct mr_list *at;

    d->members.promoting = 0;
    MR_LIST_FOREACH(at, &d->members.requests)
    {
        struct driver_request *req =
            mr_container_of(at, struct driver_request, link);
        req->index = 0;
        req->retry_ms = 0;
    }
}

/* ------------------------------------------------------------- messages */

void members_on_request(struct driver *d, uint64_t peer,
                        const struct driver_message *msg)
{
    struct mr_list *at;
    struct driver_request *req;

    MR_LIST_FOREACH(at, &d->members.requests)
    {
        req = mr_container_of(at, struct driver_request, link);
        if (req->peer == peer && req->seq == msg->member.seq &&
            req->op == msg->member.op && req->id == msg->member.id) {
            return; /* Being worked on. */
        }
    }
    req = request_new(d, &msg->member);
    if (req != NULL) {
        req->peer = peer;
    }
}

void members_on_reply(struct driver *d, uint64_t peer,
                      const struct driver_message *msg)
{
    const struct driver_member_reply *r = &msg->member_reply;
    struct mr_list *at;

    (void)peer; /* Any member knows who is one. */
    if (r->seq == 0) {
        if (r->err == MR_E_NOTFOUND && msg->term >= d->core.current_term &&
            !driver_leads(d)) {
            d->members.was_removed = true;
            d->is_changed = true;
        }
        return;
    }
    MR_LIST_FOREACH(at, &d->members.requests)
    {
        struct driver_request *req =
            mr_container_of(at, struct driver_request, link);
        enum mr_err err = r->err;
        if (req->peer != 0 || req->seq != r->seq) {
            continue;
        }
        if (err == MR_E_NOTLEADER || err == MR_E_BUSY) {
            return; /* Repeated to whoever leads then. */
        }
        if (err == MR_E_NOTFOUND && req->repeats > 1) {
            err = MR_OK; /* The answer to the first request was lost. */
        }
        if (err == MR_OK && req->op == DRIVER_MEMBER_REMOVE &&
            req->id == d->opt.id) {
            d->members.was_removed = true;
            d->is_changed = true;
        }
        d->members.n_requests--;
        members_finish(d, req, err);
        return;
    }
}

void members_stranger(struct driver *d, uint64_t peer)
{
    struct driver_message msg = {.type = DRIVER_MSG_MEMBER_REPLY,
                                 .term = d->core.current_term};

    if (!driver_leads(d) || d->commit < d->own_term_index ||
        d->core.configuration_uncommitted_index != 0 ||
        driver_server_of(d, peer) != NULL) {
        return;
    }
    msg.member_reply.err = MR_E_NOTFOUND;
    msg.member_reply.leader_id = d->opt.id;
    msg.member_reply.leader_address = "";
    driver_send(d, peer, &msg);
}
