/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Choosing a server.
 *
 *   SEEKING --one answers--> USING --it fails--> SEEKING
 *      |  ^
 *      v  | interval
 *   PAUSING
 *
 * - A round asks every known server and every address to join who it is, in
 *   random order and a little apart, or at once when the one before failed. The
 *   first that has a leader is taken, so agents spread over the servers.
 * - One without a leader, or of another cluster than before, is taken when the
 *   round has ended and no better one answered.
 * - The one in use is asked again now and then, for the list of servers.
 */
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/log.h"
#include "base/mem.h"
#include "server/link_impl.h"

#define STAGGER_MS 40
#define PROBE_MS 1500
#define REFRESH_MS 30000
#define HELLO "/v1/internal/hello"
#define HELLO_MAX ((size_t)16 * 1024)

/* What a server says of itself. */
struct hello {
    char cluster[17];
    char datacenter[64];
    bool has_leader;
    char servers[LINK_SERVERS_MAX][LINK_ADDRESS_MAX];
    size_t n_servers;
};

/* ------------------------------------------------------------- the answer */

static bool copy_text(const json_t *object, const char *key, char *out,
                      size_t cap)
{
    const char *text = json_string_value(json_object_get(object, key));

    if (text == NULL || text[0] == '\0' || strlen(text) >= cap) {
        return false;
    }
    memcpy(out, text, strlen(text) + 1);
    return true;
}

static bool read_hello(struct mr_slice bytes, struct hello *out)
{
    json_t *root = json_loadb(bytes.data, bytes.len, 0, NULL);
    const json_t *servers = json_object_get(root, "Servers");
    bool ok =
        copy_text(root, "Cluster", out->cluster, sizeof out->cluster) &&
        copy_text(root, "Datacenter", out->datacenter, sizeof out->datacenter);

    out->has_leader = json_is_true(json_object_get(root, "Leader"));
    out->n_servers = 0;
    for (size_t i = 0; i < json_array_size(servers); i++) {
        const char *text = json_string_value(json_array_get(servers, i));

        if (text != NULL && strlen(text) < LINK_ADDRESS_MAX &&
            out->n_servers < LINK_SERVERS_MAX) {
            memcpy(out->servers[out->n_servers++], text, strlen(text) + 1);
        }
    }
    json_decref(root);
    return ok;
}

/* Whether @probe was answered by a server that may be ours; why not otherwise,
 * in find.why. */
static bool is_good(struct server_link *link, struct link_probe *probe,
                    CURLcode code, struct hello *out)
{
    struct link_find *f = &link->find;
    long status = 0;

    (void)curl_easy_getinfo(probe->transfer.easy, CURLINFO_RESPONSE_CODE,
                            &status);
    if (code != CURLE_OK) {
        (void)snprintf(f->why, sizeof f->why, "%.100s: %.140s", probe->address,
                       probe->transfer.error);
    } else if (status != 200 ||
               !read_hello(mr_buf_slice(&probe->answer), out)) {
        (void)snprintf(f->why, sizeof f->why,
                       "%.100s: not a server that is ready for agents (%ld)",
                       probe->address, status);
    } else if (strcmp(out->datacenter, link->options.datacenter) != 0) {
        (void)snprintf(f->why, sizeof f->why,
                       "%.100s is of datacenter %.60s, not of %.60s",
                       probe->address, out->datacenter,
                       link->options.datacenter);
    } else {
        return true;
    }
    return false;
}

static void take_servers(struct link_find *f, const struct hello *hello)
{
    if (hello->n_servers > 0) {
        memcpy(f->known, hello->servers, sizeof f->known);
        f->n_known = hello->n_servers;
    }
}

/* ------------------------------------------------------------- probes */

static void probe_free(struct link_probe *p)
{
    link_transfer_abort(&p->transfer);
    mr_list_remove(&p->link);
    mr_buf_deinit(&p->answer);
    mr_free(p);
}

static size_t count_round(const struct link_find *f)
{
    size_t n = 0;

    for (const struct mr_list *at = f->probes.next; at != &f->probes;
         at = at->next) {
        const struct link_probe *p =
            mr_container_of(at, struct link_probe, link);

        n += p->is_refresh || p->cb != NULL ? 0 : 1;
    }
    return n;
}

