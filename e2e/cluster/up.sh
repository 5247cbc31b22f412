#!/usr/bin/env bash
# Keeps one cluster: makes its namespaces and its cable to this machine, starts the node in them (node.sh),
# stays while the cluster lives, and removes everything at the end, however it ends.
#
#   e2e/cluster/up.sh --id N --dir DIR --gpus N [--attach] [--control-plane-only] [--kwok]
#
# On standard error what happens, on standard output one line when the cluster is ready: the path of its
# KUBECONFIG. With --attach the cluster also ends when standard input does: whoever holds the other end of
# that pipe cannot leave a cluster behind, not even by being killed. tools/cluster.sh is the way to call this.
set -euo pipefail
# shellcheck source=e2e/cluster/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=e2e/cluster/host.sh
. "$(dirname "$0")/host.sh"

id=0 dir="" attach=no gpus=2
export CONTROL_PLANE_ONLY=no KWOK=no
while [ $# -gt 0 ]; do
  case "$1" in
    --id) id="$2"; shift ;;
    --dir) dir="$2"; shift ;;
    --gpus) gpus="$2"; shift ;;
    --attach) attach=yes ;;
    --control-plane-only) CONTROL_PLANE_ONLY=yes ;;
    --kwok) KWOK=yes ;;
    *) die "unknown argument '$1'" ;;
  esac
  shift
done
locate "$id" "$dir"
export GPUS="$gpus"

# end: the last process of the pid namespace takes all others with it, and with them go mounts and network.
end() {
  trap '' INT TERM HUP
  if [ -n "${node_init:-}" ]; then kill -KILL "$node_init" 2>/dev/null || true; fi
  if [ -n "${unshare:-}" ]; then kill -KILL "$unshare" 2>/dev/null || true; wait "$unshare" 2>/dev/null || true; fi
  if [ -n "${watch:-}" ]; then kill "$watch" 2>/dev/null || true; fi
  remove_leftovers
}

require_host
[ -e "$cluster_cache/complete" ] || die "the cluster's programs are not built; run: tools/cluster.sh build"
[ "$KWOK" = no ] || [ -x "$cluster_bin/kwok" ] || die "kwok is not built; run: tools/cluster.sh build --bench"
if keeper="$(keeper_of "$run")"; then die "cluster $cluster_id already runs (process $keeper); tools/cluster.sh down --id $cluster_id ends it"; fi
remove_leftovers # of a keeper that was killed
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

mkdir -p "$run/logs"
echo $$ >"$run/keeper.pid"
make_mount_points
make_cgroups
if [ "$attach" = yes ]; then
  exec 4<&0
  { cat <&4 >/dev/null || true; kill -TERM $$ 2>/dev/null || true; } &
  watch=$!
  exec 4<&-
fi

# The two ends of the node's standard input and output: it says what it did, and is told when to go on.
mkfifo "$run/say" "$run/go"
# A session of its own, so that Ctrl-C reaches this script only; it dies with this script, and its child with it.
setpriv --pdeathsig KILL setsid unshare --net --pid --mount --ipc --uts --fork --mount-proc --kill-child=KILL --propagation private \
  "$cluster_source/node.sh" "$cluster_id" "$run" <"$run/go" >"$run/say" 2>"$run/logs/node.log" &
unshare=$!
exec 5>"$run/go" 6<"$run/say"
ready=no
while IFS= read -r -u 6 line; do
  case "$line" in
    "here") # the namespaces are there: its first process is the only child of unshare
      node_init="$(tr -d ' ' <"/proc/$unshare/task/$unshare/children")"
      echo "$node_init" >"$run/node.pid"
      lay_cable "$node_init"
      echo go >&5 ;;
    "ready") ready=yes; break ;;
    *) say "$line" ;;
  esac
done
if [ "$ready" = no ]; then
  tail -n 20 "$run/logs/node.log" >&2
  die "the cluster did not come up; its logs were in $run/logs"
fi
exec 5>&- 6<&-
echo "$kubeconfig"
# Nobody reads any more, or nobody has to: whoever waited for this line may be gone.
if [ "$attach" = yes ]; then exec 1>&2; else exec >"$run/logs/keeper.log" 2>&1; fi
wait "$unshare" || true
say "the cluster's first process has ended"
