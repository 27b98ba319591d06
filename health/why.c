/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring of events: one file of fixed size.
 *
 * The file is an endless stream of records, of which it keeps the last
 * bytes: the byte at position p of the stream lies at p modulo the size of the
 * area behind the header. A record lies in one piece; what does not fit before
 * the end of the area begins at its start.
 *
 *  - The writer copies a record into a shared mapping and then moves `end`.
 *    The pages belong to the kernel from that moment, so a kill -9 loses
 *    nothing. The mapping's pages are let go behind it, so that the ring does
 *    not count as memory of ours.
 *  - A reader reads the file, not the mapping: it copies with pread() and
 *    trusts only what passes the checksum at the position where it was read. So
 *    it needs no lock, and what the writer overtakes meanwhile is skipped.
 *  - Opening looks for the newest record that is whole and goes on behind it.
 *
 * A restart applies the last commands again. Events of revisions that the ring
 * has seen are not written twice, unless they are younger than all it holds:
 * then the state began anew.
 */
#include "health/mr_why.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "health/why_record.h"

#define MAGIC "mrwhy\n\0"
#define VERSION 1
#define BYTE_ORDER 0x01020304
#define PAGE 4096u
#define HEADER PAGE
#define SIZE_MIN (HEADER + 4 * PAGE)
#define WINDOW (256u * 1024) /* Of the mapping that stays in memory. */
#define CHUNK (64u * 1024)   /* Read at once. */
#define POS_MAX (UINT64_MAX / 4)

struct file_header {
    char magic[8];
    uint32_t version;
    uint32_t byte_order;
    uint64_t size;
};

struct mr_why {
    int fd;
    uint8_t *map;
    size_t size;
    size_t area;              /* size - HEADER. */
    atomic_uint_fast64_t end; /* Position behind the newest record. */
    size_t kept_from;         /* Offset of the first page not let go. */
    /* The newest when the ring was opened. */
    uint64_t old_revision;
    uint64_t old_time_ms;
};

/* ------------------------------------------------------------- reading */

/* A piece of the stream, copied out of the file. */
struct piece {
    const struct mr_why *why;
    uint64_t *bytes; /* CHUNK of them, aligned for records. */
    uint64_t pos;    /* Of the first byte. */
    size_t len;
    uint64_t end; /* Nothing at or behind it is read. */
};

static enum mr_err piece_init(struct piece *p, const struct mr_why *why)
{
    memset(p, 0, sizeof *p);
    p->why = why;
    p->bytes = mr_malloc(CHUNK);
    return p->bytes == NULL ? MR_E_NOMEM : MR_OK;
}

static size_t least(size_t a, uint64_t b)
{
    return a < b ? a : (size_t)b;
}

/* Copy what follows @pos, up to the end of the area. */
static enum mr_err fill(struct piece *p, uint64_t pos)
{
    size_t offset = (size_t)(pos % p->why->area);
    size_t len = least(least(p->why->area - offset, CHUNK), p->end - pos);
    size_t got = 0;

    while (got < len) {
        ssize_t n = pread(p->why->fd, (char *)p->bytes + got, len - got,
                          (off_t)(HEADER + offset + got));

        if (n <= 0 && !(n < 0 && errno == EINTR)) {
            return MR_E_IO;
        }
        got += n < 0 ? 0 : (size_t)n;
    }
    p->pos = pos;
    p->len = len;
    return MR_OK;
}

/* What lies at @pos: at least all that a record there could need. */
static enum mr_err look(struct piece *p, uint64_t pos, struct mr_slice *out)
{
    size_t wanted = p->why->area - (size_t)(pos % p->why->area);

    wanted = least(least(wanted, WHY_RECORD_MAX), p->end - pos);
    if (pos + wanted > p->pos + p->len) {
        enum mr_err err = fill(p, pos);

        if (err != MR_OK) {
            return err;
        }
    }
    *out = mr_slice((const char *)p->bytes + (pos - p->pos),
                    (size_t)(p->pos + p->len - pos));
    return MR_OK;
}

/* Told of a whole record; false ends the walk. */
typedef bool (*record_cb)(void *arg, struct mr_slice record,
                          const struct mr_kv_event *event);

/* Every whole record of the last lap before @end, oldest first. */
static enum mr_err walk(const struct mr_why *why, uint64_t end, record_cb cb,
                        void *arg)
{
    uint64_t pos = end > why->area ? end - why->area : 0;
    struct mr_kv_event event;
    struct mr_slice bytes;
    struct piece piece;
    enum mr_err err = piece_init(&piece, why);

    piece.end = end;
    while (err == MR_OK && pos < end) {
        size_t len;

        err = look(&piece, pos, &bytes);
        len = err == MR_OK ? why_check(bytes, pos) : 0;
        if (len > 0 && why_decode(mr_slice(bytes.data, len), &event) &&
            !cb(arg, mr_slice(bytes.data, len), &event)) {
            break;
        }
        pos += len > 0 ? why_round(len) : WHY_ALIGN;
    }
    mr_free(piece.bytes);
    return err;
}

