-- SPDX-License-Identifier: Apache-2.0
-- PUT of values of 256 bytes under a thousand keys in turn.

dofile(os.getenv("BENCH_LUA") .. "/report.lua")
local value = string.rep("v", 256)
local requests = {}
local n = 0

function init(_)
   for i = 1, 1000 do
      requests[i] = wrk.format("PUT", "/v1/kv/bench/key" .. i, nil, value)
   end
end

function request()
   n = n % #requests + 1
   return requests[n]
end
