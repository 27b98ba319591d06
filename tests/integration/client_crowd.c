/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many clients of libmicroreg in one process, each watching some services, and
 * all they are told checked. Driven by crowd.py:
 *
 *   client_crowd ADDRESSES CLIENTS WATCHES SERVICES SEED
 *
 * Services are called crowd-0 ...; each node has the metadata "n", a number that
 * its owner raises by one with each change. So a watcher can tell an event that
 * is missing (n jumps) or comes twice (n stands still). Only the difference after
 * a reset may jump.
 *
 * On its standard input: "E SERVICE ID N" (expect this node), "C MILLISECONDS"
 * (compare all views with what is expected, waiting for so long; answers one line
 * of JSON), and its end, which ends the program.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <microreg.h>

#define NODES_MAX 64 /* Of one service at a time. */
#define ID_MAX 48
#define EVENTS_AT_ONCE 256
#define SWEEP_MS 20
/* One client in so many is read by its watches' descriptors, the others by going
 * round: not every machine gives a process 20,000 descriptors. */
#define POLLED_OF 4
#define LINE_MAX_LEN 256
#define MS_PER_S 1000

struct node {
    char id[ID_MAX];
    long n;
};

struct view {
    size_t n;
    struct node nodes[NODES_MAX];
};

struct watcher {
    struct client *client;
    struct microreg_watch *watch;
    int service;
    uint64_t index;
    uint64_t resets;     /* Of the client, when it was last looked at. */
    uint64_t jump_index; /* The revision of the difference after a reset. */
    struct node *nodes;
    size_t n, size;
};

struct client {
    struct microreg *handle;
    struct watcher *watchers;
};

struct crowd {
    int n_clients, n_watches, n_services;
    struct client *clients;
    struct view *expected; /* By service. */
    int epoll;
    unsigned long events, breaches;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "client_crowd: %s: %s\n", what, why);
    exit(2);
}

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * MS_PER_S + now.tv_nsec / 1000000;
}

/* ------------------------------------------------------------- checking */

static void breach(struct crowd *crowd, const struct watcher *w,
                   const char *what, const char *id)
{
    crowd->breaches++;
    if (crowd->breaches <= 20) {
        fprintf(stderr, "client %d, crowd-%d, index %llu: %s %s\n",
                (int)(w->client - crowd->clients), w->service,
                (unsigned long long)w->index, what, id);
    }
}

static long read_number(const struct microreg_node *node)
{
    for (size_t i = 0; i < node->n_metadata; i++) {
        if (strcmp(node->metadata[i].key, "n") == 0) {
            return strtol(node->metadata[i].value, NULL, 10);
        }
    }
    return -1;
}

static struct node *find_node(struct watcher *w, const char *id)
{
    for (size_t i = 0; i < w->n; i++) {
        if (strcmp(w->nodes[i].id, id) == 0) {
            return &w->nodes[i];
        }
    }
    return NULL;
}

static void add_node(struct watcher *w, const char *id, long n)
{
    if (w->n == w->size) {
        w->size = w->size == 0 ? 4 : w->size * 2;
        w->nodes = realloc(w->nodes, w->size * sizeof *w->nodes);
        if (w->nodes == NULL) {
            die("realloc", strerror(errno));
        }
    }
    snprintf(w->nodes[w->n].id, ID_MAX, "%s", id);
    w->nodes[w->n++].n = n;
}

/* Whether @index is that of the difference after a reset, which may jump. */
static bool may_jump(struct watcher *w, uint64_t index)
{
    struct microreg_stats stats;
    uint64_t resets;

    microreg_get_stats(w->client->handle, &stats);
    resets = stats.stream_resets + stats.collapses;
    if (resets != w->resets) {
        w->resets = resets;
        w->jump_index = index;
    }
    return index == w->jump_index;
}

