/* SPDX-License-Identifier: Apache-2.0 */
/* A store in a folder of its own, and commands in one line each. */
#ifndef MR_TEST_KV_FIXTURE_H
#define MR_TEST_KV_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "kv/mr_kv.h"
#include "kv/mr_kv_watch.h"

#define FIXTURE __attribute__((unused)) static

struct fixture {
    char dir[64];
    struct mr_kv *kv;
    uint64_t index; /* The last raft index used. */
    struct mr_kv_hooks hooks;
    bool is_durable;
    size_t history_bytes;
};

FIXTURE void fx_open_as(struct fixture *f, const char *boot_id)
{
    struct mr_kv_options o = {.dir = f->dir,
                              .boot_id = boot_id,
                              .hooks = f->hooks,
                              .is_durable = f->is_durable,
                              .history_bytes = f->history_bytes,
                              .map_size = (uint64_t)1 << 30};
    struct mr_detail detail = {""};

    if (mr_kv_open(&o, &f->kv, &detail) != MR_OK) {
        fail_msg("open: %s", detail.text);
    }
    f->index = mr_kv_applied(f->kv, NULL);
}

FIXTURE void fx_init(struct fixture *f)
{
    const char *tmp = getenv("TMPDIR");

    (void)snprintf(f->dir, sizeof f->dir, "%s/mrkvXXXXXX",
                   tmp == NULL || strlen(tmp) > 40 ? "/tmp" : tmp);
    assert_non_null(mkdtemp(f->dir));
    fx_open_as(f, "boot");
}

FIXTURE void fx_remove_dir(const char *dir)
{
    static const char *const names[] = {"state.mdb",        "state.mdb-lock",
                                        "restore.mdb",      "open",
                                        "restore.mdb-lock", "base.mdb"};
    char path[128];
    size_t i;

    for (i = 0; i < MR_ARRAY_LEN(names); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(dir);
}

FIXTURE void fx_deinit(struct fixture *f)
{
    mr_kv_close(f->kv);
    fx_remove_dir(f->dir);
}

FIXTURE int fx_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    fx_init(f);
    *state = f;
    return 0;
}

FIXTURE int fx_teardown(void **state)
{
    fx_deinit(*state);
    free(*state);
    return 0;
}

/* Apply @cmd within the open batch. */
FIXTURE struct mr_kv_result fx_step(struct fixture *f, Mr__Command *cmd)
{
    struct mr_buf b = MR_BUF_INIT;
    struct mr_kv_result r;

    mr_kv_command_encode(cmd, &b);
    assert_false(mr_buf_failed(&b));
    assert_int_equal(mr_kv_apply(f->kv, mr_buf_slice(&b), &r), MR_OK);
    mr_buf_deinit(&b);
    return r;
}

/* Apply @cmd in a batch of its own. */
FIXTURE struct mr_kv_result fx_apply(struct fixture *f, Mr__Command *cmd)
{
    struct mr_kv_result r;

    assert_int_equal(mr_kv_batch_begin(f->kv), MR_OK);
    r = fx_step(f, cmd);
    assert_int_equal(mr_kv_batch_commit(f->kv, ++f->index, 1), MR_OK);
    return r;
}

FIXTURE ProtobufCBinaryData fx_bytes(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
}

FIXTURE struct mr_kv_result fx_put(struct fixture *f, const char *key,
                                   const char *value)
{
    Mr__KeyPut put = MR__KEY_PUT__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    put.key = fx_bytes(key);
    put.value = fx_bytes(value);
    cmd.op_case = MR__COMMAND__OP_KEY_PUT;
    cmd.key_put = &put;
    return fx_apply(f, &cmd);
}

FIXTURE struct mr_kv_result fx_put_cas(struct fixture *f, const char *key,
                                       const char *value, uint64_t cas)
{
    Mr__KeyPut put = MR__KEY_PUT__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    put.key = fx_bytes(key);
    put.value = fx_bytes(value);
    put.has_cas = 1;
    put.cas = cas;
    cmd.op_case = MR__COMMAND__OP_KEY_PUT;
    cmd.key_put = &put;
    return fx_apply(f, &cmd);
}

FIXTURE struct mr_kv_result fx_delete(struct fixture *f, const char *key,
                                      bool recurse)
{
    Mr__KeyDelete del = MR__KEY_DELETE__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    del.key = fx_bytes(key);
    del.recurse = recurse;
    cmd.op_case = MR__COMMAND__OP_KEY_DELETE;
    cmd.key_delete = &del;
    return fx_apply(f, &cmd);
}

FIXTURE struct mr_kv_result fx_delete_cas(struct fixture *f, const char *key,
                                          uint64_t cas)
{
    Mr__KeyDelete del = MR__KEY_DELETE__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    del.key = fx_bytes(key);
    del.has_cas = 1;
    del.cas = cas;
    cmd.op_case = MR__COMMAND__OP_KEY_DELETE;
    cmd.key_delete = &del;
    return fx_apply(f, &cmd);
}

/* ------------------------------------------------------------ catalog */

#define S(text) ((char *)(uintptr_t)(text))

/* A registration; what is NULL is left out. */
struct fx_reg {
    const char *node;
    const char *node_id;
    const char *address;
    const char *service; /* Name. */
    const char *id;      /* Default: the name. */
    const char *tag;
    const char *service_address;
    const char *check;
    const char *status;
    const char *output;
    const char *check_service; /* Service ID of the check. */
    int64_t port;
    bool skip_node;
    bool replace_checks;
    bool is_agent;
    bool is_ttl;
};

