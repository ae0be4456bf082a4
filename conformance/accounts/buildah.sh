#!/usr/bin/env bash
# buildah, with accounts.
source "$(dirname "${BASH_SOURCE[0]}")/../lib_accounts.sh"
need buildah
start_granary_with_accounts
buildah() { command buildah --root "$WORK/storage" --runroot "$WORK/runroot" --storage-driver vfs "$@"; }
images layout layout v1 buildah >/dev/null
log_in() { buildah login --tls-verify=false --username "$1" --password-stdin "$ADDR" <<<"$2"; }
log_out() { buildah logout "$ADDR"; }
push() { buildah pull --quiet oci:layout:v1 >id && buildah push --quiet --tls-verify=false "$(cat id)" "docker://$ADDR/$1:$2"; }
pull() { buildah rmi --all --force >/dev/null && buildah pull --quiet --tls-verify=false "docker://$ADDR/$1:$2"; }
accounts_hold
ok
