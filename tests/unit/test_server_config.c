/* SPDX-License-Identifier: Apache-2.0 */
/* server/config: flags, files, defaults and what must fit together. */
#include "server/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"

#define S INT64_C(1000000000)
#define FLAGS_MAX 16

struct fixture {
    struct server_config cfg;
    struct mr_detail detail;
    enum mr_err err;
};

static int set_up(void **state)
{
    *state = calloc(1, sizeof(struct fixture));
    return *state == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    server_config_deinit(&f->cfg);
    free(f);
    return 0;
}

/* Load with these flags, up to a NULL. */
static void load(struct fixture *f, ...)
{
    char *argv[FLAGS_MAX];
    int argc = 0;
    va_list ap;

    va_start(ap, f);
    while (argc < FLAGS_MAX && (argv[argc] = va_arg(ap, char *)) != NULL) {
        argc++;
    }
    va_end(ap);
    server_config_deinit(&f->cfg);
    f->detail.text[0] = '\0';
    f->err = server_config_load(&f->cfg, argc, argv, &f->detail);
}

/* Merge this JSON into the defaults. */
static void parse(struct fixture *f, const char *json)
{
    server_config_deinit(&f->cfg);
    f->detail.text[0] = '\0';
    assert_int_equal(server_config_init(&f->cfg), MR_OK);
    f->err =
        server_config_parse(&f->cfg, "a.json", mr_slice_str(json), &f->detail);
}

static void assert_says(const struct fixture *f, const char *part)
{
    if (strstr(f->detail.text, part) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", part, f->detail.text);
    }
}

static void assert_refused(const struct fixture *f, const char *part)
{
    assert_int_not_equal(f->err, MR_OK);
    assert_says(f, part);
}

/* ---- success ---- */

/* The defaults are Consul's ports and the project's domains. */
static void defaults_are_consuls(void **state)
{
    struct fixture *f = *state;

    load(f, "-server", "-data-dir=/x", NULL);
    assert_int_equal(f->err, MR_OK);
    assert_int_equal(f->cfg.http_port, 8500);
    assert_int_equal(f->cfg.dns_port, 8600);
    assert_int_equal(f->cfg.server_port, 8300);
    assert_string_equal(f->cfg.datacenter, "dc1");
    assert_string_equal(f->cfg.client_addr, "127.0.0.1");
    assert_string_equal(f->cfg.domain, "micro");
    assert_string_equal(f->cfg.alt_domain, "consul");
    assert_int_equal(f->cfg.max_query_time_ns, 600 * S);
    assert_true(f->cfg.node_name[0] != '\0');
}

/* A flag takes one dash or two, and its value behind "=" or as next word. */
static void flags_are_written_in_four_ways(void **state)
{
    struct fixture *f = *state;

    load(f, "--server", "-data-dir", "/x", "--node=n1", "-http-port", "1",
         "--retry-join", "a", "-retry-join=b:1", NULL);
    assert_int_equal(f->err, MR_OK);
    assert_true(f->cfg.server);
    assert_string_equal(f->cfg.data_dir, "/x");
    assert_string_equal(f->cfg.node_name, "n1");
    assert_int_equal(f->cfg.http_port, 1);
    assert_int_equal(f->cfg.retry_join.n, 2);
    assert_string_equal(f->cfg.retry_join.items[1], "b:1");
}

/* A boolean flag may say false; it never takes the next word. */
static void boolean_flags_take_a_value_behind_equals_only(void **state)
{
    struct fixture *f = *state;

    load(f, "-server=true", "-ui=false", "-data-dir=/x", NULL);
    assert_int_equal(f->err, MR_OK);
    assert_false(f->cfg.ui);
    load(f, "-server", "false", NULL);
    assert_refused(f, "Unexpected extra arguments: [false]");
}

