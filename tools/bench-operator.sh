#!/usr/bin/env bash
# Measures the operator with many resources on a real apiserver (e2e/src/bin/bench-operator). With KUBECONFIG set it
# uses that cluster, else it brings its own up: the control plane on this machine, and nodes that kwok simulates.
# Controllers, scheduler and kwok, which in a real cluster run elsewhere, come after apiserver, etcd and operator
# when they compete for the processor. Rows are appended to target/bench/operator.jsonl.
#
#   tools/bench-operator.sh [--profile release|debug] [--hold-controllers] [-- ARGUMENTS of `bench-operator many`]
#
# --hold-controllers stops controllers, scheduler and kwok of the throw-away cluster until everything is applied, so that
# operator, apiserver and etcd have the processor to themselves, as where the others run on machines of their own; it
# measures the time until everything is applied and nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=release hold=no
while [ $# -gt 0 ]; do
  case "$1" in
    --profile) profile="${2:?--profile needs release or debug}"; shift ;;
    --hold-controllers) hold=yes ;;
    --) shift; break ;;
    *) echo "bench-operator: unknown argument '$1'" >&2; exit 2 ;;
  esac
  shift
done
flags=(--locked --workspace --features workers-run/torch --bins)
[ "$profile" = debug ] || flags+=(--release)
tools/with-libtorch.sh cargo build "${flags[@]}"

cluster=()
if [ -z "${KUBECONFIG:-}" ]; then
  tools/cluster.sh build --bench
  id="${CLUSTER_ID:-14}"
  trap 'tools/cluster.sh down --id "$id"' EXIT
  KUBECONFIG="$(tools/cluster.sh up --id "$id" --control-plane-only --kwok)"
  export KUBECONFIG
  node="$(cat "$(dirname "$KUBECONFIG")/node.pid")"
  cluster=(--cluster-process "$node")
  if [ "$hold" = yes ]; then
    # Processes of this cluster alone: by its pid namespace.
    pgrep --ns "$node" --nslist pid -f 'kube-controller-manager|kube-scheduler|kwok' | xargs kill -STOP
    cluster+=(--until-applied)
  fi
elif [ "$hold" = yes ]; then
  echo "bench-operator: only the controllers of a throw-away cluster can be held; unset KUBECONFIG" >&2
  exit 2
fi
"target/$profile/bench-operator" many --operator "target/$profile/smallest-operator" "${cluster[@]}" "$@"
