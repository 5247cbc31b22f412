#!/usr/bin/env bash
# Measures how fast a cluster reacts to queued work: 0 -> 1, queue -> metric -> autoscaler (docs/scaling.md). With
# KUBECONFIG set the cluster must have the operator and the images; without, a throw-away one is made with all of it
# (root, Linux). The quickstart is deployed in a namespace of its own, which is deleted afterwards. Rows are appended
# to target/bench/operator.jsonl.
#
#   tools/bench-scale.sh [--profile release|debug] [-- ARGUMENTS of `bench-operator reaction`, such as --rounds 3]
set -euo pipefail
cd "$(dirname "$0")/.."

profile=release
while [ $# -gt 0 ]; do
  case "$1" in
    --profile) profile="${2:?--profile needs release or debug}"; shift ;;
    --) shift; break ;;
    *) echo "bench-scale: unknown argument '$1'" >&2; exit 2 ;;
  esac
  shift
done
flags=(--locked --workspace --features workers-run/torch --bins)
[ "$profile" = debug ] || flags+=(--release)
tools/with-libtorch.sh cargo build "${flags[@]}"
if [ -z "${KUBECONFIG:-}" ]; then
  tools/cluster.sh build
  export BENCH_AUTOSCALER_PERIOD=1s # of a throw-away cluster (e2e/cluster/config.sh)
  exec tools/cluster.sh demo --profile "$profile" --id "${CLUSTER_ID:-13}" -- tools/bench-scale.sh --profile "$profile" -- "$@"
fi

namespace="bench-scale-$$"
port="${BENCH_REDIS_PORT:-16379}"
forward=""
finish() {
  [ -z "$forward" ] || kill "$forward" 2>/dev/null || true
  kubectl delete namespace "$namespace" --wait=false >/dev/null 2>&1 || true
}
trap finish EXIT
kubectl create namespace "$namespace" >/dev/null

# The quickstart, with workers that sleep when nobody needs them. No node takes those that are woken: a real one would
# be done with a burst before the autoscaler looks.
scaling='    scaling:\n      minReplicas: 0\n      maxReplicas: 2\n      targetActiveRequests: 8\n      idleSeconds: 10'
nowhere='    pod:\n      nodeSelector: {smallest.test\/bench: none}'
sed "s/^    replicas: 1$/$scaling/; s/^    pod:$/$nowhere/" examples/quickstart-kubernetes.yaml | kubectl apply -n "$namespace" -f - >/dev/null
echo "waits until the workers sleep" >&2
kubectl wait -n "$namespace" --for=create deployment/quickstart-asr statefulset/quickstart-redis --timeout=120s >/dev/null
kubectl rollout status -n "$namespace" statefulset/quickstart-redis --timeout=300s >/dev/null
kubectl wait -n "$namespace" --for='jsonpath={.spec.replicas}=0' deployment/quickstart-asr --timeout=300s >/dev/null

kubectl port-forward -n "$namespace" statefulset/quickstart-redis "$port:6379" >/dev/null &
forward=$!
url="$(kubectl get secret -n "$namespace" quickstart-redis -o 'jsonpath={.data.redis-url}' | base64 -d)"
REDIS_URL="$(sed -E "s#@[^/]+#@127.0.0.1:$port#" <<<"$url")"
export REDIS_URL
# The forwarded port answers once kubectl has taken it.
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
  kill -0 "$forward" 2>/dev/null || { echo "bench-scale: the way to Redis broke" >&2; exit 1; }
  read -rt 0.2 <> <(:) || true
done
"target/$profile/bench-operator" reaction --namespace "$namespace" --deployment quickstart \
  --autoscaler-period "${BENCH_AUTOSCALER_PERIOD:-its own period}" "$@"
