/* SPDX-License-Identifier: Apache-2.0 */
/* api/websocket_message: what go-micro's clients are told of what is long. */
#include "api/websocket_message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <jansson.h>

#include <cmocka.h>

#include "base/mem.h"

static struct mr_buf message = MR_BUF_INIT;
static struct mr_buf shortened = MR_BUF_INIT;

static int tear_down(void **state)
{
    (void)state;
    mr_mem_fail_after(UINT64_MAX);
    mr_buf_deinit(&message);
    mr_buf_deinit(&shortened);
    return 0;
}

static void add_pair(const char *key, size_t len)
{
    mr_buf_printf(&message, "\"%s\":\"", key);
    for (size_t i = 0; i < len; i++) {
        mr_buf_str(&message, "x");
    }
    mr_buf_str(&message, "\",");
}

/* A message whose endpoints, metadata and node's metadata are so long. */
static void write_message(size_t endpoints, size_t metadata, size_t a, size_t b)
{
    mr_buf_reset(&message);
    mr_buf_str(&message, "{\"Action\":\"update\",\"Service\":{\"name\":\"web\","
                         "\"version\":\"1\",\"endpoints\":[{");
    add_pair("name", endpoints);
    mr_buf_str(&message, "\"request\":null}],\"metadata\":{");
    add_pair("type", metadata);
    mr_buf_str(&message, "\"t\":\"\"},\"nodes\":[{\"id\":\"web-1\","
                         "\"address\":\"10.0.0.7:80\",\"metadata\":{");
    add_pair("a", a);
    add_pair("b", b);
    mr_buf_str(&message, "\"protocol\":\"grpc\"}}]}}");
    assert_false(mr_buf_failed(&message));
}

/* The service of what the message becomes. */
static json_t *fitted(json_t **out_root)
{
    struct mr_slice fit;
    json_t *service;

    assert_int_equal(
        websocket_message_fit(mr_buf_slice(&message), &shortened, &fit), MR_OK);
    assert_true(fit.len <= WEBSOCKET_MESSAGE_MAX);
    *out_root = json_loadb((const char *)fit.data, fit.len, 0, NULL);
    assert_non_null(*out_root);
    service = json_object_get(*out_root, "Service");
    assert_string_equal(json_string_value(json_object_get(service, "name")),
                        "web");
    return service;
}

static json_t *node_metadata(const json_t *service)
{
    const json_t *node = json_array_get(json_object_get(service, "nodes"), 0);

    assert_string_equal(json_string_value(json_object_get(node, "id")),
                        "web-1");
    assert_string_equal(json_string_value(json_object_get(node, "address")),
                        "10.0.0.7:80");
    return json_object_get(node, "metadata");
}

/* ------------------------------------------------------------- success */

/* What fits is sent as it is, without a copy. */
static void a_short_message_stays(void **state)
{
    struct mr_slice fit;

    (void)state;
    write_message(100, 100, 100, 100);
    assert_int_equal(
        websocket_message_fit(mr_buf_slice(&message), &shortened, &fit), MR_OK);
    assert_ptr_equal(fit.data, message.data);
    assert_int_equal(fit.len, message.len);
}

/* The longest message that fits stays too, and one byte more goes. */
static void the_limit_is_exact(void **state)
{
    size_t room;
    struct mr_slice fit;

    (void)state;
    write_message(0, 0, 0, 0);
    room = WEBSOCKET_MESSAGE_MAX - message.len;
    write_message(room, 0, 0, 0);
    assert_int_equal(
        websocket_message_fit(mr_buf_slice(&message), &shortened, &fit), MR_OK);
    assert_int_equal(fit.len, WEBSOCKET_MESSAGE_MAX);
    write_message(room + 1, 0, 0, 0);
    assert_int_equal(
        websocket_message_fit(mr_buf_slice(&message), &shortened, &fit), MR_OK);
    assert_true(fit.len < WEBSOCKET_MESSAGE_MAX);
}

/* Endpoints go first, and alone if that is enough. */
static void endpoints_go_first(void **state)
{
    json_t *root;
    json_t *service;

    (void)state;
    write_message(16000, 500, 500, 500);
    service = fitted(&root);
    assert_null(json_object_get(service, "endpoints"));
    assert_non_null(json_object_get(service, "metadata"));
    assert_int_equal(json_object_size(node_metadata(service)), 3);
    json_decref(root);
}

/* Of the node's metadata the longest goes, and what selects it stays. */
static void the_longest_pair_goes(void **state)
{
    json_t *root;
    json_t *service;
    json_t *metadata;

    (void)state;
    write_message(10, 10, 4000, 13000);
    service = fitted(&root);
    metadata = node_metadata(service);
    assert_null(json_object_get(service, "metadata"));
    assert_null(json_object_get(metadata, "b"));
    assert_int_equal(json_string_length(json_object_get(metadata, "a")), 4000);
    assert_string_equal(
        json_string_value(json_object_get(metadata, "protocol")), "grpc");
    json_decref(root);
}

/* As many pairs go as must. */
static void several_pairs_go(void **state)
{
    json_t *root;
    json_t *metadata;

    (void)state;
    write_message(100000, 100000, 100000, 200000);
    metadata = node_metadata(fitted(&root));
    assert_int_equal(json_object_size(metadata), 1);
    assert_non_null(json_object_get(metadata, "protocol"));
    json_decref(root);
}

/* ------------------------------------------------------------- failure */

/* A name that is too long alone cannot be told. */
static void names_alone_may_be_too_long(void **state)
{
    struct mr_slice fit = {0};

    (void)state;
    mr_buf_str(&message, "{\"Action\":\"delete\",\"Service\":{");
    add_pair("name", WEBSOCKET_MESSAGE_MAX);
    mr_buf_str(&message, "\"nodes\":null}}");
    assert_int_equal(
        websocket_message_fit(mr_buf_slice(&message), &shortened, &fit),
        MR_E_TOOBIG);
    assert_null(fit.data);
}

/* Without memory there is no message, and nothing is lost. */
static void no_memory_is_told(void **state)
{
    struct mr_slice fit = {0};
    enum mr_err err = MR_E_NOMEM;

    (void)state;
    write_message(100, 100, 20000, 20000);
    for (uint64_t n = 0; err != MR_OK; n++) {
        mr_buf_deinit(&shortened);
        mr_mem_fail_after(n);
        err = websocket_message_fit(mr_buf_slice(&message), &shortened, &fit);
        assert_true(err == MR_OK || err == MR_E_NOMEM);
        assert_true(n < 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_short_message_stays, tear_down),
        cmocka_unit_test_teardown(the_limit_is_exact, tear_down),
        cmocka_unit_test_teardown(endpoints_go_first, tear_down),
        cmocka_unit_test_teardown(the_longest_pair_goes, tear_down),
        cmocka_unit_test_teardown(several_pairs_go, tear_down),
        cmocka_unit_test_teardown(names_alone_may_be_too_long, tear_down),
        cmocka_unit_test_teardown(no_memory_is_told, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
