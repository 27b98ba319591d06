/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshot files.
 *
 *     head   "MRSNAP\0\1" version(8) index(8) term(8) zero(8) hash(8)
 *     block  length(8, 1 to 64 KiB) hash(8) bytes
 *     ...
 *     end    0(8) bytes in all(8) hash of all(16)
 *
 * Numbers are little-endian. A block's hash is seeded with its position, so
 * blocks cannot be swapped; the hash of all chains the blocks' hashes, so none
 * can be missing. Hashes are checked when a file has been received, and again
 * whenever it is read.
 *
 * A crash leaves an unfinished file (removed at the next start), or a finished
 * one that the log's record does not name (likewise), or one that it does.
 */
#include "raft/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"

#define VERSION 1
#define BLOCK_HEAD_BYTES 16
#define END_BYTES 32
#define PATH_MAX_BYTES 3200
#define TEMP_SUFFIX ".part"

static const char MAGIC[8] = "MRSNAP\0\1";

/* The hash over all blocks so far. */
struct chain {
    struct mr_hash128 hash;
    uint64_t n_blocks;
    uint64_t n_bytes;
};

struct snapshot_writer {
    int fd;
    bool is_raw;
    struct chain chain;
    size_t len; /* In block, without its head. */
    char dir[PATH_MAX_BYTES - 64];
    uint64_t file;
    uint8_t block[BLOCK_HEAD_BYTES + SNAPSHOT_BLOCK_MAX];
};

struct snapshot_reader {
    int fd;
    struct snapshot_head head;
    struct chain chain;
    size_t len; /* In block. */
    size_t at;
    bool is_raw;
    bool at_end;
    uint8_t block[SNAPSHOT_BLOCK_MAX];
};

/* ------------------------------------------------------------- helpers */

static enum mr_err map_errno(int n)
{
    switch (n) {
    case ENOSPC:
    case EDQUOT:
        return MR_E_NOSPACE;
    case ENOENT:
        return MR_E_NOTFOUND;
    case ENOMEM:
        return MR_E_NOMEM;
    default:
        return MR_E_IO;
    }
}

static void put64(uint8_t *p, uint64_t n)
{
    for (unsigned i = 0; i < 8; i++) {
        p[i] = (uint8_t)(n >> (8 * i));
    }
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < 8; i++) {
        n |= (uint64_t)p[i] << (8 * i);
    }
    return n;
}

static void path_of(char out[PATH_MAX_BYTES], const char *dir, uint64_t file,
                    const char *suffix)
{
    (void)snprintf(out, PATH_MAX_BYTES, "%.3100s/%016" PRIx64 ".snap%s", dir,
                   file, suffix);
}

static enum mr_err write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno != EINTR) {
            return map_errno(errno);
        }
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return MR_OK;
}

/* Fill @data unless the file ends; returns how much there was. */
static enum mr_err read_some(int fd, uint8_t *data, size_t len, size_t *out_len)
{
    size_t got = 0;

    while (got < len) {
        ssize_t n = read(fd, data + got, len - got);

        if (n == 0) {
            break;
        }
        if (n < 0 && errno != EINTR) {
            return MR_E_IO;
        }
        if (n > 0) {
            got += (size_t)n;
        }
    }
    *out_len = got;
    return MR_OK;
}

static enum mr_err read_exactly(int fd, uint8_t *data, size_t len)
{
    size_t got = 0;
    enum mr_err err = read_some(fd, data, len, &got);

    if (err == MR_OK && got != len) {
        return MR_E_CORRUPT;
    }
    return err;
}

static uint64_t hash_block(const struct chain *chain, struct mr_slice bytes)
{
    return mr_hash64(bytes, chain->n_blocks + 1);
}

static void chain_add(struct chain *chain, uint64_t hash, size_t len)
{
    uint8_t all[32];

    put64(all, chain->hash.high);
    put64(all + 8, chain->hash.low);
    put64(all + 16, hash);
    put64(all + 24, len);
    chain->hash = mr_hash128(mr_slice(all, sizeof all), 0);
    chain->n_blocks++;
    chain->n_bytes += len;
}

