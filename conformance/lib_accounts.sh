# What the scripts that need accounts share: a Granary with three users and two tokens, and what every client must and must not
# be able to do with it. Sourced, not run; it brings lib.sh along.
# shellcheck shell=bash disable=SC2034
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# lib.sh moves the home; these would lead a client past it, to the user's own log-ins.
unset HELM_CONFIG_HOME HELM_REGISTRY_CONFIG REGCTL_CONFIG DOCKER_AUTH_CONFIG CONTAINERS_AUTH_FILE
export DOCKER_CONFIG=$HOME/.docker REGISTRY_AUTH_FILE=$HOME/containers-auth.json
mkdir -p "$DOCKER_CONFIG"

ALICE_PASSWORD=alice-administers-1 # of the installation
BOB_PASSWORD=bob-owns-what-is-bobs
CAROL_PASSWORD=carol-owns-nothing-here
WIDE_TOKEN="" NARROW_TOKEN="" # bob's: all he may do, and only to read

# What clients say when they are not known, and when they are known and may not.
UNAUTHORIZED='unauthorized|401|authorization failed|authentication required|invalid username/password'
DENIED='denied|403|forbidden'

# --- the server ---

admin() { env "${GRANARY_ENV[@]}" "$GRANARY_BIN" admin "$@" --data "$WORK/data" "${GRANARY_ARGS[@]}"; }

api() { curl --silent --show-error --fail-with-body --max-time 30 --user "bob:$BOB_PASSWORD" "http://$ADDR$1" "${@:2}"; }

# Hashes are made as cheap as may be. The first account ends what everybody on this machine was allowed until then.
start_granary_with_accounts() { # SETTING...
  [ -z "${REGISTRY_ADDR:-}" ] || fail "REGISTRY_ADDR: accounts are tested on a server of their own"
  need curl jq
  start_granary GRANARY_AUTH__PASSWORD_MEMORY=8MiB GRANARY_AUTH__PASSWORD_ITERATIONS=1 "$@"
  expect_eq "status before there are accounts" 200 "$(api_status /v2/)"
  admin bootstrap --user alice --password-stdin <<<"$ALICE_PASSWORD"
  expect_eq "status once there are accounts" 401 "$(api_status /v2/)"
  admin user add bob --password-stdin <<<"$BOB_PASSWORD"
  admin user add carol --password-stdin <<<"$CAROL_PASSWORD"
  WIDE_TOKEN=$(admin token create bob --name wide --expires 30d)
  NARROW_TOKEN=$(admin token create bob --name narrow --scope 'read:bob/**' --expires 30d)
}

# With the server stopped, so that the command is tested on the folder too; start_granary_with_accounts has it ask the server.
publish() { # REPOSITORY
  stop_granary
  admin visibility "$1" public
  GRANARY_ENV+=(GRANARY_AUTH__ANONYMOUS=read)
  launch_granary
}

# --- what must hold for every client ---
#
# Before it calls these, a script says how its client does four things. Each must fail as soon as a part of it does, by `&&`: where
# a failure is expected, `set -e` does not count.
#
#   log_in USER PASSWORD    log_out    push REPOSITORY TAG    pull REPOSITORY TAG

log_in_as_bob() { log_in bob "$BOB_PASSWORD"; }

# Some clients only note what they are told; then the first use has to fail.
wrong_password_is_refused() {
  step "a wrong password is refused"
  if [ -n "${LOG_IN_ONLY_NOTES:-}" ]; then
    log_in bob "not-${BOB_PASSWORD}"
    expect_failure "$UNAUTHORIZED" push bob/app 0.1.0
    log_out
  else
    expect_failure "$UNAUTHORIZED" log_in bob "not-${BOB_PASSWORD}"
    expect_failure "$UNAUTHORIZED" log_in nobody "$BOB_PASSWORD"
  fi
}

# What the client says when it cannot pull, without the repository's name and the time of day.
refusal() { # REPOSITORY TAG
  local output
  ! output=$(pull "$1" "$2" 2>&1) || fail "$1:$2 should not be there to pull"
  sed -E "s#${1#*/}#NAME#g; s#[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}[T ][0-9:]{8}[0-9.Z+:-]*##g" <<<"$output"
}

others_see_nothing() {
  step "for another user, a private repository is one that does not exist"
  log_in carol "$CAROL_PASSWORD"
  expect_failure "$NOT_FOUND" pull bob/app 0.1.0
  expect_eq "what carol is told" "$(refusal bob/nothing 0.1.0)" "$(refusal bob/app 0.1.0)"
  expect_failure "$DENIED" push bob/app 0.2.0
  expect_failure "$DENIED" push bob/nothing 0.2.0
  push carol/app 0.1.0
  pull carol/app 0.1.0
  log_out
}

tokens_stand_for_the_password() {
  step "a token in place of the password"
  log_in bob "$WIDE_TOKEN"
  push bob/by-token 0.1.0
  log_out
  log_in token "$WIDE_TOKEN"
  pull bob/by-token 0.1.0
  log_out

  step "a token that may only read"
  log_in bob "$NARROW_TOKEN"
  pull bob/app 0.1.0
  expect_failure "$DENIED" push bob/app 0.2.0
  log_out
}

private_repository() {
  wrong_password_is_refused

  step "the right one: push and pull a private repository"
  log_in_as_bob
  push bob/app 0.1.0
  pull bob/app 0.1.0
  log_out

  step "nothing without credentials"
  expect_failure "$UNAUTHORIZED" pull bob/app 0.1.0
  expect_failure "$UNAUTHORIZED" pull bob/nothing 0.1.0
  expect_failure "$UNAUTHORIZED" push bob/app 0.2.0

  others_see_nothing
  tokens_stand_for_the_password
  expect_eq "tags after all that was refused" "0.1.0" "$(api /v2/bob/app/tags/list | jq -r '.tags | join(" ")')"
}

public_repository() {
  publish bob/app
  step "whoever comes may pull what is public, and no more"
  pull bob/app 0.1.0
  expect_failure "$UNAUTHORIZED|$DENIED" push bob/app 0.2.0 # whoever comes has a token now, so some call it denied
  expect_failure "$UNAUTHORIZED|$DENIED" pull bob/by-token 0.1.0

  step "so may who is known"
  log_in carol "$CAROL_PASSWORD"
  pull bob/app 0.1.0
  expect_failure "$DENIED" push bob/app 0.2.0
  log_out
  expect_eq "tags after all that was refused" "0.1.0" "$(api /v2/bob/app/tags/list | jq -r '.tags | join(" ")')"
}

no_secret_in_the_log() {
  local secret
  step "no secret stands in the server's log"
  for secret in "$ALICE_PASSWORD" "$BOB_PASSWORD" "$CAROL_PASSWORD" "$WIDE_TOKEN" "$NARROW_TOKEN"; do
    ! grep -F -- "$secret" "$WORK/granary.log" || fail "a secret stands in the log"
  done
}

# All of it, for a client that has said its four words.
accounts_hold() {
  private_repository
  public_repository
  no_secret_in_the_log
}
