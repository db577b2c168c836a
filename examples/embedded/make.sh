#!/bin/sh
# Trains, packages and evaluates the bundled model in one command:
#
#     PRETRAIN=36 EPOCHS=12 SEEDS=0,1,2 DEVICE=cuda examples/embedded/make.sh ../drones
#
# The folder holds the videos of the Drone-detection-dataset with train.json and val.json (COCO-VID).
# Run the command again to resume it. It writes to data/ and $OUTPUT only; the last line says how to
# replace the model of the package. The defaults of the variables take three hours on one core.
set -eu

drones=${1:?"usage: make.sh FOLDER (with train.json and val.json)"}
output=${OUTPUT:-results/embedded_model}
python=${PYTHON:-.venv/bin/python}
here=$(dirname "$0")
sparsevod="$python -m sparsevod_cli"

[ -e data/drones_small/train.json ] ||
  $python "$here/shrink.py" "$drones/train.json" -o data/drones_small --every 15
[ -e data/drones_small/val.json ] ||
  $python "$here/shrink.py" "$drones/val.json" -o data/drones_small
[ -e data/synthetic/val.json ] || $sparsevod prepare-vid --synthetic data/synthetic
[ -e data/both/train.json ] ||
  $python "$here/union.py" data/drones_small/train.json data/synthetic/train.json \
    -o data/both/train.json

# The first and last row of Table 2, single frames and all parts, from one single-frame detector.
$sparsevod reproduce --annotations data/both/train.json \
  --val data/drones_small/val.json --backbone tiny --config "$here/config.yaml" \
  --pretrain "${PRETRAIN:-12}" --set-rows "train.epochs=${EPOCHS:-1}" \
  --set-rows train.learning_rate=6e-4 \
  --device "${DEVICE:-auto}" --tables 2 --seeds "${SEEDS:-0}" --only baseline,full \
  --output "$output"

model=$output/sparsevod_tiny.pth
first=$(echo "${SEEDS:-0}" | cut -d , -f 1)
$python "$here/package.py" "$output/full/seed-$first/checkpoints/last.pth" -o "$model"
for set in drones_small synthetic; do
  $sparsevod eval "$model" --annotations "data/$set/val.json" --device "${DEVICE:-auto}" \
    --json "$output/$set.json"
done
echo "results: $output/tables.md, $output/drones_small.json, $output/synthetic.json"
echo "to replace the bundled model: cp $model sparsevod_core/weights/"
