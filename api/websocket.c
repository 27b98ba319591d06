/* SPDX-License-Identifier: Apache-2.0 */
/* The thread of the WebSockets, and their life. */
#include "api/websocket.h"

#include <errno.h>
#include <limits.h>
#include <microhttpd.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/websocket_frames.h"
#include "base/mem.h"

#define N_EVENTS 64
#define STACK_SIZE ((size_t)256 * 1024)

/* Everybody is asked so often whether he is there, and has as long to answer. */
#define PING_MS 30000

/* How long the other side may take to say goodbye. */
#define CLOSE_MS 1000

/* Messages of one WebSocket in a turn, before it is the others' turn. */
#define TURN_MESSAGES 64

enum state {
    OPEN,   /* Messages are sent. */
    CLOSING /* We said goodbye, or answered one. */
};

struct api_websocket {
    struct api_websockets *all;
    struct api_messages *messages;
    struct MHD_UpgradeResponseHandle *handle;
    struct websocket_frames frames;
    struct mr_heap_node deadline; /* Of the next ping, or of the end. */
    struct mr_list in_all;
    uint32_t events; /* What epoll watches. */
    enum state state;
    bool is_added;       /* Of the lock, as is what follows. */
    struct mr_list link; /* In the list of the new or of the woken. */
};

struct api_websockets {
    const struct mr_clock *clock;
    pthread_t thread;
    int epoll_fd;
    int event_fd;
    struct mr_list sockets; /* Of the thread, as is what follows. */
    struct mr_heap deadlines;
    bool has_said_goodbye;
    pthread_mutex_t lock; /* Over what follows. */
    pthread_cond_t emptied;
    struct mr_list added;
    struct mr_list woken;
    size_t n; /* Handed over and not over yet. */
    bool is_draining;
    bool is_stopping;
};

static void signal_thread(struct api_websockets *all)
{
    uint64_t one = 1;

    /* Fails only when the counter is full, and then it is readable. */
    (void)!write(all->event_fd, &one, sizeof one);
}

/* ------------------------------------------------------------- the end of one */

static void release(struct api_websocket *ws)
{
    ws->messages->close(ws->messages);
    websocket_frames_deinit(&ws->frames);
    mr_free(ws);
}

/* It is over: give the connection back. */
static void end(struct api_websocket *ws)
{
    struct api_websockets *all = ws->all;
    struct MHD_UpgradeResponseHandle *handle = ws->handle;

    (void)epoll_ctl(all->epoll_fd, EPOLL_CTL_DEL, ws->frames.fd, NULL);
    mr_heap_remove(&all->deadlines, &ws->deadline);
    mr_list_remove(&ws->in_all);
    pthread_mutex_lock(&all->lock);
    ws->is_added = false; /* A wake that comes now is ignored. */
    mr_list_remove(&ws->link);
    pthread_mutex_unlock(&all->lock);
    release(ws);
    (void)MHD_upgrade_action(handle, MHD_UPGRADE_ACTION_CLOSE);
    pthread_mutex_lock(&all->lock);
    all->n--;
    if (all->n == 0) {
        pthread_cond_broadcast(&all->emptied);
    }
    pthread_mutex_unlock(&all->lock);
}

static uint64_t now_of(const struct api_websocket *ws)
{
    return mr_now_ms(ws->all->clock);
}

/* Say goodbye, once. */
static enum mr_err say_goodbye(struct api_websocket *ws,
                               enum websocket_code code, const char *why)
{
    enum mr_err err;

    if (ws->state == CLOSING) {
        return MR_OK;
    }
    ws->state = CLOSING;
    mr_heap_move(&ws->all->deadlines, &ws->deadline, now_of(ws) + CLOSE_MS);
    err = websocket_frames_close(&ws->frames, code, why);
    return err == MR_E_CLOSED ? MR_OK : err; /* The library did already. */
}

/* ------------------------------------------------------------- moving */

/* No more messages because of @err. */
static enum mr_err end_messages(struct api_websocket *ws, enum mr_err err)
{
    switch ((int)err) {
    case MR_E_CLOSED:
        return say_goodbye(ws, WEBSOCKET_GOING_AWAY, "watch again");
    case MR_E_TOOBIG:
        return say_goodbye(ws, WEBSOCKET_TOO_BIG,
                           "a service is too large for one message");
    case MR_E_BUSY:
        return say_goodbye(ws, WEBSOCKET_TRY_LATER, "too busy");
    default:
        return say_goodbye(ws, WEBSOCKET_FAILED, mr_strerror(err));
    }
}

