#!/bin/sh
# What gateway and Redis add to a chunk of live audio; the argument is the seconds of each measurement (10).
# Rows go to target/bench/queue.jsonl.
set -eu
cd "$(dirname "$0")/.."
exec cargo run --quiet --release -p queue --example queue-bench -- "$@"
