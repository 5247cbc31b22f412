#!/usr/bin/env bash
# Builds the test cluster's programs and images from Go modules and Debian packages, once for each version,
# into ${SMALLEST_CACHE:-$HOME/.cache/smallest}/cluster-VERSION-DIGEST. What is there already is not built
# again, and what a killed build had compiled is in Go's own cache.
#
#   e2e/cluster/build.sh            what a cluster needs
#   e2e/cluster/build.sh --bench    also kwok, which simulates nodes for the operator's scale benchmark
set -euo pipefail
# shellcheck source=e2e/cluster/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=e2e/cluster/host.sh
. "$cluster_source/host.sh"

bench=no
case "${1:-}" in
  "") ;;
  --bench) bench=yes ;;
  *) die "unknown argument '$1'; the only option is --bench" ;;
esac

work=""
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

# step NAME COMMAND...: runs it unless NAME is there, shows the seconds, and the output only when it fails.
step() {
  local target="$cluster_cache/$1" log="$work/log" started=$SECONDS
  [ ! -e "$target" ] || return 0
  mkdir -p "$(dirname "$target")"
  if ! "${@:2}" "$target.new" >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    die "failed to build $1; the command was: ${*:2}"
  fi
  mv "$target.new" "$target"
  say "$1 built in $((SECONDS - started)) s"
}

# Programs are static: they run in images that hold nothing else. Debug information would be a third of them.
export CGO_ENABLED=0
version_package=k8s.io/component-base/version
kubernetes_ldflags="-s -w -X $version_package.gitVersion=v$kubernetes_version -X $version_package.gitMajor=1"
kubernetes_ldflags+=" -X $version_package.gitMinor=$(cut -d. -f2 <<<"$kubernetes_version") -X $version_package.gitTreeState=clean"
helm_ldflags="-s -w -X helm.sh/helm/v3/internal/version.version=v$helm_version"

# go_build PACKAGE LDFLAGS TARGET: with a line for every tenth of the packages that had to be compiled.
go_build() {
  local packages
  cd "$cluster_source/go"
  packages="$(go list -deps "$1" | wc -l)"
  # Names of packages go to the progress, everything else to the log.
  go build -v -trimpath -ldflags "$2" -o "$3" "$1" 2>&1 | awk -v all="$packages" -v name="$1" '
    !/^[A-Za-z0-9._\/-]+$/ { print > "/dev/stderr"; next }
    ++compiled % (int(all / 10) + 1) == 0 { printf "cluster: %s: %d packages of at most %d\n", name, compiled, all; fflush() }' >&3
}

install_kwok() {
  GOBIN="$work" go install -trimpath -ldflags "-s -w" "sigs.k8s.io/kwok/cmd/kwok@v$kwok_version"
  mv "$work/kwok" "$1"
}

# one_program_image PROGRAM FOLDER TARGET: an archive that holds PROGRAM out of FOLDER.
one_program_image() {
  local storage=(--root "$work/storage" --runroot "$work/run" --storage-driver vfs)
  buildah "${storage[@]}" bud --isolation chroot --build-arg "PROGRAM=$1" -t "smallest.test/$1:1" \
    -f "$cluster_source/images/Containerfile" "$2"
  buildah "${storage[@]}" push "smallest.test/$1:1" "oci-archive:$3:smallest.test/$1:1"
}

require_host # what cannot run here need not be built
for command in go cc buildah; do
  command -v "$command" >/dev/null || die "$command is missing; tools/setup.sh --cluster installs it, or says how"
done
mkdir -p "$cluster_bin" "$cluster_images"
# Two builds at once would do everything twice.
exec 9>"$cluster_cache/lock"
flock -n 9 || { say "another build is running; waiting for it"; flock 9; }
work="$(mktemp -d "$cluster_cache/work.XXXXXX")"
exec 3>&2

[ -e "$cluster_bin/kubernetes" ] || say "building Kubernetes $kubernetes_version: about eight minutes on two cores when Go's cache is empty"
step bin/kubernetes go_build ./kubernetes "$kubernetes_ldflags"
for name in etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl network-policy node-volumes fake-gpu; do
  ln -sf kubernetes "$cluster_bin/$name"
done
step bin/coredns go_build ./coredns "-s -w"
step bin/helm go_build helm.sh/helm/v3/cmd/helm "$helm_ldflags"
step bin/probe go_build ./probe "-s -w"
step bin/pause cc -static -Os -s "$cluster_source/pause.c" -o
for name in pause coredns probe; do
  step "images/$name.tar" one_program_image "$name" "$cluster_bin"
done
[ "$bench" = no ] || step bin/kwok install_kwok
touch "$cluster_cache/complete"
say "Kubernetes $kubernetes_version, CoreDNS $coredns_version and Helm $helm_version are in $cluster_cache"
