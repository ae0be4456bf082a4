#!/usr/bin/env bash
# podman, with accounts.
source "$(dirname "${BASH_SOURCE[0]}")/../lib_accounts.sh"
need podman
start_granary_with_accounts
podman() {
  command podman --root "$WORK/storage" --runroot "$WORK/runroot" --tmpdir "$WORK/libpod" --storage-driver vfs \
    --cgroup-manager cgroupfs --events-backend none "$@"
}
images archive image.tar local/app:v1 podman
log_in() { podman login --tls-verify=false --username "$1" --password-stdin "$ADDR" <<<"$2"; }
log_out() { podman logout "$ADDR"; }
push() { podman load --quiet --input image.tar && podman push --quiet --tls-verify=false local/app:v1 "$ADDR/$1:$2"; }
pull() { podman image rm --all --force >/dev/null && podman pull --quiet --tls-verify=false "$ADDR/$1:$2"; }
accounts_hold
ok
