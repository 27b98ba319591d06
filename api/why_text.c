/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sentences for somebody who is woken at night: what happened, who decided it
 * and on what evidence.
 */
#include "api/why_text.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#define S_MS 1000u
#define MIN_MS (60 * S_MS)
#define H_MS (60 * MIN_MS)
#define DAY_MS (24 * (uint64_t)H_MS)

/* Append @ms as two units, the greater one first. */
static void two_units(struct mr_buf *out, uint64_t ms, uint64_t great_ms,
                      uint64_t small_ms, const char *names)
{
    const char *small = strchr(names, ' ');
    int len = (int)(small - names);

    mr_buf_printf(out, "%" PRIu64 " %.*s", ms / great_ms, len, names);
    if (ms % great_ms / small_ms > 0) {
        mr_buf_printf(out, " %" PRIu64 "%s", ms % great_ms / small_ms, small);
    }
}

void why_text_span(struct mr_buf *out, uint64_t ms)
{
    if (ms < S_MS) {
        mr_buf_printf(out, "0.%03u s", (unsigned)ms);
    } else if (ms < MIN_MS) {
        mr_buf_printf(out, "%u.%u s", (unsigned)(ms / S_MS),
                      (unsigned)(ms % S_MS / 100));
    } else if (ms < H_MS) {
        two_units(out, ms, MIN_MS, S_MS, "min s");
    } else if (ms < DAY_MS) {
        two_units(out, ms, H_MS, MIN_MS, "h min");
    } else {
        two_units(out, ms, DAY_MS, H_MS, "d h");
    }
}

void why_text_time(struct mr_buf *out, uint64_t ms)
{
    time_t seconds = (time_t)(ms / S_MS);
    struct tm tm;

    if (ms == 0 || gmtime_r(&seconds, &tm) == NULL) {
        mr_buf_str(out, "an unknown time");
        return;
    }
    mr_buf_printf(out, "%04d-%02d-%02d %02d:%02d:%02d.%03u UTC",
                  tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
                  tm.tm_min, tm.tm_sec, (unsigned)(ms % S_MS));
}

const char *why_text_kind(Mr__LeaseKind kind)
{
    static const char *const names[] = {
        [MR__LEASE_KIND__LEASE_CHECK] = "ttl-check",
        [MR__LEASE_KIND__LEASE_CRITICAL] = "critical-service",
        [MR__LEASE_KIND__LEASE_REGISTRATION] = "registration",
        [MR__LEASE_KIND__LEASE_NODE] = "agent",
        [MR__LEASE_KIND__LEASE_NODE_REAP] = "dead-node",
        [MR__LEASE_KIND__LEASE_SESSION] = "session",
        [MR__LEASE_KIND__LEASE_LOCK_DELAY] = "lock-delay",
        [MR__LEASE_KIND__LEASE_LEFT] = "left-member",
    };

    return (size_t)kind < sizeof names / sizeof names[0] ? names[kind]
                                                         : "unknown";
}

/* ------------------------------------------------------------- evidence */

/* "; the ones before came 3.1, 3.0 and 3.0 s apart"; @gaps_ms: newest first. */
static void add_gaps(struct mr_buf *out, const uint32_t *gaps_ms, size_t n)
{
    mr_buf_str(out,
               n == 1 ? "; the one before came " : "; the ones before came ");
    for (size_t i = n; i-- > 0;) {
        uint32_t ms = gaps_ms[i];

        if (ms < S_MS) {
            mr_buf_printf(out, "0.%03u", (unsigned)ms);
        } else {
            mr_buf_printf(out, "%u.%u", (unsigned)(ms / S_MS),
                          (unsigned)(ms % S_MS / 100));
        }
        mr_buf_str(out, i > 1 ? ", " : i == 1 ? " and " : " s");
    }
    mr_buf_str(out, n == 1 ? " earlier" : " apart");
}

static void add_renewals(struct mr_buf *out, const struct mr_kv_event *event)
{
    if (event->n_gaps == 0) {
        mr_buf_str(out, "; no earlier renewal is known");
    } else {
        add_gaps(out, event->gaps_ms, event->n_gaps);
    }
}

/* "no renewal for 10.2 s (TTL 10.0 s); the ones before came ..." */
static void add_silence(struct mr_buf *out, const struct mr_kv_event *event,
                        const char *what, const char *limit)
{
    mr_buf_str(out, what);
    mr_buf_byte(out, ' ');
    why_text_span(out, event->silent_ms);
    mr_buf_printf(out, " (%s ", limit);
    why_text_span(out, event->ttl_ms);
    mr_buf_byte(out, ')');
}

static void add_evidence(struct mr_buf *out, const struct mr_kv_event *event)
{
    switch (event->lease_kind) {
    case MR__LEASE_KIND__LEASE_CHECK:
        add_silence(out, event, "its check was not passed for", "TTL");
        add_renewals(out, event);
        break;
    case MR__LEASE_KIND__LEASE_REGISTRATION:
        add_silence(out, event, "no renewal for", "TTL");
        add_renewals(out, event);
        break;
    case MR__LEASE_KIND__LEASE_SESSION:
        add_silence(out, event, "the session was not renewed for", "TTL");
        add_renewals(out, event);
        break;
    case MR__LEASE_KIND__LEASE_NODE:
        mr_buf_printf(out, "the agent of node %s ", event->node);
        add_silence(out, event, "was silent for", "node_ttl");
        add_renewals(out, event);
        break;
    case MR__LEASE_KIND__LEASE_CRITICAL:
        add_silence(out, event, "it was critical without a break for",
                    "DeregisterCriticalServiceAfter");
        break;
    case MR__LEASE_KIND__LEASE_NODE_REAP:
        mr_buf_printf(out, "the agent of node %s ", event->node);
        add_silence(out, event, "was dead for", "reconnect_timeout");
        break;
    case MR__LEASE_KIND__LEASE_LOCK_DELAY:
        add_silence(out, event, "the lock-delay is over after", "lock-delay");
        break;
    case MR__LEASE_KIND__LEASE_LEFT:
        add_silence(out, event, "the member had left", "remembered for");
        break;
    case _MR__LEASE_KIND_IS_INT_SIZE:
        break;
    }
}

