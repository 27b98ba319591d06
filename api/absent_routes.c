/* SPDX-License-Identifier: Apache-2.0 */
/* Features that hold nothing here: Connect's intentions and config entries.
 * Reading them truthfully finds none; writing them is refused by the table. */
#include <string.h>

#include "api/handlers.h"
#include "base/mem.h"

enum mr_err api_intentions_list(struct api_request *req,
                                struct mr_kv_view *view, struct mr_buf *out)
{
    (void)req;
    (void)view;
    mr_buf_str(out, "[]");
    return MR_OK;
}

/* False: answered that the parameter is missing. */
static bool require(struct api_request *req, const char *name)
{
    const char *value = api_query(req, name);

    return (value != NULL && value[0] != '\0') ||
           api_error(req, 500, "required query parameter '%s' not set", name);
}

bool api_intentions_check_prepare(struct api_request *req)
{
    return require(req, "source") && require(req, "destination");
}

enum mr_err api_intentions_check(struct api_request *req,
                                 struct mr_kv_view *view, struct mr_buf *out)
{
    (void)req;
    (void)view;
    mr_buf_str(out, "{\"Allowed\":true}"); /* Nothing forbids anything. */
    return MR_OK;
}

bool api_intentions_match_prepare(struct api_request *req)
{
    return require(req, "by") && require(req, "name");
}

enum mr_err api_intentions_match(struct api_request *req,
                                 struct mr_kv_view *view, struct mr_buf *out)
{
    struct mr_json j;

    (void)view;
    mr_json_init(&j, out);
    mr_json_object(&j);
    mr_json_key(&j, api_query(req, "name"));
    mr_json_null(&j);
    mr_json_object_end(&j);
    return MR_OK;
}

/* ------------------------------------------------------------- config */

bool api_config_prepare(struct api_request *req)
{
    static const char *const kinds[] = {
        "service-defaults",    "service-resolver", "service-router",
        "service-splitter",    "proxy-defaults",   "ingress-gateway",
        "terminating-gateway",
    };
    size_t len = strcspn(req->arg, "/");

    for (size_t i = 0; i < MR_ARRAY_LEN(kinds); i++) {
        if (strlen(kinds[i]) == len && strncmp(kinds[i], req->arg, len) == 0) {
            return true;
        }
    }
    return api_error(req, 500, "invalid config entry kind: %.*s", (int)len,
                     req->arg);
}

enum mr_err api_config_get(struct api_request *req, struct mr_kv_view *view,
                           struct mr_buf *out)
{
    size_t len = strcspn(req->arg, "/");

    (void)view;
    if (req->arg[len] == '\0') {
        mr_buf_str(out, "[]");
        return MR_OK;
    }
    req->reply.status = 404;
    req->reply.type = API_TYPE_TEXT;
    mr_buf_printf(out, "Config entry not found for \"%.*s\" / \"%s\"", (int)len,
                  req->arg, req->arg + len + 1);
    return MR_OK;
}
