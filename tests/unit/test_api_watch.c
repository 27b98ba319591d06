/* SPDX-License-Identifier: Apache-2.0 */
/* api: watch streams over loopback (docs/watch.md). */
#include "tests/unit/http_fixture.h"

#include <poll.h>

#include <jansson.h>

#define LINE_WAIT_MS 20000

/* A stream as its reader sees it: lines without the chunks' frames. */
struct stream {
    int fd;
    struct mr_buf raw;  /* Received, not decoded. */
    struct mr_buf body; /* Decoded, not taken. */
    size_t chunk_left;
    bool has_head;
    bool is_ended;
    char line[1024 * 1024];
    json_t *json; /* Of the last line. */
};

static struct stream *begin_stream(const struct fixture *f, const char *request)
{
    struct stream *s = calloc(1, sizeof *s);

    s->fd = dial(f);
    send_all(s->fd, request, strlen(request));
    return s;
}

static struct stream *open_stream(const struct fixture *f, const char *target,
                                  const char *headers)
{
    char request[1024];

    (void)snprintf(request, sizeof request,
                   "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", target, headers);
    return begin_stream(f, request);
}

/* A stream of the services in @list, JSON. */
static struct stream *post_stream(const struct fixture *f, const char *list)
{
    char request[1024];

    (void)snprintf(request, sizeof request,
                   "POST /registry/watch HTTP/1.1\r\nHost: x\r\n"
                   "Content-Length: %zu\r\n\r\n{\"services\":%s}",
                   strlen(list) + strlen("{\"services\":}"), list);
    return begin_stream(f, request);
}

static void close_stream(struct stream *s)
{
    close(s->fd);
    mr_buf_deinit(&s->raw);
    mr_buf_deinit(&s->body);
    json_decref(s->json);
    free(s);
}

static void drop_front(struct mr_buf *b, size_t n)
{
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}

/* Take the head or a chunk's size line from s->raw; false: not there yet. */
static bool take_frame(struct stream *s)
{
    const char *end_text = s->has_head ? "\r\n" : "\r\n\r\n";
    char *text = (char *)(uintptr_t)mr_buf_cstr(&s->raw);
    char *end = strstr(text, end_text);

    if (end == NULL) {
        return false;
    }
    if (!s->has_head) {
        assert_memory_equal(text, "HTTP/1.1 200 ", 13);
        assert_non_null(strcasestr(text, "Transfer-Encoding: chunked"));
        s->has_head = true;
    } else if (end != text) { /* Else: what ends the chunk before. */
        s->chunk_left = strtoul(text, NULL, 16);
        s->is_ended = s->chunk_left == 0;
    }
    drop_front(&s->raw, (size_t)(end - text) + strlen(end_text));
    return true;
}

static void decode(struct stream *s)
{
    while (!s->is_ended) {
        if (s->chunk_left == 0) {
            if (!take_frame(s)) {
                return;
            }
            continue;
        }
        size_t n = s->raw.len < s->chunk_left ? s->raw.len : s->chunk_left;

        if (n == 0) {
            return;
        }
        mr_buf_add(&s->body, s->raw.data, n);
        drop_front(&s->raw, n);
        s->chunk_left -= n;
    }
}

/* Wait for bytes and decode them; false: the stream has ended. */
static bool hear(struct stream *s)
{
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    char bytes[65536];

    assert_int_equal(poll(&p, 1, LINE_WAIT_MS), 1);
    ssize_t n = recv(s->fd, bytes, sizeof bytes, 0);

    if (n <= 0) {
        return false;
    }
    mr_buf_add(&s->raw, bytes, (size_t)n);
    decode(s);
    return true;
}

/* The next line, without its newline; NULL: the stream has ended. */
static const char *next_line(struct stream *s)
{
    const char *end;

    while (s->body.len == 0 ||
           (end = memchr(s->body.data, '\n', s->body.len)) == NULL) {
        if (s->is_ended || !hear(s)) {
            return NULL;
        }
    }
    size_t len = (size_t)(end - (const char *)s->body.data);

    assert_true(len < sizeof s->line);
    memcpy(s->line, s->body.data, len);
    s->line[len] = '\0';
    drop_front(&s->body, len + 1);
    return s->line;
}

