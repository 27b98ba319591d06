/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcurl's multi interface on a libuv loop.
 *
 * - curl names the sockets and the time it waits for; they become uv_poll and
 *   uv_timer handles (on_socket, on_timer_wanted).
 * - what happens is told to curl (curl_multi_socket_action), and the transfers
 *   that ended are taken out of it (take_ended).
 *
 * Transfers are only added and removed outside of curl's callbacks.
 */
#include "health/check_curl.h"

#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"

#define LOOKUP_REST_MS 15000 /* After a name server that hung. */

struct check_curl {
    struct mr_checks *runner;
    CURLM *multi;
    uv_timer_t timer;
};

/* A socket that curl waits for. */
struct polled {
    uv_poll_t handle;
    struct check_curl *curl;
    curl_socket_t fd;
    int events; /* That curl waits for. */
};

/* ------------------------------------------------------------- the loop */

/* A name that is still being looked up when the time is over leaves a thread of
 * libcurl's behind, until the resolver gives up. So few of them come to be. */
static void note_lookup(struct check_transfer *t)
{
    curl_off_t looked_up_us = 0;

    (void)curl_easy_getinfo(t->easy, CURLINFO_NAMELOOKUP_TIME_T, &looked_up_us);
    if (looked_up_us == 0 && t->probe.run != NULL) {
        t->probe.run->rest_ms = LOOKUP_REST_MS;
    }
}

/* The next request of a probe that has several. */
static void begin_again(struct check_curl *curl, struct check_transfer *t)
{
    t->is_again = false;
    mr_buf_reset(&t->body);
    if (curl_multi_add_handle(curl->multi, t->easy) != CURLM_OK) {
        check_probe_give_up(&t->probe);
        check_transfer_free(t);
    }
}

/* End the transfers that curl is done with. */
static void take_ended(struct check_curl *curl)
{
    CURLMsg *msg;
    int left;

    while ((msg = curl_multi_info_read(curl->multi, &left)) != NULL) {
        CURLcode code = msg->data.result;
        CURL *easy = msg->easy_handle;
        struct check_transfer *t = NULL;

        (void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &t);
        (void)curl_multi_remove_handle(curl->multi, easy); /* It is in there. */
        if (code == CURLE_OPERATION_TIMEDOUT) {
            note_lookup(t);
        }
        if (code == CURLE_OPERATION_TIMEDOUT &&
            check_probe_is_stale(&t->probe)) {
            check_probe_give_up(&t->probe);
        } else {
            t->done(t, code);
        }
        if (t->is_again) {
            begin_again(curl, t);
        } else {
            check_transfer_free(t);
        }
    }
}

static void act(struct check_curl *curl, curl_socket_t fd, int events)
{
    int running;

    check_runner_note_time(curl->runner);
    /* Fails only for what is told to every transfer as well. */
    (void)curl_multi_socket_action(curl->multi, fd, events, &running);
    take_ended(curl);
}

static void on_polled(uv_poll_t *handle, int status, int events)
{
    struct polled *p = mr_container_of(handle, struct polled, handle);
    int what = 0;

    if (status < 0) {
        /* libuv stops at a socket error. There may be an answer before it, and
         * curl finds the error itself, with its reason. */
        events = UV_READABLE | UV_WRITABLE;
        (void)uv_poll_start(handle, p->events, on_polled); /* It is open. */
    }
    what |= (events & UV_READABLE) != 0 ? CURL_CSELECT_IN : 0;
    what |= (events & UV_WRITABLE) != 0 ? CURL_CSELECT_OUT : 0;
    act(p->curl, p->fd, what); /* *p may be closing after this. */
}

static void on_poll_closed(uv_handle_t *handle)
{
    mr_free(mr_container_of(handle, struct polled, handle));
}

static struct polled *poll_new(struct check_curl *curl, curl_socket_t fd)
{
    struct polled *p = mr_calloc(1, sizeof *p);

    if (p == NULL) {
        return NULL;
    }
    p->curl = curl;
    p->fd = fd;
    if (uv_poll_init_socket(&curl->runner->loop, &p->handle, fd) != 0) {
        mr_free(p);
        return NULL;
    }
    return p;
}