/* Send what there is, as far as it goes: one message after the other. */
static enum mr_err pump(struct api_websocket *ws)
{
    struct websocket_frames *f = &ws->frames;
    enum mr_err err = websocket_frames_write(f);
    struct mr_slice message;

    for (size_t i = 0;
         err == MR_OK && ws->state == OPEN && websocket_frames_is_idle(f);
         i++) {
        if (i == TURN_MESSAGES) {
            ws->messages->wake(ws->messages); /* Go on after the others. */
            return MR_OK;
        }
        err = ws->messages->next(ws->messages, &message);
        if (err != MR_OK) {
            err = end_messages(ws, err);
        } else if (message.len == 0) {
            return MR_OK;
        } else {
            err = websocket_frames_text(f, message);
        }
        if (err == MR_OK) {
            err = websocket_frames_write(f);
        }
    }
    return err;
}

/* Watch the socket for what is wanted now; false: it has ended. */
static bool watch_socket(struct api_websocket *ws)
{
    uint32_t events =
        (websocket_frames_wants_read(&ws->frames) ? (uint32_t)EPOLLIN : 0) |
        (websocket_frames_wants_write(&ws->frames) ? (uint32_t)EPOLLOUT : 0);
    struct epoll_event event = {.events = events, .data = {.ptr = ws}};

    if (events == ws->events) {
        return true;
    }
    ws->events = events;
    return epoll_ctl(ws->all->epoll_fd, EPOLL_CTL_MOD, ws->frames.fd, &event) ==
           0;
}

/* Do what can be done for @ws, which may be over after it. */
static void step(struct api_websocket *ws, bool is_readable)
{
    enum mr_err err = MR_OK;

    if (is_readable) {
        err = websocket_frames_read(&ws->frames);
        if (ws->state == OPEN && websocket_frames_is_closing(&ws->frames)) {
            ws->state = CLOSING; /* The client began it. */
            mr_heap_move(&ws->all->deadlines, &ws->deadline,
                         now_of(ws) + CLOSE_MS);
        }
    }
    if (err == MR_OK) {
        err = pump(ws);
    }
    if (err != MR_OK || websocket_frames_has_ended(&ws->frames) ||
        !watch_socket(ws)) {
        end(ws);
    }
}

/* ------------------------------------------------------------- time */

/* The time of @ws has come: ask whether somebody is there, or end it. Whatever
 * came since it was asked last is an answer. */
static void on_deadline(struct api_websocket *ws)
{
    if (ws->state == CLOSING || !ws->frames.has_heard ||
        websocket_frames_ping(&ws->frames) != MR_OK) {
        end(ws);
        return;
    }
    ws->frames.has_heard = false;
    mr_heap_move(&ws->all->deadlines, &ws->deadline, now_of(ws) + PING_MS);
    step(ws, false);
}

static void run_deadlines(struct api_websockets *all)
{
    uint64_t now = mr_now_ms(all->clock);
    struct mr_heap_node *first;

    while ((first = mr_heap_first(&all->deadlines)) != NULL &&
           first->key <= now) {
        on_deadline(mr_container_of(first, struct api_websocket, deadline));
    }
}

static int next_timeout(const struct api_websockets *all)
{
    const struct mr_heap_node *first = mr_heap_first(&all->deadlines);
    uint64_t now = mr_now_ms(all->clock);

    if (first == NULL) {
        return -1;
    }
    if (first->key <= now) {
        return 0;
    }
    return first->key - now < INT_MAX ? (int)(first->key - now) : INT_MAX;
}

/* ------------------------------------------------------------- the thread */

/* One that the HTTP library handed over. */
static void take_new(struct api_websockets *all, struct api_websocket *ws)
{
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = ws}};

    ws->events = EPOLLIN;
    mr_list_push(&all->sockets, &ws->in_all);
    if (mr_heap_push(&all->deadlines, &ws->deadline,
                     mr_now_ms(all->clock) + PING_MS) != MR_OK ||
        epoll_ctl(all->epoll_fd, EPOLL_CTL_ADD, ws->frames.fd, &event) != 0) {
        end(ws);
        return;
    }
    if (all->has_said_goodbye &&
        say_goodbye(ws, WEBSOCKET_GOING_AWAY, "the server stops") != MR_OK) {
        end(ws); /* It was handed over before, and taken after the others. */
        return;
    }
    step(ws, true);
}

