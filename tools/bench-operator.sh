#!/usr/bin/env bash
# Measures the operator with many resources on a real apiserver, with simulated nodes (kwok); see
# operator/run/examples/bench_operator. With KUBECONFIG set it uses that cluster, else it brings its own up.
# Rows are appended to target/bench/operator.jsonl.
#
#   tools/bench-operator.sh [--profile release|debug] [-- ARGUMENTS of bench_operator, such as --count 100]
set -euo pipefail
cd "$(dirname "$0")/.."

profile=release
while [ $# -gt 0 ]; do
  case "$1" in
    --profile) profile="${2:?--profile needs release or debug}"; shift ;;
    --) shift; break ;;
    *) break ;;
  esac
  shift
done
flag=""
[ "$profile" = debug ] || flag=--release
# shellcheck disable=SC2086 # no flag is no argument
tools/with-libtorch.sh cargo build --locked $flag -p operator-run --bin smallest-operator --example bench_operator

if [ -z "${KUBECONFIG:-}" ]; then
  tools/cluster.sh build --bench
  id="${CLUSTER_ID:-14}"
  KUBECONFIG="$(tools/cluster.sh up --id "$id" --control-plane-only --kwok)"
  export KUBECONFIG
  trap 'tools/cluster.sh down --id "$id"' EXIT
fi
"target/$profile/examples/bench_operator" --operator "target/$profile/smallest-operator" "$@"
