"""A GPU that is not here, for the tests of what PyTorch's learner and inspections do on one."""

import pytest
import torch
from torch import nn


@pytest.fixture
def pretended_gpu(monkeypatch):
    """Tensors and modules that are sent to a GPU stay on the CPU; the list has what was asked for, in order."""
    asked = []

    def staying(to):
        def stay(self, *destination, **more):
            asked.extend(str(each) for each in destination if isinstance(each, torch.device) and each.type == "cuda")
            here = [torch.device("cpu") if str(each).startswith("cuda") else each for each in destination]
            return to(self, *here, **more)

        return stay

    for kind in (torch.Tensor, nn.Module):
        monkeypatch.setattr(kind, "to", staying(kind.to))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: asked.append(f"from now on {device}"))
    return asked
