/* SPDX-License-Identifier: Apache-2.0 */
/* The park: waking, deadlines, and clients that went away. */
#include "api/park.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "api/forward.h"
#include "base/hash.h"
#include "base/mem.h"

#define N_EVENTS 64
#define EVENT_FD UINT64_MAX /* Told from descriptors of clients. */

/* With at most so many suspended, a resumption is quick enough for the thread
 * that completes a request: the library walks them under its lock. */
#define DIRECT_MAX 512
#define STACK_SIZE ((size_t)128 * 1024)

/* A blocking query looks again so many times in a row, then after a rest. */
#define LOOKS_MAX 3
#define REST_MS 20

/* So many leave the park under one lock, and then go on. */
#define BATCH 128

/* What is known of a descriptor. It stays with epoll, for the client's going
 * only, from its first wait until the connection is closed: ten thousand that
 * are woken together cost no call of the system. */
struct client {
    struct api_http *x; /* Waits, or NULL. */
    uint32_t number;    /* Of the connections that had the descriptor. */
    bool is_watched;
    bool is_gone;
};

struct api_park {
    const struct mr_clock *clock;
    pthread_t thread;
    int epoll_fd;
    int event_fd;
    atomic_size_t n_suspended;
    atomic_uint_fast64_t jitter; /* A random number after the other. */
    pthread_mutex_t lock;        /* Protects what follows. */
    struct mr_list woken;
    struct mr_heap deadlines; /* Exchanges that wait for a change. */
    struct client *clients;   /* By descriptor. */
    size_t n_clients;
    bool is_closing;   /* Nobody may begin to wait for a change. */
    bool is_signalled; /* event_fd was written and not read yet. */
    bool is_stopping;
};

/* Make the thread look; with the lock held. */
static void signal_thread(struct api_park *park)
{
    uint64_t one = 1;

    if (park->is_signalled) {
        return;
    }
    park->is_signalled = true;
    /* Fails only when the counter is full, and then it is readable. */
    (void)!write(park->event_fd, &one, sizeof one);
}

/* ------------------------------------------------------------- waking */

void api_wait_arm(struct api_http *x)
{
    atomic_store(&x->wait_state, API_WAIT_ARMED);
}

void api_wait_disarm(struct api_http *x)
{
    atomic_store(&x->wait_state, API_WAIT_IDLE);
}

/* Wake @x with the lock held: a parked one goes to the list of the woken. */
static void wake_locked(struct api_park *park, struct api_http *x)
{
    if (atomic_exchange(&x->wait_state, API_WAIT_WOKEN) == API_WAIT_PARKED) {
        mr_list_push(&park->woken, &x->park_link);
        signal_thread(park);
    }
}

void api_wake(struct api_http *x)
{
    struct api_park *park = x->req.api->park;
    int armed = API_WAIT_ARMED;

    /* Not suspended yet: its worker will see it. */
    if (atomic_compare_exchange_strong(&x->wait_state, &armed,
                                       API_WAIT_WOKEN)) {
        return;
    }
    pthread_mutex_lock(&park->lock);
    wake_locked(park, x);
    pthread_mutex_unlock(&park->lock);
}

void api_wake_now(struct api_http *x)
{
    struct api_park *park = x->req.api->park;

    if (atomic_load(&park->n_suspended) > DIRECT_MAX) {
        api_wake(x);
    } else if (atomic_exchange(&x->wait_state, API_WAIT_WOKEN) ==
               API_WAIT_PARKED) {
        api_http_resume(x);
        atomic_fetch_sub(&park->n_suspended, 1);
    }
}

bool api_park_enter(struct api_park *park, struct api_http *x)
{
    int armed = API_WAIT_ARMED;

    atomic_fetch_add(&park->n_suspended, 1);
    if (atomic_compare_exchange_strong(&x->wait_state, &armed,
                                       API_WAIT_PARKED)) {
        return true;
    }
    atomic_fetch_sub(&park->n_suspended, 1);
    return false;
}

/* ------------------------------------------------------------- blocking */

static void on_change(struct mr_kv_waiter *waiter)
{
    struct api_http *x = mr_container_of(waiter, struct api_http, op.waiter);

    api_wake(x);
    /* Last touch: from here on the worker may use the exchange as it likes. */
    atomic_store(&x->waiter_fired, true);
}

/* Wait + a random part of a sixteenth, so that those who came together do not
 * all come back together (as Consul). */
