#!/bin/sh
# Compares the bundled model's design with a detector of single frames on degraded real videos:
#
#     examples/embedded/degraded.sh ../drones
#
# The folder is that of make.sh, which has to run first: both detectors start from its detector of
# rendered frames. Run the command again to resume it. It writes to data/ and $OUTPUT only.
set -eu

drones=${1:?"usage: degraded.sh FOLDER (with train.json and val.json)"}
output=${OUTPUT:-results/drones_degraded}
rendered=${RENDERED:-results/embedded_model/rendered_frames}
python=${PYTHON:-.venv/bin/python}
device=${DEVICE:-auto}
here=$(dirname "$0")
sparsevod="$python -m sparsevod_cli"
few=data/drones_10fps
degraded=data/drones_degraded

for split in train val; do
  [ -e $few/$split.json ] || $python "$here/shrink.py" "$drones/$split.json" -o $few --every 3
  [ -e $degraded/$split.json ] ||
    $sparsevod prepare-vid --degrade 0 $few/$split.json -o $degraded
done
[ -e $degraded/tenth/train.json ] ||
  $sparsevod reproduce hold-out $degraded/train.json -o $degraded/tenth
[ -e data/degraded/train.json ] ||
  $python "$here/union.py" $degraded/tenth/train.json --every 15 -o data/degraded/train.json

frames=$output/single_frames
if [ -e "$frames/config.yaml" ]; then
  $sparsevod train --resume "$frames" --device "$device"
else
  $sparsevod train --backbone lite0 --config "$here/config.yaml" --set model.tfe=off \
    --set model.spfa=off --set "train.epochs=${FRAME_EPOCHS:-3}" --device "$device" \
    --annotations data/degraded/train.json --init-from "$rendered/checkpoints/last.pth" \
    --output "$frames"
fi
$sparsevod reproduce --annotations data/degraded/train.json --val $degraded/val.json \
  --backbone lite0 --config "$here/config.yaml" --pretrained "$frames/checkpoints/last.pth" \
  --set-rows "train.epochs=${EPOCHS:-1}" --set-rows train.learning_rate=4e-4 \
  --set-rows model.frozen_stages=5 --device "$device" --tables 2 --seeds "${SEEDS:-0,1,2}" \
  --only baseline,full --output "$output"
echo "results: $output/tables.md"
