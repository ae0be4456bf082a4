#!/usr/bin/env bash
# oras, with accounts: through its library, oras-go, by the program in clients/oras-go; and, when ORAS names the real command line,
# through that too.
source "$(dirname "${BASH_SOURCE[0]}")/../lib_accounts.sh"
need oras-go
start_granary_with_accounts
images layer data.bin oras 3000000
log_in() { oras-go login "$ADDR" "$1" <<<"$2"; }
log_out() { oras-go logout "$ADDR"; }
push() { oras-go push -artifact-type application/vnd.granary.test "$ADDR/$1:$2" data.bin; }
pull() { rm -rf pulled && oras-go pull -o pulled "$ADDR/$1:$2" && cmp data.bin pulled/data.bin; }
private_repository

if [ -n "${ORAS:-}" ]; then
  step "the oras command line"
  log_in() { "$ORAS" login --plain-http --username "$1" --password-stdin "$ADDR" <<<"$2"; }
  log_out() { "$ORAS" logout "$ADDR"; }
  push() { "$ORAS" push --plain-http --artifact-type application/vnd.granary.test "$ADDR/$1:$2" data.bin; }
  pull() { rm -rf pulled && "$ORAS" pull --plain-http -o pulled "$ADDR/$1:$2" && cmp data.bin pulled/data.bin; }
  private_repository
else
  echo "   (ORAS is not set: the real command line was not run)"
fi
public_repository
no_secret_in_the_log
ok
