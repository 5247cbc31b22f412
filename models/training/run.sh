#!/usr/bin/env bash
# Journey: ONE COMMAND for the demo model: data -> training -> export -> samples -> evaluation -> checksums.
#
#   models/training/run.sh            everything; can be stopped and started again at any time
#   models/training/run.sh --smoke    the same steps on tiny data in a temporary folder (under 2 minutes), to prove they work
#
# Environment: PYTHON (with requirements.txt installed), SMALLEST_CACHE (default ~/.cache/smallest), WORKERS (2), SHARDS (36),
# EASY_SHARDS (8), STOP and DECAY_FROM (steps), DEVICE (cpu or cuda). With cuda one worker trains on batches of FRAMES (100000)
# and the other cores speak meanwhile: no shards are made.
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-python3}
smoke=0
[ "${1:-}" = "--smoke" ] && smoke=1

for lib in libespeak-ng.so.1 libflite.so.1 libflite_cmu_us_slt.so.1; do
    if ! "$python" -c "import ctypes; ctypes.CDLL('$lib')" 2>/dev/null; then
        echo "missing $lib: apt-get install libespeak-ng1 espeak-ng-data libflite1" >&2
        exit 1
    fi
done
if ! "$python" -c "import torch, transformers, tokenizers, safetensors, numpy" 2>/dev/null; then
    echo "missing Python packages: $python -m pip install -r $(pwd)/requirements.txt" >&2
    exit 1
fi

if [ "$smoke" = 1 ]; then
    SMALLEST_CACHE=$(mktemp -d)
    export SMALLEST_CACHE
    trap 'rm -rf "$SMALLEST_CACHE"' EXIT
    out=$SMALLEST_CACHE/model
    "$python" make_data.py --test --test-size 8
    "$python" make_data.py --easy --shards 1 --size 60
    "$python" make_data.py --shards 1 --size 60
    "$python" train.py --stop 8 --decay-from 4 --easy-until 4 --rnnt-from 3 --align-until 6 --frames 2500
    "$python" train.py --stop 12 --decay-from 8 --easy-until 4 --rnnt-from 3 --align-until 6 --frames 2500 --workers 2
    "$python" export.py --out "$out" --check 0
    "$python" samples.py --model "$out" --any
    "$python" evaluate.py --model "$out" --lookahead 6 --limit 2 --sets espeak nospeech --json "$out/results.json"
    rm "$out/results.json"  # a card needs all sets
    "$python" card.py --model "$out"
    for f in config.json model.safetensors tokenizer.json processor_config.json SHA256SUMS samples/samples.json; do
        test -s "$out/$f"
    done
    echo "smoke run passed"
    exit 0
fi

out=$(cd .. && pwd)/demo-asr
workers=${WORKERS:-2}
"$python" make_data.py --test
if [ "${DEVICE:-cpu}" = cpu ]; then
    frames=5000
    "$python" make_data.py --easy --shards "${EASY_SHARDS:-8}"
    "$python" make_data.py --shards "${SHARDS:-36}"
else
    workers=1 frames=100000
fi
"$python" train.py --workers "$workers" --device "${DEVICE:-cpu}" --frames "${FRAMES:-$frames}" \
    --stop "${STOP:-12000}" --decay-from "${DECAY_FROM:-9000}"
"$python" export.py --out "$out"
"$python" samples.py --model "$out"
"$python" evaluate.py --model "$out" --workers "$workers" --json "$out/results.json"
"$python" card.py --model "$out"
echo "done: $out"
