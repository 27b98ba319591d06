/* SPDX-License-Identifier: Apache-2.0 */
/* api: sessions, locks and fencing numbers over a real kv. */
#include "tests/unit/api_service.h"

#include "base/mem.h"
#include "base/text.h"

#define NOBODY "adf4238a-882b-9ddc-4a9d-5b6758e4159e"
#define BAD_UUID                                                               \
    "failed session lookup: index error: UUID must be 36 characters"

/* Create a session; returns its ID in a buffer of its own. */
static char *create(struct service *s, const char *body)
{
    static char ids[8][MR_UUID_LEN + 1];
    static unsigned next;
    char *id = ids[next++ % MR_ARRAY_LEN(ids)];

    put(s, "/v1/session/create", body);
    assert_int_equal(strncmp(s->body, "{\"ID\":\"", 7), 0);
    memcpy(id, s->body + 7, MR_UUID_LEN);
    id[MR_UUID_LEN] = '\0';
    assert_true(mr_uuid_valid(id));
    return id;
}

/* A formatted text, valid until the next but three. */
static const char *text(const char *fmt, ...) MR_PRINTF(1, 2);
static const char *text(const char *fmt, ...)
{
    static char texts[4][1024];
    static unsigned next;
    char *out = texts[next++ % MR_ARRAY_LEN(texts)];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(out, sizeof texts[0], fmt, ap);
    va_end(ap);
    return out;
}

/* The fencing number that the last answer told; 0: none. */
static unsigned long long fence(const struct service *s)
{
    const char *at = strstr(s->answer, "X-Microreg-Fence: ");

    return at == NULL || at > s->body ? 0 : strtoull(at + 18, NULL, 10);
}

/* ------------------------------------------------------------- success */

/* Without a body a session has Consul's defaults. */
static void a_session_has_defaults(void **state)
{
    struct service *s = *state;
    const char *id = create(s, "");

    expect_part(s, text("/v1/session/info/%s", id), 200,
                "\"Name\":\"\",\"Node\":\"n1\",\"LockDelay\":15000000000,"
                "\"Behavior\":\"release\",\"TTL\":\"\",\"NodeChecks\":"
                "[\"serfHealth\"],\"ServiceChecks\":null,");
    expect_part(s, "/v1/session/list", 200, id);
    expect_part(s, "/v1/session/node/N1", 200, id);
    expect(s, "GET", "/v1/session/node/nosuch", "", 200, "[]");
    expect(s, "PUT", text("/v1/session/destroy/%s", id), "", 200, "true");
    expect(s, "GET", text("/v1/session/info/%s", id), "", 200, "[]");
    expect(s, "GET", "/v1/session/list", "", 200, "[]");
}

/* What is given is kept, names in any case, unknown members ignored. */
static void a_session_keeps_what_is_given(void **state)
{
    struct service *s = *state;
    const char *id =
        create(s, "{\"name\":\"s\",\"TTL\":\"1h30m\",\"lockdelay\":5,"
                  "\"Behavior\":\"delete\",\"Checks\":[],\"Bogus\":1}");

    expect_part(s, text("/v1/session/info/%s", id), 200,
                "\"Name\":\"s\",\"Node\":\"n1\",\"LockDelay\":5000000000,"
                "\"Behavior\":\"delete\",\"TTL\":\"1h30m\",\"NodeChecks\":[],");
    id = create(s, "{\"LockDelay\":\"500ms\",\"TTL\":\"1s\"}");
    expect_part(s, text("/v1/session/info/%s", id), 200,
                "\"LockDelay\":500000000,\"Behavior\":\"release\","
                "\"TTL\":\"1s\"");
    id = create(s, "{\"LockDelay\":1}"); /* A number of seconds. */
    expect_part(s, text("/v1/session/info/%s", id), 200,
                "\"LockDelay\":1000000000,");
}

/* A renewal asks the leases and answers with the session. */
static void a_renewal_answers_with_the_session(void **state)
{
    struct service *s = *state;
    const char *id = create(s, "{\"TTL\":\"10s\"}");
    unsigned before = (unsigned)atomic_load(&s->renewals);

    put(s, text("/v1/session/renew/%s", id), "");
    assert_non_null(strstr(s->body, text("[{\"ID\":\"%s\"", id)));
    assert_int_equal(atomic_load(&s->renewals), before + 1);
    id = create(s, "{}"); /* Without a TTL there is nothing to renew. */
    put(s, text("/v1/session/renew/%s", id), "");
    assert_int_equal(atomic_load(&s->renewals), before + 1);
}

