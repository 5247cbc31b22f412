#!/usr/bin/env bash
# The first process of the cluster's namespaces: makes them a place where a node can run, starts the control
# plane and the node, waits until both are ready, and then becomes a program that only waits. Started by up.sh,
# which reads what happens from standard output and writes `go` to standard input once the cable is there.
set -euo pipefail
# shellcheck source=e2e/cluster/lib.sh
. "$(dirname "$0")/lib.sh"
locate "$1" "$2"
# shellcheck source=e2e/cluster/certificates.sh
. "$cluster_source/certificates.sh"
# shellcheck source=e2e/cluster/config.sh
. "$cluster_source/config.sh"
# Benchmarks measure apiserver and operator: what acts on simulated nodes, on other machines in a real cluster, comes
# after them when they compete for the processor.
aside=()
[ "$KWOK" = no ] || aside=(nice -n 19)
# The control plane alone serves benchmarks with thousands of Services; nothing routes to them.
[ "$CONTROL_PLANE_ONLY" = no ] || service_network=198.19.0.0/16

began=$EPOCHREALTIME
report() { awk -v from="$began" -v to="$EPOCHREALTIME" -v what="$*" 'BEGIN { printf "%5.1f s  %s\n", to - from, what; fflush() }'; }

# start NAME COMMAND...: a program of the cluster, with a log of its own.
start() {
  setsid "${@:2}" >"$run/logs/$1.log" 2>&1 </dev/null &
  echo $! >"$run/pids/$1"
}

