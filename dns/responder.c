/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a packet to its answer:
 *
 *  - what is no question is dropped or refused by its header alone;
 *  - a set in the cache that still holds is written out;
 *  - else a set is built from a view, written out, and kept if it may be.
 *
 * If the state cannot be read the answer is SERVFAIL, and the next query tries
 * again.
 */
#include "base/log.h"
#include "dns/responder.h"

#define MS_PER_S 1000

enum mr_err dns_responder_init(struct dns_responder *r,
                               const struct dns_shared *shared)
{
    *r = (struct dns_responder){.shared = shared};
    r->rng.state = mr_random_u64(shared->random);
    r->cache = dns_cache_new(shared->kv);
    return r->cache != NULL ? MR_OK : MR_E_NOMEM;
}

void dns_responder_deinit(struct dns_responder *r)
{
    dns_cache_free(r->cache);
    r->cache = NULL;
}

void dns_responder_look(struct dns_responder *r)
{
    r->is_stale = !r->shared->has_leader(r->shared->arg);
}

/* Only its own thread writes a counter, so no locked instruction is needed. */
static void count(_Atomic uint64_t *counter)
{
    uint64_t n = atomic_load_explicit(counter, memory_order_relaxed);

    atomic_store_explicit(counter, n + 1, memory_order_relaxed);
}

/* What the asker takes: RFC 6891 §6.2.3. */
static size_t limit_of(const struct dns_query *q, bool is_tcp)
{
    if (is_tcp) {
        return DNS_TCP_MAX;
    }
    if (q->edns_size <= DNS_PLAIN_MAX) {
        return DNS_PLAIN_MAX;
    }
    return q->edns_size < DNS_UDP_MAX ? q->edns_size : DNS_UDP_MAX;
}

static size_t write_set(struct dns_responder *r, struct dns_set *set,
                        const struct dns_query *q, bool is_tcp, uint8_t *out)
{
    struct dns_emit emit = {.config = &r->shared->config,
                            .query = q,
                            .rng = &r->rng,
                            .limit = limit_of(q, is_tcp),
                            .is_tcp = is_tcp,
                            .is_stale = r->is_stale};

    if (set->soa != DNS_SOA_NONE) {
        emit.serial =
            (uint32_t)(r->shared->clock->wall_ms(r->shared->clock) / MS_PER_S);
    }
    if (set->rcode == DNS_NXDOMAIN) {
        count(&r->counters.nxdomain);
    } else if (set->rcode == DNS_REFUSED) {
        count(&r->counters.refused);
    } else if (set->rcode == DNS_SERVFAIL) {
        count(&r->counters.servfail);
    }
    return dns_set_write(set, &emit, out);
}

/* Answer from a view, and keep what may be kept. */
static size_t respond_fresh(struct dns_responder *r, const struct dns_query *q,
                            bool is_tcp, uint8_t *out)
{
    struct mr_kv_view *view = NULL;
    struct dns_depends depends;
    struct dns_set set;
    struct dns_set *kept = NULL;
    enum mr_err err;
    size_t len;

    dns_set_init(&set);
    err = mr_kv_view_begin(r->shared->kv, &view);
    if (err == MR_OK) {
        err = dns_answer_build(&r->shared->config, view, q, &set, &depends);
    }
    if (err == MR_OK) {
        kept = dns_cache_put(r->cache, q, &set, &depends,
                             mr_kv_view_revision(view));
    } else {
        mr_log_debug("dns", "cannot answer: %s", mr_strerror(err));
        dns_set_deinit(&set);
        set.rcode = DNS_SERVFAIL;
    }
    mr_kv_view_end(view);
    len = write_set(r, kept != NULL ? kept : &set, q, is_tcp, out);
    dns_set_deinit(&set);
    return len;
}

bool dns_screen(struct dns_responder *r, struct mr_slice packet,
                struct dns_query *out_query, uint8_t *out, size_t *out_len)
{
    enum dns_rcode rcode = DNS_FORMERR;

    count(&r->counters.queries);
    *out_len = 0;
    switch (dns_query_parse(packet, out_query, &rcode)) {
    case DNS_IGNORE:
        count(&r->counters.malformed);
        return false;
    case DNS_REJECT:
        count(&r->counters.malformed);
        *out_len = dns_reject_write(packet.data, rcode, out);
        return false;
    case DNS_ANSWER:
    default:
        break;
    }
    return true;
}

size_t dns_respond(struct dns_responder *r, struct mr_slice packet, bool is_tcp,
                   uint8_t *out)
{
    struct dns_set *set;
    struct dns_query q;
    size_t len;

    if (!dns_screen(r, packet, &q, out, &len)) {
        return len;
    }
    set = dns_cache_get(r->cache, &q);
    if (set == NULL) {
        return respond_fresh(r, &q, is_tcp, out);
    }
    count(&r->counters.cache_hits);
    return write_set(r, set, &q, is_tcp, out);
}
