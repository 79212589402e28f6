#!/usr/bin/env bash
# Everything that only a GPU can show, most valuable first, in 13 minutes.
#
#   benchmarks/on_gpu.sh OUT             with DATA=voc.zip, the packed copy of a part of VOC
#   benchmarks/on_gpu.sh OUT --smoke     the same pieces, tiny, on a CPU: does it run at all?
#
# DATA is a file of `benchmarks/packed.py`, or a folder; WEIGHTS a .safetensors file of
# ImageNet's MobileNetV2 features; PYTHON the interpreter. A piece that fails or runs out of
# time leaves what it had under OUT, and the next one begins. Run again with the same OUT, the
# table goes on where it was. OUT/pieces.tsv says how each piece ended.
set -uo pipefail

out=${1:?usage: benchmarks/on_gpu.sh OUT [--smoke]}
smoke=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python}
data=${DATA:-voc.zip}
begun=$SECONDS
LIMIT_S=780 # of all pieces together
export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"

mkdir -p "$out"
out=$(cd "$out" && pwd)

# piece NAME SECONDS COMMAND…: at most that long, and never beyond the limit of all.
piece() {
  local name=$1 most=$2 left=$((LIMIT_S - SECONDS + begun)) since=$SECONDS
  shift 2
  if ((left < 10)); then
    printf '%s\tnot begun\t0\n' "$name" >>"$out/pieces.tsv"
    return
  fi
  timeout --kill-after=10 $((most < left ? most : left)) "$@" >"$out/$name.log" 2>&1
  printf '%s\t%s\t%s\n' "$name" "$?" $((SECONDS - since)) | tee -a "$out/pieces.tsv"
}

checks() { piece "$1" "$2" "$python" "$here/gpu_checks.py" "$1" --out "$out/$1.json" "${@:3}"; }

table() { # NAME SCALE SECONDS OPTIONS…: the seconds end between cells, or within one
  piece "$1" "$3" "$python" "$here/table1.py" --scale "$2" --out "$out/$2.json" \
    --seconds "$3" "${@:4}"
}

if [ "$smoke" = --smoke ]; then
  table table1 smoke 100 --most 2
  checks parity 100 --small --device cpu
  piece overhead 100 "$python" "$here/transforms.py" --model fcn_small --size 32 --batch 2
  piece audit 100 "$python" "$here/audit.py" --model fcn_small --size 32 --batch 2
  checks bound 100 --small --device cpu
  table patch smoke-patch 100 --most 2
  checks precision 100 --small --device cpu
  awk -F'\t' '$2 != 0 { bad = 1 } END { exit bad }' "$out/pieces.tsv"
  exit
fi

if [ -f "$data" ]; then
  "$python" "$here/packed.py" "$data" "$out/data" --unpack && data=$out/data
fi
start=(--data "$data" --device cuda)
if [ -n "${WEIGHTS:-}" ]; then
  cp "$WEIGHTS" mobilenet_v2.safetensors # the path is in the table: a plain one
  start+=(--set model.weights=mobilenet_v2.safetensors)
  start+=(--set 'model.mean=[0.5,0.5,0.5]' --set 'model.std=[0.5,0.5,0.5]')
else
  start+=(--set model.weights=none)
fi
nvidia-smi >"$out/machine.txt" 2>&1

table table1 gpu15 300 "${start[@]}"
checks parity 90 --device cuda
piece overhead 60 "$python" "$here/transforms.py" --device cuda --batch 64
piece overhead_resnet 45 "$python" "$here/transforms.py" --device cuda --batch 32 --model fcn_resnet50
piece audit 45 "$python" "$here/audit.py" --device cuda --batch 64
checks bound 60 --device cuda
for model in convnext swin setr; do
  table "$model" "$model" 60 --data "$data" --device cuda --set audit.incorrect_keys=10
done
checks precision 90 --device cuda
table table1_again gpu15 480 "${start[@]}" # with what is left
"$python" "$here/table1.py" --scale gpu15 --out "$out/gpu15.json" --print >"$out/table1.md"
rm -rf "$out/data"
exit 0
