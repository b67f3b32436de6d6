#!/bin/sh
# Records step logs of Llama shapes on one GPU, for `python -m ray_jobs.calibrate`:
#
#   scripts/gpu_run.sh FOLDER scripts/gpu_calibration.sh OUT [SHAPE|KEY=VALUE]...     (default: 8B, 3B and 1B)
#
# Random weights, whole memory, up to 256 sequences. Each shape starts one engine and runs four loads, 40 seconds in
# all: few users, many short requests, long contexts, long outputs. KEY=VALUE are further Hydra overrides. A shape that
# fails is named and left out. Leaves OUT/SHAPE.tar.gz with steps.parquet and run.json of each load (below 1 MiB).
# Then, for each SHAPE, where the files came back to:
#
#   tar xzf SHAPE.tar.gz && python -m ray_jobs.calibrate name=h200-SHAPE model_shape=SHAPE hardware=h200-sxm \
#       'steps=[SHAPE/few,SHAPE/many,SHAPE/long,SHAPE/reasoning]'
set -u
mkdir -p "$1"
out=$(realpath "$1"); shift
cd "$(dirname "$0")/.."
shapes= overrides= failed=0
for argument; do
  case $argument in *=*) overrides="$overrides $argument" ;; *) shapes="$shapes $argument" ;; esac
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for shape in ${shapes:-llama-3.1-8b llama-3.2-3b llama-3.2-1b}; do
  # shellcheck disable=SC2086
  python3 scripts/run_without_ray.py "$scratch/$shape" \
    engine=vllm_shape "model_shape@engine.sim.model_shape=$shape" engine.num_blocks=null engine.max_num_seqs=256 \
    engine.max_model_len=24576 workload.arrivals.kind=closed_loop workload.warmup_requests=0 $overrides \
    -- \
    "few workload=closed_loop workload.arrivals.users=6 workload.num_requests=2000 run.timeout_s=5" \
    "many workload=closed_loop workload.arrivals.users=256 workload.num_requests=6000 run.timeout_s=9" \
    "long workload=long_context workload.length_scale=3 workload.arrivals.users=24 workload.num_requests=600 run.timeout_s=10" \
    "reasoning workload=reasoning workload.arrivals.users=256 workload.num_requests=1000 run.timeout_s=16" ||
    { echo "$shape: failed" >&2; failed=1; continue; }
  (cd "$scratch" && find "$shape" -name steps.parquet -o -name run.json | tar czf "$out/$shape.tar.gz" -T -)
done
exit $failed