/* Every kind of value is read from a file, at any case of the names. */
static void files_set_every_kind_of_value(void **state)
{
    struct fixture *f = *state;

    parse(f, "{\"Server\": true, \"ports\": {\"HTTP\": 80},"
             " \"retry_join\": [\"a\", \"b\"], \"start_join\": \"c\","
             " \"node_meta\": {\"rack\": \"r1\"},"
             " \"dns_config\": {\"node_ttl\": \"5s\","
             "   \"service_ttl\": {\"*\": \"1s\"}, \"soa\": {\"retry\": 7}},"
             " \"limits\": {\"kv_max_value_size\": 1000}}");
    assert_int_equal(f->err, MR_OK);
    assert_true(f->cfg.server);
    assert_int_equal(f->cfg.http_port, 80);
    assert_int_equal(f->cfg.retry_join.n, 2);
    assert_int_equal(f->cfg.start_join.n, 1);
    assert_string_equal(f->cfg.node_meta.items[0], "rack");
    assert_string_equal(f->cfg.node_meta.items[1], "r1");
    assert_int_equal(f->cfg.node_ttl_ns, 5 * S);
    assert_string_equal(f->cfg.service_ttl.items[1], "1s");
    assert_int_equal(f->cfg.soa_retry_s, 7);
    assert_int_equal(f->cfg.kv_max_value_size, 1000);
}

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[128];
    FILE *out;

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    out = fopen(path, "w");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

/* Of a folder the later file wins, and a flag wins over both. */
static void flags_override_files_in_name_order(void **state)
{
    struct fixture *f = *state;
    char dir[] = "/tmp/mr-test-XXXXXX";
    char flag[64];
    char path[64];

    assert_non_null(mkdtemp(dir));
    write_file(dir, "b.json", "{\"node_name\": \"b\", \"domain\": \"two\"}");
    write_file(dir, "a.json",
               "{\"node_name\": \"a\", \"domain\": \"one\","
               " \"retry_join\": [\"x\"]}");
    write_file(dir, "c.txt", "not read");
    (void)snprintf(flag, sizeof flag, "-config-dir=%s", dir);
    load(f, "-node=flag", flag, "-server", "-data-dir=/x", "-retry-join=y",
         NULL);
    assert_int_equal(f->err, MR_OK);
    assert_string_equal(f->cfg.node_name, "flag");
    assert_string_equal(f->cfg.domain, "two");
    assert_null(f->cfg.alt_domain);
    assert_int_equal(f->cfg.retry_join.n, 2);
    for (const char *const *name =
             (const char *const[]){"a.json", "b.json", "c.txt", NULL};
         *name != NULL; name++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, *name);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(dir), 0);
}

/* Consul's option without effect is accepted, and said to be ignored. */
static void harmless_options_of_consul_are_ignored_aloud(void **state)
{
    struct fixture *f = *state;

    load(f, "-server", "-data-dir=/x", "-raft-protocol=3", NULL);
    assert_int_equal(f->err, MR_OK);
    assert_int_equal(f->cfg.warnings.n, 1);
    assert_string_equal(f->cfg.warnings.items[0],
                        "ignoring raft_protocol: there is one protocol");
    parse(f, "{\"performance\": {\"raft_multiplier\": 1}}");
    assert_int_equal(f->err, MR_OK);
    assert_int_equal(f->cfg.warnings.n, 1);
}

/* What asks for the only thing there is needs no refusal. */
static void refused_options_may_say_what_is_the_case(void **state)
{
    struct fixture *f = *state;

    parse(f, "{\"ports\": {\"https\": -1, \"grpc\": -1}, \"encrypt\": \"\","
             " \"acl\": {\"enabled\": false}, \"services\": [],"
             " \"verify_incoming\": false, \"recursors\": []}");
    assert_int_equal(f->err, MR_OK);
    assert_int_equal(f->cfg.warnings.n, 0);
}

