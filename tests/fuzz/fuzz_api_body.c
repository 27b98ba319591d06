/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of registrations. The first byte picks the endpoint; what decodes
 * must encode into a command and decode from it again. */
#include <stdint.h>
#include <string.h>

#include "api/catalog_body.h"
#include "api/define.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Pack @cmd and unpack it again. */
static void round_trip(Mr__Command *cmd)
{
    struct mr_buf packed = MR_BUF_INIT;
    Mr__Command *again;

    mr_kv_command_encode(cmd, &packed);
    mr_assert(!mr_buf_failed(&packed));
    again = mr__command__unpack(NULL, packed.len, packed.data);
    mr_assert(again != NULL);
    mr_assert(again->op_case == cmd->op_case);
    mr__command__free_unpacked(again, NULL);
    mr_buf_deinit(&packed);
}

static void agent_service(struct decode *d, struct mr_slice body)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Register reg = MR__REGISTER__INIT;
    struct define_service def;
    Mr__Service *services[] = {&def.service};

    if (define_service(d, body, &def) != MR_OK) {
        mr_assert(d->error[0] != '\0');
        return;
    }
    reg.services = services;
    reg.n_services = 1;
    reg.checks = def.checks;
    reg.n_checks = def.n_checks;
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = &reg;
    round_trip(&cmd);
}

static void agent_check(struct decode *d, struct mr_slice body)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Register reg = MR__REGISTER__INIT;
    Mr__Check check;
    Mr__Check *checks[] = {&check};

    if (define_check(d, body, &check) != MR_OK) {
        mr_assert(d->error[0] != '\0');
        return;
    }
    reg.checks = checks;
    reg.n_checks = 1;
    cmd.op_case = MR__COMMAND__OP_REGISTER;
    cmd.register_ = &reg;
    round_trip(&cmd);
}

static void agent_update(struct decode *d, struct mr_slice body)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__CheckUpdate update;

    if (define_update(d, body, &update) == MR_OK) {
        cmd.op_case = MR__COMMAND__OP_CHECK_UPDATE;
        cmd.check_update = &update;
        round_trip(&cmd);
    }
}

static void catalog_put(struct decode *d, struct mr_slice body)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Register reg;
    unsigned status;

    if (catalog_register(d, body, "dc1", &reg, &status) == MR_OK) {
        cmd.op_case = MR__COMMAND__OP_REGISTER;
        cmd.register_ = &reg;
        round_trip(&cmd);
    }
}

static void catalog_remove(struct decode *d, struct mr_slice body)
{
    Mr__Command cmd = MR__COMMAND__INIT;
    Mr__Deregister dereg;
    unsigned status;

    if (catalog_deregister(d, body, "dc1", &dereg, &status) == MR_OK) {
        cmd.op_case = MR__COMMAND__OP_DEREGISTER;
        cmd.deregister = &dereg;
        round_trip(&cmd);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const endpoints[])(struct decode * d,
                                     struct mr_slice body) = {
        agent_service, agent_check, agent_update, catalog_put, catalog_remove,
    };
    struct decode d;

    if (size == 0) {
        return 0;
    }
    decode_init(&d);
    endpoints[data[0] % MR_ARRAY_LEN(endpoints)](&d,
                                                 mr_slice(data + 1, size - 1));
    decode_deinit(&d);
    return 0;
}
