/* SPDX-License-Identifier: Apache-2.0 */
/* Services: between go-micro's JSON and the structs of microreg.h. */
#ifndef MICROREG_SERVICE_H
#define MICROREG_SERVICE_H

#include "err.h"
#include "json.h"

/* Write @service as JSON. MICROREG_E_INVALID: a text is not UTF-8 or missing.
 * A lack of memory is noted in @out. */
int mrg_service_write(const struct microreg_service *service,
                      struct mrg_text *out, struct microreg_error *out_error);

/* What the JSON of one service says, in @arena, which must be that of @json or
 * live no longer. MICROREG_E_PROTOCOL: it is no service. */
int mrg_service_read(struct mrg_arena *arena, const struct mrg_json *json,
                     struct microreg_service *out_service);

/* What the JSON of an array of services says. On success *@arena, where @array
 * lives, has moved into *@out_services. */
int mrg_services_read(struct mrg_arena *arena, const struct mrg_json *array,
                      uint64_t index, struct microreg_services **out_services,
                      struct microreg_error *out_error);

#endif /* MICROREG_SERVICE_H */