FIXTURE struct mr_kv_result fx_register(struct fixture *f, struct fx_reg r)
{
    Mr__Node node = MR__NODE__INIT;
    Mr__Service service = MR__SERVICE__INIT;
    Mr__Service *services[] = {&service};
    Mr__Check check = MR__CHECK__INIT;
    Mr__Check *checks[] = {&check};
    Mr__Register reg = MR__REGISTER__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;
    char *tags[] = {S(r.tag)};

    node.name = S(r.node);
    node.id = S(r.node_id == NULL ? "" : r.node_id);
    node.address = S(r.address == NULL ? "10.0.0.1" : r.address);
    reg.node = &node;
    reg.skip_node_update = r.skip_node;
    reg.replace_checks = r.replace_checks;
    if (r.service != NULL) {
        service.name = S(r.service);
        service.id = S(r.id == NULL ? r.service : r.id);
        service.port = r.port;
        service.address = S(r.service_address == NULL ? "" : r.service_address);
        service.origin = r.is_agent ? MR__ORIGIN__AGENT : MR__ORIGIN__CATALOG;
        service.tags = tags;
        service.n_tags = r.tag == NULL ? 0 : 1;
        reg.services = services;
        reg.n_services = 1;
    }
    if (r.check != NULL) {
        check.check_id = S(r.check);
        check.status = S(r.status == NULL ? "" : r.status);
        check.output = S(r.output == NULL ? "" : r.output);
        check.service_id = S(r.check_service == NULL ? "" : r.check_service);
        check.type = S(r.is_ttl ? "ttl" : "");
        check.origin = r.is_agent ? MR__ORIGIN__AGENT : MR__ORIGIN__CATALOG;
        reg.checks = checks;
        reg.n_checks = 1;
    }
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = &reg;
    return fx_apply(f, &cmd);
}

FIXTURE struct mr_kv_result fx_deregister(struct fixture *f, const char *node,
                                          const char *service,
                                          const char *check)
{
    Mr__Deregister dereg = MR__DEREGISTER__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    dereg.node = S(node);
    dereg.service_id = S(service == NULL ? "" : service);
    dereg.check_id = S(check == NULL ? "" : check);
    cmd.op_case = MR__COMMAND__OP_DEREGISTER;
    cmd.deregister = &dereg;
    return fx_apply(f, &cmd);
}

FIXTURE struct mr_kv_result fx_update(struct fixture *f, const char *node,
                                      const char *check, const char *status,
                                      bool ttl_only)
{
    Mr__CheckUpdate update = MR__CHECK_UPDATE__INIT;
    Mr__Command cmd = MR__COMMAND__INIT;

    update.node = S(node);
    update.check_id = S(check);
    update.status = S(status);
    update.ttl_only = ttl_only;
    cmd.op_case = MR__COMMAND__OP_CHECK_UPDATE;
    cmd.check_update = &update;
    return fx_apply(f, &cmd);
}

/* ------------------------------------------------------------ reading */

FIXTURE struct mr_kv_view *fx_view(struct fixture *f)
{
    struct mr_kv_view *view = NULL;

    assert_int_equal(mr_kv_view_begin(f->kv, &view), MR_OK);
    return view;
}

/* What a walk handed out, as one text. */
struct fx_text {
    char text[4096];
    size_t len;
};

FIXTURE MR_PRINTF(2, 3) void fx_add(struct fx_text *t, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(t->text + t->len, sizeof t->text - t->len, fmt, ap);
    va_end(ap);
    assert_true(n >= 0 && (size_t)n < sizeof t->text - t->len);
    t->len += (size_t)n;
}

FIXTURE bool fx_add_instance(void *arg, const struct mr_kv_instance *in)
{
    size_t i;

    fx_add(arg, "%s/%s:%d[", in->node->name, in->service->id,
           (int)in->service->port);
    for (i = 0; i < in->n_checks; i++) {
        fx_add(arg, "%s%s=%s", i == 0 ? "" : ",", in->checks[i]->check_id,
               in->checks[i]->status);
    }
    fx_add(arg, "] ");
    return true;
}

/* The instances of @name as "node/id:port[check=status,...] ...". */
FIXTURE const char *fx_instances(struct fixture *f, const char *name,
                                 struct fx_text *t, uint64_t *out_index)
{
    struct mr_kv_view *view = fx_view(f);

    t->len = 0;
    t->text[0] = '\0';
    assert_int_equal(
        mr_kv_service_instances(view, name, fx_add_instance, t, out_index),
        MR_OK);
    mr_kv_view_end(view);
    return t->text;
}

FIXTURE bool fx_add_key(void *arg, const Mr__Key *key)
{
    fx_add(arg, "%.*s ", (int)key->key.len, (const char *)key->key.data);
    return true;
}

/* The keys under @prefix as "a b c "; *@out_index is the index. */
FIXTURE const char *fx_keys(struct fixture *f, const char *prefix,
                            struct fx_text *t, uint64_t *out_index)
{
    struct mr_kv_view *view = fx_view(f);

    t->len = 0;
    t->text[0] = '\0';
    assert_int_equal(
        mr_kv_key_list(view, mr_slice_str(prefix), fx_add_key, t, out_index),
        MR_OK);
    mr_kv_view_end(view);
    return t->text;
}

FIXTURE void fx_check_digest(struct fixture *f)
{
    struct mr_hash128 kept = mr_kv_digest(f->kv, NULL);
    struct mr_hash128 counted;

    assert_int_equal(mr_kv_digest_verify(f->kv, &counted), MR_OK);
    assert_int_equal(kept.high, counted.high);
    assert_int_equal(kept.low, counted.low);
}

#endif /* MR_TEST_KV_FIXTURE_H */
