#!/usr/bin/env bash
# Runs a command with LIBTORCH set to the folder that tools/libtorch.sh prepares: tools/with-libtorch.sh cargo build …
# Every build of the workspace goes through here, so that cargo sees the same environment and rebuilds nothing.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
LIBTORCH="${LIBTORCH:-$("$here/libtorch.sh" 2>/dev/null | tail -1 || true)}"
[ -n "$LIBTORCH" ] || { echo "with-libtorch: libtorch is not there; run 'make setup'" >&2; exit 1; }
export LIBTORCH
exec "$@"
