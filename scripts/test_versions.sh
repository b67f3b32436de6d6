#!/bin/sh
# The scheduler's and the simulator's tests and a short fuzz, which need vLLM's Python but no kernel, on other releases:
#   scripts/test_versions.sh VERSION...
# Makes the environments that are missing. Prints one line a version, and what failed in full; exit code 1 if anything did.
set -eu
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0
for version; do
  folder=.venv-vllm-$version
  [ -d "$folder" ] || scripts/make_version_env.sh "$version" >"$log" 2>&1 || { cat "$log"; exit 1; }
  python=$("$folder/bin/python" -c 'import platform; print(platform.python_version())')
  "$folder/bin/python" -m pytest -q -p no:cacheprovider tests/sim/test_sim_conservation.py tests/sim/test_sim_runs.py \
    tests/sim/test_sim_scheduling.py \
    tests/adapters/vllm/test_layout.py tests/adapters/vllm/test_scheduler.py tests/adapters/vllm/test_server_kinds.py \
    tests/adapters/vllm/test_vllm_facts.py tests/fuzz >"$log" 2>&1 || { failed=1; cat "$log"; }
  echo "vllm $version, Python $python: $(grep -E '^[0-9]+ (passed|failed|skipped|error)' "$log" || echo 'no tests ran')"
done
exit $failed
