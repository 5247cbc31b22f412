#!/usr/bin/env bash
# Journey: SVOX Pico's sources (PyPI package ttspico, Apache-2.0) -> A LIBRARY with two English women for svox.py.
#
#   models/training/svox.sh           builds it once; prints the folder: libttspico.so and lang/
#
# Debian has it in non-free alone (the voices cannot be made again from source), so it comes from PyPI, which every Python
# environment of this project comes from. It lies below $SMALLEST_CACHE (default ~/.cache/smallest), keyed by version and digest.
# Environment: PYTHON (with pip), CC (cc).
set -euo pipefail
version=0.3.2
digest=743a280a8ced8523583665cb45797d730aceb2e145a04a212f82ebb0b5fac6c8
folder=${SMALLEST_CACHE:-$HOME/.cache/smallest}/train/svox-$version-${digest:0:12}
if [ ! -s "$folder/libttspico.so" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    echo "svox: fetching and building SVOX Pico $version" >&2
    "${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: \
        --dest "$work" "ttspico==$version" >&2
    echo "$digest  $work/ttspico-$version.tar.gz" | sha256sum --check --quiet >&2
    tar -xzf "$work/ttspico-$version.tar.gz" -C "$work"
    pico=$work/ttspico-$version/picopi/pico
    "${CC:-cc}" -O2 -w -fPIC -shared -I "$pico/lib" -I "$pico/tts" "$pico"/lib/*.c "$pico"/tts/{tts_engine,langfiles}.c \
        -o "$work/libttspico.so" -lm
    mkdir -p "$folder"
    cp -r "$pico/lang" "$folder/"
    mv "$work/libttspico.so" "$folder/"                              # last: its presence says that all is there
fi
echo "$folder"
