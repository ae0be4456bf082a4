#!/usr/bin/env bash
# containerd's ctr: import an image and an index, push, forget, pull.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
start_containerd
start_granary

target() { ctr images ls "name==$1" | awk 'NR == 2 {print $3}'; }
forget() { ctr images rm --sync "$@" >/dev/null; }
import() { # FOLDER REPOSITORY
  tar -C "$1" -cf "$1.tar" .
  ctr images import --all-platforms --no-unpack --base-name "$2" "$1.tar" >/dev/null
}

step "push and pull an image"
digest=$(images layout layout v1 containerd)
import layout "$ADDR/demo/image"
ctr images push --plain-http "$ADDR/demo/image:v1" >/dev/null
expect_eq "digest of the push" "$digest" "$(digest_of demo/image v1)"
forget "$ADDR/demo/image:v1"
expect_eq "content after forgetting" "" "$(ctr content ls --quiet)"
restart_granary
ctr images pull --plain-http --snapshotter native "$ADDR/demo/image:v1" >/dev/null
expect_eq "digest of the pull" "$digest" "$(target "$ADDR/demo/image:v1")"
for blob in layout/blobs/sha256/*; do ctr content get "sha256:${blob##*/}" | cmp - "$blob"; done

step "push and pull an index with all platforms"
index=$(images index multi v1 containerd)
import multi "$ADDR/demo/multi"
ctr images push --plain-http "$ADDR/demo/multi:v1" >/dev/null
expect_eq "digest of the index" "$index" "$(digest_of demo/multi v1)"
forget "$ADDR/demo/multi:v1"
ctr content fetch --plain-http --all-platforms "$ADDR/demo/multi:v1" >/dev/null
for blob in multi/blobs/sha256/*; do ctr content get "sha256:${blob##*/}" | cmp - "$blob"; done

step "what is missing is not found"
expect_failure "$NOT_FOUND" ctr images pull --plain-http "$ADDR/demo/image:missing"
expect_failure "$NOT_FOUND" ctr images pull --plain-http "$ADDR/demo/missing:v1"
ok
