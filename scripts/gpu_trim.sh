#!/bin/sh
# Takes out of an unpacked site what no benchmark runs: scripts/gpu_trim.sh SITE. Web pages, Ray's library for
# training, tokenizers' data, symbols. Ray Serve stays: fleets of real engines are its actors.
set -eu
cd "$1"
mv ./*.data/purelib/* ./*.data/platlib/* . 2>/dev/null || true
rm -rf ./*.data ray/jars ray/cpp ray/rllib ray/dashboard/client mlflow/server/js \
  mistral_common/data pycountry/locales vllm/vllm-rs
strip --strip-unneeded ray/_raylet.so
for binary in ray/core/src/ray/raylet/raylet ray/core/src/ray/gcs/gcs_server; do
  strip --strip-unneeded "$binary"
  chmod +x "$binary"  # the zip module of Python forgets it
done
