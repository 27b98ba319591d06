/* SPDX-License-Identifier: Apache-2.0 */
/* Commands. */
#include "server/cli.h"

#include <stdio.h>
#include <string.h>

#include "server/agent.h"

int server_cli_main(int argc, char *const *argv)
{
    if (argc > 0 && strcmp(argv[0], "agent") == 0) {
        return server_agent_run(argc - 1, argv + 1);
    }
    return 127;
}
