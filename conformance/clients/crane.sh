#!/usr/bin/env bash
# crane: push, pull, copy, digest, list, tag, index, append, delete, catalog.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need crane
start_granary
crane() { command crane --insecure "$@"; }

step "push a docker archive and an OCI layout"
images archive "$WORK/image.tar" demo/image:v1 crane
layout_digest=$(images layout "$WORK/layout" v1 crane)
crane push "$WORK/image.tar" "$ADDR/demo/image:v1"
crane push "$WORK/layout" "$ADDR/demo/layout:v1"

step "digests agree with the bytes"
digest=$(crane digest "$ADDR/demo/image:v1")
expect_eq "digest of the archive's image" "$(digest_of demo/image v1)" "$digest"
expect_eq "digest of the layout's image" "$layout_digest" "$(crane digest "$ADDR/demo/layout:v1")"
crane validate --remote "$ADDR/demo/image:v1"

step "pull and push again changes nothing"
crane pull --format oci "$ADDR/demo/layout:v1" "$WORK/pulled"
for blob in "$WORK/layout/blobs/sha256/"*; do
  cmp "$blob" "$WORK/pulled/blobs/sha256/$(basename "$blob")"
done
crane pull "$ADDR/demo/image:v1" "$WORK/pulled.tar"
crane push "$WORK/pulled.tar" "$ADDR/demo/image:again"
expect_eq "digest after pull and push" "$digest" "$(crane digest "$ADDR/demo/image:again")"

step "copy to another repository (mounts) and tag"
crane copy "$ADDR/demo/image:v1" "$ADDR/demo/copy:v1"
expect_eq "digest of the copy" "$digest" "$(crane digest "$ADDR/demo/copy:v1")"
crane tag "$ADDR/demo/copy:v1" latest
expect_eq "tags" "latest v1" "$(crane ls "$ADDR/demo/copy" | sort | xargs)"

step "append a layer, make an index"
images layer "$WORK/layer.tar" crane
crane append --base "$ADDR/demo/image:v1" --new_layer "$WORK/layer.tar" --new_tag "$ADDR/demo/image:appended"
expect_eq "layers after append" 4 "$(crane manifest "$ADDR/demo/image:appended" | jq '.layers | length')"
crane index append --manifest "$ADDR/demo/image:v1" --manifest "$ADDR/demo/image:appended" --tag "$ADDR/demo/image:index"
expect_eq "children of the index" 2 "$(crane manifest "$ADDR/demo/image:index" | jq '.manifests | length')"
crane copy "$ADDR/demo/image:index" "$ADDR/demo/copy:index"
expect_eq "digest of the copied index" "$(digest_of demo/image index)" "$(digest_of demo/copy index)"

step "catalog"
expect_contains "catalog" "$(crane catalog "$ADDR" | sort | xargs)" "demo/copy demo/image demo/layout"

step "all of it after a restart"
restart_granary
expect_eq "digest after a restart" "$digest" "$(crane digest "$ADDR/demo/image:v1")"
crane validate --remote "$ADDR/demo/layout:v1"

step "delete by digest"
crane delete "$ADDR/demo/layout@$layout_digest"
expect_failure "$NOT_FOUND" crane manifest "$ADDR/demo/layout:v1"

step "what is missing is not found"
expect_failure "$NOT_FOUND" crane manifest "$ADDR/demo/image:missing"
expect_failure "$NOT_FOUND" crane pull "$ADDR/demo/missing:v1" "$WORK/none.tar"
expect_failure "$NOT_FOUND" crane ls "$ADDR/demo/missing"
ok
