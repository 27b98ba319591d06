#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs shellcheck on every shell script of the repository, wherever it is.
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t files < <(git ls-files --cached --others --exclude-standard | while read -r file; do
	[[ -f $file ]] || continue
	IFS= read -r -n 64 first <"$file" 2>/dev/null || true
	[[ $first =~ ^#!.*(bash|/sh) || $file == *.sh ]] && echo "$file"
done)
[[ ${#files[@]} -gt 0 ]] || {
	echo "lint-shell: no file was seen" >&2
	exit 1
}
shellcheck "${files[@]}"
echo "lint-shell: ${#files[@]} files"
