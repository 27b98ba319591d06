#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A microreg cluster on this machine: one loopback address a server and the
# standard ports on each (127.0.0.1:8500, 127.0.0.2:8500, ...).
#
#   cluster.sh start [N]     install what is missing, build, start N servers (3),
#                            wait for a leader, register the greeter by HTTP PUT,
#                            resolve it by dig
#   cluster.sh status        a line a server: address, role, term, revision, pid
#   cluster.sh kill|pause|resume|restart <n|leader|follower|a1>
#   cluster.sh stop          stop all, keep the data
#   cluster.sh clean         stop all, remove data and logs
#   cluster.sh logs <n|a1>   the log of one server or agent
#
#   --net 127.1.0     other addresses (127.1.0.1 ...), to run clusters side by side
#   --dir DIR         data, logs, pids (default build/cluster)
#   --agents M        M agents without -server beside the servers: a1, a2 ... on
#                     the addresses .101, .102 ... with the same ports
#   --flags "..."     passed to every `microreg agent`
#
# MICROREG=path uses that binary and builds nothing.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
HTTP_PORT=8500
DNS_PORT=8600
RPC_PORT=8300
LEADER_WAIT_S=30
STOP_WAIT_S=15

die() {
	echo "cluster.sh: $*" >&2
	exit 1
}

usage() {
	sed -n '3,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"
	exit "$1"
}

# ---- arguments ---------------------------------------------------------------

net='' dir='' agents=0 flags=''
words=()
while [[ $# -gt 0 ]]; do
	case $1 in
	--net | --dir | --agents | --flags)
		[[ $# -ge 2 ]] || die "$1 wants a value"
		printf -v "${1#--}" %s "$2"
		shift 2
		;;
	-h | --help | help) usage 0 ;;
	--*) die "unknown option $1 (see --help)" ;;
	*)
		words+=("$1")
		shift
		;;
	esac
done
[[ ${#words[@]} -gt 0 ]] || usage 2 >&2
command=${words[0]}
argument=${words[1]:-}
[[ ${#words[@]} -le 2 ]] || die "too many arguments: ${words[*]:2}"
if [[ -n $net && ! $net =~ ^127\.[0-9]{1,3}\.[0-9]{1,3}$ ]]; then
	die "--net wants the first three numbers of a loopback address, such as 127.1.0"
fi
[[ $agents =~ ^[0-9]+$ ]] || die "--agents wants a number"
# Two nets are two clusters, so each has a folder of its own.
if [[ -z $dir ]]; then
	dir=$ROOT/build/cluster${net:+-$net}
fi
mkdir -p "$(dirname "$dir")"
dir=$(cd "$(dirname "$dir")" && pwd)/$(basename "$dir")
conf=$dir/cluster.conf
binary=${MICROREG:-$ROOT/build/microreg}

# What `start` decided, for the commands after it.
n_servers=0
load_conf() {
	[[ -r $conf ]] || die "no cluster in $dir: run cluster.sh start"
	{
		read -r net
		read -r n_servers
		read -r agents
		read -r flags || true
	} <"$conf"
}

save_conf() {
	printf '%s\n' "$net" "$n_servers" "$agents" "$flags" >"$conf"
}

# ---- one server --------------------------------------------------------------

# The members, agents first: they leave while there are servers to tell.
names_to_stop() {
	names | tac
}

# Members are named n1, n2 ... (servers) and a1, a2 ... (agents).
names() {
	local i
	for ((i = 1; i <= n_servers; i++)); do echo "n$i"; done
	for ((i = 1; i <= agents; i++)); do echo "a$i"; done
}

address() {
	case $1 in
	n*) echo "$net.${1#n}" ;;
	a*) echo "$net.$((100 + ${1#a}))" ;;
	esac
}

# The pid of a running member, or nothing. The command line is looked at too,
# because the number may belong to another process by now.
pid_of() {
	local pid
	pid=$(cat "$dir/$1.pid" 2>/dev/null) || return 0
	if grep -qzxF -- "-data-dir=$dir/$1" "/proc/$pid/cmdline" 2>/dev/null; then
		echo "$pid"
	fi
}

is_paused() {
	grep -q '^State:.*[Tt] (' "/proc/$1/status" 2>/dev/null
}

launch() {
	local name=$1 at args i
	at=$(address "$name")
	args=(agent "-node=$name" "-bind=$at" "-client=$at" "-advertise=$at"
		"-data-dir=$dir/$name" "-pid-file=$dir/$name.pid")
	if [[ $name == n* ]]; then
		args+=(-server "-bootstrap-expect=$n_servers")
	fi
	for ((i = 1; i <= n_servers; i++)); do
		args+=("-retry-join=$net.$i")
	done
	# shellcheck disable=SC2206 # the user's flags are words
	args+=($flags)
	echo "---- $(date '+%F %T') $binary ${args[*]}" >>"$dir/$name.log"
	setsid "$binary" "${args[@]}" </dev/null >>"$dir/$name.log" 2>&1 &
	echo $! >"$dir/$name.pid"
	disown
}

# One value of /v1/agent/self and its like: json URL PATH.TO.MEMBER
json() {
	curl -sf --max-time 2 "$1" 2>/dev/null | python3 -c '
import json, sys
try:
    value = json.load(sys.stdin)
    for name in sys.argv[1].split(".") if sys.argv[1] else []:
        value = value[name]
    print(value)
except (ValueError, KeyError, TypeError):
    sys.exit(1)' "$2"
}

# The name of the server that says it leads; the highest term wins, because an
# old leader that was just resumed may say so as well.
leader_name() {
	local name best='' best_term=-1 at state term
	for name in $(names); do
		[[ $name == n* && -n $(pid_of "$name") ]] || continue
		is_paused "$(pid_of "$name")" && continue
		at=$(address "$name")
		state=$(json "http://$at:$HTTP_PORT/v1/agent/self" Stats.raft.state) || continue
		term=$(json "http://$at:$HTTP_PORT/v1/agent/self" Stats.raft.term) || term=0
		if [[ $state == Leader && $term -gt $best_term ]]; then
			best=$name
			best_term=$term
		fi
	done
	echo "$best"
}

# The member that <n|n1|a1|leader|follower> means.
select_member() {
	local leader name
	case $1 in
	'') die "which one? <n|leader|follower>" ;;
	leader | follower)
		leader=$(leader_name)
		[[ -n $leader ]] || die "there is no leader now"
		if [[ $1 == leader ]]; then
			echo "$leader"
			return
		fi
		for name in $(names); do
			if [[ $name == n* && $name != "$leader" && -n $(pid_of "$name") ]]; then
				echo "$name"
				return
			fi
		done
		die "there is no follower"
		;;
	*)
		name=$1
		[[ $name =~ ^[0-9]+$ ]] && name=n$name
		names | grep -qx -- "$name" || die "no member $1 (there are: $(names | tr '\n' ' '))"
		echo "$name"
		;;
	esac
}

# The running pid of a member, or an error.
need_pid() {
	local pid
	pid=$(pid_of "$1")
	[[ -n $pid ]] || die "$1 is not running"
	echo "$pid"
}

# Wait until the condition holds: wait_for SECONDS COMMAND...
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[[ $SECONDS -lt $end ]] || return 1
		sleep 0.1
	done
}

