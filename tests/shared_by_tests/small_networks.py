"""Networks that build and compute in a moment, by name, with what makes them small."""

# Of each host but two that are another's with other numbers, small
SMALL = {
    "resnet20_b1": {},
    "aff_resnext38_32x4d_cifar100": {"blocks": 1, "channel_times": 1, "r": 4},
    "inception_resnet20_b1": {},
    "aff_resnet50": {"layers": (1, 1, 1, 1)},
    "iaff_resnext50_32x4d": {"layers": (1, 1, 1, 1)},
    "resnet20_fpn_b1": {},
    "afi_resnet32_cifar100": {"blocks": 2},
    "afi_b_mobilenet_v2_cifar100": {},
    "afi_shufflenet_v2_cifar100": {},
}
