/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The link's thread, and the way of a request:
 *
 *   inbox -> flying (at the server in use) -> done
 *              |  ^
 *              v  | another server
 *            waiting -> done: nobody answers
 *
 * How curl failed tells what may be done next: with no connection nothing was
 * sent; else only a request that may be repeated goes to another server.
 */
#include "server/link.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "server/link_impl.h"

#define OPEN_MAX 2048      /* Requests in flight. */
#define LONG_OPEN_MAX 1536 /* Blocking queries among them. */
#define LONG_MS 20000      /* What may take longer is one. */
#define WAIT_MS 3000       /* For a server. */
#define TURN_MS 1000       /* The longest sleep. */
#define IDLE_CONNECTIONS 16L
#define STACK_LEN ((size_t)256 * 1024)

/* ------------------------------------------------------------- ends */

static void count_end(struct server_link *link, const struct link_op *op)
{
    atomic_fetch_sub(&link->n_open, 1);
    if (op->is_long) {
        atomic_fetch_sub(&link->n_long, 1);
    }
}

/* Tell the client and forget the request. */
static void finish(struct server_link *link, struct link_op *op,
                   enum mr_err err, const char *why)
{
    struct mr_api_forward *forward = op->forward;

    mr_list_remove(&op->link);
    link_transfer_abort(&op->transfer);
    if (err != MR_OK) {
        (void)snprintf(forward->detail.text, sizeof forward->detail.text, "%s",
                       why);
    }
    (void)pthread_mutex_lock(&link->lock); /* Never fails. */
    forward->op = NULL;
    link->status.failures += err == MR_E_UNREACHABLE ? 1 : 0;
    (void)pthread_mutex_unlock(&link->lock);
    count_end(link, op);
    mr_free(op);
    forward->done(forward, err);
}

/* ------------------------------------------------------------- flying */

/* The server could not be talked to: another one may be. */
static bool is_broken(CURLcode code)
{
    return code == CURLE_COULDNT_CONNECT || code == CURLE_SEND_ERROR ||
           code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING ||
           code == CURLE_PARTIAL_FILE || code == CURLE_ABORTED_BY_CALLBACK ||
           code == CURLE_COULDNT_RESOLVE_HOST;
}

static void wait_again(struct server_link *link, struct link_op *op)
{
    link_transfer_abort(&op->transfer);
    mr_buf_reset(&op->forward->answer);
    mr_buf_reset(&op->forward->answer_headers);
    mr_list_remove(&op->link);
    op->wait_until_ms = link_now(link) + WAIT_MS;
    mr_list_push(&link->waiting, &op->link);
}

static void fail(struct server_link *link, struct link_op *op, CURLcode code)
{
    bool is_sent = op->transfer.is_sent;
    bool is_timeout = code == CURLE_OPERATION_TIMEDOUT;
    struct mr_detail why;

    (void)mr_fail(&why, MR_E_UNKNOWN, "%.100s: %.300s", op->server,
                  op->transfer.error);
    if (is_broken(code) || (is_timeout && !is_sent)) {
        if (strcmp(op->server, link->server) == 0) {
            link_find_failed(link, why.text);
        }
        if ((!is_sent || op->is_repeatable) &&
            link_now(link) < op->deadline_ms) {
            wait_again(link, op);
            return;
        }
    }
    if (code == CURLE_WRITE_ERROR) {
        finish(link, op, MR_E_TOOBIG, why.text);
    } else if (is_timeout) {
        finish(link, op, MR_E_TIMEOUT, why.text);
    } else {
        finish(link, op, is_sent ? MR_E_UNKNOWN : MR_E_UNREACHABLE, why.text);
    }
}

