/* SPDX-License-Identifier: Apache-2.0 */
/* client-lib/call, register, kv: what is sent, and what becomes of answers. */
#include "client-lib/call.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/client_server.h"

#define N_OF(array) ((int)(sizeof(array) / sizeof *(array)))
#define REGISTERED                                                             \
    FAKE_JSON "{\"index\":7,\"nodes\":[{\"id\":\"x\",\"digest\":\"d1\","       \
              "\"lease\":1}]}"
#define RENEWED                                                                \
    FAKE_JSON "{\"index\":7,\"renewed\":1,\"unknown\":[],\"fenced\":[]}"
#define UNKNOWN                                                                \
    "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n"                      \
    "{\"index\":7,\"renewed\":0,\"unknown\":[{\"name\":\"a\",\"id\":\"x\"}],"  \
    "\"fenced\":[]}"
#define NO_LEADER                                                              \
    "HTTP/1.1 500 Internal\r\nConnection: close\r\n\r\nNo cluster leader"
#define BUSY                                                                   \
    "HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\n"                           \
    "Too many requests are waiting, nothing was changed"
#define SERVICE                                                                \
    "{\"name\":\"a\",\"version\":\"1\",\"nodes\":"                             \
    "[{\"id\":\"x\",\"address\":\"h:1\"}]}"

struct fixture {
    struct fake_server fake;
    struct microreg *client;
    struct microreg_error error;
};

static void begin(struct fixture *f, const char *const *answers, int n)
{
    struct microreg_options options = MICROREG_OPTIONS_INIT;

    memset(&f->error, 0, sizeof f->error);
    fake_start(&f->fake, answers, n, false);
    options.addresses = f->fake.address;
    options.timeout_ms = 600;
    options.token = "secret";
    assert_int_equal(microreg_open(&options, &f->client, &f->error),
                     MICROREG_OK);
}

static void end(struct fixture *f)
{
    microreg_close(f->client);
    fake_stop(&f->fake);
}

static int put_service(struct fixture *f)
{
    return microreg_register_json(f->client, SERVICE, strlen(SERVICE), 5000, 0,
                                  &f->error);
}

/* ------------------------------------------------------------- success */

/* The same registration again is a renewal by its digest. */
static void a_repeated_registration_is_a_renewal(void **state)
{
    static const char *const answers[] = {REGISTERED, RENEWED, UNKNOWN,
                                          REGISTERED};
    struct fixture f;

    (void)state;
    begin(&f, answers, N_OF(answers));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(put_service(&f), MICROREG_OK);
    }
    assert_non_null(
        strstr(fake_request(&f.fake, 1), "POST /registry?ttl=5000ms "));
    assert_non_null(strstr(fake_request(&f.fake, 1), SERVICE));
    assert_non_null(strstr(fake_request(&f.fake, 1), "X-Consul-Token: secret"));
    assert_non_null(strstr(fake_request(&f.fake, 2), "PUT /registry/renew "));
    assert_non_null(strstr(
        fake_request(&f.fake, 2),
        "{\"nodes\":[{\"name\":\"a\",\"id\":\"x\",\"digest\":\"d1\"}]}"));
    assert_non_null(strstr(fake_request(&f.fake, 4), "POST /registry?"));
    end(&f);
}

/* An election is waited for; the answer that comes then counts. */
static void a_server_without_leader_is_asked_again(void **state)
{
    static const char *const answers[] = {NO_LEADER, NULL, BUSY,
                                          FAKE_JSON "[]"};
    struct microreg_services *services;
    struct fixture f;

    (void)state;
    begin(&f, answers, N_OF(answers));
    assert_int_equal(microreg_list_services(f.client, 0, &services, &f.error),
                     MICROREG_OK);
    assert_int_equal(services->n, 0);
    assert_int_equal(services->index, 7);
    assert_int_equal(fake_count(&f.fake), 4);
    microreg_services_free(services);
    end(&f);
}

/* Refusals that say so changed nothing, so even a put may be repeated. */
static void a_put_that_was_not_done_is_repeated(void **state)
{
    static const char *const answers[] = {NO_LEADER, BUSY, FAKE_JSON "true"};
    const struct microreg_kv_options options = {
        .flags = 3, .has_cas = true, .cas = 9, .fence_key = "l/k", .fence = 4};
    struct fixture f;

    (void)state;
    begin(&f, answers, N_OF(answers));
    assert_int_equal(
        microreg_kv_put(f.client, "a b/c", "v", 1, &options, &f.error),
        MICROREG_OK);
    assert_non_null(
        strstr(fake_request(&f.fake, 3),
               "PUT /v1/kv/a%20b/c?&flags=3&cas=9&fence=4&fence-key=l/k HTTP"));
    end(&f);
}

