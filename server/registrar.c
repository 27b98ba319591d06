/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps what configuration files define in the state.
 *
 *   IDLE -> NOTING -> SERVICES -> CHECKS -> REMOVALS -> FORGETTING -> IDLE
 *
 * - NOTING writes down what the old and the new set have together, so that
 *   nothing is registered that a later start would not know of.
 * - The next three send their commands, some at a time; services come before
 *   the checks that name them.
 * - FORGETTING writes down the new set.
 *
 * When something fails the round ends and begins again a little later: all of
 * it may be done twice. It also begins again when our node was taken out of
 * the catalog and came back.
 */
#include "server/registrar.h"

#include <stdio.h>
#include <string.h>

#include "api/mr_define.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/agent.h"
#include "server/note.h"
#include "server/submit.h"

#define OPEN_MAX 64 /* Commands on their way. */
#define RETRY_MS 1000
#define REFUSED_RETRY_MS 10000
#define ANSWER_MS 10000 /* How long somebody waits for a reload. */

enum phase { IDLE, NOTING, SERVICES, CHECKS, REMOVALS, FORGETTING };

/* Somebody who waits until the present set holds. */
struct waiting {
    struct mr_list link;
    mr_api_host_cb done;
    void *request;
    uint64_t deadline_ms;
};

struct server_registrar {
    struct server_agent *agent;
    pthread_mutex_t lock; /* Guards defs against the runner of checks. */
    struct server_definitions defs;
    struct server_note note;   /* As it is on disk. */
    struct server_note wanted; /* To be written. */
    char *path;
    enum phase phase;
    bool is_dirty;    /* A round is needed. */
    bool is_replaced; /* The set changed while a round was under way. */
    bool is_stopped;
    size_t next;       /* Item of the phase. */
    uint64_t retry_ms; /* No round before. */
    uint64_t node_rev; /* Our node's row when the round began. */
    struct mr_list waiting;

    uv_work_t work; /* Writing the note. */
    bool is_working;
    struct mr_buf text;
    enum mr_err work_err;

    atomic_uint n_open; /* Commands on their way. */
    atomic_int failed;  /* The first error of a command, or MR_OK. */
    pthread_mutex_t refusal_lock;
    char refusal[256]; /* Of this round. Guarded by refusal_lock. */
    char logged[256];  /* Of the last one. */
};

static uint64_t now_ms(void)
{
    return mr_now_ms(SERVER_CLOCK);
}

/* ------------------------------------------------------------- commands */

/* Any thread. */
static void on_done(void *arg, enum mr_err err,
                    const struct mr_kv_result *result)
{
    struct server_registrar *r = arg;
    struct server_agent *a = r->agent;
    int none = MR_OK;

    if (err != MR_OK) {
        (void)atomic_compare_exchange_strong(&r->failed, &none, (int)err);
    } else if (result->verdict == MR_KV_REFUSED) {
        (void)pthread_mutex_lock(&r->refusal_lock); /* Never fails. */
        if (r->refusal[0] == '\0') {
            memcpy(r->refusal, result->text, sizeof r->refusal);
        }
        (void)pthread_mutex_unlock(&r->refusal_lock);
    }
    atomic_fetch_sub(&r->n_open, 1);
    (void)uv_async_send(&a->wakeup); /* The handle outlives raft. */
}

/* Submit the command in @cmd, which may have failed. */
static enum mr_err submit(struct server_registrar *r, struct mr_buf *cmd)
{
    enum mr_err err = MR_E_NOMEM;

    if (!mr_buf_failed(cmd)) {
        atomic_fetch_add(&r->n_open, 1);
        err = server_submit(r->agent, mr_buf_slice(cmd), "files", on_done, r);
        if (err != MR_OK) {
            atomic_fetch_sub(&r->n_open, 1);
        }
    }
    mr_buf_deinit(cmd);
    return err;
}

static enum mr_err submit_definition(struct server_registrar *r,
                                     const struct server_definition *def)
{
    struct mr_buf cmd = MR_BUF_INIT;

    mr_define_command(&r->agent->self, def->part, &cmd);
    return submit(r, &cmd);
}

static enum mr_err submit_removal(struct server_registrar *r,
                                  const char *service_id, const char *check_id)
{
    struct mr_buf bytes = MR_BUF_INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Deregister body = MR__DEREGISTER__INIT;

    /* Encoding only reads the texts. */
    body.node = (char *)r->agent->self.node_name;
    body.service_id = (char *)service_id;
    body.check_id = (char *)check_id;
    body.agent_only = true;
    cmd.op_case = MR__COMMAND__OP_DEREGISTER;
    cmd.deregister = &body;
    mr_kv_command_encode(&cmd, &bytes);
    return submit(r, &bytes);
}