static uint64_t end_of_wait(const struct api_http *x)
{
    struct api_park *park = x->req.api->park;
    uint64_t n =
        atomic_fetch_add_explicit(&park->jitter, 1, memory_order_relaxed);
    uint64_t random = mr_hash64(mr_slice(&n, sizeof n), 0);
    uint64_t jitter = x->wait_ms < 16 ? 0 : random % (x->wait_ms / 16);

    return mr_now_ms(x->req.options->clock) + x->wait_ms + jitter;
}

/* What is known of @fd, with the lock held; NULL: nothing, and no memory. */
static struct client *client_of(struct api_park *park, int fd)
{
    size_t n = ((size_t)fd + 1) * 2;

    if ((size_t)fd >= park->n_clients) {
        struct client *grown =
            mr_realloc(park->clients, n * sizeof *park->clients);

        if (grown == NULL) {
            return NULL;
        }
        memset(grown + park->n_clients, 0,
               (n - park->n_clients) * sizeof *grown);
        park->clients = grown;
        park->n_clients = n;
    }
    return &park->clients[fd];
}

/* Watch the client of @x for its going away, with the lock held. One that
 * cannot be watched only keeps its place longer. */
static void watch_client(struct api_park *park, struct api_http *x, int fd)
{
    struct client *c = fd < 0 ? NULL : client_of(park, fd);

    if (c == NULL) {
        return;
    }
    struct epoll_event event = {
        .events = EPOLLRDHUP | EPOLLET,
        .data = {.u64 = (uint64_t)c->number << 32 | (uint32_t)fd}};
    int op = c->is_watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

    /* Of one that has gone already we hear once more. */
    if ((!c->is_watched || c->is_gone) &&
        epoll_ctl(park->epoll_fd, op, fd, &event) != 0) {
        return;
    }
    c->is_watched = true;
    c->x = x;
    x->watched_fd = fd;
}

enum mr_err api_park_add(struct api_park *park, struct api_http *x,
                         uint64_t until_ms)
{
    int fd = api_http_fd(x);
    enum mr_err err = MR_E_CANCELED;

    pthread_mutex_lock(&park->lock);
    if (!park->is_closing) {
        err = mr_heap_push(&park->deadlines, &x->deadline, until_ms);
    }
    if (err == MR_OK) {
        watch_client(park, x, fd);
        if (mr_heap_first(&park->deadlines) == &x->deadline) {
            signal_thread(park);
        }
    }
    pthread_mutex_unlock(&park->lock);
    return err;
}

/* Undo watch_client(), with the lock held. */
static void unwatch_client(struct api_park *park, struct api_http *x)
{
    if (x->watched_fd >= 0) {
        park->clients[x->watched_fd].x = NULL;
        x->watched_fd = -1;
    }
}

/* Undo api_park_add(), with the lock held. */
static void leave(struct api_park *park, struct api_http *x)
{
    unwatch_client(park, x);
    mr_heap_remove(&park->deadlines, &x->deadline);
}

void api_park_remove(struct api_http *x)
{
    struct api_park *park = x->req.api->park;

    pthread_mutex_lock(&park->lock);
    leave(park, x);
    pthread_mutex_unlock(&park->lock);
}

