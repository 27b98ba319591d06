/* SPDX-License-Identifier: Apache-2.0 */
/* One line of a stream, taken apart (docs/watch.md). */
#ifndef MICROREG_LINE_H
#define MICROREG_LINE_H

#include "json.h"

#define MRG_LINE_MAX ((size_t)16 << 20)

enum mrg_line_action {
    MRG_LINE_CREATE,
    MRG_LINE_UPDATE,
    MRG_LINE_DELETE,
    MRG_LINE_RESET,
    MRG_LINE_SYNCED,
    MRG_LINE_PROGRESS,
};

/* The texts live in the arena or in the line that was parsed. */
struct mrg_stream_line {
    enum mrg_line_action action;
    bool more;
    uint64_t index;
    const char *name;    /* The service, or the key; "" if none is named. */
    const char *id;      /* Of the node; "" for a key. */
    const char *version; /* Of the service. */
    const char *object;  /* JSON; NULL if there is none. */
    size_t object_len;
};

/* Take a line apart. Actions that are not known are MRG_LINE_PROGRESS, for the
 * sake of later servers. MICROREG_E_PROTOCOL: it is no line of a stream.
 * MICROREG_E_NOMEM. */
int mrg_line_parse(struct mrg_arena *arena, const char *text, size_t len,
                   struct mrg_stream_line *out_line);

#endif /* MICROREG_LINE_H */
