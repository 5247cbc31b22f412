#!/usr/bin/env bash
# Prepares the Python of the tests and benchmarks: the pinned reference (transformers, torch), for `bench` its peers
# too, and for `clients` the clients that the whole-path tests use.
#
#   tools/python-env.sh [parity|bench|clients]          the environment; parity is the default
#   tools/python-env.sh --lock [parity|bench|clients]   resolves requirements anew and rewrites the lock files
#
# The last line of standard output is the environment's python; everything else goes to standard error.
# Safe to run twice: a finished environment is only named. It lies outside the checkout, in
# ${SMALLEST_CACHE:-$HOME/.cache/smallest}/python-<hash of the lock>, so a changed lock gives a new one.
# Size: about 6 GB, because PyPI's torch for Linux does not import without its CUDA libraries; `clients` 80 MB. No GPU
# is needed.
set -euo pipefail

say() { printf 'python-env: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

lock_only=no
kind=parity
for argument in "$@"; do
  case "$argument" in
    parity | bench | clients) kind=$argument ;;
    --lock) lock_only=yes ;;
    -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "unknown argument '$argument'; try parity, bench, clients or --lock" ;;
  esac
done

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/python" && pwd)"
files=("$here/requirements.txt")
lock="$here/requirements.lock"
case "$kind" in
  bench) files+=("$here/requirements-bench.txt") lock="$here/requirements-bench.lock" ;;
  clients) files=("$here/requirements-clients.txt") lock="$here/requirements-clients.lock" ;;
esac
cache="${SMALLEST_CACHE:-$HOME/.cache/smallest}"
base="${PYTHON:-python3}"
mkdir -p "$cache"

"$base" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' ||
  die "$base is not Python 3.11 to 3.13; set PYTHON to one that is (Debian 12: apt-get install python3 python3-venv)"

# install DIRECTORY REQUIREMENT_FILE...: a fresh virtual environment with exactly these packages.
install() {
  local directory=$1 arguments=(); shift
  for file in "$@"; do arguments+=(-r "$file"); done
  rm -rf "$directory"
  "$base" -m venv "$directory" >&2 || die "failed to make a virtual environment; install python3-venv (Debian: apt-get install python3-venv)"
  "$directory/bin/python" -m pip --disable-pip-version-check --no-input install --progress-bar on "${arguments[@]}" >&2 ||
    die "failed to install $*; the message of pip above says which package"
}

if [ "$lock_only" = yes ]; then
  scratch="$cache/python-lock-$kind"
  install "$scratch" "${files[@]}"
  { echo "# Made by tools/python-env.sh --lock $kind. Do not edit."
    "$scratch/bin/python" -m pip freeze --exclude setuptools --exclude pip; } >"$lock"
  say "wrote $lock"
  rm -rf "$scratch"
fi

hash="$(sha256sum <"$lock" | cut -c1-12)"
directory="$cache/python-$hash"
# One run at a time: two tests started together must not build the same environment.
exec 9>"$cache/.python-$hash.lock"
flock 9
if [ ! -e "$directory/.ready" ]; then
  say "installing the $kind environment into $directory (to download: 20 MB for clients, else about 3 GB)"
  install "$directory" "$lock"
  touch "$directory/.ready"
fi
say "ready: $directory"
echo "$directory/bin/python"
