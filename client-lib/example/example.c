/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libmicroreg in one page: a service that registers itself, finds itself, hears
 * of its own changes, keeps a counter under a lock, and goes.
 *
 *   cc example.c $(pkg-config --cflags --libs microreg) -o example
 *   ./example 127.0.0.1:8500
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <microreg.h>

#define SERVICE "example"
#define EVENT_TIMEOUT_MS 10000

/* End with the library's own words. */
static void check(int err, const struct microreg_error *error)
{
    if (err != MICROREG_OK) {
        fprintf(stderr, "example: %s: %s\n", microreg_strerror(err),
                error->text);
        exit(1);
    }
}

static void on_log(void *arg, int level, const char *text)
{
    (void)arg;
    if (level <= MICROREG_LOG_WARN) {
        fprintf(stderr, "example: %s\n", text);
    }
}

/* Register a node, and keep it alive from now on. */
static void put_node(struct microreg *client, const char *address)
{
    const struct microreg_pair metadata[] = {{"protocol", "http"}};
    const struct microreg_node node = {"example-1", address, metadata, 1};
    const struct microreg_service service = {
        .name = SERVICE, .version = "1.0", .nodes = &node, .n_nodes = 1};
    struct microreg_error error;

    check(
        microreg_register(client, &service, 10000, MICROREG_KEEP_ALIVE, &error),
        &error);
}

static void remove_node(struct microreg *client)
{
    const struct microreg_node node = {.id = "example-1"};
    const struct microreg_service service = {
        .name = SERVICE, .nodes = &node, .n_nodes = 1};
    struct microreg_error error;

    check(microreg_deregister(client, &service, &error), &error);
}

static void find(struct microreg *client)
{
    struct microreg_services *found;
    struct microreg_error error;

    check(microreg_get_service(client, SERVICE, 0, &found, &error), &error);
    for (size_t i = 0; i < found->n; i++) {
        const struct microreg_service *s = &found->items[i];

        for (size_t j = 0; j < s->n_nodes; j++) {
            printf("found %s %s: %s at %s\n", s->name, s->version,
                   s->nodes[j].id, s->nodes[j].address);
        }
    }
    microreg_services_free(found);
}

/* Wait for the next event and show it. */
static void hear(struct microreg_watch *watch)
{
    static const char *const words[] = {"create", "delete", "update", "synced"};
    const struct microreg_event *event;
    struct microreg_error error;

    check(microreg_watch_next(watch, EVENT_TIMEOUT_MS, &event, &error), &error);
    printf("%s", words[event->action]);
    if (event->service != NULL) {
        printf(" %s at %s", event->service->nodes[0].id,
               event->service->nodes[0].address);
    }
    printf("\n");
}

/* Add one to a counter, as the holder of a lock. */
static void count(struct microreg *client)
{
    const struct microreg_session_options options = {.name = SERVICE,
                                                     .lock_delay_ms = -1};
    struct microreg_kv_options write = {.fence_key = "example/lock"};
    struct microreg_session *session;
    struct microreg_keys *keys;
    struct microreg_error error;
    char text[32] = "0";

    check(microreg_session_open(client, &options, &session, &error), &error);
    check(microreg_lock(session, write.fence_key, EVENT_TIMEOUT_MS,
                        &write.fence, &error),
          &error);
    if (microreg_kv_get(client, "example/count", MICROREG_CONSISTENT, &keys,
                        &error) == MICROREG_OK) {
        snprintf(text, sizeof text, "%s", (const char *)keys->items[0].value);
        microreg_keys_free(keys);
    }
    snprintf(text, sizeof text, "%d", (int)strtol(text, NULL, 10) + 1);
    check(microreg_kv_put(client, "example/count", text, strlen(text), &write,
                          &error),
          &error);
    printf("count %s\n", text);
    check(microreg_unlock(session, write.fence_key, &error), &error);
    microreg_session_close(session);
}

int main(int argc, char **argv)
{
    struct microreg_options options = MICROREG_OPTIONS_INIT;
    struct microreg_watch *watch;
    struct microreg_error error;
    struct microreg *client;

    options.addresses = argc > 1 ? argv[1] : NULL;
    options.log = on_log;
    check(microreg_open(&options, &client, &error), &error);
    check(microreg_watch_open(client, SERVICE, 0, &watch, &error), &error);

    put_node(client, "127.0.0.1:9090");
    hear(watch);
    find(client);
    put_node(client, "127.0.0.1:9091");
    hear(watch);
    count(client);
    remove_node(client);
    hear(watch);

    microreg_watch_close(watch);
    microreg_close(client);
    return 0;
}
