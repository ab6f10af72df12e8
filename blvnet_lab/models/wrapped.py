"""Handle networks that other tools have wrapped or changed: unwrap them, or refuse them."""

from torch import nn

from blvnet_lab.models.networks import VideoNet


def unwrapped(model: nn.Module) -> nn.Module:
    """Unwrap a model from torch.compile, DistributedDataParallel, AveragedModel, nnsight, ..."""
    if not isinstance(model, VideoNet):
        for name in ("_orig_mod", "module", "_module"):
            if isinstance(inner := getattr(model, name, None), nn.Module):
                return unwrapped(inner)
    return model


def network_of(model: nn.Module) -> VideoNet:
    """Return our network inside its wrappers (`unwrapped`); raise TypeError if there is none."""
    network = unwrapped(model)
    if not isinstance(network, VideoNet):
        raise TypeError(
            "expected a model from tsn, tsn_blnet, blvnet or blvnet_tam, got "
            f"{type(model).__name__}: give the network itself"
        )
    return network


def check_whole(weight: object, where: str) -> None:
    """Raise ValueError if the weight is a DTensor, of which each process holds a shard."""
    if hasattr(weight, "full_tensor"):
        raise ValueError(
            f"expected {where} to be whole, got a shard of it: gather the weights with "
            "torch.distributed.checkpoint.state_dict.get_model_state_dict (full_state_dict=True) "
            "and load them into a network of one process"
        )


def check_weights(network: nn.Module, where: str = "model") -> None:
    """Raise ValueError if a weight is computed from others (pruned, say), or a shard."""
    for place, module in network.named_modules(prefix=where):
        for name in ("taps", "weight", "bias"):
            weight = getattr(module, name, None)
            if weight is not None and name not in module._parameters:
                raise ValueError(
                    f"expected {place}.{name} to be a parameter, got one that is computed from "
                    "others: make pruned weights plain with torch.nn.utils.prune.remove, "
                    "parametrised ones with torch.nn.utils.parametrize.remove_parametrizations"
                )
            check_whole(weight, f"{place}.{name}")


def check_as_built(network: nn.Module) -> None:
    """Raise ValueError if another tool has changed weights or a `forward`."""
    check_weights(network)
    for place, module in network.named_modules(prefix="model"):
        if "forward" in vars(module):
            raise ValueError(
                f"expected modules with their own code, got one whose {place}.forward another tool "
                "has replaced: build the network again, and load this one's state_dict() into it"
            )
