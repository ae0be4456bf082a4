#!/usr/bin/env bash
# helm, with accounts. A chart's name is the last part of its repository, its version the tag.
source "$(dirname "${BASH_SOURCE[0]}")/../lib_accounts.sh"
need helm
start_granary_with_accounts
mkdir -p chart/templates
log_in() { helm registry login "$ADDR" --plain-http --username "$1" --password-stdin <<<"$2"; }
log_out() { helm registry logout "$ADDR"; }
push() {
  printf 'apiVersion: v2\nname: %s\nversion: %s\ndescription: a chart for the conformance test\n' "${1#*/}" "$2" >chart/Chart.yaml
  helm package chart >/dev/null && helm push "${1#*/}-$2.tgz" "oci://$ADDR/${1%%/*}" --plain-http
}
pull() { rm -rf pulled && helm pull "oci://$ADDR/$1" --version "$2" --plain-http --destination pulled --untar; }
accounts_hold
ok
