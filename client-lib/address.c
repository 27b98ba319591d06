/* SPDX-License-Identifier: Apache-2.0 */
/* The addresses of the servers. */
#include "address.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "err.h"
#include "mem.h"

#define DISGRACE_MS UINT64_C(1000)
#define DISGRACE_DOUBLINGS 5
#define HOST_MAX ((size_t)253)
#define PORT_MAX 65535

/* A piece of the list, taken apart. */
struct parts {
    bool is_secure;
    const char *host;
    size_t host_len;
    bool is_ipv6;
    unsigned port;
};

static int refuse_address(const char *from, size_t len, const char *why,
                          struct microreg_error *out_error)
{
    return mrg_fail(out_error, MICROREG_E_INVALID, "address \"%.*s\": %s",
                    (int)(len > 200 ? 200 : len), from, why);
}

/* The scheme at the beginning, if there is one. */
static size_t skip_scheme(const char *from, size_t len, struct parts *parts)
{
    static const char plain[] = "http://";
    static const char secure[] = "https://";

    if (len >= sizeof plain - 1 &&
        strncasecmp(from, plain, sizeof plain - 1) == 0) {
        parts->is_secure = false;
        return sizeof plain - 1;
    }
    if (len >= sizeof secure - 1 &&
        strncasecmp(from, secure, sizeof secure - 1) == 0) {
        parts->is_secure = true;
        return sizeof secure - 1;
    }
    return 0;
}

/* Whether it begins with something else that looks like a scheme. */
static bool has_other_scheme(const char *from, size_t len)
{
    const char *colon = memchr(from, ':', len);

    return colon != NULL && from + len - colon >= 3 &&
           memcmp(colon, "://", 3) == 0;
}

static bool parse_port(const char *digits, size_t len, unsigned *out_port)
{
    unsigned port = 0;

    if (len == 0 || len > 5) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (digits[i] < '0' || digits[i] > '9') {
            return false;
        }
        port = port * 10 + (unsigned)(digits[i] - '0');
    }
    *out_port = port;
    return port > 0 && port <= PORT_MAX;
}

/* Whether it is an IPv6 address, perhaps with a zone: "fe80::1%eth0". */
static bool is_ipv6_address(const char *host, size_t len)
{
    char text[INET6_ADDRSTRLEN + 1];
    struct in6_addr address;
    const char *zone = memchr(host, '%', len);

    if (zone != NULL) {
        len = (size_t)(zone - host);
    }
    if (len >= sizeof text) {
        return false;
    }
    memcpy(text, host, len);
    text[len] = '\0';
    return inet_pton(AF_INET6, text, &address) == 1;
}

static bool is_host(const struct parts *parts)
{
    if (parts->is_ipv6 && !is_ipv6_address(parts->host, parts->host_len)) {
        return false;
    }
    for (size_t i = 0; i < parts->host_len; i++) {
        char c = parts->host[i];
        bool is_plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                        (c >= 'A' && c <= 'Z') || c == '.' || c == '-' ||
                        c == '_';

        if (!is_plain && !(parts->is_ipv6 && (c == ':' || c == '%'))) {
            return false;
        }
    }
    return parts->host_len > 0 && parts->host_len <= HOST_MAX;
}

/* Split "host", "host:port", "[v6]", "[v6]:port" or a bare v6 address. Returns
 * what is wrong with it, or NULL. */
static const char *split_address(const char *at, size_t len,
                                 struct parts *parts)
{
    const char *end = at + len;
    const char *colon = memchr(at, ':', len);
    const char *bracket = memchr(at, ']', len);

    parts->port = MICROREG_DEFAULT_PORT;
    parts->host = at;
    if (len > 0 && at[0] == '[') {
        if (bracket == NULL) {
            return "the ']' is missing";
        }
        parts->is_ipv6 = true;
        parts->host = at + 1;
        parts->host_len = (size_t)(bracket - at - 1);
        colon = bracket + 1 == end ? NULL : bracket + 1;
        if (colon != NULL && *colon != ':') {
            return "a port is expected behind the ']'";
        }
    } else if (colon != NULL &&
               memchr(colon + 1, ':', (size_t)(end - colon - 1)) != NULL) {
        parts->is_ipv6 = true;
        parts->host_len = len;
        colon = NULL;
    } else {
        parts->host_len = colon != NULL ? (size_t)(colon - at) : len;
    }
    if (colon != NULL &&
        !parse_port(colon + 1, (size_t)(end - colon - 1), &parts->port)) {
        return "the port is not a number from 1 to 65535";
    }
    return is_host(parts) ? NULL : "this is no host name and no IP address";
}

static int fill_server(struct mrg_server *server, const struct parts *parts)
{
    struct mrg_text name = MRG_TEXT_INIT;
    struct mrg_text url = MRG_TEXT_INIT;
    size_t len;

    mrg_text_printf(&name, parts->is_ipv6 ? "[%.*s]:%u" : "%.*s:%u",
                    (int)parts->host_len, parts->host, parts->port);
    mrg_text_printf(&url, "%s://%s", parts->is_secure ? "https" : "http",
                    name.data != NULL ? name.data : "");
    server->name = mrg_text_take(&name, &len);
    server->url = mrg_text_take(&url, &len);
    mrg_text_deinit(&name);
    mrg_text_deinit(&url);
    return server->name != NULL && server->url != NULL ? MICROREG_OK
                                                       : MICROREG_E_NOMEM;
}

