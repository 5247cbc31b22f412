#!/usr/bin/env bash
# What gateway and Redis add to a chunk of live audio, client to client. Rows go to target/bench/gateway.jsonl.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/with-libtorch.sh cargo build --quiet --locked --release --workspace --features workers-run/torch --example relay_latency
exec "${CARGO_TARGET_DIR:-target}/release/examples/relay_latency" "$@"
