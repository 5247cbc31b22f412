#!/usr/bin/env bash
# A real Kubernetes with one node on this machine, thrown away after use: etcd, apiserver, controller manager,
# scheduler, kubelet, containerd, kube-proxy, CoreDNS, NetworkPolicy, storage and fake GPUs, in namespaces of
# their own. Needs root and Linux; nothing is installed outside ${SMALLEST_CACHE:-$HOME/.cache/smallest}.
#
#   tools/cluster.sh possible             whether this machine can run one: exit status 0, or 3 with the reason
#   tools/cluster.sh build [--bench]      programs and images, once (minutes; then seconds)
#   tools/cluster.sh up [OPTIONS]         starts a cluster; prints the path of its KUBECONFIG when it is ready
#       --id N                  0 to 15: clusters of different ids run side by side (0)
#       --dir DIR               where it keeps its files (/tmp/smallest-cluster-ID)
#       --gpus N                how many nvidia.com/gpu the node claims to have (2)
#       --attach                stays, and ends the cluster when standard input ends
#       --control-plane-only    no node: objects only
#       --kwok                  simulated nodes run the pods (with --control-plane-only, after build --bench)
#   tools/cluster.sh env [--id N]         lines for `eval`: KUBECONFIG, and PATH with kubectl and helm
#   tools/cluster.sh load [--id N] FILE.tar...   imports image archives into the node
#   tools/cluster.sh node [--id N] COMMAND...    runs a command where the node runs; `crictl` is not there, `ctr` is
#   tools/cluster.sh status [--id N]      whether it runs, and its nodes and pods
#   tools/cluster.sh check                brings up a cluster of its own and shows that everything above works
#   tools/cluster.sh demo                 the whole product in a throw-away cluster, until Ctrl-C (`make cluster`)
#   tools/cluster.sh down [--id N]        removes it and everything it made
#
# Exit status 3: this machine cannot run a cluster; the reason is on standard error.
set -euo pipefail
# shellcheck source=e2e/cluster/lib.sh
. "$(dirname "$0")/../e2e/cluster/lib.sh"
# shellcheck source=e2e/cluster/host.sh
. "$cluster_source/host.sh"

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; }

# take_place ARGS...: reads --id and --dir, which all commands on one cluster share; the rest goes to `rest`.
take_place() {
  local id=0 dir=""
  rest=()
  while [ $# -gt 0 ]; do
    case "$1" in
      --id) id="${2:?--id needs a number}"; shift ;;
      --dir) dir="${2:?--dir needs a folder}"; shift ;;
      *) rest+=("$1") ;;
    esac
    shift
  done
  locate "$id" "$dir"
}

require_running() {
  keeper_of "$run" >/dev/null || die "no cluster $cluster_id runs; tools/cluster.sh up --id $cluster_id starts one"
}

# up: with --attach this process becomes the keeper; without, the keeper gets a session of its own and this
# process shows what it says until it is ready or has failed.
up() {
  local word attach=no status=0 told
  require_host
  [ -e "$cluster_cache/complete" ] || "$cluster_source/build.sh"
  take_place "$@"
  for word in "${rest[@]}"; do [ "$word" != --attach ] || attach=yes; done
  set -- --id "$cluster_id" --dir "$run" "${rest[@]}"
  [ "$attach" = no ] || exec "$cluster_source/up.sh" "$@"
  told="$(mktemp -d)"
  mkfifo "$told/out" "$told/err"
  setsid "$cluster_source/up.sh" "$@" </dev/null >"$told/out" 2>"$told/err" &
  keeper=$!
  trap 'kill -TERM "$keeper" 2>/dev/null || true; wait "$keeper" || true; exit 130' INT TERM HUP
  exec 7<"$told/out" 8<"$told/err"
  rm -rf "$told"
  cat <&8 >&2 &
  local shown=$!
  IFS= read -r -u 7 kubeconfig || status=1
  [ "$status" = 0 ] || { wait "$keeper" || status=$?; exit "$status"; }
  wait "$shown"
  echo "$kubeconfig"
}

print_env() {
  take_place "$@"
  require_running
  # shellcheck disable=SC2016 # the caller's PATH
  printf 'export KUBECONFIG=%q\nexport PATH=%q:"$PATH"\n' "$kubeconfig" "$cluster_bin"
}

in_node() {
  nsenter --target "$(cat "$run/node.pid")" --mount --pid --net --ipc --uts -- "$@"
}

load() {
  local archive
  take_place "$@"
  require_running
  [ "${#rest[@]}" -gt 0 ] || die "load needs the archives of images"
  for archive in "${rest[@]}"; do
    [ -f "$archive" ] || die "$archive is not a file"
    in_node ctr -a "$containerd_socket" -n k8s.io images import --digests=false "$(realpath "$archive")" >&2
  done
}

node_command() {
  take_place "$@"
  require_running
  in_node env KUBECONFIG="$kubeconfig" CONTAINERD_ADDRESS="$containerd_socket" CONTAINERD_NAMESPACE=k8s.io "${rest[@]}"
}

show_status() {
  take_place "$@"
  if ! keeper="$(keeper_of "$run")"; then say "cluster $cluster_id does not run"; exit 1; fi
  say "cluster $cluster_id runs (process $keeper) in $run"
  KUBECONFIG="$kubeconfig" kubectl get nodes,pods -A -o wide
}

down() {
  local keeper
  take_place "$@"
  if keeper="$(keeper_of "$run")"; then
    kill -TERM "$keeper"
    tail --pid="$keeper" -s 0.05 -f /dev/null
    say "cluster $cluster_id is gone"
  else
    remove_leftovers
    say "no cluster $cluster_id runs"
  fi
}

command="${1:-help}"
[ $# = 0 ] || shift
case "$command" in
  possible) require_host ;;
  build) "$cluster_source/build.sh" "$@" ;;
  up) up "$@" ;;
  env) print_env "$@" ;;
  load) load "$@" ;;
  node) node_command "$@" ;;
  status) show_status "$@" ;;
  check) "$cluster_source/check.sh" "$@" ;;
  demo) "$cluster_source/demo.sh" "$@" ;;
  down) down "$@" ;;
  help | -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
