#!/usr/bin/env bash
# Lightning's BackboneFinetuning, which unfreezes a backbone after some epochs, trains a backbone of
# its own in each process under DDP: from then on their gradients are not averaged. The head's are.
#
# Why it matters: nothing is raised or said. The losses look right, and the checkpoint holds the
# backbone of the first process, which has seen one clip in eight on eight GPUs, under a head that
# was trained for all eight. A backbone that is trained from the start is right.
# Seen with: pytorch-lightning 2.6.6, PyTorch 2.14.1, two processes on a CPU.
# Source: DistributedDataParallel looks once, when it is made, which parameters need a gradient, and
# averages these alone (torch/nn/parallel/distributed.py). The callback freezes in `setup`, before
# that, and unfreezes later.
# Remedy: one call of `fit` with the backbone frozen, and a second one with it unfrozen, as below.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet pytorch-lightning==2.6.6 torch==2.14.1 numpy==2.4.6

cat > train.py <<'PY'
import logging

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BackboneFinetuning
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 4
for name in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.distributed"):
    logging.getLogger(name).setLevel(logging.ERROR)


class Classifier(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = nn.Linear(4, 4), nn.Linear(4, 1)
        self.apart = nn.Buffer(torch.zeros(EPOCHS, 2))

    def training_step(self, batch, index):
        return self.head(self.backbone(batch[0])).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], 0.1)

    def on_train_epoch_end(self):
        for k, module in enumerate((self.backbone, self.head)):
            one, other = self.all_gather(module.weight.detach())
            self.apart[self.current_epoch, k] = (one - other).abs().max()


def fit(model, epochs, *callbacks):
    features = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp_spawn",
        max_epochs=epochs,
        callbacks=list(callbacks),
        **quiet,
    )
    trainer.fit(model, DataLoader(TensorDataset(features), batch_size=4))
    return model.apart.T.tolist()


if __name__ == "__main__":
    pl.seed_everything(0, verbose=False)
    print("pytorch-lightning", pl.__version__, "PyTorch", torch.__version__)
    print("expected: both processes have the same weights after each epoch")
    by_callback = fit(Classifier(), EPOCHS, BackboneFinetuning(unfreeze_backbone_at_epoch=2))
    print("seen: backbones are apart by", by_callback[0], "and heads by", by_callback[1])
    model = Classifier()
    model.backbone.requires_grad_(False)
    fit(model, 2)
    frozen = model.backbone.requires_grad_(True).weight.detach().clone()
    by_two_fits = fit(model, 2)
    print("seen: with a second fit for the backbone:", by_two_fits)

    assert by_callback[1] == [0, 0, 0, 0] and not any(sum(by_two_fits, []))
    assert not model.backbone.weight.equal(frozen)
    assert by_callback[0][:2] == [0, 0]
    assert min(by_callback[0][2:]) > 0, "backbones are the same now"
PY
PYTHONWARNINGS=ignore venv/bin/python train.py
