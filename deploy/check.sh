#!/usr/bin/env bash
# Renders and lints what lies here: the chart, the compose file, nginx's configuration, alert rules and dashboard.
#
#   deploy/check.sh
#
# Exit code 77: a tool that a part needs cannot be had here; everything else was checked. With CI=true that is a failure.
# shellcheck source-path=SCRIPTDIR source=../conformance/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../conformance/lib.sh"
NAME=deploy
DEPLOY=$(dirname "$CONFORMANCE")/deploy
CHART=$DEPLOY/helm/granary
KUBERNETES=1.33.0 # the chart is rendered for it
missing=()

# Is the tool here, or can it be had? What cannot is told at the end.
want() {
  command -v "$1" >/dev/null && return
  HOME=$REAL_HOME "$CONFORMANCE/tools.sh" "$1" >"$WORK/tools.log" 2>&1 && command -v "$1" >/dev/null && return
  missing+=("$1")
  echo "   not run: no $1 ($(tail -n 1 "$WORK/tools.log"))"
  return 1
}

compose() {
  if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi
}

checked() { python3 "$DEPLOY/check.py" "$@"; }

step "shell scripts"
if want shellcheck; then shellcheck --external-sources "$DEPLOY"/*.sh; fi

step "Python"
# The tools' folder keeps Python's modules beside the program, yaml among them.
if want kubernetes-validate; then
  modules=$(dirname "$(dirname "$(command -v kubernetes-validate)")")
  [ ! -d "$modules/kubernetes_validate" ] || export PYTHONPATH=$modules PYTHONDONTWRITEBYTECODE=1
fi
if ! python3 -c 'import yaml' 2>/dev/null; then
  echo "   not run: Python has no yaml (Debian's python3-yaml)"
  missing+=(python3-yaml)
  checked() { :; }
fi

step "image, versions, metrics in rules and dashboard"
checked files

step "alert rules"
if want promtool; then
  promtool check rules "$DEPLOY/prometheus/granary.rules.yaml"
  promtool test rules "$DEPLOY/prometheus/granary.rules.test.yaml"
  checked expressions >dashboard.yaml
  [ ! -s dashboard.yaml ] || promtool check rules dashboard.yaml
fi

render() { # NAME SECRETS [HELM'S ARGUMENTS...]
  local name=$1 secrets=$2
  shift 2
  step "chart: $name"
  helm lint --strict --quiet --kube-version "$KUBERNETES" "$CHART" "$@"
  helm template release "$CHART" --namespace granary --kube-version "$KUBERNETES" "$@" >"$name.yaml"
  checked chart "$name.yaml" "$secrets"
  if command -v kubernetes-validate >/dev/null; then
    # It has no schema for kinds that others define (ServiceMonitor), and says so.
    kubernetes-validate --strict --quiet --kubernetes-version "${KUBERNETES%.*}" "$name.yaml"
  fi
}

# The chart must refuse these values and say why.
refuse() { # PATTERN HELM'S ARGUMENTS...
  expect_failure "$1" helm template release "$CHART" --kube-version "$KUBERNETES" "${@:2}"
}

if want helm; then
  render default granary-database,granary-s3
  render full db,s3,redis,auth,granary-tls --values "$CHART/ci/full-values.yaml"
  render bare granary-database --values "$CHART/ci/bare-values.yaml"
  step "chart: what it refuses"
  refuse 'database.url is a secret' --set 'settings.database\.url=x'
  refuse 'secret_access_key is a secret' --set 'settings.storage\.s3\.secret_access_key=x'
  refuse "'url' not allowed" --set database.url=postgres://u:p@h/d
  refuse 'value of its own' --set 'settings.storage\.s3\.bucket=x'
  refuse 'value of its own' --set 'settings.auth\.key_file=x'
  refuse 'otlp_endpoint' --set 'settings.telemetry\.otlp_endpoint=http://user:secret@collector:4318'
  refuse 'existingSecret' --set database.existingSecret=
  refuse 'at least one host' --set ingress.enabled=true
  refuse "'replica' not allowed" --set replica=3
  refuse 'requires kubeVersion' --kube-version 1.29.0
fi

step "compose"
if docker compose version >/dev/null 2>&1 || want docker-compose; then
  files=(--file "$DEPLOY/compose/compose.yaml" --env-file "$DEPLOY/compose/.env.example")
  compose "${files[@]}" config --format json >compose.json
  checked compose compose.json
  compose "${files[@]}" --file "$DEPLOY/compose/accounts.yaml" config --format json >accounts.json
  checked compose accounts.json auth-key
  # Into a file first: grep ends at the first match, and compose would be told that nobody listens.
  compose "${files[@]}" --profile search config --services >services.txt
  grep -qx elasticsearch services.txt || fail "no elasticsearch in the profile search"
  expect_failure 'write it into .env' compose --file "$DEPLOY/compose/compose.yaml" --env-file /dev/null config --quiet
fi

step "nginx"
if want nginx; then
  # nginx resolves names when it reads them, and has to write somewhere.
  sed -E "s/granary-[0-9]+:5000/127.0.0.1:5000/; s#/tmp/#$WORK/nginx-#; s#/dev/std(out|err)#$WORK/nginx-\1#" \
    "$DEPLOY/compose/nginx.conf" >nginx.conf
  nginx -t -q -e "$WORK/nginx-error" -c "$WORK/nginx.conf"
fi

step "tools"
if [ ${#missing[@]} -gt 0 ]; then
  [ "${CI:-}" != true ] || fail "these tools are missing: ${missing[*]}"
  skip "without ${missing[*]}; the rest is good"
fi
ok
