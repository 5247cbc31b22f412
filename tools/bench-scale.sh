#!/usr/bin/env bash
# Measures how fast a cluster reacts to queued work: queue -> metric -> autoscaler, and 0 -> 1 (docs/scaling.md).
# The cluster of KUBECONFIG must have the operator and the images (`make cluster`); the quickstart is deployed in a
# namespace of its own, which is deleted afterwards.
#
#   tools/bench-scale.sh [--profile release|debug] [-- ARGUMENTS of scale_reaction, such as --burst 200]
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
[ -n "${KUBECONFIG:-}" ] || { echo "bench-scale: set KUBECONFIG to a cluster that runs the operator" >&2; exit 1; }
flag=""
[ "$profile" = debug ] || flag=--release
# shellcheck disable=SC2086 # no flag is no argument
tools/with-libtorch.sh cargo build --locked $flag -p operator-run --example scale_reaction

namespace="bench-scale-$$"
port="${BENCH_REDIS_PORT:-16379}"
forward=""
finish() {
  [ -z "$forward" ] || kill "$forward" 2>/dev/null || true
  kubectl delete namespace "$namespace" --wait=false >/dev/null 2>&1 || true
}
trap finish EXIT
kubectl create namespace "$namespace" >/dev/null

# The quickstart, with workers that sleep when nobody needs them.
scaling='    scaling:\n      minReplicas: 0\n      maxReplicas: 2\n      targetActiveRequests: 8\n      idleSeconds: 10'
sed "s/^    replicas: 1$/$scaling/" examples/quickstart-kubernetes.yaml | kubectl apply -n "$namespace" -f - >/dev/null
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
"target/$profile/examples/scale_reaction" --namespace "$namespace" --deployment quickstart "$@"