/* curl wants to know about @fd, or no more. What cannot be watched for lack of
 * memory ends by its time. shape: callback */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg,
                     void *socket_arg)
{
    struct check_curl *curl = arg;
    struct polled *p = socket_arg;
    int events = 0;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (p != NULL) {
            (void)uv_poll_stop(&p->handle); /* Never fails. */
            uv_close((uv_handle_t *)&p->handle, on_poll_closed);
        }
        return 0;
    }
    if (p == NULL) {
        p = poll_new(curl, fd);
        if (p == NULL) {
            return 0;
        }
        (void)curl_multi_assign(curl->multi, fd, p); /* curl named it. */
    }
    events |= what != CURL_POLL_OUT ? UV_READABLE : 0;
    events |= what != CURL_POLL_IN ? UV_WRITABLE : 0;
    p->events = events;
    (void)uv_poll_start(&p->handle, events, on_polled); /* It is open. */
    return 0;
}

static void on_time(uv_timer_t *timer)
{
    act(mr_container_of(timer, struct check_curl, timer), CURL_SOCKET_TIMEOUT,
        0);
}

static int on_timer_wanted(CURLM *multi, long timeout_ms, void *arg)
{
    struct check_curl *curl = arg;

    (void)multi;
    if (timeout_ms < 0) {
        (void)uv_timer_stop(&curl->timer); /* Never fails. */
    } else {
        (void)uv_timer_start(&curl->timer, on_time, (uint64_t)timeout_ms, 0);
    }
    return 0;
}

/* What all transfers of @runner share: made with the first of them, since the
 * library with its TLS costs an idle server 2 MB. */
static bool open_shared(struct mr_checks *runner)
{
    struct check_curl *curl;

    if (runner->curl != NULL) {
        return true;
    }
    curl = mr_calloc(1, sizeof *curl);
    if (curl == NULL) {
        return false;
    }
    curl->runner = runner;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK) {
        curl->multi = curl_multi_init();
    }
    if (curl->multi == NULL) {
        mr_free(curl);
        return false;
    }
    (void)uv_timer_init(&runner->loop, &curl->timer); /* Never fails. */
    (void)curl_multi_setopt(curl->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    (void)curl_multi_setopt(curl->multi, CURLMOPT_SOCKETDATA, curl);
    (void)curl_multi_setopt(curl->multi, CURLMOPT_TIMERFUNCTION,
                            on_timer_wanted);
    (void)curl_multi_setopt(curl->multi, CURLMOPT_TIMERDATA, curl);
    runner->curl = curl;
    return true;
}

static void on_closed(uv_handle_t *handle)
{
    mr_free(mr_container_of(handle, struct check_curl, timer));
}

void check_curl_close(struct mr_checks *runner)
{
    struct check_curl *curl = runner->curl;

    if (curl == NULL) {
        return;
    }
    runner->curl = NULL;
    (void)curl_multi_cleanup(curl->multi); /* Calls on_socket to the last. */
    uv_close((uv_handle_t *)&curl->timer, on_closed);
}

/* ------------------------------------------------------------- transfers */

static struct check_transfer *transfer_of(struct check_probe *probe)
{
    return mr_container_of(probe, struct check_transfer, probe);
}

void check_transfer_free(struct check_transfer *transfer)
{
    curl_easy_cleanup(transfer->easy);
    curl_slist_free_all(transfer->headers);
    mr_buf_deinit(&transfer->body);
    mr_free(transfer);
}

static void cancel(struct check_probe *probe)
{
    struct check_transfer *t = transfer_of(probe);

    (void)curl_multi_remove_handle(probe->runner->curl->multi, t->easy);
    check_probe_end(probe, CHECK_CRITICAL, "");
    check_transfer_free(t);
}

/* Scripts must not inherit it. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose,
                                 struct curl_sockaddr *address)
{
    (void)arg;
    (void)purpose;
    return socket(address->family, address->socktype | SOCK_CLOEXEC,
                  address->protocol);
}

/* Keep the beginning of the body. The rest is not worth its traffic: taking
 * less than was given ends the transfer. */