/* The next line's object. */
static json_t *next(struct stream *s)
{
    const char *line = next_line(s);

    assert_non_null(line);
    json_decref(s->json);
    s->json = json_loads(line, 0, NULL);
    assert_non_null(s->json);
    return s->json;
}

static const char *member(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));

    return value == NULL ? "" : value;
}

/* The next line has this action, index and "more"; returns its object. */
static json_t *expect_line(struct stream *s, const char *action,
                           unsigned long long index, bool more)
{
    json_t *line = next(s);

    assert_string_equal(member(line, "action"), action);
    assert_int_equal(json_integer_value(json_object_get(line, "index")), index);
    assert_int_equal(json_is_true(json_object_get(line, "more")), more);
    json_t *object = json_object_get(line, "object");

    return object != NULL ? object : json_object_get(line, "service");
}

static void expect_key(struct stream *s, const char *action,
                       unsigned long long index, bool more, const char *key)
{
    assert_string_equal(member(expect_line(s, action, index, more), "Key"),
                        key);
}

static void await_streams(const struct fixture *f, uint64_t n)
{
    struct mr_api_stats stats;

    do {
        mr_api_stats(f->api, &stats);
    } while (stats.streams != n);
}

static void put(const struct fixture *f, const char *key, const char *value)
{
    char target[256];

    (void)snprintf(target, sizeof target, "/v1/kv/%s", key);
    expect(f, "PUT", target, value, 200, "true");
}

/* ------------------------------------------------------------- keys */

static void key_is_told_with_every_change(void **state)
{
    struct fixture *f = *state;

    put(f, "a", "1");
    struct stream *s = open_stream(f, "/v1/watch/key/a", "");

    expect_key(s, "create", rev(f, 1), true, "a");
    expect_line(s, "synced", rev(f, 1), false);
    put(f, "a", "2");
    put(f, "ab", "other");
    put(f, "a", "2"); /* Changes nothing. */
    expect_key(s, "update", rev(f, 2), false, "a");
    expect(f, "DELETE", "/v1/kv/a", NULL, 200, "true");
    json_t *gone = expect_line(s, "delete", rev(f, 4), false);

    assert_string_equal(member(gone, "Value"), "Mg=="); /* As it was. */
    put(f, "a", "3");
    expect_key(s, "create", rev(f, 5), false, "a");
    close_stream(s);
    await_streams(f, 0);
}

static void change_of_several_keys_comes_whole(void **state)
{
    struct fixture *f = *state;
    struct stream *s = open_stream(f, "/v1/watch/keyprefix/p/", "");

    expect_line(s, "synced", rev(f, 0), false);
    put(f, "p/1", "x");
    put(f, "q", "x");
    put(f, "p/2", "x");
    expect(f, "DELETE", "/v1/kv/p/?recurse", NULL, 200, "true");
    expect_key(s, "create", rev(f, 1), false, "p/1");
    expect_key(s, "create", rev(f, 3), false, "p/2");
    expect_key(s, "delete", rev(f, 4), true, "p/1");
    expect_key(s, "delete", rev(f, 4), false, "p/2");
    close_stream(s);
}

static void stream_goes_on_after_its_index(void **state)
{
    struct fixture *f = *state;

    put(f, "a", "1");
    put(f, "a", "2");
    put(f, "b", "1");
    put(f, "a", "3");
    struct stream *s =
        open_stream(f, text("/v1/watch/key/a?index=%llu", rev(f, 1)), "");

    expect_key(s, "update", rev(f, 2), false, "a");
    expect_key(s, "update", rev(f, 4), false, "a");
    expect_line(s, "synced", rev(f, 4), false);
    put(f, "a", "4");
    expect_key(s, "update", rev(f, 5), false, "a");
    close_stream(s);
}

static void index_that_never_was_is_reset(void **state)
{
    struct fixture *f = *state;

    put(f, "a", "1");
    struct stream *s = open_stream(f, "/v1/watch/key/a?index=999999", "");

    expect_line(s, "reset", rev(f, 1), true);
    expect_key(s, "create", rev(f, 1), true, "a");
    expect_line(s, "synced", rev(f, 1), false);
    put(f, "a", "2");
    expect_key(s, "update", rev(f, 2), false, "a");
    close_stream(s);
}