static void check_event(struct crowd *crowd, struct watcher *w,
                        const struct microreg_event *event)
{
    const struct microreg_node *node = &event->service->nodes[0];
    struct node *known = find_node(w, node->id);
    long n = read_number(node);

    if (event->index < w->index) {
        breach(crowd, w, "the index goes back:", node->id);
    }
    w->index = event->index;
    switch (event->action) {
    case MICROREG_CREATE:
        if (known != NULL) {
            breach(crowd, w, "created twice:", node->id);
        } else {
            add_node(w, node->id, n);
        }
        break;
    case MICROREG_UPDATE:
        if (known == NULL) {
            breach(crowd, w, "updated and never created:", node->id);
        } else if (n <= known->n) {
            breach(crowd, w, "an update comes twice:", node->id);
        } else if (n != known->n + 1 && !may_jump(w, event->index)) {
            breach(crowd, w, "an update is missing:", node->id);
        }
        if (known != NULL) {
            known->n = n;
        }
        break;
    case MICROREG_DELETE:
        if (known == NULL) {
            breach(crowd, w, "deleted and never created:", node->id);
        } else {
            *known = w->nodes[--w->n];
        }
        break;
    case MICROREG_SYNCED:
        break;
    }
}

/* Read all that a watcher has. */
static void drain(struct crowd *crowd, struct watcher *w)
{
    const struct microreg_event *event;
    struct microreg_error error;
    int err;

    while ((err = microreg_watch_next(w->watch, 0, &event, &error)) ==
           MICROREG_OK) {
        crowd->events++;
        check_event(crowd, w, event);
    }
    if (err != MICROREG_E_AGAIN) {
        die("next", error.text);
    }
}

/* Go round those that have no descriptor. */
static void sweep(struct crowd *crowd)
{
    for (int c = 0; c < crowd->n_clients; c++) {
        for (int i = 0; c % POLLED_OF != 0 && i < crowd->n_watches; i++) {
            drain(crowd, &crowd->clients[c].watchers[i]);
        }
    }
}

/* Read what there is, and what comes soon. True: there is a command, too. */
static bool pump(struct crowd *crowd)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    int n = epoll_wait(crowd->epoll, events, EVENTS_AT_ONCE, SWEEP_MS);
    bool has_command = false;

    for (int i = 0; i < n; i++) {
        if (events[i].data.ptr != NULL) {
            drain(crowd, events[i].data.ptr);
        } else {
            has_command = true;
        }
    }
    sweep(crowd);
    return has_command;
}

/* ------------------------------------------------------------- comparing */

static bool is_equal(const struct crowd *crowd, struct watcher *w)
{
    const struct view *view = &crowd->expected[w->service];

    for (size_t i = 0; i < view->n; i++) {
        const struct node *known = find_node(w, view->nodes[i].id);

        if (known == NULL || known->n != view->nodes[i].n) {
            return false;
        }
    }
    return w->n == view->n;
}

static int count_different(struct crowd *crowd)
{
    int different = 0;

    for (int c = 0; c < crowd->n_clients; c++) {
        for (int i = 0; i < crowd->n_watches; i++) {
            different += !is_equal(crowd, &crowd->clients[c].watchers[i]);
        }
    }
    return different;
}

static void report(struct crowd *crowd, int different)
{
    struct microreg_stats sum = {0};
    struct rusage usage;

    for (int c = 0; c < crowd->n_clients; c++) {
        struct microreg_stats stats;

        microreg_get_stats(crowd->clients[c].handle, &stats);
        sum.streams += stats.streams;
        sum.stream_resets += stats.stream_resets;
        sum.collapses += stats.collapses;
        sum.failovers += stats.failovers;
    }
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"watches\":%d,\"different\":%d,\"events\":%lu,\"breaches\":%lu,"
           "\"streams\":%llu,\"resets\":%llu,\"collapses\":%llu,"
           "\"failovers\":%llu,\"rss_kb\":%ld}\n",
           crowd->n_clients * crowd->n_watches, different, crowd->events,
           crowd->breaches, (unsigned long long)sum.streams,
           (unsigned long long)sum.stream_resets,
           (unsigned long long)sum.collapses, (unsigned long long)sum.failovers,
           usage.ru_maxrss);
    fflush(stdout);
}

static void compare(struct crowd *crowd, int timeout_ms)
{
    int64_t deadline_ms = now_ms() + timeout_ms;
    int different = count_different(crowd);

    while (different > 0 && now_ms() < deadline_ms) {
        for (int i = 0; i < 10; i++) {
            (void)pump(crowd);
        }
        different = count_different(crowd);
    }
    report(crowd, different);
    memset(crowd->expected, 0,
           (size_t)crowd->n_services * sizeof *crowd->expected);
}

