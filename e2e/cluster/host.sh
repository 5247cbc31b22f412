# shellcheck shell=bash disable=SC2154
# What a cluster needs of the machine and leaves on it: checks, cgroups, mount points, the cable. Sourced by
# up.sh and tools/cluster.sh after lib.sh and `locate`.

# These are made where they are missing, used as mount points, and removed again.
mount_points=(/var/lib/kubelet /var/lib/cni)

# require_host: ends with status 3 and the reason where a node cannot run.
require_host() {
  local command missing="" reason
  [ "$(uname -s)" = Linux ] || cannot "this is not Linux"
  [ "$(id -u)" = 0 ] || cannot "it takes root to make namespaces, mounts and cgroups"
  [ -e "$cluster_cache/complete" ] || command -v go >/dev/null ||
    cannot "Kubernetes has to be built first, and Go is missing: install Go 1.24 or newer from https://go.dev/dl"
  for command in containerd runc ctr nft iptables conntrack ip unshare setpriv openssl curl; do
    command -v "$command" >/dev/null || missing+=" $command"
  done
  [ -d /usr/lib/cni ] || missing+=" /usr/lib/cni"
  [ -z "$missing" ] || die "missing:$missing; tools/setup.sh --cluster installs them"
  modprobe -a bridge veth br_netfilter overlay nf_tables nf_conntrack 2>/dev/null || true # where they are modules
  reason="$(unshare --net --pid --mount --ipc --uts --fork --mount-proc --propagation private true 2>&1)" ||
    cannot "new namespaces are not allowed here ($reason)"
  reason="$(unshare --net sh -ec 'ip link add bridge0 type bridge; ip link add cable0 type veth peer name cable1
    nft add table ip probe; nft add chain ip probe c "{ type nat hook prerouting priority 0; }"
    echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables' 2>&1)" ||
    cannot "the kernel lacks a bridge, veth, nftables or br_netfilter ($reason)"
  { [ -e /sys/fs/cgroup/cgroup.controllers ] || [ -d /sys/fs/cgroup/memory ]; } || cannot "no cgroups are mounted on /sys/fs/cgroup"
}

# keeper_of DIR: the process that keeps the cluster in DIR, if it lives and is one.
keeper_of() {
  local pid
  pid="$(cat "$1/keeper.pid" 2>/dev/null)" || return 1
  tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q 'e2e/cluster/up\.sh' || return 1
  echo "$pid"
}

make_mount_points() {
  local point
  for point in "${mount_points[@]}"; do
    [ -d "$point" ] || { mkdir -p "$point"; echo "$point" >>"$run/made"; }
  done
}

cgroup_hierarchies() {
  local controller
  for controller in cpu cpuacct cpuset memory devices freezer blkio pids hugetlb systemd; do
    if [ -d "/sys/fs/cgroup/$controller" ]; then echo "/sys/fs/cgroup/$controller"; fi
  done
}

# The kubelet puts pods below its own cgroup and does not make that itself.
make_cgroups() {
  local hierarchy file
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then make_cgroup_v2; return; fi
  for hierarchy in $(cgroup_hierarchies); do
    mkdir -p "$hierarchy/$cgroup" 2>/dev/null || cannot "$hierarchy is read-only"
  done
  # A new cpuset holds no processor and no memory, and takes no process until it does.
  for file in cpuset.cpus cpuset.mems; do
    if [ -e "/sys/fs/cgroup/cpuset/$file" ]; then cat "/sys/fs/cgroup/cpuset/$file" >"/sys/fs/cgroup/cpuset/$cgroup/$file"; fi
  done
}

make_cgroup_v2() {
  local controller pid
  mkdir -p "/sys/fs/cgroup/$cgroup" 2>/dev/null || cannot "/sys/fs/cgroup is read-only"
  enable() {
    for controller in $(<"$1/cgroup.controllers"); do echo "+$controller" >"$1/cgroup.subtree_control" || return 1; done
  }
  # In a container the root is a cgroup like others: one that holds processes cannot hand controllers down.
  if ! enable /sys/fs/cgroup 2>/dev/null; then
    mkdir -p /sys/fs/cgroup/init
    while read -r pid; do echo "$pid" >/sys/fs/cgroup/init/cgroup.procs 2>/dev/null || true; done </sys/fs/cgroup/cgroup.procs
    enable /sys/fs/cgroup 2>/dev/null || cannot "the cgroup controllers cannot be handed down from /sys/fs/cgroup"
  fi
  enable "/sys/fs/cgroup/$cgroup" || cannot "the cgroup controllers cannot be used in /sys/fs/cgroup/$cgroup"
}

# lay_cable PID: this machine reaches pods, Services and the apiserver through it, and they reach this end.
lay_cable() {
  ip link add "$cable" type veth peer name eth0 netns "$1"
  ip address add "$host_ip/30" dev "$cable"
  ip link set "$cable" up
  ip route replace "$pod_network" via "$uplink_ip"
  [ "$CONTROL_PLANE_ONLY" = yes ] || ip route replace "$service_network" via "$uplink_ip"
}

# remove_leftovers: what no namespace holds. The cable goes with the network namespace, its routes with it.
remove_leftovers() {
  local root point
  ip link delete "$cable" 2>/dev/null || true
  for root in "/sys/fs/cgroup/$cgroup" /sys/fs/cgroup/*/"$cgroup"; do # with both versions of cgroups, runc uses both
    [ ! -d "$root" ] || find "$root" -depth -type d -exec rmdir {} \; 2>/dev/null || true
  done
  if [ -e "$run/made" ]; then
    while read -r point; do rmdir "$point" 2>/dev/null || true; done <"$run/made"
  fi
  # Only a folder that this script made, told by what it wrote there first.
  [ ! -e "$run/keeper.pid" ] || rm -rf --one-file-system "$run"
}
