#!/bin/sh
# Packs the simulator for a machine without a network (Linux x86-64, Python 3.12 with PyTorch and transformers):
#   scripts/sim_pack.sh [FOLDER [VLLM_VERSION]]      (default .carry-sim and 0.33.0)
# Writes FOLDER/part.*; there: scripts/gpu_run.sh FOLDER python3 -m ray_jobs.run experiment=sim_full
#
# vLLM's Python without kernels, so engine=vllm_sim is the only engine that runs with it; Ray, MLflow and Hydra.
set -eu
cd "$(dirname "$0")/.."
folder=${1:-.carry-sim} version=${2:-0.33.0}
site=$folder/site
mkdir -p "$folder"
sed "s/^vllm==.*/vllm==$version/" scripts/vllm_gpu.txt >"$folder/requirements.txt"
cp scripts/bench_gpu.txt "$folder/"  # it is named in there
scripts/gpu_site.sh "$folder/requirements.txt" "$folder/wheels" "$site"
scripts/gpu_trim.sh "$site"
find "$site/vllm" -name '*.so' -delete
rm -rf "$site/vllm/third_party/deep_gemm" "$site/vllm/third_party/fmha_sm100"
sed -i '/^Version: /s/$/+cpu/' "$site"/vllm-*.dist-info/METADATA  # how vLLM tells that no GPU is meant
rm -f "$folder"/part.*
tar -C "$site" -c . | xz -T2 -6 | split -b 45M -d -a 1 - "$folder/part."
ls -l "$folder"/part.*
