"""NumPy evaluations of the paper's equations, from a block's parameters by name."""

import mxnet as mx
import numpy as np


def random_parameters(block, seed=0):
    """Give `block` random parameters, running statistics included; return them."""
    block.initialize()
    rng = np.random.default_rng(seed)
    for name, parameter in block._collect_params_with_prefix().items():
        low = 0.5 if name.endswith(("gamma", "running_var")) else -1
        parameter.set_data(mx.nd.array(rng.uniform(low, 1.5, parameter.shape)))
    return {name: p.data().asnumpy() for name, p in block._collect_params_with_prefix().items()}


def moderate_parameters(block):
    """The same with weights around 0 that hardly let values grow, for blocks of many layers and channels."""
    random_parameters(block)
    for name, parameter in block._collect_params_with_prefix().items():
        if name.endswith("weight"):
            parameter.set_data((parameter.data() - 0.25) / np.sqrt(np.prod(parameter.shape[1:])))
    return {name: p.data().asnumpy() for name, p in block._collect_params_with_prefix().items()}


def convolution(p, prefix, z):
    return np.einsum("oc,nchw->nohw", p[f"{prefix}.weight"][:, :, 0, 0], z) + p[f"{prefix}.bias"][:, None, None]


def batch_norm(p, prefix, z):
    column = {k: p[f"{prefix}.{k}"][:, None, None] for k in ("gamma", "beta", "running_mean", "running_var")}
    normal = (z - column["running_mean"]) / np.sqrt(column["running_var"] + 1e-5)
    return normal * column["gamma"] + column["beta"]


def bottleneck(p, name, z, first=0):
    """Eq. 2: BN(PWConv2(ReLU(BN(PWConv1(Z)))))."""
    hidden = np.maximum(batch_norm(p, f"{name}.{first + 1}", convolution(p, f"{name}.{first}", z)), 0)
    return batch_norm(p, f"{name}.{first + 4}", convolution(p, f"{name}.{first + 3}", hidden))


def one_convolution(p, name, z, first=0):
    """The first release's context: BN(PWConv(Z))."""
    return batch_norm(p, f"{name}.{first + 1}", convolution(p, f"{name}.{first}", z))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def pooled(z):
    return z.mean(axis=(2, 3), keepdims=True)


def weight(p, z, suffix="", scales=("local", "global"), context=bottleneck):
    """Eq. 3: the sigmoid of the sum of contexts; a global one is Eq. 1, the same on the pooled map."""
    names = [f"{scales[0]}_att"] if len(scales) == 1 else ["local_att", "global_att"]
    total = sum(
        context(p, name + suffix, pooled(z), first=1) if scale == "global" else context(p, name + suffix, z)
        for name, scale in zip(names, scales)
    )
    return sigmoid(total)


def below(p, prefix):
    """Parameters whose names start with `prefix`, without it."""
    return {name[len(prefix) :]: value for name, value in p.items() if name.startswith(prefix)}


def wide_convolution(p, prefix, z, stride=1, dilation=1):
    """3x3, with as many zeros around as keep the size at stride 1."""
    height, width = z.shape[2:]
    padded = np.pad(z, ((0, 0), (0, 0), (dilation,) * 2, (dilation,) * 2))
    taps = sum(
        np.einsum(
            "oc,nchw->nohw",
            p[f"{prefix}.weight"][:, :, row, column],
            padded[:, :, row * dilation :, column * dilation :][:, :, :height, :width],
        )
        for row in range(3)
        for column in range(3)
    )
    return taps[:, :, ::stride, ::stride] + p.get(f"{prefix}.bias", np.zeros(len(taps[0])))[:, None, None]


def stretched(z, height, width):
    """Bilinear, corners to corners."""
    rows, columns = np.linspace(0, z.shape[2] - 1, height), np.linspace(0, z.shape[3] - 1, width)
    for axis, at in ((2, rows), (3, columns)):
        low = np.minimum(at.astype(int), z.shape[axis] - 1)
        high = np.minimum(low + 1, z.shape[axis] - 1)
        share = (at - low).reshape([-1 if each == axis else 1 for each in range(4)])
        z = z.take(low, axis) * (1 - share) + z.take(high, axis) * share
    return z
