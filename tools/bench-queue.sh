#!/usr/bin/env bash
# What Redis adds to a chunk of live audio; the argument is the seconds of each measurement (10).
# Rows go to target/bench/queue.jsonl.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/with-libtorch.sh cargo build --quiet --locked --release --workspace --features workers-run/torch --example queue-bench
exec "${CARGO_TARGET_DIR:-target}/release/examples/queue-bench" "$@"
