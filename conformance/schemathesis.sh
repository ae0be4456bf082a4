#!/usr/bin/env bash
# Asks the server what the OpenAPI document promises, with requests that schemathesis makes up from it: as an administrator, with a
# token that may do little, and as nobody. Whoever asks, and whatever: no 5xx, and no answer that the document does not know.
#
#   GRANARY_BIN=PATH conformance/schemathesis.sh            all three
#   GRANARY_BIN=PATH conformance/schemathesis.sh nobody     only this one
#
# The same requests each time; conformance/schemathesis/schemathesis.toml says which checks are left out, and why.
# shellcheck source-path=SCRIPTDIR source=lib_accounts.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib_accounts.sh"
need schemathesis crane
[ $# -gt 0 ] || set -- administrator narrow nobody
DOCUMENT=$(dirname "$CONFORMANCE")/openapi/registry.json
PYTHONPATH=$(dirname "$(dirname "$(command -v schemathesis)")") # the tools' folder keeps Python's modules beside the program
export PYTHONPATH PYTHONDONTWRITEBYTECODE=1 SCHEMATHESIS_HOOKS=$CONFORMANCE/schemathesis/hooks.py

# Wrong passwords cost nothing here: how those who guess are slowed down is tested elsewhere.
start_granary_with_accounts GRANARY_AUTH__PASSWORD_FAILURES=0

step "something to ask for, and something to change"
images layout layout v1 schemathesis >/dev/null
crane auth login "$ADDR" --username bob --password-stdin <<<"$BOB_PASSWORD" 2>/dev/null
admin user add dave --password-stdin <<<"$CAROL_PASSWORD" # to be disabled, removed and so on
for organisation in acme doomed; do # the second one to be changed
  admin org create "$organisation" --owner bob
  admin team create "$organisation/core"
  admin robot create "$organisation+ci"
done

# Each of the three finds the same, whatever the one before it did away with.
content() {
  local repository
  for repository in bob/app bob/doomed bob/gone; do crane push --insecure layout "$ADDR/$repository:latest" 2>>crane.log >&2; done
}
content
image=$(digest_of bob/app latest)
layer=$(api "/v2/bob/app/manifests/latest" | jq -r '.layers[0].digest')
KNOWN=$(jq -n --arg image "$image" --arg layer "$layer" '
  {manifests: ["latest", "nothing", $image], blobs: [$layer, $image], referrers: [$image, $layer]} | {
    read: (. + {v2: ["bob/app", "bob/nothing", "carol/app"], users: ["bob", "nobody"], namespaces: ["bob", "acme", "nothing"],
      orgs: ["acme", "nothing"], owners: ["acme", "alice", "nothing"], teams: ["core", "nothing"], robots: ["ci", "nothing"], members: ["bob", "carol"]}),
    change: (. + {v2: ["bob/doomed", "bob/nothing", "carol/app"], owners: ["acme", "alice"], teams: ["core"], robots: ["ci"], members: ["carol", "dave"]}),
    only: {users: ["dave"], namespaces: ["doomed", "carol"], orgs: ["doomed", "nothing"],
      repositories: ["bob/gone", "bob/nothing", "carol/app"]}
  }')
export KNOWN

# Upload sessions of the administrator's, as a JSON list; a session is its beginner's alone.
sessions() { # REPOSITORY COUNT
  local -a ids=()
  while [ ${#ids[@]} -lt "$2" ]; do
    ids+=("$(api "/v2/$1/blobs/uploads/" --user "alice:$ALICE_PASSWORD" --request POST --dump-header - | tr -d '\r' | awk '/^docker-upload-uuid:/ {print $2}')")
  done
  jq -n '$ARGS.positional' --args "${ids[@]}"
}

# One line for each answer that schemathesis saw: method, path and status.
answers() { # NAME
  jq -r '.ScenarioFinished.recorder | select(. != null) | .cases as $cases | .interactions // {} | to_entries[] | select(.value.response != null)
    | "\($cases[.key].value.method) \($cases[.key].value.path) \(.value.response.status_code)"' "$WORK/$1.ndjson"
}

failed=()
ask() { # NAME SCHEMATHESIS-ARGUMENTS...
  local name=$1 started=$SECONDS
  shift
  step "as $name"
  content
  if ! schemathesis --config-file "$CONFORMANCE/schemathesis/schemathesis.toml" run "$DOCUMENT" --url "http://$ADDR" \
    --report ndjson --report-ndjson-path "$WORK/$name.ndjson" "$@" >"$WORK/$name.log" 2>&1; then
    failed+=("$name")
    sed -n '/= \(FAILURES\|ERRORS\) =/,$p' "$WORK/$name.log" | grep . || tail -n 30 "$WORK/$name.log"
  fi
  answers "$name" | sort | uniq -c >"$WORK/$name.answers"
  echo "   $(awk '{sum += $1} END {print sum}' "$WORK/$name.answers") answers in $((SECONDS - started)) s"
}

# A run in which everything was refused would prove little.
expect_answer() { # NAME PATTERN
  grep -Eq "^ *[0-9]+ $2\$" "$WORK/$1.answers" || fail "$1 was never answered so: $2"
}
expect_no_answer() { # NAME PATTERN
  ! grep -E "^ *[0-9]+ $2\$" "$WORK/$1.answers" || fail "$1 was answered what it must not be"
}

for name in "$@"; do
  case $name in
    administrator)
      KNOWN=$(jq --argjson look "$(sessions bob/app 5)" --argjson work "$(sessions bob/doomed 20)" \
        '.read.uploads = $look | .change.uploads = $work' <<<"$KNOWN")
      ask "$name" --auth "alice:$ALICE_PASSWORD"
      expect_answer "$name" "GET /v2/_catalog 200"
      expect_answer "$name" "GET /v2/[{]name[}]/manifests/[{]reference[}] 200"
      expect_answer "$name" "DELETE /v2/[{]name[}]/manifests/[{]reference[}] 202"
      expect_answer "$name" "GET /api/v1/orgs/[{]org[}] 200"
      expect_answer "$name" "GET /api/v1/audit/export 200"
      expect_answer "$name" "POST /api/v1/tokens 201"
      expect_eq "whether the administrator is still let in" 200 "$(api_status /v2/ --user "alice:$ALICE_PASSWORD")"
      ;;
    narrow)
      ask "$name" --auth "bob:$NARROW_TOKEN"
      expect_answer "$name" "GET /v2/[{]name[}]/manifests/[{]reference[}] 200"
      expect_answer "$name" "DELETE /v2/[{]name[}]/manifests/[{]reference[}] 403"
      expect_no_answer "$name" "(PUT|DELETE|PATCH) /v2/.* 2.."
      expect_no_answer "$name" "(POST|PUT|DELETE|PATCH) /api/.* 2.."
      expect_eq "whether the token still counts" 200 "$(api_status /v2/ --user "bob:$NARROW_TOKEN")"
      ;;
    nobody)
      ask "$name"
      expect_answer "$name" "GET /v2/[{]name[}]/manifests/[{]reference[}] 401"
      expect_no_answer "$name" "[A-Z]+ /(v2|api)/.* 2.."
      ;;
    *) fail "'$name' is none of administrator, narrow, nobody" ;;
  esac
done
[ ${#failed[@]} -eq 0 ] || fail "not what the document promises: ${failed[*]}"
ok
