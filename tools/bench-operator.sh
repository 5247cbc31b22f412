#!/usr/bin/env bash
# Measures the operator with many resources on a real apiserver (e2e/src/bin/bench-operator). With KUBECONFIG set it
# uses that cluster, else it brings its own up: the control plane on this machine, and nodes that kwok simulates.
# Controllers, scheduler and kwok, which in a real cluster run elsewhere, come after apiserver, etcd and operator
# when they compete for the processor. There the operator has the account, the token and the rights that its chart gives
# it, as in a pod; in a cluster of KUBECONFIG it has yours. Rows are appended to target/bench/operator.jsonl.
#
#   tools/bench-operator.sh [--profile release|debug] [--hold-controllers] [-- ARGUMENTS of `bench-operator many`]
#
# --hold-controllers stops controllers, scheduler and kwok of the throw-away cluster until everything is applied, so that
# operator, apiserver and etcd have the processor to themselves, as where the others run on machines of their own; it
# measures the time until everything is applied and nothing else.
#
# BENCH_GOGC=400 lets apiserver and etcd of the throw-away cluster sweep their heaps less often, which is said in the
# output: it tells how much of the time is their garbage collection, and is no figure of a cluster as it comes.
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

# as_installed FILE: a kubeconfig of the chart's service account.
as_installed() {
  local account=smallest-operator template=(--show-only templates/serviceaccount.yaml --show-only templates/rbac.yaml)
  helm template --kube-version 1.34.0 smallest charts/smallest-operator --namespace default "${template[@]}" | kubectl apply -n default -f - >/dev/null
  cp "$KUBECONFIG" "$1"
  kubectl --kubeconfig "$1" config unset users.smallest >/dev/null
  kubectl --kubeconfig "$1" config set-credentials smallest --token "$(kubectl create token -n default "$account" --duration 2h)" >/dev/null
}

cluster=()
if [ -z "${KUBECONFIG:-}" ]; then
  tools/cluster.sh build --bench
  id="${CLUSTER_ID:-14}"
  trap 'tools/cluster.sh down --id "$id"' EXIT
  KUBECONFIG="$(tools/cluster.sh up --id "$id" --control-plane-only --kwok)"
  export KUBECONFIG
  eval "$(tools/cluster.sh env --id "$id")"
  node="$(cat "$(dirname "$KUBECONFIG")/node.pid")"
  as_installed "$(dirname "$KUBECONFIG")/operator.kubeconfig"
  [ -z "${BENCH_GOGC:-}" ] || echo "apiserver and etcd run with GOGC=$BENCH_GOGC"
  cluster=(--cluster-process "$node" --operator-kubeconfig "$(dirname "$KUBECONFIG")/operator.kubeconfig")
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
