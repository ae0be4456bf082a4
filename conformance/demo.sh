#!/usr/bin/env bash
# The demo: three kinds of artifact go in through three clients and come out through others, with a restart in between.
#
#   GRANARY_BIN=PATH conformance/demo.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need oras-go crane regctl jq

say() { printf '   %-34s %s\n' "$1" "$2"; }

# Quiet unless it fails, so that only the story is printed.
quietly() { "$@" >"$WORK/quiet.log" 2>&1 || { cat "$WORK/quiet.log" >&2; fail "$1 failed"; }; }

step "Granary starts on an empty folder"
start_granary
say "address" "http://$ADDR"
say "data" "$WORK/data"

step "docker pushes a container image of three layers"
start_dockerd
images archive app.tar "$ADDR/demo/app:v1" demo
quietly docker load --input app.tar
image_id=$(docker image inspect --format '{{.Id}}' "$ADDR/demo/app:v1")
quietly docker push "$ADDR/demo/app:v1"
image=$(digest_of demo/app v1)
say "demo/app:v1" "$image"

step "oras pushes a model card and weights as one artifact, and attaches a review to it"
printf '{"name": "tiny", "license": "MIT", "accuracy": 0.93}\n' >card.json
images layer weights.bin demo-model 4000000
printf 'Looks good to me.\n' >review.txt
artifact=$(oras-go push -artifact-type application/vnd.granary.model "$ADDR/demo/model:v1" card.json:application/json weights.bin)
review=$(oras-go attach -artifact-type application/vnd.granary.review "$ADDR/demo/model:v1" review.txt:text/plain)
say "demo/model:v1" "$artifact"
say "  its review" "$review"

step "crane pushes an image from an OCI layout"
layout=$(images layout layout v1 demo)
quietly crane push --insecure layout "$ADDR/demo/tool:v1"
say "demo/tool:v1" "$layout"

step "Granary is stopped (it drains) and started again"
restart_granary
say "pid" "${GRANARY_PID:-not ours}"

step "crane pulls what docker pushed"
quietly crane pull --insecure "$ADDR/demo/app:v1" app-pulled.tar
expect_eq "image id" "$image_id" "sha256:$(tar -xOf app-pulled.tar manifest.json | jq -r '.[0].Config' | sed 's/^sha256://')"
quietly crane validate --insecure --remote "$ADDR/demo/app:v1"
expect_eq "digest of demo/app:v1" "$image" "$(crane digest --insecure "$ADDR/demo/app:v1")"
say "demo/app:v1" "same manifest, same image id, every layer hashed"

step "regctl pulls what oras pushed"
quietly regctl registry set --tls disabled --skip-check "$ADDR"
expect_eq "digest of demo/model:v1" "$artifact" "$(regctl manifest head "$ADDR/demo/model:v1")"
regctl artifact get --file weights.bin "$ADDR/demo/model:v1" | cmp - weights.bin
regctl artifact get --file card.json "$ADDR/demo/model:v1" | cmp - card.json
expect_eq "the review" "$review" "$(regctl artifact list --format '{{json .}}' "$ADDR/demo/model:v1" | jq -r '.descriptors[0].digest')"
say "demo/model:v1" "same manifest, same bytes, its review is listed"

step "docker pulls what crane pushed"
quietly docker pull "$ADDR/demo/tool:v1"
expect_contains "digest docker remembers" "$(docker image inspect --format '{{.RepoDigests}}' "$ADDR/demo/tool:v1")" "$layout"
say "demo/tool:v1" "same manifest"

step "a tag nobody pushed is not found"
expect_failure "$NOT_FOUND" crane manifest --insecure "$ADDR/demo/app:v2"
say "demo/app:v2" "MANIFEST_UNKNOWN"
ok