/* The events that a search keeps: copies of their records, in a circle. */
struct search {
    const struct mr_why_query *query;
    struct mr_slice *kept; /* query->max of them; data is owned. */
    uint64_t n_found;
    uint64_t since_ms;
    bool failed;
};

static struct mr_slice *kept_at(const struct search *s, uint64_t i)
{
    return &s->kept[i % s->query->max];
}

static uint64_t revision_of(const struct mr_slice *record)
{
    struct why_head head;

    memcpy(&head, record->data, sizeof head);
    return head.revision;
}

/* Whether a record kept of the same revision says the same: a command that was
 * applied again. */
static bool is_repeated(const struct search *s, struct mr_slice record)
{
    size_t skip = offsetof(struct why_head, time_ms);
    uint64_t oldest =
        s->n_found > s->query->max ? s->n_found - s->query->max : 0;

    for (uint64_t i = s->n_found; i > oldest; i--) {
        const struct mr_slice *one = kept_at(s, i - 1);

        if (revision_of(one) != revision_of(&record)) {
            return false;
        }
        if (one->len == record.len &&
            memcmp((const char *)one->data + skip,
                   (const char *)record.data + skip, record.len - skip) == 0) {
            return true;
        }
    }
    return false;
}

static bool keep(void *arg, struct mr_slice record,
                 const struct mr_kv_event *event)
{
    struct search *s = arg;
    struct mr_slice *place;
    void *copy;

    if (s->since_ms == 0) {
        s->since_ms = event->time_ms;
    }
    if (!s->query->match(s->query->arg, event) || is_repeated(s, record)) {
        return true;
    }
    copy = mr_malloc(record.len);
    if (copy == NULL) {
        s->failed = true;
        return false;
    }
    memcpy(copy, record.data, record.len);
    place = kept_at(s, s->n_found++);
    mr_free((void *)(uintptr_t)place->data);
    *place = mr_slice(copy, record.len);
    return true;
}

/* Tell what was kept. */
static void tell(const struct search *s)
{
    uint64_t max = s->query->max;
    struct mr_kv_event event;

    for (uint64_t i = s->n_found > max ? s->n_found - max : 0; i < s->n_found;
         i++) {
        if (why_decode(*kept_at(s, i), &event)) {
            s->query->found(s->query->arg, &event);
        }
    }
}

enum mr_err mr_why_find(struct mr_why *why, const struct mr_why_query *query,
                        uint64_t *out_since_ms)
{
    struct search s = {.query = query};
    enum mr_err err = MR_E_NOMEM;

    mr_assert(query->max > 0);
    s.kept = mr_calloc(query->max, sizeof *s.kept);
    if (s.kept != NULL) {
        err = walk(why, atomic_load_explicit(&why->end, memory_order_acquire),
                   keep, &s);
    }
    if (err == MR_OK && s.failed) {
        err = MR_E_NOMEM;
    }
    if (err == MR_OK) {
        tell(&s);
        *out_since_ms = s.since_ms;
    }
    for (size_t i = 0; s.kept != NULL && i < query->max; i++) {
        mr_free((void *)(uintptr_t)s.kept[i].data);
    }
    mr_free(s.kept);
    return err;
}

/* ------------------------------------------------------------- writing */

/* Let go of the mapping's pages from kept_from to @offset. They are the
 * kernel's: what was written stays. */
static void let_go(struct mr_why *why, size_t offset)
{
    size_t to = offset / PAGE * PAGE;

    if (to > why->kept_from) {
        /* Advice; without it the pages stay in memory. */
        (void)madvise(why->map + why->kept_from, to - why->kept_from,
                      MADV_DONTNEED);
    }
    why->kept_from = to;
}

/* Where a record of @len bytes goes. */
static uint64_t place(struct mr_why *why, size_t len)
{
    uint64_t pos = atomic_load_explicit(&why->end, memory_order_relaxed);
    size_t behind = why->area - (size_t)(pos % why->area);

    if (behind < why_round(len)) {
        let_go(why, why->size);
        why->kept_from = HEADER;
        return pos + behind;
    }
    return pos;
}

void mr_why_add(struct mr_why *why, const struct mr_kv_event *event)
{
    uint64_t record[WHY_RECORD_MAX / sizeof(uint64_t)];
    uint64_t pos;
    size_t offset;
    size_t len;

    if (event->revision < why->old_revision &&
        event->time_ms <= why->old_time_ms) {
        return;
    }
    len = why_encode(event, record);
    pos = place(why, len);
    why_seal(record, pos);
    offset = HEADER + (size_t)(pos % why->area);
    memcpy(why->map + offset, record, len);
    atomic_store_explicit(&why->end, pos + why_round(len),
                          memory_order_release);
    if (offset + len > why->kept_from + WINDOW) {
        let_go(why, offset + len);
    }
}

/* ------------------------------------------------------------- opening */

/* The newest record of the file. */
struct newest {
    uint64_t end;
    uint64_t revision;
    uint64_t time_ms;
};

