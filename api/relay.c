/* SPDX-License-Identifier: Apache-2.0 */
/* The thread of the relays, and what their readers call. */
#include "api/relay.h"

#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "api/relay_core.h"
#include "base/mem.h"

#define N_EVENTS 64
#define STACK_SIZE ((size_t)256 * 1024)

/* For a head, whatever happens to servers meanwhile. */
#define GIVE_UP_MS 10000

/* A buffer that grew beyond this is given back when it is empty. */
#define KEPT_BYTES ((size_t)4 * 1024)

static void signal_thread(struct api_relays *relays)
{
    uint64_t one = 1;

    /* Fails only when the counter is full, and then it is readable. */
    (void)!write(relays->event_fd, &one, sizeof one);
}

/* Let the thread look at @relay; with @is_closed for the last time. */
static void post(struct api_relay *relay, bool is_closed)
{
    struct api_relays *relays = relay->relays;

    pthread_mutex_lock(&relays->lock);
    relay->is_closed = is_closed;
    if (mr_list_empty(&relay->link)) {
        if (mr_list_empty(&relays->inbox)) {
            signal_thread(relays);
        }
        mr_list_push(&relays->inbox, &relay->link);
    }
    pthread_mutex_unlock(&relays->lock);
}

/* ------------------------------------------------------------- one relay */

static void release(struct api_relay *relay)
{
    relay_disconnect(relay);
    mr_heap_remove(&relay->relays->deadlines, &relay->deadline);
    mr_list_remove(&relay->in_all);
    relay_answer_deinit(&relay->answer);
    mr_buf_deinit(&relay->request);
    mr_buf_deinit(&relay->rest);
    mr_buf_deinit(&relay->body);
    pthread_mutex_destroy(&relay->lock);
    mr_free(relay->method);
    mr_free(relay->target);
    mr_free(relay);
}

static struct api_relay *make(struct api_relays *relays,
                              const struct api_relay_request *what)
{
    struct api_relay *relay = mr_calloc(1, sizeof *relay);

    if (relay == NULL) {
        return NULL;
    }
    relay->relays = relays;
    relay->wake = what->wake;
    relay->reader = what->reader;
    relay->fd = -1;
    relay->silence_ms = what->silence_ms;
    mr_list_init(&relay->in_all);
    mr_list_init(&relay->link);
    mr_buf_init(&relay->rest, 0);
    mr_buf_init(&relay->request, 0);
    mr_buf_init(&relay->body, 0);
    relay_answer_init(&relay->answer);
    pthread_mutex_init(&relay->lock, NULL);
    relay->method = mr_strdup(what->method);
    relay->target = mr_strdup(what->target);
    return relay;
}

/* What follows the request's first lines. */
static void write_rest(struct api_relay *relay,
                       const struct api_relay_request *what)
{
    struct mr_buf *out = &relay->rest;

    for (size_t i = 0; i < what->n_headers; i++) {
        mr_buf_printf(out, "%s: %s\r\n", what->headers[2 * i],
                      what->headers[2 * i + 1]);
    }
    if (what->body.len > 0) {
        mr_buf_printf(out, "Content-Length: %zu\r\n", what->body.len);
    }
    mr_buf_str(out, "\r\n");
    mr_buf_add(out, what->body.data, what->body.len);
}

enum mr_err api_relay_open(struct api_relays *relays,
                           const struct api_relay_request *request,
                           struct api_relay **out_relay)
{
    struct api_relay *relay = make(relays, request);

    if (relay == NULL) {
        return MR_E_NOMEM;
    }
    write_rest(relay, request);
    if (mr_buf_failed(&relay->rest) || relay->method == NULL ||
        relay->target == NULL) {
        release(relay);
        return MR_E_NOMEM;
    }
    *out_relay = relay;
    post(relay, false);
    return MR_OK;
}

void api_relay_close(struct api_relay *relay)
{
    if (relay != NULL) {
        pthread_mutex_lock(&relay->lock);
        relay->wake = NULL;
        pthread_mutex_unlock(&relay->lock);
        post(relay, true);
    }
}

enum mr_err api_relay_head(struct api_relay *relay, int *out_status,
                           struct mr_slice *out_headers)
{
    enum mr_err err = MR_OK;

    pthread_mutex_lock(&relay->lock);
    *out_status = 0;
    if (relay->has_head) {
        *out_status = relay->answer.status;
        *out_headers = mr_buf_slice(&relay->answer.headers);
    } else {
        err = relay->end;
    }
    pthread_mutex_unlock(&relay->lock);
    return err;
}

enum mr_err api_relay_read(struct api_relay *relay, char *out, size_t cap,
                           size_t *out_n)
{
    struct mr_buf *body = &relay->body;
    enum mr_err err = MR_OK;

    pthread_mutex_lock(&relay->lock);
    size_t n = body->len - relay->n_taken;

    n = n < cap ? n : cap;
    *out_n = n;
    if (n > 0) {
        memcpy(out, (const char *)body->data + relay->n_taken, n);
        relay->n_taken += n;
    } else {
        err = relay->end;
    }
    if (relay->n_taken == body->len && body->len > KEPT_BYTES) {
        mr_buf_deinit(body);
        relay->n_taken = 0;
    } else if (relay->n_taken == body->len) {
        mr_buf_reset(body);
        relay->n_taken = 0;
    }
    bool wants_more =
        relay->is_paused && body->len - relay->n_taken < RELAY_AHEAD_MAX / 2;

    pthread_mutex_unlock(&relay->lock);
    if (wants_more) {
        post(relay, false);
    }
    return err;
}