static struct api_websocket *pop(struct api_websockets *all,
                                 struct mr_list *list)
{
    struct mr_list *link;

    pthread_mutex_lock(&all->lock);
    link = mr_list_pop(list);
    pthread_mutex_unlock(&all->lock);
    return link == NULL ? NULL
                        : mr_container_of(link, struct api_websocket, link);
}

/* Those that came, and those that were woken until now. */
static void take_handed_over(struct api_websockets *all)
{
    struct mr_list woken;
    struct api_websocket *ws;

    while ((ws = pop(all, &all->added)) != NULL) {
        pthread_mutex_lock(&all->lock);
        ws->is_added = true;
        pthread_mutex_unlock(&all->lock);
        take_new(all, ws);
    }
    mr_list_init(&woken);
    pthread_mutex_lock(&all->lock);
    mr_list_move(&woken, &all->woken);
    pthread_mutex_unlock(&all->lock);
    while ((ws = pop(all, &woken)) != NULL) {
        step(ws, false);
    }
}

static void say_goodbye_to_all(struct api_websockets *all)
{
    struct mr_list *at = all->sockets.next;

    while (at != &all->sockets) {
        struct api_websocket *ws =
            mr_container_of(at, struct api_websocket, in_all);

        at = at->next;
        if (say_goodbye(ws, WEBSOCKET_GOING_AWAY, "the server stops") ==
            MR_OK) {
            step(ws, false);
        } else {
            end(ws);
        }
    }
}

/* Read the flags; false: stop. */
static bool look_at_flags(struct api_websockets *all)
{
    pthread_mutex_lock(&all->lock);
    bool is_draining = all->is_draining;
    bool is_stopping = all->is_stopping;

    pthread_mutex_unlock(&all->lock);
    if (is_draining && !all->has_said_goodbye) {
        all->has_said_goodbye = true;
        say_goodbye_to_all(all);
    }
    return !is_stopping;
}

static void *run(void *arg)
{
    struct api_websockets *all = arg;
    struct epoll_event events[N_EVENTS];

    for (;;) {
        int n = epoll_wait(all->epoll_fd, events, N_EVENTS, next_timeout(all));

        for (int i = 0; i < n; i++) {
            struct api_websocket *ws = events[i].data.ptr;

            if (ws != NULL) {
                step(ws, (events[i].events & ~(uint32_t)EPOLLOUT) != 0);
            } else {
                uint64_t count;

                /* Only readable when it has been written to. */
                (void)!read(all->event_fd, &count, sizeof count);
            }
        }
        take_handed_over(all);
        run_deadlines(all);
        if (!look_at_flags(all)) {
            break;
        }
    }
    while (!mr_list_empty(&all->sockets)) {
        end(mr_container_of(all->sockets.next, struct api_websocket, in_all));
    }
    return NULL;
}

/* ------------------------------------------------------------- handing over */

static void on_wake(struct api_messages *messages)
{
    struct api_websocket *ws = messages->websocket;
    struct api_websockets *all = ws->all;

    pthread_mutex_lock(&all->lock);
    if (ws->is_added && mr_list_empty(&ws->link)) {
        bool is_first = mr_list_empty(&all->woken);

        mr_list_push(&all->woken, &ws->link);
        if (is_first) {
            signal_thread(all);
        }
    }
    pthread_mutex_unlock(&all->lock);
}

enum mr_err api_websocket_begin(struct api_request *req,
                                struct api_messages *messages)
{
    struct api_websocket *ws = mr_calloc(1, sizeof *ws);

    if (ws == NULL) {
        messages->close(messages);
        return MR_E_NOMEM;
    }
    ws->all = req->api->websockets;
    ws->messages = messages;
    mr_list_init(&ws->in_all);
    mr_list_init(&ws->link);
    messages->websocket = ws;
    messages->wake = on_wake;
    req->http->websocket = ws;
    return MR_OK;
}

void api_websocket_drop(struct api_http *x)
{
    if (x->websocket != NULL) {
        release(x->websocket);
        x->websocket = NULL;
    }
}

