#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Answers the HTTP requests of one connection on standard input: POST with
# {"name":"John"}. The connection stays open, as go-micro uses it again.
set -euo pipefail

# Sets length to that of the request's body; fails at the end of the input.
read_head() {
	local line
	length=0
	IFS= read -r line || return
	while IFS= read -r line && [[ ${line%$'\r'} ]]; do
		if [[ ${line,,} =~ ^content-length:\ *([0-9]{1,4})$'\r'?$ ]]; then
			length=${BASH_REMATCH[1]}
		fi
	done
}

answer() {
	printf 'HTTP/1.1 %s\r\nContent-Type: application/json\r\n' "$1"
	printf 'Content-Length: %s\r\n\r\n%s' "$(printf %s "$2" | wc -c)" "$2"
}

while read_head; do
	body=$(head -c "$length")
	if [[ $body =~ \"name\"\ *:\ *\"([^\"\\]*)\" ]]; then
		answer '200 OK' "{\"greeting\":\"Hello ${BASH_REMATCH[1]}, from the shell\"}"
	else
		answer '400 Bad Request' ''
	fi
done
