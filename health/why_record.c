/* SPDX-License-Identifier: Apache-2.0 */
/* Events of the ring as bytes. */
#include "health/why_record.h"

#include <string.h>

#include "base/err.h"
#include "base/hash.h"

#define N_TEXTS 7

_Static_assert(sizeof(struct why_head) + sizeof(struct why_evidence) +
                       N_TEXTS * (WHY_TEXT_MAX + 1) <=
                   WHY_RECORD_MAX,
               "the longest record fits");

/* How much of @text is kept: whole characters of UTF-8. */
static size_t cut(const char *text)
{
    size_t len = strnlen(text, WHY_TEXT_MAX + 1);

    if (len <= WHY_TEXT_MAX) {
        return len;
    }
    len = WHY_TEXT_MAX;
    while (len > 0 && ((unsigned char)text[len] & 0xC0) == 0x80) {
        len--;
    }
    return len;
}

/* @text may be NULL. */
static char *add_text(char *at, const char *text)
{
    size_t len = text == NULL ? 0 : cut(text);

    if (len > 0) {
        memcpy(at, text, len);
    }
    at[len] = '\0';
    return at + len + 1;
}

static char *add_texts(char *at, const struct mr_kv_event *event)
{
    at = add_text(at, event->node);
    at = add_text(at, event->id);
    at = add_text(at, event->service);
    at = add_text(at, event->service_id);
    at = add_text(at, event->status);
    at = add_text(at, event->by);
    return add_text(at, event->leader);
}

static uint8_t fill_evidence(const struct mr_kv_event *event,
                             struct why_evidence *out)
{
    size_t n = event->n_gaps < WHY_GAPS_MAX ? event->n_gaps : WHY_GAPS_MAX;

    memset(out, 0, sizeof *out);
    out->lease_id = event->lease_id;
    out->ttl_ms = event->ttl_ms;
    out->silent_ms = event->silent_ms;
    out->term = event->term;
    if (n > 0) {
        memcpy(out->gaps_ms, event->gaps_ms, n * sizeof out->gaps_ms[0]);
    }
    return (uint8_t)n;
}

size_t why_encode(const struct mr_kv_event *event, void *out)
{
    struct why_head head = {
        .time_ms = event->time_ms,
        .revision = event->revision,
        .kind = (uint8_t)event->kind,
        .subject = (uint8_t)event->subject,
        .lease_kind = (uint8_t)event->lease_kind,
        .has_evidence = event->lease_id != 0,
    };
    char *at = (char *)out + sizeof head;
    struct why_evidence evidence;
    size_t len;

    if (head.has_evidence) {
        head.n_gaps = fill_evidence(event, &evidence);
        memcpy(at, &evidence, sizeof evidence);
        at += sizeof evidence;
    }
    at = add_texts(at, event);
    len = (size_t)(at - (char *)out);
    head.len = (uint16_t)len;
    memcpy(out, &head, sizeof head);
    return len;
}

static uint64_t checksum_of(const void *record, size_t len)
{
    size_t skip = sizeof(uint64_t);

    return mr_hash64(mr_slice((const char *)record + skip, len - skip), 0);
}

void why_seal(void *record, uint64_t pos)
{
    struct why_head head;

    memcpy(&head, record, sizeof head);
    head.pos = pos;
    memcpy(record, &head, sizeof head);
    head.checksum = checksum_of(record, head.len);
    memcpy(record, &head, sizeof head);
}

uint64_t why_pos(struct mr_slice bytes)
{
    struct why_head head;

    memcpy(&head, bytes.data, sizeof head);
    return head.pos;
}

size_t why_check(struct mr_slice bytes, uint64_t pos)
{
    struct why_head head;

    if (bytes.len < sizeof head) {
        return 0;
    }
    memcpy(&head, bytes.data, sizeof head);
    if (head.pos != pos || head.len < sizeof head || head.len > bytes.len ||
        why_round(head.len) > WHY_RECORD_MAX) {
        return 0;
    }
    return checksum_of(bytes.data, head.len) == head.checksum ? head.len : 0;
}

/* The next text of *@rest; "" and false when its NUL is missing. */
static bool take_text(struct mr_slice *rest, const char **out_text)
{
    const char *text = rest->data;
    const char *end = rest->len == 0 ? NULL : memchr(text, '\0', rest->len);

    if (end == NULL) {
        *out_text = "";
        return false;
    }
    *out_text = text;
    *rest = mr_slice(end + 1, rest->len - (size_t)(end + 1 - text));
    return true;
}

static bool take_texts(struct mr_slice rest, struct mr_kv_event *event)
{
    return take_text(&rest, &event->node) && take_text(&rest, &event->id) &&
           take_text(&rest, &event->service) &&
           take_text(&rest, &event->service_id) &&
           take_text(&rest, &event->status) && take_text(&rest, &event->by) &&
           take_text(&rest, &event->leader);
}

static void take_evidence(const struct why_head *head, const char *at,
                          struct mr_kv_event *event)
{
    struct why_evidence evidence;

    memcpy(&evidence, at, sizeof evidence);
    event->lease_kind = (Mr__LeaseKind)head->lease_kind;
    event->lease_id = evidence.lease_id;
    event->ttl_ms = evidence.ttl_ms;
    event->silent_ms = evidence.silent_ms;
    event->term = evidence.term;
    event->n_gaps = head->n_gaps;
    /* Aligned: the record is, and all before it are multiples of 8. */
    event->gaps_ms =
        (const void *)(at + offsetof(struct why_evidence, gaps_ms));
}

bool why_decode(struct mr_slice record, struct mr_kv_event *out_event)
{
    const char *at = record.data;
    struct mr_kv_event event;
    struct why_head head;
    size_t fixed;

    memcpy(&head, at, sizeof head);
    fixed = sizeof head + (head.has_evidence ? sizeof(struct why_evidence) : 0);
    if (record.len < fixed || head.kind > MR_KV_EVENT_ENDED ||
        head.subject > MR_KV_SUBJECT_SESSION || head.n_gaps > WHY_GAPS_MAX ||
        head.lease_kind > MR__LEASE_KIND__LEASE_LEFT) {
        return false;
    }
    memset(&event, 0, sizeof event);
    event.kind = (enum mr_kv_event_kind)head.kind;
    event.subject = (enum mr_kv_subject)head.subject;
    event.time_ms = head.time_ms;
    event.revision = head.revision;
    if (head.has_evidence) {
        take_evidence(&head, at + sizeof head, &event);
    }
    if (!take_texts(mr_slice(at + fixed, record.len - fixed), &event)) {
        return false;
    }
    *out_event = event;
    return true;
}