/* How many items the phase has. */
static size_t n_items(const struct server_registrar *r)
{
    return r->phase == REMOVALS ? r->note.services.n + r->note.checks.n
                                : r->defs.n;
}

/* Submit item @i of the phase, if it asks for something. */
static enum mr_err submit_item(struct server_registrar *r, size_t i)
{
    const char *id;

    if (r->phase != REMOVALS) {
        const struct server_definition *def = &r->defs.items[i];

        return def->is_service == (r->phase == SERVICES)
                   ? submit_definition(r, def)
                   : MR_OK;
    }
    if (i < r->note.services.n) {
        id = r->note.services.items[i];
        return server_note_has(&r->wanted.services, id)
                   ? MR_OK
                   : submit_removal(r, id, "");
    }
    id = r->note.checks.items[i - r->note.services.n];
    return server_note_has(&r->wanted.checks, id) ? MR_OK
                                                  : submit_removal(r, "", id);
}

/* ------------------------------------------------------------- the note */

static void write_note(uv_work_t *work)
{
    struct server_registrar *r =
        mr_container_of(work, struct server_registrar, work);

    r->work_err = server_note_write(r->path, mr_buf_slice(&r->text));
}

static void on_note_written(uv_work_t *work, int status)
{
    struct server_registrar *r =
        mr_container_of(work, struct server_registrar, work);

    r->is_working = false;
    if (status != 0) {
        r->work_err = MR_E_CANCELED;
    }
    if (r->work_err == MR_OK) {
        struct server_note old = r->note;

        r->note = r->wanted;
        r->wanted = old;
    }
    server_registrar_run(r->agent);
}

/* Put what files define now into r->wanted, and with it what they defined
 * before. */
static enum mr_err collect(struct server_registrar *r, bool with_old)
{
    enum mr_err err;

    server_note_deinit(&r->wanted);
    err = server_note_add(&r->wanted, &r->defs);
    if (err == MR_OK && with_old) {
        err = server_note_merge(&r->wanted, &r->note);
    }
    return err;
}

/* Begin to write r->wanted, unless the disk has it. */
static enum mr_err begin_note(struct server_registrar *r)
{
    r->work_err = MR_OK;
    if (server_note_same(&r->wanted, &r->note)) {
        return MR_OK;
    }
    mr_buf_reset(&r->text);
    server_note_encode(&r->wanted, &r->text);
    if (mr_buf_failed(&r->text)) {
        return MR_E_NOMEM;
    }
    if (uv_queue_work(&r->agent->loop, &r->work, write_note, on_note_written) !=
        0) {
        return MR_E_IO;
    }
    r->is_working = true;
    return MR_OK;
}

/* ------------------------------------------------------------- rounds */

static void tell(struct waiting *w, enum mr_err err, const char *text)
{
    mr_list_remove(&w->link);
    if (w->done != NULL) {
        w->done(w->request, err, text);
    }
    mr_free(w);
}

static void tell_all(struct server_registrar *r, enum mr_err err,
                     const char *text)
{
    while (!mr_list_empty(&r->waiting)) {
        tell(mr_container_of(r->waiting.next, struct waiting, link), err, text);
    }
}

/* Those who have waited long enough hear that it goes on without them. */
static void tell_late(struct server_registrar *r)
{
    struct mr_list *next;

    for (struct mr_list *at = r->waiting.next; at != &r->waiting; at = next) {
        struct waiting *w = mr_container_of(at, struct waiting, link);

        next = at->next;
        if (now_ms() >= w->deadline_ms) {
            tell(w, MR_E_NOLEADER,
                 "The configuration was read, but its services and checks are "
                 "not registered yet: the cluster takes no writes. They will "
                 "be as soon as it does");
        }
    }
}

/* The revision of our node's row; 0: it is not there. */
static uint64_t node_revision(struct server_agent *a)
{
    const Mr__Node *node = NULL;
    struct mr_kv_view *view;
    uint64_t revision = 0;

    if (mr_kv_view_begin(a->kv, &view) != MR_OK) {
        return 0; /* Looked at again in a second. */
    }
    if (mr_kv_node_get(view, a->self.node_name, &node, NULL) == MR_OK &&
        node != NULL) {
        revision = node->create_rev;
    }
    mr_kv_view_end(view);
    return revision;
}

