/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/agent/why: what became of a registration, and its sentences. */
#include "tests/unit/api_service.h"

#include "api/why_text.h"

#define TEXT(s) ((char *)(uintptr_t)(s))
#define TIME_MS 1763702621123 /* 2025-11-21 05:23:41.123 UTC */

/* ------------------------------------------------------------- helpers */

struct waiting {
    struct mr_write write;
    atomic_bool is_done;
};

static void on_applied(struct mr_raft_proposal *proposal, enum mr_err err)
{
    struct mr_write *write =
        mr_container_of(proposal, struct mr_write, proposal);

    assert_int_equal(err, MR_OK);
    atomic_store(&mr_container_of(write, struct waiting, write)->is_done, true);
}

/* Get @cmd applied, stamped as the server does. */
static void apply(struct service *s, Mr__Command *cmd)
{
    struct waiting w = {.write = {.proposal = {.done = on_applied}}};
    struct mr_buf bytes = MR_BUF_INIT;

    cmd->time_ms = TIME_MS;
    cmd->by = cmd->by[0] == '\0' ? TEXT("n1 for 10.0.0.7") : cmd->by;
    mr_kv_command_encode(cmd, &bytes);
    w.write.proposal.cmd = mr_buf_slice(&bytes);
    assert_int_equal(mr_raft_propose(&s->raft, &w.write.proposal), MR_OK);
    while (!atomic_load(&w.is_done)) {
        (void)sched_yield();
    }
    mr_buf_deinit(&bytes);
}

/* Register @node, and on it, when it has a name, the service @name with the ID
 * @id. An agent's node when @node_ttl_ms is not 0. */
static void add(struct service *s, const char *node, uint64_t node_ttl_ms,
                const char *name, const char *id)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Register body = MR__REGISTER__INIT;
    Mr__Node row = MR__NODE__INIT;
    Mr__Service service = MR__SERVICE__INIT;
    Mr__Check check = MR__CHECK__INIT;
    Mr__Service *services[] = {&service};
    Mr__Check *checks[] = {&check};

    row.name = TEXT(node);
    row.address = TEXT("10.1.1.1");
    row.ttl_ms = node_ttl_ms;
    row.reap_ms = 60000;
    check.check_id = TEXT("serfHealth");
    check.name = TEXT("Serf Health Status");
    check.status = TEXT("passing");
    service.name = TEXT(name);
    service.id = TEXT(id);
    if (node_ttl_ms == 0) {
        service.origin = MR__ORIGIN__REGISTRY;
        service.ttl_ms = 3000;
    }
    body.node = &row;
    body.services = services;
    body.n_services = name[0] != '\0';
    body.checks = checks;
    body.n_checks = node_ttl_ms != 0;
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = &body;
    apply(s, &cmd);
}

struct newest_lease {
    Mr__LeaseKind kind;
    uint64_t id;
};

static bool take_lease(void *arg, const Mr__Lease *lease)
{
    struct newest_lease *newest = arg;

    if (lease->kind == newest->kind) {
        newest->id = lease->id;
    }
    return true;
}

/* End the newest lease of @kind, as leader n2 does. */
static void end_lease(struct service *s, Mr__LeaseKind kind)
{
    static uint32_t gaps[] = {3000, 3040, 3199};
    struct newest_lease newest = {kind, 0};
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__LeaseEnd body = MR__LEASE_END__INIT;
    Mr__LeaseEnd__Ended ended = MR__LEASE_END__ENDED__INIT;
    Mr__LeaseEnd__Ended *list[] = {&ended};
    struct mr_kv_view *view;

    assert_int_equal(mr_kv_view_begin(s->kv, &view), MR_OK);
    assert_int_equal(mr_kv_lease_list(view, take_lease, &newest), MR_OK);
    mr_kv_view_end(view);
    assert_int_not_equal(newest.id, 0);
    ended.id = newest.id;
    ended.silent_ms = 10234;
    ended.gaps_ms = gaps;
    ended.n_gaps_ms = MR_ARRAY_LEN(gaps);
    body.leases = list;
    body.n_leases = 1;
    body.leader = TEXT("n2");
    body.term = 4;
    cmd.by = TEXT("leader n2");
    cmd.op_case = MR__COMMAND__OP_LEASE_END;
    cmd.lease_end = &body;
    apply(s, &cmd);
}

/* ------------------------------------------------------------- services */

