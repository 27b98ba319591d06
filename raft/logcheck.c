/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A look at the log's LMDB file before LMDB maps it and believes it.
 *
 * LMDB trusts its file: a flipped bit in a page's header makes it read outside
 * of the page, a damaged newest meta page makes it fall back to the older one,
 * which is a shorter history, and a file that was cut ends in SIGBUS. So, once
 * at start, we walk it ourselves:
 *
 * - the two meta pages must be whole and from consecutive transactions;
 * - the file must reach as far as the newest one says;
 * - from its two roots (free list, data) every page must carry its own number
 *   and its kind, and nodes inside its bounds;
 * - what was counted must be what the meta page says.
 *
 * The bytes of the entries are not our business here; they have hashes.
 */
#include "raft/logcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* LMDB 0.9's format on disk, 64-bit machines. */
#define MAGIC 0xBEEFC0DEu
#define VERSION 1
#define HEAD 16 /* Of a page: number, pad, flags, lower and upper. */
#define NODE_HEAD 8
#define P_BRANCH 0x01
#define P_LEAF 0x02
#define P_OVERFLOW 0x04
#define P_META 0x08
#define F_BIGDATA 0x01
#define NO_PAGE UINT64_MAX
#define DEPTH_MAX 32

struct tree {
    uint32_t pad;
    uint16_t flags;
    uint16_t depth;
    uint64_t branches;
    uint64_t leaves;
    uint64_t overflows;
    uint64_t entries;
    uint64_t root;
};

struct meta {
    uint32_t magic;
    uint32_t version;
    uint64_t address;
    uint64_t map_bytes;
    struct tree trees[2];
    uint64_t last_page;
    uint64_t txn;
};

struct walk {
    const uint8_t *base;
    uint64_t n_pages; /* In the file, and not beyond the last one. */
    size_t page_bytes;
    struct tree found;
    const char *what; /* Set when something is wrong. */
};

static uint16_t get16(const uint8_t *p)
{
    uint16_t n;

    memcpy(&n, p, sizeof n);
    return n;
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t n;

    memcpy(&n, p, sizeof n);
    return n;
}

static bool wrong(struct walk *w, const char *what)
{
    if (w->what == NULL) {
        w->what = what;
    }
    return false;
}

/* The page @number if it is there, says so itself, and has the one of @kinds. */
static const uint8_t *page_at(struct walk *w, uint64_t number, unsigned kinds)
{
    const uint8_t *p;

    if (number < 2 || number >= w->n_pages) {
        (void)wrong(w, "a page lies outside of the file");
        return NULL;
    }
    p = w->base + number * w->page_bytes;
    if (get64(p) != number || (get16(p + 10) & kinds) == 0) {
        (void)wrong(w, "a page is not what it should be");
        return NULL;
    }
    return p;
}

static bool check_big(struct walk *w, const uint8_t *node, size_t bytes)
{
    uint64_t n = (HEAD - 1 + bytes) / w->page_bytes + 1;
    uint64_t at = get64(node + NODE_HEAD + get16(node + 6));
    const uint8_t *p = page_at(w, at, P_OVERFLOW);
    uint32_t n_pages;

    if (p == NULL) {
        return false;
    }
    memcpy(&n_pages, p + 12, sizeof n_pages);
    if (n_pages != n || at + n > w->n_pages) {
        return wrong(w, "a large entry has the wrong length");
    }
    w->found.overflows += n;
    return true;
}

static bool check_leaf_node(struct walk *w, const uint8_t *node, size_t room)
{
    size_t bytes = get16(node) | (size_t)get16(node + 2) << 16;
    unsigned flags = get16(node + 4);
    size_t key = get16(node + 6);

    w->found.entries++;
    if (flags == F_BIGDATA) {
        return NODE_HEAD + key + 8 <= room ? check_big(w, node, bytes)
                                           : wrong(w, "a node is too long");
    }
    if (flags != 0 || NODE_HEAD + key + bytes > room) {
        return wrong(w, "a node is too long");
    }
    return true;
}

/* The nodes of page @p: their count and place inside the page. */
static bool check_bounds(struct walk *w, const uint8_t *p, size_t *out_n)
{
    size_t lower = get16(p + 12);
    size_t upper = get16(p + 14);

    *out_n = (lower - HEAD) / 2;
    if (lower <= HEAD || lower > upper || upper > w->page_bytes ||
        lower % 2 != 0) {
        return wrong(w, "a page has wrong bounds");
    }
    for (size_t i = 0; i < *out_n; i++) {
        size_t at = get16(p + HEAD + 2 * i);

        if (at < upper || at + NODE_HEAD > w->page_bytes ||
            at + NODE_HEAD + get16(p + at + 6) > w->page_bytes) {
            return wrong(w, "a node lies outside of its page");
        }
    }
    return true;
}

static bool check_leaf(struct walk *w, uint64_t number)
{
    const uint8_t *p = page_at(w, number, P_LEAF);
    size_t n;

    if (p == NULL || !check_bounds(w, p, &n)) {
        return false;
    }
    w->found.leaves++;
    for (size_t i = 0; i < n; i++) {
        size_t at = get16(p + HEAD + 2 * i);

        if (!check_leaf_node(w, p + at, w->page_bytes - at)) {
            return false;
        }
    }
    return true;
}

