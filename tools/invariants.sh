#!/usr/bin/env bash
# Checks the architecture's invariants (ARCHITECTURE.md names them): what a crate may depend on, where
# names are made, how long files and functions may be. Prints one line for each and fails when one is broken.
set -uo pipefail
cd "$(dirname "$0")/.."

broken=0
held() { printf 'holds   %s\n' "$1"; }
breaks() { printf 'BROKEN  %s\n%s\n' "$1" "$(sed 's/^/          /' <<<"$2")"; broken=$((broken + 1)); }
# verdict NAME FINDINGS: nothing found is good.
verdict() { if [ -z "$2" ]; then held "$1"; else breaks "$1" "$2"; fi; }

# tree CRATE [ARGS]: names of all crates it is built with, tests left out.
tree() { cargo tree --locked -e normal --prefix none -f '{p}' "${@:2}" -p "$1" 2>/dev/null | cut -d' ' -f1 | sort -u; }
have() { [ -n "$(tree "$1")" ] || { echo "cargo tree says nothing about $1"; }; }

io='tokio|hyper|reqwest|redis|tonic|axum|mio|socket2|kube-client|torch-sys|tch'
for crate in crds operator-plan workers-batch workers-engine; do
  verdict "(a) $crate is pure: no IO crate in its tree" "$(have "$crate"; tree "$crate" | grep -xE "$io")"
done

found=""
for crate in crds operator-plan gateway license-proxy cli telemetry queue workers-batch workers-engine; do
  if tree "$crate" | grep -qxE 'kube-client|kube-runtime'; then found="$found$crate holds a Kubernetes client"$'\n'; fi
done
verdict "(b) only operator-run and operator-metrics hold a Kubernetes client" "$found"

found=""
for crate in proto queue telemetry gateway workers-engine workers-batch workers-run crds operator-plan operator-metrics operator-run license-proxy cli e2e; do
  if tree "$crate" | grep -qxE 'tch|torch-sys'; then found="$found$crate links libtorch"$'\n'; fi
done
[ -n "$(tree workers-torch | grep -x torch-sys)" ] || found="${found}workers-torch does not link libtorch"$'\n'
verdict "(c) only workers-torch links libtorch; everything else builds without it" "$found"

workers='workers-run|workers-batch|workers-torch'
verdict "(d) gateway and worker do not know each other: they share queue" \
  "$(tree gateway | grep -xE "$workers"; tree workers-run --features torch | grep -x gateway)"

verdict "(e) edges decide nothing: no Redis key, no queue name, no license check in gateway/src/edge" \
  "$(grep -rnE 'redis::|keys::|LicenseGate' gateway/src/edge 2>/dev/null)"

# A Redis key is a string with the scope's hash tag: braces around the deployment.
verdict "(f) every Redis key is made in queue/src/keys.rs" \
  "$(grep -rnE '"(smallest|s):\{|"\{\{\{' --include='*.rs' . --exclude-dir=target | grep -vE '^\./queue/src/keys\.rs:|/tests/')"

verdict "(g) unsafe code only in workers/torch" \
  "$(grep -rnE '\bunsafe (fn|impl|extern|\{)|allow\(unsafe_code' --include='*.rs' . --exclude-dir=target | grep -vE '^\./workers/torch/')"

# What comes before the tests of a file; generated and vendored code is not ours.
sources() { find . -name '*.rs' -not -path './target/*' -not -path '*/tests/*'; }
without_tests() { awk '/^#\[cfg\(test\)\]/ { exit } { print }' "$1"; }
long=""
for file in $(sources); do
  lines=$(without_tests "$file" | wc -l)
  [ "$lines" -le 400 ] || long="$long$file has $lines lines before its tests"$'\n'
done
verdict "(h) no file is longer than 400 lines before its tests" "$long"

verdict "(i) every file says in its first line what it is" \
  "$(for file in $(find . -name '*.rs' -not -path './target/*'); do head -1 "$file" | grep -q '^//!' || echo "$file"; done)"

verdict "(j) nothing is left for later: no todo!, unimplemented!, #[ignore]" \
  "$(grep -rnE '\b(todo|unimplemented)!\(|#\[ignore|// *(TODO|FIXME|XXX)' --include='*.rs' . --exclude-dir=target)"

[ "$broken" = 0 ] && echo "invariants: all hold" || { echo "invariants: $broken broken"; exit 1; }
