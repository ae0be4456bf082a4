#!/usr/bin/env bash
# Runs every real client in conformance/accounts against one Granary binary, each with a server of its own that has accounts: right
# and wrong passwords, tokens, private and public repositories.
#
#   GRANARY_BIN=PATH conformance/accounts.sh          all of them
#   GRANARY_BIN=PATH conformance/accounts.sh crane    only these
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/clients.sh" --with-accounts "$@"
