# What every conformance script needs: a Granary of its own, checks that say which step failed, and a clean exit.
# Sourced, not run. A script sources it, names the tools it needs, starts Granary, works in $WORK and ends with `ok`.
#
#   GRANARY_BIN=PATH       the binary under test (required)
#   REGISTRY_ADDR=HOST:PORT  test that running registry instead; it is neither started nor stopped
#   KEEP=1                   leave the working folder for a look
# shellcheck shell=bash disable=SC2034
set -Eeuo pipefail

CONFORMANCE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NAME=$(basename "$0" .sh)
REAL_HOME=$HOME
[ -z "${GRANARY_BIN:-}" ] || GRANARY_BIN=$(realpath --canonicalize-missing "$GRANARY_BIN")
[ -z "${ORAS:-}" ] || ORAS=$(realpath "$(command -v "$ORAS")")
export GRANARY_TOOLS=${GRANARY_TOOLS:-$HOME/.cache/granary/tools}
WORK=$(mktemp -d "${TMPDIR:-/tmp}/granary-$NAME.XXXXXX")
STEP="starting"
GRANARY_PID=
GRANARY_ARGS=() # of each of its commands, such as --config FILE
CLEANUPS=()

# Clients keep their settings and caches in the working folder, never in the user's home.
export HOME=$WORK/home XDG_RUNTIME_DIR=$WORK/run
unset DOCKER_CONFIG REGISTRY_AUTH_FILE XDG_CONFIG_HOME XDG_CACHE_HOME XDG_DATA_HOME DOCKER_HOST DOCKER_CONTEXT http_proxy HTTP_PROXY
mkdir -p "$HOME" "$XDG_RUNTIME_DIR"
chmod 700 "$XDG_RUNTIME_DIR"
PATH="$("$CONFORMANCE/tools.sh" --path):$PATH:/usr/sbin:/sbin"

cd "$WORK"

# --- saying what happens ---

step() {
  STEP=$*
  echo "-- $STEP"
}

fail() {
  echo "$NAME: $*" >&2
  exit 1
}

ok() { echo "ok: $NAME"; }

# Ends the script as "not possible on this machine"; the runner counts it apart, and as a failure when CI=true.
skip() {
  echo "skipped: $NAME: $*"
  exit 77
}

# --- checks ---

