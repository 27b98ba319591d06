/* SPDX-License-Identifier: Apache-2.0 */
/* Entries of what is registered, and the requests about them. */
#include <string.h>

#include "call.h"
#include "keep.h"
#include "stream.h"

#define RENEWALS_A_TTL 3

struct mrg_kept *mrg_kept_new(const char *name, const char *id)
{
    size_t name_len = strlen(name);
    size_t id_len = strlen(id);
    struct mrg_kept *kept = mrg_alloc(sizeof *kept);

    if (kept == NULL) {
        return NULL;
    }
    kept->key_len = name_len + 1 + id_len;
    kept->key = mrg_alloc(kept->key_len + 1);
    if (kept->key == NULL) {
        mrg_free(kept);
        return NULL;
    }
    memcpy(kept->key, name, name_len);
    memcpy(kept->key + name_len + 1, id, id_len);
    kept->name = kept->key;
    kept->id = kept->key + name_len + 1;
    kept->is_new = true;
    return kept;
}

void mrg_kept_free(struct mrg_kept *kept)
{
    if (kept != NULL) {
        mrg_free(kept->key);
        mrg_free(kept->body);
        mrg_free(kept);
    }
}

uint64_t mrg_kept_due(const struct mrg_kept *kept, uint64_t now_ms)
{
    return kept->ttl_ms > 0 ? now_ms + (uint64_t)kept->ttl_ms / RENEWALS_A_TTL
                            : UINT64_MAX;
}

static void take_digests(struct mrg_kept *const *entries, size_t n,
                         const struct mrg_json *answer)
{
    const struct mrg_json *nodes = mrg_json_get(answer, "nodes");

    for (size_t i = 0; i < n; i++) {
        entries[i]->digest[0] = '\0';
    }
    if (nodes == NULL || nodes->type != MRG_JSON_ARRAY) {
        return;
    }
    for (const struct mrg_json *v = nodes->child; v != NULL; v = v->next) {
        const char *id = mrg_json_str(mrg_json_get(v, "id"));
        const char *digest = mrg_json_str(mrg_json_get(v, "digest"));

        for (size_t i = 0; i < n; i++) {
            if (strcmp(entries[i]->id, id) == 0 &&
                strlen(digest) < MRG_DIGEST_MAX) {
                memcpy(entries[i]->digest, digest, strlen(digest) + 1);
            }
        }
    }
}

/* The state's index, or the words of a 409. */
static bool is_registered(int status, const struct mrg_json *json)
{
    return status == 409 ||
           (status == 200 && mrg_json_u64(mrg_json_get(json, "index")) > 0);
}

int mrg_kept_send(struct microreg *client, struct mrg_call *call,
                  const char *name, struct microreg_error *out_error)
{
    int err;

    call->is_answer = is_registered;
    call->cancel = &client->keeper->is_stopping;
    err = mrg_call_run(client, call, out_error);
    if (err == MICROREG_OK && call->status == 409) {
        err = mrg_fail(out_error, MICROREG_E_FENCED, "%s",
                       call->answer.len > 0 ? call->answer.data : "fenced");
    }
    if (err == MICROREG_OK) {
        mrg_streams_wrote(client, name,
                          mrg_json_u64(mrg_json_get(call->json, "index")));
    }
    return err;
}

int mrg_kept_post(const struct mrg_kept_job *job, const char *json,
                  int64_t ttl_ms)
{
    struct microreg *client = job->client;
    struct mrg_text path = MRG_TEXT_INIT;
    struct mrg_call call = {.method = "POST",
                            .body = json,
                            .body_len = strlen(json),
                            .timeout_ms = mrg_ms_until(job->deadline_ms)};
    int err;

    mrg_text_printf(&path, "/registry?ttl=%lldms", (long long)ttl_ms);
    if (client->options.incarnation != 0) {
        mrg_text_printf(&path, "&incarnation=%llu",
                        (unsigned long long)client->options.incarnation);
    }
    if (path.failed) {
        return mrg_nomem(job->error);
    }
    call.path = path.data;
    err = mrg_kept_send(client, &call, job->entries[0]->name, job->error);
    if (err == MICROREG_OK) {
        take_digests(job->entries, job->n, call.json);
    }
    mrg_call_deinit(&call);
    mrg_text_deinit(&path);
    return err;
}

/* ------------------------------------------------------------- renewing */

static void write_renewals(const struct mrg_kept_job *job, struct mrg_text *out)
{
    uint64_t incarnation = job->client->options.incarnation;

    mrg_text_str(out, "{\"nodes\":[");
    for (size_t i = 0; i < job->n; i++) {
        const struct mrg_kept *kept = job->entries[i];

        mrg_text_str(out, i == 0 ? "{\"name\":" : ",{\"name\":");
        mrg_text_json(out, kept->name, strlen(kept->name));
        mrg_text_str(out, ",\"id\":");
        mrg_text_json(out, kept->id, strlen(kept->id));
        mrg_text_printf(out, ",\"digest\":\"%s\"", kept->digest);
        if (incarnation != 0) {
            mrg_text_printf(out, ",\"incarnation\":%llu",
                            (unsigned long long)incarnation);
        }
        mrg_text_byte(out, '}');
    }
    mrg_text_str(out, "]}");
}

/* Mark those that @list names. Returns how many. */
static size_t mark(struct mrg_kept *const *entries, size_t n,
                   const struct mrg_json *list, bool *out_marks)
{
    size_t marked = 0;

    memset(out_marks, 0, n * sizeof *out_marks);
    if (list == NULL || list->type != MRG_JSON_ARRAY) {
        return 0;
    }
    for (const struct mrg_json *v = list->child; v != NULL; v = v->next) {
        const char *name = mrg_json_str(mrg_json_get(v, "name"));
        const char *id = mrg_json_str(mrg_json_get(v, "id"));

        for (size_t i = 0; i < n; i++) {
            if (!out_marks[i] && strcmp(entries[i]->id, id) == 0 &&
                strcmp(entries[i]->name, name) == 0) {
                out_marks[i] = true;
                marked++;
                break;
            }
        }
    }
    return marked;
}

/* Those that are known, and those that are not. */
static bool is_renewal(int status, const struct mrg_json *json)
{
    const struct mrg_json *unknown = mrg_json_get(json, "unknown");

    return unknown != NULL && unknown->type == MRG_JSON_ARRAY &&
           (status == 200 || status == 409 || unknown->n > 0);
}

int mrg_kept_renew(const struct mrg_kept_job *job, bool *out_unknown,
                   bool *out_fenced)
{
    struct mrg_text body = MRG_TEXT_INIT;
    struct mrg_call call = {.method = "PUT", .path = "/registry/renew"};
    int err;

    write_renewals(job, &body);
    if (body.failed) {
        mrg_text_deinit(&body);
        return mrg_nomem(job->error);
    }
    call.timeout_ms = mrg_ms_until(job->deadline_ms);
    call.body = body.data;
    call.body_len = body.len;
    call.is_answer = is_renewal;
    call.cancel = &job->client->keeper->is_stopping;
    err = mrg_call_run(job->client, &call, job->error);
    if (err == MICROREG_OK) {
        (void)mark(job->entries, job->n, mrg_json_get(call.json, "unknown"),
                   out_unknown);
        if (mark(job->entries, job->n, mrg_json_get(call.json, "fenced"),
                 out_fenced) > 0) {
            err = mrg_fail(job->error, MICROREG_E_FENCED,
                           "a newer incarnation has registered this");
        }
    }
    mrg_call_deinit(&call);
    mrg_text_deinit(&body);
    return err;
}
