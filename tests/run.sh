#!/usr/bin/env bash
# `make test`: everything that must hold, in one run. A step that fails does not stop the ones that do not need it.
# The last line is the sum: "N passed, N failed, N skipped" over cargo's tests, the real clients and the other steps.
#
#   CI=true        nothing may be skipped for want of a tool, but the OCI suite (OCI_CONFORMANCE); Cargo.lock must be up to date
#   FUZZ_SECONDS   per fuzz target (15)
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/granary/target}
export GRANARY_BIN=${GRANARY_BIN:-$CARGO_TARGET_DIR/debug/granary}
locked=()
[ "${CI:-}" != true ] || locked=(--locked)

passed=0 failed=0 skipped=0
failures=()
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM

# Runs a step and leaves its output in $log. Returns its exit code.
run() { # HEADLINE COMMAND...
  local headline=$1 started=$SECONDS code=0
  shift
  echo
  echo "== $headline"
  "$@" 2>&1 </dev/null | tee "$log" || code=$?
  echo "== $headline: exit code $code, $((SECONDS - started)) s"
  return $code
}

count() { # PASSED FAILED SKIPPED
  passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

# A step that counts as one. Exit code 77 is "not possible here": skipped, but a failure in CI.
step() { # HEADLINE COMMAND...
  local code=0
  run "$@" || code=$?
  if [ $code -eq 0 ] && grep -q "^[a-z]*: skipped: " "$log"; then
    count 0 0 1
  elif [ $code -eq 0 ]; then
    count 1 0 0
  elif [ $code -eq 77 ] && [ "${CI:-}" != true ]; then
    count 0 0 1
  else
    count 0 1 0
    failures+=("$1")
    return 1
  fi
}

skip() { # HEADLINE REASON
  echo
  echo "== $1: not run: $2"
  count 0 0 1
}

# Adds up every "test result:" line of cargo test; a run that failed without a failed test (it did not compile) counts as one.
cargo_tests() {
  local code=0 sums
  run "cargo test" cargo test "${locked[@]}" --workspace --no-fail-fast || code=$?
  read -r -a sums < <(awk '/^test result:/ {for (i = 2; i <= NF; i++) {
      if ($i ~ /^passed;/) p += $(i - 1); if ($i ~ /^failed;/) f += $(i - 1); if ($i ~ /^ignored;/) s += $(i - 1)}}
    END {print p + 0, f + 0, s + 0}' "$log")
  if [ $code -ne 0 ] && [ "${sums[1]}" -eq 0 ]; then sums[1]=1; fi
  echo "cargo: ${sums[0]} passed, ${sums[1]} failed, ${sums[2]} ignored"
  count "${sums[@]}"
  [ $code -eq 0 ] || failures+=("cargo test")
}

# A step in which each client counts.
clients() { # HEADLINE COMMAND...
  local code=0 sums
  run "$@" || code=$?
  read -r -a sums < <(sed -nE 's/^clients: ([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' "$log" | tail -n 1)
  [ ${#sums[@]} -eq 3 ] || sums=(0 1 0)
  count "${sums[@]}"
  [ $code -eq 0 ] || failures+=("$1")
}

step "tools" conformance/tools.sh
step "format" cargo fmt --all --check
step "deploy" deploy/check.sh
step "lints" cargo clippy "${locked[@]}" --workspace --all-targets -- -D warnings
if step "build" cargo test "${locked[@]}" --workspace --no-run; then
  cargo_tests
  step "fuzzing" fuzz/run.sh
  clients "real clients" conformance/clients.sh
  clients "real clients with accounts" conformance/accounts.sh
  step "log-in by a provider in a browser" conformance/browser.sh
  step "what the OpenAPI document promises" conformance/schemathesis.sh
  step "OCI conformance suite" conformance/suite.sh
  step "demo" conformance/demo.sh
  step "three replicas on MinIO" conformance/fleet.sh
  step "three replicas on SeaweedFS" env BUCKET=seaweedfs conformance/fleet.sh crane
else
  for name in "cargo test" "fuzzing" "real clients" "real clients with accounts" "log-in by a provider in a browser" "what the OpenAPI document promises" "OCI conformance suite" "demo" "three replicas on MinIO" "three replicas on SeaweedFS"; do skip "$name" "the build failed"; done
fi

echo
echo "== all of it took $((SECONDS / 60)) min $((SECONDS % 60)) s"
for name in "${failures[@]}"; do echo "FAILED: $name"; done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ] && [ ${#failures[@]} -eq 0 ]
