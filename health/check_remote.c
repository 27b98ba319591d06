/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Aliases of what is on another node, for an agent whose store holds its own
 * node only: the cluster is asked over HTTP, first for the node's services,
 * then for its checks. While the cluster does not answer nothing is known, and
 * the alias stays what it was.
 */
#include <string.h>

#include <jansson.h>

#include "base/mem.h"
#include "health/check_curl.h"

#define ANSWER_MAX (4 * 1024 * 1024)

struct remote_probe {
    struct check_transfer transfer; /* First. */
    bool has_services;              /* The first answer is there. */
    bool exists;                    /* What the alias names. */
};

/* Ask for "/v1/<what>/<node>". None of the options fails but for lack of
 * memory, which ends the transfer. */
static enum mr_err set_url(struct check_transfer *t, const char *what)
{
    const struct check_run *run = t->probe.run;
    char *node = curl_easy_escape(t->easy, check_alias_node(run), 0);
    struct mr_buf url = MR_BUF_INIT;
    enum mr_err err = MR_E_NOMEM;

    if (node != NULL) {
        mr_buf_printf(&url, "%s/v1/%s/%s", run->runner->cluster_url, what,
                      node);
    }
    if (node != NULL && !mr_buf_failed(&url) &&
        curl_easy_setopt(t->easy, CURLOPT_URL, mr_buf_cstr(&url)) == CURLE_OK) {
        err = MR_OK;
    }
    curl_free(node);
    mr_buf_deinit(&url);
    return err;
}

/* Member @key of @object as text, "" without it. */
static char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return (char *)(text == NULL ? "" : text); /* Only read. */
}

/* Judge by the node's checks as the API shows them. */
static enum mr_err judge(const struct remote_probe *p, const json_t *list,
                         enum check_status *out_status, struct mr_buf *out)
{
    size_t n = json_array_size(list);
    Mr__Check *checks = mr_calloc(n + 1, sizeof *checks);
    struct check_list all = {NULL, 0, 0};
    bool is_whole = checks != NULL;

    for (size_t i = 0; i < n && is_whole; i++) {
        const json_t *item = json_array_get(list, i);

        mr__check__init(&checks[i]);
        checks[i].check_id = text_of(item, "CheckID");
        checks[i].name = text_of(item, "Name");
        checks[i].status = text_of(item, "Status");
        checks[i].output = text_of(item, "Output");
        checks[i].service_id = text_of(item, "ServiceID");
        is_whole = check_list_add(&all, &checks[i]);
    }
    if (is_whole) {
        *out_status =
            check_alias_tell(p->transfer.probe.run, p->exists, &all, out);
    }
    mr_free(all.items);
    mr_free(checks);
    return is_whole && !mr_buf_failed(out) ? MR_OK : MR_E_NOMEM;
}

static void end(struct remote_probe *p, const json_t *checks)
{
    struct mr_buf output = MR_BUF_INIT;
    enum check_status status = CHECK_CRITICAL;

    if (judge(p, checks, &status, &output) == MR_OK) {
        check_probe_end(&p->transfer.probe, status, mr_buf_cstr(&output));
    } else {
        check_probe_give_up(&p->transfer.probe);
    }
    mr_buf_deinit(&output);
}

/* Whether the node, or the service on it, is in the first answer, which is null
 * when there is no such node. */
static bool is_there(const struct check_run *run, const json_t *answer)
{
    const char *id = run->check->definition->alias_service;

    return json_is_object(answer) &&
           (id[0] == '\0' ||
            json_object_get(json_object_get(answer, "Services"), id) != NULL);
}

static void on_done(struct check_transfer *transfer, CURLcode code)
{
    struct remote_probe *p =
        mr_container_of(transfer, struct remote_probe, transfer);
    json_t *answer = NULL;
    long status = 0;

    (void)curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_OK && status == 200 && !mr_buf_failed(&transfer->body)) {
        answer = json_loadb((const char *)transfer->body.data,
                            transfer->body.len, JSON_DECODE_ANY, NULL);
    }
    if (answer == NULL) {
        check_probe_give_up(&transfer->probe);
    } else if (p->has_services) {
        end(p, answer);
    } else {
        p->has_services = true;
        p->exists = is_there(transfer->probe.run, answer);
        transfer->is_again = set_url(transfer, "health/node") == MR_OK;
        if (!transfer->is_again) {
            check_probe_give_up(&transfer->probe);
        }
    }
    json_decref(answer);
}

enum mr_err check_remote_start(struct check_run *run)
{
    struct check_transfer *t =
        check_transfer_new(run, sizeof(struct remote_probe), on_done);

    if (t == NULL) {
        return MR_E_NOMEM;
    }
    t->body_max = ANSWER_MAX;
    if (set_url(t, "catalog/node") != MR_OK) {
        check_transfer_free(t);
        return MR_E_NOMEM;
    }
    return check_transfer_start(t);
}
