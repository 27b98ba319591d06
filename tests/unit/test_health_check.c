/* SPDX-License-Identifier: Apache-2.0 */
/*
 * health/check: the runner with a real store, real sockets and real commands.
 * Nothing is random, so the first probe of each check comes at once; reports
 * are waited for, and applied to the store as the server does.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include "health/mr_check.h"
#include "tests/unit/kv_fixture.h"

#define NODE "n1"
#define WAIT_S 10
#define MAX_REPORTS 64

struct report {
    char id[64];
    char status[16];
    char output[8192];
};

struct world {
    struct fixture kv;
    struct mr_checks *checks;
    struct mr_checks_options options;
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct report reports[MAX_REPORTS];
    size_t n_reports;
    size_t n_taken;
    bool is_local;
    /* A server: what it answers to every connection, or nothing. */
    int listener;
    pthread_t server;
    const char *answer;
    char request[2048];
    int kept[8]; /* Connections that hang. */
    size_t n_kept;
};

/* Ours comes before the system's: one name hangs until it is let go. */
static int hang_pipe[2] = {-1, -1};

typedef int (*resolve_fn)(const char *node, const char *service,
                          const struct addrinfo *hints, struct addrinfo **out);

int getaddrinfo(const char *node, const char *service,
                const struct addrinfo *hints, struct addrinfo **out)
{
    resolve_fn real;

    if (node != NULL && strcmp(node, "hang.test") == 0) {
        char byte;

        (void)!read(hang_pipe[0], &byte, 1);
        return EAI_NONAME;
    }
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(node, service, hints, out);
}

static void zero_fill(const struct mr_random *random, void *out, size_t len)
{
    (void)random;
    memset(out, 0, len);
}

static const struct mr_random zero_random = {zero_fill};

static void on_report(void *arg, const char *check_id, const char *status,
                      const char *output)
{
    struct world *w = arg;
    struct report *r;

    (void)pthread_mutex_lock(&w->lock);
    r = &w->reports[w->n_reports++ % MAX_REPORTS];
    (void)snprintf(r->id, sizeof r->id, "%s", check_id);
    (void)snprintf(r->status, sizeof r->status, "%s", status);
    (void)snprintf(r->output, sizeof r->output, "%s", output);
    (void)pthread_cond_signal(&w->filled);
    (void)pthread_mutex_unlock(&w->lock);
}

static bool is_local(void *arg, const Mr__Check *check)
{
    (void)check;
    return ((struct world *)arg)->is_local;
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);

    fx_init(&w->kv);
    (void)pthread_mutex_init(&w->lock, NULL);
    (void)pthread_cond_init(&w->filled, NULL);
    w->listener = -1;
    w->options = (struct mr_checks_options){
        .kv = w->kv.kv,
        .node = NODE,
        .enable_scripts = true,
        .clock = mr_clock_system(),
        .random = &zero_random,
        .is_local = is_local,
        .report = on_report,
        .arg = w,
    };
    *state = w;
    return 0;
}

static void run(struct world *w)
{
    struct mr_detail detail = {""};

    if (mr_checks_start(&w->options, &w->checks, &detail) != MR_OK) {
        fail_msg("start: %s", detail.text);
    }
}

static int tear_down(void **state)
{
    struct world *w = *state;

    mr_checks_stop(w->checks);
    if (w->listener >= 0) {
        (void)shutdown(w->listener, SHUT_RDWR);
        (void)pthread_join(w->server, NULL);
        (void)close(w->listener);
    }
    for (size_t i = 0; i < w->n_kept; i++) {
        (void)close(w->kept[i]);
    }
    (void)pthread_cond_destroy(&w->filled);
    (void)pthread_mutex_destroy(&w->lock);
    fx_deinit(&w->kv);
    free(w);
    return 0;
}

/* The next report; the caller's thread applies it as the server would. */
static struct report *take(struct world *w)
{
    struct timespec until;
    struct report *r = NULL;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    (void)pthread_mutex_lock(&w->lock);
    while (w->n_taken == w->n_reports) {
        if (pthread_cond_timedwait(&w->filled, &w->lock, &until) != 0) {
            (void)pthread_mutex_unlock(&w->lock);
            fail_msg("no report within %d s", WAIT_S);
        }
    }
    r = &w->reports[w->n_taken++ % MAX_REPORTS];
    (void)pthread_mutex_unlock(&w->lock);
    return r;
}

