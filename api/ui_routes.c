/* SPDX-License-Identifier: Apache-2.0 */
/* The web page: one file without dependencies that reads this API. */
#include "api/handlers.h"

/* What a browser needs to show nodes, services and their health. Values are
 * set as text nodes only, so no name can become markup. */
static const char page[] =
    "<!doctype html>\n"
    "<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
    "<title>microreg</title>\n"
    "<style>\n"
    "body{font:15px/1.5 sans-serif;margin:2em auto;max-width:60em;"
    "padding:0 1em;color:#222}\n"
    "table{border-collapse:collapse;width:100%}\n"
    "th,td{text-align:left;padding:.3em .6em;border-bottom:1px solid #ddd;"
    "vertical-align:top}\n"
    ".passing{color:#17702a}.warning{color:#9a6700}.critical{color:#b3261e}\n"
    "</style></head><body>\n"
    "<h1>microreg</h1><p id=\"cluster\"></p>\n"
    "<h2>Services</h2><table id=\"services\"></table>\n"
    "<h2>Nodes</h2><table id=\"nodes\"></table>\n"
    "<script>\n"
    "'use strict';\n"
    "const get = async (path) => (await fetch(path)).json();\n"
    "function fill(id, head, rows) {\n"
    "  const table = document.getElementById(id);\n"
    "  const add = (tag, cells) => {\n"
    "    const row = table.insertRow();\n"
    "    for (const [text, style] of cells) {\n"
    "      const cell = document.createElement(tag);\n"
    "      cell.textContent = text;\n"
    "      cell.className = style || '';\n"
    "      row.append(cell);\n"
    "    }\n"
    "  };\n"
    "  table.replaceChildren();\n"
    "  add('th', head.map((text) => [text]));\n"
    "  rows.forEach((cells) => add('td', cells));\n"
    "}\n"
    "const worst = (checks) => ['critical', 'warning'].find((status) =>\n"
    "  checks.some((check) => check.Status === status)) || 'passing';\n"
    "async function show() {\n"
    "  const checks = await get('/v1/health/state/any?stale');\n"
    "  const services = await get('/v1/catalog/services?stale');\n"
    "  const nodes = await get('/v1/catalog/nodes?stale');\n"
    "  const leader = await get('/v1/status/leader');\n"
    "  document.getElementById('cluster').textContent =\n"
    "    'Leader: ' + (leader || 'none');\n"
    "  fill('services', ['Service', 'Tags', 'Health'],\n"
    "    Object.keys(services).sort().map((name) => {\n"
    "      const status = worst(checks.filter((check) =>\n"
    "        check.ServiceName === name));\n"
    "      return [[name], [services[name].join(', ')], [status, status]];\n"
    "    }));\n"
    "  fill('nodes', ['Node', 'Address', 'Health'], nodes.map((node) => {\n"
    "    const status = worst(checks.filter((check) =>\n"
    "      check.Node === node.Node && check.ServiceID === ''));\n"
    "    return [[node.Node], [node.Address], [status, status]];\n"
    "  }));\n"
    "}\n"
    "const again = () => show().catch((error) => {\n"
    "  document.getElementById('cluster').textContent = String(error);\n"
    "}).then(() => setTimeout(again, 3000));\n"
    "again();\n"
    "</script></body></html>\n";

enum mr_err api_ui(struct api_request *req, struct mr_kv_view *view,
                   struct mr_buf *out)
{
    (void)view;
    req->reply.type = "text/html; charset=utf-8";
    api_reply_header(req, "Content-Security-Policy",
                     "default-src 'self'; script-src 'unsafe-inline'; "
                     "style-src 'unsafe-inline'; frame-ancestors 'none'");
    mr_buf_str(out, page);
    return MR_OK;
}