/* One holder at a time; a release lets the next one in at once. */
static void a_lock_has_one_holder(void **state)
{
    struct service *s = *state;
    const char *a = create(s, "{}");
    const char *b = create(s, "{}");

    expect(s, "PUT", text("/v1/kv/lk?acquire=%s&flags=7", a), "va", 200,
           "true");
    expect(s, "PUT", text("/v1/kv/lk?acquire=%s", b), "vb", 200, "false");
    assert_int_equal(fence(s), 0);
    expect_part(s, "/v1/kv/lk", 200,
                text("{\"LockIndex\":1,\"Key\":\"lk\",\"Flags\":7,\"Value\":"
                     "\"dmE=\",\"Session\":\"%s\"",
                     a));
    expect(s, "PUT", text("/v1/kv/lk?release=%s", b), "", 200, "false");
    expect(s, "PUT", text("/v1/kv/lk?release=%s", a), "x", 200, "true");
    expect(s, "PUT", text("/v1/kv/lk?acquire=%s", b), "vb", 200, "true");
    expect_part(s, "/v1/kv/lk", 200, "\"LockIndex\":2");
}

/* Each holder has a greater number, told to it and to who reads the key. */
static void fencing_numbers_grow(void **state)
{
    struct service *s = *state;
    const char *a = create(s, "{\"LockDelay\":\"0s\"}");
    const char *b = create(s, "{}");
    unsigned long long first;

    expect(s, "PUT", text("/v1/kv/lk?acquire=%s", a), "", 200, "true");
    first = fence(s);
    assert_true(first > 0);
    expect(s, "PUT", text("/v1/kv/lk?acquire=%s", a), "again", 200, "true");
    assert_int_equal(fence(s), first);
    service_ask(s, "GET", "/v1/kv/lk", "");
    assert_int_equal(fence(s), first);
    service_ask(s, "GET", "/v1/kv/lk?raw", "");
    assert_int_equal(fence(s), first);
    put(s, text("/v1/session/destroy/%s", a), "");
    service_ask(s, "GET", "/v1/kv/lk", "");
    assert_int_equal(fence(s), 0);
    expect(s, "PUT", text("/v1/kv/lk?acquire=%s", b), "", 200, "true");
    assert_true(fence(s) > first);
}

/* A write under a number that is over changes nothing. */
static void a_fenced_write_needs_the_present_holder(void **state)
{
    struct service *s = *state;
    const char *a = create(s, "{\"LockDelay\":\"0s\"}");
    const char *b = create(s, "{}");
    unsigned long long old;

    put(s, text("/v1/kv/lk?acquire=%s", a), "");
    old = fence(s);
    expect(s, "PUT", text("/v1/kv/data?fence=%llu&fence-key=lk", old), "1", 200,
           "true");
    put(s, text("/v1/session/destroy/%s", a), "");
    expect(s, "PUT", text("/v1/kv/data?fence=%llu&fence-key=lk", old), "2", 200,
           "false");
    put(s, text("/v1/kv/lk?acquire=%s", b), "");
    expect(s, "PUT", text("/v1/kv/data?fence=%llu&fence-key=lk", old), "2", 200,
           "false");
    expect(s, "DELETE", text("/v1/kv/data?fence=%llu&fence-key=lk", old), "",
           200, "false");
    expect(s, "DELETE", text("/v1/kv/?recurse&fence=%llu&fence-key=lk", old),
           "", 200, "false");
    expect(s, "GET", "/v1/kv/data?raw", "", 200, "1");
}

/* A blocking query of the sessions wakes when one comes. */
static void a_new_session_wakes_readers(void **state)
{
    struct service *s = *state;
    const char *index;
    const char *id;
    int fd;

    create(s, "{}");
    service_ask(s, "GET", "/v1/session/list", "");
    index = strstr(s->answer, "X-Consul-Index: ");
    assert_non_null(index);
    fd = service_send(s, "GET",
                      text("/v1/session/list?wait=60s&index=%s",
                           text("%llu", strtoull(index + 16, NULL, 10))),
                      "");
    id = create(s, "{\"Name\":\"new\"}");
    service_receive(s, fd);
    assert_non_null(strstr(s->body, id));
}

