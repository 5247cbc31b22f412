#!/usr/bin/env bash
# Shows that the test cluster does what a cluster does, on one of its own: brings it up, checks each thing
# that the product's tests rely on, and sees that nothing is left afterwards. One line for each.
#
#   e2e/cluster/check.sh [--id N]     9 where nothing is said
set -euo pipefail
# shellcheck source=e2e/cluster/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=e2e/cluster/host.sh
. "$cluster_source/host.sh"

id=9
case "${1:-}" in
  "") ;;
  --id) id="${2:?--id needs a number}" ;;
  *) die "unknown argument '$1'; the only option is --id" ;;
esac
locate "$id"
require_host
"$cluster_source/build.sh"

last=$EPOCHREALTIME checks=0
# passed WHAT: with the seconds since the check before.
passed() {
  awk -v from="$last" -v to="$EPOCHREALTIME" -v what="$*" 'BEGIN { printf "ok %6.1f s  %s\n", to - from, what }'
  last=$EPOCHREALTIME checks=$((checks + 1))
}
failed() {
  printf 'FAILED      %s\n' "$*"
  kubectl -n check get pods -o wide || true
  kubectl -n check get events --sort-by=.lastTimestamp | tail -n 15 || true
  exit 1
}
# soon SECONDS COMMAND...: until it succeeds; each try is a whole program, so there is nothing to wait for between.
soon() {
  local deadline=$((SECONDS + $1))
  until "${@:2}" >/dev/null 2>&1; do [ "$SECONDS" -lt "$deadline" ] || return 1; done
}
expect() { # expect SECONDS WHAT COMMAND...
  soon "$1" "${@:3}" || failed "$2"
  passed "$2"
}
in_client() { kubectl -n check exec client -c main -- /program "$@"; }
reads() { [ "$("${@:2}")" = "$1" ]; }

(cd "$cluster_source/go" && CGO_ENABLED=0 go test -trimpath ./policy >&2) || die "the enforcer's own tests fail"
passed "the NetworkPolicy enforcer's own tests"

# The cluster ends with this script, for it holds the other end of the cluster's standard input.
coproc cluster { exec "$cluster_source/../../tools/cluster.sh" up --id "$id" --attach; }
exec 7<&"${cluster[0]}" 8>&"${cluster[1]}"
eval "exec ${cluster[0]}<&- ${cluster[1]}>&-" # or the pipe would never end
# shellcheck disable=SC2154 # coproc sets it
keeper=$cluster_PID
IFS= read -r -u 7 KUBECONFIG || { wait "$keeper"; exit $?; }
export KUBECONFIG
passed "a cluster is up"

service_answers() { curl -fsS --max-time 3 "http://$(kubectl -n check get service web -o jsonpath='{.spec.clusterIP}')/"; }
phase_of() { kubectl -n check get pod "$1" -o jsonpath='{.status.phase}'; }
unschedulable() { kubectl -n check get pod "$1" -o 'jsonpath={.status.conditions[?(@.type=="PodScheduled")].message}' | grep -q 'Insufficient nvidia.com/gpu'; }
gpu_is_named() { kubectl -n check exec one-gpu -- /program get http://127.0.0.1:8080/env/NVIDIA_VISIBLE_DEVICES | grep -q '^GPU-fake-'; }
autoscaler_looked() { kubectl -n check get hpa web -o 'jsonpath={.status.conditions[?(@.type=="ScalingActive")].reason}' | grep -q FailedGetExternalMetric; }
privileged_is_refused() {
  ! kubectl -n check run bad --image=smallest.test/probe:1 --privileged 2>"$run/refusal" && grep -q 'violates PodSecurity "restricted' "$run/refusal"
}
port_forwards() {
  local forward line port status=0
  coproc forward { exec kubectl -n check port-forward pod/client :8081 2>&1; }
  # shellcheck disable=SC2154 # coproc sets it
  forward_pid=$forward_PID
  read -r line <&"${forward[0]}"
  port="$(sed -n 's/.*127.0.0.1:\([0-9]*\).*/\1/p' <<<"$line")"
  curl -fsS --max-time 3 "http://127.0.0.1:$port/healthz" || status=$?
  kill "$forward_pid"
  wait "$forward_pid" 2>/dev/null || true
  return "$status"
}
policy() { kubectl apply -f - <<<"{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: $1, namespace: check}, spec: $2}" >/dev/null; }
client_is_cut_off() { ! in_client get http://web/; }
volume_is_gone() { [ -z "$(kubectl get persistentvolumes -o name)" ] && [ -z "$(ls "$run/volumes")" ]; }

kubectl apply -f "$cluster_source/manifests/check.yaml" >/dev/null
expect 60 "a Deployment is available under the restricted Pod Security Standard" \
  kubectl -n check wait --for=condition=Available deployment/web --timeout=5s
expect 5 "a privileged pod is refused" privileged_is_refused
expect 10 "its Service answers from outside the cluster" service_answers
expect 60 "a pod with a native sidecar, init containers and a claim is ready" \
  kubectl -n check wait --for=condition=Ready pod/client --timeout=5s
expect 5 "exec: the claim holds what the init container wrote" reads "hello from a claim" in_client read /data/greeting
expect 5 "logs" reads "probe: serving on 8081" kubectl -n check logs client -c main
expect 5 "port-forward" port_forwards
expect 10 "DNS and Service from a pod" in_client get http://web.check.svc.cluster.local/
expect 30 "a pod with one GPU runs" reads Running phase_of one-gpu
expect 5 "and is told which" gpu_is_named
expect 5 "a pod with three GPUs does not, and says why" unschedulable three-gpus
expect 20 "the autoscaler asks for its metric" autoscaler_looked
policy web '{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}'
expect 10 "NetworkPolicy: denied by default" client_is_cut_off
policy web '{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: http}]}]}'
expect 10 "NetworkPolicy: allowed by pod and named port" in_client get http://web/
policy client '{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}, podSelector: {matchLabels: {k8s-app: kube-dns}}}]}]}'
expect 10 "NetworkPolicy: egress to DNS only" client_is_cut_off
kubectl delete namespace check --wait=false >/dev/null
expect 60 "deleting a namespace removes its volume" volume_is_gone

exec 8>&-
wait "$keeper" 2>/dev/null || true
nothing_left() {
  [ ! -e "$run" ] && ! ip link show "$cable" 2>/dev/null && ! compgen -G "/sys/fs/cgroup/*/$cgroup" && ! grep -q "$run" /proc/self/mountinfo
}
expect 5 "nothing is left of the cluster" nothing_left
echo "$checks checks passed"
