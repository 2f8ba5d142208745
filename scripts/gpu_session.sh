#!/usr/bin/env bash
# All that is to be known of a GPU in one go, for whoever has one for a few minutes: figures, tests, profile.
#
#   scripts/gpu_session.sh FOLDER     tables and logs go there; each part has its own time limit, at most 8 minutes in all
#
# FOLDER/performance_gpu.md is docs/performance_gpu.md with the figures of this GPU in place of those that are there.
# Needs torch with CUDA, safetensors, tqdm and pytest; neither MuJoCo nor any data beside the repository.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:?usage: scripts/gpu_session.sh FOLDER}
mkdir -p "$out"
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
python=${PYTHON:-python3}

part() { # name, seconds, command...
  local name=$1 limit=$2 started=$SECONDS
  shift 2
  timeout "$limit" "$@" >"$out/$name.txt" 2>&1
  local status=$?
  echo "== $name: $([ $status = 0 ] && echo done || echo "FAILED ($status)") after $((SECONDS - started)) s"
  tail -n "${lines:-25}" "$out/$name.txt"
}

"$python" -c 'import torch; print(torch.__version__, torch.cuda.get_device_name())' || exit 1
cp docs/performance_gpu.md "$out/performance_gpu.md"
lines=60 part figures 150 "$python" scripts/benchmark_performance.py --device cuda --mode gpu --save "$out" \
  --document "$out/performance_gpu.md"
part tests 200 "$python" -m pytest -q -rA --durations=5 -p no:cacheprovider tests/cmg_ref/test_cuda.py \
  tests/cmg_ref/cuda_graph tests/cmg_ref/network/test_inference_network.py
lines=45 part profile 60 "$python" scripts/benchmark_performance.py --device cuda --mode profile --num-envs 4096 --save "$out/profile"
