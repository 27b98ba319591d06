/* SPDX-License-Identifier: Apache-2.0 */
/* What this build calls itself: the one file that is rebuilt by a commit. */
#include "server/version.h"

#ifndef MR_GIT_VERSION
#define MR_GIT_VERSION "unknown"
#endif

const char *server_version(void)
{
    return "0.1.0";
}

const char *server_revision(void)
{
    return MR_GIT_VERSION;
}

const char *server_consul_version(void)
{
    return "1.8.7";
}
