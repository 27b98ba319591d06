/* SPDX-License-Identifier: Apache-2.0 */
//go:build linux && !microreg_purego

#include "wire_c.h"

/* Exported by wire_c.go. */
extern void mrgoLog(uintptr_t handle, const char *text);

static void log_to_go(void *arg, int level, const char *text)
{
    (void)level;
    mrgoLog((uintptr_t)arg, text);
}

struct microreg_options mrgo_options(void)
{
    struct microreg_options options = MICROREG_OPTIONS_INIT;

    return options;
}

void mrgo_log_to(struct microreg_options *options, uintptr_t handle)
{
    options->log = log_to_go;
    options->log_arg = (void *)handle;
}