static void expect(struct crowd *crowd, int service, const char *id, long n)
{
    struct view *view;

    if (service < 0 || service >= crowd->n_services) {
        die("E", "no such service");
    }
    view = &crowd->expected[service];
    if (view->n == NODES_MAX) {
        die("E", "too many nodes");
    }
    snprintf(view->nodes[view->n].id, ID_MAX, "%s", id);
    view->nodes[view->n++].n = n;
}

/* ------------------------------------------------------------- the crowd */

static void open_client(struct crowd *crowd, struct client *client,
                        const char *addresses)
{
    struct microreg_options options = MICROREG_OPTIONS_INIT;
    struct microreg_error error;

    options.addresses = addresses;
    if (microreg_open(&options, &client->handle, &error) != MICROREG_OK) {
        die("open", error.text);
    }
    client->watchers =
        calloc((size_t)crowd->n_watches, sizeof *client->watchers);
    for (int i = 0; i < crowd->n_watches; i++) {
        struct watcher *w = &client->watchers[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = w};
        char name[32];

        w->client = client;
        w->service = rand() % crowd->n_services;
        snprintf(name, sizeof name, "crowd-%d", w->service);
        if (microreg_watch_open(client->handle, name, 0, &w->watch, &error) !=
            MICROREG_OK) {
            die("watch", error.text);
        }
        if ((client - crowd->clients) % POLLED_OF == 0 &&
            epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, microreg_watch_fd(w->watch),
                      &event) != 0) {
            die("epoll_ctl", strerror(errno));
        }
    }
}

/* Begin at another server each: "b,c,a". */
static void rotate(const char *addresses, int by, char *out, size_t size)
{
    const char *from = addresses;

    for (int i = 0; i < by; i++) {
        from = strchr(from, ',') != NULL ? strchr(from, ',') + 1 : addresses;
    }
    snprintf(out, size, "%s,%s", from, addresses);
}

static bool read_commands(struct crowd *crowd)
{
    static char line[LINE_MAX_LEN];
    char id[ID_MAX];
    int service;
    long n;

    /* The driver sends whole lines, and waits for the answer to "C". */
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (sscanf(line, "E crowd-%d %47s %ld", &service, id, &n) == 3) {
            expect(crowd, service, id, n);
        } else if (sscanf(line, "C %ld", &n) == 1) {
            compare(crowd, (int)n);
            return true;
        } else {
            die("command", line);
        }
    }
    return false;
}

static void run(struct crowd *crowd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

    if (epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event) != 0) {
        die("epoll_ctl", strerror(errno));
    }
    while (!pump(crowd) || read_commands(crowd)) {
    }
}

static void close_all(struct crowd *crowd)
{
    for (int c = 0; c < crowd->n_clients; c++) {
        struct client *client = &crowd->clients[c];

        for (int i = 0; i < crowd->n_watches; i++) {
            microreg_watch_close(client->watchers[i].watch);
            free(client->watchers[i].nodes);
        }
        microreg_close(client->handle);
        free(client->watchers);
    }
    free(crowd->clients);
    free(crowd->expected);
    close(crowd->epoll);
}

int main(int argc, char **argv)
{
    struct crowd crowd = {0};
    struct rlimit files;
    char addresses[1024];

    if (argc != 6) {
        die("usage", "client_crowd ADDRESSES CLIENTS WATCHES SERVICES SEED");
    }
    crowd.n_clients = atoi(argv[2]);
    crowd.n_watches = atoi(argv[3]);
    crowd.n_services = atoi(argv[4]);
    srand((unsigned)atoi(argv[5]));
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    crowd.epoll = epoll_create1(EPOLL_CLOEXEC);
    crowd.clients = calloc((size_t)crowd.n_clients, sizeof *crowd.clients);
    crowd.expected = calloc((size_t)crowd.n_services, sizeof *crowd.expected);
    for (int c = 0; c < crowd.n_clients; c++) {
        rotate(argv[1], c % 3, addresses, sizeof addresses);
        open_client(&crowd, &crowd.clients[c], addresses);
    }
    run(&crowd);
    close_all(&crowd);
    return crowd.breaches == 0 ? 0 : 1;
}
