#!/usr/bin/env bash
# cosign, with accounts: signs and verifies a private image with a key. It takes credentials from docker's file, which its `login`
# writes, or from flags.
source "$(dirname "${BASH_SOURCE[0]}")/../lib_accounts.sh"
need cosign crane
start_granary_with_accounts
export COSIGN_PASSWORD=
log_in() { cosign login "$ADDR" --username "$1" --password-stdin <<<"$2"; }
log_out() { crane auth logout "$ADDR"; } # cosign has no command for it; the file is the same
sign() { cosign sign --key good.key --signing-config signing.json --trusted-root root.json -y "$@"; }
verify() { cosign verify --key good.pub --insecure-ignore-tlog --trusted-root root.json "$@"; }

step "keys, and a private image to sign"
cosign generate-key-pair --output-key-prefix good
cosign signing-config create --out signing.json # no log, no timestamps
cosign trusted-root create --out root.json
digest=$(images layout layout v1 cosign)
log_in bob "$BOB_PASSWORD"
crane push --insecure layout "$ADDR/bob/app:0.1.0" >/dev/null
image=$ADDR/bob/app@$digest
signatures() { api "/v2/bob/app/referrers/$digest" | jq '.manifests | length'; }

step "nobody signs without credentials, with wrong ones, or in another user's repository"
log_out
expect_failure "$UNAUTHORIZED" sign "$image"
log_in bob "not-$BOB_PASSWORD" # only noted
expect_failure "$UNAUTHORIZED" sign "$image"
log_in carol "$CAROL_PASSWORD"
expect_failure "$NOT_FOUND" sign "$image"
log_in bob "$NARROW_TOKEN"
expect_failure "$DENIED" sign "$image"
expect_eq "signatures so far" 0 "$(signatures)"

step "sign and verify with the password"
log_in bob "$BOB_PASSWORD"
sign "$image"
expect_eq "signatures" 1 "$(signatures)"
expect_contains "verify" "$(verify "$ADDR/bob/app:0.1.0")" "$digest"

step "the tag form, with a token"
log_in bob "$WIDE_TOKEN"
tag_form=(--new-bundle-format=false)
cosign sign --key good.key "${tag_form[@]}" --use-signing-config=false --tlog-upload=false -y "$image"
cosign verify --key good.pub "${tag_form[@]}" --insecure-ignore-tlog "$image" >/dev/null

step "verify with a token that may only read, given by flags"
log_out
verify --registry-username bob --registry-password "$NARROW_TOKEN" "$image" >/dev/null

step "nothing to verify for who may not read"
expect_failure "$UNAUTHORIZED" verify "$image"
expect_failure "$UNAUTHORIZED" cosign verify --key good.pub "${tag_form[@]}" --insecure-ignore-tlog "$image"
log_in carol "$CAROL_PASSWORD"
expect_failure "$NOT_FOUND" verify "$ADDR/bob/app:0.1.0"
expect_failure 'no signatures found' verify "$image" # by digest it asks for referrers only, and is told of none
expect_failure 'no signatures found' verify "$ADDR/bob/nothing@$digest"
log_out

step "whoever comes may verify what is public, and not sign it"
publish bob/app
verify "$image" >/dev/null
expect_failure "$UNAUTHORIZED|$DENIED" sign "$image"
expect_eq "signatures" 1 "$(signatures)"
no_secret_in_the_log
ok
