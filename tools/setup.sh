#!/usr/bin/env bash
# Installs what a build and a local run need and this machine lacks. Safe to run twice: the second run only looks.
#
#   tools/setup.sh            what `make build`, `make run` and `make test` need
#   tools/setup.sh --train    also what `make train-demo-asr` needs (speech synthesizers, plain English text)
#   tools/setup.sh --cluster  also what a throw-away Kubernetes needs (tools/cluster.sh, tools/images.sh)
#
# Where the machine has an NVIDIA GPU, its part of libtorch is fetched too (about 4 GB, once): a GPU is used when there
# is one. SMALLEST_CUDA=no leaves it out, and the service runs on the CPU.
#
# Debian packages are installed as root or through password-less sudo; otherwise the script says which
# command is missing, how to install it, and stops with exit status 1. Nothing else is changed outside
# the checkout and ${SMALLEST_CACHE:-$HOME/.cache/smallest}, where libtorch goes (tools/libtorch.sh).
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# One line per need: the command, library or file below `share` that proves it, and the Debian package that brings it.
needs="cc:gcc c++:g++ make:make cmake:cmake git:git redis-server:redis-server"
libraries="" files=""
share="${SMALLEST_SHARE:-/usr/share}" # the folder is named by tests alone
case "${1:-}" in
  "") ;;
  --cluster)
    PATH="$PATH:/usr/sbin:/sbin"
    needs+=" containerd:containerd runc:runc nft:nftables iptables:iptables conntrack:conntrack ipset:ipset socat:socat"
    needs+=" modprobe:kmod ip:iproute2 setpriv:util-linux openssl:openssl curl:curl buildah:buildah debootstrap:debootstrap"
    needs+=" /usr/lib/cni/bridge:containernetworking-plugins" ;;
  --train)
    needs+=" festival:festival"
    libraries="libespeak-ng.so.1:libespeak-ng1 libespeak-ng.so.1:espeak-ng-data libflite.so.1:libflite1"
    files="games/fortunes/wisdom:fortunes festival/voices/english/ked_diphone:festvox-kdlpc16k"
    files+=" festival/voices/italian/lp_diphone:festvox-italp16k festival/voices/czech/czech_dita:festvox-czech-dita"
    files+=" festival/voices/finnish/suo_fi_lj_diphone:festvox-suopuhe-lj" ;;
  -h | --help) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) die "unknown argument '$1'; the options are --train and --cluster" ;;
esac

missing=()
for need in $needs; do
  command -v "${need%%:*}" >/dev/null 2>&1 || missing+=("${need##*:}")
done
python="${PYTHON:-python3}"
if command -v "$python" >/dev/null 2>&1; then
  "$python" -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
  "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 || missing+=(python3-venv)
else
  missing+=(python3 python3-pip python3-venv)
fi
for need in $libraries; do
  { ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null | grep "${need%%:*}" >/dev/null || missing+=("${need##*:}")
done
for need in $files; do
  [ -e "$share/${need%%:*}" ] || missing+=("${need##*:}")
done

# as_root COMMAND...: runs it as root, or fails when that is not possible without asking for a password.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# A freshly installed redis-server must not start as a service: `smallest up` starts its own on the same port.
install_packages() {
  local policy=/usr/sbin/policy-rc.d wrote_policy=no
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    wrote_policy=yes
  fi
  local status=0
  { as_root apt-get update -q && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } >&2 || status=$?
  [ "$wrote_policy" = no ] || as_root rm -f "$policy"
  [ "$status" = 0 ] || die "apt-get could not install $*; its messages are above"
  case " $* " in
    *" redis-server "*)
      if command -v systemctl >/dev/null 2>&1; then as_root systemctl disable redis-server >/dev/null 2>&1 || true; fi ;;
  esac
}

if [ "${#missing[@]}" -gt 0 ]; then
  command -v apt-get >/dev/null 2>&1 || die "these Debian packages (or your system's equivalents) are missing: ${missing[*]}"
  if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
    die "these Debian packages are missing: ${missing[*]}
setup: run this once as root, then try again:  apt-get install ${missing[*]}"
  fi
  say "installing ${missing[*]}"
  install_packages "${missing[@]}"
else
  say "Debian packages: nothing to install"
fi

command -v cargo >/dev/null 2>&1 || die "cargo is missing: install Rust $(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml) from https://rustup.rs (then open a new shell)"
say "$(cargo --version), $("$python" --version), redis-server $(redis-server --version | sed -n 's/.*v=\([0-9.]*\).*/\1/p')"

if [ "${1:-}" = --cluster ]; then
  command -v go >/dev/null 2>&1 || die "go is missing: install Go 1.24 or newer from https://go.dev/dl (Debian's is older)"
  say "$(go version | cut -d' ' -f1-3), containerd $(containerd --version | awk '{ print $3 }')"
fi

# The device files that the kernel driver makes; the folder is named by tests alone.
devices="${SMALLEST_DEVICES:-/dev}"
if [ "${SMALLEST_CUDA:-yes}" != no ] && { [ -e "$devices/nvidia0" ] || [ -e "$devices/nvidiactl" ]; }; then
  say "this machine has an NVIDIA GPU: its libraries are needed too, about 4 GB once (SMALLEST_CUDA=no leaves them out)"
  tools/libtorch.sh --cuda >/dev/null || die "failed to get the GPU's libraries; SMALLEST_CUDA=no does without them, on the CPU"
else
  tools/libtorch.sh >/dev/null
fi
say "ready"
