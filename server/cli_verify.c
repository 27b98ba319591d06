/* SPDX-License-Identifier: Apache-2.0 */
/* watch-verify: topics, figures and the verdict. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/cli_watch.h"
#include "server/verify.h"

#define NS_PER_MS 1000000
#define MOVE_MS 15000
#define RATE 100
#define TICK_MS 20
#define FIGURES_MS 10000
#define ENDING_MS 30000
#define CLAIMS_MS 5000
#define BREACHES_SHOWN 200
#define BREACH_MAX 2048
#define STREAMS_A_TOPIC 3

/* A server has the latest changes in memory: at least so many small ones. */
#define REMEMBERED 10000

/* Followed unless topics are named; the second part with -write. */
static const char *const default_topics[] = {
    "keyprefix:", "services", "nodes", "checks", "state:critical", "registry"};
static const char *const write_topics[] = {
    "key:" VERIFY_WRITE_PREFIX "k/0",
    "keyprefix:" VERIFY_WRITE_PREFIX "t1/",
    "service:watch-verify-s0",
    "passing:watch-verify-s0",
    "service:watch-verify-r1",
    "checks:watch-verify-s1",
    "registry:watch-verify-r0",
    "registry:watch-verify-r0,watch-verify-r1,watch-verify-none"};

uint64_t verify_random(struct verify *v, uint64_t limit)
{
    uint64_t z = v->random += UINT64_C(0x9e3779b97f4a7c15);

    /* SplitMix64. */
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) % limit;
}

uint64_t verify_about(struct verify *v, uint64_t ms)
{
    return ms / 2 + verify_random(v, ms + 1);
}

void verify_breach(struct verify *v, const char *fmt, ...)
{
    char text[BREACH_MAX];
    va_list ap;

    if (v->figures.breaches++ >= BREACHES_SHOWN) {
        return;
    }
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap); /* Cut to fit. */
    va_end(ap);
    (void)server_cli_fail("BREACH: %s", text);
}

static uint64_t tip(const struct verify *v)
{
    uint64_t last = 0;

    for (size_t i = 0; i < v->n_subjects; i++) {
        uint64_t one = verify_log_tip(&v->subjects[i].log);

        last = one > last ? one : last;
    }
    return last;
}

void verify_lost(struct verify *v, const char *address)
{
    for (size_t i = 0; i < v->addresses.n; i++) {
        if (v->addresses.items[i] == address) {
            v->floors[i] = tip(v);
        }
    }
}

bool verify_may_forget(const struct verify *v, const char *address,
                       uint64_t index)
{
    for (size_t i = 0; i < v->addresses.n; i++) {
        if (v->addresses.items[i] == address && index <= v->floors[i]) {
            return true;
        }
    }
    return tip(v) - index > REMEMBERED;
}

/* ------------------------------------------------------------- topics */

/* Words that stand for a kind and a filter. */
static bool find_kind(struct watch_topic *topic, const char *word)
{
    if (strcmp(word, "passing") == 0) {
        topic->passing = true;
        word = "service";
    } else if (strcmp(word, "state") == 0) {
        word = "checks";
    }
    return watch_kind_find(word, &topic->kind);
}

/* Take the names behind the colon, one or a list. */
static bool take_names(struct verify_subject *subject, const char *text)
{
    struct watch_topic *topic = &subject->topic;
    bool is_list = topic->kind == WATCH_REGISTRY;

    while (*text != '\0' || (!is_list && topic->n_names == 0)) {
        size_t len = is_list ? strcspn(text, ",") : strlen(text);
        char **names =
            mr_realloc(subject->names, (topic->n_names + 1) * sizeof *names);

        if (names == NULL) {
            return false;
        }
        subject->names = names;
        names[topic->n_names] = mr_memdup0(text, len);
        if (names[topic->n_names] == NULL) {
            return false;
        }
        topic->n_names++;
        text += len + (text[len] == ',');
        if (!is_list) {
            break;
        }
    }
    topic->names = (const char *const *)subject->names;
    return true;
}