/* More than the history keeps: the reader is told so. */
static void index_that_was_forgotten_is_reset(void **state)
{
    struct fixture *f = *state;
    char *big = malloc(500001);

    memset(big, 'x', 500000);
    big[500000] = '\0';
    put(f, "a", "1");
    for (int i = 0; i < 24; i++) {
        big[0] = (char)('a' + i);
        put(f, "big", big);
    }
    free(big);
    struct stream *s =
        open_stream(f, text("/v1/watch/key/a?index=%llu", rev(f, 0)), "");

    expect_line(s, "reset", rev(f, 25), true);
    expect_key(s, "create", rev(f, 25), true, "a");
    expect_line(s, "synced", rev(f, 25), false);
    close_stream(s);
}

/* ------------------------------------------------------------- the catalog */

#define SERVICE(status)                                                        \
    "{\"Node\":\"web1\",\"Address\":\"10.0.0.1\",\"Service\":{\"ID\":\"w1\","  \
    "\"Service\":\"web\",\"Tags\":[\"v1\"],\"Port\":80},\"Check\":{"           \
    "\"CheckID\":\"c1\",\"Name\":\"c\",\"ServiceID\":\"w1\",\"Status\":"       \
    "\"" status "\"}}"

static void catalog(const struct fixture *f, const char *body)
{
    expect(f, "PUT", "/v1/catalog/register", body, 200, "true");
}

static const char *status_of(const json_t *instance)
{
    const json_t *checks = json_object_get(instance, "Checks");

    return member(json_array_get(checks, 0), "Status");
}

static void instance_is_told_with_its_checks(void **state)
{
    struct fixture *f = *state;
    struct stream *s = open_stream(f, "/v1/watch/service/WEB", "");

    expect_line(s, "synced", rev(f, 0), false);
    catalog(f, SERVICE("passing"));
    json_t *o = expect_line(s, "create", rev(f, 1), false);

    assert_string_equal(status_of(o), "passing");
    assert_string_equal(member(json_object_get(o, "Node"), "Node"), "web1");
    catalog(f, SERVICE("critical"));
    o = expect_line(s, "update", rev(f, 2), false);
    assert_string_equal(status_of(o), "critical");
    expect(f, "PUT", "/v1/catalog/deregister", "{\"Node\":\"web1\"}", 200,
           "true");
    o = expect_line(s, "delete", rev(f, 3), false);
    assert_string_equal(status_of(o), "critical");
    assert_string_equal(member(json_object_get(o, "Service"), "ID"), "w1");
    close_stream(s);
}

static void
what_does_not_pass_is_deleted_for_those_who_want_passing(void **state)
{
    struct fixture *f = *state;
    struct stream *s = open_stream(f, "/v1/watch/service/web?passing", "");

    expect_line(s, "synced", rev(f, 0), false);
    catalog(f, SERVICE("critical"));
    catalog(f, SERVICE("passing"));
    catalog(f, SERVICE("warning"));
    catalog(f, SERVICE("critical"));
    catalog(f, SERVICE("passing"));
    expect_line(s, "create", rev(f, 2), false);
    expect_line(s, "delete", rev(f, 3), false);
    expect_line(s, "create", rev(f, 5), false);
    close_stream(s);
}

static void lists_are_told(void **state)
{
    struct fixture *f = *state;
    struct stream *names = open_stream(f, "/v1/watch/services", "");
    struct stream *nodes = open_stream(f, "/v1/watch/nodes", "");
    struct stream *checks = open_stream(f, "/v1/watch/checks", "");
    struct stream *critical =
        open_stream(f, "/v1/watch/checks?state=critical&service=web", "");

    expect_line(names, "synced", rev(f, 0), false);
    expect_line(nodes, "synced", rev(f, 0), false);
    expect_line(checks, "synced", rev(f, 0), false);
    expect_line(critical, "synced", rev(f, 0), false);
    catalog(f, SERVICE("passing"));
    catalog(f, SERVICE("critical"));
    json_t *name = expect_line(names, "create", rev(f, 1), false);

    assert_string_equal(member(name, "Name"), "web");
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(name, "Tags"), 0)),
        "v1");
    assert_string_equal(
        member(expect_line(nodes, "create", rev(f, 1), false), "Node"), "web1");
    expect_line(checks, "create", rev(f, 1), false);
    expect_line(checks, "update", rev(f, 2), false);
    expect_line(critical, "create", rev(f, 2), false);
    close_stream(names);
    close_stream(nodes);
    close_stream(checks);
    close_stream(critical);
    await_streams(f, 0);
}

