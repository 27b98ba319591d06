/* SPDX-License-Identifier: Apache-2.0 */
/* Renewing registrations. */
#include "api/registry_renew.h"

#include <string.h>

#include "api/registry_body.h"
#include "api/renew.h"

/* Looks at the state; more than these need a registration that changes all the
 * time. */
#define ROUNDS_MAX 4

enum mr_err registry_keep_init(struct api_request *req,
                               struct registry_keep *keep, size_t n)
{
    memset(keep, 0, sizeof *keep);
    keep->n = n;
    keep->subjects = api_alloc(req, n * sizeof *keep->subjects);
    keep->asked = api_alloc(req, n * sizeof *keep->asked);
    if (keep->subjects == NULL || keep->asked == NULL) {
        return MR_E_NOMEM;
    }
    memset(keep->subjects, 0, n * sizeof *keep->subjects);
    return MR_OK;
}

/* ------------------------------------------------------------- looking */

static bool is_same(const struct registry_subject *s,
                    const struct mr_kv_lease_ref *ref)
{
    return ref->exists && ref->digest == s->digest &&
           (s->incarnation == 0 || s->incarnation == ref->incarnation);
}

/* What @ref, just looked up, makes of @s; true: its lease is to be renewed. */
static bool judge(struct registry_keep *keep, struct registry_subject *s,
                  const struct mr_kv_lease_ref *ref)
{
    uint64_t tried = s->lease_id;

    s->fate = REGISTRY_UNKNOWN;
    if (ref->exists && s->incarnation != 0 &&
        ref->incarnation > s->incarnation) {
        s->fate = REGISTRY_FENCED;
        return false;
    }
    if (!is_same(s, ref)) {
        return false;
    }
    s->lease_id = ref->lease_id;
    if (ref->lease_id == 0 && keep->is_fresh) {
        s->fate = REGISTRY_RENEWED; /* It stays until it is removed. */
        keep->n_renewed++;
    }
    return ref->lease_id != 0 && ref->lease_id != tried;
}

/* Look all open subjects up; *@out_n are to be renewed, listed in keep->asked. */
static enum mr_err look(struct api_request *req, struct registry_keep *keep,
                        size_t *out_n)
{
    char node[REGISTRY_NODE_NAME_MAX + 1];
    struct mr_kv_lease_ref ref;
    struct mr_kv_view *view;
    enum mr_err err = mr_kv_view_begin(req->options->kv, &view);
    size_t n = 0;

    if (err != MR_OK) {
        return err;
    }
    keep->revision = mr_kv_view_revision(view);
    for (size_t i = 0; i < keep->n && err == MR_OK; i++) {
        struct registry_subject *s = &keep->subjects[i];

        if (s->fate == REGISTRY_RENEWED) {
            continue;
        }
        registry_node_name(s->name, node);
        err = mr_kv_lease_find(view, MR_KV_SUBJECT_SERVICE, node, s->id, &ref);
        if (err == MR_OK && judge(keep, s, &ref)) {
            keep->asked[n++] = i;
        }
    }
    mr_kv_view_end(view);
    *out_n = n;
    return err;
}

/* ------------------------------------------------------------- rounds */

static void go_on(struct api_request *req, struct registry_keep *keep);

static void after_refresh(struct api_request *req, enum mr_err err,
                          const char *text)
{
    struct registry_keep *keep = req->state;

    (void)text; /* There is none. */
    if (err != MR_OK) {
        keep->done(req, err);
        return;
    }
    keep->is_fresh = true;
    go_on(req, keep);
}

/* Those that are not renewed need a view that is surely new enough. */
static void look_again(struct api_request *req, struct registry_keep *keep)
{
    if (keep->n_renewed == keep->n || keep->n_rounds == ROUNDS_MAX) {
        keep->done(req, MR_OK);
    } else {
        api_refresh(req, after_refresh);
    }
}

static void after_renewal(struct api_request *req, enum mr_err err,
                          const char *text)
{
    struct registry_keep *keep = req->state;
    const struct mr_lease_renewal *renewal = &keep->renewal->renewal;

    (void)text; /* There is none. */
    if (err != MR_OK) {
        keep->done(req, err);
        return;
    }
    for (size_t i = 0; i < renewal->n_items; i++) {
        if (renewal->items[i].answer == MR_LEASE_RENEWED) {
            keep->subjects[keep->asked[i]].fate = REGISTRY_RENEWED;
            keep->n_renewed++;
        }
    }
    look_again(req, keep);
}

static void renew(struct api_request *req, struct registry_keep *keep, size_t n)
{
    keep->renewal = api_renewal_new(req, n);
    if (keep->renewal == NULL) {
        keep->done(req, MR_E_NOMEM);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        keep->renewal->renewal.items[i].id =
            keep->subjects[keep->asked[i]].lease_id;
    }
    api_renew(keep->renewal, after_renewal);
}

static void go_on(struct api_request *req, struct registry_keep *keep)
{
    size_t n;
    enum mr_err err = look(req, keep, &n);

    keep->n_rounds++;
    if (err != MR_OK) {
        keep->done(req, err);
    } else if (n > 0) {
        renew(req, keep, n);
    } else if (keep->is_fresh) {
        keep->done(req, MR_OK);
    } else {
        look_again(req, keep);
    }
}

void registry_keep_alive(struct api_request *req)
{
    struct registry_keep *keep = req->state;

    keep->is_fresh = api_is_fresh(req);
    keep->n_rounds = 0;
    for (size_t i = 0; i < keep->n; i++) {
        if (keep->subjects[i].fate != REGISTRY_RENEWED) {
            keep->subjects[i].lease_id = 0; /* None was tried. */
        }
    }
    go_on(req, keep);
}
