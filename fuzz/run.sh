#!/usr/bin/env bash
# Fuzzes every target of every crates/*/fuzz for a short while. Found inputs are kept between runs, outside the clone.
#
#   fuzz/run.sh [TARGET...]   FUZZ_SECONDS=15 per target
#
# Needs the nightly toolchain (cargo-fuzz instruments the code); exit code 77 when there is none.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${FUZZ_SECONDS:-15}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/granary/target}
corpora=$(dirname "$CARGO_TARGET_DIR")/corpus

cargo +nightly --version >/dev/null 2>&1 || { echo "fuzzing: not possible: there is no nightly toolchain (rustup toolchain install nightly)"; exit 77; }
conformance/tools.sh cargo-fuzz
PATH="$(conformance/tools.sh --path):$PATH"

ran=0
for folder in crates/*/fuzz; do
  [ -f "$folder/Cargo.toml" ] || continue
  for target in $(cargo +nightly fuzz list --fuzz-dir "$folder"); do
    [ $# -eq 0 ] || [[ " $* " == *" $target "* ]] || continue
    corpus=$corpora/$(basename "$(dirname "$folder")")/$target
    mkdir -p "$corpus"
    inputs=("$corpus")
    [ ! -d "$folder/seeds/$target" ] || inputs+=("$folder/seeds/$target")
    echo "-- $folder: $target, $seconds s"
    cargo +nightly fuzz run --fuzz-dir "$folder" --target-dir "$CARGO_TARGET_DIR/fuzz" "$target" "${inputs[@]}" -- \
      -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=5 -print_final_stats=0 -verbosity=1 2>&1 | sed -E '/^#[0-9]+[[:space:]]+(NEW|REDUCE|pulse|RELOAD)/d' ||
      { echo "fuzzing: $target found something; the input is under $folder/artifacts/$target"; exit 1; }
    ran=$((ran + 1))
  done
done
[ $ran -gt 0 ] || { echo "fuzzing: there is no such target"; exit 1; }
echo "fuzzing: $ran targets, nothing found"
