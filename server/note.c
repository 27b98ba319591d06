/* SPDX-License-Identifier: Apache-2.0 */
/* The note of what configuration files put into the state: a small JSON file
 * in the data folder. */
#include "server/note.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/json.h"
#include "base/mem.h"

void server_note_deinit(struct server_note *note)
{
    server_list_deinit(&note->services);
    server_list_deinit(&note->checks);
}

/* Where @id is in the sorted @list, or belongs. */
static size_t find_id(const struct server_list *list, const char *id)
{
    size_t low = 0;
    size_t high = list->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(list->items[middle], id) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool is_at(const struct server_list *list, size_t at, const char *id)
{
    return at < list->n && strcmp(list->items[at], id) == 0;
}

bool server_note_has(const struct server_list *list, const char *id)
{
    return is_at(list, find_id(list, id), id);
}

static enum mr_err add_id(struct server_list *list, const char *id)
{
    size_t at = find_id(list, id);
    enum mr_err err;
    char *added;

    if (is_at(list, at, id)) {
        return MR_OK;
    }
    err = server_list_add(list, id);
    if (err == MR_OK) {
        added = list->items[list->n - 1];
        memmove(&list->items[at + 1], &list->items[at],
                (list->n - 1 - at) * sizeof *list->items);
        list->items[at] = added;
    }
    return err;
}

enum mr_err server_note_add(struct server_note *note,
                            const struct server_definitions *defs)
{
    enum mr_err err = MR_OK;

    for (size_t i = 0; i < defs->n && err == MR_OK; i++) {
        const struct server_definition *def = &defs->items[i];

        if (def->is_service) {
            err = add_id(&note->services, server_definition_id(def));
        }
        for (size_t k = 0; k < def->part->n_checks && err == MR_OK; k++) {
            err = add_id(&note->checks, def->part->checks[k]->check_id);
        }
    }
    return err;
}

static enum mr_err merge_list(struct server_list *list,
                              const struct server_list *other)
{
    enum mr_err err = MR_OK;

    for (size_t i = 0; i < other->n && err == MR_OK; i++) {
        err = add_id(list, other->items[i]);
    }
    return err;
}

enum mr_err server_note_merge(struct server_note *note,
                              const struct server_note *other)
{
    enum mr_err err = merge_list(&note->services, &other->services);

    return err != MR_OK ? err : merge_list(&note->checks, &other->checks);
}

static bool same_list(const struct server_list *a, const struct server_list *b)
{
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        if (strcmp(a->items[i], b->items[i]) != 0) {
            return false;
        }
    }
    return a->n == b->n;
}

bool server_note_same(const struct server_note *a, const struct server_note *b)
{
    return same_list(&a->services, &b->services) &&
           same_list(&a->checks, &b->checks);
}

static void encode_list(struct mr_json *j, const char *name,
                        const struct server_list *list)
{
    mr_json_key(j, name);
    mr_json_array(j);
    for (size_t i = 0; i < list->n; i++) {
        mr_json_str(j, list->items[i]);
    }
    mr_json_array_end(j);
}

void server_note_encode(const struct server_note *note, struct mr_buf *out)
{
    struct mr_json j;

    mr_json_init(&j, out);
    mr_json_object(&j);
    encode_list(&j, "services", &note->services);
    encode_list(&j, "checks", &note->checks);
    mr_json_object_end(&j);
    mr_buf_byte(out, '\n');
}

/* ------------------------------------------------------------- the file */

static enum mr_err decode_list(const json_t *root, const char *name,
                               struct server_list *list)
{
    const json_t *array = json_object_get(root, name);
    enum mr_err err = json_is_array(array) ? MR_OK : MR_E_CORRUPT;

    for (size_t i = 0; i < json_array_size(array) && err == MR_OK; i++) {
        const char *id = json_string_value(json_array_get(array, i));

        err = id == NULL ? MR_E_CORRUPT : add_id(list, id);
    }
    return err;
}

enum mr_err server_note_read(struct server_note *note, const char *path,
                             struct mr_detail *detail)
{
    json_error_t why;
    json_t *root;
    enum mr_err err;
    FILE *in = fopen(path, "re");

    if (in == NULL) {
        return errno == ENOENT ? MR_OK
                               : mr_fail(detail, MR_E_IO, "cannot open %s: %s",
                                         path, strerror(errno));
    }
    root = json_loadf(in, 0, &why);
    (void)fclose(in); /* Only read from. */
    err = decode_list(root, "services", &note->services);
    if (err == MR_OK) {
        err = decode_list(root, "checks", &note->checks);
    }
    json_decref(root);
    if (err != MR_OK) {
        server_note_deinit(note);
        return mr_fail(detail, err, "%s: %s", path, mr_strerror(err));
    }
    return MR_OK;
}

static bool write_all(int fd, struct mr_slice text)
{
    const char *at = text.data;
    size_t left = text.len;

    while (left > 0) {
        ssize_t n = write(fd, at, left);

        if (n < 0) {
            return false;
        }
        at += n;
        left -= (size_t)n;
    }
    return fsync(fd) == 0;
}

enum mr_err server_note_write(const char *path, struct mr_slice text)
{
    struct mr_buf beside = MR_BUF_INIT;
    bool is_written;
    int fd;

    mr_buf_printf(&beside, "%s.new", path);
    if (mr_buf_failed(&beside)) {
        return MR_E_NOMEM;
    }
    fd = open(mr_buf_cstr(&beside), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
              0600);
    if (fd < 0) {
        mr_buf_deinit(&beside);
        return MR_E_IO;
    }
    is_written = write_all(fd, text);
    is_written =
        close(fd) == 0 && is_written && rename(mr_buf_cstr(&beside), path) == 0;
    mr_buf_deinit(&beside);
    return is_written ? MR_OK : errno == ENOSPC ? MR_E_NOSPACE : MR_E_IO;
}
