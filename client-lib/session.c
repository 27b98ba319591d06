/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions. */
#include "session.h"

#include <stdio.h>
#include <string.h>

#include "call.h"
#include "keep.h"

#define TTL_DEFAULT_MS INT64_C(15000)
#define TTL_MIN_MS INT64_C(1000)
#define TTL_MAX_MS INT64_C(86400000)
#define DELAY_MAX_MS INT64_C(60000)
#define RENEWALS_A_TTL 3
#define RETRY_PART 10

/* ------------------------------------------------------------- opening */

static int check_options(const struct microreg_session_options *o,
                         struct microreg_error *out_error)
{
    if (o->ttl_ms != 0 && (o->ttl_ms < TTL_MIN_MS || o->ttl_ms > TTL_MAX_MS)) {
        return mrg_fail(out_error, MICROREG_E_INVALID,
                        "a TTL of %lld ms is not from 1 s to 24 h",
                        (long long)o->ttl_ms);
    }
    if (o->lock_delay_ms < -1 || o->lock_delay_ms > DELAY_MAX_MS) {
        return mrg_fail(out_error, MICROREG_E_INVALID,
                        "a lock delay of %lld ms is not from 0 to 60 s",
                        (long long)o->lock_delay_ms);
    }
    if (o->name != NULL && !mrg_is_utf8(o->name, strlen(o->name))) {
        return mrg_fail(out_error, MICROREG_E_INVALID,
                        "the name of the session is not UTF-8");
    }
    return MICROREG_OK;
}

/* It lives as long as it is renewed, whatever becomes of the agent that was
 * asked: so it has no checks. */
static void write_session(struct mrg_text *out,
                          const struct microreg_session_options *o,
                          int64_t ttl_ms)
{
    mrg_text_printf(out, "{\"TTL\":\"%lldms\",\"NodeChecks\":[]",
                    (long long)ttl_ms);
    if (o->name != NULL) {
        mrg_text_str(out, ",\"Name\":");
        mrg_text_json(out, o->name, strlen(o->name));
    }
    if (o->lock_delay_ms != 0) {
        mrg_text_printf(
            out, ",\"LockDelay\":\"%lldms\"",
            (long long)(o->lock_delay_ms < 0 ? 0 : o->lock_delay_ms));
    }
    mrg_text_printf(out, ",\"Behavior\":\"%s\"}",
                    o->delete_keys ? "delete" : "release");
}

static bool is_session(int status, const struct mrg_json *json)
{
    const struct mrg_json *id = mrg_json_get(json, "ID");

    return status == 200 && id != NULL && id->type == MRG_JSON_STRING &&
           id->text_len > 0 && id->text_len < SESSION_ID_SIZE;
}

/* Create it at a server. An answer that is lost leaves a session that ends with
 * its TTL, so the request may be repeated. */
static int create(struct microreg *client, struct microreg_session *session,
                  const struct microreg_session_options *o,
                  struct microreg_error *out_error)
{
    struct mrg_text body = MRG_TEXT_INIT;
    struct mrg_call call = {.method = "PUT", .path = "/v1/session/create"};
    const char *id;
    int err;

    write_session(&body, o, session->ttl_ms);
    if (body.failed) {
        mrg_text_deinit(&body);
        return mrg_nomem(out_error);
    }
    call.body = body.data;
    call.body_len = body.len;
    session->sent_boot_ms = mrg_boot_ms();
    session->due_ms = mrg_now_ms() + (uint64_t)session->ttl_ms / RENEWALS_A_TTL;
    call.is_answer = is_session;
    err = mrg_call_run(client, &call, out_error);
    if (err == MICROREG_OK) {
        id = mrg_json_str(mrg_json_get(call.json, "ID"));
        memcpy(session->id, id, strlen(id) + 1);
    }
    mrg_call_deinit(&call);
    mrg_text_deinit(&body);
    return err;
}

/* Hand it to the keeper. */
static int keep(struct microreg *client, struct microreg_session *session)
{
    struct mrg_keeper *keeper;
    int err = MICROREG_E_NOMEM;

    pthread_mutex_lock(&client->lock);
    keeper = mrg_keeper_get(client);
    if (keeper != NULL) {
        session->next = keeper->sessions;
        keeper->sessions = session;
        err = mrg_keeper_wake(client);
        if (err != MICROREG_OK) {
            keeper->sessions = session->next;
        }
    }
    pthread_mutex_unlock(&client->lock);
    return err;
}

int microreg_session_open(struct microreg *client,
                          const struct microreg_session_options *options,
                          struct microreg_session **out_session,
                          struct microreg_error *out_error)
{
    const struct microreg_session_options none = {0};
    const struct microreg_session_options *o =
        options != NULL ? options : &none;
    struct microreg_session *session;
    int err = check_options(o, out_error);

    if (err != MICROREG_OK) {
        return err;
    }
    session = mrg_alloc(sizeof *session);
    if (session == NULL) {
        return mrg_nomem(out_error);
    }
    mrg_client_ref(client);
    session->client = client;
    session->ttl_ms = o->ttl_ms != 0 ? o->ttl_ms : TTL_DEFAULT_MS;
    err = create(client, session, o, out_error);
    if (err == MICROREG_OK && keep(client, session) != MICROREG_OK) {
        err = mrg_nomem(out_error);
    }
    if (err != MICROREG_OK) {
        mrg_client_unref(client);
        mrg_free(session);
        return err;
    }
    *out_session = session;
    return MICROREG_OK;
}

