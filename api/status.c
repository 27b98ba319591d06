/* SPDX-License-Identifier: Apache-2.0 */
/* From our errors to HTTP's; a switch without default, so that the compiler
 * names the code that someone forgot. */
#include "api/status.h"

#include <stddef.h>

struct api_status api_status_of(enum mr_err err)
{
    switch (err) {
    case MR_OK:
        return (struct api_status){200, "", NULL};
    case MR_E_NOLEADER:
    case MR_E_NOTLEADER:
        return (struct api_status){500, "No cluster leader", NULL};
    case MR_E_UNKNOWN:
        return (struct api_status){
            500,
            "The leader changed while this was decided: it may or may not "
            "have been applied",
            NULL};
    case MR_E_CLOSED:
        return (struct api_status){
            503,
            "This server is shutting down: a write may or may not have been "
            "applied",
            "1"};
    case MR_E_CANCELED:
        return (struct api_status){503, "This server is shutting down", "1"};
    case MR_E_BUSY:
        return (struct api_status){
            503, "Too many requests are waiting, nothing was changed", "1"};
    case MR_E_NOSPACE:
        return (struct api_status){503, "The disk is full, nothing was changed",
                                   "5"};
    case MR_E_NOMEM:
        return (struct api_status){503, "Out of memory", "1"};
    case MR_E_TIMEOUT:
        return (struct api_status){500, "Timed out waiting for the cluster",
                                   NULL};
    case MR_E_TOOBIG:
        return (struct api_status){
            413, "Request is too large, nothing was changed", NULL};
    case MR_E_INVALID:
        return (struct api_status){400, "Invalid input", NULL};
    case MR_E_NOTFOUND:
        return (struct api_status){404, "Not found", NULL};
    case MR_E_EXISTS:
        return (struct api_status){409, "Exists already", NULL};
    case MR_E_IO:
        return (struct api_status){500, "Input or output failed", NULL};
    case MR_E_CORRUPT:
        return (struct api_status){500, "Stored data fails its checks", NULL};
    case MR_E_VERSION:
    case MR_E_FOREIGN:
    case MR_E_ADDRESS:
    case MR_E_INUSE:
    case MR_E_UNREACHABLE:
        return (struct api_status){500, mr_strerror(err), NULL};
    }
    return (struct api_status){500, "Internal error", NULL};
}
