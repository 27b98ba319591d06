-- SPDX-License-Identifier: Apache-2.0
-- GET of the path in BENCH_PATH.

dofile(os.getenv("BENCH_LUA") .. "/report.lua")
wrk.path = os.getenv("BENCH_PATH")