static int parse_one(const char *from, size_t len, bool is_secure,
                     struct mrg_server *server,
                     struct microreg_error *out_error)
{
    struct parts parts = {.is_secure = is_secure};
    size_t scheme = skip_scheme(from, len, &parts);
    size_t rest = len - scheme;
    const char *why;

    if (rest > 0 && scheme > 0 && from[len - 1] == '/') {
        rest--; /* As people copy it from a browser. */
    }
    why = scheme == 0 && has_other_scheme(from, len)
              ? "only http:// and https:// are known"
              : split_address(from + scheme, rest, &parts);
    if (why != NULL) {
        return refuse_address(from, len, why, out_error);
    }
    return fill_server(server, &parts) == MICROREG_OK ? MICROREG_OK
                                                      : mrg_nomem(out_error);
}

/* The next piece of a list, without the spaces around it. */
static const char *next_piece(const char *at, const char **out_from,
                              size_t *out_len)
{
    size_t len = strcspn(at, ",");
    const char *end = at + len;

    *out_from = at;
    while (len > 0 && strchr(" \t\n", (*out_from)[0]) != NULL) {
        (*out_from)++;
        len--;
    }
    while (len > 0 && strchr(" \t\n", (*out_from)[len - 1]) != NULL) {
        len--;
    }
    *out_len = len;
    return *end == ',' ? end + 1 : NULL;
}

int mrg_servers_parse(const char *text, bool is_secure,
                      struct mrg_servers **out_servers,
                      struct microreg_error *out_error)
{
    struct mrg_servers *servers =
        mrg_alloc(sizeof *servers + MRG_SERVERS_MAX * sizeof *servers->items);
    int err = MICROREG_OK;

    if (servers == NULL) {
        return mrg_nomem(out_error);
    }
    atomic_init(&servers->refs, 1);
    servers->text = mrg_dup(text, strlen(text));
    if (servers->text == NULL) {
        err = mrg_nomem(out_error);
    }
    for (const char *at = text; err == MICROREG_OK && at != NULL;) {
        const char *from;
        size_t len;

        at = next_piece(at, &from, &len);
        if (len == 0) {
            continue;
        }
        if (servers->n == MRG_SERVERS_MAX) {
            err = mrg_fail(out_error, MICROREG_E_INVALID,
                           "more than %d addresses", MRG_SERVERS_MAX);
            break;
        }
        err = parse_one(from, len, is_secure, &servers->items[servers->n],
                        out_error);
        servers->n++; /* A half-built one is freed too. */
    }
    if (err == MICROREG_OK && servers->n == 0) {
        err = mrg_fail(out_error, MICROREG_E_INVALID, "no address is given");
    }
    if (err != MICROREG_OK) {
        mrg_servers_unref(servers);
        return err;
    }
    *out_servers = servers;
    return MICROREG_OK;
}

struct mrg_servers *mrg_servers_ref(struct mrg_servers *servers)
{
    atomic_fetch_add(&servers->refs, 1);
    return servers;
}

void mrg_servers_unref(struct mrg_servers *servers)
{
    if (servers == NULL || atomic_fetch_sub(&servers->refs, 1) != 1) {
        return;
    }
    for (size_t i = 0; i < servers->n; i++) {
        mrg_free(servers->items[i].url);
        mrg_free(servers->items[i].name);
    }
    mrg_free(servers->text);
    mrg_free(servers);
}

/* ------------------------------------------------------------- the order */

void mrg_servers_order(struct mrg_servers *servers, uint64_t now_ms,
                       unsigned char *out_order)
{
    uint64_t until[MRG_SERVERS_MAX];

    /* By the end of their disgrace; those that are in none as they are given. */
    for (size_t i = 0; i < servers->n; i++) {
        uint64_t end = atomic_load(&servers->items[i].disgraced_until_ms);
        size_t at = i;

        end = end <= now_ms ? 0 : end;
        while (at > 0 && until[at - 1] > end) {
            until[at] = until[at - 1];
            out_order[at] = out_order[at - 1];
            at--;
        }
        until[at] = end;
        out_order[at] = (unsigned char)i;
    }
}

void mrg_server_failed(struct mrg_server *server, uint64_t now_ms)
{
    unsigned failures = atomic_fetch_add(&server->failures, 1);

    if (failures > DISGRACE_DOUBLINGS) {
        failures = DISGRACE_DOUBLINGS;
    }
    atomic_store(&server->disgraced_until_ms,
                 now_ms + (DISGRACE_MS << failures));
}

void mrg_server_worked(struct mrg_server *server)
{
    if (atomic_load_explicit(&server->failures, memory_order_relaxed) != 0) {
        atomic_store(&server->failures, 0);
        atomic_store(&server->disgraced_until_ms, 0);
    }
}