static void apply(struct world *w, const struct report *r)
{
    Mr__CheckUpdate update = MR__CHECK_UPDATE__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    update.node = S(NODE);
    update.check_id = S(r->id);
    update.status = S(r->status);
    update.output = S(r->output);
    cmd.op_case = MR__COMMAND__OP_CHECK_UPDATE;
    cmd.check_update = &update;
    (void)fx_apply(&w->kv, &cmd);
}

static struct mr_kv_result put(struct world *w, Mr__Check *check,
                               Mr__Service *service)
{
    Mr__Node node = MR__NODE__INIT;
    Mr__Check *checks[] = {check};
    Mr__Service *services[] = {service};
    Mr__Register reg = MR__REGISTER__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    node.name = S(NODE);
    node.address = S("127.0.0.1");
    reg.node = &node;
    reg.skip_node_update = true;
    reg.checks = checks;
    reg.n_checks = check != NULL;
    reg.services = services;
    reg.n_services = service != NULL;
    reg.keep_check_state = true;
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = &reg;
    return fx_apply(&w->kv, &cmd);
}

/* Register the check "c" with @def. */
static void put_check(struct world *w, Mr__CheckDefinition *def,
                      const char *status)
{
    Mr__Check check = MR__CHECK__INIT;

    if (def->interval_ns == 0) {
        def->interval_ns = INT64_C(1000000000);
    }
    check.check_id = S("c");
    check.name = S("c");
    check.status = S(status);
    check.origin = MR__ORIGIN__AGENT;
    check.definition = def;
    assert_int_equal(put(w, &check, NULL).verdict, MR_KV_DONE);
}

static void put_script(struct world *w, const char *script)
{
    Mr__CheckDefinition def = MR__CHECK_DEFINITION__INIT;
    char *args[] = {S("/bin/sh"), S("-c"), S(script)};

    def.args = args;
    def.n_args = 3;
    put_check(w, &def, "critical");
}

static void assert_report(struct world *w, const char *status,
                          const char *output)
{
    struct report *r = take(w);

    if (strcmp(r->status, status) != 0 || strstr(r->output, output) == NULL) {
        fail_msg("want %s \"%s\", got %s \"%.300s\"", status, output, r->status,
                 r->output);
    }
    apply(w, r);
}

/* ------------------------------------------------------------- a server */

static void *serve(void *arg)
{
    struct world *w = arg;
    int fd;

    while ((fd = accept(w->listener, NULL, NULL)) >= 0) {
        if (w->answer == NULL) {
            w->kept[w->n_kept++ % 8] = fd;
            continue;
        }
        ssize_t n = read(fd, w->request, sizeof w->request - 1);

        w->request[n > 0 ? n : 0] = '\0';
        (void)!write(fd, w->answer, strlen(w->answer));
        (void)close(fd);
    }
    return NULL;
}

/* Answer every connection with @answer; NULL: never. Returns the port. */
static unsigned listen_with(struct world *w, const char *answer)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof a;

    w->answer = answer;
    w->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(w->listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(w->listener, 8), 0);
    assert_int_equal(getsockname(w->listener, (struct sockaddr *)&a, &len), 0);
    assert_int_equal(pthread_create(&w->server, NULL, serve, w), 0);
    return ntohs(a.sin_port);
}

static void put_http(struct world *w, const char *answer)
{
    Mr__CheckDefinition def = MR__CHECK_DEFINITION__INIT;
    char url[64];

    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/x",
                   listen_with(w, answer));
    def.http = url;
    put_check(w, &def, "critical");
}

/* ------------------------------------------------------------- success */

static void http_2xx_is_passing(void **state)
{
    struct world *w = *state;

    put_http(w, "HTTP/1.1 204 Fine\r\n\r\n");
    run(w);
    assert_report(w, "passing", "/x: 204 Fine Output: ");
    assert_non_null(strstr(w->request, "GET /x HTTP/1.1\r\n"));
    assert_non_null(strstr(w->request, "User-Agent: microreg Health Check"));
    assert_non_null(strstr(w->request, "Accept: text/plain, text/*, */*"));
}

