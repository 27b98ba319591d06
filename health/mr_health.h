/* SPDX-License-Identifier: Apache-2.0 */
/*
 * health: turns time and probes into commands for the state. Names that more
 * than one layer needs; the parts have headers of their own (mr_lease.h,
 * mr_check.h, mr_why.h).
 */
#ifndef MR_HEALTH_H
#define MR_HEALTH_H

/* The check of a node that says whether its agent lives, and its outputs. */
#define MR_HEALTH_CHECK_ID "serfHealth"
#define MR_HEALTH_ALIVE "Agent alive and reachable"
#define MR_HEALTH_DEAD "Agent not live or unreachable"

#endif /* MR_HEALTH_H */
