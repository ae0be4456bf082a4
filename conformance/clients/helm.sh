#!/usr/bin/env bash
# helm: package, push, pull, show and render a chart of two versions.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need helm
start_granary
mkdir -p chart/templates
cat >chart/templates/config.yaml <<'YAML'
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}}
data: {version: {{ .Chart.Version | quote }}}
YAML
chart=oci://$ADDR/charts/demo

step "package and push two versions"
for version in 0.1.0 0.2.0+build.1; do
  printf 'apiVersion: v2\nname: demo\nversion: %s\ndescription: a chart for the conformance test\n' "$version" >chart/Chart.yaml
  helm package chart
  output=$(helm push "demo-$version.tgz" "oci://$ADDR/charts" --plain-http 2>&1)
  expect_contains "digest helm prints" "$output" "$(digest_of charts/demo "${version/+/_}")" # a tag has no plus
done
expect_eq "tags" "0.1.0 0.2.0_build.1" "$(api /v2/charts/demo/tags/list | jq -r '.tags | join(" ")')"

step "pull by version, and the newest"
mkdir pulled
helm pull "$chart" --version 0.1.0 --plain-http --destination pulled
cmp demo-0.1.0.tgz pulled/demo-0.1.0.tgz
helm pull "$chart" --plain-http --destination pulled
cmp demo-0.2.0+build.1.tgz pulled/demo-0.2.0+build.1.tgz

step "show and render, after a restart"
restart_granary
expect_contains "helm show chart" "$(helm show chart "$chart" --version 0.1.0 --plain-http 2>&1)" "version: 0.1.0"
expect_contains "helm template" "$(helm template mine "$chart" --version 0.1.0 --plain-http 2>&1)" 'version: "0.1.0"'

step "what is missing is not found"
expect_failure "$NOT_FOUND" helm pull "$chart" --version 9.9.9 --plain-http
expect_failure "$NOT_FOUND" helm show chart "oci://$ADDR/charts/missing" --version 0.1.0 --plain-http
ok