static void http_429_is_warning(void **state)
{
    struct world *w = *state;

    put_http(w, "HTTP/1.1 429 Too Many Requests\r\n\r\nslow down");
    run(w);
    assert_report(w, "warning", "429 Too Many Requests Output: slow down");
}

static void redirects_are_not_followed(void **state)
{
    struct world *w = *state;

    put_http(w, "HTTP/1.1 302 Found\r\nLocation: http://other/\r\n\r\n");
    run(w);
    struct report *r = take(w);

    assert_string_equal(r->status, "critical");
    assert_non_null(strstr(r->output, "302 Found (to http://other/, not "
                                      "followed)"));
}

/* The definition's method, headers and body are what is sent. */
static void http_sends_what_is_defined(void **state)
{
    struct world *w = *state;
    Mr__CheckDefinition def = MR__CHECK_DEFINITION__INIT;
    Mr__Header header = MR__HEADER__INIT;
    Mr__Header host = MR__HEADER__INIT;
    Mr__Header *headers[] = {&header, &host};
    char *values[] = {S("a"), S("b")};
    char *hosts[] = {S("example.test")};
    char url[64];

    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/",
                   listen_with(w, "HTTP/1.1 200 OK\r\n\r\n"));
    header.name = S("X-Two");
    header.values = values;
    header.n_values = 2;
    host.name = S("host");
    host.values = hosts;
    host.n_values = 1;
    def.http = url;
    def.method = S("PUT");
    def.body = S("hello");
    def.header = headers;
    def.n_header = 2;
    put_check(w, &def, "critical");
    run(w);
    assert_report(w, "passing", "HTTP PUT ");
    assert_non_null(strstr(w->request, "PUT / HTTP/1.1\r\n"));
    assert_non_null(strstr(w->request, "X-Two: a\r\nX-Two: b\r\n"));
    assert_non_null(strstr(w->request, "Host: example.test\r\n"));
    assert_non_null(strstr(w->request, "Content-Length: 5\r\n"));
    assert_null(strstr(w->request, "Content-Type"));
    assert_non_null(strstr(w->request, "\r\n\r\nhello"));
}

/* Of a long body the beginning is kept, and no more is read. */
static void long_bodies_are_cut(void **state)
{
    struct world *w = *state;
    static char answer[40000];
    size_t len =
        (size_t)snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\n\r\nbegin");

    memset(answer + len, 'x', sizeof answer - len - 1);
    put_http(w, answer);
    run(w);
    struct report *r = take(w);

    assert_string_equal(r->status, "passing");
    assert_non_null(strstr(r->output, "Output: beginx"));
    assert_true(strlen(r->output) > 4096 && strlen(r->output) < 4096 + 100);
}

static void tcp_connects(void **state)
{
    struct world *w = *state;
    Mr__CheckDefinition def = MR__CHECK_DEFINITION__INIT;
    char target[64];
    char output[128];

    (void)snprintf(target, sizeof target, "127.0.0.1:%u", listen_with(w, NULL));
    (void)snprintf(output, sizeof output, "TCP connect %s: Success", target);
    def.tcp = target;
    put_check(w, &def, "critical");
    run(w);
    assert_report(w, "passing", output);
}

static void scripts_are_judged_by_their_exit_status(void **state)
{
    struct world *w = *state;

    put_script(w, "echo fine; echo err >&2");
    run(w);
    assert_report(w, "passing", "fine\nerr\n");
    put_script(w, "echo hm; exit 1");
    assert_report(w, "warning", "hm\n");
    put_script(w, "echo bad; exit 2");
    assert_report(w, "critical", "bad\n");
    put_script(w, "true");
    assert_report(w, "passing", "");
    put_script(w, "kill -9 $$");
    assert_report(w, "critical", "");
}

/* A command gets nothing that is ours, also not what was opened carelessly. */
static void scripts_inherit_no_descriptors(void **state)
{
    struct world *w = *state;
    int fd = open("/dev/null", O_RDONLY);

    put_script(w, "for f in /proc/$$/fd/*; do case ${f##*/} in 0|1|2|10) ;; "
                  "*) readlink $f;; esac; done; echo end");
    run(w);
    assert_report(w, "passing", "end");
    assert_string_equal(w->reports[0].output, "end\n");
    (void)close(fd);
}

