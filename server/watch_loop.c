/* SPDX-License-Identifier: Apache-2.0 */
/* The loop of the watch commands: libcurl's sockets on an epoll instance. */
#include "server/watch.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#define EVENTS_MAX 256
#define TURN_MAX_MS 1000
#define RECEIVE_BYTES 16384L

static uint64_t now(void)
{
    return mr_now_ms(mr_clock_system());
}

/* ------------------------------------------------------------- callbacks */

/* libcurl wants to know of a socket (shape: callback). */
static int on_socket(CURL *curl, curl_socket_t fd, int what, void *arg,
                     void *socket)
{
    struct watch_loop *loop = arg;
    struct epoll_event event = {.data.fd = fd};

    (void)curl;
    (void)socket;
    if (what == CURL_POLL_REMOVE) {
        (void)epoll_ctl(loop->epoll, EPOLL_CTL_DEL, fd, NULL); /* Or closed. */
        return 0;
    }
    event.events = (what & CURL_POLL_IN ? (uint32_t)EPOLLIN : 0U) |
                   (what & CURL_POLL_OUT ? (uint32_t)EPOLLOUT : 0U);
    if (epoll_ctl(loop->epoll, EPOLL_CTL_MOD, fd, &event) != 0) {
        return epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -1;
    }
    return 0;
}

static int on_timer(CURLM *multi, long timeout_ms, void *arg)
{
    struct watch_loop *loop = arg;

    (void)multi;
    loop->timer_ms = timeout_ms < 0 ? 0 : now() + (uint64_t)timeout_ms;
    return 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct watch_call *call = arg;
    long status = 0;

    (void)curl_easy_getinfo(call->request.curl, CURLINFO_RESPONSE_CODE,
                            &status);
    if (call->on_data == NULL || status != 200) {
        mr_buf_add(&call->answer.body, data, size * n);
        return mr_buf_failed(&call->answer.body) ? 0 : size * n;
    }
    call->on_data(call, mr_slice(data, size * n));
    return call->is_stopping ? 0 : size * n;
}

/* ------------------------------------------------------------- open, close */

static enum mr_err open_signals(struct watch_loop *loop)
{
    sigset_t mask;

    (void)sigemptyset(&mask);
    (void)sigaddset(&mask, SIGINT);
    (void)sigaddset(&mask, SIGTERM);
    (void)sigaddset(&mask, SIGHUP);
    (void)sigaddset(&mask, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &mask, &loop->old_mask) != 0) {
        return MR_E_IO;
    }
    loop->signals = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
    return loop->signals < 0 ? MR_E_IO : MR_OK;
}

enum mr_err watch_loop_open(struct watch_loop *loop)
{
    struct epoll_event event = {.events = EPOLLIN};
    enum mr_err err;

    memset(loop, 0, sizeof *loop);
    mr_list_init(&loop->calls);
    mr_list_init(&loop->failed);
    loop->signals = -1;
    loop->now_ms = now();
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    loop->multi = curl_multi_init();
    err = loop->epoll < 0       ? MR_E_IO
          : loop->multi == NULL ? MR_E_NOMEM
                                : open_signals(loop);
    if (err != MR_OK) {
        watch_loop_close(loop);
        return err;
    }
    (void)curl_multi_setopt(loop->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    (void)curl_multi_setopt(loop->multi, CURLMOPT_SOCKETDATA, loop);
    (void)curl_multi_setopt(loop->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    (void)curl_multi_setopt(loop->multi, CURLMOPT_TIMERDATA, loop);
    event.data.fd = loop->signals;
    return epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->signals, &event) == 0
               ? MR_OK
               : MR_E_IO;
}

void watch_loop_close(struct watch_loop *loop)
{
    mr_list_move(&loop->calls, &loop->failed);
    while (!mr_list_empty(&loop->calls)) {
        watch_call_cancel(
            mr_container_of(loop->calls.next, struct watch_call, link));
    }
    (void)curl_multi_cleanup(loop->multi);
    if (loop->signals >= 0) {
        (void)close(loop->signals);
    }
    if (loop->epoll >= 0) {
        (void)close(loop->epoll);
    }
}

/* ------------------------------------------------------------- calls */

void watch_call_start(struct watch_call *call, struct watch_loop *loop,
                      const struct server_cli *cli, const char *method,
                      struct watch_request *request)
{
    CURL *curl;