static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct check_transfer *t = arg;
    size_t left = t->body_max - t->body.len;

    n *= size;
    t->is_cut = n > left;
    n = t->is_cut ? left : n;
    mr_buf_add(&t->body, data, n);
    return n;
}

struct check_transfer *
check_transfer_new(struct check_run *run, size_t size,
                   void (*done)(struct check_transfer *transfer, CURLcode code))
{
    struct check_transfer *t =
        open_shared(run->runner) ? mr_calloc(1, size) : NULL;

    if (t == NULL) {
        return NULL;
    }
    mr_buf_init(&t->body, 0);
    t->probe.run = run;
    t->body_max = run->output_max;
    t->done = done;
    t->easy = curl_easy_init();
    if (t->easy == NULL) {
        mr_free(t);
        return NULL;
    }
    /* None of these fails. */
    (void)curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
    (void)curl_easy_setopt(t->easy, CURLOPT_ERRORBUFFER, t->error);
    (void)curl_easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(t->easy, CURLOPT_NOPROXY, "*");
    (void)curl_easy_setopt(t->easy, CURLOPT_FRESH_CONNECT, 1L);
    (void)curl_easy_setopt(t->easy, CURLOPT_FORBID_REUSE, 1L);
    (void)curl_easy_setopt(t->easy, CURLOPT_DNS_CACHE_TIMEOUT, 0L);
    (void)curl_easy_setopt(t->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    /* A probe that is over does not wait for its name to be looked up. */
    (void)curl_easy_setopt(t->easy, CURLOPT_QUICK_EXIT, 1L);
    (void)curl_easy_setopt(t->easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    (void)curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
    (void)curl_easy_setopt(t->easy, CURLOPT_TIMEOUT_MS, (long)run->timeout_ms);
    return t;
}

enum mr_err check_transfer_header(struct check_transfer *transfer,
                                  const char *line)
{
    struct curl_slist *longer = curl_slist_append(transfer->headers, line);

    if (longer == NULL) {
        return MR_E_NOMEM;
    }
    transfer->headers = longer;
    return MR_OK;
}

enum mr_err check_transfer_start(struct check_transfer *transfer)
{
    struct check_run *run = transfer->probe.run;
    struct check_curl *curl = run->runner->curl;

    (void)curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER,
                           transfer->headers);
    if (curl_multi_add_handle(curl->multi, transfer->easy) != CURLM_OK) {
        check_transfer_free(transfer);
        return MR_E_NOMEM;
    }
    check_probe_begin(&transfer->probe, run, cancel);
    return MR_OK;
}

/* ------------------------------------------------------------- why not */

/* "host" or "host:port" of where the transfer went. */
static void add_target(struct check_transfer *t, bool with_port,
                       struct mr_buf *out)
{
    CURLU *url = curl_url();
    const char *text = NULL;
    char *host = NULL;
    char *port = NULL;

    if (url != NULL &&
        curl_easy_getinfo(t->easy, CURLINFO_EFFECTIVE_URL, &text) == CURLE_OK &&
        curl_url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) ==
            CURLUE_OK) {
        mr_buf_str(out, host);
        if (with_port) {
            mr_buf_printf(out, ":%s", port);
        }
    }
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(url);
}

void check_transfer_why(struct check_transfer *transfer, CURLcode code,
                        struct mr_buf *out)
{
    long os_error = 0;

    (void)curl_easy_getinfo(transfer->easy, CURLINFO_OS_ERRNO, &os_error);
    if (code == CURLE_COULDNT_RESOLVE_HOST) {
        mr_buf_str(out, "dial tcp: lookup ");
        add_target(transfer, false, out);
        mr_buf_str(out, ": no such host");
    } else if (code == CURLE_COULDNT_CONNECT && os_error != 0) {
        mr_buf_str(out, "dial tcp ");
        add_target(transfer, true, out);
        mr_buf_str(out, ": connect: ");
        check_text_errno(out, (int)os_error);
    } else if (code == CURLE_GOT_NOTHING) {
        mr_buf_str(out, "EOF");
    } else {
        const char *said = transfer->error[0] != '\0'
                               ? transfer->error
                               : curl_easy_strerror(code);

        check_text_add(out, said, strlen(said));
    }
}
