#!/usr/bin/env bash
# containerd's ctr, with accounts. It keeps no log-in: user and password go with each command.
source "$(dirname "${BASH_SOURCE[0]}")/../lib_accounts.sh"
start_containerd
start_granary_with_accounts
images layout layout v1 containerd >/dev/null
tar -C layout -cf layout.tar .
LOG_IN_ONLY_NOTES=yes
credentials=()
log_in() { credentials=(--user "$1:$2"); }
log_out() { credentials=(); }
push() {
  ctr images import --all-platforms --no-unpack --base-name "$ADDR/$1" layout.tar >/dev/null &&
    ctr images push --plain-http "${credentials[@]}" "$ADDR/$1:$2" "$ADDR/$1:v1" >/dev/null
}

# Everything local is forgotten first, so that all of it has to come from the registry.
pull() {
  local known
  mapfile -t known < <(ctr images ls --quiet)
  [ ${#known[@]} -eq 0 ] || ctr images rm --sync "${known[@]}" >/dev/null
  ctr content fetch --plain-http "${credentials[@]}" "$ADDR/$1:$2" >/dev/null
}

accounts_hold
ok