/* ------------------------------------------------------------- the thread */

/* A new one: give it its first deadline. */
static void start(struct api_relay *relay)
{
    struct api_relays *relays = relay->relays;
    uint64_t now = mr_now_ms(relays->options->clock);

    relay->give_up_ms = now + GIVE_UP_MS;
    mr_list_push(&relays->all, &relay->in_all);
    if (mr_heap_push(&relays->deadlines, &relay->deadline, now) != MR_OK) {
        pthread_mutex_lock(&relay->lock);
        relay->state = RELAY_OVER;
        relay->end = MR_E_NOMEM;
        if (relay->wake != NULL) {
            relay->wake(relay->reader);
        }
        pthread_mutex_unlock(&relay->lock);
    }
}

static void take_inbox(struct api_relays *relays)
{
    for (;;) {
        pthread_mutex_lock(&relays->lock);
        struct mr_list *link = mr_list_pop(&relays->inbox);
        struct api_relay *relay =
            link == NULL ? NULL : mr_container_of(link, struct api_relay, link);
        bool is_closed = relay != NULL && relay->is_closed;

        pthread_mutex_unlock(&relays->lock);
        if (relay == NULL) {
            return;
        }
        if (is_closed) {
            release(relay);
        } else if (mr_list_empty(&relay->in_all)) {
            start(relay);
        } else {
            relay_go_on(relay);
        }
    }
}

static void run_deadlines(struct api_relays *relays)
{
    uint64_t now = mr_now_ms(relays->options->clock);
    struct mr_heap_node *first;

    while ((first = mr_heap_first(&relays->deadlines)) != NULL &&
           first->key <= now) {
        relay_on_deadline(mr_container_of(first, struct api_relay, deadline));
    }
}

static int next_timeout(const struct api_relays *relays)
{
    const struct mr_heap_node *first = mr_heap_first(&relays->deadlines);
    uint64_t now = mr_now_ms(relays->options->clock);

    if (first == NULL) {
        return -1;
    }
    if (first->key <= now) {
        return 0;
    }
    return first->key - now < INT_MAX ? (int)(first->key - now) : INT_MAX;
}

static void *run(void *arg)
{
    struct api_relays *relays = arg;
    struct epoll_event events[N_EVENTS];
    bool is_stopping = false;

    while (!is_stopping) {
        int n = epoll_wait(relays->epoll_fd, events, N_EVENTS,
                           next_timeout(relays));

        for (int i = 0; i < n; i++) {
            struct api_relay *relay = events[i].data.ptr;
            uint64_t count;

            if (relay != NULL) {
                relay_step(relay);
            } else {
                /* Only readable when it has been written to. */
                (void)!read(relays->event_fd, &count, sizeof count);
            }
        }
        take_inbox(relays);
        run_deadlines(relays);
        pthread_mutex_lock(&relays->lock);
        is_stopping = relays->is_stopping && mr_list_empty(&relays->inbox);
        pthread_mutex_unlock(&relays->lock);
    }
    return NULL;
}

/* ------------------------------------------------------------- life */

static bool open_descriptors(struct api_relays *relays)
{
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = NULL}};

    relays->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    relays->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return relays->epoll_fd >= 0 && relays->event_fd >= 0 &&
           epoll_ctl(relays->epoll_fd, EPOLL_CTL_ADD, relays->event_fd,
                     &event) == 0;
}

static void free_all(struct api_relays *relays)
{
    if (relays->epoll_fd >= 0) {
        close(relays->epoll_fd);
    }
    if (relays->event_fd >= 0) {
        close(relays->event_fd);
    }
    mr_heap_deinit(&relays->deadlines);
    pthread_mutex_destroy(&relays->lock);
    mr_free(relays);
}

struct api_relays *api_relays_start(const struct mr_api_options *options)
{
    struct api_relays *relays = mr_calloc(1, sizeof *relays);
    pthread_attr_t attr;

    if (relays == NULL) {
        return NULL;
    }
    relays->options = options;
    mr_list_init(&relays->all);
    mr_list_init(&relays->inbox);
    mr_heap_init(&relays->deadlines);
    pthread_mutex_init(&relays->lock, NULL);
    bool ok = open_descriptors(relays);

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    ok = ok && pthread_create(&relays->thread, &attr, run, relays) == 0;
    pthread_attr_destroy(&attr);
    if (!ok) {
        free_all(relays);
        return NULL;
    }
    pthread_setname_np(relays->thread, "mr-relay");
    return relays;
}

void api_relays_stop(struct api_relays *relays)
{
    if (relays == NULL) {
        return;
    }
    pthread_mutex_lock(&relays->lock);
    relays->is_stopping = true;
    signal_thread(relays);
    pthread_mutex_unlock(&relays->lock);
    pthread_join(relays->thread, NULL);
    free_all(relays);
}
