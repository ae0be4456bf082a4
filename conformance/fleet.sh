#!/usr/bin/env bash
# The parts of deploy/compose as processes: PostgreSQL, a bucket, Redis, and three replicas behind nginx with the shipped
# configuration (round robin, no affinity). Then real clients and the OCI suite, through the balancer.
#
#   GRANARY_BIN=PATH       the binary under test
#   TESTBED_BIN=PATH       the program that starts back ends (tests/testbed); built if it is not given
#   BUCKET=minio|seaweedfs where the bytes lie (minio)
#   OCI_CONFORMANCE=PATH   the suite; without it only clients run
#   fleet.sh [CLIENT...]   these clients instead of: docker crane regctl skopeo oras
#   fleet.sh --keep        no tests: says where it is and stays until it is interrupted
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
suite=${OCI_CONFORMANCE:+$(realpath "$OCI_CONFORMANCE")}
testbed=${TESTBED_BIN:-}
if [ -z "$testbed" ]; then
  target=${CARGO_TARGET_DIR:-$HOME/.cache/granary/target}
  (cd "$here/.." && CARGO_TARGET_DIR=$target cargo build --quiet -p granary-testbed)
  testbed=$target/debug/testbed
fi
testbed=$(realpath "$testbed")
bucket=${BUCKET:-minio}
source "$here/lib.sh"
need curl nginx postgres redis-server
if [ "$bucket" = minio ]; then need minio; else need weed; fi
[ -n "${GRANARY_BIN:-}" ] || fail "GRANARY_BIN must name the granary binary"

step "PostgreSQL, $bucket and Redis"
mkfifo "$WORK/hold"
GRANARY_TOOLS=$GRANARY_TOOLS "$testbed" postgres "$bucket" redis <"$WORK/hold" >"$WORK/places" 2>"$WORK/testbed.log" &
testbed_pid=$!
exec 9>"$WORK/hold" # the back ends live as long as this is open, so nobody else may inherit it
defer "exec 9>&-; stop_process $testbed_pid"
places_known() { grep -q ^ready "$WORK/places" || ended $testbed_pid; }
wait_until 90 "the back ends" places_known
! ended $testbed_pid || fail "the back ends did not start: $(tail -n 3 "$WORK/testbed.log")"
place() { awk -v name="$1" '$1 == name {$1 = ""; print substr($0, 2)}' "$WORK/places"; }
postgres=$(place postgres)
read -r endpoint access_key secret_key <<<"$(place "$bucket")"

make_bucket() { # NAME
  curl --silent --fail --output /dev/null --aws-sigv4 aws:amz:us-east-1:s3 --user "$access_key:$secret_key" \
    -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' -X PUT "$endpoint/$1"
}

REPLICAS=()
NGINX_PID=

# Three replicas on a database and a bucket of their own, and nginx before them. Arguments are settings.
start_fleet() { # NAME SETTING...
  local name=$1 bucket=${1//_/-} ports=() port index # a bucket name has no underscores
  shift
  psql --quiet "$postgres" --command "CREATE DATABASE $name"
  make_bucket "$bucket" || fail "the bucket cannot be made"
  for index in 1 2 3; do
    port=$(free_port)
    ports+=("$port")
    env "$@" GRANARY_DATABASE__URL="${postgres%/postgres}/$name" GRANARY_DATABASE__MAX_CONNECTIONS=16 \
      GRANARY_STORAGE__KIND=s3 GRANARY_STORAGE__S3__ENDPOINT="$endpoint" GRANARY_STORAGE__S3__REGION=us-east-1 \
      GRANARY_STORAGE__S3__BUCKET="$bucket" GRANARY_STORAGE__S3__ACCESS_KEY_ID="$access_key" \
      GRANARY_STORAGE__S3__SECRET_ACCESS_KEY="$secret_key" GRANARY_STORAGE__S3__PATH_STYLE=true \
      GRANARY_REDIS__URL="$(place redis)" \
      "$GRANARY_BIN" serve --listen "127.0.0.1:$port" --data "$WORK/$name-$index" --allow-anonymous >>"$WORK/granary.log" 2>&1 9>&- &
    REPLICAS+=($!)
    ADDR=127.0.0.1:$port
    wait_until 30 "replica $index" granary_ready
  done
  port=$(free_port)
  sed -E "s/granary-1:5000/127.0.0.1:${ports[0]}/; s/granary-2:5000/127.0.0.1:${ports[1]}/; s/granary-3:5000/127.0.0.1:${ports[2]}/
    s/listen 8080/listen 127.0.0.1:$port/; s#/tmp/#$WORK/nginx-#; s#/dev/std(out|err)#$WORK/nginx-\1#" \
    "$here/../deploy/compose/nginx.conf" >"$WORK/nginx.conf"
  nginx -e "$WORK/nginx-error" -c "$WORK/nginx.conf" -g "daemon off;" 9>&- &
  NGINX_PID=$!
  ADDR=127.0.0.1:$port
  wait_until 10 "nginx" granary_ready
}

# Stops all of it; a replica that does not drain and end with 0 is a failure.
stop_fleet() {
  local pid code
  stop_process "$NGINX_PID"
  for pid in "${REPLICAS[@]}"; do kill -TERM "$pid"; done
  for pid in "${REPLICAS[@]}"; do
    wait_until 60 "a replica ending after SIGTERM" ended "$pid"
    code=0
    wait "$pid" || code=$?
    expect_eq "a replica's exit code after SIGTERM" 0 "$code"
  done
  REPLICAS=()
}

# What a failure leaves behind.
# shellcheck disable=SC2016
defer 'for pid in "${REPLICAS[@]}" $NGINX_PID; do kill -KILL "$pid" 2>/dev/null; done'

if [ "${1:-}" = --keep ]; then
  start_fleet fleet
  echo "through nginx: http://$ADDR"
  sleep infinity
fi

[ $# -gt 0 ] || set -- docker crane regctl skopeo oras
for client in "$@"; do
  step "$client through the balancer"
  start_fleet "client_$client"
  REGISTRY_ADDR=$ADDR HOME=$REAL_HOME "$here/clients.sh" "$client" 9>&- | tee "$WORK/client.out"
  expect_contains "what $client came to" "$(tail -n 1 "$WORK/client.out")" "1 passed, 0 failed"
  stop_fleet
done
uploads=$(grep -c '"P[A-Z]* /v2/.*/blobs/uploads/' "$WORK/nginx-out" || true)
[ "$uploads" -gt 0 ] || fail "no upload went through nginx"
echo "$uploads requests of uploads went through nginx"

if [ -z "$suite" ]; then
  echo "suite: skipped: OCI_CONFORMANCE is not set"
else
  # Every test of a level runs against a fresh installation: the suite pushes the same content each time.
  for level in 1.1 dev; do
    step "the suite at OCI_VERSION=$level through the balancer"
    start_fleet "suite_${level/./_}" GRANARY_POLICY__SPARSE=true
    OCI_VERSION=$level OCI_REGISTRY=$ADDR OCI_TLS=disabled OCI_DATA_SPARSE=true OCI_RESULTS_DIR=$WORK/results/$level \
      "$suite" >"$WORK/suite-$level.log" 2>&1 || true # the reports decide
    [ -f "$WORK/results/$level/results.yaml" ] || fail "the suite wrote no results: $(tail -n 20 "$WORK/suite-$level.log")"
    stop_fleet
  done
  python3 "$CONFORMANCE/suite_results.py" "$WORK/results/1.1" "$WORK/results/dev"
fi
ok