/* Of much output the end is kept. */
static void scripts_output_is_bounded(void **state)
{
    struct world *w = *state;

    put_script(w, "yes | head -c 100000; echo last");
    run(w);
    struct report *r = take(w);

    assert_string_equal(r->status, "passing");
    assert_memory_equal(r->output, "Captured 4096 of 100005 bytes\n...\n", 34);
    assert_int_equal(strlen(r->output), 34 + 4096);
    assert_string_equal(r->output + 34 + 4096 - 5, "last\n");
}

/* A child that stays behind with the pipe open does not hold the result up. */
static void scripts_end_with_their_command(void **state)
{
    struct world *w = *state;

    put_script(w, "sleep 30 & echo done $!");
    run(w);
    struct report *r = take(w);
    int child = atoi(r->output + 5);

    assert_string_equal(r->status, "passing");
    assert_true(child > 1);
    assert_int_equal(kill(child, SIGKILL), 0);
}

/* A result that is the same is not reported again. */
static void an_unchanged_result_is_reported_once(void **state)
{
    struct world *w = *state;
    struct mr_checks_stats stats;

    put_script(w, "echo same");
    run(w);
    assert_report(w, "passing", "same");
    do {
        mr_checks_stats(w->checks, &stats);
    } while (stats.probes < 2);
    assert_int_equal(stats.reports, 1);
    assert_int_equal(w->n_reports, 1);
}

/* Output alone waits for its interval. */
static void output_alone_is_not_news(void **state)
{
    struct world *w = *state;
    struct mr_checks_stats stats;

    put_script(w, "date +%N");
    run(w);
    assert_report(w, "passing", "");
    do {
        mr_checks_stats(w->checks, &stats);
    } while (stats.probes < 2);
    assert_int_equal(stats.reports, 1);
}

/* A report that never reached the state is made again. */
static void lost_reports_are_repeated(void **state)
{
    struct world *w = *state;

    put_script(w, "echo again");
    run(w);
    assert_string_equal(take(w)->output, "again\n");
    assert_report(w, "passing", "again");
}

/* What the state says differently is corrected. */
static void the_state_is_compared_with_what_was_found(void **state)
{
    struct world *w = *state;
    struct report other = {"c", "critical", "somebody else"};

    put_script(w, "echo mine");
    run(w);
    assert_report(w, "passing", "mine");
    apply(w, &other);
    assert_report(w, "passing", "mine");
}

static void an_alias_follows_its_service(void **state)
{
    struct world *w = *state;
    Mr__CheckDefinition def = MR__CHECK_DEFINITION__INIT;
    Mr__CheckDefinition ttl = MR__CHECK_DEFINITION__INIT;
    Mr__Check alias = MR__CHECK__INIT;
    Mr__Check check = MR__CHECK__INIT;
    Mr__Service web = MR__SERVICE__INIT;
    Mr__Service front = MR__SERVICE__INIT;
    struct report warning = {"webcheck", "warning", "hmm"};

    front.id = S("front");
    front.name = S("front");
    front.origin = MR__ORIGIN__AGENT;
    web = front;
    web.id = S("web");
    web.name = S("web");
    def.alias_service = S("web");
    alias.check_id = S("alias");
    alias.name = S("alias");
    alias.status = S("critical");
    alias.service_id = S("front");
    alias.origin = MR__ORIGIN__AGENT;
    alias.definition = &def;
    check = alias;
    check.check_id = S("webcheck");
    check.name = S("the check");
    check.status = S("passing");
    check.service_id = S("web");
    check.definition = &ttl;
    ttl.ttl_ns = INT64_C(3600000000000);
    (void)put(w, &alias, &front);
    run(w);
    assert_report(w, "critical", "Service web could not be found on node ");
    (void)put(w, NULL, &web);
    assert_report(w, "passing", "No checks found.");
    (void)put(w, &check, NULL);
    apply(w, &warning);
    assert_report(w, "warning", "Aliased check \"the check\" failing: hmm");
    (void)fx_deregister(&w->kv, NODE, "web", NULL);
    assert_report(w, "critical", "could not be found");
}

/* An agent asks the cluster for other nodes: their services, then their
 * checks. */
