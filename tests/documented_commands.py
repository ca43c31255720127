"""The original's CIFAR command lines and the name each gives its files."""

# training.md: "Commands to run unchanged", head and first release
DOCUMENTED = {
    "AFF-ResNet-32": (
        "--model resnet --askc-type ASKCFuse --auto_aug --mixup --label-smoothing --cosine --no-wd --blocks 5",
        "cifar100-ASKCFuse-resnet-32-c-4-s-1",
    ),
    "AFF-ResNeXt-38": (
        "--model resnext --askc-type ASKCFuse --auto_aug --mixup --label-smoothing --cosine --no-wd --blocks 4",
        "cifar100-ASKCFuse-resneXt-38-32x4-c-4-s-1",
    ),
    "first release, ResNet-32": (
        "--model resnet --dataset cifar100 --blocks 5 --channel-times 4 --gpus 0 --start-layer 1 --num-epochs 400 "
        "--mode hybrid -j 2 --batch-size 128 --wd 0.0001 --lr 0.2 --lr-decay 0.1 --lr-decay-epoch 300,350",
        "cifar100-ASKCFuse-resnet-32-c-4-s-1",
    ),
    "first release, ResNeXt-38": (
        "--model resnext38_32x4d --dataset cifar100 --gpus 0,1,2 --num-epochs 640 --mode hybrid -j 28 "
        "--batch-size 128 --wd 0.0001 --lr 0.2 --lr-decay 0.1 --lr-decay-epoch 300,450",
        "cifar100-ASKCFuse-resneXt-38-32x4-c-4-s-1",
    ),
}