/* The round is decided: the others need not answer. */
static void drop_round(struct link_find *f)
{
    struct mr_list *next;

    for (struct mr_list *at = f->probes.next; at != &f->probes; at = next) {
        struct link_probe *p = mr_container_of(at, struct link_probe, link);

        next = at->next;
        if (!p->is_refresh && p->cb == NULL) {
            probe_free(p);
        }
    }
}

static void use(struct server_link *link, const char *address,
                const char *cluster)
{
    struct link_find *f = &link->find;
    bool is_other =
        link->cluster[0] != '\0' && strcmp(link->cluster, cluster) != 0;

    if (is_other) {
        mr_log_warn("link", "the servers are of another cluster now: %s",
                    cluster);
    }
    if (strcmp(link->server, address) != 0) {
        mr_log_info("link", "using the server %s", address);
    }
    f->state = LINK_USING;
    f->is_first = false;
    f->is_told = false;
    f->retry_ms = link_now(link) + REFRESH_MS / 2 +
                  mr_random_u64(link->options.random) % REFRESH_MS;
    link_use(link, address, cluster);
}

/* Nobody is left to be asked. */
static void end_round(struct server_link *link)
{
    struct link_find *f = &link->find;

    if (f->fallback[0] != '\0') {
        char address[LINK_ADDRESS_MAX];
        char cluster[17];

        memcpy(address, f->fallback, sizeof address);
        memcpy(cluster, f->fallback_cluster, sizeof cluster);
        use(link, address, cluster);
        return;
    }
    f->state = LINK_PAUSING;
    f->retry_ms = link_now(link) + link->options.interval_ms;
    if (f->is_first && link->options.must_join && f->n_join > 0) {
        link->options.on_fatal(link->options.arg, MR_E_UNREACHABLE, f->why);
    }
    f->is_first = false;
    if (!f->is_told) {
        mr_log_warn("link", "no server answers, retrying: %s",
                    f->n_candidates > 0
                        ? f->why
                        : "there is no address to join (-retry-join)");
        f->is_told = true;
    }
    link_use(link, "", link->cluster);
}

static void end_if_empty(struct server_link *link)
{
    struct link_find *f = &link->find;

    if (f->state == LINK_SEEKING && f->next >= f->n_candidates &&
        count_round(f) == 0) {
        end_round(link);
    }
}

static void on_answer(struct server_link *link, const char *address,
                      const struct hello *hello)
{
    struct link_find *f = &link->find;
    bool is_ours =
        link->cluster[0] == '\0' || strcmp(link->cluster, hello->cluster) == 0;

    if (f->state == LINK_USING) {
        return;
    }
    if (is_ours) {
        take_servers(f, hello);
    }
    if (is_ours && hello->has_leader) {
        drop_round(f);
        use(link, address, hello->cluster);
    } else if (f->fallback[0] == '\0') {
        (void)snprintf(f->fallback, sizeof f->fallback, "%s", address);
        memcpy(f->fallback_cluster, hello->cluster, sizeof hello->cluster);
    }
}

static enum mr_err keep_join(struct link_find *f, const char *address)
{
    char **grown;

    for (size_t i = 0; i < f->n_join; i++) {
        if (strcmp(f->join[i], address) == 0) {
            return MR_OK;
        }
    }
    if (f->n_join >= LINK_SERVERS_MAX) {
        return MR_E_BUSY;
    }
    grown = mr_realloc(f->join, (f->n_join + 1) * sizeof *grown);
    if (grown == NULL) {
        return MR_E_NOMEM;
    }
    f->join = grown;
    grown[f->n_join] = mr_strdup(address);
    if (grown[f->n_join] == NULL) {
        return MR_E_NOMEM;
    }
    f->n_join++;
    return MR_OK;
}

/* Where @t went, as an address that needs no resolving, in @address if it is
 * known: who uses it later must not wait for a resolver. */