static bool parse_topic(struct verify_subject *subject, const char *text)
{
    size_t len = strcspn(text, ":");
    char word[16];

    if (len >= sizeof word) {
        return false;
    }
    memcpy(word, text, len);
    word[len] = '\0';
    mr_buf_str(&subject->name, text);
    if (!find_kind(&subject->topic, word) ||
        (text[len] == ':' && !take_names(subject, text + len + 1))) {
        return false;
    }
    if (strcmp(word, "state") == 0 && subject->topic.n_names == 1) {
        subject->topic.state = subject->names[0];
    } else if (strcmp(word, "checks") == 0 && subject->topic.n_names == 1) {
        subject->topic.service = subject->names[0];
    } else if ((strcmp(word, "state") == 0 || strcmp(word, "key") == 0 ||
                strcmp(word, "service") == 0 || strcmp(word, "passing") == 0) &&
               subject->topic.n_names == 0) {
        return false;
    }
    subject->log.kind = subject->topic.kind;
    subject->log.is_filtered = subject->topic.passing ||
                               subject->topic.state != NULL ||
                               subject->topic.kind == WATCH_REGISTRY;
    subject->has_reads =
        subject->topic.kind != WATCH_REGISTRY || subject->topic.n_names <= 1;
    return true;
}

static bool on_news(void *arg, const struct verify_change *change,
                    struct mr_detail *why)
{
    const struct verify *v = arg;

    return v->writer == NULL || verify_writer_told(v->writer, change, why);
}

static int add_topics(struct verify *v, const char *const *texts, size_t n)
{
    struct verify_subject *subjects =
        mr_realloc(v->subjects, (v->n_subjects + n) * sizeof *subjects);

    if (subjects == NULL) {
        return server_cli_fail("out of memory");
    }
    v->subjects = subjects;
    for (size_t i = 0; i < n; i++) {
        struct verify_subject *subject = &subjects[v->n_subjects];

        memset(subject, 0, sizeof *subject);
        v->n_subjects++;
        if (!parse_topic(subject, texts[i])) {
            return server_cli_fail(
                "Invalid topic \"%s\", see microreg watch-verify -h", texts[i]);
        }
    }
    return CLI_OK;
}

/* Who sees our own writes looks for each of them. */
static void find_witness(struct verify *v)
{
    for (size_t i = 0; i < v->n_subjects; i++) {
        const struct watch_topic *topic = &v->subjects[i].topic;

        if (topic->kind == WATCH_KEYPREFIX &&
            (topic->n_names == 0 ||
             strncmp(VERIFY_WRITE_PREFIX, topic->names[0],
                     strlen(topic->names[0])) == 0)) {
            v->witness = &v->subjects[i];
            v->witness->log.on_news = on_news;
            v->witness->log.arg = v;
            return;
        }
    }
}

static int make_topics(struct verify *v)
{
    const struct server_list *given = &v->cli->topics;
    int status;

    if (given->n > 0) {
        status = add_topics(v, (const char *const *)given->items, given->n);
    } else {
        status = add_topics(v, default_topics, MR_ARRAY_LEN(default_topics));
    }
    if (status == CLI_OK && given->n == 0 && v->cli->write) {
        status = add_topics(v, write_topics, MR_ARRAY_LEN(write_topics));
    }
    find_witness(v);
    return status;
}

/* ------------------------------------------------------------- arguments */

static bool parse_duration(const char *name, const char *text, uint64_t *out_ms)
{
    struct mr_detail why = {""};
    int64_t ns = 0;

    if (text == NULL) {
        return true;
    }
    if (mr_duration_parse(text, &ns, &why) != MR_OK || ns < 0) {
        (void)server_cli_fail("Invalid -%s: %s", name, why.text);
        return false;
    }
    *out_ms = (uint64_t)ns / NS_PER_MS;
    return true;
}

static void parse_number(const char *text, uint64_t *out)
{
    uint64_t n;

    if (text != NULL && mr_parse_u64(text, &n) == MR_OK) {
        *out = n; /* Others are refused with the flags. */
    }
}

static int parse(struct verify *v, uint64_t *out_duration_ms)
{
    const struct server_cli *cli = v->cli;
    uint64_t n_streams;
    uint64_t n_queries = 0;
    uint64_t n_slow = 0;
    int status;

    if (cli->argc > 0) {
        return server_cli_fail("This command takes no arguments, see microreg "
                               "watch-verify -h");
    }
    v->move_ms = MOVE_MS;
    v->rate = RATE;
    v->random = mr_random_u64(mr_random_system()) % 1000000;
    *out_duration_ms = UINT64_MAX;
    if (!parse_duration("duration", cli->duration, out_duration_ms) ||
        !parse_duration("move", cli->move, &v->move_ms) ||
        !cli_watch_addresses(cli, &v->addresses)) {
        return CLI_ERROR;
    }
    parse_number(cli->seed, &v->random);
    parse_number(cli->rate, &v->rate);
    parse_number(cli->slow, &n_slow);
    status = make_topics(v);
    n_streams = v->n_subjects * STREAMS_A_TOPIC;
    n_queries = v->n_subjects;
    parse_number(cli->streams, &n_streams);
    parse_number(cli->queries, &n_queries);
    v->n_streams = (size_t)n_streams;
    v->n_queries = (size_t)n_queries;
    v->n_slow = (size_t)n_slow;
    return status;
}

