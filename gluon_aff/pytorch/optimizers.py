"""Implement the original's optimizers as MXNet 1.9.1 computes them.

PyTorch's own optimizers differ whenever the learning rate changes: in MXNet the momentum contains the learning rate, in
PyTorch it does not. These are ordinary PyTorch optimizers, so schedules, parameter groups and gradient scalers work
with them. In the equations below, w is a weight, g its gradient, lr the learning rate and wd the weight decay.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Union

import torch
from torch import Tensor, nn

from gluon_aff import engines
from gluon_aff.schedule import Schedule

ADAGRAD_EPSILON = 1e-7  # the default of MXNet's `eps`
NO_DECAY = (".beta", ".gamma", ".bias")  # parameters that --no-wd exempts, as `.params` files name them
MOMENTUM, HISTORY = "momentum", "history"
Parameters = Union[Iterable[Tensor], Iterable[Dict[str, Any]]]


class GluonOptimizer(torch.optim.Optimizer):
    """Update all weights of a parameter group at once."""

    # PyTorch's decorators around these would import its compiler, which takes a second, only to keep it away from them
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], float]] = None) -> Optional[float]:  # type: ignore[override]
        """Update every weight that has a gradient.

        Args:
            closure: computes the gradients, if they are not computed yet, and returns the loss.

        Returns:
            The loss that `closure` returned, or None without it.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self.update(group, weights, [weight.grad for weight in weights])
        return loss

    def update(self, group: Mapping[str, Any], weights: List[Tensor], gradients: List[Tensor]) -> None:
        """Update the weights of a group in place, from their gradients."""
        raise NotImplementedError

    def kept(self, name: str, weights: List[Tensor]) -> List[Tensor]:
        """Return what the optimizer keeps under this name for each weight; new entries are zeros."""
        for weight in weights:
            if name not in self.state[weight]:
                self.state[weight][name] = torch.zeros_like(weight)
        return [self.state[weight][name] for weight in weights]


class SGD(GluonOptimizer):
    """Update by stochastic gradient descent: m = momentum m - lr (g + wd w); w = w + m."""

    def __init__(self, params: Parameters, lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def update(self, group: Mapping[str, Any], weights: List[Tensor], gradients: List[Tensor]) -> None:
        """Update the weights of a group in place, from their gradients."""
        steps = _decayed(gradients, weights, group["weight_decay"])
        if group["momentum"] == 0:
            torch._foreach_add_(weights, steps, alpha=-group["lr"])
            return
        momenta = self.kept(MOMENTUM, weights)
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, steps, alpha=-group["lr"])
        torch._foreach_add_(weights, momenta)


class NAG(SGD):
    """Update by SGD with Nesterov momentum, with the quirk of MXNet's kernel.

    The equations are m' = momentum m; w' = w - m' + (1 + momentum) (m' - lr (g + wd w)); m = m' - lr (g + wd w'). The
    last term has the new weight, because the kernel writes the new weight to where it then reads the old one.
    """

    def update(self, group: Mapping[str, Any], weights: List[Tensor], gradients: List[Tensor]) -> None:
        """Update the weights of a group in place, from their gradients."""
        rate, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
        if momentum == 0:
            super().update(group, weights, gradients)
            return
        momenta = self.kept(MOMENTUM, weights)
        torch._foreach_mul_(momenta, momentum)
        steps = torch._foreach_add(momenta, _decayed(gradients, weights, decay), alpha=-rate)
        torch._foreach_sub_(weights, momenta)
        torch._foreach_add_(weights, steps, alpha=1 + momentum)
        torch._foreach_add_(momenta, _decayed(gradients, weights, decay), alpha=-rate)


class AdaGrad(GluonOptimizer):
    """Update by AdaGrad: h = h + g^2; w = w - lr (g / sqrt(h + 1e-7) + wd w)."""

    def __init__(self, params: Parameters, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    def update(self, group: Mapping[str, Any], weights: List[Tensor], gradients: List[Tensor]) -> None:
        """Update the weights of a group in place, from their gradients."""
        histories = self.kept(HISTORY, weights)
        torch._foreach_addcmul_(histories, gradients, gradients)
        roots = torch._foreach_add(histories, ADAGRAD_EPSILON)
        torch._foreach_sqrt_(roots)
        steps = torch._foreach_div(gradients, roots)
        torch._foreach_add_(weights, _decayed(steps, weights, group["weight_decay"]), alpha=-group["lr"])


def _decayed(steps: Any, weights: List[Tensor], decay: float) -> Any:
    """Return the steps with `decay` times the weights added."""
    return torch._foreach_add(steps, weights, alpha=decay) if decay else steps


def make_optimizer(settings: engines.Optimizer, parameters: Mapping[str, nn.Parameter]) -> GluonOptimizer:
    """Return the optimizer of the parameters, which are given by their names in `.params` files."""
    exempt = [name for name in parameters if settings.no_wd and name.endswith(NO_DECAY)]
    groups = [
        {"params": [each for name, each in parameters.items() if name not in exempt], "weight_decay": settings.wd},
        {"params": [parameters[name] for name in exempt], "weight_decay": 0.0},
    ]
    rate = settings.rate.rate(0) if isinstance(settings.rate, Schedule) else settings.rate
    if settings.name == "adagrad":
        return AdaGrad(groups, rate)
    return {"nag": NAG, "sgd": SGD}[settings.name](groups, rate, settings.momentum or 0.0)
