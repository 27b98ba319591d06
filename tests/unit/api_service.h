/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A service with a real kv behind the fake raft, and a client for it: for tests
 * of endpoints. Include it in one file of the program only.
 */
#ifndef TESTS_API_SERVICE_H
#define TESTS_API_SERVICE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/fake_raft.h"

#define NODE_ID "11111111-2222-3333-4444-555555555555"

struct service {
    char dir[64];
    struct mr_why *why;
    struct mr_kv *kv;
    struct mr_raft raft;
    struct mr_api *api;
    struct mr_lease_age age; /* Of every lease, as the host tells it. */
    atomic_uint renewals;    /* Leases that were to be renewed. */
    atomic_uint n_forget;    /* So many of the next are unknown. */
    atomic_int fail_renew;   /* The code that renewals end with. */
    char answer[1 << 20];    /* The last one, head and body. */
    int status;              /* Of the last answer. */
    const char *body;        /* Likewise. */
};

static void service_registered(struct mr_raft_proposal *proposal,
                               enum mr_err err)
{
    (void)proposal;
    assert_int_equal(err, MR_OK);
}

/* Register the agent itself, as the server does when it has a leader. */
static void service_register_self(struct service *s,
                                  const struct mr_api_agent *agent)
{
    static struct mr_write write;
    struct mr_buf cmd = MR_BUF_INIT;
    struct mr_list batch;

    mr_api_self_command(agent, &cmd);
    assert_false(mr_buf_failed(&cmd));
    write = (struct mr_write){
        .proposal = {.cmd = mr_buf_slice(&cmd), .done = service_registered}};
    mr_list_init(&batch);
    mr_list_init(&write.proposal.link);
    mr_list_push(&batch, &write.proposal.link);
    fake_raft_apply(&s->raft, &batch); /* Nobody else applies yet. */
    mr_buf_deinit(&cmd);
}

static void service_event(void *arg, const struct mr_kv_event *event)
{
    mr_why_add(((struct service *)arg)->why, event);
}

static enum mr_err service_propose(void *arg, struct mr_raft_proposal *proposal)
{
    struct service *s = arg;

    return mr_raft_propose(&s->raft, proposal);
}

static bool service_lease_age(void *arg, uint64_t lease_id,
                              struct mr_lease_age *out_age)
{
    (void)lease_id;
    *out_age = ((struct service *)arg)->age;
    return true;
}

/* As the engine: a lease that the state has is renewed. */
static bool service_has_lease(struct service *s, uint64_t id)
{
    const Mr__Lease *lease = NULL;
    struct mr_kv_view *view;

    assert_int_equal(mr_kv_view_begin(s->kv, &view), MR_OK);
    assert_int_equal(mr_kv_lease_get(view, id, &lease), MR_OK);
    mr_kv_view_end(view);
    return lease != NULL;
}

static enum mr_err service_renew(void *arg, struct mr_lease_renewal *renewal)
{
    struct service *s = arg;

    for (size_t i = 0; i < renewal->n_items; i++) {
        bool is_forgotten = atomic_load(&s->n_forget) > 0;

        atomic_fetch_add(&s->renewals, 1);
        atomic_fetch_sub(&s->n_forget, is_forgotten ? 1 : 0);
        renewal->items[i].answer =
            !is_forgotten && service_has_lease(s, renewal->items[i].id)
                ? MR_LEASE_RENEWED
                : MR_LEASE_UNKNOWN;
    }
    renewal->done(renewal, (enum mr_err)atomic_load(&s->fail_renew));
    return MR_OK;
}

