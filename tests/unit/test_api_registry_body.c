/* SPDX-License-Identifier: Apache-2.0 */
/* api/registry_body, registry_digest, registry_row: go-micro's JSON in, rows
 * out. */
#include "api/registry_body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "api/registry_digest.h"
#include "api/registry_tags.h"
#include "base/mem.h"

#define NODE "{\"id\":\"n-1\",\"address\":\"10.0.0.1:80\"}"
#define WITH_NODE "\"nodes\":[" NODE "]}"

struct fixture {
    struct decode d;
    struct registry_service s;
    struct registry_renewals r;
};

static int set_up(void **state)
{
    static struct fixture f;

    decode_setup();
    memset(&f, 0, sizeof f);
    decode_init(&f.d);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    mr_mem_fail_after(UINT64_MAX);
    decode_deinit(&((struct fixture *)*state)->d);
    return 0;
}

static enum mr_err decode(struct fixture *f, const char *body, uint64_t ttl_ms)
{
    decode_deinit(&f->d);
    return registry_body_service(&f->d, mr_slice_str(body), ttl_ms, &f->s);
}

static uint64_t digest_of(struct fixture *f, const char *body, uint64_t ttl_ms)
{
    assert_int_equal(decode(f, body, ttl_ms), MR_OK);
    return f->s.nodes[0]->digest;
}

static void refused(struct fixture *f, const char *body, const char *why)
{
    assert_int_equal(decode(f, body, 0), MR_E_INVALID);
    assert_string_equal(f->d.error, why);
}

/* ------------------------------------------------------------- success */

/* All that go-micro sends is understood; what it does not know is ignored. */
static void a_service_decodes(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(
        decode(f,
               "{\"name\":\"greeter\",\"version\":\"1\",\"later\":[1],"
               "\"metadata\":{\"b\":\"2\",\"a\":\"1\"},\"endpoints\":[{"
               "\"name\":\"Hello\",\"request\":{\"name\":\"r\",\"type\":\"R\","
               "\"values\":[{\"name\":\"v\",\"type\":\"int\",\"values\":null}]"
               "},\"response\":null,\"metadata\":null}],\"nodes\":[{\"id\":"
               "\"n-1\",\"address\":\"[::1]:80\",\"metadata\":{}}]}",
               1000),
        MR_OK);
    assert_string_equal(f->s.name, "greeter");
    assert_string_equal(f->s.version, "1");
    assert_int_equal(f->s.n_metadata, 2);
    assert_string_equal(f->s.metadata[0]->key, "a");
    assert_int_equal(f->s.n_endpoints, 1);
    assert_string_equal(f->s.endpoints[0]->request->values[0]->type, "int");
    assert_null(f->s.endpoints[0]->response);
    assert_string_equal(f->s.nodes[0]->host, "::1");
    assert_int_equal(f->s.nodes[0]->port, 80);
    assert_int_not_equal(f->s.nodes[0]->digest, 0);
}

/* null is the same as leaving a member out. */
static void null_is_nothing(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(decode(f,
                            "{\"name\":\"x\",\"version\":null,\"metadata\":"
                            "null,\"endpoints\":null," WITH_NODE,
                            0),
                     MR_OK);
    assert_string_equal(f->s.version, "");
    assert_int_equal(f->s.n_endpoints, 0);
}

/* The order of members and blanks do not count; everything else does. */
static void digests_tell_contents_apart(void **state)
{
    struct fixture *f = *state;
    const char *body = "{\"name\":\"x\",\"version\":\"1\",\"metadata\":{\"a\":"
                       "\"1\",\"b\":\"2\"}," WITH_NODE;
    uint64_t digest = digest_of(f, body, 1000);

    assert_int_equal(digest, digest_of(f, body, 1000));
    assert_int_equal(digest,
                     digest_of(f,
                               "{ \"metadata\":{\"b\":\"2\",\"a\":\"1\"}, "
                               "\"version\":\"1\",\"name\":\"x\"," WITH_NODE,
                               1000));
    assert_int_not_equal(digest, digest_of(f, body, 2000));
    assert_int_not_equal(
        digest,
        digest_of(f, "{\"name\":\"x\",\"version\":\"1\"," WITH_NODE, 1000));
    assert_int_not_equal(
        digest,
        digest_of(f,
                  "{\"name\":\"x\",\"version\":\"1\",\"metadata\":{"
                  "\"a\":\"1\",\"b\":\"2\"},\"endpoints\":[{}]," WITH_NODE,
                  1000));
}