/* ------------------------------------------------------------- folder */

static enum mr_err sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum mr_err err;

    if (fd < 0) {
        return MR_E_IO;
    }
    err = fsync(fd) == 0 ? MR_OK : map_errno(errno);
    (void)close(fd); /* Read only. */
    return err;
}

/* The number in a finished file's name, 0 when it is not one. */
static uint64_t number_of(const char *name)
{
    char *end;
    uint64_t n;

    if (strlen(name) != 21 || strcmp(name + 16, ".snap") != 0) {
        return 0;
    }
    n = strtoull(name, &end, 16);
    return end == name + 16 ? n : 0;
}

static void clean_up(const char *dir, const char *name, uint64_t keep)
{
    char path[PATH_MAX_BYTES];
    size_t len = strlen(name);
    size_t suffix = strlen(TEMP_SUFFIX);
    bool is_part =
        len > suffix && strcmp(name + len - suffix, TEMP_SUFFIX) == 0;

    if (is_part || (number_of(name) != 0 && number_of(name) != keep)) {
        (void)snprintf(path, sizeof path, "%.2900s/%.255s", dir, name);
        (void)unlink(path); /* Only takes room; tried again next time. */
    }
}

enum mr_err snapshot_dir_open(const char *dir, uint64_t keep,
                              uint64_t *out_highest, struct mr_detail *detail)
{
    uint64_t highest = keep;
    struct dirent *entry;
    DIR *d;

    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return mr_fail(detail, map_errno(errno), "cannot create %s: %s", dir,
                       strerror(errno));
    }
    d = opendir(dir);
    if (d == NULL) {
        return mr_fail(detail, MR_E_IO, "cannot read %s: %s", dir,
                       strerror(errno));
    }
    while ((entry = readdir(d)) != NULL) {
        uint64_t n = number_of(entry->d_name);

        highest = n > highest ? n : highest;
        clean_up(dir, entry->d_name, keep);
    }
    (void)closedir(d); /* Read only. */
    *out_highest = highest;
    return MR_OK;
}

void snapshot_remove(const char *dir, uint64_t file)
{
    char path[PATH_MAX_BYTES];

    path_of(path, dir, file, "");
    (void)unlink(path); /* Removed at the next start otherwise. */
}

/* ------------------------------------------------------------- writing */

enum mr_err snapshot_writer_open(const char *dir, uint64_t file,
                                 struct snapshot_writer **out)
{
    struct snapshot_writer *w = mr_calloc(1, sizeof *w);
    char path[PATH_MAX_BYTES];

    if (w == NULL) {
        return MR_E_NOMEM;
    }
    (void)snprintf(w->dir, sizeof w->dir, "%s", dir);
    w->file = file;
    path_of(path, dir, file, TEMP_SUFFIX);
    w->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (w->fd < 0) {
        enum mr_err err = map_errno(errno);

        mr_free(w);
        return err;
    }
    *out = w;
    return MR_OK;
}

enum mr_err snapshot_write_head(struct snapshot_writer *w,
                                struct snapshot_head head)
{
    uint8_t b[SNAPSHOT_HEAD_BYTES];

    memcpy(b, MAGIC, sizeof MAGIC);
    put64(b + 8, VERSION);
    put64(b + 16, head.index);
    put64(b + 24, head.term);
    put64(b + 32, 0);
    put64(b + 40, mr_hash64(mr_slice(b, 40), 0));
    return write_all(w->fd, b, sizeof b);
}

static enum mr_err flush_block(struct snapshot_writer *w)
{
    struct mr_slice bytes = mr_slice(w->block + BLOCK_HEAD_BYTES, w->len);
    uint64_t hash = hash_block(&w->chain, bytes);
    enum mr_err err;

    if (w->len == 0) {
        return MR_OK;
    }
    put64(w->block, w->len);
    put64(w->block + 8, hash);
    err = write_all(w->fd, w->block, BLOCK_HEAD_BYTES + w->len);
    chain_add(&w->chain, hash, w->len);
    w->len = 0;
    return err;
}

