#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The greeter as a shell script that knows nothing but curl: it registers itself
# with a TTL check, says that it is well twice a TTL, and signs off at the end.
#
#   service.sh REGISTRY LISTEN_ADDRESS PORT
set -euo pipefail

REGISTRY=http://$1 ADDRESS=$2 PORT=$3
ID=greeter-sh-$$
TTL_S=4

cd "$(dirname "${BASH_SOURCE[0]}")"

put() {
	curl -sS -f -X PUT "$REGISTRY$1" "${@:2}"
}

# Each connection becomes the standard input and output of answer.sh.
listen() {
	exec perl -MIO::Socket::INET -e '
		$SIG{CHLD} = "IGNORE";
		my $all = IO::Socket::INET->new(LocalAddr => $ARGV[0], Listen => 16,
			LocalPort => $ARGV[1], ReuseAddr => 1) or die "listen: $!\n";
		while (1) {
			my $one = $all->accept or next;
			if (!fork) {
				open(STDIN, "<&", $one);
				open(STDOUT, ">&", $one);
				exec "./answer.sh";
			}
		}' "$ADDRESS" "$PORT"
}

listen &
listener=$!
trap 'kill "$listener"; put "/v1/agent/service/deregister/$ID"' EXIT
trap 'exit 0' INT TERM

register() {
	put /v1/agent/service/register -d @- <<-JSON
		{"ID": "$ID", "Name": "greeter", "Address": "$ADDRESS", "Port": $PORT,
		 "Meta": {"protocol": "http"},
		 "Check": {"TTL": "${TTL_S}s", "Status": "passing",
		           "DeregisterCriticalServiceAfter": "1m"}}
	JSON
}

register
echo "$ID is registered at $ADDRESS:$PORT"

# A registration that was lost, for whatever reason, is made again.
while sleep $((TTL_S / 2)) & wait $!; do
	put "/v1/agent/check/pass/service:$ID" 2>/dev/null || register ||
		echo "not renewed: trying again in $((TTL_S / 2)) s" >&2
done
