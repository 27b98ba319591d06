/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing clients, their options and their counters. */
#include "client.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "call.h"
#include "keep.h"
#include "stream.h"
#include "transfer.h"

#define DEFAULT_TIMEOUT_MS 5000
#define DEFAULT_PROGRESS_MS 5000
#define PROGRESS_MIN_MS 1000
#define PROGRESS_MAX_MS 600000
#define THREAD_STACK ((size_t)256 << 10)
#define LOG_LINE_MAX 1024

/* ------------------------------------------------------------- options */

/* The first variable of the environment that says something, or NULL. */
static const char *from_environment(const char *first, const char *second)
{
    const char *value = getenv(first);

    if (value == NULL || value[0] == '\0') {
        value = getenv(second);
    }
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static const char *choose_addresses(const char *asked)
{
    const char *found = asked;

    if (found == NULL || found[0] == '\0') {
        found = from_environment("MICROREG_HTTP_ADDR", "CONSUL_HTTP_ADDR");
    }
    return found != NULL ? found : MICROREG_DEFAULT_ADDRESS;
}

/* Keep a copy of a string of the options. */
static bool keep_string(struct microreg *client, const char **string)
{
    if (*string != NULL && (*string)[0] == '\0') {
        *string = NULL;
    }
    if (*string != NULL) {
        *string = mrg_arena_dup(&client->strings, *string, strlen(*string));
        return *string != NULL;
    }
    return true;
}

static int copy_options(struct microreg *client,
                        const struct microreg_options *asked,
                        struct microreg_error *out_error)
{
    struct microreg_options *o = &client->options;

    if (asked != NULL) {
        memcpy(o, asked, asked->size < sizeof *o ? asked->size : sizeof *o);
    }
    o->size = sizeof *o;
    o->timeout_ms = o->timeout_ms == 0 ? DEFAULT_TIMEOUT_MS : o->timeout_ms;
    o->progress_ms = o->progress_ms == 0 ? DEFAULT_PROGRESS_MS : o->progress_ms;
    if (o->timeout_ms < 0) {
        return mrg_fail(out_error, MICROREG_E_INVALID,
                        "timeout_ms %d is below zero", o->timeout_ms);
    }
    if (o->progress_ms < PROGRESS_MIN_MS || o->progress_ms > PROGRESS_MAX_MS) {
        return mrg_fail(out_error, MICROREG_E_INVALID,
                        "progress_ms %d is not from %d to %d", o->progress_ms,
                        PROGRESS_MIN_MS, PROGRESS_MAX_MS);
    }
    if (o->token == NULL || o->token[0] == '\0') {
        o->token = from_environment("MICROREG_HTTP_TOKEN", "CONSUL_HTTP_TOKEN");
    }
    if (o->token != NULL && strpbrk(o->token, "\r\n") != NULL) {
        return mrg_fail(out_error, MICROREG_E_INVALID,
                        "the token has a line break");
    }
    if (!keep_string(client, &o->ca_file) ||
        !keep_string(client, &o->cert_file) ||
        !keep_string(client, &o->key_file) ||
        !keep_string(client, &o->server_name) ||
        !keep_string(client, &o->token)) {
        return mrg_nomem(out_error);
    }
    return MICROREG_OK;
}

/* ------------------------------------------------------------- life */

int microreg_open(const struct microreg_options *options,
                  struct microreg **out_client,
                  struct microreg_error *out_error)
{
    struct microreg *client;
    int err;

    if (options != NULL && options->size == 0) {
        return mrg_fail(out_error, MICROREG_E_INVALID,
                        "options.size is 0: use MICROREG_OPTIONS_INIT");
    }
    client = mrg_alloc(sizeof *client);
    if (client == NULL || mrg_curl_init() != MICROREG_OK ||
        pthread_mutex_init(&client->lock, NULL) != 0) {
        mrg_free(client);
        return mrg_nomem(out_error);
    }
    atomic_init(&client->refs, 1);
    err = copy_options(client, options, out_error);
    if (err == MICROREG_OK) {
        err = mrg_servers_parse(choose_addresses(client->options.addresses),
                                client->options.secure, &client->servers,
                                out_error);
    }
    if (err != MICROREG_OK) {
        mrg_client_unref(client);
        return err;
    }
    *out_client = client;
    return MICROREG_OK;
}

void mrg_client_ref(struct microreg *client)
{
    atomic_fetch_add(&client->refs, 1);
}

void mrg_client_unref(struct microreg *client)
{
    if (atomic_fetch_sub(&client->refs, 1) != 1) {
        return;
    }
    mrg_lines_free(client->lines);
    mrg_servers_unref(client->servers);
    mrg_servers_unref(client->old_texts);
    mrg_arena_deinit(&client->strings);
    (void)pthread_mutex_destroy(&client->lock);
    mrg_free(client);
}

void microreg_close(struct microreg *client)
{
    if (client == NULL) {
        return;
    }
    pthread_mutex_lock(&client->lock);
    client->is_closed = true;
    pthread_mutex_unlock(&client->lock);
    mrg_keeper_stop(client);
    mrg_streams_stop(client);
    mrg_client_unref(client);
}

/* ------------------------------------------------------------- addresses */

struct mrg_servers *mrg_client_servers(struct microreg *client)
{
    struct mrg_servers *servers;

    pthread_mutex_lock(&client->lock);
    servers = mrg_servers_ref(client->servers);
    pthread_mutex_unlock(&client->lock);
    return servers;
}

int microreg_set_addresses(struct microreg *client, const char *addresses,
                           struct microreg_error *out_error)
{
    struct mrg_servers *servers;
    struct mrg_servers *old;
    int err = mrg_servers_parse(choose_addresses(addresses),
                                client->options.secure, &servers, out_error);

    if (err != MICROREG_OK) {
        return err;
    }
    pthread_mutex_lock(&client->lock);
    old = client->servers;
    client->servers = servers;
    mrg_streams_readdress(client);
    pthread_mutex_unlock(&client->lock);
    mrg_servers_unref(old);
    return MICROREG_OK;
}

const char *microreg_string(const struct microreg *client)
{
    (void)client;
    return "microreg";
}

void microreg_get_options(struct microreg *client,
                          struct microreg_options *out_options)
{
    struct mrg_servers *old;

    pthread_mutex_lock(&client->lock);
    *out_options = client->options;
    out_options->addresses = client->servers->text;
    /* So that the text outlives those who change the addresses meanwhile. */
    old = client->old_texts;
    client->old_texts = mrg_servers_ref(client->servers);
    pthread_mutex_unlock(&client->lock);
    mrg_servers_unref(old);
}

void microreg_get_stats(struct microreg *client,
                        struct microreg_stats *out_stats)
{
    struct mrg_stats *s = &client->stats;

    out_stats->requests = atomic_load(&s->requests);
    out_stats->failovers = atomic_load(&s->failovers);
    out_stats->streams = atomic_load(&s->streams);
    out_stats->stream_resets = atomic_load(&s->stream_resets);
    out_stats->events = atomic_load(&s->events);
    out_stats->collapses = atomic_load(&s->collapses);
    out_stats->renewals = atomic_load(&s->renewals);
    out_stats->reregistered = atomic_load(&s->reregistered);
}

/* ------------------------------------------------------------- the system */

void mrg_log(struct microreg *client, int level, const char *format, ...)
{
    char line[LOG_LINE_MAX];
    va_list args;

    if (client->options.log == NULL) {
        return;
    }
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    client->options.log(client->options.log_arg, level, line);
}

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;

    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t mrg_now_ms(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t mrg_boot_ms(void)
{
#ifdef CLOCK_BOOTTIME
    return read_clock(CLOCK_BOOTTIME);
#else
    return read_clock(CLOCK_MONOTONIC);
#endif
}

int mrg_ms_until(uint64_t deadline_ms)
{
    uint64_t now_ms = mrg_now_ms();
    uint64_t left_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 1;

    return left_ms < INT_MAX ? (int)left_ms : INT_MAX;
}

#ifdef __APPLE__
/* There is no other clock for conditions than the one that is set by hand, but
 * one may wait for so long. */
int mrg_cond_init(pthread_cond_t *cond)
{
    return pthread_cond_init(cond, NULL) == 0 ? MICROREG_OK : MICROREG_E_NOMEM;
}

static int wait_until(pthread_cond_t *cond, pthread_mutex_t *lock,
                      uint64_t deadline_ms)
{
    uint64_t now_ms = mrg_now_ms();
    uint64_t left_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;
    struct timespec left = {(time_t)(left_ms / 1000),
                            (long)(left_ms % 1000) * 1000000};

    return pthread_cond_timedwait_relative_np(cond, lock, &left);
}
#else
int mrg_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    int failed;

    if (pthread_condattr_init(&attr) != 0) {
        return MICROREG_E_NOMEM;
    }
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    failed = pthread_cond_init(cond, &attr);
    (void)pthread_condattr_destroy(&attr);
    return failed == 0 ? MICROREG_OK : MICROREG_E_NOMEM;
}

static int wait_until(pthread_cond_t *cond, pthread_mutex_t *lock,
                      uint64_t deadline_ms)
{
    struct timespec at = {(time_t)(deadline_ms / 1000),
                          (long)(deadline_ms % 1000) * 1000000};

    return pthread_cond_timedwait(cond, lock, &at);
}
#endif

bool mrg_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock,
                         uint64_t deadline_ms)
{
    if (deadline_ms == UINT64_MAX) {
        (void)pthread_cond_wait(cond, lock);
        return true;
    }
    return wait_until(cond, lock, deadline_ms) != ETIMEDOUT;
}

int mrg_thread_start(pthread_t *out_thread, void *(*run)(void *), void *arg)
{
    pthread_attr_t attr;
    sigset_t all;
    sigset_t old;
    int failed;

    if (pthread_attr_init(&attr) != 0) {
        return MICROREG_E_NOMEM;
    }
    (void)pthread_attr_setstacksize(&attr, THREAD_STACK);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    failed = pthread_create(out_thread, &attr, run, arg);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void)pthread_attr_destroy(&attr);
    return failed == 0 ? MICROREG_OK : MICROREG_E_NOMEM;
}
