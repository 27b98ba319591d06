/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one space of error codes, and the sentence that goes with a failure.
 *
 * Codes of other libraries stop at the module that owns the library. A code
 * says what kind of failure it is, so that a caller can decide; the optional
 * struct mr_detail carries the sentence a person can act on.
 */
#ifndef MR_BASE_ERR_H
#define MR_BASE_ERR_H

#define MR_MUST_CHECK __attribute__((warn_unused_result))
#define MR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

#define MR_ERR_MAP(X)                                                          \
    X(OK, "ok")                                                                \
    X(E_NOMEM, "out of memory")                                                \
    X(E_INVALID, "invalid input")                                              \
    X(E_NOTFOUND, "not found")                                                 \
    X(E_EXISTS, "exists already")                                              \
    X(E_IO, "input or output failed")                                          \
    X(E_NOSPACE, "no space left")                                              \
    X(E_CORRUPT, "stored data fails its checks")                               \
    X(E_VERSION, "written by a newer version")                                 \
    X(E_FOREIGN, "belongs to another server or cluster")                       \
    X(E_TOOBIG, "too large")                                                   \
    X(E_BUSY, "busy, try again later")                                         \
    X(E_NOLEADER, "no cluster leader")                                         \
    X(E_NOTLEADER, "not the leader")                                           \
    X(E_UNKNOWN, "outcome unknown: the leader changed while it was decided")   \
    X(E_TIMEOUT, "timed out")                                                  \
    X(E_CANCELED, "canceled")                                                  \
    X(E_CLOSED, "shutting down")                                               \
    X(E_ADDRESS, "address does not resolve")                                   \
    X(E_INUSE, "address in use")                                               \
    X(E_UNREACHABLE, "unreachable")

enum mr_err {
#define X(name, text) MR_##name,
    MR_ERR_MAP(X)
#undef X
};

/* The text of @err: static, lower case, without a full stop. */
const char *mr_strerror(enum mr_err err);

/* The name of @err ("MR_E_IO"): static. */
const char *mr_err_name(enum mr_err err);

/* A sentence about one failure. The caller owns it and passes NULL when it does
 * not care; it is untouched on success. */
struct mr_detail {
    char text[512];
};

/* Write a sentence into @detail (which may be NULL), cut to fit, and return
 * @err: `return mr_fail(detail, MR_E_IO, "cannot open %s", path)`. */
enum mr_err mr_fail(struct mr_detail *detail, enum mr_err err, const char *fmt,
                    ...) MR_PRINTF(3, 4);

/* Stop the process with a message when @cond is false. For our own mistakes
 * only, and never compiled out. */
#define mr_assert(cond)                                                        \
    ((cond) ? (void)0 : mr_assert_failed(#cond, __FILE__, __LINE__))

/* Report a broken assertion and abort. Use mr_assert(). */
void mr_assert_failed(const char *cond, const char *file, int line)
    __attribute__((noreturn));

#endif /* MR_BASE_ERR_H */
