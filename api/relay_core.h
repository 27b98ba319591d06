/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the relays: the thread (relay.c), and one relay's connection to a
 * server (relay_server.c). */
#ifndef API_RELAY_CORE_H
#define API_RELAY_CORE_H

#include <pthread.h>

#include "api/relay.h"
#include "api/relay_answer.h"

/* What is read ahead of the reader. */
#define RELAY_AHEAD_MAX ((size_t)64 * 1024)

enum relay_state {
    RELAY_SEEKING, /* There was no server, or it failed: until the deadline. */
    RELAY_CONNECTING, /* To a server. */
    RELAY_ASKING,     /* Sending the request, and waiting for the head. */
    RELAY_READING,    /* The body comes. */
    RELAY_OVER        /* Nothing more comes: there is no connection. */
};

struct api_relay {
    struct api_relays *relays;
    void (*wake)(void *reader); /* Of the lock; NULL: it was closed. */
    void *reader;

    /* The thread's. */
    enum relay_state state;
    int fd;
    uint32_t events;              /* What epoll watches. */
    struct mr_heap_node deadline; /* Of the state. */
    struct mr_list in_all;
    char *method;
    struct mr_buf rest;    /* Of the request, behind its first lines. */
    struct mr_buf request; /* As it is sent to this server. */
    char *target;
    size_t n_sent;
    uint64_t give_up_ms; /* When there must be a head. */
    uint64_t silence_ms;
    struct relay_answer answer;

    pthread_mutex_t lock; /* Over what follows. */
    struct mr_buf body;
    size_t n_taken;  /* Of the body, by the reader. */
    bool has_head;   /* answer.status and answer.headers stay as they are. */
    bool is_paused;  /* The reader has to take something first. */
    enum mr_err end; /* MR_OK: it goes on. */

    struct mr_list link; /* In the inbox; of its lock, as is what follows. */
    bool is_closed;
};

struct api_relays {
    const struct mr_api_options *options;
    pthread_t thread;
    int epoll_fd;
    int event_fd;
    struct mr_list all; /* Of the thread, as is what follows. */
    struct mr_heap deadlines;
    pthread_mutex_t lock; /* Over what follows. */
    struct mr_list inbox; /* Relays that want something of the thread. */
    bool is_stopping;
};

/* Look for a server and begin with it. Thread. */
void relay_begin(struct api_relay *relay);

/* The socket can be read from or written to, or has failed. Thread. */
void relay_step(struct api_relay *relay);

/* Its deadline has passed. Thread. */
void relay_on_deadline(struct api_relay *relay);

/* The reader took something: go on if it was paused. Thread. */
void relay_go_on(struct api_relay *relay);

/* Close the connection to the server, if there is one. Thread. */
void relay_disconnect(struct api_relay *relay);

#endif /* API_RELAY_CORE_H */
