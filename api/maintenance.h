/* SPDX-License-Identifier: Apache-2.0 */
/* Maintenance mode: a critical check with a reserved ID. */
#ifndef API_MAINTENANCE_H
#define API_MAINTENANCE_H

#include <stdbool.h>

#define MAINTENANCE_NODE "_node_maintenance"
#define MAINTENANCE_SERVICE "_service_maintenance:" /* and the service's ID */

/* Whether @check_id is that of a maintenance check. */
bool maintenance_is(const char *check_id);

#endif /* API_MAINTENANCE_H */
