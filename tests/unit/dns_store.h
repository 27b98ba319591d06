/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store for the DNS tests, filled by the commands that the servers would
 * apply. Beside dns_message.h, for tests that link kv.
 */
#ifndef MR_TESTS_DNS_STORE_H
#define MR_TESTS_DNS_STORE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "kv/mr_kv.h"

struct store {
    struct mr_kv *kv;
    uint64_t index; /* Of the last entry applied. */
    char dir[64];
};

/* One registration; NULL or 0 leaves a member out. */
struct reg {
    const char *node;
    const char *address;
    const char *service; /* Its ID as well, unless id says else. */
    const char *id;
    const char *service_address;
    int64_t port;
    const char *tag;
    const char *status; /* Of a check of the service. */
    const char *node_status;
    const char *meta_key;
    const char *meta_value;
    int64_t weight_passing;
    int64_t weight_warning;
};

static inline bool store_open(struct store *s)
{
    struct mr_kv_options options = {.dir = s->dir, .boot_id = ""};

    s->kv = NULL;
    s->index = 0;
    strcpy(s->dir, "/tmp/dns-test-XXXXXX");
    return mkdtemp(s->dir) != NULL &&
           mr_kv_open(&options, &s->kv, NULL) == MR_OK;
}

static inline void store_close(struct store *s)
{
    char command[128];

    mr_kv_close(s->kv);
    snprintf(command, sizeof command, "rm -rf '%s'", s->dir);
    if (system(command) != 0) {
        fprintf(stderr, "cannot remove %s\n", s->dir);
    }
}

/* Apply one command as an entry of its own. */
static inline bool store_apply(struct store *s, Mr__Command *command)
{
    struct mr_buf buf = MR_BUF_INIT;
    struct mr_kv_result result;
    bool ok;

    mr_kv_command_encode(command, &buf);
    ok = !mr_buf_failed(&buf) && mr_kv_batch_begin(s->kv) == MR_OK &&
         mr_kv_apply(s->kv, mr_buf_slice(&buf), &result) == MR_OK &&
         mr_kv_batch_commit(s->kv, ++s->index, 1) == MR_OK &&
         result.verdict == MR_KV_DONE;
    mr_buf_deinit(&buf);
    return ok;
}

static inline char *store_text(const char *text)
{
    return (char *)(text != NULL ? text : "");
}

/* Register what @r says. */
static inline bool store_register(struct store *s, const struct reg *r)
{
    Mr__Command command = MR__COMMAND__INIT;
    Mr__Register reg = MR__REGISTER__INIT;
    Mr__Node node = MR__NODE__INIT;
    Mr__Service service = MR__SERVICE__INIT;
    Mr__Check checks[2] = {MR__CHECK__INIT, MR__CHECK__INIT};
    Mr__Check *check_list[2];
    Mr__Service *service_list = &service;
    Mr__Pair meta = MR__PAIR__INIT;
    Mr__Pair *meta_list = &meta;
    char *tag_list = store_text(r->tag);

    node.name = store_text(r->node);
    node.address = store_text(r->address);
    if (r->meta_key != NULL) {
        meta.key = store_text(r->meta_key);
        meta.value = store_text(r->meta_value);
        node.meta = &meta_list;
        node.n_meta = 1;
        node.has_meta = true;
    }
    reg.node = &node;
    if (r->service != NULL) {
        service.id = store_text(r->id != NULL ? r->id : r->service);
        service.name = store_text(r->service);
        service.address = store_text(r->service_address);
        service.port = r->port;
        service.weight_passing = r->weight_passing;
        service.weight_warning = r->weight_warning;
        service.tags = &tag_list;
        service.n_tags = r->tag != NULL;
        reg.services = &service_list;
        reg.n_services = 1;
    }
    reg.checks = check_list;
    if (r->status != NULL) {
        checks[0].check_id = (char *)"s";
        checks[0].service_id = service.id;
        checks[0].status = store_text(r->status);
        check_list[reg.n_checks++] = &checks[0];
    }
    if (r->node_status != NULL) {
        checks[1].check_id = (char *)"n";
        checks[1].status = store_text(r->node_status);
        check_list[reg.n_checks++] = &checks[1];
    }
    command.op_case = MR__COMMAND__OP_REGISTER;
    command.register_ = &reg;
    return store_apply(s, &command);
}

/* Remove the node with everything on it. */
static inline bool store_deregister(struct store *s, const char *node)
{
    Mr__Command command = MR__COMMAND__INIT;
    Mr__Deregister dereg = MR__DEREGISTER__INIT;

    dereg.node = store_text(node);
    command.op_case = MR__COMMAND__OP_DEREGISTER;
    command.deregister = &dereg;
    return store_apply(s, &command);
}

#endif /* MR_TESTS_DNS_STORE_H */
