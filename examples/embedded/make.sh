#!/bin/sh
# The model that comes with the package, from the data to its file and its numbers, in one command:
#
#     PRETRAIN=36 EPOCHS=12 SEEDS=0,1,2 DEVICE=cuda examples/embedded/make.sh ../drones
#
# The folder holds the Drone-detection-dataset's videos with train.json and val.json (COCO-VID).
# Cut off, it goes on where it was. Everything lies in data/ and in $OUTPUT; nothing of the package
# is replaced: the last lines say how. Without the variables: what one core does in three hours.
set -eu

drones=${1:?"usage: make.sh FOLDER, with train.json and val.json in it"}
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

# Table 2's first and last row: single frames, and all parts, from one single-frame detector.
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
echo "numbers: $output/tables.md, $output/drones_small.json, $output/synthetic.json"
echo "to replace the package's model: cp $model sparsevod_core/weights/"
