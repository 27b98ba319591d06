/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a set into a message.
 *
 * It goes twice over the groups that are chosen. The first pass takes groups in
 * shuffled order while answer and additional records fit, copies the answers
 * and remembers where each target name landed; the second copies the additional
 * records, whose owners are pointers to those targets.
 *
 * Compression (RFC 1035 §4.1.4) needs no search: a name that can be pointed at
 * is the question's, the zone's, or a target of this message. Targets of SRV
 * are written in full, as RFC 2782 wants.
 */
#include "dns/set_layout.h"

#define POINTER_LEN 2
#define POINTER_MAX 0x3fff /* The last place a pointer can mean. */
#define POINTER_BITS 0xc000u
#define OPT_LEN 11
#define OPTION_SUBNET 8
#define OPTION_EDE 15 /* Extended error, RFC 8914. */
#define EDE_STALE_ANSWER 3
#define OPTION_FIXED_LEN 4u

/* A message under way. */
struct writer {
    struct dns_set *set;
    const struct dns_emit *emit;
    uint8_t *out;
    size_t at;      /* Bytes written. */
    size_t zone_at; /* Where the zone's name stands; 0: nowhere yet. */
    size_t tail;    /* Bytes that must stay free for authority and OPT. */
    unsigned counts[4];
};

/* A name as it will be written: a pointer, or in full. */
struct owner {
    uint16_t pointer; /* 0: write the name. */
    struct mr_slice name;
};

static size_t owner_len(const struct owner *o)
{
    return o->pointer != 0 ? POINTER_LEN : o->name.len;
}

/* A name that stands at @at, 0 for nowhere, if that can be pointed at. */
static struct owner point_at(const struct writer *w, size_t at,
                             struct mr_slice name)
{
    struct owner o = {0, name};

    if (at != 0 && at <= POINTER_MAX && w->emit->config->compress) {
        o.pointer = (uint16_t)(POINTER_BITS | at);
    }
    return o;
}

/* The question's name as it was asked. */
static struct mr_slice asked_name(const struct writer *w)
{
    const struct dns_query *q = w->emit->query;

    return mr_slice(q->packet + DNS_HEADER_LEN, q->name.len);
}

/* The owner of @r, in a group whose target is @target at @target_at. */
static struct owner owner_of(const struct writer *w, const struct set_record *r,
                             size_t target_at, struct mr_slice target)
{
    const struct dns_set *s = w->set;
    const struct dns_name *name = &w->emit->query->name;
    struct mr_slice lower = mr_slice(name->wire, name->len);

    switch ((enum dns_owner)r->owner) {
    case DNS_OWNER_LOWER:
        if (!mr_slice_eq(lower, asked_name(w))) {
            return (struct owner){0, lower};
        }
        return point_at(w, DNS_HEADER_LEN, lower);
    case DNS_OWNER_ZONE:
        return point_at(w, w->zone_at, mr_slice(s->zone->wire, s->zone->len));
    case DNS_OWNER_TARGET:
        return point_at(w, target_at, target);
    case DNS_OWNER_NAME:
        return (struct owner){0, mr_slice(s->bytes.data + r->at, r->owner_len)};
    case DNS_OWNER_QUESTION:
    default:
        return point_at(w, DNS_HEADER_LEN, asked_name(w));
    }
}

static void put_owner(struct writer *w, const struct owner *o)
{
    if (o->pointer != 0) {
        dns_put16(w->out + w->at, o->pointer);
    } else {
        memcpy(w->out + w->at, o->name.data, o->name.len);
    }
    w->at += owner_len(o);
}

static void put_record(struct writer *w, const struct set_record *r,
                       const struct owner *o)
{
    put_owner(w, o);
    memcpy(w->out + w->at, w->set->bytes.data + r->at + r->owner_len, r->len);
    w->at += r->len;
}

/* The target of group @g. */
static struct mr_slice target_of(const struct writer *w,
                                 const struct set_group *g)
{
    const struct set_record *r = &set_records(w->set)[g->first];

    return mr_slice(w->set->bytes.data + r->at + r->owner_len + g->target_at,
                    g->target_len);
}

/* The additional records of group @g: *@out_n of them. */
static const struct set_record *
extras_of(const struct writer *w, const struct set_group *g, size_t *out_n)
{
    size_t skip = g->no_answer ? 0 : 1;

    *out_n = g->n_records - skip;
    return &set_records(w->set)[g->first + skip];
}

/* Bytes that the first @n additional records of @g will take. */
static size_t extras_len(const struct writer *w, const struct set_group *g,
                         size_t target_at, size_t n)
{
    size_t n_extras;
    const struct set_record *r = extras_of(w, g, &n_extras);
    struct mr_slice target = target_of(w, g);
    struct owner o;
    size_t len = 0;

    for (size_t i = 0; i < n; i++) {
        o = owner_of(w, &r[i], target_at, target);
        len += owner_len(&o) + r[i].len;
    }
    return len;
}