static void an_alias_of_another_node_asks_the_cluster(void **state)
{
    static const char good[] = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
                               "{\"Node\": {}, \"Services\": {\"web\": {}}}";
    struct world *w = *state;
    Mr__CheckDefinition def = MR__CHECK_DEFINITION__INIT;
    char url[64];

    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u",
                   listen_with(w, good));
    w->options.cluster_url = url;
    def.alias_node = S("other node");
    def.alias_service = S("web");
    put_check(w, &def, "critical");
    run(w);
    /* Both answers are the same here: an object is no list of checks. */
    assert_report(w, "passing", "No checks found.");
    assert_non_null(strstr(w->request, "GET /v1/health/node/other%20node "));
    w->answer = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
                "[{\"CheckID\":\"x\",\"Name\":\"n\",\"Status\":\"critical\","
                "\"ServiceID\":\"web\",\"Output\":\"o\"}]";
    def.alias_service = S("db");
    put_check(w, &def, "passing");
    assert_report(w, "critical",
                  "Service db could not be found on node other node");
}

/* ------------------------------------------------------------- failure */

static void refused_connections_are_critical(void **state)
{
    struct world *w = *state;
    Mr__CheckDefinition def = MR__CHECK_DEFINITION__INIT;

    def.tcp = S("127.0.0.1:1");
    put_check(w, &def, "passing");
    run(w);
    assert_report(w, "critical",
                  "dial tcp 127.0.0.1:1: connect: connection refused");
    def.tcp = S("");
    def.http = S("http://127.0.0.1:1/");
    put_check(w, &def, "passing");
    assert_string_equal(take(w)->output,
                        "Get \"http://127.0.0.1:1/\": dial tcp 127.0.0.1:1: "
                        "connect: connection refused");
}

/* Targets are not looked at when a check is registered, but when it is run. */
static void senseless_targets_are_critical(void **state)
{
    static const struct {
        size_t member;
        const char *target;
        const char *output;
    } cases[] = {
#define AT(m) offsetof(Mr__CheckDefinition, m)
        {AT(http), "nothttp", "unsupported protocol scheme"},
        {AT(http), "file:///etc/passwd", "unsupported protocol scheme"},
        {AT(http), "http://", "Get \"http://\": "},
        {AT(tcp), "host", "missing port in address"},
        {AT(tcp), "a/b:1", "no such host"},
        {AT(tcp), "x:99999", "dial tcp: address x:99999"},
        {AT(grpc), "host", "missing port in address"},
        {AT(grpc), "a b:1", "no such host"},
    };
    struct world *w = *state;

    run(w);
    for (size_t i = 0; i < MR_ARRAY_LEN(cases); i++) {
        Mr__CheckDefinition def = MR__CHECK_DEFINITION__INIT;

        *(char **)(void *)((char *)&def + cases[i].member) = S(cases[i].target);
        (void)fx_deregister(&w->kv, NODE, NULL, "c");
        put_check(w, &def, "passing");
        assert_report(w, "critical", cases[i].output);
    }
}

/* A header from outside cannot add lines to the request. */
static void headers_cannot_be_smuggled(void **state)
{
    struct world *w = *state;
    Mr__CheckDefinition def = MR__CHECK_DEFINITION__INIT;
    Mr__Header header = MR__HEADER__INIT;
    Mr__Header *headers[] = {&header};
    char *values[] = {S("a\r\nX-Evil: 1")};

    header.name = S("X-A");
    header.values = values;
    header.n_values = 1;
    def.http = S("http://127.0.0.1:1/");
    def.header = headers;
    def.n_header = 1;
    put_check(w, &def, "passing");
    run(w);
    assert_report(w, "critical", "invalid header field value");
}

static void a_hanging_target_times_out(void **state)
{
    struct world *w = *state;
    Mr__CheckDefinition def = MR__CHECK_DEFINITION__INIT;
    struct mr_checks_stats stats;
    char url[64];

    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/",
                   listen_with(w, NULL));
    def.http = url;
    def.timeout_ns = INT64_C(200000000);
    put_check(w, &def, "passing");
    run(w);
    assert_report(w, "critical", "context deadline exceeded");
    mr_checks_stats(w->checks, &stats);
    assert_int_equal(stats.timeouts, 1);
}

