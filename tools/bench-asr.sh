#!/usr/bin/env bash
# Measures a whole service on this machine, made from the quickstart's resource, on free ports: from start to ready and
# at rest, then under load, with room for many streams and with the quickstart's own `slots: auto`.
# Arguments go to `smallest bench asr`; rows are appended to target/bench/service.jsonl and target/bench/asr.jsonl.
set -euo pipefail
cd "$(dirname "$0")/.."
smallest="${CARGO_TARGET_DIR:-target}/release/smallest"
export RUST_LOG="${RUST_LOG:-warn}"
mkdir -p target/bench

# resource NAME [SED…]: the quickstart's resource under a name of its own, so that one that runs is not in the way.
resource() {
  local name="$1"
  shift
  sed -e "s/^  name: quickstart\$/  name: bench-$name/" -e "s#url: file:../models#url: file://$PWD/models#" "$@" \
    examples/quickstart.yaml >"target/bench/$name.yaml"
}
resource quickstart
resource many-slots -e 's/^    replicas: 1$/    replicas: 1\n    slots: 256/'

# With libtorch's folder in the environment, the rows tell its version.
run() { tools/with-libtorch.sh "$smallest" "$@"; }
# The batch part does not depend on the slots: once is enough.
case " $* " in *" --no-batch "*) no_batch=() ;; *) no_batch=(--no-batch) ;; esac
run bench service -f target/bench/quickstart.yaml
run up -f target/bench/many-slots.yaml --ports free -- smallest bench asr --label 'slots: 256' "$@"
run up -f target/bench/quickstart.yaml --ports free -- smallest bench asr --label 'slots: auto' "${no_batch[@]}" "$@"