/* An agent without -server leaves when it ends, unless it is told not to. */
static void without_server_the_defaults_of_leaving_are_others(void **state)
{
    struct fixture *f = *state;

    load(f, "-server", "-data-dir=/x", NULL);
    assert_int_equal(f->err, MR_OK);
    assert_false(f->cfg.leave_on_terminate);
    assert_true(f->cfg.skip_leave_on_interrupt);
    load(f, "-data-dir=/x", "-retry-join=y", NULL);
    assert_int_equal(f->err, MR_OK);
    assert_true(f->cfg.leave_on_terminate);
    assert_false(f->cfg.skip_leave_on_interrupt);
    assert_int_equal(f->cfg.warnings.n, 0);
    load(f, "-data-dir=/x", NULL);
    assert_int_equal(f->err, MR_OK);
    assert_non_null(strstr(f->cfg.warnings.items[0], "no address to join"));
    parse(f, "{\"leave_on_terminate\": false}");
    assert_true(server_config_given(&f->cfg, "leave_on_terminate"));
    assert_false(server_config_given(&f->cfg, "skip_leave_on_interrupt"));
}

/* -dev is a complete server without a word more. */
static void dev_needs_nothing(void **state)
{
    struct fixture *f = *state;

    load(f, "-dev", NULL);
    assert_int_equal(f->err, MR_OK);
    assert_true(f->cfg.server);
    assert_int_equal(f->cfg.bootstrap_expect, 1);
    assert_string_equal(f->cfg.bind_addr, "127.0.0.1");
    assert_string_equal(f->cfg.log_level, "DEBUG");
    assert_null(f->cfg.data_dir);
}

/* Literals stay, names are looked up, and lists are split. */
static void addresses_become_literals(void **state)
{
    struct fixture *f = *state;

    load(f, "-server", "-data-dir=/x", "-bind=127.0.0.5",
         "-client=127.0.0.1 ::1", NULL);
    assert_int_equal(server_config_resolve(&f->cfg, &f->detail), MR_OK);
    assert_string_equal(f->cfg.bind_ip, "127.0.0.5");
    assert_string_equal(f->cfg.advertise_ip, "127.0.0.5");
    assert_int_equal(f->cfg.http_ips.n, 2);
    assert_string_equal(f->cfg.http_ips.items[1], "::1");
    assert_string_equal(f->cfg.dns_ips.items[0], "127.0.0.1");
}

static void count_option(void *arg, const struct server_option *option)
{
    unsigned *n = arg;

    assert_non_null(option);
    ++*n;
}

/* Two loads with the same flags differ in nothing, one flag makes one. */
static void diff_finds_what_changed(void **state)
{
    struct fixture *f = *state;
    struct server_config other;
    char server[] = "-server";
    char dir[] = "-data-dir=/x";
    char node[] = "-node=z";
    char *argv[] = {server, dir, node};
    unsigned n = 0;

    load(f, "-server", "-data-dir=/x", "-node=y", NULL);
    assert_int_equal(server_config_load(&other, 3, argv, &f->detail), MR_OK);
    server_config_diff(&f->cfg, &f->cfg, count_option, &n);
    assert_int_equal(n, 0);
    server_config_diff(&f->cfg, &other, count_option, &n);
    assert_int_equal(n, 1);
    server_config_deinit(&other);
}

/* Every row can be found, ranges hold their defaults, help is there. */
static void table_is_consistent(void **state)
{
    size_t n;
    const struct server_option *options = server_options(&n);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        const struct server_option *o = &options[i];

        assert_true(o->flag != NULL || o->key != NULL);
        assert_non_null(o->help);
        assert_true(o->min <= o->max);
        if (o->flag != NULL) {
            assert_ptr_equal(server_option_by_flag(o->flag, strlen(o->flag)),
                             o);
        }
        if (o->key != NULL) {
            assert_ptr_equal(server_option_by_key(o->key), o);
        }
    }
}

/* ---- failure ---- */

/* An unknown flag names the nearest one. */
static void unknown_flags_name_the_nearest(void **state)
{
    struct fixture *f = *state;

    load(f, "-data-dri=x", NULL);
    assert_refused(f, "not defined: -data-dri (did you mean -data-dir?)");
    load(f, "--boostrap-expect=3", NULL);
    assert_refused(f, "-bootstrap-expect");
    load(f, "-xyzzyxyzzy", NULL);
    assert_refused(f, "-xyzzyxyzzy (see microreg agent -h)");
    load(f, "-node", NULL);
    assert_refused(f, "flag needs an argument: -node");
}

