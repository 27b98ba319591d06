/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The greeter in C: a web server of libmicrohttpd that libmicroreg registers
 * and keeps registered. It answers what go-micro's clients send: a POST with
 * the JSON {"name":"John"}.
 *
 *     service REGISTRY[,REGISTRY...] LISTEN_ADDRESS
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>
#include <microhttpd.h>
#include <microreg.h>

#define TTL_MS 5000
#define BODY_MAX 4096

/* A request whose body is arriving. */
struct greeting {
    char body[BODY_MAX];
    size_t len;
};

/* The answer's body, from malloc, or NULL if the request makes no sense. */
static char *greet(const struct greeting *g)
{
    json_t *request = json_loadb(g->body, g->len, 0, NULL);
    const char *name = json_string_value(json_object_get(request, "name"));
    json_t *answer = NULL;
    char *text = NULL;

    if (name != NULL) {
        answer = json_pack("{s:s++}", "greeting", "Hello ", name, ", from C");
        text = json_dumps(answer, JSON_COMPACT);
    }
    json_decref(answer);
    json_decref(request);
    return text;
}

static enum MHD_Result answer(struct MHD_Connection *connection,
                              const struct greeting *g)
{
    char *text = greet(g);
    struct MHD_Response *response;
    enum MHD_Result result;

    if (text == NULL) {
        response =
            MHD_create_response_from_buffer(0, "", MHD_RESPMEM_PERSISTENT);
        result = MHD_queue_response(connection, MHD_HTTP_BAD_REQUEST, response);
    } else {
        response = MHD_create_response_from_buffer(strlen(text), text,
                                                   MHD_RESPMEM_MUST_FREE);
        (void)MHD_add_response_header(response, "Content-Type",
                                      "application/json");
        result = MHD_queue_response(connection, MHD_HTTP_OK, response);
    }
    MHD_destroy_response(response);
    return result;
}

/* libmicrohttpd calls this when the headers are there, for each part of the
 * body, and when it is complete. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection,
                                  const char *url, const char *method,
                                  const char *version, const char *part,
                                  size_t *part_len, void **state)
{
    struct greeting *g = *state;

    (void)arg;
    (void)url;
    (void)method;
    (void)version;
    if (g == NULL) {
        *state = calloc(1, sizeof(*g));
        return *state != NULL ? MHD_YES : MHD_NO;
    }
    if (*part_len == 0)
        return answer(connection, g);
    if (*part_len > sizeof(g->body) - g->len)
        return MHD_NO;
    memcpy(g->body + g->len, part, *part_len);
    g->len += *part_len;
    *part_len = 0;
    return MHD_YES;
}

static void on_end(void *arg, struct MHD_Connection *connection, void **state,
                   enum MHD_RequestTerminationCode why)
{
    (void)arg;
    (void)connection;
    (void)why;
    free(*state);
    *state = NULL;
}

/* A web server on any free port of the address, or NULL. */
static struct MHD_Daemon *start(const char *address)
{
    struct sockaddr_in at = {.sin_family = AF_INET};

    if (inet_pton(AF_INET, address, &at.sin_addr) != 1)
        return NULL;
    return MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL,
                            on_request, NULL, MHD_OPTION_SOCK_ADDR, &at,
                            MHD_OPTION_NOTIFY_COMPLETED, on_end, NULL,
                            MHD_OPTION_END);
}

/* Register the greeter at @host:@port until a signal says that it is enough. */
static int serve(const char *registry, const char *host, unsigned port)
{
    char id[64];
    char address[64];
    struct microreg_pair metadata = {"protocol", "http"};
    struct microreg_node node = {id, address, &metadata, 1};
    struct microreg_service service = {
        .name = "greeter", .version = "c", .nodes = &node, .n_nodes = 1};
    struct microreg_options options = MICROREG_OPTIONS_INIT;
    struct microreg *client = NULL;
    struct microreg_error error;
    sigset_t signals;
    int signal_number;
    int rv;

    (void)snprintf(id, sizeof(id), "greeter-c-%ld", (long)getpid());
    (void)snprintf(address, sizeof(address), "%s:%u", host, port);
    options.addresses = registry;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);

    rv = microreg_open(&options, &client, &error);
    if (rv == MICROREG_OK)
        rv = microreg_register(client, &service, TTL_MS, MICROREG_KEEP_ALIVE,
                               &error);
    if (rv == MICROREG_OK) {
        printf("%s is registered at %s\n", id, address);
        (void)fflush(stdout);
        (void)sigwait(&signals, &signal_number);
        rv = microreg_deregister(client, &service, &error);
    }
    if (rv != MICROREG_OK)
        (void)fprintf(stderr, "greeter: %s\n", error.text);
    microreg_close(client);
    return rv == MICROREG_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    struct MHD_Daemon *server;
    sigset_t signals;
    int status;

    if (argc != 3) {
        (void)fprintf(stderr, "usage: service REGISTRY LISTEN_ADDRESS\n");
        return EXIT_FAILURE;
    }
    /* Before there are threads, so that all of them leave these to sigwait. */
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    server = start(argv[2]);
    if (server == NULL) {
        (void)fprintf(stderr, "greeter: cannot listen on %s\n", argv[2]);
        return EXIT_FAILURE;
    }
    status =
        serve(argv[1], argv[2],
              MHD_get_daemon_info(server, MHD_DAEMON_INFO_BIND_PORT)->port);
    MHD_stop_daemon(server);
    return status;
}
