/* SPDX-License-Identifier: Apache-2.0 */
/* Random commands on a few names, so that they often meet; from a seed. */
#ifndef MR_TEST_KV_RANDOM_H
#define MR_TEST_KV_RANDOM_H

#include "tests/unit/kv_fixture.h"

static const char *const node_names[] = {"alpha", "Beta", "gamma.x", "BETA"};
static const char *const node_ids[] = {"", "", "", "", "id-1", "id-2"};
static const char *const ids[] = {"i1", "i2", "ID-3", "i"};
static const char *const service_names[] = {"web", "Db", "a.b.c", "WEB"};
#define N_NAMES 3 /* The last is one of them, spelled otherwise. */
static const char *const check_ids[] = {"c1", "c2", "serfHealth", "C"};
static const char *const statuses[] = {"passing", "warning", "critical"};
static const char *const tags[] = {"t1", "t2", "t3"};
static const char *const keys[] = {"a", "a/b", "a/c", "b/1", "b/2", "c"};

static uint64_t random_state;

FIXTURE void seed_random(void)
{
    const char *seed = getenv("KV_SEED");

    random_state = seed == NULL ? 20261121 : strtoull(seed, NULL, 10);
}

FIXTURE unsigned pick(unsigned n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % n;
}

#define ANY(list) ((char *)(uintptr_t)(list)[pick(MR_ARRAY_LEN(list))])

FIXTURE void random_key(Mr__Command *cmd)
{
    static Mr__KeyPut put;
    static Mr__KeyDelete del;
    char text[8];

    if (pick(3) > 0) {
        (void)snprintf(text, sizeof text, "%u", pick(3));
        put = (Mr__KeyPut)MR__KEY_PUT__INIT;
        put.key = fx_bytes(ANY(keys));
        put.value = fx_bytes(pick(2) == 0 ? "x" : "yy");
        put.flags = pick(2);
        cmd->op_case = MR__COMMAND__OP_KEY_PUT;
        cmd->key_put = &put;
        return;
    }
    del = (Mr__KeyDelete)MR__KEY_DELETE__INIT;
    del.recurse = pick(2) == 0;
    del.key = fx_bytes(del.recurse ? "a/" : ANY(keys));
    cmd->op_case = MR__COMMAND__OP_KEY_DELETE;
    cmd->key_delete = &del;
}

FIXTURE void random_service(Mr__Service *service, char **list)
{
    mr__service__init(service);
    service->id = ANY(ids);
    service->name = ANY(service_names);
    service->port = (int64_t)pick(2);
    service->tags = list;
    service->n_tags = pick(3);
    for (size_t i = 0; i < service->n_tags; i++) {
        list[i] = (char *)(uintptr_t)tags[(i + pick(2)) % 3];
    }
    service->ttl_ms = pick(3) == 0 ? 5000 : 0;
    service->incarnation = 0;
    service->digest = pick(2);
    service->origin = (Mr__Origin)pick(3);
}

FIXTURE void random_register(Mr__Command *cmd)
{
    static Mr__Register reg;
    static Mr__Node node;
    static Mr__Service services[2];
    static Mr__Service *service_list[] = {&services[0], &services[1]};
    static char *tag_lists[2][3];
    static Mr__Check check;
    static Mr__CheckDefinition definition;
    static Mr__Check *checks[] = {&check};

    reg = (Mr__Register)MR__REGISTER__INIT;
    node = (Mr__Node)MR__NODE__INIT;
    node.name = ANY(node_names);
    node.address = (char *)(uintptr_t)(pick(8) == 0 ? "10.0.0.2" : "10.0.0.1");
    node.id = ANY(node_ids);
    node.datacenter = (char *)(uintptr_t) "dc1";
    node.ttl_ms = pick(6) == 0 ? 4000 : 0;
    reg.node = &node;
    reg.services = service_list;
    reg.n_services = pick(3);
    for (size_t i = 0; i < reg.n_services; i++) {
        random_service(&services[i], tag_lists[i]);
    }
    if (pick(2) == 0) {
        check = (Mr__Check)MR__CHECK__INIT;
        definition = (Mr__CheckDefinition)MR__CHECK_DEFINITION__INIT;
        definition.ttl_ns = pick(2) == 0 ? 0 : INT64_C(5000000000);
        definition.http = (char *)(uintptr_t)(pick(2) == 0 ? "" : "http://x");
        check.definition = &definition;
        check.origin = (Mr__Origin)pick(2);
        check.check_id = ANY(check_ids);
        check.name = check.check_id;
        check.status = ANY(statuses);
        check.service_id =
            reg.n_services > 0 && pick(3) > 0 ? services[0].id : (char *)"";
        reg.checks = checks;
        reg.n_checks = 1;
    }
    cmd->op_case = MR__COMMAND__OP_REGISTER;
    cmd->register_ = &reg;
}

FIXTURE void random_deregister(Mr__Command *cmd)
{
    static Mr__Deregister de;
    unsigned what = pick(8);

    de = (Mr__Deregister)MR__DEREGISTER__INIT;
    de.node = ANY(node_names);
    if (what < 4) {
        de.service_id = ANY(ids);
    } else if (what < 7) {
        de.check_id = ANY(check_ids);
    }
    cmd->op_case = MR__COMMAND__OP_DEREGISTER;
    cmd->deregister = &de;
}

FIXTURE void random_update(Mr__Command *cmd)
{
    static Mr__CheckUpdate update;

    update = (Mr__CheckUpdate)MR__CHECK_UPDATE__INIT;
    update.node = ANY(node_names);
    update.check_id = ANY(check_ids);
    update.status = ANY(statuses);
    cmd->op_case = MR__COMMAND__OP_CHECK_UPDATE;
    cmd->check_update = &update;
}

/* The end of up to four leases at once. */
FIXTURE void random_end(Mr__Command *cmd)
{
    static Mr__LeaseEnd end;
    static Mr__LeaseEnd__Ended ended[4];
    static Mr__LeaseEnd__Ended *list[4];

    end = (Mr__LeaseEnd)MR__LEASE_END__INIT;
    end.leader = (char *)(uintptr_t) "n1";
    end.leases = list;
    for (; end.n_leases < 4; end.n_leases++) {
        Mr__LeaseEnd__Ended *e = &ended[end.n_leases];

        *e = (Mr__LeaseEnd__Ended)MR__LEASE_END__ENDED__INIT;
        e->id = 1 + pick(2000);
        list[end.n_leases] = e;
    }
    cmd->op_case = MR__COMMAND__OP_LEASE_END;
    cmd->lease_end = &end;
}

FIXTURE void random_command(Mr__Command *cmd)
{
    static void (*const makers[])(Mr__Command *) = {
        random_key,        random_register, random_register, random_register,
        random_deregister, random_update,   random_update,   random_end};

    *cmd = (Mr__Command)MR__COMMAND__INIT;
    makers[pick(MR_ARRAY_LEN(makers))](cmd);
}

#endif /* MR_TEST_KV_RANDOM_H */