/* A text cannot borrow from its neighbour. */
static void digests_keep_texts_apart(void **state)
{
    struct fixture *f = *state;
    uint64_t one = digest_of(
        f, "{\"name\":\"x\",\"metadata\":{\"ab\":\"c\"}," WITH_NODE, 0);

    assert_int_not_equal(
        one,
        digest_of(f, "{\"name\":\"x\",\"metadata\":{\"a\":\"bc\"}," WITH_NODE,
                  0));
}

/* The nodes of one registration have digests of their own. */
static void each_node_has_its_digest(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(decode(f,
                            "{\"name\":\"x\",\"nodes\":[" NODE
                            ",{\"id\":\"n-2\",\"address\":\"10.0.0.1:80\"}]}",
                            0),
                     MR_OK);
    assert_int_not_equal(f->s.nodes[0]->digest, f->s.nodes[1]->digest);
}

static void digests_are_16_digits(void **state)
{
    char text[REGISTRY_DIGEST_LEN + 1];
    uint64_t n;

    (void)state;
    registry_digest_format(UINT64_C(0x12ab), text);
    assert_string_equal(text, "00000000000012ab");
    assert_int_equal(registry_digest_parse(text, &n), MR_OK);
    assert_int_equal(n, 0x12ab);
    assert_int_equal(registry_digest_parse("", &n), MR_E_INVALID);
    assert_int_equal(registry_digest_parse("12ab", &n), MR_E_INVALID);
    assert_int_equal(registry_digest_parse("00000000000012AB", &n),
                     MR_E_INVALID);
    assert_int_equal(registry_digest_parse("00000000000012ab0", &n),
                     MR_E_INVALID);
}

/* The row has what Consul's views show, and the tags of go-micro's plugin. */
static void the_row_has_the_plugins_tags(void **state)
{
    struct fixture *f = *state;
    struct mr_buf cmd = MR_BUF_INIT;
    struct mr_buf plain = MR_BUF_INIT;
    Mr__Command *c;
    const Mr__Service *s;

    assert_int_equal(
        decode(f,
               "{\"name\":\"x\",\"version\":\"1\",\"metadata\":{\"s\":\"1\"},"
               "\"endpoints\":[{\"name\":\"Hello\"}],\"nodes\":[{\"id\":\"n-1\""
               ",\"address\":\"10.0.0.1:80\",\"metadata\":{\"k\":\"<v>\"}}]}",
               1500),
        MR_OK);
    assert_int_equal(registry_encode(&f->d, &f->s, "dc1", 1500, 7, &cmd),
                     MR_OK);
    c = mr__command__unpack(NULL, cmd.len, cmd.data);
    assert_non_null(c);
    assert_string_equal(c->register_->node->name, "registry:x");
    assert_string_equal(c->register_->node->datacenter, "dc1");
    assert_true(c->register_->skip_node_update);
    assert_int_equal(c->register_->n_services, 1);
    s = c->register_->services[0];
    assert_string_equal(s->address, "10.0.0.1");
    assert_int_equal(s->port, 80);
    assert_int_equal(s->origin, MR__ORIGIN__REGISTRY);
    assert_int_equal(s->ttl_ms, 1500);
    assert_int_equal(s->incarnation, 7);
    assert_int_equal(s->digest, f->s.nodes[0]->digest);
    assert_string_equal(s->meta[0]->value, "<v>");
    assert_string_equal(s->registry_meta[0]->key, "s");
    assert_int_equal(s->n_tags, 3);
    assert_true(registry_tag_get(s->tags[0], &plain));
    assert_string_equal(mr_buf_cstr(&plain), "{\"k\":\"\\u003cv\\u003e\"}");
    assert_true(registry_tag_get(s->tags[1], &plain));
    assert_string_equal(mr_buf_cstr(&plain),
                        "{\"name\":\"Hello\",\"request\":null,\"response\":"
                        "null,\"metadata\":null}");
    assert_true(registry_tag_get(s->tags[2], &plain));
    assert_string_equal(mr_buf_cstr(&plain), "1");
    mr__command__free_unpacked(c, NULL);
    mr_buf_deinit(&plain);
    mr_buf_deinit(&cmd);
}

