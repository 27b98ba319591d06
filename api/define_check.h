/* SPDX-License-Identifier: Apache-2.0 */
/* Check definitions, for the two bodies that contain them. */
#ifndef API_DEFINE_CHECK_H
#define API_DEFINE_CHECK_H

#include "api/define.h"

struct define_check_body {
    Mr__Check check;
    Mr__CheckDefinition def;
};

/* A check within a service's definition: struct define_check_body. */
extern const struct decode_table define_service_check;

/* A check in a configuration file: likewise. */
extern const struct decode_table define_file_check_table;

/* Whether a service's "Check" says nothing: {} or a zero TTL. */
bool define_check_is_empty(const struct define_check_body *body);

/* Check that the parts of a check go together. MR_E_INVALID. */
MR_MUST_CHECK enum mr_err define_check_validate(struct decode *d,
                                                struct define_check_body *body);

/* Fill in what the catalog holds for a validated check. */
void define_check_finish(struct define_check_body *body);

#endif /* API_DEFINE_CHECK_H */
