/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery from a quorum that is lost for ever.
 *
 * The log gets one more entry, a configuration with this server alone, in a
 * term of its own; everything before it is thereby committed, also what a
 * majority never had. The cluster gets a new ID, so that servers of the old one
 * that come back are refused instead of reviving what was given up.
 */
#include <stdio.h>
#include <string.h>

#include <raft.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "raft/driver.h"
#include "raft/log.h"
#include "raft/mr_raft.h"

static enum mr_err encode_alone(uint64_t id, const char *address,
                                struct raft_buffer *out)
{
    struct raft_configuration conf;
    int rc;

    raft_configuration_init(&conf);
    rc = raft_configuration_add(&conf, id, address, RAFT_VOTER);
    if (rc == 0) {
        rc = raft_configuration_encode(&conf, out);
    }
    raft_configuration_close(&conf);
    return rc == 0 ? MR_OK : MR_E_NOMEM;
}

static enum mr_err make_alone(struct logdb *db, const char *address)
{
    const struct logdb_state *st = logdb_state(db);
    struct logdb_entry entry = {
        st->last + 1, st->term + 1, DRIVER_ENTRY_CHANGE, {NULL, 0}};
    uint64_t cluster_id;
    struct raft_buffer conf;
    enum mr_err err = encode_alone(st->raft_id, address, &conf);

    if (err != MR_OK) {
        return err;
    }
    do {
        cluster_id = mr_random_u64(mr_random_system());
    } while (cluster_id == 0);
    entry.data = mr_slice(conf.base, conf.len);
    err = logdb_begin(db);
    if (err == MR_OK) {
        logdb_set_vote(db, entry.term, st->raft_id);
        logdb_append(db, &entry);
        logdb_set_cluster(db, cluster_id);
        err = logdb_commit(db);
    }
    raft_free(conf.base);
    return err;
}

enum mr_err mr_raft_recover(const char *dir, const char *node_id,
                            const char *advertise, struct mr_detail *detail)
{
    struct mr_hostport hostport;
    struct raftlog_options o = {
        .dir = dir, .node_id = node_id, .must_exist = true};
    struct raftlog *log;
    struct logdb *db;
    enum mr_err err = mr_hostport_parse(advertise, 8300, &hostport, detail);

    if (err != MR_OK) {
        return err;
    }
    err = raftlog_open(&o, &log, detail);
    if (err != MR_OK) {
        return err;
    }
    db = raftlog_db(log);
    if (logdb_state(db)->cluster_id == 0 || logdb_state(db)->last == 0) {
        err = mr_fail(detail, MR_E_NOTFOUND,
                      "%s holds no cluster's log: there is nothing to recover",
                      dir);
    } else {
        err = make_alone(db, advertise);
    }
    if (err == MR_OK) {
        mr_log_info("raft", "recovered as a cluster of one last_index=%llu",
                    (unsigned long long)logdb_state(db)->last);
    }
    raftlog_close(log);
    return err;
}
