#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The whole greeter: three servers of microreg, a greeter in Go (go-micro), one
# in C (libmicroreg) and one in shell (curl), found by go-micro, by C, by HTTP and
# by DNS; then one of them is killed, and everybody knows.
#
#   run.sh [--net 127.77.0]   the servers are .1 .2 .3 of this net, the greeters .50
set -euo pipefail

NET=127.77.0
case ${1-} in
--net) NET=${2?--net wants a value} ;;
?*)
	sed -n '4,9s/^# \{0,1\}//p' "$0"
	exit 1
	;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")"
ROOT=$(cd ../.. && pwd)
BUILD=$ROOT/build/greeter
DATA=$(mktemp -d)
REGISTRIES=$NET.1:8500,$NET.2:8500,$NET.3:8500
HOST=$NET.50
TTL_S=3
pids=()

die() {
	echo "run.sh: $*" >&2
	exit 1
}

say() {
	printf '\n# %s\n' "$*"
}

show() {
	printf '$ %s\n' "$*"
	"$@"
}

finish() {
	local pid
	for pid in "${pids[@]}"; do
		kill "$pid" 2>/dev/null || true
	done
	wait
	"$ROOT/scripts/cluster.sh" clean --net "$NET" --dir "$DATA" >/dev/null 2>&1
	rm -rf "$DATA"
}

# Starts a command in the background; what it says goes to a file.
start() {
	local name=$1
	shift
	printf '$ %s &\n' "$*"
	"$@" >"$DATA/$name.log" 2>&1 &
	pids+=($!)
}

# Waits until a command succeeds.
wait_for() {
	local seconds=$1 end
	shift
	end=$((SECONDS + seconds))
	until "$@" >/dev/null 2>&1; do
		if [[ $SECONDS -gt $end ]]; then
			tail -n 20 "$DATA"/*.log >&2
			die "not within $seconds s: $*"
		fi
		sleep 0.1
	done
}

# Whether so many greeters are known to a server.
greeters() {
	[[ $(dig "@$NET.$1" -p 8600 +short +tcp greeter.service.micro srv | wc -l) == "$2" ]]
}

build() {
	local missing=()
	for tool in go cc curl dig perl; do
		command -v "$tool" >/dev/null || missing+=("$tool")
	done
	[[ ${#missing[@]} == 0 ]] || die "missing here: ${missing[*]}"
	mkdir -p "$BUILD"
	# Go does not see by itself that the C library has changed.
	CGO_CFLAGS="-g -O2 -DMICROREG_SOURCES=$(cat "$ROOT"/client-lib/*.[ch] | cksum | cut -d' ' -f1)"
	export CGO_CFLAGS
	(cd go && go build -o "$BUILD/go-service" ./service &&
		go build -o "$BUILD/go-client" ./client)
	make -s -C "$ROOT" "BUILD=$ROOT/build" greeter
}

say "build"
build
trap finish EXIT
trap 'exit 1' INT TERM

say "three servers"
"$ROOT/scripts/cluster.sh" start --net "$NET" --dir "$DATA" >"$DATA/start.log" ||
	die "the servers do not start: $(tail -n 3 "$DATA/start.log")"
# cluster.sh registers a greeter that is not there, for a first look at dig.
curl -sS -f -X PUT "$NET.3:8500/v1/agent/service/deregister/greeter"
"$ROOT/scripts/cluster.sh" status --net "$NET" --dir "$DATA"

say "three greeters"
start go "$BUILD/go-service" --registry=microreg \
	"--registry_address=$REGISTRIES" "--server_address=$HOST:0" \
	"--register_ttl=$TTL_S" --register_interval=1
go_service=$!
start c "$BUILD/c-service" "$REGISTRIES" "$HOST"
start sh ./sh/service.sh "$REGISTRIES" "$HOST" 7001
wait_for 15 greeters 2 3
start watch "$BUILD/c-client" -w "$REGISTRIES"

say "found by go-micro, and called"
show "$BUILD/go-client" --registry=microreg "--registry_address=$REGISTRIES" \
	2>"$DATA/go-client.log" || die "$(tail -n 1 "$DATA/go-client.log")"

say "found by C, and called"
show "$BUILD/c-client" "$REGISTRIES"

say "found by HTTP"
show curl -sS -f "http://$NET.1:8500/registry?service=greeter"
echo

say "found by DNS"
show dig "@$NET.2" -p 8600 +short greeter.service.micro srv

say "the greeter in Go is killed: gone within $TTL_S s and one more"
show kill -9 "$go_service"
wait "$go_service" 2>/dev/null || true
killed=$SECONDS
wait_for $((TTL_S + 2)) greeters 1 2
wait_for 2 greeters 2 2
wait_for 2 grep -q '^delete greeter-[0-9a-f]*-' "$DATA/watch.log"
echo "gone after $((SECONDS - killed)) s; the watcher in C was told:"
cat "$DATA/watch.log"

say "the leader of the registry is killed too: the others are still found"
"$ROOT/scripts/cluster.sh" kill leader --net "$NET" --dir "$DATA"
sleep $((TTL_S + 2))
show "$BUILD/c-client" "$REGISTRIES"
show "$BUILD/go-client" --registry=microreg "--registry_address=$REGISTRIES" \
	2>"$DATA/go-client.log" || die "$(tail -n 1 "$DATA/go-client.log")"

say "all of it works"