/* Its time over, a command is killed with its children. */
static void scripts_are_killed_with_their_children(void **state)
{
    struct world *w = *state;
    Mr__CheckDefinition def = MR__CHECK_DEFINITION__INIT;
    char file[128];
    char script[256];
    char *args[] = {S("/bin/sh"), S("-c"), script};
    FILE *in;
    int child = 0;

    (void)snprintf(file, sizeof file, "%s/pid", w->kv.dir);
    (void)snprintf(script, sizeof script, "sleep 60 & echo $! >%s; wait", file);
    def.args = args;
    def.n_args = 3;
    def.timeout_ns = INT64_C(500000000);
    put_check(w, &def, "passing");
    run(w);
    assert_report(w, "critical", "Timed out (500ms) running check");
    in = fopen(file, "r");
    assert_non_null(in);
    assert_int_equal(fscanf(in, "%d", &child), 1);
    (void)fclose(in);
    (void)unlink(file);
    /* Killed, and soon gone: nobody but init waits for it. */
    for (int i = 0; i < 1000000 && kill(child, 0) == 0; i++) {
        char path[64];
        char text[256] = "";

        (void)snprintf(path, sizeof path, "/proc/%d/stat", child);
        in = fopen(path, "r");
        if (in == NULL) {
            return;
        }
        (void)!fread(text, 1, sizeof text - 1, in);
        (void)fclose(in);
        if (strstr(text, ") Z ") != NULL) {
            return;
        }
    }
    assert_int_not_equal(kill(child, 0), 0);
}

static void commands_that_do_not_exist_are_critical(void **state)
{
    struct world *w = *state;
    Mr__CheckDefinition def = MR__CHECK_DEFINITION__INIT;
    char *args[] = {S("/nonexistent")};

    def.args = args;
    def.n_args = 1;
    put_check(w, &def, "passing");
    run(w);
    assert_report(w, "critical",
                  "fork/exec /nonexistent: no such file or directory");
    args[0] = S("mr-no-such-command");
    put_check(w, &def, "passing");
    assert_string_equal(take(w)->output,
                        "exec: \"mr-no-such-command\": executable file not "
                        "found in $PATH");
}

/* A script in the state is run only while the agent allows it. */
static void scripts_that_are_not_allowed_do_not_run(void **state)
{
    struct world *w = *state;

    w->options.enable_scripts = false;
    w->options.enable_local_scripts = true;
    put_script(w, "echo evil");
    run(w);
    assert_report(w, "critical", "Scripts are disabled on this agent");
    w->is_local = true;
    put_script(w, "echo good");
    assert_report(w, "passing", "good");
}

/* A target that hangs does not delay the others. */
static void probes_run_beside_each_other(void **state)
{
    struct world *w = *state;
    Mr__CheckDefinition slow = MR__CHECK_DEFINITION__INIT;
    Mr__Check check = MR__CHECK__INIT;
    char url[64];

    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/",
                   listen_with(w, NULL));
    slow.http = url;
    slow.interval_ns = INT64_C(60000000000);
    slow.timeout_ns = INT64_C(60000000000);
    check.name = S("slow");
    check.status = S("critical");
    check.origin = MR__ORIGIN__AGENT;
    check.definition = &slow;
    for (int i = 0; i < 5; i++) {
        char id[16];

        (void)snprintf(id, sizeof id, "a%d", i);
        check.check_id = id;
        (void)put(w, &check, NULL);
    }
    put_script(w, "echo quick");
    run(w);
    assert_report(w, "passing", "quick");
}

/* Nor does a name that takes its time to be looked up, also when the probe is
 * given up before. */
static void a_name_server_that_hangs_delays_nobody(void **state)
{
    struct world *w = *state;
    Mr__CheckDefinition slow = MR__CHECK_DEFINITION__INIT;
    Mr__Check check = MR__CHECK__INIT;
    struct mr_checks_stats stats;

    assert_int_equal(pipe(hang_pipe), 0);
    slow.tcp = S("hang.test:80");
    slow.interval_ns = INT64_C(1000000000);
    slow.timeout_ns = INT64_C(200000000);
    check.check_id = S("a");
    check.name = S("slow");
    check.status = S("passing");
    check.origin = MR__ORIGIN__AGENT;
    check.definition = &slow;
    (void)put(w, &check, NULL);
    run(w);
    assert_report(w, "critical", "dial tcp hang.test:80: i/o timeout");
    put_script(w, "echo quick");
    assert_report(w, "passing", "quick");
    do { /* Every one that is given up leaves a thread: they are few. */
        mr_checks_stats(w->checks, &stats);
    } while (stats.probes < 4);
    assert_int_equal(stats.timeouts, 1);
    mr_checks_stop(w->checks);
    w->checks = NULL;
    (void)close(hang_pipe[1]); /* Its thread ends by itself. */
}