# await SECONDS WHAT COMMAND...: until the command succeeds.
await() {
  local deadline=$((SECONDS + $1))
  until "${@:3}" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      echo "gave up after $1 s: $2"
      tail -n 5 "$run"/logs/*.log >&2
      exit 1
    fi
    read -r -t 0.05 <>"$run/pause" || true # a pipe that nobody writes to: sleep without a process
  done
  report "$2"
}

# Mounts in this mount namespace only. Some paths are fixed in kubelet, containerd and the CNI plugins.
make_mounts() {
  local setting
  mount --make-rshared /
  mount -t tmpfs -o mode=755 tmpfs /run
  mount -t tmpfs -o mode=755 tmpfs /var/log
  mkdir -p /run/netns /run/containerd /var/log/containers "$run"/{cni-state,kubelet,host-settings}
  mount --bind "$run/kubelet" /var/lib/kubelet
  mount --bind "$run/cni-state" /var/lib/cni
  # The kubelet insists on these, and no namespace holds them: it is shown what it wants to see.
  for setting in kernel/panic=10 kernel/panic_on_oops=1 vm/overcommit_memory=1; do
    echo "${setting#*=}" >"$run/host-settings/$(basename "${setting%=*}")"
    mount --bind "$run/host-settings/$(basename "${setting%=*}")" "/proc/sys/${setting%=*}"
  done
}

make_network() {
  ip link set lo up
  ip address add "$uplink_ip/30" dev eth0
  ip link set eth0 up
  ip route add default via "$host_ip"
  # The pods' bridge is made before there are pods, for its address is the node's and the apiserver's: the
  # apiserver does not advertise a loopback address, and this kernel may have no dummy interfaces.
  ip link add cni0 type bridge
  ip address add "$node_ip/24" dev cni0
  ip link set cni0 up
  echo 1 >/proc/sys/net/ipv4/ip_forward
  echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables # or policy does not see what passes between pods
}

import_images() {
  local archive imports=()
  for archive in "$cluster_images"/*.tar; do
    ctr -a "$containerd_socket" -n k8s.io images import --digests=false "$archive" >>"$run/logs/import.log" 2>&1 &
    imports+=("$!")
  done
  for archive in "${imports[@]}"; do wait "$archive"; done
}

# BENCH_GOGC, for benchmarks alone: how far the heaps of etcd and apiserver may grow before they are swept (GOGC of Go).
start_control_plane() {
  local sweep=()
  [ -z "${BENCH_GOGC:-}" ] || sweep=(env "GOGC=$BENCH_GOGC")
  # shellcheck disable=SC2046 # words
  start etcd "${sweep[@]}" etcd $(etcd_flags)
  # shellcheck disable=SC2046
  start kube-apiserver "${sweep[@]}" kube-apiserver $(apiserver_flags)
}

# What reads from the apiserver, once it answers.
start_controllers() {
  # shellcheck disable=SC2046
  start kube-controller-manager "${aside[@]}" kube-controller-manager $(controller_manager_flags)
  start kube-scheduler "${aside[@]}" kube-scheduler --config "$run/scheduler.yaml"
}

start_node() {
  start kubelet kubelet --config "$run/kubelet.yaml" --kubeconfig "$run/kubelet.kubeconfig" \
    --hostname-override "$node_name" --node-ip "$node_ip"
  start kube-proxy kube-proxy --config "$run/proxy.yaml"
  start network-policy network-policy -kubeconfig "$kubeconfig"
  start_volumes
}

start_gpus() {
  await 30 "kubelet takes device plugins" test -S /var/lib/kubelet/device-plugins/kubelet.sock
  start fake-gpu fake-gpu -count "$GPUS"
  await 30 "$GPUS fake GPUs" gpus_allocatable
}
gpus_allocatable() {
  [ "$(kubectl get node "$node_name" -o 'jsonpath={.status.allocatable.nvidia\.com/gpu}')" = "$GPUS" ]
}

# Ten nodes that hold as many pods as anyone asks for; kwok says of all of them what a kubelet would.
start_kwok() {
  local number
  for number in {0..9}; do
    sed "s/@NAME@/simulated-$number/" "$cluster_source/manifests/simulated-node.yaml"
  done | kubectl create -f - >/dev/null
  install storage
  start_volumes
  start kwok "${aside[@]}" kwok --kubeconfig "$kubeconfig" --manage-all-nodes --node-lease-duration-seconds 40
  await 60 "simulated nodes" kubectl wait --for=condition=Ready nodes --all --timeout=5s
}

# Pods are refused until their namespace has its account.
default_accounts() {
  kubectl get serviceaccount default -n default && kubectl get serviceaccount default -n kube-system
}

# install NAME...: manifests of the cluster's own.
install() {
  (cd "$cluster_source/manifests" && sed "s/@DNS_IP@/$dns_ip/; s/@STORAGE_CLASS@/$storage_class/" "${@/%/.yaml}") |
    kubectl apply -f - >/dev/null
}
start_volumes() {
  start node-volumes node-volumes -kubeconfig "$kubeconfig" -dir "$run/volumes"
}

echo here
read -r _
mkdir -p "$run"/{pids,pki,containerd,volumes,cni}
mkfifo "$run/pause"
export KUBECONFIG="$kubeconfig"
make_mounts
make_network
make_certificates
write_configs
report "certificates and configuration"

start_control_plane
if [ "$CONTROL_PLANE_ONLY" = no ]; then
  start containerd containerd --config "$run/containerd/config.toml"
  await 30 "containerd" ctr -a "$containerd_socket" version
  import_images
  report "images of the cluster itself"
fi
await 120 "apiserver" curl -fsS --cacert "$run/pki/ca.crt" "https://$node_ip:6443/readyz"
start_controllers
if [ "$CONTROL_PLANE_ONLY" = no ]; then
  install dns storage
  start_node
  await 60 "node registered" kubectl get node "$node_name"
  await 60 "node ready" kubectl wait --for=condition=Ready "node/$node_name" --timeout=5s
  [ "$GPUS" = 0 ] || start_gpus
fi
await 60 "service accounts" default_accounts
[ "$CONTROL_PLANE_ONLY" = yes ] || await 60 "DNS" kubectl -n kube-system wait --for=condition=Available deployment/coredns --timeout=5s
[ "$KWOK" = no ] || start_kwok
echo ready
exec "$cluster_bin/pause" </dev/null >/dev/null 2>&1
