#!/usr/bin/env bash
# Builds the container images of images/ from programs that cargo has built.
#
#   tools/images.sh [OPTION...] [IMAGE...]     all but worker-cuda when no image is named
#   --profile debug|release    programs of target/debug or target/release (default: release)
#   --engine buildah|podman|docker             default: the first of them that works
#   --save DIR                 also writes DIR/IMAGE.tar, which `ctr -n k8s.io images import` and `docker load` take
#   --prefix REGISTRY          puts a registry in front of the names (default: quay.io)
#   --tag TAG                  default: the version of the workspace
#   --list                     prints the names of the images and ends
#
# Images: operator gateway license-proxy worker redis; worker-cuda (needs `tools/libtorch.sh --cuda`; 3.8 GB);
# worker-fake (for tests; on top of worker).
# An image whose programs, libraries, models and Containerfile are as before is not built again.
# Where no registry can be reached, the base image is made from Debian packages (debootstrap, as root) under the
# name that the Containerfiles use. It is kept in ${SMALLEST_CACHE:-$HOME/.cache/smallest}/images.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'images: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

base=docker.io/library/debian:bookworm-slim
cache="${SMALLEST_CACHE:-$HOME/.cache/smallest}/images"
profile=release engine="" save="" prefix=quay.io
tag="$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)"
declare -A repository=(
  [operator]=smallest-operator [gateway]=self-hosted-api-server [worker]=lightning-asr
  [worker-cuda]=lightning-asr-cuda [worker-fake]=lightning-asr-fake [license-proxy]=license-proxy [redis]=redis)
declare -A program=(
  [operator]=smallest-operator [gateway]=smallest-gateway [worker]=smallest-worker
  [worker-cuda]=smallest-worker [license-proxy]=smallest-license-proxy [worker-fake]="" [redis]="")
name_of() { echo "$prefix/smallestinc/${repository[$1]}:$tag"; }

images=() list=no
while [ "$#" -gt 0 ]; do
  case "$1" in
    --profile) profile="${2:?--profile takes debug or release}"; shift ;;
    --engine) engine="${2:?--engine takes buildah, podman or docker}"; shift ;;
    --save) save="${2:?--save takes a folder}"; shift ;;
    --prefix) prefix="${2:?--prefix takes a registry}"; shift ;;
    --tag) tag="${2:?--tag takes a tag}"; shift ;;
    --list) list=yes ;;
    -h | --help) sed -n '2,17s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) die "unknown option '$1'; see tools/images.sh --help" ;;
    *) [ -n "${repository[$1]:-}" ] || die "there is no image '$1'; there are: ${!repository[*]}"; images+=("$1") ;;
  esac
  shift
done
[ "${#images[@]}" -gt 0 ] || images=(operator gateway license-proxy worker redis)
if [ "$list" = yes ]; then for image in "${images[@]}"; do name_of "$image"; done; exit 0; fi
case "$profile" in debug | release) ;; *) die "--profile takes debug or release, not '$profile'" ;; esac

works() {
  case "$1" in
    docker) docker info >/dev/null 2>&1 ;;
    buildah | podman) command -v "$1" >/dev/null 2>&1 && "$1" images >/dev/null 2>&1 ;;
    *) die "unknown engine '$1'; there are buildah, podman and docker" ;;
  esac
}
if [ -z "$engine" ]; then
  for candidate in buildah podman docker; do
    if works "$candidate"; then engine="$candidate"; break; fi
  done
  [ -n "$engine" ] || die "neither buildah nor podman nor docker works here (Debian: apt-get install buildah)"
else
  works "$engine" || die "$engine does not work here"
fi
case "$(uname -m)" in
  x86_64) arch=amd64 ;;
  aarch64) arch=arm64 ;;
  *) die "no images for $(uname -m)" ;;
esac

# One run at a time: runs share the staging folders and the engine's storage.
mkdir -p "$cache" target
exec 9>target/.images.lock
flock 9

# label IMAGE: the digest of what the image was made from; nothing when there is no such image.
label() {
  case "$engine" in
    buildah) buildah inspect --type image --format '{{index .OCIv1.Config.Labels "ai.smallest.inputs"}}' "$1" ;;
    *) "$engine" image inspect --format '{{index .Config.Labels "ai.smallest.inputs"}}' "$1" ;;
  esac 2>/dev/null || true
}
exists() {
  case "$engine" in
    buildah) buildah inspect --type image "$1" ;;
    *) "$engine" image inspect "$1" ;;
  esac >/dev/null 2>&1
}
id_of() {
  case "$engine" in
    buildah) buildah images --quiet --no-trunc "$1" ;;
    *) "$engine" image inspect --format '{{.Id}}' "$1" ;;
  esac 2>/dev/null | head -1 || true
}