/* Bytes of the SOA record as put_soa() writes it. */
static size_t soa_len(const struct writer *w)
{
    size_t zone = w->set->zone->len;
    bool compress = w->emit->config->compress;
    size_t owner = compress && w->zone_at != 0 ? POINTER_LEN : zone;
    size_t again = compress ? POINTER_LEN : zone;

    return owner + SET_RR_FIXED_LEN + sizeof "\2ns" - 1 + again +
           sizeof "\12hostmaster" - 1 + again + 5 * sizeof(uint32_t);
}

static void put_name_in_zone(struct writer *w, const char *labels, size_t len)
{
    struct owner zone = point_at(
        w, w->zone_at, mr_slice(w->set->zone->wire, w->set->zone->len));

    memcpy(w->out + w->at, labels, len);
    w->at += len;
    put_owner(w, &zone);
}

static void put_soa(struct writer *w)
{
    const struct dns_config *c = w->emit->config;
    size_t owner_at = w->at;
    size_t len = soa_len(w);
    uint8_t *p;

    put_name_in_zone(w, "", 0);
    if (w->zone_at == 0) {
        w->zone_at = owner_at;
    }
    p = dns_put16(w->out + w->at, DNS_TYPE_SOA);
    p = dns_put16(p, SET_CLASS_IN);
    p = dns_put32(p, c->soa_min_ttl_s); /* RFC 2308 §3: what it is to be
                                           cached for. */
    p = dns_put16(p, (unsigned)(len - (w->at - owner_at) - SET_RR_FIXED_LEN));
    w->at = (size_t)(p - w->out);
    put_name_in_zone(w, "\2ns", 3);
    put_name_in_zone(w, "\12hostmaster", 11);
    p = dns_put32(w->out + w->at, w->emit->serial);
    p = dns_put32(p, c->soa_refresh_s);
    p = dns_put32(p, c->soa_retry_s);
    p = dns_put32(p, c->soa_expire_s);
    p = dns_put32(p, c->soa_min_ttl_s);
    w->at = (size_t)(p - w->out);
}

static size_t opt_len(const struct writer *w)
{
    const struct dns_query *q = w->emit->query;
    size_t len = OPT_LEN;

    if (!q->has_edns || w->set->no_opt) {
        return 0;
    }
    if (q->subnet_len > 0) {
        len += OPTION_FIXED_LEN + q->subnet_len;
    }
    return w->emit->is_stale ? len + OPTION_FIXED_LEN + sizeof(uint16_t) : len;
}

/* The OPT record: the asker's own size, version 0, no flags; of its options
 * only the client subnet is answered. */
static void put_opt(struct writer *w)
{
    const struct dns_query *q = w->emit->query;
    uint8_t *p = w->out + w->at;

    *p++ = 0; /* The root. */
    p = dns_put16(p, DNS_TYPE_OPT);
    p = dns_put16(p, q->edns_size);
    p = dns_put32(p, 0);
    p = dns_put16(p, (unsigned)(opt_len(w) - OPT_LEN));
    if (q->subnet_len > 0) {
        p = dns_put16(p, OPTION_SUBNET);
        p = dns_put16(p, q->subnet_len);
        p = dns_put(p, q->subnet, q->subnet_len);
    }
    if (w->emit->is_stale) {
        p = dns_put16(p, OPTION_EDE);
        p = dns_put16(p, sizeof(uint16_t));
        p = dns_put16(p, EDE_STALE_ANSWER);
    }
    w->at = (size_t)(p - w->out);
    w->counts[3]++;
}

/* Groups that the configured limits leave. */
static size_t groups_allowed(const struct writer *w, bool *out_cut)
{
    const struct dns_emit *e = w->emit;
    const struct dns_config *c = e->config;
    size_t n = w->set->n_groups;

    *out_cut = false;
    if (w->set->is_limited && c->a_record_limit != 0 && c->a_record_limit < n) {
        n = c->a_record_limit;
    }
    if (!e->is_tcp && e->limit <= DNS_PLAIN_MAX && w->set->is_shuffled &&
        c->udp_answer_limit < n) {
        n = c->udp_answer_limit;
        *out_cut = true;
    }
    return n;
}

/* Bring a group drawn by lot to place @i of the order, and return it. */
static const struct set_group *draw(struct writer *w, size_t i)
{
    struct dns_set *s = w->set;
    uint32_t first = s->order[i];
    size_t at = i;

    if (s->is_shuffled && i + 1 < s->n_groups) {
        at += dns_rng_below(w->emit->rng, (uint32_t)(s->n_groups - i));
        s->order[i] = s->order[at];
        s->order[at] = first;
    }
    return &set_groups(s)[s->order[i]];
}

/* The largest number of @g's additional records that fit behind its answer,
 * which ends at @end; *@out_len is their size. false: not even none fit. */
static bool strip(const struct writer *w, const struct set_group *g, size_t end,
                  size_t target_at, size_t *out_n, size_t *out_len)
{
    size_t n;

    (void)extras_of(w, g, &n);
    for (;; n--) {
        *out_len = extras_len(w, g, target_at, n);
        if (end + *out_len + w->tail <= w->emit->limit) {
            *out_n = n;
            return true;
        }
        if (n == 0) {
            return false;
        }
    }
}