static void end_round(struct server_registrar *r, enum mr_err err)
{
    r->phase = IDLE;
    r->retry_ms = now_ms() + RETRY_MS;
    if (r->is_replaced || err != MR_OK) {
        r->retry_ms = r->is_replaced ? 0 : r->retry_ms;
        return;
    }
    if (r->refusal[0] != '\0') {
        r->retry_ms = now_ms() + REFUSED_RETRY_MS;
        if (strcmp(r->logged, r->refusal) != 0) {
            mr_log_warn("agent",
                        "something that a configuration file defines is "
                        "refused, retrying: %s",
                        r->refusal);
        }
        memcpy(r->logged, r->refusal, sizeof r->logged);
        tell_all(r, MR_E_INVALID, r->refusal);
        return;
    }
    r->is_dirty = false;
    r->logged[0] = '\0';
    tell_all(r, MR_OK, NULL);
}

/* Begin a round, when there is need for one; false: not now. */
static bool begin_round(struct server_registrar *r)
{
    struct server_agent *a = r->agent;
    uint64_t revision = node_revision(a);
    bool is_empty =
        r->defs.n == 0 && r->note.services.n == 0 && r->note.checks.n == 0;

    if (revision != 0 && revision != r->node_rev) {
        r->is_dirty = true;
    }
    if (!r->is_dirty || now_ms() < r->retry_ms ||
        (!is_empty && a->cfg.server &&
         (revision == 0 || !atomic_load(&a->has_leader)))) {
        return false;
    }
    r->node_rev = revision;
    r->is_replaced = false;
    r->refusal[0] = '\0'; /* No command is on its way. */
    atomic_store(&r->failed, MR_OK);
    if (collect(r, true) != MR_OK || begin_note(r) != MR_OK) {
        end_round(r, MR_E_NOMEM);
        return false;
    }
    r->phase = NOTING;
    return true;
}

/* Send what the phase has; returns whether all of it is done. */
static bool send_items(struct server_registrar *r)
{
    while (r->next < n_items(r) && atomic_load(&r->n_open) < OPEN_MAX &&
           atomic_load(&r->failed) == MR_OK) {
        enum mr_err err = submit_item(r, r->next++);

        if (err != MR_OK) {
            atomic_store(&r->failed, (int)err);
        }
    }
    return atomic_load(&r->n_open) == 0 &&
           (r->next >= n_items(r) || atomic_load(&r->failed) != MR_OK);
}

/* Go on to what follows a phase that is done. */
static void next_phase(struct server_registrar *r)
{
    enum mr_err err = (enum mr_err)atomic_load(&r->failed);

    if (err == MR_OK && r->work_err != MR_OK) {
        mr_log_warn("agent", "cannot write %s, retrying: %s", r->path,
                    mr_strerror(r->work_err));
        err = r->work_err;
    }
    if (err != MR_OK || r->is_replaced || r->phase == FORGETTING) {
        end_round(r, err);
        return;
    }
    r->phase++;
    r->next = 0;
    if (r->phase == REMOVALS || r->phase == FORGETTING) {
        err = collect(r, false);
    }
    if (err == MR_OK && r->phase == FORGETTING) {
        err = begin_note(r);
    }
    if (err != MR_OK) {
        end_round(r, err);
    }
}

void server_registrar_run(struct server_agent *agent)
{
    struct server_registrar *r = agent->registrar;

    if (r == NULL || r->is_stopped || agent->state != SERVER_RUNNING) {
        return;
    }
    tell_late(r);
    while (!r->is_working) {
        if (r->phase == IDLE) {
            if (!begin_round(r)) {
                return;
            }
        } else if (r->phase == NOTING || r->phase == FORGETTING ||
                   send_items(r)) {
            next_phase(r);
        } else {
            return;
        }
    }
}

/* ------------------------------------------------------------- life */

enum mr_err server_registrar_new(struct server_agent *agent,
                                 struct server_definitions *defs,
                                 struct mr_detail *detail)
{
    struct server_registrar *r = mr_calloc(1, sizeof *r);
    struct mr_detail why;

    if (r == NULL) {
        return mr_fail(detail, MR_E_NOMEM, "out of memory");
    }
    agent->registrar = r;
    r->agent = agent;
    r->is_dirty = true;
    mr_list_init(&r->waiting);
    (void)pthread_mutex_init(&r->lock, NULL); /* Never fails on Linux. */
    (void)pthread_mutex_init(&r->refusal_lock, NULL);
    r->defs = *defs;
    *defs = (struct server_definitions){NULL, 0};
    r->path = server_identity_path(&agent->identity, "definitions.json");
    if (r->path == NULL) {
        return mr_fail(detail, MR_E_NOMEM, "out of memory");
    }
    if (server_note_read(&r->note, r->path, &why) != MR_OK) {
        mr_log_warn("agent",
                    "ignoring the note of what configuration files "
                    "registered: %s",
                    why.text);
    }
    return MR_OK;
}