static void ttls_have_bounds(void **state)
{
    struct mr_detail detail;
    uint64_t ms = 7;

    (void)state;
    assert_int_equal(registry_ttl_parse(NULL, &ms, &detail), MR_OK);
    assert_int_equal(ms, 0);
    assert_int_equal(registry_ttl_parse("0s", &ms, &detail), MR_OK);
    assert_int_equal(ms, 0);
    assert_int_equal(registry_ttl_parse("1s", &ms, &detail), MR_OK);
    assert_int_equal(ms, 1000);
    assert_int_equal(registry_ttl_parse("1m0.5s", &ms, &detail), MR_OK);
    assert_int_equal(ms, 60500);
    assert_int_equal(registry_ttl_parse("24h", &ms, &detail), MR_OK);
    assert_int_equal(registry_ttl_parse("24h1ns", &ms, &detail), MR_E_INVALID);
    assert_int_equal(registry_ttl_parse("999ms", &ms, &detail), MR_E_INVALID);
    assert_int_equal(registry_ttl_parse("-30s", &ms, &detail), MR_E_INVALID);
    assert_int_equal(registry_ttl_parse("30", &ms, &detail), MR_E_INVALID);
    assert_string_equal(detail.text,
                        "Invalid ttl \"30\": not a duration such as 30s");
    assert_int_equal(registry_ttl_parse("99999999999h", &ms, &detail),
                     MR_E_INVALID);
}

/* Renewals name nodes by service, ID and digest. */
static void renewals_decode(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(
        registry_body_renewals(
            &f->d,
            mr_slice_str(
                "{\"nodes\":[{\"name\":\"x\",\"id\":\"n-1\","
                "\"digest\":\"00000000000012ab\",\"incarnation\":3}]}"),
            &f->r),
        MR_OK);
    assert_int_equal(f->r.n_nodes, 1);
    assert_int_equal(f->r.nodes[0]->digest, 0x12ab);
    assert_int_equal(f->r.nodes[0]->incarnation, 3);
}

/* ------------------------------------------------------------- failure */

static void what_is_missing_is_named(void **state)
{
    struct fixture *f = *state;

    refused(f, "", "EOF");
    refused(f, "[]",
            "json: cannot unmarshal array into Go value of type struct");
    refused(f, "{}", "missing name");
    refused(f, "{\"name\":\"x\"}", "require at least one node");
    refused(f, "{\"name\":\"x\",\"nodes\":[]}", "require at least one node");
    refused(f, "{\"name\":\"x\",\"nodes\":[{}]}", "missing nodes[0].id");
    refused(f, "{\"name\":\"x\",\"nodes\":[{\"id\":\"a\"}]}",
            "missing nodes[0].address");
    refused(f, "{\"name\":\"x\",\"nodes\":[" NODE "," NODE "]}",
            "two nodes have the id \"n-1\"");
    refused(f, "{\"name\":1," WITH_NODE,
            "json: cannot unmarshal number into Go struct field Service.name "
            "of type string");
    refused(f, "{\"name\":\"a\\nb\"," WITH_NODE,
            "name has a control character");
}

static void bad_addresses_are_refused(void **state)
{
    static const char *const bad[] = {
        "10.0.0.1",  "10.0.0.1:",    "10.0.0.1:0",  "10.0.0.1:65536",
        ":80",       "::1",          "[::1]",       "[::1",
        "0.0.0.0:1", "[::]:80",      "10.0.0.1:-1", "10.0.0.1:http",
        "a:b:c",     "10.0.0.1:80 ",
    };
    struct fixture *f = *state;
    char body[256];

    for (size_t i = 0; i < MR_ARRAY_LEN(bad); i++) {
        (void)snprintf(body, sizeof body,
                       "{\"name\":\"x\",\"nodes\":[{\"id\":\"a\","
                       "\"address\":\"%s\"}]}",
                       bad[i]);
        if (decode(f, body, 0) != MR_E_INVALID ||
            strstr(f->d.error, "nodes[0].address") == NULL) {
            fail_msg("%s: %s", bad[i], f->d.error);
        }
    }
}

/* A body with @len letters between @before and @after. */
static char *body_with(const char *before, size_t len, const char *after)
{
    static char text[128 * 1024];
    static char body[2 * sizeof text];

    assert_true(len < sizeof text);
    memset(text, 'a', len);
    text[len] = '\0';
    (void)snprintf(body, sizeof body, "%s%s%s", before, text, after);
    return body;
}

