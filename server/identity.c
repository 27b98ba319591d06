/* SPDX-License-Identifier: Apache-2.0 */
/* The data folder and the node ID in it. */
#include "server/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define REMOVE_MAX_FDS 16

char *server_identity_path(const struct server_identity *id, const char *name)
{
    size_t len = strlen(id->dir) + strlen(name) + 2;
    char *path = mr_malloc(len);

    if (path != NULL) {
        (void)snprintf(path, len, "%s/%s", id->dir, name); /* Fits. */
    }
    return path;
}

/* mkdir -p with mode 0700. */
static enum mr_err make_dir(const char *dir, struct mr_detail *detail)
{
    struct stat st;
    char *path = mr_strdup(dir);
    enum mr_err err = MR_OK;

    if (path == NULL) {
        return mr_fail(detail, MR_E_NOMEM, "out of memory");
    }
    for (char *at = path + 1;; at++) {
        char cut = *at;

        if (cut != '/' && cut != '\0') {
            continue;
        }
        *at = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST) {
            err = mr_fail(detail, MR_E_IO,
                          "cannot create the data folder \"%s\": %s", path,
                          strerror(errno));
            break;
        }
        *at = cut;
        if (cut == '\0') {
            break;
        }
    }
    mr_free(path);
    if (err == MR_OK && (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode))) {
        err =
            mr_fail(detail, MR_E_IO, "data_dir \"%s\" is not a directory", dir);
    }
    return err;
}

static enum mr_err take_lock(struct server_identity *id,
                             struct mr_detail *detail)
{
    char *path = server_identity_path(id, "lock");
    char pid[24] = "";
    int fd;
    ssize_t len;

    if (path == NULL) {
        return mr_fail(detail, MR_E_NOMEM, "out of memory");
    }
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    mr_free(path);
    if (fd < 0) {
        return mr_fail(detail, MR_E_IO, "cannot write to data_dir \"%s\": %s",
                       id->dir, strerror(errno));
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        len = read(fd, pid, sizeof pid - 1);
        pid[len > 0 ? len : 0] = '\0';
        pid[strcspn(pid, "\n")] = '\0';
        (void)close(fd);
        return mr_fail(detail, MR_E_INUSE,
                       "data_dir \"%s\" is in use by another microreg (pid "
                       "%s): stop it, or give another -data-dir",
                       id->dir, pid[0] != '\0' ? pid : "unknown");
    }
    id->lock_fd = fd;
    /* Only a hint for the message above. */
    len = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)len, 0) != len) {
        return mr_fail(detail, MR_E_IO, "cannot write to data_dir \"%s\": %s",
                       id->dir, strerror(errno));
    }
    return MR_OK;
}

/* The first line of a small file, without its newline; "" if unreadable. */
static enum mr_err read_line(const char *path, char *out, size_t cap)
{
    FILE *in = fopen(path, "re");
    enum mr_err err = MR_OK;

    out[0] = '\0';
    if (in == NULL) {
        return errno == ENOENT ? MR_E_NOTFOUND : MR_E_IO;
    }
    if (fgets(out, (int)cap, in) == NULL && ferror(in)) {
        err = MR_E_IO;
    }
    (void)fclose(in); /* Only read from. */
    out[strcspn(out, "\r\n")] = '\0';
    return err;
}

/* Durable before it is used: an ID that a power cut forgets would make this
 * server a stranger to its own log. */
static enum mr_err write_id(const struct server_identity *id, const char *path,
                            struct mr_detail *detail)
{
    char *aside = server_identity_path(id, "node-id.new");
    enum mr_err err = MR_OK;
    FILE *out;
    int dir;

    if (aside == NULL) {
        return mr_fail(detail, MR_E_NOMEM, "out of memory");
    }
    out = fopen(aside, "we");
    dir = open(id->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (out == NULL || dir < 0 || fprintf(out, "%s\n", id->node_id) < 0 ||
        fflush(out) != 0 || fsync(fileno(out)) != 0 ||
        rename(aside, path) != 0 || fsync(dir) != 0) {
        err = mr_fail(detail, MR_E_IO, "cannot write %s: %s", path,
                      strerror(errno));
    }
    if (out != NULL) {
        (void)fclose(out); /* Synced or failed by now. */
    }
    if (dir >= 0) {
        (void)close(dir);
    }
    mr_free(aside);
    return err;
}

static enum mr_err load_id(struct server_identity *id, const char *wanted,
                           const struct mr_random *random,
                           struct mr_detail *detail)
{
    char *path = server_identity_path(id, "node-id");
    char line[64];
    enum mr_err err;

