# shellcheck shell=bash disable=SC2154
# Flags and configuration files of the cluster's programs; sourced by node.sh after lib.sh and `locate`.
# Whatever differs from a program's default says why.

# The data is worth nothing after the cluster, so nothing waits for the disk.
etcd_flags() {
  cat <<EOF
--data-dir=$run/etcd --unsafe-no-fsync --log-level=warn
--listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379
--listen-peer-urls=http://127.0.0.1:2380
EOF
}

# --enable-aggregator-routing: to the pods of an aggregated API directly, since kube-proxy's rules are for pods.
apiserver_flags() {
  cat <<EOF
--etcd-servers=http://127.0.0.1:2379 --advertise-address=$node_ip --bind-address=0.0.0.0 --secure-port=6443
--service-cluster-ip-range=$service_network --allow-privileged=true
--authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction
--client-ca-file=$run/pki/ca.crt --tls-cert-file=$run/pki/apiserver.crt --tls-private-key-file=$run/pki/apiserver.key
--kubelet-certificate-authority=$run/pki/ca.crt --kubelet-preferred-address-types=InternalIP
--kubelet-client-certificate=$run/pki/apiserver-kubelet.crt --kubelet-client-key=$run/pki/apiserver-kubelet.key
--service-account-issuer=https://kubernetes.default.svc --service-account-key-file=$run/pki/service-accounts.pub
--service-account-signing-key-file=$run/pki/service-accounts.key
--requestheader-client-ca-file=$run/pki/front-proxy-ca.crt --requestheader-allowed-names=front-proxy-client
--requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group
--requestheader-extra-headers-prefix=X-Remote-Extra-
--proxy-client-cert-file=$run/pki/front-proxy.crt --proxy-client-key-file=$run/pki/front-proxy.key
--enable-aggregator-routing=true
EOF
}

# The autoscaler looks every second instead of every 15 s, and objects that say nothing scale down after 5 s, so
# that a test sees both. Claims are bound within a second. The default request limits (20 a second for each
# controller, 50 for the scheduler) would delay a new namespace's account by seconds; benchmarks keep them, as a
# cluster has them, for they measure what else the apiserver can do beside the controllers.
controller_manager_flags() {
  local own="$run/kube-controller-manager.kubeconfig" limits="--kube-api-qps=500 --kube-api-burst=1000"
  [ "$KWOK" = no ] || limits=""
  cat <<EOF
--kubeconfig=$own --authentication-kubeconfig=$own --authorization-kubeconfig=$own
--leader-elect=false --use-service-account-credentials $limits
--root-ca-file=$run/pki/ca.crt --service-account-private-key-file=$run/pki/service-accounts.key
--cluster-signing-cert-file=$run/pki/ca.crt --cluster-signing-key-file=$run/pki/ca.key
--horizontal-pod-autoscaler-sync-period=1s --horizontal-pod-autoscaler-downscale-stabilization=5s
--horizontal-pod-autoscaler-initial-readiness-delay=1s --horizontal-pod-autoscaler-cpu-initialization-period=5s
--node-monitor-grace-period=20s --pvclaimbinder-sync-period=1s
EOF
}

write_scheduler_config() {
  local limits=", qps: 500, burst: 1000"
  [ "$KWOK" = no ] || limits=""
  cat >"$run/scheduler.yaml" <<EOF
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection: {kubeconfig: $run/kube-scheduler.kubeconfig$limits}
leaderElection: {leaderElect: false}
EOF
}

# Debian's own containerd is never started: this one has its own root, state and socket.
write_containerd_config() {
  local snapshotter=native
  # An overlay does not lie on another one, as in most containers.
  if overlay_works "$run/containerd"; then snapshotter=overlayfs; fi
  cat >"$run/containerd/config.toml" <<EOF
version = 2
root = "$run/containerd/root"
state = "$run/containerd/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "$containerd_socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "smallest.test/pause:1"
  stream_server_address = "127.0.0.1"
  # Without CAP_SYS_RESOURCE runc dies of a negative oom_score_adj.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$run/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "$snapshotter"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
EOF
}

overlay_works() {
  mkdir -p "$1"/try/{lower,upper,work,merged}
  mount -t overlay overlay -o "lowerdir=$1/try/lower,upperdir=$1/try/upper,workdir=$1/try/work" "$1/try/merged" 2>/dev/null || return 1
  umount "$1/try/merged"
  rm -rf "$1/try"
}

write_cni_config() {
  cat >"$run/cni/10-bridge.conflist" <<EOF
{"cniVersion": "1.0.0", "name": "smallest", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$run/cni-addresses", "routes": [{"dst": "0.0.0.0/0"}],
            "ranges": [[{"subnet": "$pod_network", "gateway": "$node_ip"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
EOF
}

# Images are never collected, for they cannot be pulled again. A pod that crashes is started again within 10 s
# at most, not 5 min. Pods get an empty resolv.conf: nothing outside the cluster has a name.
write_kubelet_config() {
  : >"$run/resolv.conf"
  cat >"$run/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, x509: {clientCAFile: $run/pki/ca.crt}, webhook: {enabled: true}}
authorization: {mode: Webhook}
tlsCertFile: $run/pki/kubelet-server.crt
tlsPrivateKeyFile: $run/pki/kubelet-server.key
containerRuntimeEndpoint: unix://$containerd_socket
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
failCgroupV1: false
clusterDNS: [$dns_ip]
clusterDomain: cluster.local
resolvConf: $run/resolv.conf
failSwapOn: false
serializeImagePulls: false
nodeStatusUpdateFrequency: 2s
nodeLeaseDurationSeconds: 20
syncFrequency: 5s
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 200Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%}
featureGates: {KubeletCrashLoopBackOffMax: true}
crashLoopBackOff: {maxContainerRestartPeriod: 10s}
podLogsDir: $run/pod-logs
volumePluginDir: $run/volume-plugins
EOF
}

# The nftables mode keeps its rules in tables of its own. Connection tracking limits are the machine's business.
write_proxy_config() {
  cat >"$run/proxy.yaml" <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $run/kube-proxy.kubeconfig}
mode: nftables
clusterCIDR: $pod_network
hostnameOverride: $node_name
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nftables: {syncPeriod: 30s, minSyncPeriod: 100ms}
EOF
}

write_configs() {
  write_scheduler_config
  [ "$CONTROL_PLANE_ONLY" = no ] || return 0
  write_containerd_config
  write_cni_config
  write_kubelet_config
  write_proxy_config
}