/* ------------------------------------------------------------- /registry */

static void version(const struct fixture *f, const char *name, const char *id,
                    const char *version)
{
    char body[512];
    struct answer a;

    (void)snprintf(body, sizeof body,
                   "{\"name\":\"%s\",\"version\":\"%s\",\"nodes\":[{\"id\":"
                   "\"%s\",\"address\":\"10.0.0.1:80\"}]}",
                   name, version, id);
    a = exchange(f, "POST", "/registry", "", body);
    assert_int_equal(a.status, 200);
    free(a.text);
}

static void registry(const struct fixture *f, const char *name, const char *id)
{
    version(f, name, id, "1");
}

static void expect_node(struct stream *s, const char *action, bool more,
                        const char *name, const char *id)
{
    json_t *line = next(s);
    json_t *service = json_object_get(line, "service");
    json_t *nodes = json_object_get(service, "nodes");

    assert_string_equal(member(line, "action"), action);
    assert_int_equal(json_is_true(json_object_get(line, "more")), more);
    assert_string_equal(member(service, "name"), name);
    assert_int_equal(json_array_size(nodes), 1);
    assert_string_equal(member(json_array_get(nodes, 0), "id"), id);
}

static void one_stream_tells_of_several_services(void **state)
{
    struct fixture *f = *state;

    registry(f, "a", "a1");
    registry(f, "c", "c1");
    struct stream *s =
        post_stream(f, "[{\"name\":\"b\"},{\"name\":\"a\"},{\"name\":\"b\"}]");

    expect_node(s, "create", true, "a", "a1");
    expect_line(s, "synced", mr_kv_revision(f->kv), false);
    registry(f, "b", "b1");
    registry(f, "c", "c2");
    registry(f, "A", "A1"); /* Another one: names are exact. */
    registry(f, "a", "a2");
    expect_node(s, "create", false, "b", "b1");
    expect_node(s, "create", false, "a", "a2");
    close_stream(s);
    s = open_stream(f, "/registry/watch", "");
    expect_node(s, "create", true, "A", "A1");
    close_stream(s);
}

static const char *told_version(const struct stream *s)
{
    return member(json_object_get(s->json, "service"), "version");
}

static void node_that_gets_another_version_leaves_the_old_one(void **state)
{
    struct fixture *f = *state;

    version(f, "a", "a1", "1");
    struct stream *s = open_stream(f, "/registry/watch?service=a", "");

    expect_node(s, "create", true, "a", "a1");
    expect_line(s, "synced", mr_kv_revision(f->kv), false);
    version(f, "a", "a1", "2");
    expect_node(s, "delete", true, "a", "a1");
    assert_string_equal(told_version(s), "1");
    expect_node(s, "create", false, "a", "a1");
    assert_string_equal(told_version(s), "2");
    close_stream(s);
}

/* A change of what go-micro does not see is none to its watchers. */
static void registry_hears_of_what_it_shows_only(void **state)
{
    struct fixture *f = *state;
    struct stream *s = open_stream(f, "/registry/watch?service=web", "");

    expect_line(s, "synced", rev(f, 0), false);
    catalog(f, SERVICE("passing"));
    catalog(f, SERVICE("warning"));
    catalog(f, "{\"Node\":\"web1\",\"Address\":\"10.0.0.1\",\"NodeMeta\":{"
               "\"rack\":\"7\"}}");
    catalog(f, "{\"Node\":\"web1\",\"Address\":\"10.0.0.2\"}");
    catalog(f, SERVICE("critical")); /* With the first address again. */
    expect_node(s, "create", false, "web", "w1");
    expect_node(s, "update", false, "web", "w1");
    assert_int_equal(json_integer_value(json_object_get(s->json, "index")),
                     rev(f, 4));
    expect_node(s, "delete", false, "web", "w1");
    close_stream(s);
}

