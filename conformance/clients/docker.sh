#!/usr/bin/env bash
# The docker engine: push and pull of a one-layer and a three-layer image, pushing again, mounting, a manifest list.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need jq
start_dockerd
start_granary
image_id() { docker image inspect --format '{{.Id}}' "$1"; }
repo_digest() { docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$1" | grep "^${1%:*}@" | cut -d@ -f2; }

# Push, forget, pull: the same image comes back, under the digest the registry serves.
round_trip() { # REPOSITORY TAG
  local image=$ADDR/$1:$2 id output digest
  id=$(image_id "$image")
  output=$(docker push "$image")
  digest=$(digest_of "$1" "$2")
  expect_contains "docker push" "$output" "$2: digest: $digest"
  docker image rm --force "$id" >/dev/null
  expect_failure 'no such image' docker image inspect "$image"
  docker pull --quiet "$image"
  expect_eq "image id after the pull" "$id" "$(image_id "$image")"
  expect_eq "digest docker remembers" "$digest" "$(repo_digest "$image")"
}

step "an imported image of one layer"
images layer layer.tar docker
docker import layer.tar "$ADDR/demo/import:v1" >/dev/null
round_trip demo/import v1

step "a loaded image of three layers"
images archive image.tar "$ADDR/demo/multi:v1" docker
docker load --quiet --input image.tar
round_trip demo/multi v1
digest=$(digest_of demo/multi v1)

step "pushing again sends nothing, another repository mounts"
output=$(docker push "$ADDR/demo/multi:v1")
expect_eq "layers already there" 3 "$(grep -c 'Layer already exists' <<<"$output")"
expect_eq "digest after the second push" "$digest" "$(digest_of demo/multi v1)"
docker tag "$ADDR/demo/multi:v1" "$ADDR/demo/mounted:v1"
output=$(docker push "$ADDR/demo/mounted:v1")
expect_eq "layers mounted" 3 "$(grep -c 'Mounted from demo/multi' <<<"$output")"
expect_eq "digest in the other repository" "$digest" "$(digest_of demo/mounted v1)"

step "pull by digest after a restart"
restart_granary
docker image rm --force "$(image_id "$ADDR/demo/multi:v1")" >/dev/null
docker pull --quiet "$ADDR/demo/multi@$digest"

step "a manifest list of two platforms"
images layer arm.tar docker-arm
docker import --platform linux/arm64 arm.tar "$ADDR/demo/list:arm64" >/dev/null
docker import --platform linux/amd64 layer.tar "$ADDR/demo/list:amd64" >/dev/null
for arch in arm64 amd64; do docker push --quiet "$ADDR/demo/list:$arch" >/dev/null; done
docker manifest create --insecure "$ADDR/demo/list:v1" "$ADDR/demo/list:amd64" "$ADDR/demo/list:arm64"
docker manifest annotate --arch arm64 "$ADDR/demo/list:v1" "$ADDR/demo/list:arm64"
list=$(docker manifest push --insecure "$ADDR/demo/list:v1" | tail -n 1)
expect_eq "digest of the list" "$(digest_of demo/list v1)" "$list"
amd64=$(image_id "$ADDR/demo/list:amd64")
docker image rm --force "$amd64" >/dev/null
docker pull --quiet --platform linux/amd64 "$ADDR/demo/list:v1"
expect_eq "image chosen from the list" "$amd64" "$(image_id "$ADDR/demo/list:v1")"

step "what is missing is not found"
expect_failure "$NOT_FOUND" docker pull "$ADDR/demo/multi:missing"
expect_failure "$NOT_FOUND" docker pull "$ADDR/demo/missing:v1"
expect_failure "no such manifest|$NOT_FOUND" docker manifest inspect --insecure "$ADDR/demo/multi:missing"
ok