/* Give @ws to the thread; false: the service is ending. */
static bool hand_over(struct api_websocket *ws)
{
    struct api_websockets *all = ws->all;

    pthread_mutex_lock(&all->lock);
    bool is_open = !all->is_draining;

    if (is_open) {
        all->n++;
        mr_list_push(&all->added, &ws->link);
        signal_thread(all);
    }
    pthread_mutex_unlock(&all->lock);
    return is_open;
}

/* It came too late to be served: all that it hears is goodbye. */
static void refuse(struct api_websocket *ws)
{
    struct MHD_UpgradeResponseHandle *handle = ws->handle;
    enum mr_err err = websocket_frames_close(&ws->frames, WEBSOCKET_GOING_AWAY,
                                             "the server stops");

    if (err == MR_OK) {
        err = websocket_frames_write(&ws->frames);
    }
    (void)err; /* It is over in any case. */
    release(ws);
    (void)MHD_upgrade_action(handle, MHD_UPGRADE_ACTION_CLOSE);
}

/* The library's upgrade handler, whose shape it fixes (shape: callback). */
static void on_upgrade(void *cls, struct MHD_Connection *connection,
                       void *context, const char *extra, size_t extra_len,
                       MHD_socket fd, struct MHD_UpgradeResponseHandle *handle)
{
    struct api_http *x = context;
    struct api_websocket *ws = x->websocket;
    int one = 1;

    (void)cls;
    (void)connection;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    ws->handle = handle;
    x->websocket = NULL;
    if (websocket_frames_init(&ws->frames, fd, mr_slice(extra, extra_len)) !=
        MR_OK) {
        release(ws);
        (void)MHD_upgrade_action(handle, MHD_UPGRADE_ACTION_CLOSE);
    } else if (!hand_over(ws)) {
        refuse(ws);
    }
}

struct MHD_Response *api_websocket_response(struct api_http *x)
{
    (void)x;
    return MHD_create_response_for_upgrade(on_upgrade, NULL);
}

/* ------------------------------------------------------------- life */

static bool open_descriptors(struct api_websockets *all)
{
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = NULL}};

    all->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    all->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return all->epoll_fd >= 0 && all->event_fd >= 0 &&
           epoll_ctl(all->epoll_fd, EPOLL_CTL_ADD, all->event_fd, &event) == 0;
}

static void free_all(struct api_websockets *all)
{
    if (all->epoll_fd >= 0) {
        close(all->epoll_fd);
    }
    if (all->event_fd >= 0) {
        close(all->event_fd);
    }
    mr_heap_deinit(&all->deadlines);
    pthread_cond_destroy(&all->emptied);
    pthread_mutex_destroy(&all->lock);
    mr_free(all);
}

/* A condition whose time is the monotonic clock's. */
static void init_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attr);
    pthread_condattr_destroy(&attr);
}

struct api_websockets *api_websockets_start(const struct mr_clock *clock)
{
    struct api_websockets *all = mr_calloc(1, sizeof *all);
    pthread_attr_t attr;

    if (all == NULL) {
        return NULL;
    }
    all->clock = clock;
    mr_list_init(&all->sockets);
    mr_list_init(&all->added);
    mr_list_init(&all->woken);
    mr_heap_init(&all->deadlines);
    pthread_mutex_init(&all->lock, NULL);
    init_condition(&all->emptied);
    bool ok = open_descriptors(all);

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    ok = ok && pthread_create(&all->thread, &attr, run, all) == 0;
    pthread_attr_destroy(&attr);
    if (!ok) {
        free_all(all);
        return NULL;
    }
    pthread_setname_np(all->thread, "mr-websocket");
    return all;
}

void api_websockets_drain(struct api_websockets *all)
{
    pthread_mutex_lock(&all->lock);
    all->is_draining = true;
    signal_thread(all);
    while (all->n > 0) {
        /* Each ends at its deadline, if not before. */
        pthread_cond_wait(&all->emptied, &all->lock);
    }
    pthread_mutex_unlock(&all->lock);
}

void api_websockets_stop(struct api_websockets *all)
{
    if (all == NULL) {
        return;
    }
    pthread_mutex_lock(&all->lock);
    all->is_stopping = true;
    signal_thread(all);
    pthread_mutex_unlock(&all->lock);
    pthread_join(all->thread, NULL);
    free_all(all);
}
