#!/usr/bin/env bash
# Runs the official OCI distribution conformance suite against Granary, at the 1.1 level and at the development level.
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
source "$here/lib.sh"
need curl
results=${results:-$WORK/results}

# Every test of a level runs against a fresh server: the suite pushes the same content each time.
for level in 1.1 dev; do
  step "the suite at OCI_VERSION=$level"
  start_granary GRANARY_POLICY__SPARSE=true
  OCI_VERSION=$level OCI_REGISTRY=$ADDR OCI_TLS=disabled OCI_DATA_SPARSE=true OCI_RESULTS_DIR=$results/$level \
    "$suite" >"$WORK/suite-$level.log" 2>&1 || true # the reports decide
  [ -f "$results/$level/results.yaml" ] || fail "the suite wrote no results: $(tail -n 20 "$WORK/suite-$level.log")"
  stop_granary
  rm -rf "$WORK/data"
done

step "the verdict"
version=unknown
[ -z "${GRANARY_BIN:-}" ] || version=$("$GRANARY_BIN" --version)
commit=unknown # the suite's own, when its binary lies in a clone of it
clone=$(git -C "$(dirname "$suite")" rev-parse --show-toplevel 2>/dev/null) || clone=
[ ! -f "$clone/conformance/testdata.go" ] || commit=$(git -C "$clone" describe --tags --always)
record=()
[ "${1:-}" != --record ] || record=(--record "$CONFORMANCE/RESULTS.md" --server "$version" --commit "$commit")
python3 "$CONFORMANCE/suite_results.py" "${record[@]}" "$results/1.1" "$results/dev"
ok
