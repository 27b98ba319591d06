/* SPDX-License-Identifier: Apache-2.0 */
/* thread: starting the service's threads, with small stacks. */
#ifndef MR_DNS_THREAD_H
#define MR_DNS_THREAD_H

#include <pthread.h>
#include <signal.h>

#include "base/err.h"

#define DNS_STACK_LEN ((size_t)256 * 1024)

/* Start @run(@arg) on a thread called @name (at most 15 bytes) that takes no
 * signals. MR_E_IO: the system has no thread to give. */
MR_MUST_CHECK static inline enum mr_err dns_thread_start(pthread_t *out_thread,
                                                         const char *name,
                                                         void *(*run)(void *),
                                                         void *arg)
{
    pthread_attr_t attr;
    sigset_t all;
    sigset_t old;
    int rc;

    if (pthread_attr_init(&attr) != 0) {
        return MR_E_NOMEM;
    }
    (void)sigfillset(&all); /* Cannot fail on a valid set. */
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_attr_setstacksize(&attr, DNS_STACK_LEN);
    if (rc == 0) {
        rc = pthread_create(out_thread, &attr, run, arg);
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void)pthread_attr_destroy(&attr);
    if (rc != 0) {
        return MR_E_IO;
    }
    (void)pthread_setname_np(*out_thread, name); /* Only for people. */
    return MR_OK;
}

#endif /* MR_DNS_THREAD_H */