is_gone() {
	[[ -z $(pid_of "$1") ]]
}

stop_member() {
	local pid
	pid=$(pid_of "$1")
	[[ -n $pid ]] || return 0
	kill -CONT "$pid" 2>/dev/null || true
	kill -TERM "$pid" 2>/dev/null || true
	if ! wait_for "$STOP_WAIT_S" is_gone "$1"; then
		echo "$1 did not stop in $STOP_WAIT_S s: killed"
		kill -KILL "$pid" 2>/dev/null || true
	fi
}

# ---- commands ----------------------------------------------------------------

# Every server names the same leader.
has_leader() {
	local name at leader first=''
	for name in $(names); do
		[[ $name == n* ]] || continue
		if is_gone "$name"; then
			echo "---- $name ended. The end of $dir/$name.log:" >&2
			tail -n 15 "$dir/$name.log" >&2
			exit 1
		fi
		at=$(address "$name")
		leader=$(json "http://$at:$HTTP_PORT/v1/status/leader" '') || return 1
		[[ -n $leader && $leader == "${first:=$leader}" ]] || return 1
	done
}

# Its HTTP port answers; an agent needs a moment to find the servers.
is_ready() {
	curl -sf --max-time 2 -o /dev/null "http://$1:$HTTP_PORT/v1/catalog/nodes"
}

resolves_greeter() {
	[[ -n $(dig "@$1" -p "$DNS_PORT" +short +time=1 +tries=1 greeter.service.micro srv) ]]
}

# Show a command the way the reader would type it, then run it.
show() {
	local word
	printf '\n$'
	for word in "$@"; do
		[[ $word =~ ^[A-Za-z0-9_./:@=+-]+$ ]] || word="'$word'"
		printf ' %s' "$word"
	done
	echo
	"$@"
}