expect_eq() { # WHAT EXPECTED ACTUAL
  [ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"
}

expect_contains() { # WHAT TEXT PART
  [[ $2 == *"$3"* ]] || fail "$1: '$3' is not in: $2"
}

# The command must fail, and its output must match the pattern (extended regular expression, any case).
expect_failure() { # PATTERN COMMAND...
  local pattern=$1 output
  shift
  if output=$("$@" 2>&1); then
    fail "should have failed but did not: $*"
  fi
  grep -Eqi -- "$pattern" <<<"$output" || fail "failed without saying /$pattern/: $*: $output"
}

NOT_FOUND='not found|404|manifest.unknown|name.unknown'

# What the API itself says, past every client.
api() { curl --silent --show-error --fail-with-body --max-time 30 "http://$ADDR$1" "${@:2}"; }
api_status() { curl --silent --output /dev/null --max-time 30 --write-out '%{http_code}' "http://$ADDR$1" "${@:2}"; }

MANIFEST_TYPES='application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json'

# The digest of REPOSITORY's REFERENCE, computed from the bytes served and compared with the header.
digest_of() { # REPOSITORY REFERENCE
  local headers=$WORK/digest.headers computed header
  computed=sha256:$(api "/v2/$1/manifests/$2" -H "Accept: $MANIFEST_TYPES" --dump-header "$headers" | sha256sum | cut -d' ' -f1)
  header=$(tr -d '\r' <"$headers" | awk 'tolower($1) == "docker-content-digest:" {print $2}')
  expect_eq "Docker-Content-Digest of $1:$2" "$computed" "$header"
  echo "$computed"
}

# --- waiting ---

wait_until() { # SECONDS WHAT COMMAND...
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || fail "waited in vain: $what"
    sleep 0.05
  done
}

ended() { ! kill -0 "$1" 2>/dev/null; }

stop_process() { # PID: asks, then insists
  local deadline=$((SECONDS + 20))
  kill -TERM "$1" 2>/dev/null || return 0
  until ended "$1" || [ $SECONDS -ge $deadline ]; do sleep 0.05; done
  kill -KILL "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

# --- cleaning up ---

defer() { CLEANUPS+=("$*"); } # runs at the end, the newest first

finish() {
  local code=$? index mount
  trap - EXIT ERR
  set +e
  if [ $code -ne 0 ] && [ $code -ne 77 ]; then
    echo "$NAME: FAILED at step: $STEP" >&2
    if [ -s "$WORK/granary.log" ]; then
      echo "$NAME: the server's last lines:" >&2
      tail -n 12 "$WORK/granary.log" >&2
    fi
  fi
  for ((index = ${#CLEANUPS[@]} - 1; index >= 0; index--)); do eval "${CLEANUPS[index]}"; done
  [ -z "$GRANARY_PID" ] || stop_process "$GRANARY_PID"
  while read -r mount; do umount -l "$mount"; done < <(awk -v work="$WORK/" 'index($2, work) == 1 {print $2}' /proc/mounts | sort -r)
  if [ -n "${KEEP:-}" ]; then echo "$NAME: kept $WORK"; else rm -rf "$WORK"; fi
  exit $code
}
trap finish EXIT
trap 'echo "$NAME: line $LINENO: failed: $BASH_COMMAND" >&2' ERR
trap 'exit 130' INT TERM

# --- tools ---

# Installs what is missing. What cannot be had here skips the script.
need() {
  local output code=0
  output=$(HOME=$REAL_HOME "$CONFORMANCE/tools.sh" "$@" 2>&1) || code=$?
  [ -z "$output" ] || echo "$output"
  [ $code -ne 77 ] || skip "$(tail -n 1 <<<"$output")"
  [ $code -eq 0 ] || fail "tools.sh $* ended with $code"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# --- the server ---

granary_ready() { [ "$(curl --silent --output /dev/null --max-time 2 --write-out '%{http_code}' "http://$ADDR/health/ready")" = 200 ]; }
granary_ready_or_dead() { granary_ready || ended "$GRANARY_PID"; }

launch_granary() {
  env "${GRANARY_ENV[@]}" "$GRANARY_BIN" serve --listen "$ADDR" --data "$WORK/data" "${GRANARY_ARGS[@]}" >>"$WORK/granary.log" 2>&1 &
  GRANARY_PID=$!
  wait_until 30 "Granary ready on $ADDR" granary_ready_or_dead
  ! ended "$GRANARY_PID" || fail "Granary ended while starting: $(tail -n 5 "$WORK/granary.log")"
}

# Starts Granary on a free port with an empty data folder; arguments are settings (GRANARY_POLICY__SPARSE=true).
start_granary() {
  GRANARY_ENV=("$@")
  if [ -n "${REGISTRY_ADDR:-}" ]; then
    ADDR=$REGISTRY_ADDR
    wait_until 10 "a registry at $ADDR" test "$(api_status /v2/)" = 200
    return
  fi
  [ -n "${GRANARY_BIN:-}" ] || fail "GRANARY_BIN must name the granary binary"
  [ -x "$GRANARY_BIN" ] || fail "GRANARY_BIN=$GRANARY_BIN is not a program"
  ADDR=127.0.0.1:$(free_port)
  launch_granary
}

# Stops it as an operator would; a server that does not drain and end with 0 is a failure.
stop_granary() {
  local code=0
  [ -n "$GRANARY_PID" ] || return 0
  kill -TERM "$GRANARY_PID"
  wait_until 30 "Granary ending after SIGTERM" ended "$GRANARY_PID"
  wait "$GRANARY_PID" || code=$?
  GRANARY_PID=
  expect_eq "Granary's exit code after SIGTERM" 0 "$code"
}

restart_granary() {
  [ -z "${REGISTRY_ADDR:-}" ] || return 0
  stop_granary
  launch_granary
}

# --- the docker engine (it has no systemd here, no bridge, no iptables; images are pushed and pulled, nothing is run) ---

start_dockerd() {
  need dockerd docker
  [ "$(id -u)" = 0 ] || skip "the docker engine needs root"
  export DOCKER_HOST=unix://$WORK/docker.sock DOCKER_CLI_EXPERIMENTAL=enabled
  dockerd --iptables=false --bridge=none --storage-driver=vfs --data-root "$WORK/docker" --exec-root "$WORK/docker-exec" \
    --pidfile "$WORK/docker.pid" --host "$DOCKER_HOST" --insecure-registry 127.0.0.0/8 >"$WORK/dockerd.log" 2>&1 &
  local pid=$!
  defer stop_process $pid
  dockerd_up_or_dead() { docker version || ended "$pid"; }
  wait_until 60 "the docker engine" dockerd_up_or_dead
  ! ended $pid || fail "the docker engine ended: $(tail -n 5 "$WORK/dockerd.log")"
}

# --- containerd, by its own command ---

# Debian's ctr talks to containerd through grpc-go 1.38, where a stream's window may be set too late and the stream then ends with
# "unexpected EOF" (grpc/grpc-go#5358, mended in 1.48; containerd/containerd#5734 is what a user sees of it: one push in a hundred).
# It says nothing of the registry, whose answers ctr reports in other words; so with exactly that, and nothing else, it goes again.
ctr_past_its_own_fault() { # FILE ARGUMENT...
  local said=$1 left=3 status
  shift
  while true; do
    status=0
    command ctr --address "$WORK/containerd.sock" "$@" 2>"$said" || status=$?
    cat "$said" >&2
    [ $status -ne 0 ] || return 0
    [ $((left -= 1)) -gt 0 ] && grep -qF 'rpc error: code = Internal desc = unexpected EOF' "$said" || return $status
  done
}

start_containerd() {
  need containerd ctr
  [ "$(id -u)" = 0 ] || skip "containerd needs root"
  cat >"$WORK/containerd.toml" <<TOML
version = 2
root = "$WORK/containerd"
state = "$WORK/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "$WORK/containerd.sock"
[ttrpc]
address = "$WORK/containerd.ttrpc"
TOML
  containerd --config "$WORK/containerd.toml" >"$WORK/containerd.log" 2>&1 &
  local pid=$!
  defer stop_process $pid
  ctr() { ctr_past_its_own_fault "$WORK/ctr-said" "$@"; }
  containerd_up_or_dead() { ctr version || ended "$pid"; }
  wait_until 30 "containerd" containerd_up_or_dead
  ! ended $pid || fail "containerd ended: $(tail -n 5 "$WORK/containerd.log")"
}

# --- content ---

# Deterministic images and layers; see images.py.
images() { python3 "$CONFORMANCE/images.py" "$@"; }