/* An instance of web with the ID w. */
static void twin(const struct fixture *f, const char *node, int port,
                 const char *status)
{
    catalog(f, text("{\"Node\":\"%s\",\"Address\":\"10.0.0.1\",\"Service\":{"
                    "\"ID\":\"w\",\"Service\":\"web\",\"Port\":%d},"
                    "\"Check\":{\"CheckID\":\"c\",\"ServiceID\":\"w\","
                    "\"Status\":\"%s\"}}",
                    node, port, status));
}

static const char *told_address(const struct stream *s)
{
    json_t *service = json_object_get(s->json, "service");

    return member(json_array_get(json_object_get(service, "nodes"), 0),
                  "address");
}

/* A service moves to another server while the old one's is still there. */
static void one_id_on_two_nodes_is_one_to_go_micro(void **state)
{
    struct fixture *f = *state;
    struct stream *s = open_stream(f, "/registry/watch?service=web", "");

    expect_line(s, "synced", rev(f, 0), false);
    twin(f, "n1", 80, "passing");
    expect_node(s, "create", false, "web", "w");
    twin(f, "n2", 80, "passing"); /* It looks the same. */
    twin(f, "n1", 80, "critical");
    twin(f, "n3", 81, "passing");
    expect_node(s, "update", false, "web", "w");
    assert_string_equal(told_address(s), "10.0.0.1:81");
    assert_int_equal(json_integer_value(json_object_get(s->json, "index")),
                     rev(f, 4));
    twin(f, "n2", 82, "passing"); /* Not the latest. */
    twin(f, "n3", 81, "critical");
    expect_node(s, "update", false, "web", "w");
    assert_string_equal(told_address(s), "10.0.0.1:82");
    expect(f, "PUT", "/v1/catalog/deregister", "{\"Node\":\"n2\"}", 200,
           "true");
    expect_node(s, "delete", false, "web", "w");
    assert_string_equal(told_address(s), "10.0.0.1:82");
    twin(f, "n1", 80, "passing");
    expect_node(s, "create", false, "web", "w");
    close_stream(s);
}

static void one_id_on_two_nodes_is_listed_once(void **state)
{
    struct fixture *f = *state;

    twin(f, "n2", 81, "passing");
    twin(f, "n1", 80, "passing");
    twin(f, "n3", 82, "critical");
    struct stream *s = open_stream(f, "/registry/watch?service=web", "");

    expect_node(s, "create", true, "web", "w");
    assert_string_equal(told_address(s), "10.0.0.1:80");
    expect_line(s, "synced", mr_kv_revision(f->kv), false);
    close_stream(s);
    expect(f, "GET", "/registry?service=web", NULL, 200,
           "[{\"name\":\"web\",\"version\":\"\",\"metadata\":null,"
           "\"endpoints\":null,\"nodes\":[{\"id\":\"w\",\"address\":"
           "\"10.0.0.1:80\",\"metadata\":null}]}]");
}

static void service_that_joins_a_stream_begins_with_its_snapshot(void **state)
{
    struct fixture *f = *state;

    registry(f, "a", "a1");
    registry(f, "b", "b1");
    unsigned long long index = mr_kv_revision(f->kv);

    registry(f, "a", "a2");
    registry(f, "b", "b2");
    struct stream *s = post_stream(
        f, text("[{\"name\":\"a\",\"index\":%llu},{\"name\":\"b\"}]", index));

    expect_node(s, "create", false, "a", "a2");
    expect_node(s, "create", true, "b", "b1");
    expect_node(s, "create", true, "b", "b2");
    expect_line(s, "synced", mr_kv_revision(f->kv), false);
    close_stream(s);
}

/* One index of several that never was is enough: who has seen it has seen
 * another state. */
