#!/usr/bin/env bash
# oras, through its library (clients/oras-go) and, when ORAS names the real command line, through that too:
# push, pull, attach to a subject, discover with a filter, copy with referrers.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need oras-go
start_granary
echo '{"answer": 42}' >facts.json
images layer data.bin oras 3000000
echo '{"spdxVersion": "SPDX-2.3"}' >sbom.json
echo 'reviewed by a person' >review.txt

step "push"
repo=$ADDR/demo/artifact
digest=$(oras-go push -artifact-type application/vnd.granary.test "$repo:v1" facts.json:application/json data.bin)
expect_eq "digest of the push" "$(digest_of demo/artifact v1)" "$digest"
expect_eq "pushing again" "$digest" "$(oras-go copy "$repo:v1" "$repo:v1")"

step "pull"
expect_eq "digest of the pull" "$digest" "$(oras-go pull -o pulled "$repo:v1")"
cmp facts.json pulled/facts.json
cmp data.bin pulled/data.bin

step "attach two facts to the subject"
sbom=$(oras-go attach -artifact-type application/spdx+json "$repo:v1" sbom.json:application/spdx+json)
review=$(oras-go attach -artifact-type application/vnd.granary.review "$repo:v1" review.txt:text/plain)

step "discover all, and by artifact type"
referrers() { api "/v2/$1/referrers/$digest${2:-}" | jq -r '.manifests[].digest' | sort | xargs; }
both=$(printf '%s\n' "$sbom" "$review" | sort | xargs)
expect_eq "discovered" "$both" "$(oras-go discover "$repo:v1" | cut -d' ' -f1 | sort | xargs)"
expect_eq "discovered by type" "$sbom application/spdx+json" "$(oras-go discover -artifact-type application/spdx+json "$repo:v1")"
expect_eq "discovered by another type" "" "$(oras-go discover -artifact-type application/none "$repo:v1")"
expect_eq "the referrers API" "$both" "$(referrers demo/artifact)"
expect_eq "the referrers API with a filter" "$review" "$(referrers demo/artifact '?artifactType=application/vnd.granary.review')"
expect_eq "no fallback tag was needed" "v1" "$(api /v2/demo/artifact/tags/list | jq -r '.tags | join(" ")')"

step "copy with referrers to another repository"
expect_eq "digest of the copy" "$digest" "$(oras-go copy -r "$repo:v1" "$ADDR/demo/second:v1")"
expect_eq "referrers of the copy" "$both" "$(referrers demo/second)"

step "all of it after a restart"
restart_granary
expect_eq "discovered after a restart" "$both" "$(oras-go discover "$repo@$digest" | cut -d' ' -f1 | sort | xargs)"

step "what is missing is not found"
expect_failure "$NOT_FOUND" oras-go pull -o none "$repo:missing"
expect_failure "$NOT_FOUND" oras-go attach -artifact-type text/plain "$ADDR/demo/missing:v1" review.txt

if [ -n "${ORAS:-}" ]; then
  step "the oras command line"
  real() { "$ORAS" "$@"; }
  real push --plain-http --artifact-type application/vnd.granary.test "$ADDR/demo/cli:v1" facts.json:application/json data.bin
  subject=$(digest_of demo/cli v1)
  real attach --plain-http --artifact-type application/spdx+json "$ADDR/demo/cli:v1" sbom.json:application/spdx+json
  expect_contains "oras discover" "$(real discover --plain-http --format json "$ADDR/demo/cli:v1")" application/spdx+json
  real cp -r --from-plain-http --to-plain-http "$ADDR/demo/cli:v1" "$ADDR/demo/cli-copy:v1"
  expect_eq "digest of oras cp" "$subject" "$(digest_of demo/cli-copy v1)"
  expect_eq "referrers of oras cp" 1 "$(api "/v2/demo/cli-copy/referrers/$subject" | jq '.manifests | length')"
  real pull --plain-http -o cli-pulled "$ADDR/demo/cli-copy:v1"
  cmp data.bin cli-pulled/data.bin
  expect_failure "$NOT_FOUND" real pull --plain-http "$ADDR/demo/cli:missing"
else
  echo "   (ORAS is not set: the real command line was not run)"
fi
ok