/* However many servers say nothing: one that answers is found. */
static void a_good_server_behind_silent_ones_is_asked(void **state)
{
    static const char *const silence[] = {""};
    static const char *const answers[] = {FAKE_JSON "[]"};
    struct microreg_options options = MICROREG_OPTIONS_INIT;
    struct microreg_services *services;
    struct fake_server silent[5];
    struct fake_server good;
    struct microreg *client;
    char addresses[256] = "";
    uint64_t begin_ms;

    (void)state;
    for (int i = 0; i < 5; i++) {
        fake_start(&silent[i], silence, 1, true);
        strcat(strcat(addresses, silent[i].address), ",");
    }
    fake_start(&good, answers, 1, false);
    options.addresses = strcat(addresses, good.address);
    assert_int_equal(microreg_open(&options, &client, NULL), MICROREG_OK);
    begin_ms = mrg_now_ms();
    assert_int_equal(microreg_list_services(client, 0, &services, NULL),
                     MICROREG_OK);
    assert_in_range(mrg_now_ms() - begin_ms, 0, 5 * MRG_HEDGE_MS + 500);
    microreg_services_free(services);
    microreg_close(client);
    fake_stop(&good);
    for (int i = 0; i < 5; i++) {
        fake_stop(&silent[i]);
    }
}

/* ------------------------------------------------------------- failure */

/* What may have been done is not done again. */
static void a_put_without_an_answer_is_sent_once(void **state)
{
    static const char *const answers[] = {NULL, FAKE_JSON "true"};
    struct fixture f;

    (void)state;
    begin(&f, answers, N_OF(answers));
    assert_int_equal(microreg_kv_put(f.client, "k", "v", 1, NULL, &f.error),
                     MICROREG_E_TIMEOUT);
    assert_int_equal(f.error.code, MICROREG_E_TIMEOUT);
    assert_non_null(strstr(f.error.text, f.fake.address));
    assert_non_null(strstr(f.error.text, "may or may not"));
    assert_int_equal(fake_count(&f.fake), 1);
    end(&f);
}

