/* SPDX-License-Identifier: Apache-2.0 */
/* server/definitions, json_line and note: what files define. */
#include "server/definitions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "server/note.h"

struct fixture {
    struct server_definitions defs;
    struct server_note note;
    struct server_note other;
    struct mr_detail detail;
    char dir[64];
    char path[96];
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    strcpy(f->dir, "/tmp/mr-test-defs-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof f->path, "%s/note.json", f->dir);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    mr_mem_fail_after(UINT64_MAX);
    server_definitions_deinit(&f->defs);
    server_note_deinit(&f->note);
    server_note_deinit(&f->other);
    (void)unlink(f->path);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

/* Add the members of the object @text, as a file that holds nothing else. */
static enum mr_err add(struct fixture *f, const char *text)
{
    json_error_t why;
    json_t *root = json_loads(text, 0, &why);
    const char *key;
    json_t *value;
    enum mr_err err = MR_OK;

    if (root == NULL) {
        fail_msg("%s", why.text);
    }
    json_object_foreach(root, key, value)
    {
        if (err == MR_OK) {
            err = server_definitions_add(&f->defs, "a.json", text, key, value,
                                         &f->detail);
        }
    }
    json_decref(root);
    return err;
}

static void assert_refused(struct fixture *f, const char *text,
                           const char *wanted)
{
    assert_int_equal(add(f, text), MR_E_INVALID);
    if (strstr(f->detail.text, wanted) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", wanted, f->detail.text);
    }
}

/* ------------------------------------------------------------- success */

/* Every member has Consul's two spellings. */
static void both_spellings_are_read(void **state)
{
    struct fixture *f = *state;
    const Mr__Service *s;
    const Mr__Check *c;

    assert_int_equal(
        add(f, "{\"service\": {\"name\": \"w\", \"EnableTagOverride\": true,"
               " \"TaggedAddresses\": {\"lan\": {\"address\": \"x\"}}},"
               " \"Services\": [{\"ID\": \"v\", \"Name\": \"w\","
               " \"enable_tag_override\": true, \"meta\": {\"A_b\": \"c\"},"
               " \"check\": {\"http\": \"http://x\", \"interval\": \"5s\","
               " \"header\": {\"X_y\": [\"z\"]}, \"TLSSkipVerify\": true,"
               " \"success_before_passing\": 2,"
               " \"deregister_critical_service_after\": \"1m\"}}]}"),
        MR_OK);
    assert_int_equal(f->defs.n, 2);
    s = f->defs.items[0].part->services[0];
    assert_true(s->enable_tag_override);
    assert_string_equal(s->tagged_addresses[0]->tag, "lan");
    assert_int_equal(s->origin, MR__ORIGIN__AGENT);
    s = f->defs.items[1].part->services[0];
    assert_true(s->enable_tag_override);
    assert_string_equal(s->meta[0]->key, "A_b");
    c = f->defs.items[1].part->checks[0];
    assert_string_equal(c->check_id, "service:v");
    assert_string_equal(c->definition->header[0]->name, "X_y");
    assert_true(c->definition->tls_skip_verify);
    assert_int_equal(c->definition->success_before_passing, 2);
    assert_int_equal(c->definition->deregister_after_ns, 60000000000);
}

static void checks_stand_alone(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(
        add(f, "{\"check\": {\"id\": \"a\", \"name\": \"n\", \"ttl\": \"1s\","
               " \"service_id\": \"w\", \"token\": \"t\"},"
               "\n\"checks\": [\n{\"name\": \"b\", \"ttl\": \"1s\"}]}"),
        MR_OK);
    assert_int_equal(f->defs.n, 2);
    assert_string_equal(server_definition_id(&f->defs.items[0]), "a");
    assert_string_equal(f->defs.items[0].part->checks[0]->service_id, "w");
    assert_string_equal(server_definition_id(&f->defs.items[1]), "b");
    assert_int_equal(f->defs.items[1].line, 3);
    assert_false(f->defs.items[1].is_service);
}

static void the_last_of_an_id_wins(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(add(f, "{\"services\": [{\"name\": \"w\", \"port\": 1},"
                            " {\"name\": \"w\", \"port\": 2}],"
                            " \"check\": {\"name\": \"w\", \"ttl\": \"1s\"}}"),
                     MR_OK);
    assert_int_equal(f->defs.n, 2);
    assert_int_equal(f->defs.items[0].part->services[0]->port, 2);
}

/* Lines are found by the whole path, not by the first of a name. */
static void lines_are_found_by_path(void **state)
{
    static const char text[] = "{\n"
                               "\"a\\\"{\": {\"port\": 1},\n"
                               "\"list\": [1, \"]\",\n"
                               "  {\"port\": [ ],\n"
                               "   \"x\": null,\n"
                               "   \"port\": -1.5e3 }\n"
                               "]\n"
                               ",\"Port\":\n"
                               "2}";
    static const struct {
        const char *path;
        unsigned line;
    } cases[] = {
        {"list", 3},         {"list[1]", 3},
        {"list[2]", 4},      {"list[2].x", 5},
        {"list[2].port", 6}, {"port", 8},
        {"list[2].none", 1}, {"list[9]", 1},
        {"list[2].x.y", 5},  {"", 1},
    };

    (void)state;
    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        assert_int_equal(server_json_line(text, cases[i].path), cases[i].line);
    }
}

static void notes_are_kept(void **state)
{
    struct fixture *f = *state;
    struct mr_buf text = MR_BUF_INIT;

    assert_int_equal(server_note_read(&f->note, f->path, &f->detail), MR_OK);
    assert_int_equal(
        add(f, "{\"service\": {\"name\": \"w\", \"check\": {\"ttl\": \"1s\"}},"
               " \"check\": {\"name\": \"c\\u00e9\", \"ttl\": \"1s\"}}"),
        MR_OK);
    assert_int_equal(server_note_add(&f->note, &f->defs), MR_OK);
    assert_int_equal(server_note_add(&f->note, &f->defs), MR_OK);
    assert_int_equal(f->note.services.n, 1);
    assert_int_equal(f->note.checks.n, 2);
    assert_true(server_note_has(&f->note.checks, "service:w"));
    assert_false(server_note_same(&f->note, &f->other));
    server_note_encode(&f->note, &text);
    assert_int_equal(server_note_write(f->path, mr_buf_slice(&text)), MR_OK);
    assert_int_equal(server_note_read(&f->other, f->path, &f->detail), MR_OK);
    assert_true(server_note_same(&f->note, &f->other));
    assert_int_equal(server_note_merge(&f->other, &f->note), MR_OK);
    assert_true(server_note_same(&f->note, &f->other));
    mr_buf_deinit(&text);
}

/* ------------------------------------------------------------- failure */

static void what_is_wrong_is_named(void **state)
{
    struct fixture *f = *state;

    assert_refused(f, "{\"service\": {\n\"nmae\": 1}}",
                   "failed to parse a.json: line 2: invalid config key "
                   "service.nmae (did you mean name?)");
    assert_refused(f,
                   "{\"services\": [{\"name\": \"a\"},\n{\"check\": {\n"
                   "\"tls_skip_verfy\": true}}]}",
                   "line 3: invalid config key "
                   "services[1].check.tls_skip_verfy (did you mean "
                   "tls_skip_verify?)");
    assert_refused(f, "{\"service\": {\"xyzzyx\": 1}}",
                   "line 1: invalid config key service.xyzzyx");
    assert_refused(f, "{\"service\": {\"tags\": [\"a\",\n1]}}",
                   "line 2: service.tags[1]: expected type 'string', got "
                   "unconvertible type 'float64'");
    assert_refused(f, "{\"service\": {\"meta\": {\n\"a\": 1}}}",
                   "line 2: service.meta.a: expected type 'string'");
    assert_refused(f, "{\"check\": {\"interval\": 10}}",
                   "check.interval: expected type 'string'");
    assert_refused(f, "{\"check\": {\"ttl\": \"10\"}}",
                   "check.ttl: invalid duration: \"10\": time: missing unit");
    assert_refused(f, "{\"service\": []}",
                   "expected type 'map[string]interface {}'");
    assert_refused(f, "{\"services\": {}}", "expected type '[]interface {}'");
    assert_refused(f, "{\"check\": {\"ttl\": \"1s\"}}", "Missing check name");
    assert_refused(f,
                   "{\"check\": {\"name\": \"a\", \"status\": \"x\","
                   "\"ttl\": \"1s\"}}",
                   "Bad check status");
    assert_refused(f,
                   "{\"service\": {\"name\": \"a\", \"connect\": "
                   "{\"native\": true}}}",
                   "service.connect: is not supported");
    assert_int_equal(f->defs.n, 1); /* The good one before a bad one. */
}

static void scripts_need_a_switch(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(
        add(f, "{\"service\": {\"name\": \"a\"},\n\"check\": {\"name\": \"s\","
               " \"args\": [\"x\"], \"interval\": \"1s\"}}"),
        MR_OK);
    assert_int_equal(server_definitions_check(&f->defs, true, NULL), MR_OK);
    assert_int_equal(server_definitions_check(&f->defs, false, &f->detail),
                     MR_E_INVALID);
    assert_non_null(strstr(f->detail.text,
                           "a.json: line 2: check \"s\": Scripts are "
                           "disabled on this agent"));
}

static void damaged_notes_are_refused(void **state)
{
    static const char *const texts[] = {"", "{", "[]",
                                        "{\"services\": [], \"checks\": [1]}",
                                        "{\"services\": {}}"};
    struct fixture *f = *state;

    for (size_t i = 0; i < MR_ARRAY_LEN(texts); i++) {
        assert_int_equal(server_note_write(f->path, mr_slice_str(texts[i])),
                         MR_OK);
        assert_int_equal(server_note_read(&f->note, f->path, &f->detail),
                         MR_E_CORRUPT);
        assert_int_equal(f->note.services.n, 0);
    }
    assert_int_equal(server_note_write("/nonexistent/x", mr_slice_str("")),
                     MR_E_IO);
}

/* Without memory there is an error and no leak. */
static void a_lack_of_memory_is_survived(void **state)
{
    struct fixture *f = *state;
    enum mr_err err = MR_E_NOMEM;

    for (uint64_t n = 0; err == MR_E_NOMEM; n++) {
        json_error_t why;
        const char *text = "{\"name\": \"w\", \"check\": {\"ttl\": \"1s\"}}";
        json_t *json = json_loads(text, 0, &why);

        mr_mem_fail_after(n);
        err = server_definitions_add(&f->defs, "a.json", text, "service", json,
                                     &f->detail);
        if (err == MR_OK) {
            err = server_note_add(&f->note, &f->defs);
        }
        mr_mem_fail_after(UINT64_MAX);
        json_decref(json);
        assert_true(n < 200);
    }
    assert_int_equal(err, MR_OK);
    assert_int_equal(f->defs.n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(both_spellings_are_read),
        TEST(checks_stand_alone),
        TEST(the_last_of_an_id_wins),
        TEST(lines_are_found_by_path),
        TEST(notes_are_kept),
        TEST(what_is_wrong_is_named),
        TEST(scripts_need_a_switch),
        TEST(damaged_notes_are_refused),
        TEST(a_lack_of_memory_is_survived),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
