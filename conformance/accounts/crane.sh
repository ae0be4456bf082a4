#!/usr/bin/env bash
# crane, with accounts.
source "$(dirname "${BASH_SOURCE[0]}")/../lib_accounts.sh"
need crane
start_granary_with_accounts
images layout layout v1 crane >/dev/null
LOG_IN_ONLY_NOTES=yes
log_in() { crane auth login "$ADDR" --username "$1" --password-stdin <<<"$2"; }
log_out() { crane auth logout "$ADDR"; }
push() { crane push --insecure layout "$ADDR/$1:$2"; }
pull() { crane pull --insecure "$ADDR/$1:$2" pulled.tar; }
accounts_hold

step "copy to another repository of one's own (mounts), list, delete"
log_in_as_bob
crane copy --insecure "$ADDR/bob/app:0.1.0" "$ADDR/bob/copy:0.1.0"
expect_eq "digest of the copy" "$(digest_of bob/app 0.1.0)" "$(digest_of bob/copy 0.1.0)"
expect_eq "catalog, without what is carol's" "bob/app bob/by-token bob/copy" "$(crane catalog --insecure "$ADDR" | sort | xargs)"
crane delete --insecure "$ADDR/bob/copy@$(digest_of bob/copy 0.1.0)"
expect_failure "$NOT_FOUND" pull bob/copy 0.1.0
ok
