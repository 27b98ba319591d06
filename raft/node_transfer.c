/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots on their way to another server.
 *
 * Each transfer has a connection and a thread of its own, with blocking calls
 * that time out, so neither the core thread nor the connection that carries
 * heartbeats ever waits for a snapshot:
 *
 *     sender                      receiver
 *     preface, Hello ------------>
 *                    <------------ Welcome
 *     Snapshot (meta) ----------->
 *     chunk ... chunk, empty ----> written aside, synced, hashes checked
 *                    <------------ SnapshotReply
 *
 * The receiver's driver then installs the file: the log's record first, the
 * state machine afterwards. Whatever stops in between:
 * - in the transfer: the unfinished file is removed, the sender tries again;
 * - the file is whole, the log does not name it: removed at the next start;
 * - the log names it, the state machine is older: restored at the next start.
 */
#include "raft/node.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "raft/snapshot.h"

#define TIMEOUT_S 10 /* Without progress. */
#define CHUNK_BYTES (60 * 1024)
#define FRAME_BYTES_MAX (FRAME_HELLO_MAX + LOGDB_CONF_MAX)
#define RECEIVE_MAX 2

struct transfer {
    struct node_event event;
    struct mr_list link; /* In node.transfers. */
    struct mr_raft *node;
    pthread_t thread;
    bool is_send;
    bool has_thread;
    uint64_t peer;
    _Atomic int fd; /* -1: none yet. */
    _Atomic bool is_stopped;
    uint64_t file;
    enum mr_err err;
    struct frame_snapshot begin;
    char *conf; /* Behind begin.meta.conf. */
    char address[FRAME_ADDRESS_MAX];
    struct mr_buf buf; /* What is being sent or has been received. */
    struct frame_hello hello;
};

static void transfer_free(struct transfer *t)
{
    int fd = atomic_load(&t->fd);

    mr_list_remove(&t->link);
    if (fd >= 0) {
        (void)close(fd); /* Whatever mattered was answered. */
    }
    mr_buf_deinit(&t->buf);
    mr_free(t->conf);
    mr_free(t);
}

static struct transfer *transfer_new(struct mr_raft *n, uint64_t peer)
{
    struct transfer *t = mr_calloc(1, sizeof *t);

    if (t == NULL) {
        return NULL;
    }
    t->node = n;
    t->peer = peer;
    atomic_store(&t->fd, -1);
    mr_buf_init(&t->buf, FRAME_BYTES_MAX + CHUNK_BYTES);
    mr_list_init(&t->link);
    mr_list_push(&n->transfers, &t->link);
    return t;
}

static size_t count(const struct mr_raft *n, bool is_send, uint64_t peer)
{
    struct mr_list *at;
    size_t found = 0;

    MR_LIST_FOREACH(at, &n->transfers)
    {
        const struct transfer *t = mr_container_of(at, struct transfer, link);

        found += t->is_send == is_send && (peer == 0 || t->peer == peer);
    }
    return found;
}

/* ------------------------------------------------------------- socket */

static void set_timeouts(int fd)
{
    struct timeval tv = {TIMEOUT_S, 0};
    int flags = fcntl(fd, F_GETFL);

    /* If they fail the kernel's own, longer, limits remain. */
    (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
}

static enum mr_err dial(struct transfer *t)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } addr;
    struct mr_hostport hp;
    bool is_v6;
    int fd;

    if (mr_hostport_parse(t->address, 0, &hp, NULL) != MR_OK ||
        (uv_ip4_addr(hp.host, hp.port, &addr.v4) != 0 &&
         uv_ip6_addr(hp.host, hp.port, &addr.v6) != 0)) {
        return MR_E_ADDRESS;
    }
    is_v6 = addr.any.sa_family == AF_INET6;
    fd = socket(addr.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return MR_E_IO;
    }
    atomic_store(&t->fd, fd);
    set_timeouts(fd);
    if (atomic_load(&t->is_stopped) ||
        connect(fd, &addr.any, is_v6 ? sizeof addr.v6 : sizeof addr.v4) != 0) {
        return MR_E_UNREACHABLE;
    }
    return MR_OK;
}

