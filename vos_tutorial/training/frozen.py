"""What of a network does not learn. It is no tensor, so a state dict forgets it; checkpoints keep it apart."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn


class Frozen(NamedTuple):
    """Names, as in ``named_parameters`` and ``named_modules``; ``""`` is the network itself."""

    parameters: list[str]
    """They take no gradient."""
    norms: list[str]
    """Modules whose ``freeze_norm`` was called."""
    modules: list[str]
    """They stay in eval mode when the network is put into training mode."""

    def restore(self, network: nn.Module) -> None:
        """Freeze the same parts of another network of the same form. To be done before optimisers are made.

        Raises:
            AttributeError: if the network has no such module.
        """
        for name in self.norms:
            freeze = network.get_submodule(name).freeze_norm
            assert callable(freeze)
            freeze()
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name not in self.parameters)

    def train(self, network: nn.Module) -> None:
        """Training mode, but for what is frozen."""
        network.train()
        for name in self.modules:
            network.get_submodule(name).training = False  # eval() would reach what lies inside


def frozen_parts(network: nn.Module) -> Frozen:
    """What is frozen in a network now; its mode stays as it is."""
    mode = network.training
    network.train()
    found = Frozen(
        [name for name, p in network.named_parameters() if not p.requires_grad],
        [name for name, m in network.named_modules() if getattr(m, "frozen", False)],
        [name for name, m in network.named_modules() if not m.training],
    )
    network.train(mode)
    return found
