#!/usr/bin/env bash
# regctl, with accounts.
source "$(dirname "${BASH_SOURCE[0]}")/../lib_accounts.sh"
need regctl
start_granary_with_accounts
images layout layout v1 regctl >/dev/null
regctl registry set --tls disabled --skip-check "$ADDR"
log_in() { regctl registry login "$ADDR" --user "$1" --pass-stdin <<<"$2"; }
log_out() { regctl registry logout "$ADDR"; }
push() { regctl image copy ocidir://layout:v1 "$ADDR/$1:$2"; }
pull() { rm -rf pulled && regctl image copy "$ADDR/$1:$2" ocidir://pulled:v1; }
accounts_hold

step "copy to another repository of one's own (mounts), delete"
log_in_as_bob
regctl image copy "$ADDR/bob/app:0.1.0" "$ADDR/bob/copy:0.1.0"
expect_eq "digest of the copy" "$(digest_of bob/app 0.1.0)" "$(digest_of bob/copy 0.1.0)"
regctl tag delete "$ADDR/bob/copy:0.1.0"
expect_failure "$NOT_FOUND" pull bob/copy 0.1.0
ok