/* Recursion is bounded by DEPTH_MAX, the work by the page counts. */
static bool check_subtree(struct walk *w, uint64_t number, unsigned depth)
{
    const uint8_t *p;
    size_t n;

    if (depth == 1) {
        return check_leaf(w, number);
    }
    p = page_at(w, number, P_BRANCH);
    if (p == NULL || !check_bounds(w, p, &n)) {
        return false;
    }
    if (++w->found.branches > w->n_pages) {
        return wrong(w, "its pages form a circle");
    }
    for (size_t i = 0; i < n; i++) {
        const uint8_t *node = p + get16(p + HEAD + 2 * i);
        uint64_t child = get16(node) | (uint64_t)get16(node + 2) << 16 |
                         (uint64_t)get16(node + 4) << 32;

        if (w->found.leaves > w->n_pages ||
            !check_subtree(w, child, depth - 1)) {
            return wrong(w, "its pages form a circle");
        }
    }
    return true;
}

static bool check_tree(struct walk *w, const struct tree *t)
{
    memset(&w->found, 0, sizeof w->found);
    if (t->root == NO_PAGE) {
        return t->entries == 0 || wrong(w, "a tree has no root");
    }
    if (t->depth == 0 || t->depth > DEPTH_MAX) {
        return wrong(w, "a tree has an impossible depth");
    }
    if (!check_subtree(w, t->root, t->depth)) {
        return false;
    }
    if (w->found.branches != t->branches || w->found.leaves != t->leaves ||
        w->found.overflows != t->overflows || w->found.entries != t->entries) {
        return wrong(w, "pages or entries are missing");
    }
    return true;
}

/* The newest of the two meta pages. They alternate, so that their transactions
 * are consecutive and each is on the page of its parity; before the first
 * transaction both say 0. */
static bool newest_meta(struct walk *w, struct meta *out)
{
    struct meta m[2];

    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *p = w->base + i * w->page_bytes;

        memcpy(&m[i], p + HEAD, sizeof m[i]);
        if (get64(p) != i || get16(p + 10) != P_META || m[i].magic != MAGIC ||
            m[i].version != VERSION || m[i].trees[0].pad != w->page_bytes) {
            return wrong(w, "a meta page is not one");
        }
    }
    *out = m[1].txn > m[0].txn ? m[1] : m[0];
    if (m[0].txn == 0 && m[1].txn == 0) {
        return true;
    }
    if (m[0].txn % 2 != 0 || m[1].txn % 2 != (m[1].txn != 0) ||
        (m[0].txn > m[1].txn ? m[0].txn - m[1].txn : m[1].txn - m[0].txn) !=
            1) {
        return wrong(w, "its meta pages do not belong together");
    }
    return true;
}

static bool check_file(struct walk *w, size_t bytes)
{
    struct meta meta;

    if (bytes < 2 * w->page_bytes) {
        return wrong(w, "the file is cut");
    }
    if (!newest_meta(w, &meta)) {
        return false;
    }
    /* LMDB leaves pages at the end unwritten when they were freed by the
     * transaction that took them; what is used must be there, which the walk
     * checks page by page. */
    w->n_pages = bytes / w->page_bytes;
    if (w->n_pages > meta.last_page + 1) {
        w->n_pages = meta.last_page + 1;
    }
    return check_tree(w, &meta.trees[0]) && check_tree(w, &meta.trees[1]);
}

static enum mr_err check_fd(int fd, const char *path, struct mr_detail *detail)
{
    struct walk w = {0};
    struct stat st;
    void *map;
    bool sound;

    if (fstat(fd, &st) != 0) {
        return mr_fail(detail, MR_E_IO, "cannot read %s: %s", path,
                       strerror(errno));
    }
    if (st.st_size == 0) {
        return MR_OK; /* Created, and then the machine stopped. */
    }
    map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        return mr_fail(detail, MR_E_IO, "cannot read %s: %s", path,
                       strerror(errno));
    }
    w.base = map;
    w.page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    sound = check_file(&w, (size_t)st.st_size);
    (void)munmap(map, (size_t)st.st_size); /* Cannot fail: it is our map. */
    if (sound) {
        return MR_OK;
    }
    return mr_fail(detail, MR_E_CORRUPT,
                   "%s is damaged (%s): the server does not start with a part "
                   "of its history; if the other servers are healthy, move "
                   "the data folder away and start again, and it fetches "
                   "everything from them",
                   path, w.what);
}

enum mr_err logcheck(const char *dir, struct mr_detail *detail)
{
    char path[4096];
    enum mr_err err;
    int fd;

    if (snprintf(path, sizeof path, "%s/data.mdb", dir) >= (int)sizeof path) {
        return mr_fail(detail, MR_E_INVALID, "the path %s is too long", dir);
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? MR_OK
                               : mr_fail(detail, MR_E_IO, "cannot open %s: %s",
                                         path, strerror(errno));
    }
    err = check_fd(fd, path, detail);
    (void)close(fd); /* Read only. */
    return err;
}