/* Look at every place for a whole record, whatever lap it is of. */
static enum mr_err find_newest(struct mr_why *why, struct newest *out)
{
    struct mr_kv_event event;
    struct mr_slice bytes;
    struct piece piece;
    enum mr_err err = piece_init(&piece, why);
    uint64_t offset = 0;

    piece.end = why->area;
    while (err == MR_OK && offset < why->area) {
        size_t len = 0;
        uint64_t pos;

        err = look(&piece, offset, &bytes);
        if (err == MR_OK && bytes.len >= sizeof(struct why_head)) {
            pos = why_pos(bytes);
            if (pos % why->area == offset && pos < POS_MAX) {
                len = why_check(bytes, pos);
            }
        }
        if (len > 0 && why_decode(mr_slice(bytes.data, len), &event)) {
            pos = why_pos(bytes) + why_round(len);
            out->end = pos > out->end ? pos : out->end;
            out->revision =
                event.revision > out->revision ? event.revision : out->revision;
            out->time_ms =
                event.time_ms > out->time_ms ? event.time_ms : out->time_ms;
        }
        offset += len > 0 ? why_round(len) : WHY_ALIGN;
    }
    mr_free(piece.bytes);
    return err;
}

static enum mr_err fail_on(int error, const char *path,
                           struct mr_detail *detail)
{
    return mr_fail(detail,
                   error == ENOSPC || error == EDQUOT ? MR_E_NOSPACE : MR_E_IO,
                   "the ring of events %s: %s", path, strerror(error));
}

static struct file_header make_header(size_t size)
{
    struct file_header header = {
        .magic = MAGIC,
        .version = VERSION,
        .byte_order = BYTE_ORDER,
        .size = size,
    };

    return header;
}

/* Whether the file is a ring of ours, of the wanted size. */
static bool is_ours(const struct mr_why *why)
{
    struct file_header wanted = make_header(why->size);
    struct file_header header;
    struct stat st;

    return fstat(why->fd, &st) == 0 && st.st_size == (off_t)why->size &&
           pread(why->fd, &header, sizeof header, 0) ==
               (ssize_t)sizeof header &&
           memcmp(&header, &wanted, sizeof header) == 0;
}

/* Give the file its size on disk (a mapped page without space behind it would
 * be a SIGBUS) and, when it is not ours, a fresh content. */
static enum mr_err prepare(const struct mr_why *why, const char *path,
                           struct mr_detail *detail)
{
    struct file_header header = make_header(why->size);
    bool is_new = !is_ours(why);
    int error;

    if (is_new && ftruncate(why->fd, 0) != 0) {
        return fail_on(errno, path, detail);
    }
    error = posix_fallocate(why->fd, 0, (off_t)why->size);
    if (error != 0) {
        return fail_on(error, path, detail);
    }
    if (is_new &&
        pwrite(why->fd, &header, sizeof header, 0) != (ssize_t)sizeof header) {
        return fail_on(errno, path, detail);
    }
    return MR_OK;
}

static enum mr_err open_file(struct mr_why *why, const char *path,
                             struct mr_detail *detail)
{
    struct newest newest = {0, 0, 0};
    enum mr_err err;
    void *map;

    why->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (why->fd < 0) {
        return fail_on(errno, path, detail);
    }
    err = prepare(why, path, detail);
    if (err != MR_OK) {
        return err;
    }
    map = mmap(NULL, why->size, PROT_READ | PROT_WRITE, MAP_SHARED, why->fd, 0);
    if (map == MAP_FAILED) {
        return fail_on(errno, path, detail);
    }
    why->map = map;
    err = find_newest(why, &newest);
    if (err != MR_OK) {
        return mr_fail(detail, err, "the ring of events %s cannot be read",
                       path);
    }
    why->old_revision = newest.revision;
    why->old_time_ms = newest.time_ms;
    why->kept_from = (HEADER + newest.end % why->area) / PAGE * PAGE;
    atomic_init(&why->end, newest.end);
    return MR_OK;
}

enum mr_err mr_why_open(const char *path, size_t size, struct mr_why **out_why,
                        struct mr_detail *detail)
{
    struct mr_why *why = mr_calloc(1, sizeof *why);
    enum mr_err err;

    if (why == NULL) {
        return mr_fail(detail, MR_E_NOMEM, "out of memory");
    }
    size = size == 0 ? MR_WHY_SIZE : size;
    size = size < SIZE_MIN ? SIZE_MIN : size / PAGE * PAGE;
    why->fd = -1;
    why->size = size;
    why->area = size - HEADER;
    mr_assert(why->area > 0);
    err = open_file(why, path, detail);
    if (err != MR_OK) {
        mr_why_close(why);
        return err;
    }
    *out_why = why;
    return MR_OK;
}

void mr_why_close(struct mr_why *why)
{
    if (why == NULL) {
        return;
    }
    if (why->map != NULL) {
        (void)munmap(why->map, why->size); /* Ours: cannot fail. */
    }
    if (why->fd >= 0) {
        (void)close(why->fd); /* Nothing is buffered. */
    }
    mr_free(why);
}
