#!/bin/sh
# Downloads the wheels a requirements file pins, for a GPU machine (Linux x86-64, Python 3.12), and unpacks them:
# scripts/gpu_site.sh REQUIREMENTS WHEELS SITE. WHEELS is kept and reused, SITE is made anew.
set -eu
requirements=$1 wheels=$2 site=$3
mkdir -p "$wheels"
platforms=$(for n in 17 24 26 27 28 31 34; do printf -- '--platform manylinux_2_%s_x86_64 ' $n; done)
# shellcheck disable=SC2086
python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
  $platforms --platform manylinux2014_x86_64 --platform manylinux1_x86_64 -d "$wheels" -r "$requirements"
python3 -m pip wheel -q --no-deps -w "$wheels" antlr4-python3-runtime==4.9.3  # of omegaconf; has no wheel
rm -rf "$site"
mkdir -p "$site"
for wheel in "$wheels"/*.whl; do
  python3 -m zipfile -e "$wheel" "$site"
done