static void on_ended(struct link_transfer *t, CURLcode code)
{
    struct link_op *op = mr_container_of(t, struct link_op, transfer);
    long status = 0;

    if (code != CURLE_OK) {
        fail(t->link, op, code);
        return;
    }
    (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    op->forward->status = (int)status;
    finish(t->link, op, MR_OK, NULL);
}

/* Send @op to the server in use. */
static void fly(struct server_link *link, struct link_op *op)
{
    const struct mr_api_forward *forward = op->forward;
    uint64_t now = link_now(link);
    struct link_request what = {
        .address = op->server,
        .method = forward->method,
        .target = forward->target,
        .headers = forward->headers,
        .n_headers = forward->n_headers,
        .body = forward->body,
        .timeout_ms = op->deadline_ms > now ? op->deadline_ms - now : 1,
    };

    memcpy(op->server, link->server, sizeof op->server);
    op->transfer = (struct link_transfer){
        .link = link,
        .answer = &op->forward->answer,
        .answer_headers = &op->forward->answer_headers,
        .ended = on_ended,
        .sends_once = !op->is_repeatable,
    };
    mr_list_remove(&op->link);
    mr_list_push(&link->flying, &op->link);
    if (link_transfer_begin(&op->transfer, &what) != MR_OK) {
        finish(link, op, MR_E_NOMEM, "out of memory");
    }
}

/* ------------------------------------------------------------- waiting */

static void start(struct server_link *link, struct link_op *op)
{
    if (link->server[0] != '\0') {
        fly(link, op);
    } else if (link_find_has_hope(link)) {
        mr_list_push(&link->waiting, &op->link);
    } else {
        finish(link, op, MR_E_UNREACHABLE, link->find.why);
    }
}

static void take_new(struct server_link *link)
{
    struct mr_list ops;
    struct mr_list *at;

    (void)mr_queue_take(&link->inbox, &ops);
    while ((at = mr_list_pop(&ops)) != NULL) {
        start(link, mr_container_of(at, struct link_op, link));
    }
}

/* End what waited in vain. */
static void end_waiting(struct server_link *link)
{
    bool has_hope = link_find_has_hope(link);
    uint64_t now = link_now(link);
    struct mr_list *next;

    for (struct mr_list *at = link->waiting.next; at != &link->waiting;
         at = next) {
        struct link_op *op = mr_container_of(at, struct link_op, link);

        next = at->next;
        if (!has_hope || now >= op->wait_until_ms) {
            finish(link, op, MR_E_UNREACHABLE, link->find.why);
        }
    }
}

static void end_canceled_of(struct server_link *link, struct mr_list *list)
{
    struct mr_list *next;

    for (struct mr_list *at = list->next; at != list; at = next) {
        struct link_op *op = mr_container_of(at, struct link_op, link);

        next = at->next;
        if (atomic_load(&op->is_canceled)) {
            finish(link, op, MR_E_CANCELED, "nobody waits for the answer");
        }
    }
}

static void end_canceled(struct server_link *link)
{
    if (atomic_exchange(&link->has_canceled, false)) {
        end_canceled_of(link, &link->waiting);
        end_canceled_of(link, &link->flying);
    }
}

static void end_all(struct server_link *link, struct mr_list *list)
{
    while (!mr_list_empty(list)) {
        struct link_op *op = mr_container_of(list->next, struct link_op, link);

        finish(link, op, MR_E_CLOSED, "the agent is shutting down");
    }
}

/* What the old server has and may be repeated moves: it may hang there. */
static void move_flying(struct server_link *link)
{
    struct mr_list *next;

    for (struct mr_list *at = link->flying.next; at != &link->flying;
         at = next) {
        struct link_op *op = mr_container_of(at, struct link_op, link);

        next = at->next;
        if (op->is_repeatable && strcmp(op->server, link->server) != 0) {
            wait_again(link, op);
        }
    }
}

void link_use(struct server_link *link, const char *address,
              const char *cluster)
{
    struct server_link_status *s = &link->status;
    bool is_same = strcmp(link->server, address) == 0 &&
                   strcmp(link->cluster, cluster) == 0;

    (void)pthread_mutex_lock(&link->lock); /* Never fails. */
    s->failovers += !is_same && link->server[0] != '\0' && address[0] != '\0';
    (void)snprintf(link->server, sizeof link->server, "%s", address);
    (void)snprintf(link->cluster, sizeof link->cluster, "%s", cluster);
    s->is_connected = address[0] != '\0';
    s->n_servers = link->find.n_known;
    memcpy(s->server, link->server, sizeof s->server);
    memcpy(s->cluster, link->cluster, sizeof s->cluster);
    (void)pthread_mutex_unlock(&link->lock);
    if (address[0] != '\0') {
        move_flying(link);
        while (!mr_list_empty(&link->waiting)) {
            fly(link,
                mr_container_of(link->waiting.next, struct link_op, link));
        }
    }
    if (!is_same) {
        link->options.on_change(link->options.arg);
    }
}

/* ------------------------------------------------------------- the thread */

static void *run(void *arg)
{
    struct server_link *link = arg;
    int running;

    while (!atomic_load(&link->is_stopping)) {
        uint64_t wait_ms = link_find_run(link);

        take_new(link);
        end_canceled(link);
        end_waiting(link);
        /* Each transfer tells its own errors. */
        (void)curl_multi_perform(link->multi, &running);
        link_transfers_end(link);
        wait_ms = wait_ms < TURN_MS ? wait_ms : TURN_MS;
        (void)curl_multi_poll(link->multi, NULL, 0, (int)wait_ms, NULL);
    }
    mr_queue_close(&link->inbox);
    mr_queue_close(&link->joins);
    take_new(link);
    end_all(link, &link->waiting);
    end_all(link, &link->flying);
    link_find_deinit(link);
    return NULL;
}

static void wake(void *arg)
{
    struct server_link *link = arg;

    (void)curl_multi_wakeup(link->multi); /* A full pipe wakes as well. */
}

/* ------------------------------------------------------------- any thread */

/* Whether a server that is asked twice does no harm. */
static bool is_repeatable(const struct mr_api_forward *forward)
{
    static const char internal[] = "/v1/internal/";

    return strcmp(forward->method, "GET") == 0 ||
           (strncmp(forward->target, internal, sizeof internal - 1) == 0 &&
            strstr(forward->target, "propose") == NULL);
}

/* Count one more; false: there are too many. */
static bool admit(struct server_link *link, bool is_long)
{
    if (atomic_fetch_add(&link->n_open, 1) >= OPEN_MAX) {
        atomic_fetch_sub(&link->n_open, 1);
        return false;
    }
    if (is_long && atomic_fetch_add(&link->n_long, 1) >= LONG_OPEN_MAX) {
        atomic_fetch_sub(&link->n_long, 1);
        atomic_fetch_sub(&link->n_open, 1);
        return false;
    }
    return true;
}

enum mr_err server_link_pass(struct server_link *link,
                             struct mr_api_forward *forward)
{
    bool is_long = forward->timeout_ms > LONG_MS;
    struct link_op *op = mr_calloc(1, sizeof *op);
    enum mr_err err;

    if (op == NULL) {
        return MR_E_NOMEM;
    }
    if (!admit(link, is_long)) {
        mr_free(op);
        return MR_E_BUSY;
    }
    mr_list_init(&op->link);
    atomic_init(&op->is_canceled, false);
    op->forward = forward;
    op->is_long = is_long;
    op->is_repeatable = is_repeatable(forward);
    op->deadline_ms = link_now(link) + forward->timeout_ms;
    op->wait_until_ms = link_now(link) + WAIT_MS;
    if (op->wait_until_ms > op->deadline_ms) {
        op->wait_until_ms = op->deadline_ms;
    }
    (void)pthread_mutex_lock(&link->lock); /* Never fails. */
    forward->op = op;
    link->status.requests++;
    (void)pthread_mutex_unlock(&link->lock);
    err = mr_queue_push(&link->inbox, &op->link);
    if (err != MR_OK) {
        forward->op = NULL;
        count_end(link, op);
        mr_free(op);
    }
    return err;
}

void server_link_cancel(struct server_link *link,
                        struct mr_api_forward *forward)
{
    (void)pthread_mutex_lock(&link->lock); /* Never fails. */
    if (forward->op != NULL) {
        struct link_op *op = forward->op;

        atomic_store(&op->is_canceled, true);
        atomic_store(&link->has_canceled, true);
    }
    (void)pthread_mutex_unlock(&link->lock);
    wake(link);
}

void server_link_doubt(struct server_link *link)
{
    atomic_store(&link->is_doubted, true);
    wake(link);
}

void server_link_status(struct server_link *link,
                        struct server_link_status *out_status)
{
    (void)pthread_mutex_lock(&link->lock); /* Never fails. */
    *out_status = link->status;
    (void)pthread_mutex_unlock(&link->lock);
    out_status->in_flight = atomic_load(&link->n_open);
}

/* ------------------------------------------------------------- life */

static enum mr_err start_thread(struct server_link *link)
{
    pthread_attr_t attr;
    sigset_t all;
    sigset_t old;
    int rc;

    if (pthread_attr_init(&attr) != 0) {
        return MR_E_NOMEM;
    }
    (void)sigfillset(&all); /* Cannot fail on a valid set. */
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_attr_setstacksize(&attr, STACK_LEN);
    if (rc == 0) {
        rc = pthread_create(&link->thread, &attr, run, link);
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void)pthread_attr_destroy(&attr);
    if (rc != 0) {
        return MR_E_IO;
    }
    (void)pthread_setname_np(link->thread, "mr-link"); /* Only for people. */
    return MR_OK;
}

static enum mr_err make_multi(struct server_link *link)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return MR_E_NOMEM;
    }
    link->multi = curl_multi_init();
    if (link->multi == NULL) {
        return MR_E_NOMEM;
    }
    /* Fails for unknown options only. */
    (void)curl_multi_setopt(link->multi, CURLMOPT_MAXCONNECTS,
                            IDLE_CONNECTIONS);
    return MR_OK;
}

