#!/usr/bin/env bash
# Measures the first and the second `make run` of a new user: a clone of what is committed, in an empty folder, with
# empty caches of cargo, pip and this project, until the demo has spoken and the service is up. Debian packages that are
# already installed stay (the output says which were missing), and rustup's toolchain is the machine's.
# Rows are appended to target/bench/fresh.jsonl. It takes as long as it measures; everything it made is removed.
#
#   tools/bench-fresh.sh [--keep]      --keep leaves clone and caches, and prints where
set -euo pipefail
cd "$(dirname "$0")/.."
root="$PWD"
keep=no
[ "${1:-}" != --keep ] || keep=yes
# A first run may take this long, seconds; then it counts as failed.
longest_s=5400

fresh="$(mktemp -d)"
run=""
end() {
  # Only what this script started: the group of its own `make`.
  if [ -n "$run" ] && kill -TERM -- "-$run" 2>/dev/null; then wait "$run" 2>/dev/null || :; fi
  if [ "$keep" = yes ]; then echo "kept: $fresh"; else rm -rf "$fresh"; fi
}
trap end EXIT
git clone --quiet "$root" "$fresh/clone"
mkdir -p "$fresh/cargo" "$root/target/bench"
# Where crates come from is the machine's business; what was fetched from there is not.
for name in config.toml config; do
  if [ -e "${CARGO_HOME:-$HOME/.cargo}/$name" ]; then cp "${CARGO_HOME:-$HOME/.cargo}/$name" "$fresh/cargo/$name"; fi
done

# measure WHICH GOAL_S: times `make run` until the service is up, then ends it.
measure() {
  local which="$1" goal_s="$2" log="$fresh/$1.log" began took
  echo "$which make run: $log"
  began="$(date +%s%3N)"
  env -u CARGO_TARGET_DIR CARGO_HOME="$fresh/cargo" SMALLEST_CACHE="$fresh/cache" PIP_NO_CACHE_DIR=1 \
    setsid make -C "$fresh/clone" run >"$log" 2>&1 &
  run=$!
  until grep -q 'Ctrl-C stops it' "$log"; do
    if ! kill -0 "$run" 2>/dev/null; then tail -n 30 "$log" >&2; echo "bench-fresh: make run failed" >&2; exit 1; fi
    if [ $(($(date +%s%3N) - began)) -gt $((longest_s * 1000)) ]; then echo "bench-fresh: gave up after $longest_s s" >&2; exit 1; fi
    sleep 0.1
  done
  took=$(($(date +%s%3N) - began))
  kill -TERM -- "-$run"
  # It was ended by a signal, so its status says nothing.
  wait "$run" || :
  run=""
  # A run that showed no transcript and no latency is none, however fast.
  grep -E '^ *final ' "$log" && grep -E '^ *latency ' "$log" || { echo "bench-fresh: the demo showed nothing: $log" >&2; exit 1; }
  WHICH="$which" TOOK_MS="$took" GOAL_S="$goal_s" python3 - >>"$root/target/bench/fresh.jsonl" <<'PYTHON'
import json, os, platform, sys
took, goal = int(os.environ["TOOK_MS"]) / 1e3, float(os.environ["GOAL_S"])
cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
row = {"bench": "fresh", "case": f"{os.environ['WHICH']} make run, until the service is up", "ours": took, "peer": None,
       "peer_name": None, "ratio": None, "unit": "s", "goal": goal, "pass": took < goal,
       "machine": {"cores": os.cpu_count(), "cpu": cpu, "linux": platform.release()}}
print(json.dumps(row))
print(f"{row['case']:<45} {took:8.1f} s   goal < {goal:.0f} s   {'yes' if row['pass'] else 'NO'}", file=sys.stderr)
PYTHON
}

measure first 1500
measure second 15
