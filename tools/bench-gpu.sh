#!/usr/bin/env bash
# Measures the 0.6 B width on a CUDA GPU beside Hugging Face on the same GPU (bench/README.md).
# Fails with a message where there is no GPU. Rows go to target/bench/gpu.jsonl.
# ENGINE_BENCH names an engine-bench that is built already, with its libtorch beside it; then nothing is built or fetched.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
if ! ls /dev/nvidia[0-9]* >/dev/null 2>&1; then
  echo "bench-gpu: this machine has no NVIDIA GPU (no /dev/nvidia0); the CPU benchmark is tools/bench-engine.sh" >&2
  exit 1
fi
if [ -z "${ENGINE_BENCH:-}" ]; then
  tools/libtorch.sh --cuda >/dev/null
  tools/with-libtorch.sh cargo build --locked --release --workspace --features workers-run/torch --bin engine-bench
  export ENGINE_BENCH="${CARGO_TARGET_DIR:-$root/target}/release/engine-bench"
fi
python="$(tools/python-env.sh bench | tail -1)"
exec "$python" bench/gpu.py "$@"
