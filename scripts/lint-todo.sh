#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A TODO names its issue, as in "TODO(#12)"; nothing else of that kind stays.
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t files < <(git ls-files -- '*.c' '*.h' '*.proto' '*.sh' '*.py' '*.md' \
	scripts ':!scripts/lint-todo.sh' | sort -u)
[[ ${#files[@]} -gt 0 ]] || {
	echo "lint-todo: no file was seen" >&2
	exit 1
}
if grep -nE '\b(TODO|FIXME|XXX|HACK)\b' "${files[@]}" /dev/null |
	grep -vE 'TODO\(#[0-9]+\)'; then
	echo "lint-todo: give each an issue, TODO(#12), or do it" >&2
	exit 1
fi
echo "lint-todo: ${#files[@]} files"
