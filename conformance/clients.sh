#!/usr/bin/env bash
# Runs every real client in conformance/clients against one Granary binary, each with a server of its own.
#
#   GRANARY_BIN=PATH conformance/clients.sh          all of them
#   GRANARY_BIN=PATH conformance/clients.sh crane    only these
#   ... --with-accounts ...                          the scripts in conformance/accounts instead (see accounts.sh)
#
# A client that cannot be had on this machine is skipped with the reason, and is a failure when CI=true.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -n "${GRANARY_BIN:-}${REGISTRY_ADDR:-}" ] || { echo "clients: GRANARY_BIN must name the granary binary" >&2; exit 2; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
folder=$here/clients
[ "${1:-}" != --with-accounts ] || { folder=$here/accounts && shift; }

if [ $# -eq 0 ]; then
  for script in "$folder"/*.sh; do set -- "$@" "$(basename "$script" .sh)"; done
fi
passed=0 failed=0 skipped=0
for name in "$@"; do
  started=$SECONDS code=0
  timeout 900 "$folder/$name.sh" >"$log" 2>&1 </dev/null || code=$?
  if [ $code -eq 0 ] && [ "$(tail -n 1 "$log")" = "ok: $name" ]; then
    passed=$((passed + 1))
    echo "PASS $name ($((SECONDS - started)) s)"
  elif [ $code -eq 77 ] && [ "${CI:-}" != true ]; then
    skipped=$((skipped + 1))
    echo "SKIP $name: $(tail -n 1 "$log")"
  else
    failed=$((failed + 1))
    echo "FAIL $name (exit code $code, $((SECONDS - started)) s); the last 40 lines:"
    tail -n 40 "$log" | sed 's/^/    /'
  fi
done
echo "clients: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
