#!/usr/bin/env bash
# Runs the official OCI distribution conformance suite against Granary, at the 1.1 level and at the development level: as anybody on
# a server without accounts, and as a user of one that has them.
#
#   OCI_CONFORMANCE=PATH   the suite's binary (built from opencontainers/distribution-spec, folder conformance)
#   --record               write the results to conformance/RESULTS.md
#   SUITE_RESULTS=DIR      keep the suite's own reports (report.html, junit.xml, results.yaml) there
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -z "${OCI_CONFORMANCE:-}" ]; then
  echo "suite: skipped: OCI_CONFORMANCE is not set"
  exit 0
fi
suite=$(realpath "$OCI_CONFORMANCE")
unset OCI_CONFORMANCE
results=${SUITE_RESULTS:+$(mkdir -p "$SUITE_RESULTS" && realpath "$SUITE_RESULTS")}
source "$here/lib_accounts.sh"
need curl
results=${results:-$WORK/results}
folders=()

# Runs the suite at a level against the server that was just started, and ends it. Every test of a level runs against a fresh
# server: the suite pushes the same content each time.
run_suite() { # FOLDER LEVEL SETTING...
  local folder=$results/$1 level=$2
  folders+=("$folder")
  env "${@:3}" OCI_VERSION="$level" OCI_REGISTRY="$ADDR" OCI_TLS=disabled OCI_DATA_SPARSE=true OCI_RESULTS_DIR="$folder" \
    "$suite" >"$WORK/suite.log" 2>&1 || true # the reports decide
  [ -f "$folder/results.yaml" ] || fail "the suite wrote no results: $(tail -n 20 "$WORK/suite.log")"
  stop_granary
  rm -rf "$WORK/data"
}

for level in 1.1 dev; do
  step "the suite at OCI_VERSION=$level"
  start_granary GRANARY_POLICY__SPARSE=true
  run_suite "$level" "$level"
done

# With credentials it asks the token service, as its challenge says, and keeps each token for a repository and for pull or push. So a
# mount comes with a token that does not name the repository it is from.
for level in 1.1 dev; do
  [ -z "${REGISTRY_ADDR:-}" ] || break # a registry that runs already is not given accounts
  step "the suite at OCI_VERSION=$level, with accounts"
  start_granary_with_accounts GRANARY_POLICY__SPARSE=true
  run_suite "$level-accounts" "$level" OCI_USERNAME=bob OCI_PASSWORD="$BOB_PASSWORD" OCI_REPO1=bob/repo1 OCI_REPO2=bob/repo2
done

step "the verdict"
version=unknown
[ -z "${GRANARY_BIN:-}" ] || version=$("$GRANARY_BIN" --version)
commit=unknown # the suite's own, when its binary lies in a clone of it
clone=$(git -C "$(dirname "$suite")" rev-parse --show-toplevel 2>/dev/null) || clone=
[ ! -f "$clone/conformance/testdata.go" ] || commit=$(git -C "$clone" describe --tags --always)
record=()
[ "${1:-}" != --record ] || record=(--record "$CONFORMANCE/RESULTS.md" --server "$version" --commit "$commit")
python3 "$CONFORMANCE/suite_results.py" "${record[@]}" "${folders[@]}"
ok