/* ------------------------------------------------------------- figures */

/* The delay that @percent of all are within. */
static size_t percentile(const struct verify_figures *f, unsigned percent)
{
    uint64_t n = 0;
    uint64_t seen = 0;

    for (size_t i = 0; i <= VERIFY_DELAY_MAX_MS; i++) {
        n += f->delays[i];
    }
    for (size_t i = 0; i <= VERIFY_DELAY_MAX_MS; i++) {
        seen += f->delays[i];
        if (n > 0 && seen * 100 >= n * percent) {
            return i;
        }
    }
    return 0;
}

static size_t count_connected(const struct verify *v)
{
    size_t n = 0;

    for (size_t i = 0; i < v->n_streams; i++) {
        n += v->streams[i].stream.is_answered &&
             v->streams[i].stream.retry_ms == 0;
    }
    return n;
}

static void print_figures(const struct verify *v)
{
    const struct verify_figures *f = &v->figures;

    (void)printf(
        "index=%" PRIu64 " streams=%zu changes=%" PRIu64 " snapshots=%" PRIu64
        " resets=%" PRIu64 " marks=%" PRIu64 " connects=%" PRIu64
        " losses=%" PRIu64 " wakes=%" PRIu64 " quiet=%" PRIu64
        " states=%" PRIu64 " unknown=%" PRIu64 " failed=%" PRIu64
        " written=%" PRIu64 " unsure=%" PRIu64
        " late_p50=%zu late_p99=%zu late_max=%zu breaches=%" PRIu64 "\n",
        tip(v), count_connected(v), f->changes, f->snapshots, f->resets,
        f->marks, f->connects, f->losses, f->wakes, f->quiet, f->states,
        f->unknown, f->failed, f->written, f->unsure, percentile(f, 50),
        percentile(f, 99), percentile(f, 100), f->breaches);
    (void)fflush(stdout);
}

/* ------------------------------------------------------------- running */

static void start_queries(struct verify *v)
{
    size_t at = 0;

    for (size_t i = 0; i < v->n_queries; i++) {
        size_t tried = 0;

        while (!v->subjects[at % v->n_subjects].has_reads) {
            at++;
            if (++tried == v->n_subjects) {
                v->n_queries = 0; /* Nothing to ask about. */
                return;
            }
        }
        verify_query_start(&v->queries[i], v, &v->subjects[at % v->n_subjects]);
        at++;
    }
}

static bool start(struct verify *v)
{
    v->streams = mr_calloc(v->n_streams + 1, sizeof *v->streams);
    v->queries = mr_calloc(v->n_queries + 1, sizeof *v->queries);
    v->floors = mr_calloc(v->addresses.n, sizeof *v->floors);
    if (v->streams == NULL || v->queries == NULL || v->floors == NULL) {
        return false;
    }
    for (size_t i = 0; i < v->n_streams; i++) {
        v->streams[i].number = i + 1;
        v->streams[i].is_slow = i < v->n_slow;
        verify_stream_start(&v->streams[i], v, &v->subjects[i % v->n_subjects]);
    }
    start_queries(v);
    if (v->cli->write) {
        v->writer = verify_writer_start(v);
    }
    return !v->cli->write || v->writer != NULL;
}

/* One turn of everything. */
static void turn(struct verify *v)
{
    watch_loop_turn(&v->loop, v->loop.now_ms + TICK_MS);
    for (size_t i = 0; i < v->n_streams; i++) {
        verify_stream_tick(&v->streams[i]);
    }
    for (size_t i = 0; i < v->n_queries; i++) {
        verify_query_tick(&v->queries[i]);
    }
    if (v->writer != NULL) {
        verify_writer_tick(v->writer);
    }
}

