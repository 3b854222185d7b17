#!/usr/bin/env bash
# Whether comparing a signature takes as many instructions when its first character is wrong as when its last one is.
# Counts them under valgrind for each scheme; says so and ends with 1 where two counts differ.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v valgrind > /dev/null || { echo "valgrind is not installed" >&2; exit 2; }
cargo build --quiet --package headgate-gateway --example compare
target=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
# The lowest of five: hash tables elsewhere are seeded by chance and may take a few instructions more.
count() {
  for _ in 1 2 3 4 5; do once "$@"; done | sort -n | head -1
}
once() {
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$target/debug/examples/compare" "$1" "$2" 2>&1 |
    sed -n 's/.*Collected : //p'
}
failed=0
for scheme in hubspot-v3 standard-webhooks x-hub-signature-256 http-basic; do
  counts=()
  for place in 00 01 25 50 75 99; do counts+=("$(count "$scheme" "$place")"); done
  if [ "$(printf '%s\n' "${counts[@]}" | sort -u | wc -l)" = 1 ] && [ -n "${counts[0]}" ]; then
    echo "$scheme: ${counts[0]} instructions wherever it is wrong"
  else
    echo "$scheme: differs: ${counts[*]}"
    failed=1
  fi
done
exit $failed
