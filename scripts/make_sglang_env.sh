#!/bin/sh
# SGLang's own environment for a machine without a GPU: scripts/make_sglang_env.sh [FOLDER]  (default .venv-sglang)
#
# SGLang and vLLM pin different releases of torch and others, so one environment cannot hold both. The Python must
# be the driver's (PYTHON, default python3), since Ray starts the engine's actor in this environment.
# TORCH_CPU_INDEX: a package index with PyTorch's CPU builds, if pip's own indexes have none.
# With a GPU, SGLang's own pins are the right ones: python -m venv FOLDER && FOLDER/bin/pip install -e '.[sglang]'.
set -eu
cd "$(dirname "$0")/.."
folder=${1:-.venv-sglang}
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || {
  echo "PYTHON=$python: must be Python 3.11 or 3.12, got $("$python" --version 2>&1)" >&2
  exit 2
}
"$python" -m venv "$folder"
install() { "$folder/bin/pip" install -q --no-deps --prefer-binary "$@"; }
install -r scripts/sglang_cpu.txt || {
  test -n "${TORCH_CPU_INDEX:-}" || { echo "set TORCH_CPU_INDEX to an index with PyTorch's CPU builds" >&2; exit 1; }
  install -r scripts/sglang_cpu.txt --extra-index-url "$TORCH_CPU_INDEX"
}
install -e .
PYTHONPATH=ray_jobs/engines/sim/sglang/shim "$folder/bin/python" -c 'import torch, sglang, ray; print("sglang", sglang.__version__, "torch", torch.__version__, "ray", ray.__version__)'
