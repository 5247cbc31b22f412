#!/usr/bin/env bash
# Runs every test of the project, stage by stage, and ends with a summary; `make test` is this script.
#
#   tools/test.sh              all stages
#   tools/test.sh STAGE...     only these; `tools/test.sh --list` names them
#
# Output streams through while it runs. A failed stage does not hide the later ones. The exit status is 0
# only when every stage passed. All Rust stages share one profile and one feature set, so that the
# dependency tree is built once.
set -uo pipefail
cd "$(dirname "$0")/.."

features=(--features workers-run/torch)
# A test program of the workspace's own build: `cargo test -p PACKAGE` would select other features of shared crates
# and build them all over again.
test_program() { # PACKAGE TARGET
  tools/with-libtorch.sh cargo test --locked --workspace "${features[@]}" --lib --tests --no-run --message-format=json 2>/dev/null |
    python3 -c 'import json, sys
package, target = sys.argv[1:]
for line in sys.stdin:
    message = json.loads(line) if line.startswith("{") else {}
    if not message.get("executable") or not message["profile"]["test"]:
        continue
    if message["target"]["name"] == target and message["manifest_path"].endswith(f"/{package}/Cargo.toml"):
        print(message["executable"])' "$1" "$2"
}
# The engine against what the reference answers on this very machine: within the tolerance itself, where the committed
# files must leave room for what CPU models round differently.
parity_here() { # PYTHON
  local answers
  answers="$(mktemp -d)"
  "$1" workers/torch/golden/generate.py --again --out "$answers" &&
    GOLDEN_ANSWERED_HERE="$answers" tools/with-libtorch.sh "$(test_program workers/torch workers_torch)" equals_the_reference
  local status=$?
  rm -rf "$answers"
  return $status
}

# Each stage is a function `stage_NAME`; its comment is what the summary is read by.
stage_setup() { tools/setup.sh && tools/tests/setup.sh; }
stage_format() { cargo fmt --all --check; }
stage_invariants() { tools/invariants.sh; }
stage_licenses() { "${PYTHON:-python3}" tools/licenses.py; }
stage_build() { tools/with-libtorch.sh cargo build --locked --workspace "${features[@]}" --bins --lib --tests; }
stage_unit() { tools/with-libtorch.sh cargo test --locked --workspace --exclude e2e "${features[@]}" --bins --lib --tests --no-fail-fast; }
stage_doc() { tools/with-libtorch.sh cargo test --locked --workspace --exclude e2e "${features[@]}" --doc; }
stage_crds() { tools/generated.sh --check; }
stage_charts() { tools/charts.sh; }
stage_e2e() { "$(test_program e2e it)"; }
# What closes the ways in the throw-away cluster has tests of its own; their count is told as cargo's harness does.
policies_are_enforced_right() {
  (cd e2e/cluster/go && CGO_ENABLED=0 go test -trimpath -v ./policy) |
    awk '{ print } /^ *--- PASS/ { p++ } /^ *--- FAIL/ { f++ } END { printf "test result: enforcer. %d passed; %d failed\n", p, f }'
}
# Without KUBECONFIG it takes root, and Go to build a Kubernetes; where one is missing the stories are skipped, with the
# reason. The objects that the operator plans go to the apiserver as well.
stage_cluster() {
  local objects status=0
  if [ -z "${KUBECONFIG:-}" ] && [ "$(id -u)" = 0 ] && command -v go >/dev/null; then
    tools/setup.sh --cluster || return 1
    # After the cluster's programs, for which the same packages are compiled.
    if tools/cluster.sh possible; then tools/cluster.sh build && policies_are_enforced_right || status=$?; fi
  fi
  objects="$(mktemp -d)"
  DUMP_OBJECTS="$objects" "$(test_program operator/plan it)" --exact --nocapture objects::objects_are_as_recorded >/dev/null &&
    E2E_OBJECTS="$objects" "$(test_program e2e cluster)" || status=$?
  rm -rf "$objects"
  return "$status"
}
stage_parity() {
  local python
  python="$(tools/python-env.sh | tail -1)"
  "$python" -m pytest -q workers/torch/golden models/training/tests && parity_here "$python"
}
stage_lint() { tools/with-libtorch.sh cargo clippy --locked --workspace --all-targets "${features[@]}" -- -D warnings; }
stages=(setup format invariants licenses build unit doc crds charts e2e cluster parity lint)

if [ "${1:-}" = --list ]; then printf '%s\n' "${stages[@]}"; exit 0; fi
if [ "$#" -gt 0 ]; then stages=("$@"); fi
for stage in "${stages[@]}"; do
  declare -F "stage_$stage" >/dev/null || { echo "test: there is no stage '$stage'; tools/test.sh --list names them" >&2; exit 2; }
done

log="$(mktemp)"
trap 'rm -f "$log"' EXIT
failed_stages=0 tests_passed=0 tests_failed=0 tests_skipped=0
summary=() failures=()
for stage in "${stages[@]}"; do
  printf '\n=== %s ===\n%s\n' "$stage" "$(declare -f "stage_$stage" | sed -n '3,$p' | sed '$d' | sed 's/^ *//')"
  started=$SECONDS
  "stage_$stage" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  # Counts of cargo's harness ("test result: ok. 12 passed; 0 failed; 1 ignored; ...") and of pytest ("12 passed, 1 failed
  # in 3s"). Only the cluster's stories can be ignored: where there can be no cluster, with the reason.
  read -r passed failed skipped < <(awk '
    /^test result:/ { for (i = 1; i < NF; i++) { if ($(i+1) ~ /^passed/) p += $i; if ($(i+1) ~ /^failed/) f += $i; if ($(i+1) ~ /^ignored/) s += $i } }
    /^=* ?[0-9]+ (passed|failed).* in [0-9.]+s/ { for (i = 1; i < NF; i++) { if ($(i+1) ~ /^passed/) p += $i; if ($(i+1) ~ /^failed/) f += $i } }
    END { print p + 0, f + 0, s + 0 }' "$log")
  tests_passed=$((tests_passed + passed)) tests_failed=$((tests_failed + failed)) tests_skipped=$((tests_skipped + skipped))
  verdict=passed
  if [ "$status" != 0 ]; then
    verdict=FAILED failed_stages=$((failed_stages + 1))
    [ "$failed" -gt 0 ] || tests_failed=$((tests_failed + 1))
  elif [ "$passed" = 0 ] && [ "$skipped" -gt 0 ]; then
    verdict=skipped
  else
    tests_passed=$((tests_passed + (passed == 0 ? 1 : 0)))
  fi
  # What failed and why stands beside the verdict: the output above is long.
  [ "$verdict" = FAILED ] && mapfile -t -O "${#failures[@]}" failures < <(
    grep -E '^(story .* FAILED: |test .*FAILED$|FAILED |thread .* panicked at |error(\[|:))' "$log" | cut -c -400 | head -n 12 | sed "s/^/$stage: /")
  summary+=("$(printf '%-11s %-7s %4d tests  %4d s' "$stage" "$verdict" "$passed" "$((SECONDS - started))")")
done

printf '\n=== summary ===\n'
printf '%s\n' "${summary[@]}"
[ "${#failures[@]}" = 0 ] || printf '  %s\n' "${failures[@]}"
printf '%d of %d stages passed in %d s; a stage without tests of its own counts as one\n' \
  "$((${#stages[@]} - failed_stages))" "${#stages[@]}" "$SECONDS"
printf '%d passed, %d failed, %d skipped\n' "$tests_passed" "$tests_failed" "$tests_skipped"
[ "$failed_stages" = 0 ]
