#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Answers one HTTP request on standard input: POST {"name":"John"}.
set -euo pipefail

length=0
while IFS= read -r line && [[ ${line%$'\r'} ]]; do
	line=${line%$'\r'}
	if [[ ${line,,} =~ ^content-length:\ *([0-9]{1,4})$ ]]; then
		length=${BASH_REMATCH[1]}
	fi
done
body=$(head -c "$length")
if [[ $body =~ \"name\"\ *:\ *\"([^\"\\]*)\" ]]; then
	status='200 OK'
	answer="{\"greeting\":\"Hello ${BASH_REMATCH[1]}, from the shell\"}"
else
	status='400 Bad Request'
	answer=''
fi
printf 'HTTP/1.1 %s\r\nContent-Type: application/json\r\n' "$status"
printf 'Content-Length: %s\r\nConnection: close\r\n\r\n%s' \
	"$(printf %s "$answer" | wc -c)" "$answer"
