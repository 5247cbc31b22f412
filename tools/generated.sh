#!/usr/bin/env bash
# Generated files that are committed: written anew, or compared with what the code says now.
#
#   tools/generated.sh           writes them
#   tools/generated.sh --check   fails with the difference when a committed one is old
set -euo pipefail
cd "$(dirname "$0")/.."

fresh="$(mktemp -d)"
trap 'rm -rf "$fresh"' EXIT
mkdir -p "$fresh/crds/generated"
# The feature set of the tests, so that nothing is built twice.
tools/with-libtorch.sh cargo build --locked --quiet --workspace --features workers-run/torch --bin crdgen
crdgen="${CARGO_TARGET_DIR:-target}/debug/crdgen"
"$crdgen" >"$fresh/crds/generated/smallestdeployments.yaml"
mkdir -p "$fresh/docs"
"$crdgen" reference >"$fresh/docs/resource.md"
# The operator's chart installs the same definition; a chart can only hold files of its own folder.
mkdir -p "$fresh/charts/smallest-operator/files"
cp "$fresh/crds/generated/smallestdeployments.yaml" "$fresh/charts/smallest-operator/files/"

case "${1:-}" in
  --check)
    # `diff` walks the fresh files: each must be committed as it is.
    (cd "$fresh" && find . -type f) | while read -r file; do
      diff -u "$file" "$fresh/$file" || { echo "generated: $file is old; run 'make generate' and commit" >&2; exit 1; }
    done
    echo "generated: all committed files are as the code says" ;;
  "")
    cp -r "$fresh/." . && echo "generated: written" ;;
  *) echo "generated: unknown argument '$1'" >&2; exit 2 ;;
esac