/* ------------------------------------------------------------- living */

const char *microreg_session_id(const struct microreg_session *session)
{
    return session->id;
}

bool microreg_session_alive(struct microreg_session *session)
{
    bool is_alive;

    pthread_mutex_lock(&session->client->lock);
    if (mrg_boot_ms() >= session->sent_boot_ms + (uint64_t)session->ttl_ms) {
        session->is_lost = true;
    }
    is_alive = !session->is_lost;
    pthread_mutex_unlock(&session->client->lock);
    return is_alive;
}

uint64_t mrg_sessions_due(const struct microreg_session *list)
{
    uint64_t due_ms = UINT64_MAX;

    for (const struct microreg_session *s = list; s != NULL; s = s->next) {
        if (!s->is_lost && !s->is_busy && s->due_ms < due_ms) {
            due_ms = s->due_ms;
        }
    }
    return due_ms;
}

/* Renew one that is claimed. Without the lock. */
static int renew_session(struct microreg *client,
                         const struct microreg_session *session)
{
    char path[sizeof "/v1/session/renew/" + sizeof session->id];
    struct mrg_call call = {.method = "PUT", .path = path};
    struct microreg_error error;
    int err;

    (void)snprintf(path, sizeof path, "/v1/session/renew/%s", session->id);
    call.cancel = &session->is_closing;
    err = mrg_call_run(client, &call, &error);
    if (err != MICROREG_OK) {
        mrg_log(client, MICROREG_LOG_WARN, "cannot renew session %s: %s",
                session->id, error.text);
    } else if (call.status == 404) {
        err = MICROREG_E_NOTFOUND;
    }
    mrg_call_deinit(&call);
    return err;
}

static void note_renewal(struct microreg *client,
                         struct microreg_session *session, int err,
                         uint64_t sent_ms, uint64_t sent_boot_ms)
{
    uint64_t ttl_ms = (uint64_t)session->ttl_ms;

    if (err == MICROREG_OK) {
        session->sent_boot_ms = sent_boot_ms;
        session->due_ms = sent_ms + ttl_ms / RENEWALS_A_TTL;
        atomic_fetch_add(&client->stats.renewals, 1);
    } else if (err == MICROREG_E_NOTFOUND) {
        session->is_lost = true;
        mrg_log(client, MICROREG_LOG_ERROR, "session %s has ended",
                session->id);
    } else {
        session->due_ms = mrg_now_ms() + ttl_ms / RETRY_PART;
    }
}

void mrg_sessions_renew(struct microreg *client)
{
    struct microreg_session *s = client->keeper->sessions;

    while (s != NULL && !atomic_load(&client->keeper->is_stopping)) {
        uint64_t sent_ms = mrg_now_ms();
        uint64_t sent_boot_ms = mrg_boot_ms();
        int err;

        if (s->is_lost || s->is_busy || s->due_ms > sent_ms) {
            s = s->next;
            continue;
        }
        s->is_busy = true; /* So nobody frees it. */
        pthread_mutex_unlock(&client->lock);
        err = renew_session(client, s);
        pthread_mutex_lock(&client->lock);
        note_renewal(client, s, err, sent_ms, sent_boot_ms);
        s->is_busy = false;
        (void)pthread_cond_broadcast(&client->keeper->changed);
        s = s->next;
    }
}

/* ------------------------------------------------------------- the end */

void mrg_sessions_orphan(struct microreg_session *list)
{
    for (struct microreg_session *s = list; s != NULL; s = s->next) {
        s->is_lost = true;
        atomic_store(&s->is_closing, true);
    }
}

/* Take it from the keeper. False: the client is closed. */
static bool leave_keeper(struct microreg_session *session)
{
    struct microreg *client = session->client;
    struct microreg_session **link;
    bool is_open;

    atomic_store(&session->is_closing, true);
    pthread_mutex_lock(&client->lock);
    while (client->keeper != NULL && session->is_busy) {
        (void)pthread_cond_wait(&client->keeper->changed, &client->lock);
    }
    is_open = client->keeper != NULL && !client->is_closed;
    link = client->keeper != NULL ? &client->keeper->sessions : NULL;
    while (link != NULL && *link != NULL) {
        if (*link == session) {
            *link = session->next;
            break;
        }
        link = &(*link)->next;
    }
    pthread_mutex_unlock(&client->lock);
    return is_open;
}

void microreg_session_close(struct microreg_session *session)
{
    char path[sizeof "/v1/session/destroy/" + sizeof session->id];
    struct mrg_call call = {.method = "PUT", .path = path};

    if (session == NULL) {
        return;
    }
    (void)snprintf(path, sizeof path, "/v1/session/destroy/%s", session->id);
    if (leave_keeper(session)) {
        (void)mrg_call_run(session->client, &call, NULL); /* Or by its TTL. */
        mrg_call_deinit(&call);
    }
    mrg_client_unref(session->client);
    mrg_free(session);
}