enum mr_err snapshot_write(struct snapshot_writer *w, struct mr_slice bytes)
{
    const uint8_t *at = bytes.data;
    size_t left = bytes.len;

    while (left > 0) {
        size_t n = SNAPSHOT_BLOCK_MAX - w->len;

        n = n < left ? n : left;
        memcpy(w->block + BLOCK_HEAD_BYTES + w->len, at, n);
        w->len += n;
        at += n;
        left -= n;
        if (w->len == SNAPSHOT_BLOCK_MAX) {
            enum mr_err err = flush_block(w);

            if (err != MR_OK) {
                return err;
            }
        }
    }
    return MR_OK;
}

enum mr_err snapshot_write_raw(struct snapshot_writer *w, struct mr_slice bytes)
{
    w->is_raw = true;
    return write_all(w->fd, bytes.data, bytes.len);
}

static enum mr_err write_end(struct snapshot_writer *w)
{
    uint8_t b[END_BYTES];
    enum mr_err err = flush_block(w);

    if (err != MR_OK) {
        return err;
    }
    put64(b, 0);
    put64(b + 8, w->chain.n_bytes);
    put64(b + 16, w->chain.hash.high);
    put64(b + 24, w->chain.hash.low);
    return write_all(w->fd, b, sizeof b);
}

static enum mr_err verify_path(const char *path, struct mr_detail *detail);

enum mr_err snapshot_writer_finish(struct snapshot_writer *w)
{
    char part[PATH_MAX_BYTES];
    char path[PATH_MAX_BYTES];
    enum mr_err err;

    path_of(part, w->dir, w->file, TEMP_SUFFIX);
    path_of(path, w->dir, w->file, "");
    err = w->is_raw ? verify_path(part, NULL) : write_end(w);
    if (err == MR_OK && fsync(w->fd) != 0) {
        err = map_errno(errno);
    }
    if (err == MR_OK && rename(part, path) != 0) {
        err = map_errno(errno);
    }
    if (err == MR_OK) {
        err = sync_dir(w->dir);
    }
    if (err != MR_OK) {
        snapshot_writer_abort(w);
        return err;
    }
    (void)close(w->fd); /* Synced. */
    mr_free(w);
    return MR_OK;
}

void snapshot_writer_abort(struct snapshot_writer *w)
{
    char part[PATH_MAX_BYTES];

    if (w == NULL) {
        return;
    }
    path_of(part, w->dir, w->file, TEMP_SUFFIX);
    (void)unlink(part); /* Removed at the next start otherwise. */
    (void)close(w->fd); /* Thrown away. */
    mr_free(w);
}

/* ------------------------------------------------------------- reading */

enum mr_err snapshot_parse_head(struct mr_slice bytes,
                                struct snapshot_head *out_head)
{
    const uint8_t *b = bytes.data;

    if (bytes.len < SNAPSHOT_HEAD_BYTES ||
        memcmp(b, MAGIC, sizeof MAGIC) != 0) {
        return MR_E_CORRUPT;
    }
    if (get64(b + 8) > VERSION) {
        return MR_E_VERSION;
    }
    if (get64(b + 40) != mr_hash64(mr_slice(b, 40), 0)) {
        return MR_E_CORRUPT;
    }
    out_head->index = get64(b + 16);
    out_head->term = get64(b + 24);
    return MR_OK;
}

static enum mr_err open_path(const char *path, struct snapshot_reader **out,
                             struct mr_detail *detail)
{
    struct snapshot_reader *r = mr_calloc(1, sizeof *r);
    uint8_t head[SNAPSHOT_HEAD_BYTES];
    enum mr_err err;

    if (r == NULL) {
        return MR_E_NOMEM;
    }
    r->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0) {
        err = map_errno(errno);
        (void)mr_fail(detail, err, "cannot open %s: %s", path, strerror(errno));
        mr_free(r);
        return err;
    }
    err = read_exactly(r->fd, head, sizeof head);
    if (err == MR_OK) {
        err = snapshot_parse_head(mr_slice(head, sizeof head), &r->head);
    }
    if (err != MR_OK) {
        snapshot_reader_close(r);
        (void)mr_fail(detail, err, "the snapshot %s: %s", path,
                      mr_strerror(err));
        return err;
    }
    *out = r;
    return MR_OK;
}