/* A registration that is renewed says until when it lives. */
static void a_living_service_says_until_when(void **state)
{
    struct service *s = *state;

    add(s, "registry:web", 0, "web", "web-1");
    s->age = (struct mr_lease_age){
        .ttl_ms = 3000, .silent_ms = 1200, .gaps_ms = {1000}, .n_gaps = 1};
    expect_part(s, "/v1/agent/why/service/web-1", 200,
                "\"Why\":\"Service web (ID web-1) on node registry:web is "
                "registered and shown in health and DNS answers; its "
                "registration was renewed 1.2 s ago, ends in 1.8 s unless "
                "renewed again (TTL 3.0 s); the one before came 1.0 s "
                "earlier.\",\"Registered\":true,\"Server\":\"n1\"");
    expect_part(s, "/v1/agent/why/service/WEB", 200,
                "\"Kind\":\"registration\",\"TTLMs\":3000,\"SilentMs\":1200,"
                "\"LeftMs\":1800,\"GapsMs\":[1000]}");
    expect_part(s, "/v1/agent/why/service/web", 200,
                "\"Why\":\"service web (ID web-1) on node registry:web was "
                "registered by the client 10.0.0.7 through n1\"");
}

/* One that was not renewed says who ended it, when and on what evidence. */
static void an_ended_service_names_the_evidence(void **state)
{
    struct service *s = *state;

    add(s, "registry:web", 0, "web", "web-1");
    end_lease(s, MR__LEASE_KIND__LEASE_REGISTRATION);
    expect_part(s, "/v1/agent/why/service/web-1", 200,
                "\"Why\":\"It is not registered: service web (ID web-1) on "
                "node registry:web was removed by leader n2 in term 4: no "
                "renewal for 10.2 s (TTL 3.0 s); the ones before came 3.1, 3.0 "
                "and 3.0 s apart, at 2025-11-21 05:23:41.123 UTC (revision ");
    expect_part(s, "/v1/agent/why/service/web-1", 200,
                "\"Leader\":\"n2\",\"Term\":4,\"Lease\":{\"ID\":");
    expect_part(s, "/v1/agent/why/service/web-1", 200, "\"Registered\":false");
}

/* One that somebody took out says who. */
static void a_deregistered_service_says_who_did_it(void **state)
{
    struct service *s = *state;
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Deregister body = MR__DEREGISTER__INIT;

    add(s, "registry:web", 0, "web", "web-1");
    body.node = TEXT("registry:web");
    body.service_id = TEXT("web-1");
    cmd.op_case = MR__COMMAND__OP_DEREGISTER;
    cmd.deregister = &body;
    apply(s, &cmd);
    expect_part(s, "/v1/agent/why/service/web-1", 200,
                "It is not registered: service web (ID web-1) on node "
                "registry:web was deregistered on request by the client "
                "10.0.0.7 through n1, at 2025-11-21");
}

/* The dead agent of its node is why a service is hidden. */
static void a_hidden_service_names_its_dead_agent(void **state)
{
    struct service *s = *state;

    add(s, "host-7", 4000, "web", "web-1");
    end_lease(s, MR__LEASE_KIND__LEASE_NODE);
    s->age = (struct mr_lease_age){.ttl_ms = 60000, .silent_ms = 5000};
    expect_part(s, "/v1/agent/why/service/web-1", 200,
                "is registered but hidden from health and DNS answers: check "
                "serfHealth on node host-7 was made critical by leader n2 in "
                "term 4: the agent of node host-7 was silent for 10.2 s "
                "(node_ttl 4.0 s)");
    expect_part(s, "/v1/agent/why/node/host-7", 200,
                "\"Why\":\"Node host-7 (10.1.1.1) is registered, its agent is "
                "dead: check serfHealth on node host-7 was made critical");
    expect_part(s, "/v1/agent/why/node/host-7", 200, "\"Kind\":\"dead-node\"");
    expect_part(s, "/v1/agent/why/check/serfHealth", 200,
                "Check serfHealth on node host-7 is critical: check serf");
}

/* A service that went with its node names the agent. */
static void a_reaped_service_names_its_dead_agent(void **state)
{
    struct service *s = *state;

    add(s, "host-7", 4000, "web", "web-1");
    end_lease(s, MR__LEASE_KIND__LEASE_NODE);
    end_lease(s, MR__LEASE_KIND__LEASE_NODE_REAP);
    expect_part(s, "/v1/agent/why/service/web-1", 200,
                "was removed by leader n2 in term 4: the agent of node host-7 "
                "was dead for 10.2 s (reconnect_timeout");
    expect_part(s, "/v1/agent/why/service/web-1", 200,
                ". Before that, check serfHealth on node host-7 was made "
                "critical by leader n2 in term 4: the agent of node host-7 was "
                "silent for 10.2 s (node_ttl 4.0 s)");
    expect_part(s, "/v1/agent/why/node/host-7", 200,
                "It is not registered: node host-7 was removed by leader n2");
}

