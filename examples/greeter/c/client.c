/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client in C: finds the greeters by libmicroreg and calls each of them, or
 * with -w tells who comes and goes.
 *
 *     client [-w] REGISTRY[,REGISTRY...]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>
#include <microreg.h>

#define CALL_TIMEOUT_S 5L

/* Call the greeter at @address; what it answers goes to standard output. */
static int call(CURL *curl, const char *address)
{
    char url[300];
    CURLcode code;

    (void)snprintf(url, sizeof(url), "http://%s/", address);
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    printf("%-21s ", address);
    (void)fflush(stdout);
    code = curl_easy_perform(curl);
    printf("%s\n", code == CURLE_OK ? "" : curl_easy_strerror(code));
    return code == CURLE_OK ? 0 : -1;
}

/* Call all nodes of @services. */
static int call_all(const struct microreg_services *services)
{
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = NULL;
    int rv = 0;

    if (curl == NULL)
        return -1;
    headers = curl_slist_append(headers, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Micro-Endpoint: Say.Hello");
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "{\"name\":\"John\"}");
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, CALL_TIMEOUT_S);
    (void)curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    for (size_t i = 0; i < services->n; i++) {
        const struct microreg_service *service = &services->items[i];

        for (size_t k = 0; k < service->n_nodes; k++) {
            if (call(curl, service->nodes[k].address) != 0)
                rv = -1;
        }
    }
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    return rv;
}

/* Find the greeters and call them. */
static int greet(struct microreg *client, struct microreg_error *error)
{
    struct microreg_services *services = NULL;
    int rv = microreg_get_service(client, "greeter", 0, &services, error);

    if (rv != MICROREG_OK)
        return rv;
    if (call_all(services) != 0) {
        rv = MICROREG_E_CONNECT;
        (void)snprintf(error->text, sizeof(error->text),
                       "not every greeter answers");
    }
    microreg_services_free(services);
    return rv;
}

/* Tell who comes and goes, until the program is killed. */
static int watch(struct microreg *client, struct microreg_error *error)
{
    static const char *const actions[] = {"create", "delete", "update"};
    struct microreg_watch *watcher = NULL;
    const struct microreg_event *event;
    int rv = microreg_watch_open(client, "greeter", 0, &watcher, error);

    if (rv != MICROREG_OK)
        return rv;
    for (;;) {
        rv = microreg_watch_next(watcher, -1, &event, error);
        if (rv != MICROREG_OK)
            break;
        printf("%s %s at %s\n", actions[event->action],
               event->service->nodes[0].id, event->service->nodes[0].address);
        (void)fflush(stdout);
    }
    microreg_watch_close(watcher);
    return rv;
}

int main(int argc, char **argv)
{
    bool is_watch = argc == 3 && strcmp(argv[1], "-w") == 0;
    struct microreg_options options = MICROREG_OPTIONS_INIT;
    struct microreg_error error;
    struct microreg *client = NULL;
    int rv;

    if (argc != 2 && !is_watch) {
        (void)fprintf(stderr, "usage: client [-w] REGISTRY\n");
        return EXIT_FAILURE;
    }
    options.addresses = argv[argc - 1];
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    rv = microreg_open(&options, &client, &error);
    if (rv == MICROREG_OK)
        rv = is_watch ? watch(client, &error) : greet(client, &error);
    if (rv != MICROREG_OK)
        (void)fprintf(stderr, "greeter: %s\n", error.text);
    microreg_close(client);
    return rv == MICROREG_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
