#!/bin/sh
# Packs SGLang for a GPU machine without a network into parts of at most 60 MB: scripts/sglang_gpu_pack.sh [FOLDER]
# (default .carry-sglang). There: SITE=/tmp/sglang-site scripts/gpu_run.sh FOLDER COMMAND...
#
# Left out of the wheels: kernels for other GPUs and for backends that are not used (flash_ops alone is 1.1 GB),
# static libraries, debug symbols, tests, and CUTLASS headers.
set -eu
cd "$(dirname "$0")/.."
folder=${1:-.carry-sglang}
wheels=${WHEELS:-$folder/wheels}
site=$folder/site
mkdir -p "$wheels"
platforms=$(for n in 17 24 26 27 28 31 34; do printf -- '--platform manylinux_2_%s_x86_64 ' $n; done)
# shellcheck disable=SC2086
python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
  $platforms --platform manylinux2014_x86_64 -d "$wheels" -r scripts/sglang_gpu.txt
python3 -m pip wheel -q --no-deps -w "$wheels" antlr4-python3-runtime==4.9.3  # of omegaconf; has no wheel
rm -rf "$site"
mkdir -p "$site"
for wheel in "$wheels"/*.whl; do
  python3 -m zipfile -e "$wheel" "$site"
done
cd "$site"
rm -rf flashinfer/data sgl_kernel/sm100 sgl_kernel/flash_ops* sgl_kernel/infllm_ops* sgl_kernel/flashmla_ops* \
  pycountry/locales sglang/multimodal_gen xgrammar/lib ./*.data
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