# bootstrap FILE: a Debian root as small as the published slim image, as a tar file.
bootstrap() {
  [ "$(id -u)" = 0 ] || die "no registry can be reached, and making $base from Debian packages needs root"
  command -v debootstrap >/dev/null 2>&1 || die "no registry can be reached, and debootstrap is missing (apt-get install debootstrap)"
  local root mirror="${DEBIAN_MIRROR:-http://deb.debian.org}"
  root="$(mktemp -d "$cache/bootstrap.XXXXXX")"
  say "making $base from $mirror (about a minute, once)"
  debootstrap --variant=minbase --arch="$arch" bookworm "$root" "$mirror/debian" >"$root.log" 2>&1 ||
    { tail -5 "$root.log" >&2; die "debootstrap failed; its output is $root.log"; }
  printf 'deb %s/debian %s main\n' "$mirror" bookworm "$mirror" bookworm-updates >"$root/etc/apt/sources.list"
  printf 'deb %s/debian-security bookworm-security main\n' "$mirror" >>"$root/etc/apt/sources.list"
  # What the slim image leaves out too, now and at every later installation.
  printf 'path-exclude /usr/share/%s/*\n' doc man locale info lintian >"$root/etc/dpkg/dpkg.cfg.d/slim"
  printf 'Acquire::Languages "none";\n' >"$root/etc/apt/apt.conf.d/slim"
  rm -rf "$root"/usr/share/{doc,man,locale,info,lintian}/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*
  rm -f "$root/etc/resolv.conf" "$root/etc/hostname"
  tar --create --numeric-owner --one-file-system --sort=name -C "$root" -f "$1.part" .
  mv "$1.part" "$1"
  rm -rf "$root" "$root.log"
}

# The base, in the engine's storage under its published name.
ensure_base() {
  if exists "$base"; then return; fi
  if timeout 30 "$engine" pull "$base" >/dev/null 2>&1; then say "$base pulled"; return; fi
  local file="$cache/debian-bookworm-slim-$arch.tar"
  [ -e "$file" ] || bootstrap "$file"
  if [ "$engine" != buildah ]; then "$engine" import --change 'CMD ["bash"]' "$file" "$base" >/dev/null; return; fi
  local container
  container="$(buildah from scratch)"
  buildah add --quiet "$container" "$file" / >/dev/null
  buildah config --cmd bash "$container"
  buildah commit --quiet --rm "$container" "$base" >/dev/null
}

# newest FILE OTHER: is FILE there and not older than OTHER?
fresh() { [ -e "$1" ] && [ ! "$2" -nt "$1" ]; }

# stripped SOURCE TARGET: copies a program or library without what only a debugger reads.
stripped() {
  if fresh "$2" "$1"; then return; fi
  strip --strip-unneeded -o "$2.part" "$1"
  chmod 755 "$2.part"
  mv "$2.part" "$2"
}

