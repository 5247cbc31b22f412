#!/usr/bin/env bash
# Measures the 0.6 B width on a CUDA GPU beside Hugging Face on the same GPU (bench/README.md).
# Fails with a message where there is no GPU. Rows go to target/bench/gpu.jsonl.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
if ! ls /dev/nvidia[0-9]* >/dev/null 2>&1; then
  echo "bench-gpu: this machine has no NVIDIA GPU (no /dev/nvidia0); the CPU benchmark is tools/bench-engine.sh" >&2
  exit 1
fi
tools/libtorch.sh --cuda >/dev/null
tools/with-libtorch.sh cargo build --locked --release -p workers-torch --bin engine-bench
python="$(tools/python-env.sh bench | tail -1)"
exec "$python" bench/gpu.py "$@"
