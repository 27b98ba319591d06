/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold between options, and addresses made concrete. */
#include "server/config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

#define NAME_MAX_LEN 128
#define META_MAX_PAIRS 64
#define META_KEY_MAX 128
#define META_VALUE_MAX 512

static enum mr_err put(char **at, const char *text)
{
    char *copy = mr_strdup(text);

    if (copy == NULL) {
        return MR_E_NOMEM;
    }
    mr_free(*at);
    *at = copy;
    return MR_OK;
}

static enum mr_err warn(struct server_config *cfg, const char *text)
{
    return server_list_add(&cfg->warnings, text);
}

/* ---- single values with a grammar of their own ---- */

static bool is_made_of(const char *text, const char *more)
{
    for (; *text != '\0'; text++) {
        if (!isalnum((unsigned char)*text) && strchr(more, *text) == NULL) {
            return false;
        }
    }
    return true;
}

static enum mr_err check_names(struct server_config *cfg,
                               struct mr_detail *detail)
{
    char host[256];

    if (cfg->node_name == NULL) {
        if (gethostname(host, sizeof host) != 0) {
            return mr_fail(detail, MR_E_INVALID,
                           "cannot tell the host name (%s): give -node",
                           strerror(errno));
        }
        host[sizeof host - 1] = '\0';
        if (put(&cfg->node_name, host) != MR_OK) {
            return MR_E_NOMEM;
        }
    }
    if (cfg->node_name[0] == '\0') {
        return mr_fail(detail, MR_E_INVALID, "node_name cannot be empty");
    }
    if (strlen(cfg->node_name) > NAME_MAX_LEN) {
        return mr_fail(detail, MR_E_INVALID,
                       "node_name is longer than %d characters", NAME_MAX_LEN);
    }
    for (const char *c = cfg->node_name; *c != '\0'; c++) {
        if (iscntrl((unsigned char)*c)) {
            return mr_fail(detail, MR_E_INVALID,
                           "node_name contains a control character");
        }
    }
    if (cfg->datacenter[0] == '\0') {
        return mr_fail(detail, MR_E_INVALID, "datacenter cannot be empty");
    }
    if (strlen(cfg->datacenter) > NAME_MAX_LEN ||
        !is_made_of(cfg->datacenter, "-_")) {
        return mr_fail(detail, MR_E_INVALID,
                       "datacenter cannot be \"%.200s\". Please use only "
                       "[a-z0-9-_]",
                       cfg->datacenter);
    }
    for (char *c = cfg->datacenter; *c != '\0'; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    if (cfg->node_id != NULL && !mr_uuid_valid(cfg->node_id)) {
        return mr_fail(detail, MR_E_INVALID, "node_id \"%.200s\" is not a UUID",
                       cfg->node_id);
    }
    return MR_OK;
}

static enum mr_err check_domain(const char *key, char *domain,
                                struct mr_detail *detail)
{
    size_t len = strlen(domain);

    if (len > 0 && domain[len - 1] == '.') {
        domain[--len] = '\0';
    }
    if (len == 0 || len > 200 || domain[0] == '.' ||
        strstr(domain, "..") != NULL || !is_made_of(domain, "-_.")) {
        return mr_fail(detail, MR_E_INVALID,
                       "%s \"%.300s\" is not a DNS domain", key, domain);
    }
    for (char *c = domain; *c != '\0'; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    return MR_OK;
}

static enum mr_err check_dns(struct server_config *cfg,
                             struct mr_detail *detail)
{
    enum mr_err err = check_domain("domain", cfg->domain, detail);

    if (err == MR_OK && cfg->alt_domain == NULL &&
        strcmp(cfg->domain, "micro") == 0) {
        err = put(&cfg->alt_domain, "consul");
    }
    if (err == MR_OK && cfg->alt_domain != NULL && cfg->alt_domain[0] == '\0') {
        mr_free(cfg->alt_domain); /* "" turns it off. */
        cfg->alt_domain = NULL;
    }
    if (err == MR_OK && cfg->alt_domain != NULL) {
        err = check_domain("alt_domain", cfg->alt_domain, detail);
    }
    for (size_t i = 0; err == MR_OK && i < cfg->service_ttl.n; i += 2) {
        struct mr_detail why;
        int64_t ns;

        if (mr_duration_parse(cfg->service_ttl.items[i + 1], &ns, &why) !=
                MR_OK ||
            ns < 0) {
            err = mr_fail(detail, MR_E_INVALID,
                          "dns_config.service_ttl[\"%.100s\"]: invalid "
                          "duration: \"%.100s\"",
                          cfg->service_ttl.items[i],
                          cfg->service_ttl.items[i + 1]);
        }
    }
    return err;
}

/* Consul's rules for metadata. */
static enum mr_err check_meta(const struct server_config *cfg,
                              struct mr_detail *detail)
{
    const struct server_list *meta = &cfg->node_meta;