/* ------------------------------------------------------------- events */

/* "n1 for 10.0.0.7" is a client's wish; other texts stand as they are. */
static void add_by(struct mr_buf *out, const char *by)
{
    const char *middle = strstr(by, " for ");

    if (by[0] == '\0') {
        return;
    }
    if (middle == NULL) {
        mr_buf_printf(out, " by %s", by);
    } else {
        mr_buf_printf(out, " by the client %s through %.*s",
                      middle + strlen(" for "), (int)(middle - by), by);
    }
}

/* What the event was about, as the object of the sentence. */
static void add_subject(struct mr_buf *out, const struct mr_kv_event *event)
{
    switch (event->subject) {
    case MR_KV_SUBJECT_NODE:
        mr_buf_printf(out, "node %s", event->node);
        break;
    case MR_KV_SUBJECT_SERVICE:
        mr_buf_printf(out, "service %s (ID %s) on node %s", event->service,
                      event->id, event->node);
        break;
    case MR_KV_SUBJECT_CHECK:
        mr_buf_printf(out, "check %s on node %s", event->id, event->node);
        break;
    case MR_KV_SUBJECT_SESSION:
        mr_buf_printf(out, "session %s on node %s", event->id, event->node);
        break;
    }
}

bool why_text_is_end(const struct mr_kv_event *event)
{
    if (event->kind != MR_KV_EVENT_ENDED) {
        return event->kind == MR_KV_EVENT_DEREGISTERED;
    }
    switch (event->subject) {
    case MR_KV_SUBJECT_NODE:
        return event->lease_kind != MR__LEASE_KIND__LEASE_NODE;
    case MR_KV_SUBJECT_CHECK:
        return event->lease_kind != MR__LEASE_KIND__LEASE_CHECK &&
               event->lease_kind != MR__LEASE_KIND__LEASE_NODE;
    case MR_KV_SUBJECT_SERVICE:
    case MR_KV_SUBJECT_SESSION:
        return true;
    }
    return true;
}

static void add_ended(struct mr_buf *out, const struct mr_kv_event *event)
{
    add_subject(out, event);
    if (why_text_is_end(event)) {
        mr_buf_str(out, event->subject == MR_KV_SUBJECT_SESSION
                            ? " was ended"
                            : " was removed");
    } else if (event->subject == MR_KV_SUBJECT_NODE) {
        mr_buf_str(out, " was declared dead");
    } else {
        mr_buf_printf(out, " was made %s", event->status);
    }
    if (event->leader != NULL && event->leader[0] != '\0') {
        mr_buf_printf(out, " by leader %s in term %" PRIu64, event->leader,
                      event->term);
    }
    mr_buf_str(out, ": ");
    add_evidence(out, event);
}

void why_text_event(struct mr_buf *out, const struct mr_kv_event *event)
{
    switch (event->kind) {
    case MR_KV_EVENT_REGISTERED:
        add_subject(out, event);
        mr_buf_str(out, event->subject == MR_KV_SUBJECT_SESSION
                            ? " was created"
                            : " was registered");
        if (event->status[0] != '\0') {
            mr_buf_printf(out, " as %s", event->status);
        }
        add_by(out, event->by);
        break;
    case MR_KV_EVENT_CHANGED:
        add_subject(out, event);
        mr_buf_str(out, " was registered again with other content");
        add_by(out, event->by);
        break;
    case MR_KV_EVENT_DEREGISTERED:
        add_subject(out, event);
        mr_buf_str(out, event->subject == MR_KV_SUBJECT_SESSION
                            ? " was ended on request"
                            : " was deregistered on request");
        add_by(out, event->by);
        break;
    case MR_KV_EVENT_STATUS:
        add_subject(out, event);
        mr_buf_printf(out, " was reported %s", event->status);
        add_by(out, event->by);
        break;
    case MR_KV_EVENT_ENDED:
        add_ended(out, event);
        break;
    }
}

void why_text_lease(struct mr_buf *out, const struct mr_lease_age *age,
                    const char *verb, const char *unless)
{
    mr_buf_printf(out, "%s ", verb);
    why_text_span(out, age->silent_ms);
    if (age->silent_ms < age->ttl_ms) {
        mr_buf_str(out, " ago, ends in ");
        why_text_span(out, age->ttl_ms - age->silent_ms);
        mr_buf_printf(out, " unless %s (TTL ", unless);
    } else {
        mr_buf_str(out, " ago, is overdue and ends as soon as a leader "
                        "decides it (TTL ");
    }
    why_text_span(out, age->ttl_ms);
    mr_buf_byte(out, ')');
    if (age->n_gaps > 0) {
        add_gaps(out, age->gaps_ms, age->n_gaps);
    }
}