enum mr_err snapshot_reader_open(const char *dir, uint64_t file,
                                 struct snapshot_reader **out,
                                 struct mr_detail *detail)
{
    char path[PATH_MAX_BYTES];

    path_of(path, dir, file, "");
    return open_path(path, out, detail);
}

struct snapshot_head snapshot_reader_head(const struct snapshot_reader *r)
{
    return r->head;
}

/* The end's record, of which @head is the first half; nothing may follow. */
static enum mr_err check_end(struct snapshot_reader *r, const uint8_t *head)
{
    uint8_t hash[16];
    uint8_t more;
    size_t n;
    enum mr_err err = read_exactly(r->fd, hash, sizeof hash);

    if (err != MR_OK || (err = read_some(r->fd, &more, 1, &n)) != MR_OK) {
        return err;
    }
    r->at_end = true;
    return n == 0 && get64(head + 8) == r->chain.n_bytes &&
                   get64(hash) == r->chain.hash.high &&
                   get64(hash + 8) == r->chain.hash.low
               ? MR_OK
               : MR_E_CORRUPT;
}

static enum mr_err next_block(struct snapshot_reader *r)
{
    uint8_t head[BLOCK_HEAD_BYTES];
    uint64_t len;
    enum mr_err err = read_exactly(r->fd, head, sizeof head);

    if (err != MR_OK) {
        return err;
    }
    len = get64(head);
    if (len == 0) {
        return check_end(r, head);
    }
    if (len > SNAPSHOT_BLOCK_MAX) {
        return MR_E_CORRUPT;
    }
    err = read_exactly(r->fd, r->block, (size_t)len);
    if (err != MR_OK) {
        return err;
    }
    if (get64(head + 8) !=
        hash_block(&r->chain, mr_slice(r->block, (size_t)len))) {
        return MR_E_CORRUPT;
    }
    chain_add(&r->chain, get64(head + 8), (size_t)len);
    r->len = (size_t)len;
    r->at = 0;
    return MR_OK;
}

enum mr_err snapshot_read(struct snapshot_reader *r, void *out, size_t cap,
                          size_t *out_len)
{
    size_t n;

    if (r->at == r->len && !r->at_end) {
        enum mr_err err = next_block(r);

        if (err != MR_OK) {
            return err;
        }
    }
    n = r->len - r->at < cap ? r->len - r->at : cap;
    memcpy(out, r->block + r->at, n);
    r->at += n;
    *out_len = n;
    return MR_OK;
}

enum mr_err snapshot_read_raw(struct snapshot_reader *r, void *out, size_t cap,
                              size_t *out_len)
{
    if (!r->is_raw && lseek(r->fd, 0, SEEK_SET) != 0) {
        return MR_E_IO;
    }
    r->is_raw = true;
    return read_some(r->fd, out, cap, out_len);
}

void snapshot_reader_close(struct snapshot_reader *r)
{
    if (r == NULL) {
        return;
    }
    (void)close(r->fd); /* Read only. */
    mr_free(r);
}

static enum mr_err verify_path(const char *path, struct mr_detail *detail)
{
    struct snapshot_reader *r;
    enum mr_err err = open_path(path, &r, detail);

    if (err != MR_OK) {
        return err;
    }
    do {
        err = next_block(r);
    } while (err == MR_OK && !r->at_end);
    snapshot_reader_close(r);
    return err == MR_OK ? MR_OK
                        : mr_fail(detail, err, "the snapshot %s: %s", path,
                                  mr_strerror(err));
}

enum mr_err snapshot_verify(const char *dir, uint64_t file,
                            struct mr_detail *detail)
{
    char path[PATH_MAX_BYTES];

    path_of(path, dir, file, "");
    return verify_path(path, detail);
}