    if (meta->n / 2 > META_MAX_PAIRS) {
        return mr_fail(detail, MR_E_INVALID,
                       "node_meta cannot contain more than %d key/value pairs",
                       META_MAX_PAIRS);
    }
    for (size_t i = 0; i < meta->n; i += 2) {
        const char *key = meta->items[i];
        const char *why = NULL;

        if (key[0] == '\0') {
            why = "Key cannot be blank";
        } else if (!is_made_of(key, "-_")) {
            why = "Key contains invalid characters";
        } else if (strlen(key) > META_KEY_MAX) {
            why = "Key is too long (limit: 128 characters)";
        } else if (strncmp(key, "consul-", 7) == 0) {
            why = "Key prefix 'consul-' is reserved for internal use";
        } else if (strlen(meta->items[i + 1]) > META_VALUE_MAX) {
            why = "Value is too long (limit: 512 characters)";
        }
        if (why != NULL) {
            return mr_fail(detail, MR_E_INVALID,
                           "node_meta: Couldn't load metadata pair ('%.150s', "
                           "'%.150s'): %s",
                           key, meta->items[i + 1], why);
        }
    }
    return MR_OK;
}

static enum mr_err check_joins(const struct server_list *list, const char *key,
                               struct mr_detail *detail)
{
    for (size_t i = 0; i < list->n; i++) {
        struct mr_hostport hp;
        struct mr_detail why;

        if (strncmp(list->items[i], "provider=", 9) == 0) {
            return mr_fail(detail, MR_E_INVALID,
                           "%s: \"%.200s\": cloud auto-join is not supported; "
                           "use a DNS name",
                           key, list->items[i]);
        }
        if (mr_hostport_parse(list->items[i], 8300, &hp, &why) != MR_OK) {
            return mr_fail(detail, MR_E_INVALID, "%s: %.400s", key, why.text);
        }
    }
    return MR_OK;
}

/* ---- what must fit together ---- */

/* An agent without -server leaves when it is told to end, unless it is told
 * otherwise: nothing is lost with it. */
static enum mr_err check_client(struct server_config *cfg)
{
    if (!server_config_given(cfg, "leave_on_terminate")) {
        cfg->leave_on_terminate = true;
    }
    if (!server_config_given(cfg, "skip_leave_on_interrupt")) {
        cfg->skip_leave_on_interrupt = false;
    }
    if (cfg->retry_join.n == 0 && cfg->start_join.n == 0) {
        return warn(cfg, "this agent is no server and has no address to join: "
                         "give -retry-join, or use `microreg join`");
    }
    return MR_OK;
}

static enum mr_err check_mode(struct server_config *cfg,
                              struct mr_detail *detail)
{
    if (cfg->bootstrap && cfg->bootstrap_expect > 1) {
        return mr_fail(detail, MR_E_INVALID,
                       "'bootstrap_expect > 0' and 'bootstrap = true' are "
                       "mutually exclusive");
    }
    if (cfg->dev) {
        cfg->server = true;
        cfg->bootstrap = true;
    }
    if (cfg->bootstrap_expect > 0 && !cfg->server) {
        return mr_fail(detail, MR_E_INVALID,
                       "'bootstrap_expect > 0' requires 'server = true'");
    }
    if (cfg->bootstrap && !cfg->server) {
        return mr_fail(detail, MR_E_INVALID,
                       "'bootstrap = true' requires 'server = true'");
    }
    if (cfg->bootstrap) {
        cfg->bootstrap_expect = 1;
    }
    if (!cfg->dev && (cfg->data_dir == NULL || cfg->data_dir[0] == '\0')) {
        return mr_fail(detail, MR_E_INVALID,
                       "data_dir cannot be empty: give -data-dir");
    }
    if (!cfg->server) {
        return check_client(cfg);
    }
    if (cfg->bootstrap_expect > 1 && cfg->bootstrap_expect % 2 == 0) {
        return warn(cfg, "bootstrap_expect is even: a server more or less "
                         "survives as many failures");
    }
    return MR_OK;
}

static enum mr_err check_log(const struct server_config *cfg,
                             struct mr_detail *detail)
{
    enum mr_log_level level;

