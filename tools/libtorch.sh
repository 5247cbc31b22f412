#!/usr/bin/env bash
# Prepares LIBTORCH: the C++ library of PyTorch, taken from its PyPI wheel, as a folder that cargo can link against.
#
#   tools/libtorch.sh          the CPU library (about 0.5 GB); enough to build and to run without a GPU
#   tools/libtorch.sh --cuda   also the CUDA set (about 4 GB more), which the worker opens at run time
#
# The last line of standard output is the folder; everything else goes to standard error, so that
# `LIBTORCH=$(tools/libtorch.sh | tail -1) cargo build -p workers-run --features torch` works.
# Safe to run twice: a finished folder is only named. It lies outside the checkout, in
# ${SMALLEST_CACHE:-$HOME/.cache/smallest}, keyed by version.
#
# Layout (the relative places of the wheels are kept, because the libraries find each other through them):
#   <root>/torch/lib       libtorch_cpu.so libc10.so libgomp.so.1, and libtorch.so -> libtorch_cpu.so
#   <root>/torch/include   headers for the C++ shim
#   <root>/torch/cuda      libtorch_cuda.so and its helpers (--cuda); not in lib/, so that nothing links them
#   <root>/nvidia/*/lib    libcudart.so.13 and libcupti.so.13, which libtorch_cpu.so needs; the rest with --cuda
set -euo pipefail

torch_version=2.11.0
cuda_base=(nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
cuda_full=(
  nvidia-cublas==13.1.0.3 nvidia-cufft==12.0.0.61 nvidia-cufile==1.15.1.6 nvidia-curand==10.4.0.35
  nvidia-cusolver==12.0.4.66 nvidia-cusparse==12.6.3.3 nvidia-nvjitlink==13.0.88
  nvidia-cuda-nvrtc==13.0.88 nvidia-nvtx==13.0.85 nvidia-cudnn-cu13==9.19.0.56
  nvidia-cusparselt-cu13==0.8.0 nvidia-nccl-cu13==2.28.9 nvidia-nvshmem-cu13==3.4.5
)

say() { printf 'libtorch: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

with_cuda=no
case "${1:-}" in
  "") ;;
  --cuda) with_cuda=yes ;;
  -h | --help) sed -n '2,17s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) die "unknown argument '$1'; the only option is --cuda" ;;
esac
[ "$(uname -sm)" = "Linux x86_64" ] || die "this script knows Linux on x86-64 only; set LIBTORCH to a libtorch $torch_version yourself"

cache="${SMALLEST_CACHE:-$HOME/.cache/smallest}"
root="$cache/libtorch-$torch_version-cu13"
mkdir -p "$root"
# One run at a time: two builds started together must not write the same files.
exec 9>"$root/.lock"
flock 9

python="${PYTHON:-python3}"
pip() { "$python" -m pip --disable-pip-version-check --no-input "$@" >&2; }

# download WHEEL_SPEC...: fetches wheels into $root/wheels without their dependencies.
download() {
  "$python" -m pip --version >/dev/null 2>&1 || die "$python has no pip; install python3-pip (Debian: apt-get install python3-pip)"
  say "downloading $*"
  pip download --no-deps --only-binary=:all: --dest "$root/wheels" "$@"
}

# unpack PATTERN SOURCE=TARGET...: extracts the members under SOURCE of the wheels named like PATTERN to TARGET.
unpack() {
  "$python" - "$root" "$@" <<'PYTHON'
import fnmatch, glob, os, shutil, sys, zipfile
root, pattern, *rules = sys.argv[1:]
for wheel in glob.glob(os.path.join(root, "wheels", pattern)):
    with zipfile.ZipFile(wheel) as archive:
        for member in (name for name in archive.namelist() if not name.endswith("/")):
            for rule in rules:
                source, target = rule.split("=")
                if not fnmatch.fnmatch(member, source):
                    continue
                name = member if target == "." else os.path.join(target, os.path.basename(member))
                path = os.path.join(root, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with archive.open(member) as reader, open(path + ".part", "wb") as writer:
                    shutil.copyfileobj(reader, writer, 1 << 20)
                os.replace(path + ".part", path)
                break
PYTHON
}

if [ ! -e "$root/.cpu-ready" ]; then
  download "torch==$torch_version" "${cuda_base[@]}"
  say "unpacking"
  unpack 'torch-*.whl' 'torch/lib/libtorch_cpu.so=.' 'torch/lib/libc10.so=.' 'torch/lib/libgomp*.so*=.' 'torch/include/*=.'
  unpack 'nvidia_cuda_*.whl' 'nvidia/*/lib/libcudart.so.13=.' 'nvidia/*/lib/libcupti.so.13=.'
  # The wheel's own libtorch.so needs libtorch_cuda.so; programs here must not.
  ln -sfn libtorch_cpu.so "$root/torch/lib/libtorch.so"
  # torch-sys reads the version of a LIBTORCH folder from this file.
  echo "$torch_version" >"$root/torch/build-version"
  touch "$root/.cpu-ready"
  [ "$with_cuda" = yes ] || rm -rf "$root/wheels"
fi

if [ "$with_cuda" = yes ] && [ ! -e "$root/.cuda-ready" ]; then
  [ -n "$(find "$root/wheels" -name 'torch-*.whl' 2>/dev/null)" ] || download "torch==$torch_version"
  unpack 'torch-*.whl' 'torch/lib/lib*cuda*.so=torch/cuda' 'torch/lib/libtorch_nvshmem.so=torch/cuda' 'torch/lib/libcaffe2_nvrtc.so=torch/cuda'
  rm -rf "$root/wheels"
  download "${cuda_base[@]}" "${cuda_full[@]}"
  say "unpacking the CUDA set"
  unpack 'nvidia_*.whl' 'nvidia/*/lib/*.so*=.'
  rm -rf "$root/wheels"
  touch "$root/.cuda-ready"
fi

say "ready: $root/torch"
echo "$root/torch"
