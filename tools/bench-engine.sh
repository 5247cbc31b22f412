#!/usr/bin/env bash
# Measures the model's step and its batch speed beside Hugging Face, ONNX Runtime and OpenVINO (bench/README.md).
# Arguments go to bench/asr_engine.py: --quick, --peers-only, --only demo …; rows go to target/bench/asr-engine.jsonl.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
case " $* " in
  *" --peers-only "* | *" --help "*) ;;
  *) tools/with-libtorch.sh cargo build --locked --release --workspace --features workers-run/torch --bin engine-bench ;;
esac
mkdir -p target/bench
cc -O2 -o target/bench/peak bench/peak.c && target/bench/peak
python="$(tools/python-env.sh bench | tail -1)"
exec "$python" bench/asr_engine.py "$@"
