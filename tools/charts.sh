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

# program NAME: where it is.
program() {
  command -v "$1" 2>/dev/null && return
  tools/cluster.sh build >&2 || die "$1 is not installed, and cannot be built; name one in \$${1^^}"
  # shellcheck source=e2e/cluster/lib.sh
  (. e2e/cluster/lib.sh && echo "$cluster_bin/$1")
}

case "${1:-}" in
  "" | --update) ;;
  --dry-run) KUBECTL="${KUBECTL:-$(program kubectl)}"; export KUBECTL ;;
  -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) die "unknown argument '$1'; try --update or --dry-run" ;;
esac
HELM="${HELM:-$(program helm)}"
export HELM
exec "${PYTHON:-python3}" tools/charts.py "$@"
