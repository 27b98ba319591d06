/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MR_SERVER_CLI_H
#define MR_SERVER_CLI_H

/* Run the command that @argv (without the program's name) begins with; returns
 * the exit status: 0, 1 after an error, 127 for an unknown command. */
int server_cli_main(int argc, char *const *argv);

#endif /* MR_SERVER_CLI_H */
