/* SPDX-License-Identifier: Apache-2.0 */
/* microreg: the process and its commands. */
#include "server/cli.h"

int main(int argc, char **argv)
{
    return server_cli_main(argc - 1, argv + 1);
}