static void lengths_have_bounds(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(
        decode(f, body_with("{\"name\":\"", 160, "\"," WITH_NODE), 0), MR_OK);
    refused(f, body_with("{\"name\":\"", 161, "\"," WITH_NODE),
            "name is too long (limit: 160 bytes)");
    refused(f,
            body_with("{\"name\":\"x\",\"version\":\"", 129, "\"," WITH_NODE),
            "version is too long (limit: 128 bytes)");
    refused(f,
            body_with("{\"name\":\"x\",\"nodes\":[{\"id\":\"", 151,
                      "\",\"address\":\"a:1\"}]}"),
            "nodes[0].id is too long (limit: 150 bytes)");
    refused(f,
            body_with("{\"name\":\"x\",\"metadata\":{\"k\":\"", 4097,
                      "\"}," WITH_NODE),
            "metadata[\"k\"] is too long (limit: 4096 bytes)");
    refused(f,
            body_with("{\"name\":\"x\",\"metadata\":{\"", 129,
                      "\":\"v\"}," WITH_NODE),
            "metadata has a key that is too long (limit: 128 bytes)");
}

/* An endpoint that no tag can hold. */
static void a_huge_endpoint_does_not_encode(void **state)
{
    struct fixture *f = *state;
    struct mr_buf cmd = MR_BUF_INIT;

    assert_int_equal(
        decode(f,
               body_with("{\"name\":\"x\",\"endpoints\":[{\"name\":\"",
                         REGISTRY_TAG_MAX, "\"}]," WITH_NODE),
               0),
        MR_OK);
    assert_int_equal(registry_encode(&f->d, &f->s, "dc1", 0, 0, &cmd),
                     MR_E_TOOBIG);
    mr_buf_deinit(&cmd);
}

static void bad_renewals_are_refused(void **state)
{
    static const char *const cases[][2] = {
        {"{}", "require at least one node"},
        {"{\"nodes\":[{\"id\":\"a\"}]}", "missing nodes[0].name"},
        {"{\"nodes\":[{\"name\":\"a\"}]}", "missing nodes[0].id"},
        {"{\"nodes\":[{\"name\":\"a\",\"id\":\"a\"}]}",
         "nodes[0].digest is not what a registration answered: 16 hexadecimal "
         "digits"},
        {"{\"nodes\":[{\"name\":\"a\",\"id\":\"a\",\"digest\":"
         "\"0000000000000000\",\"incarnation\":-1}]}",
         "nodes[0].incarnation is negative"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        decode_deinit(&f->d);
        assert_int_equal(
            registry_body_renewals(&f->d, mr_slice_str(cases[i][0]), &f->r),
            MR_E_INVALID);
        assert_string_equal(f->d.error, cases[i][1]);
    }
}

/* Whatever allocation fails, the failure is told and nothing leaks. */
static void missing_memory_is_reported(void **state)
{
    struct fixture *f = *state;
    enum mr_err err = MR_E_NOMEM;

    for (uint64_t n = 0; err == MR_E_NOMEM; n++) {
        struct mr_buf cmd = MR_BUF_INIT;

        assert_true(n < 1000);
        mr_mem_fail_after(n);
        err = decode(f,
                     "{\"name\":\"x\",\"metadata\":{\"a\":\"1\"},\"endpoints\":"
                     "[{\"name\":\"e\"}]," WITH_NODE,
                     0);
        if (err == MR_OK) {
            err = registry_encode(&f->d, &f->s, "dc1", 0, 0, &cmd);
        }
        if (err == MR_OK && mr_buf_failed(&cmd)) {
            err = MR_E_NOMEM;
        }
        mr_mem_fail_after(UINT64_MAX);
        mr_buf_deinit(&cmd);
    }
    assert_int_equal(err, MR_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_service_decodes),
        TEST(null_is_nothing),
        TEST(digests_tell_contents_apart),
        TEST(digests_keep_texts_apart),
        TEST(each_node_has_its_digest),
        TEST(digests_are_16_digits),
        TEST(the_row_has_the_plugins_tags),
        TEST(ttls_have_bounds),
        TEST(renewals_decode),
        TEST(what_is_missing_is_named),
        TEST(bad_addresses_are_refused),
        TEST(lengths_have_bounds),
        TEST(a_huge_endpoint_does_not_encode),
        TEST(bad_renewals_are_refused),
        TEST(missing_memory_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
