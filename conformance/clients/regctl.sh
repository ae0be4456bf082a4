#!/usr/bin/env bash
# regctl: image copy with referrers, tags, artifacts on a subject, blobs (chunked too), delete of manifests and tags.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need regctl
start_granary
regctl registry set --tls disabled --skip-check "$ADDR"

step "copy an image and an index from an OCI layout"
image=$(images layout layout v1 regctl)
index=$(images index multi v1 regctl)
regctl image copy ocidir://layout:v1 "$ADDR/demo/image:v1"
regctl image copy ocidir://multi:v1 "$ADDR/demo/multi:v1"
expect_eq "digest of the image" "$image" "$(regctl image digest "$ADDR/demo/image:v1")"
expect_eq "digest of the index" "$index" "$(digest_of demo/multi v1)"
expect_eq "platforms" 2 "$(regctl manifest get --format '{{json .}}' "$ADDR/demo/multi:v1" | jq '.manifests | length')"

step "put artifacts on a subject and list them"
echo 'a signature' | regctl artifact put --artifact-type application/vnd.granary.sig --subject "$ADDR/demo/image:v1"
echo 'a bill of materials' | regctl artifact put --artifact-type application/spdx+json --subject "$ADDR/demo/image:v1"
list() { regctl artifact list --format '{{json .}}' "$@" | jq -r '[.descriptors // .manifests | .[].artifactType] | sort | join(" ")'; }
expect_eq "artifacts" "application/spdx+json application/vnd.granary.sig" "$(list "$ADDR/demo/image:v1")"
expect_eq "artifacts of a type" "application/spdx+json" "$(list --filter-artifact-type application/spdx+json "$ADDR/demo/image:v1")"
expect_eq "the referrers API" 2 "$(api "/v2/demo/image/referrers/$image" | jq '.manifests | length')"

step "copy with referrers to another repository and back to a layout"
regctl image copy --referrers "$ADDR/demo/image:v1" "$ADDR/demo/copy:v1"
expect_eq "artifacts of the copy" "application/spdx+json application/vnd.granary.sig" "$(list "$ADDR/demo/copy:v1")"
regctl image copy --digest-tags --referrers "$ADDR/demo/copy:v1" ocidir://back:v1
for blob in layout/blobs/sha256/*; do cmp "$blob" "back/blobs/sha256/${blob##*/}"; done

step "blobs, in one piece and in chunks"
images layer blob.bin regctl 2500000
blob=sha256:$(sha256sum blob.bin | cut -d' ' -f1)
expect_eq "digest of the blob" "$blob" "$(regctl blob put "$ADDR/demo/blobs" <blob.bin)"
regctl blob get "$ADDR/demo/blobs" "$blob" | cmp - blob.bin
regctl registry set --skip-check --blob-chunk 500000 --blob-max 1000000 "$ADDR"
images layer chunks.bin regctl-chunks 2500000
blob=sha256:$(sha256sum chunks.bin | cut -d' ' -f1)
expect_eq "digest of the chunked blob" "$blob" "$(regctl blob put "$ADDR/demo/blobs" <chunks.bin)"
regctl blob get "$ADDR/demo/blobs" "$blob" | cmp - chunks.bin
regctl blob copy "$ADDR/demo/blobs" "$ADDR/demo/mounted" "$blob"
expect_eq "status of the mounted blob" 200 "$(api_status "/v2/demo/mounted/blobs/$blob" --head)"

step "tags"
regctl image copy "$ADDR/demo/image:v1" "$ADDR/demo/image:v2"
expect_eq "tags" "v1 v2" "$(regctl tag ls "$ADDR/demo/image" | xargs)"
regctl tag delete "$ADDR/demo/image:v2"
expect_eq "tags after the delete" "v1" "$(regctl tag ls "$ADDR/demo/image" | xargs)"
expect_eq "the manifest stays" "$image" "$(digest_of demo/image v1)"
expect_contains "repositories" "$(regctl repo ls "$ADDR" | xargs)" demo/image

step "delete a manifest and a blob"
regctl manifest delete "$ADDR/demo/copy@$image"
expect_failure "$NOT_FOUND" regctl manifest head "$ADDR/demo/copy:v1"
regctl blob delete "$ADDR/demo/mounted" "$blob"
expect_eq "status of the deleted blob" 404 "$(api_status "/v2/demo/mounted/blobs/$blob" --head)"
expect_eq "status of the same blob elsewhere" 200 "$(api_status "/v2/demo/blobs/blobs/$blob" --head)"

step "what is missing is not found"
expect_failure "$NOT_FOUND" regctl image copy "$ADDR/demo/image:missing" ocidir://none:v1
expect_failure "$NOT_FOUND" regctl manifest get "$ADDR/demo/missing:v1"
ok
