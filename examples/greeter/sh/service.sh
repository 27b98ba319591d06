#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The greeter as a shell script that knows nothing but curl: it registers itself
# with a TTL check, says that it is well twice a TTL, and signs off at the end. It
# asks the registry's servers in turn until one does what it wants.
#
#   service.sh REGISTRY[,REGISTRY...] LISTEN_ADDRESS PORT
set -euo pipefail

IFS=, read -r -a REGISTRIES <<<"$1"
ADDRESS=$2 PORT=$3
ID=greeter-sh-$$
TTL_S=4

cd "$(dirname "${BASH_SOURCE[0]}")"

put() {
	local server
	for server in "${REGISTRIES[@]}"; do
		curl -sS -f -m 2 -X PUT "http://$server$1" "${@:2}" 2>/dev/null && return
	done
	return 1
}

# Each connection becomes the standard input and output of answer.sh. It ends
# with this script, also when that is killed.
listen() {
	exec perl -MIO::Socket::INET -e '
		$SIG{CHLD} = "IGNORE";
		my $script = getppid;
		$SIG{ALRM} = sub { exit if getppid != $script; alarm 1 };
		alarm 1;
		my $all = IO::Socket::INET->new(LocalAddr => $ARGV[0], Listen => 16,
			LocalPort => $ARGV[1], ReuseAddr => 1) or die "listen: $!\n";
		while (1) {
			my $one = $all->accept or next;
			if (!fork) {
				alarm 0;
				open(STDIN, "<&", $one);
				open(STDOUT, ">&", $one);
				exec "./answer.sh";
			}
		}' "$ADDRESS" "$PORT"
}

listen &
listener=$!
trap 'kill "$listener"; put "/v1/agent/service/deregister/$ID" || true' EXIT
trap 'exit 0' INT TERM

register() {
	put /v1/agent/service/register -d "{
		\"ID\": \"$ID\", \"Name\": \"greeter\",
		\"Address\": \"$ADDRESS\", \"Port\": $PORT,
		\"Meta\": {\"protocol\": \"http\"},
		\"Check\": {\"TTL\": \"${TTL_S}s\", \"Status\": \"passing\",
		            \"DeregisterCriticalServiceAfter\": \"1m\"}}"
}

register || { echo "no server of $1 takes it" >&2; exit 1; }
echo "$ID is registered at $ADDRESS:$PORT"

# A registration that was lost, for whatever reason, is made again.
while sleep $((TTL_S / 2)) & wait $!; do
	put "/v1/agent/check/pass/service:$ID" || register ||
		echo "not renewed: trying again in $((TTL_S / 2)) s" >&2
done