/* Values out of range or of another kind are refused by name. */
static void bad_values_are_refused_by_name(void **state)
{
    static const char *const cases[][2] = {
        {"-http-port=99999", "ports.http: invalid port: 99999"},
        {"-http-port=0", "ports.http: invalid port: 0"},
        {"-http-port=x", "ports.http: invalid value \"x\""},
        {"-http-port=", "ports.http: invalid value \"\""},
        {"-server-port=-1", "ports.server: invalid port: -1"},
        {"-bootstrap-expect=-1", "bootstrap_expect: invalid value: -1"},
        {"-retry-interval=soon", "time: invalid duration \"soon\""},
        {"-retry-interval=1h1s", "(want 10ms to 1h0m0s)"},
        {"-server=maybe", "server: invalid value \"maybe\""},
        {"-node-meta=x", "want key=value"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        load(f, "-server", "-data-dir=/x", cases[i][0], NULL);
        assert_refused(f, cases[i][1]);
    }
}

/* What does not fit together is refused with what to do. */
static void contradictions_are_refused(void **state)
{
    static const char *const cases[][2] = {
        {"-node=", "node_name cannot be empty"},
        {"-node=a\nb", "control character"},
        {"-datacenter=d c", "Please use only [a-z0-9-_]"},
        {"-datacenter=", "datacenter cannot be empty"},
        {"-node-id=123", "is not a UUID"},
        {"-log-level=shouting", "Invalid log level: shouting"},
        {"-domain=a..b", "is not a DNS domain"},
        {"-retry-join=a:b", "retry_join: bad address \"a:b\""},
        {"-retry-join=provider=aws x=y", "cloud auto-join is not supported"},
        {"-node-meta=a b=c", "Key contains invalid characters"},
        {"-node-meta=consul-x=c", "reserved"},
        {"-dns-port=8500", "must differ"},
        {"-default-query-time=11m", "longer than max_query_time"},
        {"-config-file=/no/such/file.json", "/no/such/file.json"},
        {"-encrypt=x", "encrypt is not supported"},
        {"-hcl=x", "hcl is not supported"},
        {"-grpc-port=8502", "there is no gRPC port"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        load(f, "-server", "-data-dir=/x", cases[i][0], NULL);
        assert_refused(f, cases[i][1]);
    }
    load(f, "-server", NULL);
    assert_refused(f, "data_dir cannot be empty");
    load(f, "-data-dir=/x", "-bootstrap-expect=3", NULL);
    assert_refused(f, "requires 'server = true'");
    load(f, "-bootstrap-expect=3", "-data-dir=/x", NULL);
    assert_refused(f, "requires 'server = true'");
    load(f, "-server", "-bootstrap", "-bootstrap-expect=3", NULL);
    assert_refused(f, "mutually exclusive");
}

/* File errors name the file, the line, the member and the nearest name. */
static void file_errors_say_where(void **state)
{
    static const char *const cases[][2] = {
        {"{\n\"servre\": true}",
         "failed to parse a.json: line 2: invalid config key servre (did you "
         "mean server?)"},
        {"{\"x\": \"servre:\",\n\n\"dns_config\": {\"soa\":\n{\"rfresh\": 1}}}",
         "line 1: invalid config key x"},
        {"{\"dns_config\": {\"soa\":\n{\"rfresh\": 1}}}",
         "line 2: invalid config key dns_config.soa.rfresh (did you mean "
         "dns_config.soa.refresh?)"},
        {"{\"ports\": {\"http\": \"x\"}}",
         "'ports.http' expected type 'int', got unconvertible type 'string'"},
        {"{\"ports\": {\"http\": 1.5}}", "expected type 'int'"},
        {"{\"ports\": {\"http\": 123456}}", "invalid port: 123456"},
        {"{\"ports\": 1}", "'ports' expected type"},
        {"{\"server\": 1}", "expected type 'bool', got unconvertible type "
                            "'float64'"},
        {"{\"retry_join\": [1]}", "'retry_join' expected type '[]string'"},
        {"{\"retry_join\": {}}", "got unconvertible type 'map[string]"},
        {"{\"node_meta\": [\"a\"]}", "'node_meta' expected type"},
        {"{\"node_name\": null}", "got unconvertible type 'nil'"},
        {"{\n\"services\": [\n{\"naem\": \"x\"}]}",
         "line 3: invalid config key services[0].naem (did you mean name?)"},
        {"{\"service\": {\"name\": \"x\",\n\"port\": \"80\"}}",
         "line 2: service.port: expected type 'int', got unconvertible type "
         "'string'"},
        {"{\"check\": {\"name\": \"x\"}}",
         "line 1: check: Invalid check: TTL must be > 0 for TTL checks"},
        {"{\"checks\": {}}", "'checks' expected type"},
        {"{\"acl\": {\"enabled\": true}}", "acl is not supported"},
        {"{", "failed to parse a.json: line 1"},
        {"[]", "want a JSON object"},
        {"", "failed to parse a.json"},
        {"{\"server\": true, \"server\": false}", "duplicate"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        parse(f, cases[i][0]);
        assert_int_equal(f->err, MR_E_INVALID);
        assert_says(f, cases[i][1]);
    }
}

/* Addresses that no server can have are refused by name. */
static void addresses_that_do_not_serve_are_refused(void **state)
{
    struct fixture *f = *state;

    load(f, "-server", "-data-dir=/x", "-bind=999.1.1.1", NULL);
    assert_int_equal(server_config_resolve(&f->cfg, &f->detail), MR_E_ADDRESS);
    assert_says(f, "bind_addr: \"999.1.1.1\" does not resolve");
    load(f, "-server", "-data-dir=/x", "-bind=127.0.0.1", "-advertise=0.0.0.0",
         NULL);
    assert_int_equal(server_config_resolve(&f->cfg, &f->detail), MR_E_ADDRESS);
    assert_says(f, "Advertise address cannot be 0.0.0.0");
    load(f, "-server", "-data-dir=/x", "-bind=127.0.0.1", "-client= ", NULL);
    assert_int_equal(server_config_resolve(&f->cfg, &f->detail), MR_E_ADDRESS);
    assert_says(f, "client_addr cannot be empty");
}

/* Whichever allocation fails, loading says so and leaks nothing. */
static void loading_survives_a_lack_of_memory(void **state)
{
    struct fixture *f = *state;
    uint64_t n = 0;

    do {
        assert_true(n < 10000);
        mr_mem_fail_after(n++);
        load(f, "-server", "-data-dir=/x", "-retry-join=a", "-node-meta=k=v",
             "-raft-protocol=3", "-bind=127.0.0.1", NULL);
        if (f->err == MR_OK) {
            f->err = server_config_resolve(&f->cfg, &f->detail);
        }
        assert_true(f->err == MR_OK || f->err == MR_E_NOMEM);
    } while (f->err != MR_OK);
    mr_mem_fail_after(UINT64_MAX);
    assert_true(n > 20);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(defaults_are_consuls),
        TEST(flags_are_written_in_four_ways),
        TEST(boolean_flags_take_a_value_behind_equals_only),
        TEST(files_set_every_kind_of_value),
        TEST(flags_override_files_in_name_order),
        TEST(harmless_options_of_consul_are_ignored_aloud),
        TEST(refused_options_may_say_what_is_the_case),
        TEST(dev_needs_nothing),
        TEST(addresses_become_literals),
        TEST(diff_finds_what_changed),
        TEST(table_is_consistent),
        TEST(unknown_flags_name_the_nearest),
        TEST(bad_values_are_refused_by_name),
        TEST(contradictions_are_refused),
        TEST(without_server_the_defaults_of_leaving_are_others),
        TEST(file_errors_say_where),
        TEST(addresses_that_do_not_serve_are_refused),
        TEST(loading_survives_a_lack_of_memory),
    };

    return cmocka_run_group_tests_name("server_config", tests, NULL, NULL);
}
