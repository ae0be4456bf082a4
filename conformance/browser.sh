#!/usr/bin/env bash
# People log in through a provider: a certified OpenID provider and a real browser, both on this machine. What comes of it is used
# by crane, and ends as soon as the provider says so.
#
#   GRANARY_BIN=PATH conformance/browser.sh
# shellcheck source-path=SCRIPTDIR source=lib_accounts.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib_accounts.sh"
need chromium playwright-core crane
modules=$(dirname "$(dirname "$(command -v playwright-core)")") # the provider lies beside it
# Where node looks for packages: beside the program.
ln -s "$modules" node_modules
cp "$CONFORMANCE"/browser/*.mjs .

start_granary_with_accounts GRANARY_AUTH__PASSWORD_FAILURES=0
port=${ADDR##*:}
GRANARY=http://localhost:$port # browsers keep Secure cookies for this name without TLS
ISSUER=http://127.0.0.1:$(free_port)
CLIENT_SECRET=only-for-this-test-$RANDOM$RANDOM$RANDOM
export GRANARY WORK CHROMIUM
CHROMIUM=$(command -v chromium)

step "a provider, and a Granary that knows it"
ISSUER=$ISSUER REDIRECT=$GRANARY/auth/callback/corp CLIENT_ID=granary CLIENT_SECRET=$CLIENT_SECRET node provider.mjs >provider.log 2>&1 &
provider=$!
defer stop_process $provider
provider_up_or_dead() { curl --silent --fail "$ISSUER/.well-known/openid-configuration" || ended $provider; }
wait_until 30 "the provider" provider_up_or_dead
! ended $provider || fail "the provider ended: $(tail -n 5 provider.log)"
says() { # NAME JSON-LIST
  curl --silent --show-error --fail --request PUT --data "$2" "$ISSUER/control/groups/$1"
}
cat >granary.toml <<TOML
[server]
public_url = "$GRANARY"
[auth.oidc.corp]
preset = "generic"
issuer = "$ISSUER"
client_id = "granary"
client_secret = "$CLIENT_SECRET"
groups_claim = "groups"
TOML
chmod 600 granary.toml
stop_granary
GRANARY_ARGS=(--config "$WORK/granary.toml")
launch_granary

step "engineers write in acme"
admin org create acme --owner alice
admin provider map corp engineers acme --role write
says erin '["engineers", "people"]'
images layout layout v1 browser >/dev/null

visit() { timeout 120 node login.mjs "$1" || fail "the browser: $1"; }
# With the token that erin made in her browser.
crane_log_in() { crane auth login "localhost:$port" --username erin --password-stdin <token; }
push() { crane push --insecure layout "localhost:$port/$1:latest"; }
pull() { crane pull --insecure "localhost:$port/$1:latest" pulled.tar; }

step "erin logs in"
visit enter

step "crane uses the token that she made"
crane_log_in
push acme/app
pull acme/app
push erin/app
expect_failure "$DENIED" push bob/app

step "what is tried with the answers of both sides"
visit attack

step "the provider takes erin out of the group, and she logs in again"
says erin '["people"]'
visit again
expect_eq "who she is" erin "$(jq -r .user again)"
expect_failure "$DENIED" push acme/app
expect_failure "$NOT_FOUND" pull acme/app
pull erin/app

step "back in, she has it again"
says erin '["engineers"]'
visit again
push acme/app

step "no secret stands in the server's log"
for secret in "$CLIENT_SECRET" "$(<token)"; do
  ! grep -F -- "$secret" granary.log || fail "a secret stands in the log"
done
ok
