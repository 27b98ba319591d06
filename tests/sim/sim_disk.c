/* SPDX-License-Identifier: Apache-2.0 */
/* One server's disk: the log, the snapshots and the state machine. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

void sim_disk_init(struct sim_disk *disk)
{
    memset(disk, 0, sizeof *disk);
    disk->first = 1;
}

static void drop_tail(struct sim_disk *disk, size_t keep)
{
    while (disk->n > keep) {
        driver_blob_unref(disk->entries[--disk->n].blob);
    }
}

static void drop_head(struct sim_disk *disk, uint64_t first)
{
    size_t drop = first > disk->first ? (size_t)(first - disk->first) : 0;

    drop = drop > disk->n ? disk->n : drop;
    for (size_t i = 0; i < drop; i++) {
        driver_blob_unref(disk->entries[i].blob);
    }
    memmove(disk->entries, disk->entries + drop,
            (disk->n - drop) * sizeof *disk->entries);
    disk->n -= drop;
    disk->first = first > disk->first ? first : disk->first;
}

void sim_disk_deinit(struct sim_disk *disk)
{
    drop_tail(disk, 0);
    free(disk->entries);
    driver_blob_unref(disk->conf);
    for (size_t i = 0; i < SIM_FILES; i++) {
        sim_disk_remove(&disk->files[i]);
    }
    sim_kv_free(disk->kv);
    disk->kv = NULL;
    disk->entries = NULL;
    disk->conf = NULL;
}

static struct driver_blob *copy_conf(struct mr_slice conf)
{
    struct driver_blob *blob = driver_blob_new(conf.len);

    mr_assert(blob != NULL);
    memcpy(blob->data, conf.data, conf.len);
    return blob;
}

struct sim_write *sim_write_new(const struct driver_log_write *w)
{
    struct sim_write *write = calloc(1, sizeof *write);
    struct driver_entry *entries = NULL;

    mr_assert(write != NULL);
    mr_list_init(&write->link);
    write->w = *w;
    if (w->n_entries > 0) {
        entries = calloc(w->n_entries, sizeof *entries);
        mr_assert(entries != NULL);
        for (size_t i = 0; i < w->n_entries; i++) {
            entries[i] = w->entries[i];
            driver_blob_ref(entries[i].blob);
        }
    }
    write->w.entries = entries;
    if (w->has_snapshot) {
        write->conf = copy_conf(w->snapshot.conf);
        write->w.snapshot.conf.data = write->conf->data;
    }
    return write;
}

void sim_write_free(struct sim_write *write)
{
    for (size_t i = 0; i < write->w.n_entries; i++) {
        driver_blob_unref(write->w.entries[i].blob);
    }
    free((void *)(uintptr_t)write->w.entries);
    driver_blob_unref(write->conf);
    free(write);
}

static bool append(struct sim_disk *disk, const struct driver_log_write *w)
{
    if (w->first_index != disk->first + disk->n) {
        return false;
    }
    if (disk->n + w->n_entries > disk->cap) {
        disk->cap = (disk->n + w->n_entries) * 2;
        disk->entries =
            realloc(disk->entries, disk->cap * sizeof *disk->entries);
        mr_assert(disk->entries != NULL);
    }
    for (size_t i = 0; i < w->n_entries; i++) {
        disk->entries[disk->n++] = w->entries[i];
        driver_blob_ref(w->entries[i].blob);
    }
    return true;
}

static void put_snapshot(struct sim_disk *disk,
                         const struct driver_log_write *w)
{
    struct sim_file *old = disk->has_snapshot && disk->file != w->file
                               ? sim_disk_file(disk, disk->file)
                               : NULL;

    sim_disk_remove(old);
    driver_blob_unref(disk->conf);
    disk->conf = copy_conf(w->snapshot.conf);
    disk->has_snapshot = true;
    disk->snapshot = w->snapshot;
    disk->snapshot.conf.data = disk->conf->data;
    disk->file = w->file;
    if (w->replace) {
        drop_tail(disk, 0);
        disk->first = w->snapshot.index + 1;
    } else {
        drop_head(disk, w->first_kept);
    }
}

bool sim_disk_write(struct sim_disk *disk, const struct driver_log_write *w)
{
    if (w->has_vote) {
        if (w->term < disk->term) {
            return false;
        }
        disk->term = w->term;
        disk->vote = w->voted_for;
    }
    if (w->truncate_from != 0) {
        if (w->truncate_from < disk->first ||
            w->truncate_from >= disk->first + disk->n) {
            return false;
        }
        drop_tail(disk, (size_t)(w->truncate_from - disk->first));
    }
    if (w->n_entries > 0 && !append(disk, w)) {
        return false;
    }
    if (w->has_snapshot) {
        if (!w->replace && (w->first_kept > w->snapshot.index + 1 ||
                            w->snapshot.index >= disk->first + disk->n)) {
            return false;
        }
        put_snapshot(disk, w);
    }
    return true;
}

struct sim_file *sim_disk_file(struct sim_disk *disk, uint64_t name)
{
    for (size_t i = 0; i < SIM_FILES; i++) {
        if (disk->files[i].name == name && name != 0) {
            return &disk->files[i];
        }
    }
    return NULL;
}

void sim_disk_remove(struct sim_file *file)
{
    if (file != NULL) {
        file->name = 0;
        driver_blob_unref(file->kv);
        file->kv = NULL;
    }
}

struct sim_file *sim_disk_new_file(struct sim_disk *disk, uint64_t name)
{
    for (size_t i = 0; i < SIM_FILES; i++) {
        if (disk->files[i].name == 0) {
            disk->files[i].name = name;
            return &disk->files[i];
        }
    }
    return NULL;
}

enum mr_err sim_disk_open(struct sim_disk *disk,
                          const struct driver_options *options, uint64_t now,
                          struct driver **out_driver, struct mr_detail *detail)
{
    struct driver_disk d = {.term = disk->term,
                            .voted_for = disk->vote,
                            .has_snapshot = disk->has_snapshot,
                            .snapshot = disk->snapshot,
                            .first_index = disk->first,
                            .applied = disk->fsm.index,
                            .applied_term = disk->fsm.term};
    struct driver_term_run *runs = calloc(disk->n + 1, sizeof *runs);
    struct driver_change_at *changes = calloc(disk->n + 1, sizeof *changes);
    enum mr_err err;

    mr_assert(runs != NULL && changes != NULL);
    for (size_t i = 0; i < disk->n; i++) {
        const struct driver_entry *e = &disk->entries[i];
        if (d.n_runs == 0 || runs[d.n_runs - 1].term != e->term) {
            runs[d.n_runs++].term = e->term;
        }
        runs[d.n_runs - 1].n_entries++;
        if (e->type == DRIVER_ENTRY_CHANGE) {
            changes[d.n_changes].index = disk->first + i;
            changes[d.n_changes++].conf = e->data;
        }
        d.log_bytes += e->data.len;
    }
    d.runs = runs;
    d.changes = changes;
    err = driver_new(options, &d, now, out_driver, detail);
    free(runs);
    free(changes);
    return err;
}
