/* SPDX-License-Identifier: Apache-2.0 */
/* What the Go side of the C transport cannot say in Go. */
#ifndef MICROREG_WIRE_C_H
#define MICROREG_WIRE_C_H

#include <stdint.h>

#ifdef MICROREG_SYSTEM
#include <microreg.h>
#else
#include "../microreg.h"
#endif

/* Options with their defaults. */
struct microreg_options mrgo_options(void);

/* Tell the log to the Go function behind @handle. */
void mrgo_log_to(struct microreg_options *options, uintptr_t handle);

#endif /* MICROREG_WIRE_C_H */
