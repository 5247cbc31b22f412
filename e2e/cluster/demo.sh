#!/usr/bin/env bash
# The whole product in a throw-away cluster, as `make cluster` shows it: images from the programs that cargo
# built, the operator by Helm, one speech service, one recording through its Service. Stays until Ctrl-C, and
# then removes everything. What it says as `+ command` is what one does on a real cluster.
#
#   e2e/cluster/demo.sh [--profile release|debug] [--id N] [-- COMMAND...]
#
# With a COMMAND it runs that instead of waiting, with KUBECONFIG set, and ends with its exit status.
set -euo pipefail
# shellcheck source=e2e/cluster/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$cluster_source/../.."

id=0 profile=release then=()
while [ $# -gt 0 ]; do
  case "$1" in
    --profile) profile="${2:?--profile takes release or debug}"; shift ;;
    --id) id="${2:?--id needs a number}"; shift ;;
    --) shift; then=("$@"); break ;;
    *) die "unknown argument '$1'; the options are --profile, --id and -- COMMAND" ;;
  esac
  shift
done
locate "$id"
service=quickstart
sample="$(find models/demo-asr/samples -name '*.wav' | sort | head -1)"

show() { printf "+ %s\n" "$*" >&2; "$@" 8>&-; }

# The pipe to the cluster is held by this process: when it ends, however, the cluster does.
start_cluster() {
  coproc cluster { exec tools/cluster.sh up --id "$id" --attach; }
  # shellcheck disable=SC2154 # coproc sets it
  keeper=$cluster_PID
  exec 7<&"${cluster[0]}" 8>&"${cluster[1]}"
  eval "exec ${cluster[0]}<&- ${cluster[1]}>&-"
  IFS= read -r -u 7 KUBECONFIG || { wait "$keeper"; exit $?; }
  export KUBECONFIG
  trap end EXIT
}

end() {
  trap '' INT TERM
  say "removing the cluster"
  exec 8>&-
  wait "$keeper" 2>/dev/null || true
}

load_images() {
  local archives="$run/images"
  mkdir "$archives"
  show tools/images.sh --profile "$profile" --save "$archives"
  show tools/cluster.sh load --id "$id" "$archives"/*.tar
  rm -rf "$archives"
}

install_product() {
  show helm install smallest charts/smallest-operator --namespace smallest-system --create-namespace --wait --timeout 3m >&2
  show kubectl apply -f examples/quickstart-kubernetes.yaml >&2
  kubectl get smallestdeployments "$service" --watch >&2 8>&- &
  local watch=$!
  kubectl wait --for=condition=Ready "smallestdeployment/$service" --timeout=5m >/dev/null || {
    kill "$watch"
    kubectl describe "smallestdeployment/$service" >&2
    kubectl get pods -o wide >&2
    die "the service did not become ready; above is what the operator and the pods say"
  }
  kill "$watch"
  wait "$watch" 2>/dev/null || true
}

# The first key of the Secret that holds the service's API keys, where it asks for one.
api_key() {
  local secret
  secret="$(kubectl get "smallestdeployment/$service" -o 'jsonpath={.spec.gateway.auth.secretRef.name}')"
  [ -z "$secret" ] || kubectl get secret "$secret" -o go-template='{{range .data}}{{. | base64decode}}{{"\n"}}{{end}}' | head -n 1 | cut -d, -f1
}

print_ways() {
  cat <<EOF

A speech service runs in a cluster of its own on this machine. Talk to it from another terminal:
  export KUBECONFIG=$KUBECONFIG PATH=$cluster_bin:\$PATH
  kubectl get smallestdeployments
  kubectl describe smallestdeployment $service
  kubectl get pods
  curl -sS -H 'Content-Type: audio/wav' ${key:+-H "Authorization: Bearer $key" }--data-binary @$PWD/$sample '$url/api/v1/lightning/get_text'
  ${key:+SMALLEST_API_KEY=$key }$PWD/target/$profile/smallest transcribe --stream --url $url $PWD/$sample
Ctrl-C removes it all.
EOF
}

start_cluster
load_images
install_product
url="http://$(kubectl get service "$service-gateway" -o jsonpath='{.spec.clusterIP}:{.spec.ports[0].port}')"
key="$(api_key)"
[ -z "$key" ] || export SMALLEST_API_KEY="$key"
show "target/$profile/smallest" transcribe --url "$url" "$sample"
if [ "${#then[@]}" -gt 0 ]; then
  "${then[@]}" 8>&-
else
  print_ways
  trap 'exit 0' INT TERM
  wait "$keeper"
fi
