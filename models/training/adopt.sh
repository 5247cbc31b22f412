#!/usr/bin/env bash
# Journey: a trained model folder (run.sh) -> ADOPT: the checkout's demo model, its digest in the examples, its golden files.
#
#   models/training/adopt.sh [FOLDER]    without FOLDER: models/demo-asr as it stands, after a training by hand
#
# Afterwards `make run` serves the new model and `make test` expects it. A model that is adopted already changes nothing.
# Environment: PYTHON (the pinned reference, tools/python-env.sh).
set -euo pipefail
model=$(cd "${1:-$(dirname "$0")/../demo-asr}" && pwd)
cd "$(dirname "$0")/../.."
demo=$(pwd)/models/demo-asr golden=workers/torch/golden
die() { echo "adopt: $*" >&2; exit 1; }

for f in config.json model.safetensors tokenizer.json README.md samples/samples.json SHA256SUMS; do
    [ -s "$model/$f" ] || die "$model lacks $f: run.sh makes whole folders; card.py writes README.md and SHA256SUMS"
done
(cd "$model" && sha256sum --check --quiet SHA256SUMS) || die "$model is not what its SHA256SUMS say: run card.py again"
if [ "$model" != "$demo" ]; then
    rm -rf "$demo.new"
    cp -r "$model" "$demo.new"
    rm -rf "$demo"
    mv "$demo.new" "$demo"
fi

digest=$(cd "$demo" && sha256sum config.json model.safetensors tokenizer.json | sha256sum | cut -c1-64)
for example in examples/quickstart*.yaml; do
    sed -i "/- name: demo-asr\$/,/sha256:/s/^\( *sha256: \)[0-9a-f]\{64\}\$/\1$digest/" "$example"
    grep -q "^ *sha256: $digest\$" "$example" || die "$example has no sha256 below '- name: demo-asr': put $digest there"
done
# The files are the same on the same machine alone, so those of this very model stay.
if ! grep -q "\"digest\": \"sha256:$digest\"" "$golden/demo-asr/index.json"; then
    "${PYTHON:-python3}" "$golden/generate.py" --only demo-asr
fi
echo "adopted ${digest:0:12}; git diff shows what changed. Figures of models before it stay in README.md and models/training/README.md."
