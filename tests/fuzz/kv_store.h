/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzz targets of kv share: a fresh store, and looking at all of it. */
#ifndef MR_FUZZ_KV_STORE_H
#define MR_FUZZ_KV_STORE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "kv/mr_kv.h"

#define UNUSED __attribute__((unused)) static

struct fuzz_store {
    char dir[32];
    struct mr_kv *kv;
};

UNUSED void fuzz_open(struct fuzz_store *s)
{
    struct mr_kv_options o = {
        .dir = s->dir, .boot_id = "", .map_size = 256 << 20};
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

    (void)snprintf(s->dir, sizeof s->dir, "%s/mrfuzzXXXXXX", base);
    mr_assert(mkdtemp(s->dir) != NULL);
    mr_assert(mr_kv_open(&o, &s->kv, NULL) == MR_OK);
}

UNUSED void fuzz_close(struct fuzz_store *s)
{
    static const char *const names[] = {"state.mdb", "state.mdb-lock", "open",
                                        "restore.mdb", "restore.mdb-lock"};
    char path[64];
    size_t i;

    mr_kv_close(s->kv);
    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", s->dir, names[i]);
        (void)unlink(path);
    }
    mr_assert(rmdir(s->dir) == 0);
}

struct fuzz_look {
    struct mr_kv_view *view;
    unsigned long sum; /* Of everything seen, so that it is all touched. */
    bool is_failed;
};

UNUSED bool look_key(void *arg, const Mr__Key *key)
{
    struct fuzz_look *look = arg;
    size_t i;

    for (i = 0; i < key->value.len; i++) {
        look->sum += key->value.data[i];
    }
    look->sum += key->key.len + strlen(key->session);
    return true;
}

UNUSED bool look_check(void *arg, const Mr__Check *check)
{
    struct fuzz_look *look = arg;

    look->sum += strlen(check->node) + strlen(check->check_id) +
                 strlen(check->output) + strlen(check->service_name);
    return true;
}

UNUSED bool look_instance(void *arg, const struct mr_kv_instance *in)
{
    struct fuzz_look *look = arg;
    size_t i;

    look->sum += strlen(in->node->address) + strlen(in->service->id);
    for (i = 0; i < in->n_checks; i++) {
        (void)look_check(arg, in->checks[i]);
    }
    return true;
}

UNUSED bool look_service(void *arg, const Mr__Service *service)
{
    struct fuzz_look *look = arg;

    look->sum += strlen(service->node) + strlen(service->name);
    return true;
}

UNUSED void look_result(struct fuzz_look *look, enum mr_err err)
{
    look->is_failed |= err != MR_OK;
}

UNUSED bool look_node(void *arg, const Mr__Node *node)
{
    struct fuzz_look *look = arg;
    uint64_t index;

    look_result(look, mr_kv_node_services(look->view, node->name, look_service,
                                          arg, &index));
    look_result(look, mr_kv_node_checks(look->view, node->name, look_check, arg,
                                        &index));
    look_result(look, mr_kv_address_lookup(look->view, node->address, NULL,
                                           look_service, arg));
    return true;
}

UNUSED bool look_name(void *arg, const struct mr_kv_service_name *name)
{
    struct fuzz_look *look = arg;
    uint64_t index;
    size_t i;

    for (i = 0; i < name->n_tags; i++) {
        look->sum += strlen(name->tags[i]);
    }
    look_result(look, mr_kv_service_instances(look->view, name->name,
                                              look_instance, arg, &index));
    look_result(look, mr_kv_service_checks(look->view, name->name, look_check,
                                           arg, &index));
    return true;
}

UNUSED bool look_session(void *arg, const Mr__Session *session)
{
    struct fuzz_look *look = arg;
    struct mr_kv_lease_ref ref;

    look_result(look, mr_kv_lease_find(look->view, MR_KV_SUBJECT_SESSION,
                                       session->node, session->id, &ref));
    look->sum += ref.lease_id + session->n_node_checks;
    return true;
}

UNUSED bool look_left(void *arg, const Mr__Left *left)
{
    struct fuzz_look *look = arg;

    look->sum += strlen(left->node->name);
    return true;
}

UNUSED bool look_lease(void *arg, const Mr__Lease *lease)
{
    struct fuzz_look *look = arg;
    struct mr_kv_lease_ref ref;

    look_result(look, mr_kv_lease_find(look->view, MR_KV_SUBJECT_CHECK,
                                       lease->node, lease->name, &ref));
    look_result(look, mr_kv_lease_find(look->view, MR_KV_SUBJECT_SERVICE,
                                       lease->node, lease->name, &ref));
    look_result(look, mr_kv_lease_find(look->view, MR_KV_SUBJECT_NODE,
                                       lease->node, "", &ref));
    look->sum += ref.lease_id + mr_kv_lease_place(lease);
    return true;
}

/* Read everything. Damaged rows are errors, never crashes; @is_sound: there
 * are none. */
UNUSED void fuzz_look_at_all(struct mr_kv *kv, bool is_sound)
{
    struct fuzz_look look = {NULL, 0, false};
    struct mr_slice none = {"", 0};
    struct mr_slice slash = {"/", 1};
    uint64_t index;

    mr_assert(mr_kv_view_begin(kv, &look.view) == MR_OK);
    look_result(&look,
                mr_kv_key_list(look.view, none, look_key, &look, &index));
    look_result(&look, mr_kv_key_names(look.view, none, slash, look_key, &look,
                                       &index));
    look_result(&look,
                mr_kv_state_checks(look.view, NULL, look_check, &look, &index));
    look_result(&look,
                mr_kv_service_names(look.view, look_name, &look, &index));
    look_result(&look, mr_kv_node_list(look.view, look_node, &look, &index));
    look_result(&look, mr_kv_session_list(look.view, NULL, look_session, &look,
                                          &index));
    look_result(&look, mr_kv_left_list(look.view, look_left, &look));
    look_result(&look, mr_kv_lease_list(look.view, look_lease, &look));
    mr_assert(!look.is_failed || !is_sound);
    mr_kv_view_end(look.view);
}

#endif /* MR_FUZZ_KV_STORE_H */