/* Open the store and the ring of its events. */
static void service_open(struct service *s)
{
    struct mr_kv_options kv = {.dir = s->dir,
                               .boot_id = "boot",
                               .hooks = {.arg = s, .event = service_event}};
    struct mr_detail detail;
    char path[80];

    strcpy(s->dir, "/tmp/mr-test-api-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    (void)snprintf(path, sizeof path, "%s/events", s->dir);
    assert_int_equal(mr_why_open(path, 256 * 1024, &s->why, &detail), MR_OK);
    assert_int_equal(mr_kv_open(&kv, &s->kv, &detail), MR_OK);
}

static int service_start(void **state)
{
    static const char *const addresses[] = {"127.0.0.1"};
    static const char *const meta[] = {"rack", "a"};
    struct service *s = calloc(1, sizeof *s);
    struct mr_detail detail;

    assert_non_null(s);
    service_open(s);
    fake_raft_start(&s->raft, s->kv);
    struct mr_api_options o = {
        .addresses = addresses,
        .n_addresses = 1,
        .n_workers = 2,
        .agent = {.node_name = "n1",
                  .node_id = NODE_ID,
                  .address = "127.0.0.1",
                  .datacenter = "dc1",
                  .version = "0.1.0",
                  .consul_version = "1.8.7",
                  .revision = "",
                  .is_server = true,
                  .bootstrap_expect = 1,
                  .server_port = 8300,
                  .meta = meta,
                  .n_meta = 1},
        .host = {.arg = s,
                 .propose = service_propose,
                 .renew = service_renew,
                 .lease_age = service_lease_age,
                 .why = s->why},
        .kv = s->kv,
        .raft = &s->raft,
        .clock = mr_clock_system(),
        .random = mr_random_system(),
    };

    service_register_self(s, &o.agent);
    assert_int_equal(mr_api_start(&o, &s->api, &detail), MR_OK);
    *state = s;
    return 0;
}

static int service_stop(void **state)
{
    struct service *s = *state;
    char command[128];

    mr_api_quiesce(s->api);
    fake_raft_stop(&s->raft);
    mr_api_stop(s->api);
    mr_kv_close(s->kv);
    mr_why_close(s->why);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", s->dir);
    assert_int_equal(system(command), 0);
    free(s);
    return 0;
}

/* Send a request on a connection of its own; returns the connection. */
static int service_send(struct service *s, const char *method,
                        const char *target, const char *body)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(mr_api_port(s->api)),
                            .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct mr_buf b = MR_BUF_INIT;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    mr_buf_printf(&b,
                  "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                  "Content-Length: %zu\r\n\r\n%s",
                  method, target, strlen(body), body);
    assert_int_equal(send(fd, b.data, b.len, MSG_NOSIGNAL), b.len);
    mr_buf_deinit(&b);
    return fd;
}

/* Read the answer that ends with the connection @fd. */
static void service_receive(struct service *s, int fd)
{
    size_t len = 0;
    ssize_t n;
    char *end;

    while ((n = recv(fd, s->answer + len, sizeof s->answer - 1 - len, 0)) > 0) {
        len += (size_t)n;
    }
    close(fd);
    s->answer[len] = '\0';
    end = strstr(s->answer, "\r\n\r\n");
    assert_non_null(end);
    s->status = atoi(s->answer + strlen("HTTP/1.1 "));
    s->body = end + 4;
}

static void service_ask(struct service *s, const char *method,
                        const char *target, const char *body)
{
    service_receive(s, service_send(s, method, target, body));
}

/* The request answers with @status and exactly @answer. */
static void expect(struct service *s, const char *method, const char *target,
                   const char *body, int status, const char *answer)
{
    service_ask(s, method, target, body);
    if (s->status != status || strcmp(s->body, answer) != 0) {
        fail_msg("%s %s %s: %d \"%s\"", method, target, body, s->status,
                 s->body);
    }
}

/* A PUT that answers 200. */
static void put(struct service *s, const char *target, const char *body)
{
    service_ask(s, "PUT", target, body);
    if (s->status != 200) {
        fail_msg("PUT %s %s: %d \"%s\"", target, body, s->status, s->body);
    }
}

/* A GET that answers @status with @part somewhere, head included. */
static void expect_part(struct service *s, const char *target, int status,
                        const char *part)
{
    service_ask(s, "GET", target, "");
    if (s->status != status || strstr(s->answer, part) == NULL) {
        fail_msg("GET %s: %d, no %s in \"%s\"", target, s->status, part,
                 s->answer);
    }
}

#endif /* TESTS_API_SERVICE_H */
