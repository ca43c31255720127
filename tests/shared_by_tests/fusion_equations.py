"""NumPy evaluations of the paper's equations, from a block's parameters by name."""

import numpy as np

CHANNELS = 16
BOTH = ("local", "global")


def random_values(shapes, seed=0):
    """Parameters of a block by name, running statistics included."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.uniform(0.5 if name.endswith(("gamma", "running_var")) else -1, 1.5, shape).astype("float32")
        for name, shape in shapes.items()
    }


def features(seed, batch=2, size=(5, 3)):
    return np.random.default_rng(seed).normal(size=(batch, CHANNELS, *size)).astype("float32")


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


# The operators' outputs


def concatenation(p, y, x, **_):
    both = np.concatenate([y, x], axis=1)
    return (
        convolution(p, "fuse.1", batch_norm(p, "fuse.0", both))
        if "fuse.1.weight" in p
        else (convolution(p, "fuse.0", both) if p else both)
    )


def gated(reads, gates, scales=BOTH):
    def output(p, y, x, context, **_):
        w = weight(p, y if reads == "Y" else x + y, scales=scales, context=context)
        return w * x + y if gates == "X" else x + w * y

    return output


def selected(scales=BOTH):
    def output(p, y, x, context, factor, swapped):
        w = weight(p, x + y, scales=scales, context=context)
        return factor * select(w, y, x, swapped)

    return output


def select(w, y, x, swapped):
    return w * x + (1 - w) * y if swapped else w * y + (1 - w) * x


def iterated(p, y, x, context, factor, swapped):
    first = select(weight(p, x + y, context=context), y, x, swapped)
    return select(weight(p, first, "2", context=context), y, x, swapped)  # the factor is 1 everywhere


def selective_kernel(p, y, x, factor, swapped, **_):
    logits = bottleneck(p, "global_att", pooled(x + y), first=1)
    w = sigmoid(logits[:, :CHANNELS] - logits[:, CHANNELS:])
    return factor * select(w, y, x, swapped)


EXPECTED = {
    "Add": lambda p, y, x, **_: x + y,
    "Concatenation": concatenation,
    "MS-GAU": gated("Y", "X"),
    "MS-SENet": gated("Y", "Y"),
    "MS-SA": gated("X+Y", "X"),
    "AFF": selected(),
    "iAFF": iterated,
    "SKNet": selective_kernel,
    "SENet": gated("Y", "Y", ("global",)),
    "GAU": gated("Y", "X", ("global",)),
    "Global+Global": selected(("global", "global")),
    "Local+Local": selected(("local", "local")),
}