/* ------------------------------------------------------------- failure */

/* Each bad body is refused in Consul's words and changes nothing. */
static void bad_sessions_are_refused(void **state)
{
    static const struct {
        const char *body;
        int status;
        const char *answer;
    } cases[] = {
        {"{\"TTL\":\"999ms\"}", 500,
         "Invalid Session TTL '999000000', must be between [1s=24h0m0s]"},
        {"{\"TTL\":\"25h\"}", 500,
         "Invalid Session TTL '90000000000000', must be between [1s=24h0m0s]"},
        {"{\"TTL\":\"-1s\"}", 500,
         "Invalid Session TTL '-1000000000', must be between [1s=24h0m0s]"},
        {"{\"TTL\":\"bogus\"}", 500,
         "Session TTL 'bogus' invalid: time: invalid duration \"bogus\""},
        {"{\"Behavior\":\"bogus\"}", 500, "Invalid Behavior setting 'bogus'"},
        {"{\"Node\":\"nosuch\"}", 500, "Missing node registration"},
        {"{\"Checks\":[\"nosuch\"]}", 500,
         "Missing check 'nosuch' registration"},
        {"{\"ServiceChecks\":[{}]}", 500, "Missing check '' registration"},
        {"{\"LockDelay\":\"-1s\"}", 500,
         "Invalid LockDelay '-1000000000', must not be negative"},
        {"{\"LockDelay\":\"5\"}", 400,
         "Request decode failed: time: missing unit in duration \"5\""},
        {"{\"Checks\":\"x\"}", 400,
         "Request decode failed: json: cannot unmarshal string into Go struct "
         "field .Checks of type []types.CheckID"},
        {"[]", 400,
         "Request decode failed: json: cannot unmarshal array into Go value of "
         "type struct { LockDelay interface {}; *structs.Alias }"},
        {"[", 400, "Request decode failed: unexpected EOF"},
    };
    struct service *s = *state;

    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        expect(s, "PUT", "/v1/session/create", cases[i].body, cases[i].status,
               cases[i].answer);
    }
    expect(s, "GET", "/v1/session/list", "", 200, "[]");
}

/* What would grow the state without bound is refused. */
static void huge_sessions_are_refused(void **state)
{
    struct service *s = *state;
    struct mr_buf body = MR_BUF_INIT;

    mr_buf_printf(&body, "{\"Name\":\"%0600d\"}", 0);
    expect(s, "PUT", "/v1/session/create", mr_buf_cstr(&body), 500,
           "Session name is too long (limit: 512 bytes)");
    mr_buf_reset(&body);
    mr_buf_str(&body, "{\"Checks\":[\"a\"");
    for (int i = 0; i < 128; i++) {
        mr_buf_str(&body, ",\"serfHealth\"");
    }
    mr_buf_str(&body, "]}");
    expect(s, "PUT", "/v1/session/create", mr_buf_cstr(&body), 500,
           "Session has too many checks (limit: 128)");
    mr_buf_reset(&body);
    mr_buf_printf(&body, "{\"Node\":\"%09000d\"}", 0);
    expect(s, "PUT", "/v1/session/create", mr_buf_cstr(&body), 500,
           "Missing node registration");
    mr_buf_deinit(&body);
}

/* IDs that are missing, malformed or of nobody. */
static void unknown_sessions_are_told_apart(void **state)
{
    struct service *s = *state;

    expect(s, "GET", "/v1/session/info/", "", 400, "Missing session");
    expect(s, "GET", "/v1/session/info/x", "", 500, BAD_UUID);
    expect(s, "GET", "/v1/session/info/zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz",
           "", 500, "failed session lookup: index error: Invalid UUID");
    expect(s, "GET", "/v1/session/info/" NOBODY, "", 200, "[]");
    expect(s, "GET", "/v1/session/node/", "", 400, "Missing node name");
    expect(s, "PUT", "/v1/session/renew/", "", 400, "Missing session");
    expect(s, "PUT", "/v1/session/renew/x", "", 500, BAD_UUID);
    expect(s, "PUT", "/v1/session/renew/" NOBODY, "", 404,
           "Session id '" NOBODY "' not found");
    expect(s, "PUT", "/v1/session/destroy/x", "", 500, BAD_UUID);
    expect(s, "PUT", "/v1/session/destroy/" NOBODY, "", 200, "true");
}