# Libraries of the worker: what libtorch_cpu.so needs besides Debian's own.
stage_libraries() { # TARGET
  local torch source
  torch="${LIBTORCH:-$(tools/libtorch.sh 2>/dev/null | tail -1)}"
  mkdir -p "$1"
  for source in "$torch"/lib/{libtorch_cpu.so,libc10.so,libgomp.so.1} "$torch"/../nvidia/*/lib/{libcudart.so.13,libcupti.so.13}; do
    stripped "$source" "$1/$(basename "$source")"
  done
}

stage_cuda() { # TARGET
  local torch source
  torch="$(tools/libtorch.sh --cuda | tail -1)"
  mkdir -p "$1"
  for source in "$torch"/cuda/*.so* "$torch"/../nvidia/*/lib/*.so*; do
    case "$(basename "$source")" in libcudart.so.13 | libcupti.so.13) continue ;; esac
    fresh "$1/$(basename "$source")" "$source" || cp --reflink=auto "$source" "$1/"
  done
}

# The model that every cluster has without a download.
stage_models() { # TARGET
  mkdir -p "$1/demo-asr"
  find models/demo-asr -maxdepth 1 -type f -exec install -m 644 -p {} "$1/demo-asr/" \;
}

# stage IMAGE: makes the context of its build; prints the folder.
stage() {
  local context="target/images/$profile/$1" name="${program[$1]:-}"
  mkdir -p "$context/$arch"
  if [ -n "$name" ]; then
    [ -e "target/$profile/$name" ] || die "target/$profile/$name is not built; run: $([ "$profile" = debug ] && echo tools/test.sh build || echo make build)"
    case "$1" in
      worker | worker-cuda)
        readelf -d "target/$profile/$name" | grep -q libtorch_cpu ||
          die "target/$profile/$name was built without libtorch; run: $([ "$profile" = debug ] && echo tools/test.sh build || echo make build)" ;;
    esac
    mkdir -p "$context/$arch/bin"
    stripped "target/$profile/$name" "$context/$arch/bin/$name"
  fi
  case "$1" in worker | worker-cuda) stage_libraries "$context/$arch/lib"; stage_models "$context/models" ;; esac
  case "$1" in worker-cuda) stage_cuda "$context/$arch/cuda" ;; esac
  echo "$context"
}

# inputs IMAGE CONTEXT: a digest over all that the image is made of.
inputs() {
  { id_of "$base"; [ "$1" != worker-fake ] || id_of "$(name_of worker)"; cat "images/$1/Containerfile"; echo "$tag"
    (cd "$2" && find . -type f -print0 | sort -z | xargs -0 -r sha256sum); } | sha256sum | cut -d' ' -f1
}

build() { # IMAGE CONTEXT NAME INPUTS
  local flags=(--file "images/$1/Containerfile" --tag "$3" --label "ai.smallest.inputs=$4" --build-arg "VERSION=$tag")
  case "$engine" in
    buildah) buildah build --quiet --isolation chroot --layers --pull-never --build-arg "TARGETARCH=$arch" "${flags[@]}" "$2" ;;
    podman) podman build --quiet --layers --pull=never --build-arg "TARGETARCH=$arch" "${flags[@]}" "$2" ;;
    docker) docker build --quiet "${flags[@]}" "$2" ;;
  esac
}

write_archive() { # NAME FILE
  case "$engine" in
    # Docker's format is never compressed: what reads it lies on this machine.
    buildah) buildah push --quiet "$1" "docker-archive:$2.part:$1" >/dev/null ;;
    podman) podman save --quiet --format docker-archive --output "$2.part" "$1" ;;
    docker) docker save --output "$2.part" "$1" ;;
  esac
  mv "$2.part" "$2"
}

make_image() {
  local image="$1" started=$SECONDS name context digest verdict="unchanged" old
  name="$(name_of "$image")"
  context="$(stage "$image")"
  digest="$(inputs "$image" "$context")"
  if [ "$(label "$name")" != "$digest" ]; then
    old="$(id_of "$name")"
    build "$image" "$context" "$name" "$digest" >"$context.log" 2>&1 || { tail -20 "$context.log" >&2; die "$image could not be built; the whole output is $context.log"; }
    verdict=built
    # Its forerunner has no name any more; layers that others use stay.
    if [ -n "$old" ] && [ "$old" != "$(id_of "$name")" ]; then "$engine" rmi "$old" >/dev/null 2>&1 || true; fi
  fi
  if [ -n "$save" ] && [ "$(cat "$save/$image.inputs" 2>/dev/null)" != "$name $digest" ]; then
    rm -f "$save/$image.inputs" "$save/$image.tar"
    write_archive "$name" "$save/$image.tar"
    echo "$name $digest" >"$save/$image.inputs"
    verdict="$verdict, saved"
  fi
  say "$(printf '%-50s %-16s %4s MB %3d s' "$name" "$verdict" "$(size_mb "$image" "$name")" "$((SECONDS - started))")"
}

size_mb() { # IMAGE NAME
  local bytes
  case "$engine" in
    buildah) # says 495 MB or 3.78 GB
      buildah images --json "$2" | sed -n 's/.*"size": "\([0-9.]*\) \([KMG]\)B".*/\1 \2/p' |
        awk 'NR == 1 { printf "%d\n", $1 * ($2 == "G" ? 1000 : $2 == "M" ? 1 : .001) }'
      return ;;
    *) bytes="$("$engine" image inspect --format '{{.Size}}' "$2")" ;;
  esac
  echo "$((bytes / 1000000))"
}

if [ -n "$save" ]; then mkdir -p "$save"; fi
say "engine $engine, profile $profile, $arch"
ensure_base
for image in "${images[@]}"; do make_image "$image"; done