/* Send what is in the buffer and empty it. */
static enum mr_err send_buf(struct transfer *t)
{
    const uint8_t *at = t->buf.data;
    size_t left = t->buf.len;

    if (mr_buf_failed(&t->buf)) {
        return MR_E_NOMEM;
    }
    while (left > 0) {
        ssize_t n = send(atomic_load(&t->fd), at, left, MSG_NOSIGNAL);

        if (n <= 0 || atomic_load(&t->is_stopped)) {
            return MR_E_UNREACHABLE;
        }
        at += n;
        left -= (size_t)n;
    }
    mr_buf_reset(&t->buf);
    return MR_OK;
}

static enum mr_err receive_bytes(struct transfer *t, uint8_t *to, size_t len)
{
    while (len > 0) {
        ssize_t n = recv(atomic_load(&t->fd), to, len, 0);

        if (n <= 0 || atomic_load(&t->is_stopped)) {
            return MR_E_UNREACHABLE;
        }
        to += n;
        len -= (size_t)n;
    }
    return MR_OK;
}

/* Receive one frame into the buffer. */
static enum mr_err receive_frame(struct transfer *t, struct frame *out)
{
    uint8_t *p;
    size_t len;
    enum mr_err err;

    mr_buf_reset(&t->buf);
    p = mr_buf_grow(&t->buf, 4);
    if (p == NULL) {
        return MR_E_NOMEM;
    }
    err = receive_bytes(t, p, 4);
    if (err != MR_OK) {
        return err;
    }
    len = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    if (len > FRAME_BYTES_MAX) {
        return MR_E_TOOBIG;
    }
    p = mr_buf_grow(&t->buf, len);
    if (p == NULL) {
        return MR_E_NOMEM;
    }
    err = receive_bytes(t, p, len);
    if (err == MR_OK) {
        err = frame_parse(mr_buf_slice(&t->buf), FRAME_BYTES_MAX, out, &len);
    }
    return err == MR_OK && len == 0 ? MR_E_CORRUPT : err;
}

/* ------------------------------------------------------------- sending */

static enum mr_err shake_hands(struct transfer *t)
{
    struct frame_welcome *w;
    struct frame f;
    enum mr_err err;

    mr_buf_add(&t->buf, FRAME_PREFACE, FRAME_PREFACE_LEN);
    frame_put_hello(&t->buf, &t->hello);
    err = send_buf(t);
    if (err == MR_OK) {
        err = receive_frame(t, &f);
    }
    if (err != MR_OK) {
        return err;
    }
    w = mr_calloc(1, sizeof *w);
    if (w == NULL) {
        return MR_E_NOMEM;
    }
    if (f.type != FRAME_WELCOME || frame_get_welcome(&f, w) != MR_OK ||
        w->refusal != FRAME_WELCOMED || w->hello.self.id != t->peer) {
        err = MR_E_FOREIGN;
    }
    mr_free(w);
    mr_buf_reset(&t->buf);
    return err;
}

static enum mr_err send_file(struct transfer *t, struct snapshot_reader *r)
{
    uint8_t *chunk = mr_malloc(CHUNK_BYTES);
    size_t len = 1;
    enum mr_err err = chunk == NULL ? MR_E_NOMEM : MR_OK;

    while (err == MR_OK && len != 0) {
        err = snapshot_read_raw(r, chunk, CHUNK_BYTES, &len);
        if (err == MR_OK) {
            frame_put_chunk(&t->buf, mr_slice(chunk, len));
            err = send_buf(t);
        }
    }
    mr_free(chunk);
    return err;
}

static enum mr_err send_snapshot(struct transfer *t)
{
    struct snapshot_reader *r;
    struct frame f;
    enum mr_err result = MR_OK;
    enum mr_err err =
        snapshot_reader_open(t->node->snapshot_dir, t->file, &r, NULL);