static void service_with_an_index_that_never_was_is_reset(void **state)
{
    struct fixture *f = *state;

    registry(f, "a", "a1");
    registry(f, "b", "b1");
    unsigned long long index = mr_kv_revision(f->kv);
    struct stream *s =
        post_stream(f, text("[{\"name\":\"a\",\"index\":%llu},{\"name\":\"b\","
                            "\"index\":%llu}]",
                            index, index + 1000));

    expect_line(s, "reset", index, true);
    expect_node(s, "create", true, "a", "a1");
    expect_node(s, "create", true, "b", "b1");
    expect_line(s, "synced", index, false);
    close_stream(s);
}

/* ------------------------------------------------------------- formats */

static void server_sent_events_carry_ids_and_resume(void **state)
{
    struct fixture *f = *state;
    const char *const accept = "Accept: text/event-stream\r\n";

    put(f, "a", "1");
    struct stream *s = open_stream(f, "/v1/watch/key/a", accept);

    assert_string_equal(next_line(s), "event: create"); /* More: no id. */
    assert_memory_equal(next_line(s), "data: {\"index\":", 15);
    assert_string_equal(next_line(s), "");
    assert_string_equal(next_line(s), "event: synced");
    assert_string_equal(next_line(s), text("id: %llu", rev(f, 1)));
    close_stream(s);
    put(f, "a", "2");
    char headers[128];

    (void)snprintf(headers, sizeof headers, "%sLast-Event-ID: %llu\r\n", accept,
                   rev(f, 1));
    s = open_stream(f, "/v1/watch/key/a", headers);
    assert_string_equal(next_line(s), "event: update");
    assert_string_equal(next_line(s), text("id: %llu", rev(f, 2)));
    close_stream(s);
}

static void silence_is_broken_by_progress(void **state)
{
    struct fixture *f = *state;
    struct stream *s = open_stream(f, "/v1/watch/key/a?progress=1s", "");

    expect_line(s, "synced", rev(f, 0), false);
    put(f, "b", "1");
    expect_line(s, "progress", rev(f, 1), false);
    put(f, "a", "1");
    expect_key(s, "create", rev(f, 2), false, "a");
    close_stream(s);
}

/* ------------------------------------------------------------- bounds */

static void bad_requests_say_what_is_wrong(void **state)
{
    static const char *const cases[][2] = {
        {"/v1/watch/key/", "Missing key name"},
        {"/v1/watch/service/", "Missing service name"},
        {"/v1/watch/key/a?index=-1", "Invalid index"},
        {"/registry/watch?service=a&index=x", "Invalid index"},
        {"/v1/watch/key/a?progress=1ms",
         "Invalid progress \"1ms\": a duration from 1s to 10m is wanted"},
        {"/v1/watch/key/a?progress=x",
         "Invalid progress \"x\": a duration from 1s to 10m is wanted"},
        {"/v1/watch/service/a?passing=maybe", "Invalid value for ?passing"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        expect(f, "GET", cases[i][0], NULL, 400, cases[i][1]);
    }
    expect(f, "GET", "/v1/watch/keys", NULL, 404,
           "No such stream. There are key/KEY, keyprefix/PREFIX, services, "
           "service/NAME, nodes and checks");
}

static void bad_lists_of_services_say_what_is_wrong(void **state)
{
    static const char *const cases[][2] = {
        {"{\"services\":[]}", "\"services\" must have 1 to 256 members, has 0"},
        {"{\"services\":[{\"index\":1}]}",
         "services[0].name must have 1 to 160 bytes"},
        {"{\"services\":[{\"name\":\"a\"},{\"name\":\"b\",\"index\":-1}]}",
         "services[1].index is negative"},
    };
    struct fixture *f = *state;
    struct mr_buf body = MR_BUF_INIT;

    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        expect(f, "POST", "/registry/watch", cases[i][0], 400, cases[i][1]);
    }
    mr_buf_str(&body, "{\"services\":[{\"name\":\"a\"}");
    for (int i = 0; i < 256; i++) {
        mr_buf_str(&body, ",{\"name\":\"a\"}");
    }
    mr_buf_str(&body, "]}");
    expect(f, "POST", "/registry/watch", mr_buf_cstr(&body), 400,
           "\"services\" must have 1 to 256 members, has 257");
    mr_buf_deinit(&body);
}

