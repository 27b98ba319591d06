/* SPDX-License-Identifier: Apache-2.0 */
/* Aligned columns. */
#include "server/cli.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define GAP 2

/* Characters of a UTF-8 text: bytes that do not continue one. */
static size_t width_of(const char *text)
{
    size_t n = 0;

    for (; *text != '\0'; text++) {
        n += ((unsigned char)*text & 0xc0) != 0x80 ? 1 : 0;
    }
    return n;
}

enum mr_err server_table_init(struct server_table *t, size_t n_columns)
{
    memset(t, 0, sizeof *t);
    t->widths = mr_calloc(n_columns, sizeof *t->widths);
    if (t->widths == NULL) {
        return MR_E_NOMEM;
    }
    t->n_columns = n_columns;
    return MR_OK;
}

void server_table_add(struct server_table *t, const char *text)
{
    size_t *widest = &t->widths[t->n_cells++ % t->n_columns];
    size_t width = width_of(text);

    if (width > *widest) {
        *widest = width;
    }
    mr_buf_add(&t->cells, text, strlen(text) + 1);
}

void server_table_format(const struct server_table *t, struct mr_buf *out)
{
    const char *cell = (const char *)t->cells.data;

    if (mr_buf_failed(&t->cells)) {
        out->failed = true;
        return;
    }
    for (size_t i = 0; i < t->n_cells; i++) {
        size_t column = i % t->n_columns;

        mr_buf_str(out, cell);
        if (column + 1 == t->n_columns) {
            mr_buf_byte(out, '\n');
        } else {
            size_t pad = t->widths[column] - width_of(cell) + GAP;

            mr_buf_printf(out, "%*s", (int)pad, "");
        }
        cell += strlen(cell) + 1;
    }
}

int server_table_print(struct server_table *t)
{
    struct mr_buf out = MR_BUF_INIT;
    bool failed;

    server_table_format(t, &out);
    failed = mr_buf_failed(&out);
    if (!failed && out.len > 0) {
        failed = fwrite(out.data, 1, out.len, stdout) != out.len;
    }
    mr_buf_deinit(&out);
    server_table_deinit(t);
    return failed ? server_cli_fail("cannot print: out of memory or space")
                  : CLI_OK;
}

void server_table_deinit(struct server_table *t)
{
    mr_free(t->widths);
    mr_buf_deinit(&t->cells);
    memset(t, 0, sizeof *t);
}
