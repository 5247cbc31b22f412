#!/usr/bin/env bash
# Measures a whole service on this machine: the quickstart's resource, with room for many streams, on free ports.
# Arguments go to `smallest bench asr`; rows are appended to target/bench/asr.jsonl.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p target/bench
sed -e 's/^  name: quickstart$/  name: bench/' -e "s#url: file:../models#url: file://$PWD/models#" \
  -e 's/^    replicas: 1$/    replicas: 1\n    slots: 256/' examples/quickstart.yaml >target/bench/service.yaml
RUST_LOG="${RUST_LOG:-warn}" exec target/release/smallest up -f target/bench/service.yaml --ports free -- smallest bench asr "$@"
