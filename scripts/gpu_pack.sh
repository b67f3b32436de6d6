#!/bin/sh
# Packs vLLM, Ray, MLflow and Hydra for a GPU machine without a network: scripts/gpu_pack.sh [FOLDER]
# (default .carry). Writes parts of at most 60 MiB; there: scripts/gpu_run.sh FOLDER COMMAND...
#
# Left out of the wheels: kernels that no model here runs on a Hopper GPU (FlashAttention 2, MLA, FP4), servers' web
# pages, Ray's library for training, tokenizers, symbols.
set -eu
cd "$(dirname "$0")/.."
folder=${1:-.carry}
wheels=$folder/wheels
site=$folder/site
scripts/gpu_site.sh scripts/vllm_gpu.txt "$wheels" "$site"
scripts/gpu_trim.sh "$site"
cd "$site"
rm -rf vllm/third_party/fmha_sm100 vllm/third_party/deep_gemm/include \
  vllm/vllm_flash_attn/_vllm_fa2_C* vllm/_flashmla_C* vllm/_qutlass_C*
find . -name '_C.cpython-3*' ! -name '*-312-*' -delete
cd - >/dev/null
rm -f "$folder"/part.*
tar -C "$site" -c . | xz -T2 -6 | split -b 60M -d -a 1 - "$folder/part."
ls -l "$folder"/part.*