/* The first pass: answers, as many as fit with their additional records.
 * Returns how many groups were taken; *@out_first is the number of additional
 * records of the first that stay. */
static size_t put_answers(struct writer *w, size_t n, size_t *out_first)
{
    struct dns_set *s = w->set;
    const struct set_group *g;
    const struct set_record *r;
    struct owner o = {0, mr_slice(NULL, 0)};
    size_t extras;
    size_t end;
    size_t i;

    for (i = 0; i < n; i++) {
        g = draw(w, i);
        r = &set_records(s)[g->first];
        end = w->at;
        if (!g->no_answer) {
            o = owner_of(w, r, 0, mr_slice(NULL, 0));
            end += owner_len(&o) + r->len;
        }
        s->target_at[i] = 0;
        if (g->target_len > 0) {
            s->target_at[i] = (uint32_t)(end - r->len + g->target_at);
        }
        (void)extras_of(w, g, &extras);
        extras = extras_len(w, g, s->target_at[i], extras);
        if (end + extras + w->tail > w->emit->limit) {
            if (i > 0 ||
                !strip(w, g, end, s->target_at[i], out_first, &extras)) {
                break;
            }
            n = 1;
        } else if (i == 0) {
            (void)extras_of(w, g, out_first);
        }
        if (!g->no_answer) {
            put_record(w, r, &o);
            w->counts[s->groups_in_authority ? 2 : 1]++;
        }
        w->tail += extras;
    }
    return i;
}

/* The second pass: additional records of the @n groups taken. */
static void put_extras(struct writer *w, size_t n, size_t n_first)
{
    const struct dns_set *s = w->set;
    const struct set_group *g;
    const struct set_record *r;
    struct mr_slice target;
    struct owner o;
    size_t n_extras;

    for (size_t i = 0; i < n; i++) {
        g = &set_groups(s)[s->order[i]];
        r = extras_of(w, g, &n_extras);
        target = target_of(w, g);
        if (i == 0) {
            n_extras = n_first;
        }
        for (size_t k = 0; k < n_extras; k++) {
            o = owner_of(w, &r[k], s->target_at[i], target);
            put_record(w, &r[k], &o);
        }
        w->counts[3] += (unsigned)n_extras;
    }
}

static void put_header(struct writer *w, bool is_cut)
{
    const struct dns_emit *e = w->emit;
    unsigned asked = e->query->flags;
    unsigned flags = DNS_FLAG_QR | (asked & DNS_OPCODE_MASK);

    if ((asked & DNS_OPCODE_MASK) == DNS_OPCODE_QUERY) {
        flags |= asked & (DNS_FLAG_RD | DNS_FLAG_CD);
    }
    flags |= w->set->flags;
    if (is_cut && !e->is_tcp && e->config->enable_truncate) {
        flags |= DNS_FLAG_TC;
    }
    memcpy(w->out, e->query->packet, 2);
    dns_put16(w->out + 2, flags | (unsigned)w->set->rcode);
    for (size_t i = 0; i < 4; i++) {
        dns_put16(w->out + 4 + 2 * i, w->counts[i]);
    }
}

/* Where the zone's name stands in the question, byte for byte; 0: nowhere. */
static size_t zone_in_question(const struct dns_set *s,
                               const struct dns_query *q)
{
    size_t at;

    if (s->zone == NULL || s->zone->len > q->name.len) {
        return 0;
    }
    at = DNS_HEADER_LEN + q->name.len - (size_t)s->zone->len;
    return memcmp(q->packet + at, s->zone->wire, s->zone->len) == 0 ? at : 0;
}

size_t dns_set_write(struct dns_set *s, const struct dns_emit *e, uint8_t *out)
{
    struct writer w = {.set = s, .emit = e, .out = out, .counts = {1}};
    size_t first = 0;
    size_t allowed;
    size_t taken;
    bool is_cut;

    /* The longest question and the longest OPT record leave room in it. */
    mr_assert(e->limit >= DNS_PLAIN_MAX);
    w.at = DNS_HEADER_LEN + e->query->question_len;
    memcpy(out + DNS_HEADER_LEN, e->query->packet + DNS_HEADER_LEN,
           e->query->question_len);
    w.zone_at = zone_in_question(s, e->query);
    w.tail = opt_len(&w);
    if (s->soa == DNS_SOA_ANSWER && w.at + soa_len(&w) + w.tail <= e->limit) {
        put_soa(&w);
        w.counts[1]++;
    }
    allowed = groups_allowed(&w, &is_cut);
    taken = put_answers(&w, allowed, &first);
    if (s->soa == DNS_SOA_AUTHORITY &&
        w.at + soa_len(&w) + w.tail <= e->limit) {
        put_soa(&w);
        w.counts[2]++;
    }
    put_extras(&w, taken, first);
    if (opt_len(&w) > 0) {
        put_opt(&w);
    }
    put_header(&w, is_cut || taken < allowed);
    mr_assert(w.at <= e->limit);
    return w.at;
}
