#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Run fuzz targets, each for a while: fuzz.sh SECONDS OUT TARGET...
#
# What is found interesting goes to OUT/corpus/<input>/, crashes to
# OUT/crashes/<input>-*; copy a crash into tests/fuzz/corpus/<input>/ with its fix.
set -euo pipefail
seconds=$1
out=$2
shift 2
[[ $# -gt 0 ]] || {
	echo "fuzz: no target" >&2
	exit 1
}
failed=0
for target in "$@"; do
	input=${target##*/fuzz_}
	mkdir -p "$out/corpus/$input" "$out/crashes" "$out/results"
	corpora=("$out/corpus/$input")
	[[ ! -d tests/fuzz/corpus/$input ]] || corpora+=("tests/fuzz/corpus/$input")
	log=$out/results/fuzz_$input.log
	if "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
		-print_final_stats=1 -artifact_prefix="$out/crashes/$input-" \
		"${corpora[@]}" >"$log" 2>&1; then
		printf 'ok    %-32s %s runs\n' "$input" \
			"$(awk '/number_of_executed_units/ { print $2 }' "$log")"
	else
		printf 'FAIL  %-32s (log: %s)\n' "$input" "$log"
		tail -n 30 "$log"
		failed=$((failed + 1))
	fi
done
echo "$(($# - failed)) passed, $failed failed"
[[ $failed -eq 0 ]]
