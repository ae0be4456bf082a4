#!/usr/bin/env bash
# skopeo: docker archive and OCI layout to the registry and back, in both manifest formats, with all platforms.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need skopeo
start_granary
copy() { skopeo --insecure-policy copy --quiet --src-tls-verify=false --dest-tls-verify=false "$@"; }
inspect() { skopeo inspect --tls-verify=false "$@"; }

# The manifest in a dir: copy must be the registry's, byte by byte, and every blob must hash to its name.
check_dir() { # DIR DIGEST
  expect_eq "manifest in $1" "$2" "sha256:$(sha256sum "$1/manifest.json" | cut -d' ' -f1)"
  local blob
  for blob in "$1"/*; do
    [[ ${blob##*/} =~ ^[0-9a-f]{64}$ ]] || continue
    expect_eq "blob in $1" "${blob##*/}" "$(sha256sum "$blob" | cut -d' ' -f1)"
  done
}

step "docker archive in both formats"
images archive image.tar demo/image:v1 skopeo
for format in v2s2 oci; do
  copy --format "$format" docker-archive:image.tar "docker://$ADDR/demo/image:$format"
  copy "docker://$ADDR/demo/image:$format" "dir:$format"
  check_dir "$format" "$(digest_of demo/image "$format")"
done
expect_contains "media type of v2s2" "$(inspect --raw "docker://$ADDR/demo/image:v2s2")" application/vnd.docker.distribution.manifest.v2+json
expect_contains "media type of oci" "$(inspect --raw "docker://$ADDR/demo/image:oci")" application/vnd.oci.image.config.v1+json
expect_eq "layers agree" "$(jq -r '.layers[].digest' v2s2/manifest.json)" "$(jq -r '.layers[].digest' oci/manifest.json)"

step "OCI layout"
image=$(images layout layout v1 skopeo)
copy oci:layout:v1 "docker://$ADDR/demo/layout:v1"
expect_eq "digest of the layout's image" "$image" "$(digest_of demo/layout v1)"
expect_eq "digest skopeo sees" "$image" "$(inspect --format '{{.Digest}}' "docker://$ADDR/demo/layout:v1")"
copy "docker://$ADDR/demo/layout:v1" oci:back:v1
for blob in layout/blobs/sha256/*; do cmp "$blob" "back/blobs/sha256/${blob##*/}"; done

step "an index with all its platforms"
index=$(images index multi v1 skopeo)
copy --all oci:multi:v1 "docker://$ADDR/demo/multi:v1"
expect_eq "digest of the index" "$index" "$(digest_of demo/multi v1)"
copy --all "docker://$ADDR/demo/multi:v1" "docker://$ADDR/demo/multi-copy:v1"
expect_eq "digest of the copied index" "$index" "$(digest_of demo/multi-copy v1)"
copy --all "docker://$ADDR/demo/multi-copy:v1" dir:multi-dir
check_dir multi-dir "$index"
copy --override-arch arm64 "docker://$ADDR/demo/multi:v1" dir:arm64
expect_eq "one platform of the index" "$(jq -r '.manifests[] | select(.platform.architecture == "arm64").digest' multi-dir/manifest.json)" \
  "sha256:$(sha256sum arm64/manifest.json | cut -d' ' -f1)"

step "docker's own manifest list"
copy --all --format v2s2 oci:multi:v1 "docker://$ADDR/demo/multi:list"
expect_contains "media type of the list" "$(inspect --raw "docker://$ADDR/demo/multi:list")" application/vnd.docker.distribution.manifest.list.v2+json

step "tags, after a restart"
restart_granary
expect_eq "tags" "list v1" "$(skopeo list-tags --tls-verify=false "docker://$ADDR/demo/multi" | jq -r '.Tags | sort | join(" ")')"

step "delete"
skopeo delete --tls-verify=false "docker://$ADDR/demo/layout:v1"
expect_failure "$NOT_FOUND" inspect "docker://$ADDR/demo/layout:v1"

step "what is missing is not found"
expect_failure "$NOT_FOUND" copy "docker://$ADDR/demo/image:missing" dir:none
expect_failure "$NOT_FOUND" inspect "docker://$ADDR/demo/missing:v1"
ok