/* An agent that came back and died again: the second death counts. */
static void an_old_death_explains_nothing(void **state)
{
    struct service *s = *state;
    char *first;

    add(s, "host-7", 4000, "web", "web-1");
    end_lease(s, MR__LEASE_KIND__LEASE_NODE);
    end_lease(s, MR__LEASE_KIND__LEASE_NODE_REAP);
    service_ask(s, "GET", "/v1/agent/why/service/web-1", "");
    first = strdup(strstr(s->body, ". Before that, "));
    *strstr(first, "\",\"") = '\0';
    add(s, "host-7", 4000, "web", "web-1");
    end_lease(s, MR__LEASE_KIND__LEASE_NODE);
    end_lease(s, MR__LEASE_KIND__LEASE_NODE_REAP);
    service_ask(s, "GET", "/v1/agent/why/service/web-1", "");
    assert_non_null(strstr(s->body, ". Before that, check serfHealth"));
    assert_null(strstr(s->body, first));
    free(first);
}

/* A service without any lease is one that can become a zombie. */
static void a_service_that_nobody_renews_says_so(void **state)
{
    struct service *s = *state;

    put(s, "/v1/catalog/register",
        "{\"Node\":\"x\",\"Address\":\"10.0.0.1\","
        "\"Service\":{\"Service\":\"db\"}}");
    expect_part(s, "/v1/agent/why/service/db", 200,
                "nobody renews it: it stays until somebody deregisters it");
    expect_part(s, "/v1/agent/why/node/x", 200,
                "no agent renews it: it stays until somebody deregisters it");
}

/* What was never there says how far back that is known. */
static void an_unknown_service_was_never_heard_of(void **state)
{
    add(*state, "registry:web", 0, "web", "web-1");
    expect_part(*state, "/v1/agent/why/service/nobody", 200,
                "It is not registered, and this server never heard of it: the "
                "events that it keeps reach back to 20");
    expect_part(*state, "/v1/agent/why/session/nobody", 200,
                "\"State\":[],\"EventsSince\":\"20");
}

/* Only so many events are told, the newest. */
static void the_number_of_events_can_be_chosen(void **state)
{
    struct service *s = *state;

    for (int i = 0; i < 5; i++) {
        char id[16];

        (void)snprintf(id, sizeof id, "web-%d", i);
        add(s, "registry:web", 0, "web", id);
    }
    service_ask(s, "GET", "/v1/agent/why/service/web?max=1", "");
    assert_null(strstr(strstr(s->body, "\"Events\":"), "web-3"));
    assert_non_null(strstr(strstr(s->body, "\"Events\":"), "web-4"));
}

/* ------------------------------------------------------------- sessions */

static void create_session(struct service *s, const char *id)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__SessionCreate body = MR__SESSION_CREATE__INIT;
    Mr__Session session = MR__SESSION__INIT;

    session.id = TEXT(id);
    session.name = TEXT("lock");
    session.node = TEXT("n1");
    session.ttl_ms = 10000;
    body.session = &session;
    cmd.op_case = MR__COMMAND__OP_SESSION_CREATE;
    cmd.session_create = &body;
    apply(s, &cmd);
}

/* Sessions live and end like registrations. */
static void a_session_says_how_it_ended(void **state)
{
    struct service *s = *state;

    create_session(s, NODE_ID);
    s->age = (struct mr_lease_age){.ttl_ms = 10000, .silent_ms = 12000};
    expect_part(s, "/v1/agent/why/session/" NODE_ID, 200,
                "on node n1 is alive; it was renewed 12.0 s ago, is overdue");
    end_lease(s, MR__LEASE_KIND__LEASE_SESSION);
    expect_part(s, "/v1/agent/why/session/" NODE_ID, 200,
                "was ended by leader n2 in term 4: the session was not renewed "
                "for 10.2 s (TTL 10.0 s)");
}

/* ------------------------------------------------------------- failure */

/* What is asked for must be named, and the number of events be one. */
static void bad_questions_are_refused(void **state)
{
    struct service *s = *state;

    expect(s, "GET", "/v1/agent/why/service/", "", 400, "Missing ID");
    expect(s, "GET", "/v1/agent/why/node/", "", 400, "Missing ID");
    expect(s, "GET", "/v1/agent/why/node/x?max=0", "", 400,
           "Invalid max: want 1 to 1000");
    expect(s, "GET", "/v1/agent/why/node/x?max=-1", "", 400,
           "Invalid max: want 1 to 1000");
    expect(s, "GET", "/v1/agent/why/node/x?max=1001", "", 400,
           "Invalid max: want 1 to 1000");
    service_ask(s, "PUT", "/v1/agent/why/node/x", "");
    assert_int_equal(s->status, 405);
}

/* ------------------------------------------------------------- texts */

static void expect_span(uint64_t ms, const char *text)
{
    struct mr_buf b = MR_BUF_INIT;

    why_text_span(&b, ms);
    assert_string_equal(mr_buf_cstr(&b), text);
    mr_buf_deinit(&b);
}