    if (err != MR_OK) {
        return err;
    }
    if ((err = dial(t)) != MR_OK || (err = shake_hands(t)) != MR_OK) {
        goto out_after_reader;
    }
    frame_put_snapshot(&t->buf, &t->begin);
    if ((err = send_buf(t)) != MR_OK || (err = send_file(t, r)) != MR_OK ||
        (err = receive_frame(t, &f)) != MR_OK) {
        goto out_after_reader;
    }
    err = f.type == FRAME_SNAPSHOT_REPLY ? frame_get_snapshot_reply(&f, &result)
                                         : MR_E_CORRUPT;
    if (err == MR_OK) {
        err = result;
    }
out_after_reader:
    snapshot_reader_close(r);
    return err;
}

static void *run_send(void *arg)
{
    struct transfer *t = arg;

    t->err = send_snapshot(t);
    /* Refused when closing: the core thread looks at the list then. */
    node_post(t->node, &t->event);
    return NULL;
}

static void sent(struct mr_raft *n, struct node_event *event)
{
    struct transfer *t = mr_container_of(event, struct transfer, event);
    enum mr_err err = t->err;
    uint64_t peer = t->peer;

    if (t->has_thread) {
        mr_assert(pthread_join(t->thread, NULL) == 0); /* It has ended. */
    }
    transfer_free(t);
    if (err != MR_OK) {
        mr_log_warn("raft",
                    "sending a snapshot failed, trying again later "
                    "peer=%016llx error=\"%s\"",
                    (unsigned long long)peer, mr_strerror(err));
    }
    if (n->driver != NULL) {
        driver_snapshot_sent(n->driver, peer, err);
    }
}

/* Start @t's thread, or have it end at once. */
static void start(struct transfer *t, void *(*run)(void *))
{
    if (t->err == MR_OK && pthread_create(&t->thread, NULL, run, t) == 0) {
        t->has_thread = true; /* Its err is the thread's from now on. */
        return;
    }
    t->err = t->err == MR_OK ? MR_E_NOMEM : t->err;
    node_post(t->node, &t->event);
}

static enum mr_err prepare_send(struct transfer *t, uint64_t term)
{
    struct mr_raft *n = t->node;
    const struct join_server *s = join_find(n->join, t->peer);

    t->hello.version = FRAME_VERSION;
    t->hello.min_version = FRAME_VERSION_MIN;
    node_fill_hello(n, &t->hello);
    t->hello.purpose = FRAME_FOR_SNAPSHOT;
    t->hello.to_id = t->peer;
    t->file = n->file;
    t->begin.term = term;
    t->begin.meta = n->snapshot;
    t->conf = mr_memdup0(n->snapshot.conf.data, n->snapshot.conf.len);
    t->begin.meta.conf.data = t->conf;
    if (t->conf == NULL) {
        return MR_E_NOMEM;
    }
    if (s == NULL) {
        return MR_E_ADDRESS;
    }
    (void)snprintf(t->address, sizeof t->address, "%s", s->s.address);
    return n->file == 0 || count(n, true, t->peer) > 1 ? MR_E_BUSY : MR_OK;
}

void node_send_snapshot(struct mr_raft *n, uint64_t peer, uint64_t term)
{
    struct transfer *t = transfer_new(n, peer);

    if (t == NULL) {
        node_fatal(n, MR_E_NOMEM, "no memory to send a snapshot");
        return;
    }
    t->is_send = true;
    t->event.run = sent;
    t->err = prepare_send(t, term);
    start(t, run_send);
}

/* ------------------------------------------------------------- receiving */

static enum mr_err receive_file(struct transfer *t, struct snapshot_writer *w)
{
    for (;;) {
        struct frame f;
        enum mr_err err = receive_frame(t, &f);

        if (err != MR_OK) {
            return err;
        }
        if (f.type != FRAME_SNAPSHOT_CHUNK) {
            return MR_E_CORRUPT;
        }
        if (f.bulk.len == 0) {
            return MR_OK;
        }
        err = snapshot_write_raw(w, f.bulk);
        if (err != MR_OK) {
            return err;
        }
    }
}

