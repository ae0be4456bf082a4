#!/usr/bin/env bash
# The docker engine, with accounts.
source "$(dirname "${BASH_SOURCE[0]}")/../lib_accounts.sh"
start_dockerd
start_granary_with_accounts
images archive image.tar local/app:v1 docker
docker load --quiet --input image.tar
image_id() { docker image inspect --format '{{.Id}}' "$1"; }
id=$(image_id local/app:v1)
log_in() { docker login --username "$1" --password-stdin "$ADDR" <<<"$2"; }
log_out() { docker logout "$ADDR"; }
push() { docker load --quiet --input image.tar && docker tag local/app:v1 "$ADDR/$1:$2" && docker push "$ADDR/$1:$2"; }

# Everything local is forgotten first, so that all of it has to come from the registry.
pull() {
  if image_id "$id" >/dev/null 2>&1; then docker image rm --force "$id" >/dev/null; fi
  docker pull --quiet "$ADDR/$1:$2" && expect_eq "image id after the pull" "$id" "$(image_id "$ADDR/$1:$2")"
}
accounts_hold

# The engine repeats an upload whose refusal it does not understand for most of a minute. It understands DENIED, unless the message
# is the very one of distribution's own table and there is no detail.
step "no refusal was taken for a fault"
! grep 'retrying: ' "$WORK/dockerd.log" || fail "the engine repeated what it was denied"
ok