/* Spans have the precision a person needs. */
static void spans_are_short(void **state)
{
    (void)state;
    expect_span(0, "0.000 s");
    expect_span(45, "0.045 s");
    expect_span(10299, "10.2 s");
    expect_span(60000, "1 min");
    expect_span(200999, "3 min 20 s");
    expect_span(3600000, "1 h");
    expect_span(7500000, "2 h 5 min");
    expect_span(273600000, "3 d 4 h");
    expect_span(UINT64_MAX, "213503982334 d 14 h");
}

static void expect_time(uint64_t ms, const char *text)
{
    struct mr_buf b = MR_BUF_INIT;

    why_text_time(&b, ms);
    assert_string_equal(mr_buf_cstr(&b), text);
    mr_buf_deinit(&b);
}

/* Times are UTC, whatever the ring says. */
static void times_are_utc(void **state)
{
    (void)state;
    expect_time(TIME_MS, "2025-11-21 05:23:41.123 UTC");
    expect_time(0, "an unknown time");
    expect_time(UINT64_MAX, "584556019-04-03 14:25:51.615 UTC");
}

static void expect_sentence(const struct mr_kv_event *event, const char *text)
{
    struct mr_buf b = MR_BUF_INIT;

    why_text_event(&b, event);
    assert_string_equal(mr_buf_cstr(&b), text);
    mr_buf_deinit(&b);
}

/* Each kind of lease has its words. */
static void every_end_has_its_evidence(void **state)
{
    static const char *const parts[] = {
        "its check was not passed for 5.0 s (TTL 4.0 s); no earlier renewal "
        "is known",
        "it was critical without a break for 5.0 s "
        "(DeregisterCriticalServiceAfter 4.0 s)",
        "no renewal for 5.0 s (TTL 4.0 s); no earlier renewal is known",
        "the agent of node n1 was silent for 5.0 s (node_ttl 4.0 s); no "
        "earlier renewal is known",
        "the agent of node n1 was dead for 5.0 s (reconnect_timeout 4.0 s)",
        "the session was not renewed for 5.0 s (TTL 4.0 s); no earlier "
        "renewal is known",
        "the lock-delay is over after 5.0 s (lock-delay 4.0 s)",
        "the member had left 5.0 s (remembered for 4.0 s)",
    };
    struct mr_kv_event event = {
        .kind = MR_KV_EVENT_ENDED,
        .subject = MR_KV_SUBJECT_SERVICE,
        .node = "n1",
        .id = "a",
        .service = "b",
        .service_id = "",
        .status = "",
        .by = "",
        .leader = "",
        .ttl_ms = 4000,
        .silent_ms = 5000,
    };

    (void)state;
    for (unsigned i = 0; i < MR_ARRAY_LEN(parts); i++) {
        char text[256];

        event.lease_kind = (Mr__LeaseKind)i;
        (void)snprintf(text, sizeof text,
                       "service b (ID a) on node n1 was removed: %s", parts[i]);
        expect_sentence(&event, text);
    }
}

/* One gap is in the singular. */
static void one_gap_is_told(void **state)
{
    static const uint32_t gap = 1500;
    struct mr_kv_event event = {.kind = MR_KV_EVENT_ENDED,
                                .subject = MR_KV_SUBJECT_CHECK,
                                .node = "n1",
                                .id = "c",
                                .service = "",
                                .service_id = "",
                                .status = "critical",
                                .by = "",
                                .leader = "n2",
                                .term = 7,
                                .ttl_ms = 4000,
                                .silent_ms = 4001,
                                .gaps_ms = &gap,
                                .n_gaps = 1};

    (void)state;
    expect_sentence(&event, "check c on node n1 was made critical by leader n2 "
                            "in term 7: its check was not passed for 4.0 s "
                            "(TTL 4.0 s); the one before came 1.5 s earlier");
}

#define with_service(name)                                                     \
    cmocka_unit_test_setup_teardown(name, service_start, service_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_service(a_living_service_says_until_when),
        with_service(an_ended_service_names_the_evidence),
        with_service(a_deregistered_service_says_who_did_it),
        with_service(a_hidden_service_names_its_dead_agent),
        with_service(a_reaped_service_names_its_dead_agent),
        with_service(an_old_death_explains_nothing),
        with_service(a_service_that_nobody_renews_says_so),
        with_service(an_unknown_service_was_never_heard_of),
        with_service(the_number_of_events_can_be_chosen),
        with_service(a_session_says_how_it_ended),
        with_service(bad_questions_are_refused),
        cmocka_unit_test(spans_are_short),
        cmocka_unit_test(times_are_utc),
        cmocka_unit_test(every_end_has_its_evidence),
        cmocka_unit_test(one_gap_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
