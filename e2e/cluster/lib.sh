# shellcheck shell=bash disable=SC2034
# What the scripts of the test cluster share: versions, places, addresses. Sourced, never run, so most of
# what is set here is read elsewhere.

cluster_source="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

say() { printf 'cluster: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
# The machine cannot do it, whatever the caller changes: tests report this as skipped, with the reason.
cannot() { say "cannot run here: $*"; exit 3; }

# version_of MODULE: what go.mod says, without the v.
version_of() { awk -v module="$1" '$1 == module && $2 ~ /^v/ { sub(/^v/, "", $2); print $2; exit }' "$cluster_source/go/go.mod"; }
kubernetes_version="$(version_of k8s.io/kubernetes)"
coredns_version="$(version_of github.com/coredns/coredns)"
helm_version="$(version_of helm.sh/helm/v3)"
kwok_version=0.7.0 # of another client library than the rest: built by itself

# Programs and images, by what they are made from. They are built once and never change.
source_digest() {
  (cd "$cluster_source" && find go images pause.c -type f ! -name '*_test.go' -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-8)
}
cluster_cache="${SMALLEST_CACHE:-$HOME/.cache/smallest}/cluster-$kubernetes_version-$(source_digest)"
cluster_bin="$cluster_cache/bin"
cluster_images="$cluster_cache/images"
export PATH="$cluster_bin:$PATH:/usr/sbin:/sbin"

node_name=smallest-node
storage_class=local

# locate ID [DIR]: sets what one cluster owns. Clusters of different ids share no address, folder or cgroup.
# 198.18.0.0/15 is set aside for tests of networks: neither a company's network nor another cluster uses it.
locate() {
  [[ "$1" =~ ^([0-9]|1[0-5])$ ]] || die "--id is a number from 0 to 15, not '$1'"
  cluster_id="$1"
  run="${2:-${TMPDIR:-/tmp}/smallest-cluster-$1}"
  kubeconfig="$run/kubeconfig"
  pod_network="198.18.$1.0/24"
  node_ip="198.18.$1.1"                   # of the pods' bridge, of the node and of the apiserver
  service_network="198.19.$(($1 * 16)).0/20"
  apiserver_service_ip="198.19.$(($1 * 16)).1"
  dns_ip="198.19.$(($1 * 16)).10"
  host_ip="198.18.$((240 + $1)).1"        # this end of the cable between machine and cluster
  uplink_ip="198.18.$((240 + $1)).2"
  cable="smallest$1"
  cgroup="smallest-cluster-$1"
  containerd_socket="$run/containerd/containerd.sock"
}
