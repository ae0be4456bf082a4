#!/usr/bin/env bash
# podman: load, push, pull, a manifest list, list of tags; its own storage in the working folder, nothing is run.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need podman jq
start_granary
podman() {
  command podman --root "$WORK/storage" --runroot "$WORK/runroot" --tmpdir "$WORK/libpod" --storage-driver vfs \
    --cgroup-manager cgroupfs --events-backend none "$@"
}
image_id() { podman image inspect --format '{{.Id}}' "$1"; }

step "push in both formats, pull"
images archive image.tar "$ADDR/demo/podman:v1" podman
podman load --quiet --input image.tar
id=$(image_id "$ADDR/demo/podman:v1")
for format in v2s2 oci; do
  podman push --quiet --tls-verify=false --format "$format" --digestfile "$format.digest" "$ADDR/demo/podman:v1" "$ADDR/demo/podman:$format"
  expect_eq "digest of $format" "$(digest_of demo/podman "$format")" "$(cat "$format.digest")"
done
podman image rm --all --force >/dev/null
podman pull --quiet --tls-verify=false "$ADDR/demo/podman:v2s2"
expect_eq "image id after the pull" "$id" "$(image_id "$ADDR/demo/podman:v2s2")"

step "pull by digest after a restart"
restart_granary
podman image rm --all --force >/dev/null
podman pull --quiet --tls-verify=false "$ADDR/demo/podman@$(cat oci.digest)"

step "a manifest list"
index=$(images index multi v1 podman)
podman manifest create local/list >/dev/null
podman manifest add --all local/list oci:multi:v1 >/dev/null
podman manifest push --quiet --all --tls-verify=false local/list "docker://$ADDR/demo/list:v1"
expect_eq "platforms" "amd64 arm64" "$(api /v2/demo/list/manifests/v1 -H "Accept: $MANIFEST_TYPES" | jq -r '[.manifests[].platform.architecture] | sort | join(" ")')"
children() { jq -r '[.manifests[].digest] | sort | join(" ")'; }
expect_eq "the list's images" "$(children <"multi/blobs/sha256/${index#sha256:}")" "$(api /v2/demo/list/manifests/v1 -H "Accept: $MANIFEST_TYPES" | children)"
podman pull --quiet --tls-verify=false --platform linux/arm64 "$ADDR/demo/list:v1"

step "search lists tags"
expect_eq "tags" "oci v2s2" "$(podman search --tls-verify=false --list-tags "$ADDR/demo/podman" | awk 'NR > 1 {print $2}' | sort | xargs)"

step "what is missing is not found"
expect_failure "$NOT_FOUND" podman pull --tls-verify=false "$ADDR/demo/podman:missing"
expect_failure "$NOT_FOUND" podman pull --tls-verify=false "$ADDR/demo/missing:v1"
ok
