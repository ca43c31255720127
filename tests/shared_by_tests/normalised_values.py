"""What the BatchNorms of a PyTorch network normalise."""

import torch


def values_for_each_channel(net, images):
    """How many values of a channel each BatchNorm normalises together, by the name of its running variance."""
    counts = {}
    hooks = [
        module.register_forward_hook(
            lambda module, inputs, _, name=name: counts.update(
                {f"{name}.running_var": inputs[0].numel() // inputs[0].shape[1]}
            )
        )
        for name, module in net.named_modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    ]
    output = net(images)
    for hook in hooks:
        hook.remove()
    return output, counts