    if (mr_log_parse_level(cfg->log_level, &level) != MR_OK) {
        return mr_fail(detail, MR_E_INVALID,
                       "Invalid log level: %.100s. Valid log levels are: "
                       "[TRACE DEBUG INFO WARN ERR ERROR]",
                       cfg->log_level);
    }
    return MR_OK;
}

static enum mr_err check_ports(const struct server_config *cfg,
                               struct mr_detail *detail)
{
    if (cfg->http_port == cfg->server_port ||
        cfg->dns_port == cfg->server_port || cfg->http_port == cfg->dns_port) {
        return mr_fail(detail, MR_E_INVALID,
                       "ports: HTTP (%d), DNS (%d) and server (%d) must differ",
                       (int)cfg->http_port, (int)cfg->dns_port,
                       (int)cfg->server_port);
    }
    if (cfg->default_query_time_ns > cfg->max_query_time_ns) {
        return mr_fail(detail, MR_E_INVALID,
                       "default_query_time is longer than max_query_time");
    }
    return MR_OK;
}

/* -dev listens on loopback and logs everything, unless told otherwise. */
static enum mr_err apply_dev(struct server_config *cfg)
{
    enum mr_err err = MR_OK;

    if (!cfg->dev) {
        return MR_OK;
    }
    if (strcmp(cfg->bind_addr, "0.0.0.0") == 0) {
        err = put(&cfg->bind_addr, "127.0.0.1");
    }
    if (err == MR_OK && strcmp(cfg->log_level, "INFO") == 0) {
        err = put(&cfg->log_level, "DEBUG");
    }
    return err;
}

enum mr_err server_config_check(struct server_config *cfg,
                                struct mr_detail *detail)
{
    enum mr_err err = check_mode(cfg, detail);

    if (err == MR_OK) {
        err = check_names(cfg, detail);
    }
    if (err == MR_OK) {
        err = check_dns(cfg, detail);
    }
    if (err == MR_OK) {
        err = check_meta(cfg, detail);
    }
    if (err == MR_OK) {
        err = check_joins(&cfg->retry_join, "retry_join", detail);
    }
    if (err == MR_OK) {
        err = check_joins(&cfg->start_join, "start_join", detail);
    }
    if (err == MR_OK) {
        err = check_log(cfg, detail);
    }
    if (err == MR_OK) {
        err = check_ports(cfg, detail);
    }
    if (err == MR_OK) {
        err = server_definitions_check(
            &cfg->definitions, cfg->enable_scripts || cfg->enable_local_scripts,
            detail);
    }
    if (err == MR_OK) {
        err = apply_dev(cfg);
    }
    return err;
}

/* ---- addresses ---- */

static void literal_of(const struct sockaddr *sa, char out[INET6_ADDRSTRLEN])
{
    const void *ip =
        sa->sa_family == AF_INET
            ? (const void *)&((const struct sockaddr_in *)(const void *)sa)
                  ->sin_addr
            : (const void *)&((const struct sockaddr_in6 *)(const void *)sa)
                  ->sin6_addr;

    out[0] = '\0';
    (void)inet_ntop(sa->sa_family, ip, out, INET6_ADDRSTRLEN);
}

/* @text as an IP literal; names are looked up, IPv4 first. */
static enum mr_err resolve(const char *key, const char *text,
                           char out[INET6_ADDRSTRLEN], struct mr_detail *detail)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    const struct addrinfo *best;
    int rc;

    if (text[0] == '\0') {
        return mr_fail(detail, MR_E_ADDRESS, "%s cannot be empty", key);
    }
    if (mr_ip_family(text) != 0 && strlen(text) < INET6_ADDRSTRLEN) {
        memcpy(out, text, strlen(text) + 1);
        return MR_OK;
    }
    rc = getaddrinfo(text, NULL, &hints, &found);
    if (rc != 0 || found == NULL) {
        return mr_fail(detail, MR_E_ADDRESS,
                       "%s: \"%.300s\" does not resolve: %s", key, text,
                       gai_strerror(rc));
    }
    best = found;
    for (const struct addrinfo *at = found; at != NULL; at = at->ai_next) {
        if (at->ai_family == AF_INET) {
            best = at;
            break;
        }
    }
    literal_of(best->ai_addr, out);
    freeaddrinfo(found);
    return MR_OK;
}

static enum mr_err resolve_list(const char *key, const char *text,
                                struct server_list *out,
                                struct mr_detail *detail)
{
    char ip[INET6_ADDRSTRLEN];
    enum mr_err err = MR_OK;