start() {
	local name at last
	if [[ -r $conf ]]; then
		for name in $(load_conf && names); do
			(load_conf && [[ -z $(pid_of "$name") ]]) || die "the cluster in $dir is running: cluster.sh stop"
		done
	fi
	n_servers=${argument:-3}
	[[ $agents -le 100 ]] || die "start takes up to 100 agents, not $agents"
	[[ $n_servers =~ ^[1-9]$ ]] || die "start wants 1 to 9 servers, not '$n_servers'"
	net=${net:-127.0.0}
	if [[ -z ${MICROREG:-} ]]; then
		"$ROOT/scripts/deps.sh" --quiet
		make -C "$ROOT" --no-print-directory
	fi
	[[ -x $binary ]] || die "$binary is missing"
	mkdir -p "$dir"
	save_conf

	if [[ $agents -eq 0 ]]; then
		echo "Starting $n_servers servers in $dir"
	else
		echo "Starting $n_servers servers and $agents agents in $dir"
	fi
	for name in $(names); do launch "$name"; done
	wait_for "$LEADER_WAIT_S" has_leader || die "no leader after $LEADER_WAIT_S s: see $dir/*.log"
	echo
	status

	last=$(names | tail -n 1)
	last=$(address "$last")
	wait_for 10 is_ready "$last" || die "$last does not answer"
	show curl -sS -f -X PUT -d '{"Name":"greeter","Port":8080}' \
		"http://$last:$HTTP_PORT/v1/agent/service/register"
	for name in $(names); do
		at=$(address "$name")
		wait_for 10 resolves_greeter "$at" || die "$at does not resolve greeter.service.micro"
		show dig "@$at" -p "$DNS_PORT" +short greeter.service.micro srv
	done
	echo
	echo "HTTP $(address n1):$HTTP_PORT, DNS $(address n1):$DNS_PORT, RPC $(address n1):$RPC_PORT, and the same on $(
		names | tail -n +2 | while read -r name; do address "$name"; done | paste -sd' '
	)"
	echo "Next: cluster.sh status | kill leader | logs 1 | stop"
}

status() {
	local name at pid role term revision leader
	# The last column: who leads, as a server says; the server that an agent uses.
	printf '%-5s %-16s %-10s %-6s %-10s %-8s %s\n' name address role term revision pid leader
	for name in $(names); do
		at=$(address "$name")
		pid=$(pid_of "$name")
		role=- term=- revision=- leader=-
		if [[ -z $pid ]]; then
			role=down
		elif is_paused "$pid"; then
			role=paused
		elif [[ $name == a* ]]; then
			role=agent
			leader=$(json "http://$at:$HTTP_PORT/v1/agent/self" Stats.link.server) || leader=no-answer
			leader=${leader:-none}
		else
			read -r role term revision leader < <(server_state "$at") || true
		fi
		printf '%-5s %-16s %-10s %-6s %-10s %-8s %s\n' \
			"$name" "$at" "$role" "$term" "$revision" "${pid:--}" "$leader"
	done
}

# Role, term, revision and leader of one server, in one line.
server_state() {
	curl -sf --max-time 2 "http://$1:$HTTP_PORT/v1/agent/self" \
		"http://$1:$HTTP_PORT/v1/status/leader" 2>/dev/null | python3 -c '
import json, sys
text = sys.stdin.read()
try:
    own, end = json.JSONDecoder().raw_decode(text)
    leader, _ = json.JSONDecoder().raw_decode(text[end:].strip())
    stats = own["Stats"]
    raft = stats.get("raft", {})
    print(raft.get("state", "-").lower(), raft.get("term", "-"),
          stats.get("kv", {}).get("revision", "-"), leader or "none")
except ValueError:
    print("no-answer - - -")'
}

case $command in
start) start ;;
status)
	load_conf
	status
	;;
kill)
	load_conf
	name=$(select_member "$argument")
	kill -KILL "$(need_pid "$name")"
	wait_for 5 is_gone "$name" || die "$name is still there"
	echo "$name ($(address "$name")) killed"
	;;
pause)
	load_conf
	name=$(select_member "$argument")
	kill -STOP "$(need_pid "$name")"
	echo "$name ($(address "$name")) paused"
	;;
resume)
	load_conf
	name=$argument
	# A paused server tells nobody whether it leads.
	[[ $name != leader && $name != follower ]] || name=$(for n in $(names); do
		pid=$(pid_of "$n")
		if [[ -n $pid ]] && is_paused "$pid"; then
			echo "$n"
			break
		fi
	done)
	[[ -n $name ]] || die "nothing is paused"
	name=$(select_member "$name")
	kill -CONT "$(need_pid "$name")"
	echo "$name ($(address "$name")) resumed"
	;;
restart)
	load_conf
	[[ -x $binary ]] || die "$binary is missing"
	name=$(select_member "$argument")
	stop_member "$name"
	launch "$name"
	echo "$name ($(address "$name")) started"
	;;
stop)
	load_conf
	for name in $(names_to_stop); do stop_member "$name"; done
	echo "stopped; the data is in $dir"
	;;
clean)
	if [[ ! -e $conf ]]; then
		echo "no cluster in $dir"
		exit 0
	fi
	load_conf
	for name in $(names_to_stop); do stop_member "$name"; done
	for name in $(names); do
		rm -rf "${dir:?}/$name" "$dir/$name.pid" "$dir/$name.log"
	done
	rm -f "$conf"
	rmdir "$dir" 2>/dev/null || true
	echo "removed $dir"
	;;
logs)
	load_conf
	name=$(select_member "$argument")
	cat "$dir/$name.log"
	;;
*)
	echo "cluster.sh: unknown command $command" >&2
	usage 2 >&2
	;;
esac