/* Each status has its code, and the server's words are in the text. */
static void statuses_become_codes(void **state)
{
    static const struct {
        const char *answer;
        int code;
        const char *words;
    } cases[] = {
        {"HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\nbad thing",
         MICROREG_E_INVALID, "answered 400: bad thing"},
        {"HTTP/1.1 403 No\r\nConnection: close\r\n\r\nPermission denied",
         MICROREG_E_DENIED, "Permission denied"},
        {"HTTP/1.1 409 No\r\nConnection: close\r\n\r\nfenced: 3",
         MICROREG_E_FENCED, "fenced: 3"},
        {"HTTP/1.1 404 No\r\nConnection: close\r\n\r\nnope",
         MICROREG_E_PROTOCOL, "answered 404, but"},
        {NO_LEADER, MICROREG_E_UNAVAILABLE, "No cluster leader"},
        {FAKE_JSON "<html>", MICROREG_E_PROTOCOL,
         "not as a microreg server does: <html>"},
        {"220 smtp ready\r\n", MICROREG_E_PROTOCOL, "not HTTP"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f;

        begin(&f, &cases[i].answer, 1);
        assert_int_equal(put_service(&f), cases[i].code);
        if (strstr(f.error.text, cases[i].words) == NULL) {
            fail_msg("case %zu: %s", i, f.error.text);
        }
        end(&f);
    }
}

/* Whichever allocation fails: an error, and nothing leaks. */
static void a_lack_of_memory_is_an_error_of_the_call(void **state)
{
    static const char *const answers[] = {
        FAKE_JSON
        "[{\"name\":\"a\",\"version\":\"1\",\"metadata\":{\"k\":\"v\"},"
        "\"endpoints\":[{\"name\":\"e\",\"request\":{\"name\":\"r\"}}],"
        "\"nodes\":[{\"id\":\"x\",\"address\":\"h:1\"}]}]"};
    struct microreg_services *services;
    struct fixture f;
    int err = MICROREG_E_NOMEM;

    (void)state;
    begin(&f, answers, 1);
    for (long n = 1; err != MICROREG_OK; n++) {
        mrg_mem_fail_at(n);
        err = microreg_get_service(f.client, "a", 0, &services, &f.error);
        mrg_mem_fail_at(0);
        assert_true(err == MICROREG_OK || err == MICROREG_E_NOMEM ||
                    err == MICROREG_E_PROTOCOL);
        assert_true(n < 200);
    }
    assert_string_equal(services->items[0].nodes[0].address, "h:1");
    assert_string_equal(services->items[0].endpoints[0].request->name, "r");
    assert_string_equal(services->items[0].metadata[0].value, "v");
    microreg_services_free(services);
    end(&f);
}

/* The same for a registration, which keeps something of it. */
static void a_registration_without_memory_can_be_repeated(void **state)
{
    static const char *const answers[] = {REGISTERED};
    struct fixture f;
    int err = MICROREG_E_NOMEM;

    (void)state;
    begin(&f, answers, 1);
    for (long n = 1; err != MICROREG_OK; n++) {
        mrg_mem_fail_at(n);
        err = put_service(&f);
        mrg_mem_fail_at(0);
        assert_true(err == MICROREG_OK || err == MICROREG_E_NOMEM ||
                    err == MICROREG_E_PROTOCOL);
        assert_true(n < 200);
    }
    end(&f);
}

/* Dots in a key are no way to another path of the server. */
static void dots_in_keys_lead_nowhere(void **state)
{
    static const char *const answers[] = {FAKE_JSON "true"};
    static const char *const bad[] = {
        "../agent/leave", "a/../b", "a//b", "/a", ".", "a/..", "\xff"};
    struct microreg_watch *watch;
    struct fixture f;

    (void)state;
    begin(&f, answers, N_OF(answers));
    for (int i = 0; i < N_OF(bad); i++) {
        assert_int_equal(
            microreg_kv_put(f.client, bad[i], "", 0, NULL, &f.error),
            MICROREG_E_INVALID);
        assert_non_null(strstr(f.error.text, "key"));
        assert_int_equal(microreg_kv_watch_open(f.client, bad[i],
                                                MICROREG_PREFIX, &watch, NULL),
                         MICROREG_E_INVALID);
    }
    assert_int_equal(
        microreg_kv_put(f.client, "a/..b/.c./", "", 0, NULL, &f.error),
        MICROREG_OK);
    assert_non_null(strstr(fake_request(&f.fake, 1), "PUT /v1/kv/a/..b/.c./?"));
    assert_int_equal(fake_count(&f.fake), 1);
    end(&f);
}

/* An error is UTF-8 also where it was cut. */
static void a_long_text_ends_with_a_whole_character(void **state)
{
    struct microreg_error error;

    (void)state;
    for (int shift = 0; shift < 4; shift++) {
        char text[MICROREG_ERROR_TEXT + 4] = "";

        for (size_t i = 0; i < sizeof text - 4; i += 4) {
            memcpy(text + i, "\xf0\x9f\x98\x80", 4);
        }
        (void)mrg_fail(&error, MICROREG_E_INVALID, "%.*s%s", shift, "abc",
                       text);
        assert_true(mrg_is_utf8(error.text, strlen(error.text)));
        assert_in_range(strlen(error.text), MICROREG_ERROR_TEXT - 4,
                        MICROREG_ERROR_TEXT - 1);
    }
}

/* Structs with texts that are no UTF-8 never leave the program. */
static void bad_structs_are_refused(void **state)
{
    const struct microreg_pair pair = {"k", "\xff"};
    const struct microreg_node node = {"x", "h:1", &pair, 1};
    const struct microreg_service bad = {
        .name = "a", .nodes = &node, .n_nodes = 1};
    const struct microreg_service none = {.name = "a"};
    struct microreg *client;
    struct microreg_error error;

    (void)state;
    assert_int_equal(microreg_open(NULL, &client, &error), MICROREG_OK);
    assert_int_equal(microreg_register(client, &bad, 0, 0, &error),
                     MICROREG_E_INVALID);
    assert_string_equal(error.text, "a value of the metadata is not UTF-8");
    assert_int_equal(microreg_register(client, &none, 0, 0, &error),
                     MICROREG_E_INVALID);
    assert_int_equal(microreg_register(client, &none, 5, 0, NULL),
                     MICROREG_E_INVALID);
    microreg_close(client);
    microreg_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_repeated_registration_is_a_renewal),
        cmocka_unit_test(a_server_without_leader_is_asked_again),
        cmocka_unit_test(a_put_that_was_not_done_is_repeated),
        cmocka_unit_test(a_good_server_behind_silent_ones_is_asked),
        cmocka_unit_test(a_long_text_ends_with_a_whole_character),
        cmocka_unit_test(a_put_without_an_answer_is_sent_once),
        cmocka_unit_test(statuses_become_codes),
        cmocka_unit_test(a_lack_of_memory_is_an_error_of_the_call),
        cmocka_unit_test(a_registration_without_memory_can_be_repeated),
        cmocka_unit_test(dots_in_keys_lead_nowhere),
        cmocka_unit_test(bad_structs_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
