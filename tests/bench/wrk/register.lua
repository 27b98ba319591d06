-- SPDX-License-Identifier: Apache-2.0
-- PUT /v1/catalog/register: BENCH_SERVICES services with BENCH_INSTANCES each,
-- spread over as many nodes as there are services, from number BENCH_FIRST on.
-- A later pass over the same instances changes their ports.

dofile(os.getenv("BENCH_LUA") .. "/report.lua")
local services = tonumber(os.getenv("BENCH_SERVICES"))
local instances = tonumber(os.getenv("BENCH_INSTANCES"))
local base_port = tonumber(os.getenv("BENCH_PORT") or "1000")
local sent = tonumber(os.getenv("BENCH_FIRST") or "0")

local body = '{"Node":"node-%d","Address":"10.0.%d.%d","Service":{"ID":"svc-%d-%d",'
   .. '"Service":"svc-%d","Tags":["v1","zone-%d"],"Port":%d,"Meta":{"version":"1.0"}}}'

function request()
   local i = sent % (services * instances)
   local port = base_port + math.floor(sent / (services * instances)) + i % 1000
   sent = sent + 1
   local service = i % services
   local instance = math.floor(i / services)
   local node = (service + instance * 7) % services
   return wrk.format("PUT", "/v1/catalog/register", nil, string.format(
      body, node, math.floor(node / 250), node % 250, service, instance, service,
      instance % 3, port))
end