/* The file must be of the index and term that it was announced with. */
static enum mr_err check_file(struct transfer *t)
{
    struct snapshot_reader *r;
    struct snapshot_head head;
    enum mr_err err =
        snapshot_reader_open(t->node->snapshot_dir, t->file, &r, NULL);

    if (err != MR_OK) {
        return err;
    }
    head = snapshot_reader_head(r);
    snapshot_reader_close(r);
    return head.index == t->begin.meta.index && head.term == t->begin.meta.term
               ? MR_OK
               : MR_E_CORRUPT;
}

static enum mr_err receive_snapshot(struct transfer *t)
{
    struct snapshot_writer *w;
    struct frame f;
    enum mr_err err = receive_frame(t, &f);

    if (err != MR_OK) {
        return err;
    }
    if (f.type != FRAME_SNAPSHOT) {
        return MR_E_CORRUPT;
    }
    err = frame_get_snapshot(&f, &t->begin, &t->conf);
    if (err == MR_OK) {
        err = snapshot_writer_open(t->node->snapshot_dir, t->file, &w);
    }
    if (err != MR_OK) {
        return err;
    }
    err = receive_file(t, w);
    if (err != MR_OK) {
        snapshot_writer_abort(w);
        return err;
    }
    err = snapshot_writer_finish(w);
    return err == MR_OK ? check_file(t) : err;
}

static void *run_receive(void *arg)
{
    struct transfer *t = arg;

    set_timeouts(atomic_load(&t->fd));
    t->err = receive_snapshot(t);
    mr_buf_reset(&t->buf);
    frame_put_snapshot_reply(&t->buf, t->err);
    (void)send_buf(t); /* The sender tries again if it does not hear. */
    node_post(t->node, &t->event); /* As run_send(). */
    return NULL;
}

static void received(struct mr_raft *n, struct node_event *event)
{
    struct transfer *t = mr_container_of(event, struct transfer, event);
    struct driver_message msg = {.type = DRIVER_MSG_INSTALL};

    if (t->has_thread) {
        mr_assert(pthread_join(t->thread, NULL) == 0); /* It has ended. */
    }
    if (t->err != MR_OK) {
        mr_log_warn("raft", "receiving a snapshot failed error=\"%s\"",
                    mr_strerror(t->err));
        snapshot_remove(n->snapshot_dir, t->file);
    } else if (n->driver != NULL) {
        msg.term = t->begin.term;
        msg.install.meta = t->begin.meta;
        msg.install.file = t->file;
        driver_receive(n->driver, t->peer, &msg);
    }
    transfer_free(t);
}

void node_receive_snapshot(void *arg, uint64_t peer, int fd)
{
    struct mr_raft *n = arg;
    struct transfer *t =
        count(n, false, 0) < RECEIVE_MAX ? transfer_new(n, peer) : NULL;

    if (t == NULL) {
        (void)close(fd); /* It is tried again. */
        return;
    }
    atomic_store(&t->fd, fd);
    t->event.run = received;
    t->file = ++n->last_file;
    start(t, run_receive);
}

/* ------------------------------------------------------------- closing */

void node_stop_transfers(struct mr_raft *n)
{
    struct mr_list *at;

    MR_LIST_FOREACH(at, &n->transfers)
    {
        struct transfer *t = mr_container_of(at, struct transfer, link);
        int fd;

        atomic_store(&t->is_stopped, true); /* First: see dial(). */
        fd = atomic_load(&t->fd);
        if (fd >= 0) {
            (void)shutdown(fd, SHUT_RDWR); /* Ends its blocking calls. */
        }
    }
    /* Those whose events are in the queue are released by running them; the
     * others could not post. */
    node_run_events(n);
    while ((at = n->transfers.next) != &n->transfers) {
        struct transfer *t = mr_container_of(at, struct transfer, link);

        if (t->has_thread) {
            mr_assert(pthread_join(t->thread, NULL) == 0);
        }
        transfer_free(t);
    }
}