static void make_numeric(const struct link_transfer *t,
                         char address[LINK_ADDRESS_MAX])
{
    char *ip = NULL;
    long port = 0;

    if (curl_easy_getinfo(t->easy, CURLINFO_PRIMARY_IP, &ip) == CURLE_OK &&
        curl_easy_getinfo(t->easy, CURLINFO_PRIMARY_PORT, &port) == CURLE_OK &&
        ip != NULL && mr_ip_family(ip) != 0) {
        (void)snprintf(address, LINK_ADDRESS_MAX,
                       mr_ip_family(ip) == 6 ? "[%s]:%ld" : "%s:%ld", ip, port);
    }
}

static void on_probed(struct link_transfer *t, CURLcode code)
{
    struct link_probe *p = mr_container_of(t, struct link_probe, transfer);
    struct server_link *link = t->link;
    struct link_find *f = &link->find;
    struct hello hello;
    char address[LINK_ADDRESS_MAX];
    bool good = is_good(link, p, code, &hello);
    bool is_refresh = p->is_refresh;

    memcpy(address, p->address, sizeof address);
    if (p->cb != NULL) {
        enum mr_err err = good ? keep_join(f, address) : MR_E_UNREACHABLE;

        p->cb(p->request, err, good ? NULL : f->why);
    }
    if (good) {
        make_numeric(t, address);
    }
    probe_free(p);
    if (is_refresh) {
        if (!good && f->state == LINK_USING &&
            strcmp(address, link->server) == 0) {
            link_find_failed(link, f->why);
        } else if (good) {
            take_servers(f, &hello);
        }
        return;
    }
    if (good) {
        on_answer(link, address, &hello);
    } else if (f->state == LINK_SEEKING) {
        f->next_ms = link_now(link); /* The next one at once. */
    }
    end_if_empty(link);
}

/* Ask the server at @p->address; takes @p. */
static void begin_probe(struct server_link *link, struct link_probe *p)
{
    struct link_request what = {.address = p->address,
                                .method = "GET",
                                .target = HELLO,
                                .timeout_ms = PROBE_MS};

    mr_buf_init(&p->answer, HELLO_MAX);
    p->transfer = (struct link_transfer){
        .link = link, .answer = &p->answer, .ended = on_probed};
    mr_list_push(&link->find.probes, &p->link);
    if (link_transfer_begin(&p->transfer, &what) != MR_OK) {
        if (p->cb != NULL) {
            p->cb(p->request, MR_E_NOMEM, NULL);
        }
        probe_free(p);
    }
}

static void ask(struct server_link *link, const char *address, bool is_refresh)
{
    struct link_probe *p = mr_calloc(1, sizeof *p);

    if (p != NULL) {
        mr_list_init(&p->link);
        (void)snprintf(p->address, sizeof p->address, "%s", address);
        p->is_refresh = is_refresh;
        begin_probe(link, p);
    }
}

/* ------------------------------------------------------------- rounds */

static void add_candidate(struct link_find *f, const char *address)
{
    for (size_t i = 0; i < f->n_candidates; i++) {
        if (strcmp(f->candidates[i], address) == 0) {
            return;
        }
    }
    if (f->n_candidates < MR_ARRAY_LEN(f->candidates)) {
        (void)snprintf(f->candidates[f->n_candidates++], LINK_ADDRESS_MAX, "%s",
                       address);
    }
}

static void shuffle(struct server_link *link)
{
    struct link_find *f = &link->find;
    char other[LINK_ADDRESS_MAX];

    for (size_t i = f->n_candidates; i > 1; i--) {
        size_t k = (size_t)(mr_random_u64(link->options.random) % i);

        memcpy(other, f->candidates[k], sizeof other);
        memcpy(f->candidates[k], f->candidates[i - 1], sizeof other);
        memcpy(f->candidates[i - 1], other, sizeof other);
    }
}

static void begin_round(struct server_link *link)
{
    struct link_find *f = &link->find;

    drop_round(f);
    f->state = LINK_SEEKING;
    f->n_candidates = 0;
    f->next = 0;
    f->next_ms = link_now(link);
    f->fallback[0] = '\0';
    for (size_t i = 0; i < f->n_known; i++) {
        add_candidate(f, f->known[i]);
    }
    for (size_t i = 0; i < f->n_join; i++) {
        add_candidate(f, f->join[i]);
    }
    shuffle(link);
}

