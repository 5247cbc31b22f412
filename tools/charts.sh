#!/usr/bin/env bash
# Tests of the Helm charts: what they render from the values of each case, and what they refuse.
#
#   tools/charts.sh             lint, cases, tables of the READMEs, the chart's copy of the resource definition
#   tools/charts.sh --update    writes what was rendered into the cases, and the tables anew; read the difference
#   tools/charts.sh --dry-run   gives every rendered variant to the apiserver of $KUBECONFIG, which stores nothing
#
# A case is a folder charts/CHART/tests/CASE with values.yaml and either expected.yaml and expected-notes.txt, or
# expected-error.txt, whose every line must stand in Helm's error. The work is done in tools/charts.py.
# Helm is $HELM, else the one in PATH, else the one that tools/cluster.sh builds; kubectl likewise.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf 'charts: %s\n' "$*" >&2; exit 1; }

# program NAME: where it is. Status 3 when this machine can neither have nor build it.
program() {
  local status=0
  command -v "$1" 2>/dev/null && return
  command -v go >/dev/null 2>&1 || return 3
  # The stage of the charts comes before the cluster's, which would install what the build needs.
  [ "$(id -u)" != 0 ] || tools/setup.sh --cluster >&2 || return 3
  tools/cluster.sh build >&2 || status=$?
  [ "$status" != 3 ] || return 3
  [ "$status" = 0 ] || die "$1 is not installed, and building it failed; name one in \$${1^^}"
  # shellcheck source=e2e/cluster/lib.sh
  (. e2e/cluster/lib.sh && echo "$cluster_bin/$1")
}

case "${1:-}" in
  "" | --update) ;;
  --dry-run) KUBECTL="${KUBECTL:-$(program kubectl)}"; export KUBECTL ;;
  -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) die "unknown argument '$1'; try --update or --dry-run" ;;
esac
status=0
HELM="${HELM:-$(program helm)}" || status=$?
if [ "$status" = 3 ]; then
  echo "charts: skipped: Helm is not installed, and this machine cannot build it; name one in \$HELM"
  echo "test result: skipped. 0 passed; 0 failed; 1 ignored" # as tools/test.sh counts
  exit 0
fi
[ "$status" = 0 ] || exit 1
export HELM
exec "${PYTHON:-python3}" tools/charts.py "$@"