    if (path == NULL) {
        return mr_fail(detail, MR_E_NOMEM, "out of memory");
    }
    err = read_line(path, line, sizeof line);
    if (err == MR_E_NOTFOUND) {
        if (wanted != NULL) {
            memcpy(id->node_id, wanted, sizeof id->node_id);
        } else {
            mr_uuid_new(random, id->node_id);
        }
        err = write_id(id, path, detail);
    } else if (err != MR_OK) {
        err = mr_fail(detail, err, "cannot read %s: %s", path, strerror(errno));
    } else if (!mr_uuid_valid(line)) {
        err = mr_fail(detail, MR_E_CORRUPT,
                      "%s does not hold a UUID: restore it, or remove the "
                      "data folder to start as a new server",
                      path);
    } else if (wanted != NULL && strcasecmp(wanted, line) != 0) {
        err = mr_fail(detail, MR_E_FOREIGN,
                      "data_dir \"%.200s\" belongs to the server with node ID "
                      "%s, not to %s: drop -node-id, or give another -data-dir",
                      id->dir, line, wanted);
    } else {
        memcpy(id->node_id, line, sizeof id->node_id);
    }
    mr_free(path);
    return err;
}

static char *temporary_dir(void)
{
    const char *parent = getenv("TMPDIR");
    size_t cap;
    char *dir;

    parent = parent != NULL && parent[0] == '/' ? parent : "/tmp";
    cap = strlen(parent) + sizeof "/microreg-dev-XXXXXX";
    dir = mr_malloc(cap);
    if (dir == NULL) {
        return NULL;
    }
    (void)snprintf(dir, cap, "%s/microreg-dev-XXXXXX", parent); /* Fits. */
    if (mkdtemp(dir) == NULL) {
        mr_free(dir);
        return NULL;
    }
    return dir;
}

enum mr_err server_identity_open(const char *dir, const char *wanted_id,
                                 const struct mr_random *random,
                                 struct server_identity *out,
                                 struct mr_detail *detail)
{
    struct server_identity id = {.lock_fd = -1, .is_temporary = dir == NULL};
    enum mr_err err = MR_OK;

    id.dir = dir == NULL ? temporary_dir() : mr_strdup(dir);
    if (id.dir == NULL) {
        return mr_fail(detail, MR_E_IO,
                       "cannot make a temporary data folder: %s",
                       strerror(errno));
    }
    if (dir != NULL) {
        err = make_dir(dir, detail);
    }
    if (err == MR_OK) {
        err = take_lock(&id, detail);
    }
    if (err == MR_OK) {
        err = load_id(&id, wanted_id, random, detail);
    }
    if (err != MR_OK) {
        server_identity_close(&id);
        return err;
    }
    /* Without it the state is trusted after a clean shutdown only. */
    if (read_line("/proc/sys/kernel/random/boot_id", id.boot_id,
                  sizeof id.boot_id) != MR_OK) {
        id.boot_id[0] = '\0';
    }
    *out = id;
    return MR_OK;
}

enum mr_err server_identity_find(const char *dir, struct server_identity *out,
                                 struct mr_detail *detail)
{
    struct server_identity id = {.dir = mr_strdup(dir), .lock_fd = -1};
    char *path = id.dir == NULL ? NULL : server_identity_path(&id, "node-id");
    bool is_there = path != NULL && access(path, R_OK) == 0;

    mr_free(path);
    mr_free(id.dir);
    if (!is_there) {
        return mr_fail(detail, MR_E_NOTFOUND,
                       "\"%s\" is not the data folder of a server", dir);
    }
    return server_identity_open(dir, NULL, mr_random_system(), out, detail);
}

enum mr_err server_identity_check_role(const struct server_identity *id,
                                       bool is_server, struct mr_detail *detail)
{
    char *path = server_identity_path(id, is_server ? "local" : "raft");
    bool is_other = path != NULL && access(path, F_OK) == 0;

    if (path == NULL) {
        return mr_fail(detail, MR_E_NOMEM, "out of memory");
    }
    mr_free(path);
    if (!is_other) {
        return MR_OK;
    }
    return mr_fail(detail, MR_E_FOREIGN,
                   is_server
                       ? "data_dir \"%s\" belongs to an agent that is no "
                         "server: drop -server, or give another -data-dir"
                       : "data_dir \"%s\" belongs to a server: add -server, or "
                         "give another -data-dir",
                   id->dir);
}

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    (void)remove(path); /* What stays is temporary anyway. */
    return 0;
}

void server_identity_close(struct server_identity *id)
{
    if (id->dir != NULL && id->is_temporary) {
        (void)nftw(id->dir, remove_one, REMOVE_MAX_FDS, FTW_DEPTH | FTW_PHYS);
    }
    if (id->lock_fd >= 0) {
        (void)close(id->lock_fd); /* Releases the lock. */
    }
    mr_free(id->dir);
    id->dir = NULL;
    id->lock_fd = -1;
}
