"""The original's optimizers as MXNet 1.9.1 computes them; PyTorch's own differ wherever the learning rate changes.

In MXNet the learning rate is inside the momentum, in PyTorch outside. They are ordinary PyTorch optimizers, so that
schedules, parameter groups and gradient scalers work with them. Below, w is a weight, g its gradient, lr the learning
rate and wd the weight decay.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Union

import torch
from torch import Tensor, nn

from gluon_aff import engines
from gluon_aff.schedule import Schedule

ADAGRAD_EPSILON = 1e-7  # MXNet's `eps`
NO_DECAY = (".beta", ".gamma", ".bias")  # of --no-wd, as `.params` files name them
MOMENTUM, HISTORY = "momentum", "history"
Parameters = Union[Iterable[Tensor], Iterable[Dict[str, Any]]]


class GluonOptimizer(torch.optim.Optimizer):
    """Updates all weights of a parameter group at once."""

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], float]] = None) -> Optional[float]:  # type: ignore[override]
        """Update every weight that has a gradient; return what `closure` does, which computes the gradients."""
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
        """Update the weights of a group in place."""
        raise NotImplementedError

    def kept(self, name: str, weights: List[Tensor]) -> List[Tensor]:
        """What is kept under this name for each weight, zeros to begin with."""
        for weight in weights:
            if name not in self.state[weight]:
                self.state[weight][name] = torch.zeros_like(weight)
        return [self.state[weight][name] for weight in weights]


class SGD(GluonOptimizer):
    """Stochastic gradient descent: m = momentum m - lr (g + wd w); w = w + m."""

    def __init__(self, params: Parameters, lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def update(self, group: Mapping[str, Any], weights: List[Tensor], gradients: List[Tensor]) -> None:
        """Update the weights of a group in place."""
        steps = _decayed(gradients, weights, group["weight_decay"])
        if group["momentum"] == 0:
            torch._foreach_add_(weights, steps, alpha=-group["lr"])
            return
        momenta = self.kept(MOMENTUM, weights)
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, steps, alpha=-group["lr"])
        torch._foreach_add_(weights, momenta)


class NAG(SGD):
    """SGD with Nesterov's momentum, with the oddity of MXNet's kernel.

    m' = momentum m; w' = w - m' + (1 + momentum) (m' - lr (g + wd w)); m = m' - lr (g + wd w'). The weight in the last
    term is the new one, since the kernel writes it where it reads the old one.
    """

    def update(self, group: Mapping[str, Any], weights: List[Tensor], gradients: List[Tensor]) -> None:
        """Update the weights of a group in place."""
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
    """AdaGrad: h = h + g^2; w = w - lr (g / sqrt(h + 1e-7) + wd w)."""

    def __init__(self, params: Parameters, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    def update(self, group: Mapping[str, Any], weights: List[Tensor], gradients: List[Tensor]) -> None:
        """Update the weights of a group in place."""
        histories = self.kept(HISTORY, weights)
        torch._foreach_addcmul_(histories, gradients, gradients)
        roots = torch._foreach_add(histories, ADAGRAD_EPSILON)
        torch._foreach_sqrt_(roots)
        steps = torch._foreach_div(gradients, roots)
        torch._foreach_add_(weights, _decayed(steps, weights, group["weight_decay"]), alpha=-group["lr"])


def _decayed(steps: Any, weights: List[Tensor], decay: float) -> Any:
    """The steps with `decay` times the weights added."""
    return torch._foreach_add(steps, weights, alpha=decay) if decay else steps


def make_optimizer(settings: engines.Optimizer, parameters: Mapping[str, nn.Parameter]) -> GluonOptimizer:
    """The optimizer of those parameters, given by the names that `.params` files have."""
    exempt = [name for name in parameters if settings.no_wd and name.endswith(NO_DECAY)]
    groups = [
        {"params": [each for name, each in parameters.items() if name not in exempt], "weight_decay": settings.wd},
        {"params": [parameters[name] for name in exempt], "weight_decay": 0.0},
    ]
    rate = settings.rate.rate(0) if isinstance(settings.rate, Schedule) else settings.rate
    if settings.name == "adagrad":
        return AdaGrad(groups, rate)
    return {"nag": NAG, "sgd": SGD}[settings.name](groups, rate, settings.momentum or 0.0)