    mr_assert(!call->is_under_way);
    call->loop = loop;
    call->is_stopping = false;
    call->request =
        (struct server_request){.method = method, .out = &call->answer};
    call->body = request->body;
    request->body = (struct mr_buf)MR_BUF_INIT;
    mr_list_init(&call->link);
    mr_list_push(&loop->calls, &call->link);
    call->is_under_way = true;
    if (!server_request_begin(&call->request, cli, mr_buf_cstr(&request->path),
                              mr_buf_cstr(&request->query),
                              mr_buf_slice(&call->body))) {
        mr_list_remove(&call->link);
        mr_list_push(&loop->failed, &call->link);
        return;
    }
    curl = call->request.curl;
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, call);
    (void)curl_easy_setopt(curl, CURLOPT_PRIVATE, call);
    (void)curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, RECEIVE_BYTES);
    if (call->body.len > 0 && strcmp(method, "PUT") != 0) {
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS,
                               mr_buf_cstr(&call->body));
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                               (curl_off_t)call->body.len);
    }
    (void)curl_multi_add_handle(loop->multi, curl);
}

/* Take it out of the loop; whether the answer is a good one. */
static bool finish(struct watch_call *call, CURLcode code)
{
    bool is_ok;

    if (call->request.curl != NULL) {
        (void)curl_multi_remove_handle(call->loop->multi, call->request.curl);
    }
    is_ok = server_request_end(&call->request, code);
    mr_list_remove(&call->link);
    mr_buf_deinit(&call->body);
    call->is_under_way = false;
    return is_ok;
}

static void end(struct watch_call *call, CURLcode code)
{
    bool is_ok = finish(call, code);
    struct server_answer answer = call->answer;

    call->answer.body = (struct mr_buf)MR_BUF_INIT;
    call->on_done(call, is_ok, &answer);
    server_answer_deinit(&answer);
}

void watch_call_cancel(struct watch_call *call)
{
    if (call->is_under_way) {
        (void)finish(call, CURLE_ABORTED_BY_CALLBACK);
        server_answer_deinit(&call->answer);
    }
}

void watch_call_pause(struct watch_call *call, bool is_paused)
{
    if (call->is_under_way && call->request.curl != NULL) {
        (void)curl_easy_pause(call->request.curl,
                              is_paused ? CURLPAUSE_RECV : CURLPAUSE_CONT);
    }
}

/* ------------------------------------------------------------- turns */

static void read_signals(struct watch_loop *loop)
{
    struct signalfd_siginfo info;

    while (read(loop->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD) {
            loop->is_child_ended = true;
        } else {
            loop->is_stopped = true;
        }
    }
}

static void tell_ends(struct watch_loop *loop)
{
    CURLMsg *message;
    int n;

    while ((message = curl_multi_info_read(loop->multi, &n)) != NULL) {
        CURLcode code = message->data.result;
        struct watch_call *call = NULL;

        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE,
                                (char **)&call);
        end(call, code);
    }
    for (struct mr_list *at = mr_list_pop(&loop->failed); at != NULL;
         at = mr_list_pop(&loop->failed)) {
        end(mr_container_of(at, struct watch_call, link), CURLE_FAILED_INIT);
    }
}

static int wait_ms(const struct watch_loop *loop, uint64_t until_ms)
{
    uint64_t at = now();
    uint64_t next = at + TURN_MAX_MS;

    next = until_ms < next ? until_ms : next;
    if (loop->timer_ms != 0 && loop->timer_ms < next) {
        next = loop->timer_ms;
    }
    return next <= at || !mr_list_empty(&loop->failed) ? 0 : (int)(next - at);
}

void watch_loop_turn(struct watch_loop *loop, uint64_t until_ms)
{
    struct epoll_event events[EVENTS_MAX];
    int n =
        epoll_wait(loop->epoll, events, EVENTS_MAX, wait_ms(loop, until_ms));
    int n_running;

    loop->now_ms = now();
    for (int i = 0; i < n; i++) {
        int what =
            (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
            (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
            (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);

        if (events[i].data.fd == loop->signals) {
            read_signals(loop);
        } else {
            (void)curl_multi_socket_action(loop->multi, events[i].data.fd, what,
                                           &n_running);
        }
    }
    if (loop->timer_ms != 0 && loop->now_ms >= loop->timer_ms) {
        loop->timer_ms = 0;
        (void)curl_multi_socket_action(loop->multi, CURL_SOCKET_TIMEOUT, 0,
                                       &n_running);
    }
    tell_ends(loop);
}
