#!/usr/bin/env bash
# Going through a validation set takes a number from PyTorch's global random generator, although
# its DataLoader does not shuffle and its clips are not changed at random. Whoever validates after
# each epoch trains in another order, with other augmentation and dropout, than who does not.
#
# Why it matters: with one seed, `validate_every=1` and `validate_every=5` give two different
# networks, and so does a resumed run that skips or adds one evaluation. One looks for a leak of
# validation data, or for what is not deterministic on the GPU; there is neither.
# Seen with: torch 2.14.1, with and without worker processes.
# Source: each iterator (`_BaseDataLoaderIter.__init__` in torch/utils/data/dataloader.py) draws a
# seed for workers, `_base_seed`, also where there are none, and from the global generator if the
# loader has none of its own.
# Remedy: give each DataLoader a generator of its own: DataLoader(..., generator=torch.Generator()).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import torch
from torch.utils.data import DataLoader

CLIPS = list(range(8))


def orders(validate, **options):
    """Order of clips in three epochs, with or without a validation after each."""
    torch.manual_seed(0)
    train = DataLoader(CLIPS, batch_size=len(CLIPS), shuffle=True)
    val = DataLoader(CLIPS, batch_size=2, shuffle=False, **options)
    found = []
    for _ in range(3):
        found += [batch.tolist() for batch in train]
        if validate:
            assert torch.cat(list(val)).tolist() == CLIPS, "nothing about it is random"
    return found


if __name__ == "__main__":
    print("torch", torch.__version__)
    alone = orders(validate=False)
    print("expected:", alone)
    seen = {
        "with validation": orders(True),
        "with validation by workers": orders(True, num_workers=1),
        "with validation, own generator": orders(True, generator=torch.Generator()),
    }
    for name, found in seen.items():
        print(f"seen: {name}: {found}")
    assert seen["with validation, own generator"] == alone
    assert seen["with validation"] == seen["with validation by workers"]
    assert seen["with validation"][0] == alone[0]
    assert seen["with validation"][1:] != alone[1:], "validation leaves the generator alone now"
PY
