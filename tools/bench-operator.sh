#!/usr/bin/env bash
# Measures the operator with many resources on a real apiserver (e2e/src/bin/bench-operator). With KUBECONFIG set it
# uses that cluster, else it brings its own up: the control plane on this machine, and nodes that kwok simulates.
# Controllers, scheduler and kwok, which in a real cluster run elsewhere, come after apiserver, etcd and operator
# when they compete for the processor. Rows are appended to target/bench/operator.jsonl.
#
#   tools/bench-operator.sh [--profile release|debug] [-- ARGUMENTS of `bench-operator many`, such as --count 100]
set -euo pipefail
cd "$(dirname "$0")/.."

profile=release
while [ $# -gt 0 ]; do
  case "$1" in
    --profile) profile="${2:?--profile needs release or debug}"; shift ;;
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
  cluster=(--cluster-process "$(cat "$(dirname "$KUBECONFIG")/node.pid")")
fi
"target/$profile/bench-operator" many --operator "target/$profile/smallest-operator" "${cluster[@]}" "$@"
