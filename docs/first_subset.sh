#!/usr/bin/env bash
# From a mirror of Kinetics to a network that says what is in a video, in five commands.
#
#   bash docs/first_subset.sh                        the miniature mirror: no network, a minute or two
#   MIRROR=official CLASSES=20 PRESET=kinetics-subset SIDE=256 bash docs/first_subset.sh
#                                                    20 classes of the real one: streams up to 32 GB
#
# Interrupted, the same command goes on where it stopped.
set -euo pipefail

OUT=${OUT:-runs/first_subset}       # folder for everything
MIRROR=${MIRROR:-sample}            # "sample", "official" or an address
CLASSES=${CLASSES:-4}               # how many, drawn at random
PRESET=${PRESET:-classroom}         # recipe of the training
SIDE=${SIDE:-64}                    # pixels of the prepared videos' short side
VIEWS=${VIEWS:-3x3}                 # clips x crops that a video is evaluated with
read -ra TRAIN <<<"${TRAIN:-}"      # more options of the training, such as "--epochs 3"
lab() { "${PYTHON:-python}" -m blvnet_lab "$@"; }

where=()
[ "$MIRROR" = official ] || where=(--mirror "$MIRROR")
lab subset kinetics400 "${where[@]}" --num-classes "$CLASSES" --out "$OUT/clips" --yes
lab prepare "$OUT/clips/manifest.csv" --out "$OUT/prepared" --short-side "$SIDE"
lab train "$OUT/prepared/manifest.csv" --out "$OUT/run" --preset "$PRESET" --resume auto "${TRAIN[@]}"
lab evaluate "$OUT/run/model.safetensors" "$OUT/prepared/manifest.csv" --views "$VIEWS" --out "$OUT/judged"
video=$(find "$OUT/prepared/val" -name '*.mp4' | sort | head -n 1)
lab predict "$OUT/run/model.safetensors" "$video" --annotate "$OUT/answer.mp4"