/* A lease that the leader does not know has ended, and with it the session. */
static void a_renewal_that_comes_too_late_is_told(void **state)
{
    struct service *s = *state;
    const char *id = create(s, "{\"TTL\":\"10s\"}");

    atomic_store(&s->n_forget, 1);
    expect(s, "PUT", text("/v1/session/renew/%s", id), "", 404,
           text("Session id '%s' not found", id));
    atomic_store(&s->fail_renew, MR_E_NOLEADER);
    expect(s, "PUT", text("/v1/session/renew/%s", id), "", 500,
           "No cluster leader");
    atomic_store(&s->fail_renew, MR_OK);
}

/* Before a session is called unknown the leader's state is looked at. */
static void an_unknown_session_is_looked_up_afresh(void **state)
{
    struct service *s = *state;

    atomic_store(&s->raft.is_follower, true);
    expect(s, "PUT", "/v1/session/renew/" NOBODY, "", 404,
           "Session id '" NOBODY "' not found");
    assert_true(atomic_load(&s->raft.reads) > 0);
    atomic_store(&s->raft.fail_read, MR_E_NOLEADER);
    expect(s, "PUT", "/v1/session/renew/" NOBODY, "", 500, "No cluster leader");
}

/* Locks by sessions that are none. */
static void bad_locks_are_refused(void **state)
{
    struct service *s = *state;

    expect(s, "PUT", "/v1/kv/lk?acquire=", "", 500, "missing session");
    expect(s, "PUT", "/v1/kv/lk?release=", "", 500, "missing session");
    expect(s, "PUT", "/v1/kv/lk?acquire=x", "", 500, BAD_UUID);
    expect(s, "PUT", "/v1/kv/lk?release=x", "", 200, "false");
    expect(s, "PUT", "/v1/kv/lk?acquire=" NOBODY, "", 500,
           "invalid session \"" NOBODY "\"");
    expect(s, "PUT", "/v1/kv/lk?release=" NOBODY, "", 200, "false");
    expect(s, "GET", "/v1/kv/lk", "", 404, "");
}

/* A condition that is no condition must not pass as one. */
static void bad_fences_are_refused(void **state)
{
    struct service *s = *state;

    expect(s, "PUT", "/v1/kv/a?fence=5", "", 400,
           "Missing fence-key: a fenced write needs ?fence=NUMBER and "
           "?fence-key=KEY");
    expect(s, "DELETE", "/v1/kv/a?fence-key=lk", "", 400,
           "Missing fence: a fenced write needs ?fence=NUMBER and "
           "?fence-key=KEY");
    expect(s, "PUT", "/v1/kv/a?fence=5&fence-key=", "", 400,
           "Missing fence-key: a fenced write needs ?fence=NUMBER and "
           "?fence-key=KEY");
    expect(s, "PUT", "/v1/kv/a?fence=0&fence-key=lk", "", 400,
           "Invalid fence: no lock has the number 0");
    expect(s, "PUT", "/v1/kv/a?fence=-1&fence-key=lk", "", 400,
           "Invalid fence: strconv.ParseUint: parsing \"-1\": invalid syntax");
    expect(s, "PUT", "/v1/kv/a?fence=7&fence-key=lk", "", 200, "false");
    expect(s, "GET", "/v1/kv/a", "", 404, "");
}

#define TEST(name)                                                             \
    cmocka_unit_test_setup_teardown(name, service_start, service_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_session_has_defaults),
        TEST(a_session_keeps_what_is_given),
        TEST(a_renewal_answers_with_the_session),
        TEST(a_lock_has_one_holder),
        TEST(fencing_numbers_grow),
        TEST(a_fenced_write_needs_the_present_holder),
        TEST(a_new_session_wakes_readers),
        TEST(bad_sessions_are_refused),
        TEST(huge_sessions_are_refused),
        TEST(unknown_sessions_are_told_apart),
        TEST(a_renewal_that_comes_too_late_is_told),
        TEST(an_unknown_session_is_looked_up_afresh),
        TEST(bad_locks_are_refused),
        TEST(bad_fences_are_refused),
    };

    return cmocka_run_group_tests_name("api_session", tests, NULL, NULL);
}