/* Readers that do not read cost a position each, and are told to reset. */
static void slow_reader_is_told_to_reset(void **state)
{
    struct fixture *f = *state;
    struct stream *s = open_stream(f, "/v1/watch/keyprefix/s/", "");
    char *big = malloc(400001);
    bool was_reset = false;

    expect_line(s, "synced", rev(f, 0), false);
    memset(big, 'x', 400000);
    big[400000] = '\0';
    for (int i = 0; i < 60; i++) {
        big[0] = (char)('A' + i);
        put(f, text("s/%d", i % 3), big);
    }
    put(f, "s/end", "x");
    for (;;) {
        const char *line = next_line(s);

        assert_non_null(line);
        was_reset = was_reset || strstr(line, "\"reset\"") != NULL;
        if (strstr(line, "\"s/end\"") != NULL) {
            break;
        }
    }
    assert_true(was_reset);
    free(big);
    close_stream(s);
}

/* What others do meanwhile is forgotten, and was nothing to them. */
static void readers_of_what_is_quiet_are_not_reset(void **state)
{
    struct fixture *f = *state;
    char *big = malloc(500001);
    struct stream *s;

    put(f, "a", "1");
    s = open_stream(f, "/v1/watch/key/a", "");
    expect_key(s, "create", rev(f, 1), true, "a");
    expect_line(s, "synced", rev(f, 1), false);
    memset(big, 'x', 500000);
    big[500000] = '\0';
    for (int i = 0; i < 24; i++) {
        big[0] = (char)('a' + i);
        put(f, "big", big);
    }
    free(big);
    put(f, "a", "2");
    expect_key(s, "update", rev(f, 26), false, "a");
    close_stream(s);
}

static void many_readers_of_a_key_hear_of_every_change(void **state)
{
    struct fixture *f = *state;
    struct stream *s[100];

    for (size_t i = 0; i < MR_ARRAY_LEN(s); i++) {
        s[i] = open_stream(f, "/v1/watch/key/a", "");
    }
    for (size_t i = 0; i < MR_ARRAY_LEN(s); i++) {
        expect_line(s[i], "synced", rev(f, 0), false);
    }
    for (int n = 1; n <= 10; n++) {
        put(f, "a", text("%d", n));
    }
    for (size_t i = 0; i < MR_ARRAY_LEN(s); i++) {
        for (int n = 1; n <= 10; n++) {
            expect_key(s[i], n == 1 ? "create" : "update", rev(f, n), false,
                       "a");
        }
        close_stream(s[i]);
    }
    await_streams(f, 0);
}

static void quiescing_ends_streams_in_order(void **state)
{
    struct fixture *f = *state;
    struct stream *s = open_stream(f, "/v1/watch/key/a", "");

    expect_line(s, "synced", rev(f, 0), false);
    mr_api_quiesce(f->api);
    assert_null(next_line(s));
    assert_true(s->is_ended); /* Not cut off. */
    close_stream(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_service(key_is_told_with_every_change),
        with_service(change_of_several_keys_comes_whole),
        with_service(stream_goes_on_after_its_index),
        with_service(index_that_never_was_is_reset),
        with_service(index_that_was_forgotten_is_reset),
        with_service(instance_is_told_with_its_checks),
        with_service(what_does_not_pass_is_deleted_for_those_who_want_passing),
        with_service(lists_are_told),
        with_service(one_stream_tells_of_several_services),
        with_service(node_that_gets_another_version_leaves_the_old_one),
        with_service(registry_hears_of_what_it_shows_only),
        with_service(one_id_on_two_nodes_is_one_to_go_micro),
        with_service(one_id_on_two_nodes_is_listed_once),
        with_service(service_that_joins_a_stream_begins_with_its_snapshot),
        with_service(service_with_an_index_that_never_was_is_reset),
        with_service(server_sent_events_carry_ids_and_resume),
        with_service(silence_is_broken_by_progress),
        with_service(bad_requests_say_what_is_wrong),
        with_service(bad_lists_of_services_say_what_is_wrong),
        with_service(slow_reader_is_told_to_reset),
        with_service(readers_of_what_is_quiet_are_not_reset),
        with_service(many_readers_of_a_key_hear_of_every_change),
        with_service(quiescing_ends_streams_in_order),
    };

    return cmocka_run_group_tests_name("api_watch", tests, NULL, NULL);
}
