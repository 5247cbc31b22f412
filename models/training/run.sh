#!/usr/bin/env bash
# Journey: ONE COMMAND for a model of the shipped kind: three trainings, each on from the one before, then samples, evaluation, card.
#
#   models/training/run.sh            everything; can be stopped and started again at any time
#   models/training/run.sh --smoke    the same stages on tiny data in a temporary folder (some 3 CPU-minutes), to prove they work
#
# What comes out of each stage lies below $SMALLEST_CACHE/train/models; a stage whose model is there is not run again.
#   base      from nothing, all usual voices
#   invented  on from base with invented speakers; half-way between the weights
#   foreign   on from invented with foreign voices and Pico's women; choose.py picks the share of that run in the weights
#   demo-asr  foreign with samples, results and card: what adopt.sh takes into the checkout
#
# Environment: PYTHON (with requirements.txt installed), SMALLEST_CACHE (default ~/.cache/smallest), WORKERS (2), DEVICE (cpu or
# cuda), FRAMES in a batch of base (5000, or 100000 with cuda), the steps BASE_STEPS (40000, or 12000 with cuda), INVENTED_STEPS
# (1200), FOREIGN_STEPS (2200), and the shards of base, SHARDS (72) and EASY_SHARDS (8). With cuda there are no shards: one
# worker trains, the other cores speak and invent meanwhile (live.py). The stage `invented` is left out then, since base hears
# invented speakers from the start, and foreign is a short run with a rate that falls.
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-python3}
device=${DEVICE:-cpu} workers=${WORKERS:-2} later_workers=${WORKERS:-2}

for lib in libespeak-ng.so.1 libflite.so.1 libflite_cmu_us_slt.so.1; do
    if ! "$python" -c "import ctypes; ctypes.CDLL('$lib')" 2>/dev/null; then
        echo "missing $lib: apt-get install libespeak-ng1 espeak-ng-data libflite1" >&2
        exit 1
    fi
done
if ! "$python" -c "import importlib.util as i; assert all(map(i.find_spec, 'torch transformers tokenizers safetensors numpy'.split()))" 2>/dev/null; then
    echo "missing Python packages: $python -m pip install -r $(pwd)/requirements.txt" >&2
    exit 1
fi
if ! command -v festival >/dev/null || ! "$python" -c "import foreign; assert all((foreign.ROOT / g).exists() for _, g in foreign.VOICES.values())" 2>/dev/null; then
    echo "missing Festival voices: apt-get install festival festvox-kdlpc16k festvox-italp16k festvox-czech-dita festvox-suopuhe-lj" >&2
    exit 1
fi

# Sizes, and what a smoke run has smaller.
if [ "$device" = cpu ]; then base_steps=${BASE_STEPS:-40000} frames=${FRAMES:-5000}; else base_steps=${BASE_STEPS:-12000} frames=${FRAMES:-100000}; fi
invented_steps=${INVENTED_STEPS:-1200} foreign_steps=${FOREIGN_STEPS:-2200} before_foreign=invented
[ "$device" = cpu ] || before_foreign=base
shards=${SHARDS:-72} easy_shards=${EASY_SHARDS:-8} invented_shards=12 plain_shards=8 foreign_shards=20
test_size=120 rows=1000 foreign_rows=600 later_frames=6500
phases=() checked=() tried=() wanted=() measured=(--workers "$workers")
if [ "${1:-}" = --smoke ]; then
    SMALLEST_CACHE=$(mktemp -d)
    export SMALLEST_CACHE
    trap 'rm -rf "$SMALLEST_CACHE"' EXIT
    base_steps=8 invented_steps=4 foreign_steps=4 shards=1 easy_shards=1 invented_shards=1 plain_shards=1 foreign_shards=1
    test_size=2 rows=24 foreign_rows=12 frames=2000 later_frames=2000 later_workers=1
    phases=(--easy-until 3 --rnnt-from 2 --align-until 5 --spelling-rows 8)
    checked=(--check 0) tried=(--shares .5) wanted=(--any --lookahead 6) measured=(--lookahead 6 --limit 1)
fi
train=${SMALLEST_CACHE:-$HOME/.cache/smallest}/train
mkdir -p "$train/data" "$train/models"

