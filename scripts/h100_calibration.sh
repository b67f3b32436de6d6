#!/bin/sh
# Records step logs of small Llama shapes on one GPU, for `python -m ray_jobs.calibrate`:
#
#   scripts/gpu_run.sh FOLDER scripts/h100_calibration.sh OUT [SHAPE...]     (default: llama-3.2-1b llama-3.2-3b)
#
# Random weights, whole memory, up to 256 sequences; each shape starts one engine and runs three loads of 12 to 25
# seconds: many short requests, long contexts, long outputs. Leaves steps.parquet and run.json of each load in
# OUT/SHAPE/LOAD. About 100 s a shape. Then, for each SHAPE, where the files came back to:
#
#   python -m ray_jobs.calibrate name=h100-SHAPE model_shape=SHAPE hardware=h100-sxm \
#       'steps=[OUT/SHAPE/many,OUT/SHAPE/long,OUT/SHAPE/reasoning]'
set -eu
out=$1; shift
cd "$(dirname "$0")/.."
for shape in "${@:-llama-3.2-1b llama-3.2-3b}"; do for name in $shape; do
  python3 scripts/run_without_ray.py "$out/$name" \
    engine=vllm_shape "model_shape@engine.sim.model_shape=$name" engine.num_blocks=null engine.max_num_seqs=256 \
    engine.max_model_len=24576 workload.arrivals.kind=closed_loop workload.warmup_requests=0 \
    -- \
    "many workload=closed_loop workload.arrivals.users=256 workload.num_requests=6000 run.timeout_s=12" \
    "long workload=long_context workload.length_scale=3 workload.arrivals.users=24 workload.num_requests=1000 run.timeout_s=15" \
    "reasoning workload=reasoning workload.arrivals.users=256 workload.num_requests=3000 run.timeout_s=25"
  find "$out/$name" -name requests.parquet -delete -o -name events.jsonl -delete
done; done
