/* SPDX-License-Identifier: Apache-2.0 */
/* A server that says what a test tells it to, for tests of libmicroreg. One
 * thread; one request a connection. */
#ifndef TESTS_CLIENT_SERVER_H
#define TESTS_CLIENT_SERVER_H

#include <assert.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FAKE_CONNECTIONS_MAX 64
#define FAKE_REQUEST_MAX 8192

struct fake_server {
    int listener;
    char address[32];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    const char *const *answers; /* The n-th connection gets the n-th; the last
                                   one is repeated. NULL: close at once. */
    int n_answers;
    bool holds; /* Keep connections open after the answer. */
    int n;
    int connections[FAKE_CONNECTIONS_MAX];
    char requests[FAKE_CONNECTIONS_MAX][FAKE_REQUEST_MAX];
};

#define FAKE_STREAM                                                            \
    "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
#define FAKE_JSON                                                              \
    "HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\nConnection: close\r\n\r\n"

/* Read a request: the head, and as much body as it announces. */
static void fake_read(int connection, char *out)
{
    size_t len = 0;
    const char *body = NULL;

    out[0] = '\0';
    while (len < FAKE_REQUEST_MAX - 1) {
        ssize_t n = recv(connection, out + len, FAKE_REQUEST_MAX - 1 - len, 0);
        const char *length;
        int want = 0;

        if (n <= 0) {
            return;
        }
        len += (size_t)n;
        out[len] = '\0';
        body = strstr(out, "\r\n\r\n");
        length = strstr(out, "Content-Length: ");
        if (length != NULL) {
            (void)sscanf(length, "Content-Length: %d", &want);
        }
        if (body != NULL && strlen(body + 4) >= (size_t)want) {
            return;
        }
    }
}

static void *fake_run(void *arg)
{
    struct fake_server *fake = arg;
    int connection;

    while ((connection = accept(fake->listener, NULL, NULL)) >= 0) {
        char request[FAKE_REQUEST_MAX];
        const char *answer;
        bool holds;

        fake_read(connection, request);
        pthread_mutex_lock(&fake->lock);
        answer = fake->answers[fake->n < fake->n_answers ? fake->n
                                                         : fake->n_answers - 1];
        holds = fake->holds && fake->n < FAKE_CONNECTIONS_MAX;
        pthread_mutex_unlock(&fake->lock);
        if (answer != NULL) {
            (void)send(connection, answer, strlen(answer), MSG_NOSIGNAL);
        }
        pthread_mutex_lock(&fake->lock);
        if (fake->n < FAKE_CONNECTIONS_MAX) {
            memcpy(fake->requests[fake->n], request, sizeof request);
            fake->connections[fake->n] = holds ? connection : -1;
        }
        fake->n++;
        pthread_cond_broadcast(&fake->changed);
        pthread_mutex_unlock(&fake->lock);
        if (!holds) {
            (void)shutdown(connection, SHUT_RDWR);
            (void)close(connection);
        }
    }
    return NULL;
}

static inline void fake_start(struct fake_server *fake,
                              const char *const *answers, int n_answers,
                              bool holds)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int failed = 0;

    memset(fake, 0, sizeof *fake);
    fake->answers = answers;
    fake->n_answers = n_answers;
    fake->holds = holds;
    pthread_mutex_init(&fake->lock, NULL);
    pthread_cond_init(&fake->changed, NULL);
    fake->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    failed |= bind(fake->listener, (struct sockaddr *)&address, len);
    failed |= listen(fake->listener, 64);
    failed |= getsockname(fake->listener, (struct sockaddr *)&address, &len);
    snprintf(fake->address, sizeof fake->address, "127.0.0.1:%d",
             ntohs(address.sin_port));
    failed |= pthread_create(&fake->thread, NULL, fake_run, fake);
    assert(failed == 0);
    (void)failed;
}

/* Wait for the n-th request, from 1; borrowed. */
static inline const char *fake_request(struct fake_server *fake, int n)
{
    pthread_mutex_lock(&fake->lock);
    while (fake->n < n) {
        pthread_cond_wait(&fake->changed, &fake->lock);
    }
    pthread_mutex_unlock(&fake->lock);
    return fake->requests[n - 1];
}

/* How many requests there were. */
static inline int fake_count(struct fake_server *fake)
{
    int n;

    pthread_mutex_lock(&fake->lock);
    n = fake->n;
    pthread_mutex_unlock(&fake->lock);
    return n;
}

/* Send more on the n-th connection, or end it with NULL. */
static inline void fake_send(struct fake_server *fake, int n, const char *text)
{
    (void)fake_request(fake, n);
    if (text != NULL) {
        (void)send(fake->connections[n - 1], text, strlen(text), MSG_NOSIGNAL);
    } else {
        (void)shutdown(fake->connections[n - 1], SHUT_RDWR);
    }
}

static inline void fake_stop(struct fake_server *fake)
{
    (void)shutdown(fake->listener, SHUT_RDWR);
    (void)pthread_join(fake->thread, NULL);
    (void)close(fake->listener);
    for (int i = 0; i < fake->n && i < FAKE_CONNECTIONS_MAX; i++) {
        if (fake->connections[i] >= 0) {
            (void)close(fake->connections[i]);
        }
    }
    pthread_mutex_destroy(&fake->lock);
    pthread_cond_destroy(&fake->changed);
}

#endif /* TESTS_CLIENT_SERVER_H */
