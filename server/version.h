/* SPDX-License-Identifier: Apache-2.0 */
/* What this build calls itself. */
#ifndef MR_SERVER_VERSION_H
#define MR_SERVER_VERSION_H

/* The release: "0.1.0". Static. */
const char *server_version(void);

/* The commit it was built from, "unknown" outside a checkout. Static. */
const char *server_revision(void);

/* The Consul whose API is spoken, for clients that look: "1.8.7". Static. */
const char *server_consul_version(void);

#endif /* MR_SERVER_VERSION_H */