void server_registrar_stop(struct server_agent *agent)
{
    struct server_registrar *r = agent->registrar;

    if (r != NULL) {
        r->is_stopped = true;
        tell_all(r, MR_E_CLOSED, NULL);
    }
}

void server_registrar_free(struct server_agent *agent)
{
    struct server_registrar *r = agent->registrar;

    if (r == NULL) {
        return;
    }
    agent->registrar = NULL;
    server_definitions_deinit(&r->defs);
    server_note_deinit(&r->note);
    server_note_deinit(&r->wanted);
    mr_buf_deinit(&r->text);
    (void)pthread_mutex_destroy(&r->refusal_lock);
    (void)pthread_mutex_destroy(&r->lock);
    mr_free(r->path);
    mr_free(r);
}

/* ------------------------------------------------------------- reload */

static bool defines_service(const struct server_definitions *defs,
                            const char *id)
{
    for (size_t i = 0; i < defs->n; i++) {
        if (defs->items[i].is_service &&
            strcmp(server_definition_id(&defs->items[i]), id) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether our node has the service @id, and keeps it under the new set. */
static bool has_service(const struct server_registrar *r,
                        struct mr_kv_view *view, const char *id)
{
    const Mr__Service *service = NULL;

    return mr_kv_service_get(view, r->agent->self.node_name, id, &service) ==
               MR_OK &&
           service != NULL && service->origin == MR__ORIGIN__AGENT &&
           !server_note_has(&r->note.services, id);
}

enum mr_err server_registrar_check(struct server_agent *agent,
                                   const struct server_definitions *defs,
                                   struct mr_detail *detail)
{
    struct mr_kv_view *view;
    enum mr_err err = mr_kv_view_begin(agent->kv, &view);

    if (err != MR_OK) {
        return mr_fail(detail, err, "%s", mr_strerror(err));
    }
    for (size_t i = 0; i < defs->n && err == MR_OK; i++) {
        const struct server_definition *def = &defs->items[i];
        const char *id = def->is_service || def->part->n_checks == 0
                             ? ""
                             : def->part->checks[0]->service_id;

        if (id[0] != '\0' && !defines_service(defs, id) &&
            !has_service(agent->registrar, view, id)) {
            err = mr_fail(detail, MR_E_INVALID,
                          "%s: line %u: Failed to register check '%s': "
                          "ServiceID \"%s\" does not exist",
                          def->file, def->line, server_definition_id(def), id);
        }
    }
    mr_kv_view_end(view);
    return err;
}

void server_registrar_replace(struct server_agent *agent,
                              struct server_definitions *defs,
                              mr_api_host_cb done, void *request)
{
    struct server_registrar *r = agent->registrar;
    struct waiting *w = mr_calloc(1, sizeof *w);
    struct server_definitions old;

    if (w == NULL || r->is_stopped) {
        mr_free(w);
        if (done != NULL) {
            done(request, r->is_stopped ? MR_E_CLOSED : MR_E_NOMEM, NULL);
        }
        return;
    }
    w->done = done;
    w->request = request;
    w->deadline_ms = now_ms() + ANSWER_MS;
    mr_list_init(&w->link);
    mr_list_push(&r->waiting, &w->link);
    (void)pthread_mutex_lock(&r->lock); /* Never fails. */
    old = r->defs;
    r->defs = *defs;
    (void)pthread_mutex_unlock(&r->lock);
    *defs = (struct server_definitions){NULL, 0};
    server_definitions_deinit(&old);
    r->is_dirty = true;
    r->is_replaced = r->phase != IDLE;
    r->next = SIZE_MAX; /* The round under way is about the old set. */
    r->retry_ms = 0;
    server_registrar_run(agent);
}

static bool same_args(const Mr__CheckDefinition *a,
                      const Mr__CheckDefinition *b)
{
    if (a == NULL || b == NULL || a->n_args != b->n_args) {
        return false;
    }
    for (size_t i = 0; i < a->n_args; i++) {
        if (strcmp(a->args[i], b->args[i]) != 0) {
            return false;
        }
    }
    return true;
}

bool server_registrar_has_script(struct server_agent *agent,
                                 const Mr__Check *check)
{
    struct server_registrar *r = agent->registrar;
    bool is_found = false;

    (void)pthread_mutex_lock(&r->lock); /* Never fails. */
    for (size_t i = 0; i < r->defs.n && !is_found; i++) {
        const Mr__Register *part = r->defs.items[i].part;

        for (size_t k = 0; k < part->n_checks && !is_found; k++) {
            is_found =
                strcmp(part->checks[k]->check_id, check->check_id) == 0 &&
                same_args(part->checks[k]->definition, check->definition);
        }
    }
    (void)pthread_mutex_unlock(&r->lock);
    return is_found;
}
