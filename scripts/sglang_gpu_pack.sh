#!/bin/sh
# Packs SGLang, Ray, MLflow and Hydra for a GPU machine without a network into parts of at most 60 MiB:
# scripts/sglang_gpu_pack.sh [FOLDER] (default .carry-sglang). There: SITE=/tmp/sglang-site scripts/gpu_run.sh FOLDER COMMAND...
#
# Left out of the wheels: kernels for other GPUs and for backends that are not used (flash_ops alone is 1.1 GB),
# static libraries, debug symbols, tests, CUTLASS, and FlashInfer's sources except those of its normalization kernel,
# which SGLang compiles when it starts.
set -eu
cd "$(dirname "$0")/.."
folder=${1:-.carry-sglang}
wheels=${WHEELS:-$folder/wheels}
site=$folder/site
scripts/gpu_site.sh scripts/sglang_gpu.txt "$wheels" "$site"
scripts/gpu_trim.sh "$site"
cd "$site"
find flashinfer/data/csrc -type f ! -name '*norm*' ! -name tvm_ffi_utils.h -delete
rm -rf flashinfer/data/cutlass flashinfer/data/cccl flashinfer/data/spdlog sgl_kernel/sm100 sgl_kernel/flash_ops* \
  sgl_kernel/infllm_ops* sgl_kernel/flashmla_ops* sglang/multimodal_gen xgrammar/lib
find . -type d \( -name tests -o -name test -o -name __pycache__ \) -prune -exec rm -rf {} +
find . -name '*.a' -delete
find . -name '*.so*' -type f -exec strip --strip-unneeded {} + 2>/dev/null || true
cd - >/dev/null
# What gives SGLang the plugin: an entry point needs metadata.
mkdir -p "$site/bidkv-0.1.0.dist-info"
printf 'Metadata-Version: 2.1\nName: bidkv\nVersion: 0.1.0\n' >"$site/bidkv-0.1.0.dist-info/METADATA"
printf '[sglang.srt.plugins]\nbidkv = bidkv.adapters.sglang.plugin:register\n' >"$site/bidkv-0.1.0.dist-info/entry_points.txt"
rm -f "$folder"/part.*
tar -C "$site" -c . | xz -T2 -6 | split -b 60M -d -a 1 - "$folder/part."
ls -l "$folder"/part.*