    for (size_t len; err == MR_OK; text += len) {
        char *word;

        text += strspn(text, " ");
        len = strcspn(text, " ");
        if (len == 0) {
            break;
        }
        word = mr_memdup0(text, len);
        if (word == NULL) {
            return MR_E_NOMEM;
        }
        err = resolve(key, word, ip, detail);
        mr_free(word);
        if (err == MR_OK) {
            err = server_list_add(out, ip);
        }
    }
    if (err == MR_OK && out->n == 0) {
        err = mr_fail(detail, MR_E_ADDRESS, "%s cannot be empty", key);
    }
    return err;
}

/* RFC 1918 and RFC 6598. */
static bool is_private(const struct sockaddr *sa)
{
    uint32_t ip =
        ntohl(((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr);

    return ip >> 24 == 10 || ip >> 20 == 0xac1 || ip >> 16 == 0xc0a8 ||
           ip >> 22 == 0x191;
}

/* The only private IPv4 address of this machine. */
static enum mr_err find_private(char out[INET6_ADDRSTRLEN],
                                struct mr_detail *detail)
{
    struct ifaddrs *all;
    unsigned n = 0;

    if (getifaddrs(&all) != 0) {
        return mr_fail(detail, MR_E_ADDRESS,
                       "cannot list the addresses of this machine (%s): give "
                       "-advertise",
                       strerror(errno));
    }
    for (const struct ifaddrs *at = all; at != NULL; at = at->ifa_next) {
        if (at->ifa_addr != NULL && at->ifa_addr->sa_family == AF_INET &&
            (at->ifa_flags & IFF_UP) != 0 &&
            (at->ifa_flags & IFF_LOOPBACK) == 0 && is_private(at->ifa_addr)) {
            literal_of(at->ifa_addr, out);
            n++;
        }
    }
    freeifaddrs(all);
    if (n == 1) {
        return MR_OK;
    }
    return mr_fail(detail, MR_E_ADDRESS,
                   "%s private IPv4 address found. Please configure one with "
                   "-bind and/or -advertise",
                   n == 0 ? "No" : "More than one");
}

static enum mr_err resolve_advertise(struct server_config *cfg,
                                     const char *bind, struct mr_detail *detail)
{
    char ip[INET6_ADDRSTRLEN];
    enum mr_err err;

    if (cfg->advertise_addr != NULL) {
        err = resolve("advertise_addr", cfg->advertise_addr, ip, detail);
    } else if (strcmp(bind, "0.0.0.0") == 0 || strcmp(bind, "::") == 0) {
        err = find_private(ip, detail);
    } else {
        return put(&cfg->advertise_ip, bind);
    }
    if (err == MR_OK && (strcmp(ip, "0.0.0.0") == 0 || strcmp(ip, "::") == 0)) {
        err = mr_fail(detail, MR_E_ADDRESS,
                      "Advertise address cannot be %s: give -advertise=<IP "
                      "that the others reach>",
                      ip);
    }
    return err == MR_OK ? put(&cfg->advertise_ip, ip) : err;
}

enum mr_err server_config_resolve(struct server_config *cfg,
                                  struct mr_detail *detail)
{
    char ip[INET6_ADDRSTRLEN];
    const char *http = cfg->http_addr;
    const char *dns = cfg->dns_addr;
    enum mr_err err = resolve("bind_addr", cfg->bind_addr, ip, detail);

    if (err == MR_OK) {
        err = put(&cfg->bind_ip, ip);
    }
    if (err == MR_OK) {
        err = resolve_advertise(cfg, ip, detail);
    }
    if (err == MR_OK) {
        err = resolve_list(http != NULL ? "addresses.http" : "client_addr",
                           http != NULL ? http : cfg->client_addr,
                           &cfg->http_ips, detail);
    }
    if (err == MR_OK) {
        err = resolve_list(dns != NULL ? "addresses.dns" : "client_addr",
                           dns != NULL ? dns : cfg->client_addr, &cfg->dns_ips,
                           detail);
    }
    if (err == MR_E_NOMEM) {
        (void)mr_fail(detail, err, "out of memory");
    }
    return err;
}