/* Stopping does not wait for what is being probed. */
static void stopping_cancels_probes_and_scripts(void **state)
{
    struct world *w = *state;
    Mr__CheckDefinition slow = MR__CHECK_DEFINITION__INIT;
    Mr__Check check = MR__CHECK__INIT;
    char url[64];

    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/",
                   listen_with(w, NULL));
    slow.http = url;
    slow.interval_ns = INT64_C(60000000000);
    slow.timeout_ns = INT64_C(60000000000);
    check.check_id = S("slow");
    check.name = S("slow");
    check.status = S("critical");
    check.origin = MR__ORIGIN__AGENT;
    check.definition = &slow;
    (void)put(w, &check, NULL);
    put_script(w, "sleep 60");
    check.check_id = S("z");
    slow.http = S("");
    slow.tcp = S("127.0.0.1:1");
    (void)put(w, &check, NULL);
    run(w);
    assert_report(w, "critical", "refused"); /* The others have begun. */
    mr_checks_stop(w->checks);
    w->checks = NULL;
    assert_int_equal(w->n_reports, 1);
}

/* A check that is gone or other in the state is dropped in the middle. */
static void changes_cancel_probes(void **state)
{
    struct world *w = *state;
    struct mr_checks_stats stats;

    put_script(w, "sleep 60");
    run(w);
    put_script(w, "echo new");
    assert_report(w, "passing", "new");
    (void)fx_deregister(&w->kv, NODE, NULL, "c");
    do {
        mr_checks_stats(w->checks, &stats);
    } while (stats.running > 0);
}

/* Whatever allocation fails, the runner goes on or does not start. */
static void a_lack_of_memory_is_survived(void **state)
{
    struct world *w = *state;
    struct mr_detail detail;

    put_script(w, "echo here");
    for (uint64_t n = 0; n < 24; n++) {
        mr_mem_fail_after(n);
        enum mr_err err = mr_checks_start(&w->options, &w->checks, &detail);

        if (err != MR_OK) {
            mr_mem_fail_after(UINT64_MAX);
            assert_int_equal(err, MR_E_NOMEM);
            w->checks = NULL;
            continue;
        }
        (void)take(w);
        mr_mem_fail_after(UINT64_MAX);
        mr_checks_stop(w->checks);
        w->checks = NULL;
        w->n_taken = w->n_reports;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(http_2xx_is_passing),
        TEST(http_429_is_warning),
        TEST(redirects_are_not_followed),
        TEST(http_sends_what_is_defined),
        TEST(long_bodies_are_cut),
        TEST(tcp_connects),
        TEST(scripts_are_judged_by_their_exit_status),
        TEST(scripts_inherit_no_descriptors),
        TEST(scripts_output_is_bounded),
        TEST(scripts_end_with_their_command),
        TEST(an_unchanged_result_is_reported_once),
        TEST(output_alone_is_not_news),
        TEST(lost_reports_are_repeated),
        TEST(the_state_is_compared_with_what_was_found),
        TEST(an_alias_follows_its_service),
        TEST(an_alias_of_another_node_asks_the_cluster),
        TEST(refused_connections_are_critical),
        TEST(senseless_targets_are_critical),
        TEST(headers_cannot_be_smuggled),
        TEST(a_hanging_target_times_out),
        TEST(scripts_are_killed_with_their_children),
        TEST(commands_that_do_not_exist_are_critical),
        TEST(scripts_that_are_not_allowed_do_not_run),
        TEST(probes_run_beside_each_other),
        TEST(a_name_server_that_hangs_delays_nobody),
        TEST(stopping_cancels_probes_and_scripts),
        TEST(changes_cancel_probes),
        TEST(a_lack_of_memory_is_survived),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