void api_park_forget(struct api_park *park, int fd)
{
    pthread_mutex_lock(&park->lock);
    if (fd >= 0 && (size_t)fd < park->n_clients) {
        struct client *c = &park->clients[fd];

        if (c->is_watched) {
            (void)epoll_ctl(park->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        }
        *c = (struct client){.number = c->number + 1};
    }
    pthread_mutex_unlock(&park->lock);
}

void api_park_watch(struct api_http *x)
{
    struct api_park *park = x->req.api->park;

    pthread_mutex_lock(&park->lock);
    watch_client(park, x, api_http_fd(x));
    pthread_mutex_unlock(&park->lock);
}

void api_park_unwatch(struct api_http *x)
{
    struct api_park *park = x->req.api->park;

    if (x->watched_fd >= 0) {
        pthread_mutex_lock(&park->lock);
        unwatch_client(park, x);
        pthread_mutex_unlock(&park->lock);
    }
}

/* Take the waiter back; after this the hub does not touch the exchange. */
static void cancel_waiter(struct api_http *x)
{
    if (atomic_load(&x->waiter_fired) ||
        mr_kv_wait_cancel(x->req.options->kv, &x->op.waiter)) {
        return;
    }
    while (!atomic_load(&x->waiter_fired)) {
        sched_yield(); /* Its callback is at its last lines. */
    }
}

/* Wait for a change of x->topic after @revision; *@out_until_ms: no longer than
 * that. A topic that changes each time while the answer is rendered is waited
 * for by the clock alone, or the worker would do nothing else. */
static enum mr_err wait_for_change(struct api_http *x, uint64_t revision,
                                   uint64_t *out_until_ms)
{
    struct mr_kv_topic topic = {x->topic.kind,
                                mr_slice(x->topic.name, x->topic.name_len)};
    enum mr_err err;

    *out_until_ms = x->wait_until_ms;
    atomic_store(&x->waiter_fired, false);
    x->op.waiter = (struct mr_kv_waiter){.wake = on_change};
    err = mr_kv_wait(x->req.options->kv, &x->op.waiter, &topic, revision);
    if (err == MR_E_EXISTS && ++x->n_looks > LOOKS_MAX) {
        uint64_t rested_ms = mr_now_ms(x->req.options->clock) + REST_MS;

        atomic_store(&x->waiter_fired, true); /* There is none. */
        *out_until_ms =
            rested_ms < x->wait_until_ms ? rested_ms : x->wait_until_ms;
        err = MR_OK;
    }
    x->n_looks = err == MR_OK ? 0 : x->n_looks;
    return err;
}

bool api_block(struct api_http *x, uint64_t revision, enum mr_err *out_err)
{
    struct mr_api *api = x->req.api;
    uint64_t until_ms;

    if (x->wait_until_ms == 0) {
        x->wait_until_ms = end_of_wait(x);
    }
    api_wait_arm(x);
    x->has_left_park = false;
    enum mr_err err = wait_for_change(x, revision, &until_ms);

    if (err != MR_OK) {
        api_wait_disarm(x);
        *out_err = err == MR_E_EXISTS ? MR_OK : err;
        return false;
    }
    err = api_park_add(api->park, x, until_ms);
    if (err != MR_OK) {
        cancel_waiter(x);
        api_wait_disarm(x);
        *out_err = err;
        return false;
    }
    x->is_blocking = true;
    atomic_fetch_add_explicit(&api->parked, 1, memory_order_relaxed);
    return true;
}

void api_unblock(struct api_http *x)
{
    struct mr_api *api = x->req.api;

    if (!x->is_blocking) {
        return;
    }
    x->is_blocking = false;
    if (!x->has_left_park) {
        api_park_remove(x);
    }
    cancel_waiter(x);
    if (mr_now_ms(x->req.options->clock) >= x->wait_until_ms ||
        x->is_client_gone) {
        x->is_timed_out = true;
    }
    atomic_fetch_sub_explicit(&api->parked, 1, memory_order_relaxed);
}

void api_park_wake_all(struct api_park *park)
{
    pthread_mutex_lock(&park->lock);
    park->is_closing = true;
    for (size_t i = 0; i < park->deadlines.n; i++) {
        wake_locked(park, mr_container_of(park->deadlines.nodes[i],
                                          struct api_http, deadline));
    }
    pthread_mutex_unlock(&park->lock);
}

/* ------------------------------------------------------------- the thread */

/* Milliseconds until the first deadline, for epoll_wait(); with the lock. */
static int next_timeout(const struct api_park *park)
{
    const struct mr_heap_node *first = mr_heap_first(&park->deadlines);
    uint64_t now = mr_now_ms(park->clock);

    if (first == NULL) {
        return -1;
    }
    if (first->key <= now) {
        return 0;
    }
    return first->key - now < INT_MAX ? (int)(first->key - now) : INT_MAX;
}

/* Wake those whose time is over; they leave the heap. A stream that sent
 * something meanwhile only moves back. With the lock. */
static void wake_due(struct api_park *park)
{
    uint64_t now = mr_now_ms(park->clock);
    struct mr_heap_node *first;

    while ((first = mr_heap_first(&park->deadlines)) != NULL &&
           first->key <= now) {
        struct api_http *x = mr_container_of(first, struct api_http, deadline);
        uint64_t until = atomic_load(&x->quiet_until_ms);

        if (until > now) {
            mr_heap_move(&park->deadlines, first, until);
            continue;
        }
        mr_heap_remove(&park->deadlines, first);
        atomic_store(&x->is_due, true);
        wake_locked(park, x);
    }
}

/* A watched client went away. With the lock. The event may be older than the
 * table: then the descriptor has another connection, with another number. */
static void on_hangup(struct api_park *park, uint64_t which)
{
    struct client *c = &park->clients[(uint32_t)which];
    struct api_http *x = c->x;

    if (c->number != which >> 32) {
        return;
    }
    c->is_gone = true;
    if (x != NULL && x->is_forwarding) {
        api_forward_cancel(x);
    } else if (x != NULL) {
        x->is_client_gone = true;
        wake_locked(park, x);
    }
}

/* Handle what epoll_wait() reported; false: stop. */
static bool turn(struct api_park *park, const struct epoll_event *events,
                 int n_events)
{
    uint64_t count;
    bool goes_on;

    pthread_mutex_lock(&park->lock);
    for (int i = 0; i < n_events; i++) {
        if (events[i].data.u64 != EVENT_FD) {
            on_hangup(park, events[i].data.u64);
        } else if (read(park->event_fd, &count, sizeof count) > 0) {
            park->is_signalled = false;
        }
    }
    wake_due(park);
    goes_on = !park->is_stopping;
    pthread_mutex_unlock(&park->lock);
    return goes_on;
}

/* Let some of the woken go on; false: there are none. Those that wait for one
 * change leave the park here, a batch under one lock, so that the workers do
 * not fight for it. */
static bool resume_some(struct api_park *park)
{
    struct api_http *woken[BATCH];
    size_t n = 0;

    pthread_mutex_lock(&park->lock);
    while (n < BATCH && !mr_list_empty(&park->woken)) {
        struct api_http *x = mr_container_of(mr_list_pop(&park->woken),
                                             struct api_http, park_link);

        if (x->is_blocking) {
            leave(park, x);
            x->has_left_park = true;
        }
        woken[n++] = x;
    }
    pthread_mutex_unlock(&park->lock);
    for (size_t i = 0; i < n; i++) {
        api_http_resume(woken[i]);
    }
    atomic_fetch_sub(&park->n_suspended, n);
    return n > 0;
}

static void *run(void *arg)
{
    struct api_park *park = arg;
    struct epoll_event events[N_EVENTS];
    bool goes_on = true;

    while (goes_on) {
        pthread_mutex_lock(&park->lock);
        int timeout = next_timeout(park);
        pthread_mutex_unlock(&park->lock);
        int n = epoll_wait(park->epoll_fd, events, N_EVENTS, timeout);

        goes_on = turn(park, events, n < 0 ? 0 : n);
        while (resume_some(park)) {
        }
    }
    return NULL;
}

/* ------------------------------------------------------------- life */

static bool open_descriptors(struct api_park *park)
{
    struct epoll_event event = {.events = EPOLLIN};

    park->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    park->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    event.data.u64 = EVENT_FD;
    return park->epoll_fd >= 0 && park->event_fd >= 0 &&
           epoll_ctl(park->epoll_fd, EPOLL_CTL_ADD, park->event_fd, &event) ==
               0;
}

static void release(struct api_park *park)
{
    if (park->epoll_fd >= 0) {
        close(park->epoll_fd);
    }
    if (park->event_fd >= 0) {
        close(park->event_fd);
    }
    mr_heap_deinit(&park->deadlines);
    mr_free(park->clients);
    pthread_mutex_destroy(&park->lock);
    mr_free(park);
}

struct api_park *api_park_start(const struct mr_clock *clock,
                                const struct mr_random *random)
{
    struct api_park *park = mr_calloc(1, sizeof *park);
    pthread_attr_t attr;

    if (park == NULL) {
        return NULL;
    }
    park->clock = clock;
    atomic_init(&park->jitter, mr_random_u64(random));
    pthread_mutex_init(&park->lock, NULL);
    mr_list_init(&park->woken);
    mr_heap_init(&park->deadlines);
    bool ok = open_descriptors(park);

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    ok = ok && pthread_create(&park->thread, &attr, run, park) == 0;
    pthread_attr_destroy(&attr);
    if (!ok) {
        release(park);
        return NULL;
    }
    pthread_setname_np(park->thread, "mr-api-park");
    return park;
}

void api_park_drain(struct api_park *park)
{
    while (atomic_load(&park->n_suspended) > 0) {
        (void)usleep(1000); /* What raft completed last is being resumed. */
    }
}

void api_park_stop(struct api_park *park)
{
    if (park == NULL) {
        return;
    }
    pthread_mutex_lock(&park->lock);
    park->is_stopping = true;
    signal_thread(park);
    pthread_mutex_unlock(&park->lock);
    pthread_join(park->thread, NULL);
    release(park);
}
