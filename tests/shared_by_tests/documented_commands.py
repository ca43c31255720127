"""The original's command lines and the names they give files."""

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

RECORDS = "/xdisk/kobus/yimian/imagenet/rec"
HEAD = (
    "--model {model} --askc-type {fusion} --label-smoothing --mixup --auto_aug --last-gamma --no-wd --use-rec "
    f"--save-dir {{overridden}} --logging-file {{log}} --rec-train {RECORDS}/train.rec --rec-train-idx "
    f"{RECORDS}/train.idx --rec-val {RECORDS}/val.rec --rec-val-idx {RECORDS}/val.idx --save-frequency 1 "
    "--save-dir /xdisk/kobus/yimian/{folder}"
)
FIRST_RELEASE = (
    "{start} --mode hybrid --lr 0.075 --lr-mode cosine --num-epochs {epochs} --batch-size 128 --num-gpus 2 -j 48 "
    "--warmup-epochs 5 --dtype float16 --use-rec --last-gamma --no-wd --label-smoothing --save-dir params_{name} "
    "--logging-file {name}.log"
)
FIRST_RELEASE_RESNEXT = (
    "--askc-type {fusion} --model resnext50_32x4d_askc --mode hybrid --lr 0.075 --lr-mode cosine --num-epochs 240 "
    "--batch-size 128 --num-gpus 2 -j 48 --use-rec --dtype float16 --warmup-epochs 5 --last-gamma --no-wd "
    "--label-smoothing --mixup --save-dir params_{name} --logging-file {name}.log"
)
IAFF = "ResGlobLocaforGlobLocaCha"

# training.md: "Commands to run unchanged"; what each trains, where its weights go, its epochs
DOCUMENTED_IMAGENET = {
    "iAFF-ResNeXt-50": (
        HEAD.format(
            model="resnext",
            fusion=IAFF,
            overridden="params_iaff_resnext50_aff",
            log="iaff_resnext50_aff.log",
            folder="iaff_resnext50_params",
        ),
        (f"ImageNet-{IAFF}-resnext--50-s-3", "/xdisk/kobus/yimian/iaff_resnext50_params", 240),
    ),
    "iAFF-ResNet-50": (
        HEAD.format(
            model="resnet",
            fusion=IAFF,
            overridden="params_iaff_resnet50",
            log="iaff_resnet50.log",
            folder="iaff_resnet50_params",
        ),
        (f"ImageNet-{IAFF}-resnet--50-s-3", "/xdisk/kobus/yimian/iaff_resnet50_params", 240),
    ),
    "AFF-ResNeXt-50": (
        HEAD.format(
            model="resnext",
            fusion="ASKCFuse",
            overridden="params_aff_resnext50_aff",
            log="aff_resnext50.log",
            folder="aff_resnext50_params",
        ),
        ("ImageNet-ASKCFuse-resnext--50-s-3", "/xdisk/kobus/yimian/aff_resnext50_params", 240),
    ),
    "first release, AFF-ResNet-50": (
        FIRST_RELEASE.format(start="--askc-type ASKCFuse --mixup", epochs=180, name="resnet50_v1b_best_AFF"),
        ("ImageNet-ASKCFuse-resnet--50-s-3", "params_resnet50_v1b_best_AFF", 180),
    ),
    "first release, iAFF-ResNet-50": (
        FIRST_RELEASE.format(start=f"--askc-type {IAFF} --mixup", epochs=180, name="resnet50_v1b_best_iAFF"),
        (f"ImageNet-{IAFF}-resnet--50-s-3", "params_resnet50_v1b_best_iAFF", 180),
    ),
    "first release, AFF-ResNeXt-50": (
        FIRST_RELEASE_RESNEXT.format(fusion="ASKCFuse", name="resnext50_32x4d_askc_best"),
        ("ImageNet-ASKCFuse-resnext--50-s-3", "params_resnext50_32x4d_askc_best", 240),
    ),
    "first release's README, AFF-ResNeXt-50": (
        FIRST_RELEASE_RESNEXT.format(fusion="ASKCFuse", name="resnext50_32x4d_aff_best"),
        ("ImageNet-ASKCFuse-resnext--50-s-3", "params_resnext50_32x4d_aff_best", 240),
    ),
    "first release's README, iAFF-ResNeXt-50": (
        FIRST_RELEASE_RESNEXT.format(fusion=IAFF, name="resnext50_32x4d_iaff_best"),
        (f"ImageNet-{IAFF}-resnext--50-s-3", "params_resnext50_32x4d_iaff_best", 240),
    ),
}
