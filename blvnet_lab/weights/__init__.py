"""Weights to start from: published checkpoints, and the ResNets of torchvision."""

from blvnet_lab.weights.official import import_official, load_official, load_resnet
