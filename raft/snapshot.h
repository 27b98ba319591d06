/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshot files: the state machine's bytes in blocks, each with its hash, and
 * a hash over all at the end.
 *
 * A file has a number for a name and never changes once it has it: it is
 * written under another name, synced and renamed. Which one is in force, at
 * which index and with which configuration, is said by the log's record.
 *
 * Threads: any; one writer or reader belongs to one thread at a time.
 */
#ifndef RAFT_SNAPSHOT_H
#define RAFT_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

#define SNAPSHOT_BLOCK_MAX (64 * 1024)
#define SNAPSHOT_HEAD_BYTES 48

struct snapshot_writer;
struct snapshot_reader;

/* What a file says of itself. */
struct snapshot_head {
    uint64_t index;
    uint64_t term;
};

/* Make the folder @dir if it is missing, remove unfinished files and all
 * finished ones but @keep (0: none), and give the highest number found.
 * MR_E_IO, MR_E_NOSPACE. */
MR_MUST_CHECK enum mr_err snapshot_dir_open(const char *dir, uint64_t keep,
                                            uint64_t *out_highest,
                                            struct mr_detail *detail);

/* Remove the file @file. One that is not there is fine. */
void snapshot_remove(const char *dir, uint64_t file);

/* Begin the file @file. The caller releases *@out_writer with
 * snapshot_writer_finish() or snapshot_writer_abort().
 * MR_E_IO, MR_E_NOSPACE, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err snapshot_writer_open(const char *dir, uint64_t file,
                                               struct snapshot_writer **out);

/* Write the head, once, before anything else. As snapshot_write(). */
MR_MUST_CHECK enum mr_err snapshot_write_head(struct snapshot_writer *w,
                                              struct snapshot_head head);

/* Append bytes of the state. MR_E_IO, MR_E_NOSPACE. */
MR_MUST_CHECK enum mr_err snapshot_write(struct snapshot_writer *w,
                                         struct mr_slice bytes);

/* Append bytes of a file as they are: the receiving end of a transfer. */
MR_MUST_CHECK enum mr_err snapshot_write_raw(struct snapshot_writer *w,
                                             struct mr_slice bytes);

/* Write the end, sync, give the file its name, sync the folder, and release
 * the writer, whatever comes of it. A raw file is verified before.
 * MR_E_CORRUPT: a raw file fails its checks. MR_E_IO, MR_E_NOSPACE. */
MR_MUST_CHECK enum mr_err snapshot_writer_finish(struct snapshot_writer *w);

/* Release the writer and what it wrote. NULL is a no-op. */
void snapshot_writer_abort(struct snapshot_writer *w);

/* Open the file @file and check its head. The caller releases *@out_reader
 * with snapshot_reader_close().
 * MR_E_NOTFOUND, MR_E_CORRUPT, MR_E_VERSION, MR_E_IO, MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err snapshot_reader_open(const char *dir, uint64_t file,
                                               struct snapshot_reader **out,
                                               struct mr_detail *detail);

/* The head of the open file. */
struct snapshot_head snapshot_reader_head(const struct snapshot_reader *r);

/* Read up to @cap bytes of the state; 0 bytes: the end, and all hashes fit.
 * MR_E_CORRUPT, MR_E_IO. */
MR_MUST_CHECK enum mr_err snapshot_read(struct snapshot_reader *r, void *out,
                                        size_t cap, size_t *out_len);

/* Read up to @cap bytes of the file as it is; 0 bytes: the end. Not together
 * with snapshot_read(). MR_E_IO. */
MR_MUST_CHECK enum mr_err snapshot_read_raw(struct snapshot_reader *r,
                                            void *out, size_t cap,
                                            size_t *out_len);

/* Release the reader; NULL is a no-op. */
void snapshot_reader_close(struct snapshot_reader *r);

/* Read the whole file and check every hash. Errors as the reader's. */
MR_MUST_CHECK enum mr_err snapshot_verify(const char *dir, uint64_t file,
                                          struct mr_detail *detail);

/* Check a head's bytes: what the reader does first, for the fuzzer. */
MR_MUST_CHECK enum mr_err snapshot_parse_head(struct mr_slice bytes,
                                              struct snapshot_head *out_head);

#endif /* RAFT_SNAPSHOT_H */