enum mr_err server_link_start(const struct server_link_options *options,
                              struct server_link **out_link,
                              struct mr_detail *detail)
{
    struct server_link *link = mr_calloc(1, sizeof *link);
    enum mr_err err;

    if (link == NULL) {
        return mr_fail(detail, MR_E_NOMEM, "out of memory");
    }
    link->options = *options;
    mr_list_init(&link->waiting);
    mr_list_init(&link->flying);
    mr_list_init(&link->find.probes);
    mr_queue_init(&link->inbox, 0, wake, link);
    mr_queue_init(&link->joins, 0, wake, link);
    (void)pthread_mutex_init(&link->lock, NULL); /* Never fails on Linux. */
    err = make_multi(link);
    if (err == MR_OK) {
        err = link_find_init(link);
    }
    if (err == MR_OK) {
        err = start_thread(link);
    }
    if (err != MR_OK) {
        link_find_deinit(link);
        server_link_free(link);
        return mr_fail(detail, err, "cannot start the link to the servers: %s",
                       mr_strerror(err));
    }
    *out_link = link;
    return MR_OK;
}

void server_link_stop(struct server_link *link)
{
    if (link != NULL && !atomic_exchange(&link->is_stopping, true)) {
        wake(link);
        (void)pthread_join(link->thread, NULL); /* Fails for no thread only. */
    }
}

void server_link_free(struct server_link *link)
{
    if (link == NULL) {
        return;
    }
    if (link->multi != NULL) {
        (void)curl_multi_cleanup(link->multi); /* Nothing is in it. */
    }
    curl_global_cleanup();
    mr_queue_deinit(&link->inbox);
    mr_queue_deinit(&link->joins);
    (void)pthread_mutex_destroy(&link->lock);
    mr_free(link);
}
