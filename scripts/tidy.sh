#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# clang-tidy on some files: tidy.sh CLANG-TIDY "FLAGS" FILE...
set -euo pipefail
tidy=$1
read -ra flags <<<"$2"
shift 2
# "N warnings generated" counts those of system headers, which nobody sees.
"$tidy" --quiet --warnings-as-errors='*' "$@" -- "${flags[@]}" 2> >(grep -vE '^[0-9]+ warnings? (generated|treated)' >&2)
