#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Tests of client-lib/go: vet, then the tests under the race detector, of the
# core and of the backend of each major version of go-micro, against servers
# that the tests start. Says what is missing and what was therefore not tested.
#
#   MICROREG=path        the server (build/microreg)
#   GREETER_ROUNDS=20    kills of a greeter's server for each transport (2)
#   MODULES="micro5"     only these backends
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../client-lib/go" || exit 1
export MICROREG=${MICROREG:-$PWD/../../build/microreg}
export GOFLAGS=${GOFLAGS:--buildvcs=false}
# Modules that have to be downloaded, and tests, may take so long.
DOWNLOAD_S=180
TEST_S=$((300 + ${GREETER_ROUNDS:-2} * 30))

failed=() skipped=()
run() {
	echo "---- $*"
	"$@" || failed+=("$*")
}

if ! command -v go >/dev/null; then
	echo "test-go: Go is missing, nothing was tested: install Go 1.25 or later (https://go.dev/dl)" >&2
	exit 1
fi
if [[ ! -x $MICROREG ]]; then
	echo "test-go: $MICROREG is missing: run make" >&2
	exit 1
fi

# The C transport needs a compiler and libcurl's header; net/http does not.
race=(-race)
if ! echo '#include <curl/curl.h>' | "${CC:-cc}" -E - >/dev/null 2>&1; then
	skipped+=("the C transport and the race detector: no C compiler or no libcurl (libcurl4-gnutls-dev)")
	export CGO_ENABLED=0
	race=()
fi
# Go's build cache does not see that a file changed which libmicroreg.c includes
# from outside of its folder: make its flags depend on them.
sources=$(cat ../*.[ch] | cksum | cut -d' ' -f1)
export CGO_CFLAGS="-g -O2 -DMICROREG_SOURCES=$sources"
test_here() {
	run go vet ./...
	run go test "${race[@]}" -count=1 -parallel 16 -timeout "${TEST_S}s" ./...
}

unformatted=$(gofmt -l .)
[[ -z $unformatted ]] || failed+=("gofmt: $unformatted")
test_here
# The build without cgo is another one: net/http alone.
run env CGO_ENABLED=0 go vet ./...
run env CGO_ENABLED=0 go test -count=1 -parallel 16 -timeout "${TEST_S}s" -run Conformance .

# The programs of tests/integration/test_fleet.py, of the benchmark and of the greeter.
for folder in ../../tests/fleet/* ../../tests/bench/go ../../examples/greeter/go; do
	pushd "$folder" >/dev/null || exit 1
	unformatted=$(gofmt -l .)
	[[ -z $unformatted ]] || failed+=("gofmt: $folder: $unformatted")
	if timeout "$DOWNLOAD_S" go mod download; then
		run go vet ./...
	else
		skipped+=("$folder: its modules cannot be downloaded (see above)")
	fi
	popd >/dev/null || exit 1
done

# The backends side by side: most of their time they wait for TTLs.
backend() {
	local name=$1 log=$2
	cd "$name" || return 1
	if ! timeout "$DOWNLOAD_S" go mod download >"$log" 2>&1; then
		return 77
	fi
	go vet ./... >>"$log" 2>&1 &&
		go test "${race[@]}" -count=1 -parallel 16 -timeout "${TEST_S}s" -v ./... >>"$log" 2>&1
}
declare -A pids logs
for name in ${MODULES:-micro6 micro5 micro4 micro2}; do
	logs[$name]=$(mktemp)
	backend "$name" "${logs[$name]}" &
	pids[$name]=$!
done
for name in "${!pids[@]}"; do
	wait "${pids[$name]}"
	status=$?
	echo "---- $name"
	case $status in
	0) grep -E '^(ok|    greeter.go)' "${logs[$name]}" ;;
	77)
		tail -n 3 "${logs[$name]}"
		skipped+=("$name: its modules cannot be downloaded (see above)")
		;;
	*)
		grep -vE '^ *(=== |--- (PASS|SKIP))' "${logs[$name]}" | tail -n 60
		failed+=("$name")
		;;
	esac
	rm -f "${logs[$name]}"
done

for one in "${skipped[@]}"; do echo "test-go: NOT TESTED: $one"; done
for one in "${failed[@]}"; do echo "test-go: FAILED: $one"; done
[[ ${#failed[@]} -eq 0 ]] && echo "test-go: ok"
