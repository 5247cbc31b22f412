#!/usr/bin/env bash
# What tools/setup.sh says where something is missing and it may not install: each case gets a PATH of its own, with
# nothing in it but what the case puts there. Nothing is installed; a fake apt-get only writes down what it was told.
set -uo pipefail
cd "$(dirname "$0")/../.."

box="$(mktemp -d)"
trap 'rm -rf "$box"' EXIT
passed=0 failed=0

# machine: an empty machine whose user is not root.
machine() {
  rm -rf "$box/bin" "$box/told"
  mkdir -p "$box/bin"
  : >"$box/told"
  local tool
  for tool in bash env dirname sed cut tail grep cat; do ln -s "$(command -v "$tool")" "$box/bin/$tool"; done
  fake id 'echo 1000'
}
# fake NAME SCRIPT: a program that does this.
fake() { printf '#!/bin/bash\n%s\n' "$2" >"$box/bin/$1"; chmod +x "$box/bin/$1"; }
# present NAME...: programs that are there, and that nobody runs for a purpose.
present() { local name; for name; do fake "$name" 'exit 0'; done; }

# expect NAME STATUS LINE...: runs the set-up, whose status and every line of whose answer is given; `arguments` are its own.
arguments=()
expect() {
  local name="$1" status="$2" found said line wrong=""
  shift 2
  said="$(env -i HOME="$box" PATH="$box/bin" TOLD="$box/told" SMALLEST_SHARE="$box/share" bash tools/setup.sh "${arguments[@]}" 2>&1)"
  found=$?
  [ "$found" = "$status" ] || wrong="status $found"
  for line; do grep -qF -- "$line" <<<"$said" || wrong+="; not said: $line"; done
  if [ -z "$wrong" ]; then passed=$((passed + 1)); return; fi
  failed=$((failed + 1))
  printf 'FAILED  %s: %s\n%s\n' "$name" "$wrong" "$said"
}
# installs WORDS: what apt-get was told, nothing when it was not asked.
installs() {
  if [ "$(cat "$box/told")" = "$1" ]; then passed=$((passed + 1)); return; fi
  failed=$((failed + 1))
  printf 'FAILED  apt-get was told:\n%s\n' "$(cat "$box/told")"
}

wanted='gcc g++ make cmake git redis-server python3 python3-pip python3-venv'
say_to_root="setup: run this once as root, then try again:  apt-get install $wanted"
apt='echo "apt-get $*" >>"$TOLD"'

machine; fake apt-get "$apt"
expect 'no sudo at all' 1 "setup: these Debian packages are missing: $wanted" "$say_to_root"
installs ''

machine; fake apt-get "$apt"; fake sudo 'exit 1'
expect 'a sudo that asks for a password' 1 "$say_to_root"
installs ''

machine
expect 'no Debian' 1 "setup: these Debian packages (or your system's equivalents) are missing: $wanted"

machine; fake apt-get "$apt"; present cc c++ make cmake git
fake python3 '[ "$2" != "import venv, ensurepip" ]'
expect 'only some are missing' 1 'try again:  apt-get install redis-server python3-venv'
installs ''

machine; fake apt-get "$apt"; fake sudo '[ "$1" = -n ] && shift; exec "$@"'; present true tee chmod rm
expect 'a sudo without a password' 1 "setup: installing $wanted" 'setup: cargo is missing: install Rust'
installs "apt-get update -q
apt-get install -y --no-install-recommends $wanted"

machine; fake apt-get 'echo "E: no network"; exit 100'; fake sudo '[ "$1" = -n ] && shift; exec "$@"'; present true tee chmod rm
expect 'packages that cannot be had' 1 'E: no network' "setup: apt-get could not install $wanted; its messages are above"

machine; present cc c++ make cmake git redis-server python3
expect 'everything but Rust' 1 'setup: Debian packages: nothing to install' 'setup: cargo is missing: install Rust' 'https://rustup.rs'

# What the training wants beside it: synthesizers, their voices, and plain English text.
voices='libespeak-ng1 espeak-ng-data libflite1 fortunes festvox-kdlpc16k festvox-italp16k festvox-czech-dita festvox-suopuhe-lj'
arguments=(--train)
machine; present cc c++ make cmake git redis-server python3; fake ldconfig 'echo "libc.so.6"'
expect 'a training without a synthesizer' 1 "are missing: festival $voices"

machine; present cc c++ make cmake git redis-server python3 festival; fake ldconfig 'echo "libespeak-ng.so.1 libflite.so.1"'
for file in games/fortunes/wisdom festival/voices/{english/ked_diphone,italian/lp_diphone,czech/czech_dita}; do mkdir -p "$box/share/$file"; done
expect 'a training without one voice' 1 'are missing: festvox-suopuhe-lj'

mkdir -p "$box/share/festival/voices/finnish/suo_fi_lj_diphone"
expect 'everything that a training wants' 1 'setup: Debian packages: nothing to install'
arguments=()

# A machine with everything: the script in a checkout of its own, whose libtorch.sh only writes down what it was told.
mkdir -p "$box/checkout/tools" "$box/gpu" "$box/no-gpu"
cp tools/setup.sh "$box/checkout/tools/"
: >"$box/gpu/nvidia0"
printf '#!/bin/bash\necho "libtorch.sh $*" >>"$TOLD"\n' >"$box/checkout/tools/libtorch.sh"
chmod +x "$box/checkout/tools/libtorch.sh"
# complete NAME DEVICES CUDA TOLD: the set-up of a complete machine succeeds, and libtorch.sh is told this.
complete() {
  local said
  machine; present cc c++ make cmake git redis-server python3 cargo
  if said="$(env -i HOME="$box" PATH="$box/bin" TOLD="$box/told" SMALLEST_DEVICES="$2" SMALLEST_CUDA="$3" \
    bash "$box/checkout/tools/setup.sh" 2>&1)" && [ "$(cat "$box/told")" = "$4" ]; then
    passed=$((passed + 1))
    return
  fi
  failed=$((failed + 1))
  printf 'FAILED  %s: libtorch.sh was told:\n%s\nsaid:\n%s\n' "$1" "$(cat "$box/told")" "$said"
}
complete 'no GPU' "$box/no-gpu" '' 'libtorch.sh '
complete 'a GPU' "$box/gpu" '' 'libtorch.sh --cuda'
complete 'a GPU that is not wanted' "$box/gpu" no 'libtorch.sh '

printf '%d passed, %d failed in %ds\n' "$passed" "$failed" "$SECONDS"
[ "$failed" = 0 ]