static void run(struct verify *v, uint64_t duration_ms)
{
    uint64_t begun_ms = v->loop.now_ms;
    uint64_t figures_ms = begun_ms + FIGURES_MS;

    while (!v->loop.is_stopped && v->loop.now_ms - begun_ms < duration_ms) {
        turn(v);
        if (v->loop.now_ms >= figures_ms) {
            figures_ms += FIGURES_MS;
            print_figures(v);
        }
    }
}

/* Whether all streams were told all up to @index. */
static bool all_reached(const struct verify *v, uint64_t index)
{
    for (size_t i = 0; i < v->n_streams; i++) {
        if (v->streams[i].stream.index < index) {
            return false;
        }
    }
    return true;
}

static bool has_claims(const struct verify *v)
{
    for (size_t i = 0; i < v->n_queries; i++) {
        if (v->queries[i].n_claims > 0) {
            return true;
        }
    }
    return false;
}

/* Let everybody hear everything. */
static void finish(struct verify *v)
{
    uint64_t until_ms = v->loop.now_ms + ENDING_MS;
    uint64_t last;

    v->is_ending = true;
    while (v->writer != NULL && !verify_writer_idle(v->writer) &&
           v->loop.now_ms < until_ms) {
        turn(v);
    }
    last = tip(v);
    until_ms = v->loop.now_ms + ENDING_MS;
    while (!all_reached(v, last) && v->loop.now_ms < until_ms) {
        turn(v);
    }
    /* What was read meanwhile can be judged when the next marks have come. */
    v->is_closing = true;
    until_ms = v->loop.now_ms + CLAIMS_MS;
    while (has_claims(v) && v->loop.now_ms < until_ms) {
        turn(v);
    }
    for (size_t i = 0; i < v->n_streams; i++) {
        if (v->streams[i].stream.index < last) {
            verify_breach(v,
                          "stream %zu of %s was told up to %" PRIu64
                          " and not to %" PRIu64,
                          i + 1, mr_buf_cstr(&v->streams[i].subject->name),
                          v->streams[i].stream.index, last);
        }
    }
    if (v->writer != NULL) {
        verify_writer_check(v->writer);
    }
}

/* End all that the loop runs, and clean up. */
static void stop(struct verify *v)
{
    for (size_t i = 0; v->streams != NULL && i < v->n_streams; i++) {
        verify_stream_stop(&v->streams[i]);
    }
    for (size_t i = 0; v->queries != NULL && i < v->n_queries; i++) {
        verify_query_stop(&v->queries[i]);
    }
    verify_writer_stop(v->writer);
    watch_loop_close(&v->loop);
}

static void release(struct verify *v)
{
    for (size_t i = 0; i < v->n_subjects; i++) {
        struct verify_subject *subject = &v->subjects[i];

        verify_log_deinit(&subject->log);
        for (size_t k = 0; k < subject->topic.n_names; k++) {
            mr_free(subject->names[k]);
        }
        mr_free(subject->names);
        mr_buf_deinit(&subject->name);
    }
    mr_free(v->streams);
    mr_free(v->queries);
    mr_free(v->floors);
    mr_free(v->subjects);
    server_list_deinit(&v->addresses);
    mr_free(v);
}

static int verdict(const struct verify *v)
{
    bool is_good = v->figures.breaches == 0;

    print_figures(v);
    (void)printf("%s\n",
                 is_good ? "All promises were kept" : "A promise was broken");
    return is_good ? CLI_OK : CLI_ERROR;
}

static int verify(struct verify *v, uint64_t duration_ms)
{
    if (watch_loop_open(&v->loop) != MR_OK) {
        return server_cli_fail("Error verifying: no memory or no files");
    }
    (void)printf("Following %zu topics with %zu streams and %zu queries, "
                 "seed %" PRIu64 "\n",
                 v->n_subjects, v->n_streams, v->n_queries, v->random);
    (void)fflush(stdout);
    if (start(v)) {
        run(v, duration_ms);
        finish(v);
    } else {
        v->figures.breaches++;
        (void)server_cli_fail("out of memory");
    }
    stop(v);
    return verdict(v);
}

int server_cli_watch_verify(struct server_cli *cli)
{
    struct verify *v = mr_calloc(1, sizeof *v);
    uint64_t duration_ms = 0;
    int status;

    if (v == NULL) {
        return server_cli_fail("out of memory");
    }
    v->cli = cli;
    status = parse(v, &duration_ms);
    if (status == CLI_OK) {
        status = verify(v, duration_ms);
    }
    release(v);
    return status;
}
