-- SPDX-License-Identifier: Apache-2.0
-- Renewals, one lease a request: BENCH_FILE has a line "path<tab>body" for each.

dofile(os.getenv("BENCH_LUA") .. "/report.lua")
local requests = {}
local n = 0

function init(_)
   for line in io.lines(os.getenv("BENCH_FILE")) do
      local path, body = line:match("^([^\t]*)\t(.*)$")
      requests[#requests + 1] = wrk.format("PUT", path, nil, body)
   end
end

function request()
   n = n % #requests + 1
   return requests[n]
end
