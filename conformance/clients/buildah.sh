#!/usr/bin/env bash
# buildah: an image from scratch, pushed, pulled, built upon and pushed again; nothing is run.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need buildah
start_granary
export BUILDAH_ISOLATION=chroot
buildah() { command buildah --root "$WORK/storage" --runroot "$WORK/runroot" --storage-driver vfs "$@"; }
image=$ADDR/demo/built

step "build from scratch and push"
echo "made by buildah" >hello.txt
container=$(buildah from scratch)
buildah add --quiet "$container" hello.txt /hello.txt >/dev/null
buildah config --cmd /hello.txt "$container"
buildah commit --quiet --rm "$container" built >/dev/null
buildah push --quiet --tls-verify=false --digestfile v1.digest built "docker://$image:v1"
expect_eq "digest of the push" "$(digest_of demo/built v1)" "$(cat v1.digest)"

step "pull, add a layer, push"
buildah rmi --all --force >/dev/null
restart_granary
container=$(buildah from --quiet --tls-verify=false "docker://$image:v1")
cmp hello.txt "$(buildah mount "$container")/hello.txt"
images layer more.tar buildah
buildah add --quiet "$container" more.tar / >/dev/null
buildah commit --quiet --rm "$container" built >/dev/null
buildah push --quiet --tls-verify=false --format docker built "docker://$image:v2"
layers() { api "/v2/demo/built/manifests/$1" -H "Accept: $MANIFEST_TYPES" | jq -r '.layers[].digest'; }
expect_eq "layers of v2" 2 "$(layers v2 | wc -l)"
expect_contains "v2 is built on v1" "$(layers v2)" "$(layers v1)"

step "what is missing is not found"
expect_failure "$NOT_FOUND" buildah pull --tls-verify=false "docker://$image:missing"
ok
