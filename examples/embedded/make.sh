#!/bin/sh
# Trains, packages and evaluates the bundled model in one command:
#
#     FRAME_EPOCHS=12 EPOCHS=6 SEEDS=0,1,2 DEVICE=cuda examples/embedded/make.sh ../drones
#
# The folder holds the videos of the Drone-detection-dataset with train.json and val.json (COCO-VID).
# Run the command again to resume it. It writes to data/ and $OUTPUT only; the last line says how to
# replace the model of the package. The defaults of the variables are those of the bundled model.
set -eu

drones=${1:?"usage: make.sh FOLDER (with train.json and val.json)"}
output=${OUTPUT:-results/embedded_model}
python=${PYTHON:-.venv/bin/python}
device=${DEVICE:-auto}
seeds=${SEEDS:-0,1,2}
here=$(dirname "$0")
sparsevod="$python -m sparsevod_cli"
small=data/drones_small

# A tenth of the training videos chose the settings in config.yaml. The model is not trained on them.
[ -e $small/train.json ] || $python "$here/shrink.py" "$drones/train.json" -o $small
[ -e $small/tenth/train.json ] || $sparsevod reproduce hold-out $small/train.json -o $small/tenth
[ -e data/synthetic/val.json ] || $sparsevod prepare-vid --synthetic data/synthetic
[ -e data/both/train.json ] ||
  $python "$here/union.py" $small/tenth/train.json data/synthetic/train.json --every 15 6 \
    -o data/both/train.json
# All runs are scored on every 10th frame of the validation videos, the bundled model on all frames.
[ -e data/drones_few/val.json ] ||
  $python "$here/shrink.py" "$drones/val.json" -o data/drones_few --every 10

# From ImageNet's weights to a detector of single frames: on small rendered frames, which teach the
# head most in little time, then on both sets.
frames=$output/single_frames
train() { # OUTPUT OPTIONS...
  folder=$1
  shift
  if [ -e "$folder/config.yaml" ]; then
    $sparsevod train --resume "$folder" --device "$device"
  else
    $sparsevod train --backbone lite0 --set model.tfe=off --set model.spfa=off \
      --device "$device" --output "$folder" "$@"
  fi
}
train "$output/rendered_frames" --annotations data/synthetic/train.json --set train.epochs=12
train "$frames" --annotations data/both/train.json --config "$here/config.yaml" \
  --init-from "$output/rendered_frames/checkpoints/last.pth" \
  --set "train.epochs=${FRAME_EPOCHS:-3}"

# The first and last row of Table 2, single frames and all parts, both from that detector, whose
# backbone stays as it is.
$sparsevod reproduce --annotations data/both/train.json --val data/drones_few/val.json \
  --backbone lite0 --config "$here/config.yaml" --pretrained "$frames/checkpoints/last.pth" \
  --set-rows "train.epochs=${EPOCHS:-1}" --set-rows train.learning_rate=4e-4 \
  --set-rows model.frozen_stages=5 --device "$device" --tables 2 --seeds "$seeds" \
  --only baseline,full --output "$output"

model=$output/sparsevod_lite0.pth
first=$(echo "$seeds" | cut -d , -f 1)
$python "$here/package.py" "$output/full/seed-$first/checkpoints/last.pth" -o "$model"
$sparsevod eval "$model" --annotations "$drones/val.json" --device "$device" \
  --json "$output/drones.json"
$sparsevod eval "$model" --annotations data/synthetic/val.json --device "$device" \
  --json "$output/synthetic.json"
echo "results: $output/tables.md, $output/drones.json, $output/synthetic.json"
echo "to replace the bundled model: cp $model sparsevod_core/weights/"
