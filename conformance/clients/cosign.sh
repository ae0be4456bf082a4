#!/usr/bin/env bash
# cosign 3 with a key and no network: bundles as referrers, attestations, the older tag form; wrong keys must fail.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need cosign crane jq
start_granary
export COSIGN_PASSWORD=

step "keys and an image to sign"
cosign generate-key-pair --output-key-prefix good
cosign generate-key-pair --output-key-prefix other
cosign signing-config create --out signing.json # no log, no timestamps
cosign trusted-root create --out root.json
digest=$(images layout layout v1 cosign)
crane push --insecure layout "$ADDR/demo/signed:v1" >/dev/null
image=$ADDR/demo/signed@$digest
bundled=(--signing-config signing.json --trusted-root root.json -y)
offline=(--insecure-ignore-tlog --trusted-root root.json)
referrers() { api "/v2/demo/signed/referrers/$digest" | jq "$1"; }

step "sign and verify in the bundle form"
cosign sign --key good.key "${bundled[@]}" "$image"
expect_eq "referrers after signing" 1 "$(referrers '.manifests | length')"
expect_contains "artifact type" "$(referrers '.manifests[0].artifactType')" application/vnd.dev.sigstore.bundle
expect_contains "verify" "$(cosign verify --key good.pub "${offline[@]}" "$ADDR/demo/signed:v1")" "$digest"

step "attest and verify"
echo '{"tested": true}' >predicate.json
cosign attest --key good.key --type custom --predicate predicate.json "${bundled[@]}" "$image"
cosign verify-attestation --key good.pub --type custom "${offline[@]}" "$image" >/dev/null
expect_eq "referrers after attesting" 2 "$(referrers '.manifests | length')"

step "all of it after a restart"
restart_granary
cosign verify --key good.pub "${offline[@]}" "$image" >/dev/null

step "another key or another image does not verify"
WRONG_KEY='no matching (signatures|attestations)'
expect_failure "$WRONG_KEY" cosign verify --key other.pub "${offline[@]}" "$image"
expect_failure "$WRONG_KEY" cosign verify-attestation --key other.pub --type custom "${offline[@]}" "$image"
images layout unsigned v1 tampered >/dev/null
crane push --insecure unsigned "$ADDR/demo/signed:tampered" >/dev/null
expect_failure 'no signatures found' cosign verify --key good.pub "${offline[@]}" "$ADDR/demo/signed:tampered"

step "sign and verify in the tag form"
crane copy --insecure "$ADDR/demo/signed:v1" "$ADDR/demo/tagged:v1" >/dev/null
old=$ADDR/demo/tagged@$digest
cosign sign --key good.key --new-bundle-format=false --use-signing-config=false --tlog-upload=false -y "$old"
signature=${digest/:/-}.sig
expect_contains "tags" "$(api /v2/demo/tagged/tags/list | jq -r '.tags | join(" ")')" "$signature"
cosign verify --key good.pub --insecure-ignore-tlog --new-bundle-format=false "$old" >/dev/null
expect_failure "$WRONG_KEY" cosign verify --key other.pub --insecure-ignore-tlog --new-bundle-format=false "$old"

step "what is missing is not found"
expect_failure "$NOT_FOUND" cosign verify --key good.pub "${offline[@]}" "$ADDR/demo/signed:missing"
ok
