/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A service with a real kv behind the fake raft, and a client that sees the
 * bytes of its answers: for tests of the HTTP core. Include it in one file of
 * the program only.
 */
#ifndef TESTS_HTTP_FIXTURE_H
#define TESTS_HTTP_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/fake_raft.h"

#define ANSWER_MAX (2 * 1024 * 1024)

struct fixture {
    char dir[64];
    struct mr_kv *kv;
    struct mr_raft raft;
    struct mr_api *api;
    uint64_t start_rev; /* Of the empty store. */
};

struct answer {
    int status;
    char *head; /* In text. */
    char *body;
    size_t body_len;
    char *text; /* Owned. */
};

static inline void no_json(void *arg, struct mr_buf *out)
{
    (void)arg;
    mr_buf_str(out, "{}");
}

static inline enum mr_err propose_to_fake(void *arg,
                                          struct mr_raft_proposal *proposal)
{
    struct fixture *f = arg;

    return mr_raft_propose(&f->raft, proposal);
}

static inline int start_with(void **state, bool is_dev)
{
    struct fixture *f = calloc(1, sizeof *f);
    const char *const addresses[] = {"127.0.0.1"};
    struct mr_detail detail;

    strcpy(f->dir, "/tmp/mr-test-api-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    struct mr_kv_options kv = {.dir = f->dir, .boot_id = "boot"};

    assert_int_equal(mr_kv_open(&kv, &f->kv, &detail), MR_OK);
    f->start_rev = mr_kv_revision(f->kv);
    fake_raft_start(&f->raft, f->kv);
    struct mr_api_options o = {
        .addresses = addresses,
        .n_addresses = 1,
        .pretty_always = is_dev,
        .enable_ui = is_dev,
        .agent = {.node_name = "n1", .datacenter = "dc1"},
        .host = {.arg = f,
                 .propose = propose_to_fake,
                 .metrics_json = no_json,
                 .metrics_prometheus = no_json},
        .kv = f->kv,
        .raft = &f->raft,
        .clock = mr_clock_system(),
        .random = mr_random_system(),
    };

    assert_int_equal(mr_api_start(&o, &f->api, &detail), MR_OK);
    *state = f;
    return 0;
}

static inline int start(void **state)
{
    return start_with(state, false);
}

static inline int start_dev(void **state)
{
    return start_with(state, true);
}

static inline int stop(void **state)
{
    struct fixture *f = *state;
    char command[128];

    mr_api_quiesce(f->api);
    fake_raft_stop(&f->raft);
    mr_api_stop(f->api);
    mr_kv_close(f->kv);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

/* ------------------------------------------------------------- a client */

static inline int dial(const struct fixture *f)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(mr_api_port(f->api)),
                            .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static inline void send_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        assert_true(n > 0);
        data += n;
        len -= (size_t)n;
    }
}

/* The value of the header @name, or NULL; valid until the next call. */
static inline const char *header(const struct answer *a, const char *name)
{
    static _Thread_local char value[512];
    size_t len = strlen(name);

    for (const char *line = a->head; line != NULL;) {
        if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
            (void)snprintf(value, sizeof value, "%.*s",
                           (int)strcspn(line + len + 2, "\r"), line + len + 2);
            return value;
        }
        line = strstr(line, "\r\n");
        line = line == NULL ? NULL : line + 2;
    }
    return NULL;
}

/* Read one answer from @fd. */
static inline struct answer receive(int fd, bool has_body)
{
    struct answer a = {.text = calloc(1, ANSWER_MAX)};
    size_t len = 0;
    char *end = NULL;

    while (end == NULL ||
           (has_body && (size_t)(a.text + len - end - 4) < a.body_len)) {
        ssize_t n = recv(fd, a.text + len, ANSWER_MAX - 1 - len, 0);

        if (n <= 0) {
            break;
        }
        len += (size_t)n;
        if (end == NULL && (end = strstr(a.text, "\r\n\r\n")) != NULL) {
            *end = '\0';
            a.head = a.text;
            a.body = end + 4;
            a.status = atoi(a.text + strlen("HTTP/1.1 "));
            const char *length = header(&a, "Content-Length");

            a.body_len = length == NULL ? 0 : (size_t)atol(length);
        }
    }
    return a;
}

static inline struct answer exchange(const struct fixture *f,
                                     const char *method, const char *target,
                                     const char *headers, const char *body)
{
    int fd = dial(f);
    struct mr_buf b = MR_BUF_INIT;

    mr_buf_printf(&b, "%s %s HTTP/1.1\r\nHost: x\r\n%s", method, target,
                  headers);
    if (body != NULL) {
        mr_buf_printf(&b, "Content-Length: %zu\r\n", strlen(body));
    }
    mr_buf_printf(&b, "\r\n%s", body == NULL ? "" : body);
    send_all(fd, (const char *)b.data, b.len);
    struct answer a = receive(fd, strcmp(method, "HEAD") != 0);

    close(fd);
    mr_buf_deinit(&b);
    return a;
}

/* The request answers with @status and exactly @body. */
static inline void expect(const struct fixture *f, const char *method,
                          const char *target, const char *body, int status,
                          const char *answer)
{
    struct answer a = exchange(f, method, target, "", body);

    assert_int_equal(a.status, status);
    assert_string_equal(a.body, answer);
    free(a.text);
}

/* A formatted text, valid until the next call. */
static inline const char *text(const char *fmt, ...) MR_PRINTF(1, 2);

static inline const char *text(const char *fmt, ...)
{
    static char out[512];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(out, sizeof out, fmt, args);
    va_end(args);
    return out;
}

/* The revision of the @n-th change. */
static inline unsigned long long rev(const struct fixture *f, int n)
{
    return (unsigned long long)f->start_rev + (unsigned long long)n;
}

/* Wait until @n queries are parked. */
static inline void await_parked(const struct fixture *f, uint64_t n)
{
    struct mr_api_stats stats;

    do {
        mr_api_stats(f->api, &stats);
    } while (stats.parked != n);
}

#define with_service(name) cmocka_unit_test_setup_teardown(name, start, stop)

#endif /* TESTS_HTTP_FIXTURE_H */
