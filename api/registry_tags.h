/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How go-micro's consul plugin puts into a service's tags what Consul has no
 * place for: "t-" a pair of a node's metadata, "e-" an endpoint, "v-" the
 * version, each followed by the hex digits of a zlib stream of JSON (of the bare
 * text, for the version). Old plugins wrote the text itself behind "t=", "e="
 * and "v=", which is read as well.
 */
#ifndef API_REGISTRY_TAGS_H
#define API_REGISTRY_TAGS_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/slice.h"

enum registry_tag {
    REGISTRY_TAG_METADATA = 't',
    REGISTRY_TAG_ENDPOINT = 'e',
    REGISTRY_TAG_VERSION = 'v'
};

/* What one tag may hold. More is no tag of ours. */
#define REGISTRY_TAG_MAX ((size_t)64 * 1024)

/* Append the tag of @kind that holds @plain. @out fails when memory is short or
 * @plain is longer than REGISTRY_TAG_MAX. */
void registry_tag_put(struct mr_buf *out, enum registry_tag kind,
                      struct mr_slice plain);

/* The separator of @tag, '-' or '=', when it is one of @kind by its beginning;
 * 0 when it is not. */
char registry_tag_form(const char *tag, enum registry_tag kind);

/* Replace what @out holds by what @tag, which has a form, holds. False, and @out
 * is empty: it is damaged or too large, or memory is short. */
bool registry_tag_get(const char *tag, struct mr_buf *out);

#endif /* API_REGISTRY_TAGS_H */
