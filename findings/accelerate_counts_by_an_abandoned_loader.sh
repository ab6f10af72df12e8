#!/usr/bin/env bash
# With accelerate's gradient accumulation, leaving a validation loop by `break` changes training:
# the last gradients of the epoch are no longer followed by a step, but added to those of the next
# epoch.
#
# Why it matters: a look at a few validation clips in the middle of an epoch is common. From then on
# there are fewer steps than a schedule was made for, batches of two epochs are mixed, and a run
# with `validate_every` set cannot be compared with one without. A validation that goes to its end
# changes nothing, and nothing is said.
# Seen with: accelerate 1.15.0, PyTorch 2.14.1.
# Source: `accumulate` asks the loader that was begun last whether it is at its end. A loader takes
# itself off that list (`DataLoaderStateMixin.end` in accelerate/data_loader.py) after its last
# batch, which an abandoned one never comes to.
# Remedy: call the loader's `end()` after the loop, or prepare a loader of fewer clips.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet accelerate==1.15.0 torch==2.14.1 numpy==2.4.6

venv/bin/python - <<'PY'
import warnings
from itertools import islice

import accelerate
import torch
from torch import nn
from torch.utils.data import DataLoader

warnings.simplefilter("ignore")
CLIPS, WINDOW, EPOCHS = 10, 4, 2


def steps(validate):
    """After which batches of each epoch the optimizer made a step."""
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=WINDOW)
    model = nn.Linear(1, 1)
    model, optimizer, train, val = accelerator.prepare(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        DataLoader(torch.ones(CLIPS, 1), batch_size=1),
        DataLoader(torch.ones(CLIPS, 1), batch_size=1),
    )
    found = [[] for _ in range(EPOCHS)]
    for epoch in range(EPOCHS):
        for k, batch in enumerate(train):
            with accelerator.accumulate(model):
                accelerator.backward(model(batch).mean())
                if accelerator.sync_gradients:
                    found[epoch].append(k)
                optimizer.step()
                optimizer.zero_grad()
            if k == CLIPS // 2:
                validate(val)
    return found


def whole(val):
    for _ in val:
        pass


def cut_short(val):
    for k, _ in enumerate(val):
        if k == 2:
            break


def ended(val):
    cut_short(val)
    val.end()


print("accelerate", accelerate.__version__, "PyTorch", torch.__version__)
expected = steps(lambda val: None)
print("expected: steps after batches", expected)
ways = {"whole": whole, "break": cut_short, "end()": ended, "islice": lambda val: [*islice(val, 2)]}
seen = {name: steps(validate) for name, validate in ways.items()}
for name, found in seen.items():
    print(f"seen: validation, {name}: {found}")

assert expected == seen["whole"] == seen["end()"] == [[3, 7, 9], [3, 7, 9]]
assert seen["break"] == seen["islice"] == [[3, 7], [1, 5, 9]], "validation changes nothing now"
PY