say() { printf '\n== %s\n' "$*"; }
# made NAME: is the stage's model there? (export.py writes training.json last)
made() {
    [ -e "$train/models/$1/training.json" ] || return 1
    say "$1: done before (to do it again: in $train remove models/$1, run-$1, and both of every stage behind it)"
}
# train_on NAME STEPS FROM OPTIONS...: so many steps on from FROM, a model's name, or from nothing; the second half with a falling rate.
train_on() {
    local run=$train/run-$1 steps=$2 from=$3 start=0
    shift 3
    if [ -n "$from" ]; then
        start=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["steps"])' "$train/models/$from/training.json")
        set -- --from-model "$train/models/$from" "$@"
    fi
    "$python" train.py --run "$run" --stop $((start + steps)) --decay-from $((start + steps / 2)) "${phases[@]}" "$@"
}
# shards_of NAME OPTIONS...: more shards for a stage; existing ones are kept. The noises of the test sets are its noises too.
shards_of() {
    mkdir -p "$train/data-$1"
    ln -sf ../data/noise.pt "$train/data-$1/noise.pt"
    "$python" make_data.py --out "$train/data-$1" "${@:2}"
}

PYTHON=$python ./svox.sh >/dev/null

say "test and validation sets"
[ -e "$train/data/test.pt" ] || "$python" make_data.py --test --test-size "$test_size"
[ -e "$train/data/validation.pt" ] || "$python" make_data.py --validation --test-size "$test_size"

if ! made base; then
    say "base: $base_steps steps from nothing"
    if [ "$device" = cpu ]; then
        "$python" make_data.py --easy --shards "$easy_shards" --size "$rows"
        "$python" make_data.py --shards "$shards" --size "$rows"
        train_on base "$base_steps" "" --workers "$workers" --frames "$frames" --augment .7
    else
        train_on base "$base_steps" "" --device "$device" --frames "$frames" --augment .7
    fi
    "$python" export.py --run "$train/run-base" --out "$train/models/base" "${checked[@]}"
fi

if [ "$device" = cpu ] && ! made invented; then
    say "invented: $invented_steps steps on with invented speakers, half-way between the weights"
    shards_of invented --first 1000 --shards "$invented_shards" --size "$rows" --invented .55
    train_on invented "$invented_steps" base --data "$train/data-invented" --workers "$later_workers" --frames "$later_frames" \
        --augment .8 --lr 1.2e-3 --muon 1.8e-3
    "$python" export.py --run "$train/run-invented" --out "$train/models/invented" --half-way-from "$train/models/base" "${checked[@]}"
fi

if ! made foreign; then
    say "foreign: $foreign_steps steps on with foreign voices, the share of them picked"
    if [ "$device" = cpu ]; then
        shards_of foreign --first 2000 --shards "$plain_shards" --size "$rows" --invented .4
        shards_of foreign --first 3000 --shards "$foreign_shards" --size "$foreign_rows" --invented .65 --foreign
        train_on foreign "$foreign_steps" "$before_foreign" --data "$train/data-foreign" --workers "$later_workers" \
            --frames "$later_frames" --augment .7 --lr 1.4e-3 --muon 2.1e-3
    else
        train_on foreign "$foreign_steps" "$before_foreign" --device "$device" --frames "$frames" --augment 1 --pico .25
    fi
    share=$("$python" choose.py --run "$train/run-foreign" --from-model "$train/models/$before_foreign" "${tried[@]}")
    "$python" export.py --run "$train/run-foreign" --out "$train/models/foreign" --half-way-from "$train/models/$before_foreign" \
        --share "$share" "${checked[@]}"
fi

out=$train/models/demo-asr
if [ ! -s "$out/SHA256SUMS" ]; then
    say "demo-asr: samples, evaluation, card"
    rm -rf "$out"
    cp -r "$train/models/foreign" "$out"
    "$python" samples.py --model "$out" "${wanted[@]}"
    "$python" evaluate.py --model "$out" "${measured[@]}" --json "$out/results.json"
    "$python" card.py --model "$out"
fi
for f in config.json model.safetensors tokenizer.json processor_config.json README.md SHA256SUMS samples/samples.json; do
    test -s "$out/$f"
done
if [ "${1:-}" = --smoke ]; then
    echo "smoke run passed"
else
    printf '\nThe model is trained; how well it hears stands in %s/README.md.\nTo take it into this checkout:  make adopt-demo-asr MODEL=%s\n' "$out" "$out"
fi
