#!/usr/bin/env bash
# skopeo, with accounts.
source "$(dirname "${BASH_SOURCE[0]}")/../lib_accounts.sh"
need skopeo
start_granary_with_accounts
images layout layout v1 skopeo >/dev/null
log_in() { skopeo login --tls-verify=false --username "$1" --password-stdin "$ADDR" <<<"$2"; }
log_out() { skopeo logout "$ADDR"; }
copy() { skopeo --insecure-policy copy --quiet --src-tls-verify=false --dest-tls-verify=false "$@"; }
push() { copy oci:layout:v1 "docker://$ADDR/$1:$2"; }
pull() { rm -rf pulled && copy "docker://$ADDR/$1:$2" dir:pulled; }
accounts_hold

step "copy from one repository to another with credentials for each, delete"
copy --src-creds "carol:$CAROL_PASSWORD" --dest-creds "bob:$WIDE_TOKEN" \
  "docker://$ADDR/carol/app:0.1.0" "docker://$ADDR/bob/copy:0.1.0"
expect_eq "digest of the copy" "$(digest_of bob/app 0.1.0)" "$(digest_of bob/copy 0.1.0)"
expect_failure "$DENIED" skopeo delete --tls-verify=false --creds "bob:$NARROW_TOKEN" "docker://$ADDR/bob/copy:0.1.0"
skopeo delete --tls-verify=false --creds "bob:$BOB_PASSWORD" "docker://$ADDR/bob/copy:0.1.0"
ok