static void seek(struct server_link *link)
{
    struct link_find *f = &link->find;

    while (f->state == LINK_SEEKING && f->next < f->n_candidates &&
           link_now(link) >= f->next_ms) {
        f->next_ms = link_now(link) + STAGGER_MS;
        ask(link, f->candidates[f->next++], false);
    }
    end_if_empty(link);
}

static void take_joins(struct server_link *link)
{
    struct mr_list joins;
    struct mr_list *at;

    (void)mr_queue_take(&link->joins, &joins);
    while ((at = mr_list_pop(&joins)) != NULL) {
        begin_probe(link, mr_container_of(at, struct link_probe, link));
    }
}

uint64_t link_find_run(struct server_link *link)
{
    struct link_find *f = &link->find;
    uint64_t now = link_now(link);

    take_joins(link);
    if (atomic_exchange(&link->is_doubted, false) && f->state == LINK_USING) {
        mr_log_debug("link", "the server %s is in doubt", link->server);
        begin_round(link);
    }
    if (f->state == LINK_PAUSING && now >= f->retry_ms) {
        begin_round(link);
    } else if (f->state == LINK_USING && now >= f->retry_ms) {
        f->retry_ms = now + REFRESH_MS;
        ask(link, link->server, true);
    }
    seek(link);
    if (f->state == LINK_SEEKING) {
        return f->next < f->n_candidates ? STAGGER_MS / 2 : PROBE_MS;
    }
    return f->retry_ms > now ? f->retry_ms - now : 0;
}

void link_find_failed(struct server_link *link, const char *why)
{
    struct link_find *f = &link->find;

    if (f->state != LINK_USING) {
        return;
    }
    mr_log_warn("link", "the server %s failed, looking for another: %s",
                link->server, why);
    begin_round(link);
}

bool link_find_has_hope(const struct server_link *link)
{
    return link->find.state != LINK_PAUSING && !link->find.is_told;
}

/* ------------------------------------------------------------- life */

/* "host:port" of what the user gave. */
static bool normalize(const char *text, uint16_t port,
                      char out[LINK_ADDRESS_MAX])
{
    struct mr_hostport at;

    if (mr_hostport_parse(text, port, &at, NULL) != MR_OK) {
        return false;
    }
    (void)snprintf(out, LINK_ADDRESS_MAX,
                   mr_ip_family(at.host) == 6 ? "[%s]:%u" : "%s:%u", at.host,
                   at.port);
    return true;
}

enum mr_err link_find_init(struct server_link *link)
{
    const struct server_link_options *o = &link->options;
    struct link_find *f = &link->find;
    char address[LINK_ADDRESS_MAX];

    mr_list_init(&f->probes);
    f->is_first = true;
    for (size_t i = 0; i < o->n_join; i++) {
        if (normalize(o->join[i], o->server_port, address) &&
            keep_join(f, address) == MR_E_NOMEM) {
            return MR_E_NOMEM;
        }
    }
    begin_round(link);
    return MR_OK;
}

void link_find_deinit(struct server_link *link)
{
    struct link_find *f = &link->find;

    take_joins(link);
    while (!mr_list_empty(&f->probes)) {
        struct link_probe *p =
            mr_container_of(f->probes.next, struct link_probe, link);

        if (p->cb != NULL) {
            p->cb(p->request, MR_E_CLOSED, NULL);
        }
        probe_free(p);
    }
    for (size_t i = 0; i < f->n_join; i++) {
        mr_free(f->join[i]);
    }
    mr_free(f->join);
}

void server_link_join(struct server_link *link, const char *address,
                      mr_api_host_cb cb, void *request)
{
    struct link_probe *p = mr_calloc(1, sizeof *p);
    enum mr_err err = MR_E_NOMEM;

    if (p != NULL &&
        normalize(address, link->options.server_port, p->address)) {
        mr_list_init(&p->link);
        p->cb = cb;
        p->request = request;
        err = mr_queue_push(&link->joins, &p->link);
    } else if (p != NULL) {
        err = MR_E_INVALID;
    }
    if (err != MR_OK) {
        mr_free(p);
        cb(request, err, NULL);
    }
}
