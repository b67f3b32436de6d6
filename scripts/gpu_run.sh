#!/bin/sh
# Runs a command on a GPU machine without a network, with what scripts/gpu_pack.sh carried there.
#
#   scripts/gpu_run.sh FOLDER COMMAND...      FOLDER holds the parts; python3 must be the one with PyTorch
#
# The first call unpacks the parts to SITE (default /tmp/bidkv-site); later calls need no parts. The command runs
# in the repository's root. Exit code: the command's.
set -eu
folder=$(realpath "$1"); shift
site=${SITE:-/tmp/bidkv-site}
cd "$(dirname "$0")/.."

if [ ! -d "$site" ]; then
  cat "$folder"/part.* >"$site.tar.xz"
  python3 - "$site.tar.xz" "$site.new" <<'PYTHON'
import sys, tarfile
# Several archives one after another: an end-of-archive mark is no end.
tarfile.open(sys.argv[1], "r:xz", ignore_zeros=True).extractall(sys.argv[2], filter="tar")
PYTHON
  python3 -m compileall -q -j 0 "$site.new" >/dev/null || true  # some files are templates, not modules
  rm "$site.tar.xz"
  mv "$site.new" "$site"
fi
export PYTHONPATH="$site:$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=disabled
export RAY_memory_monitor_refresh_ms=0  # a virtual machine whose memory grows as it is used looks full to Ray
exec "$@"
