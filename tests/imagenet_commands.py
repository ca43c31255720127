"""The original's ImageNet command lines, the best weights' names they give, and their host and fusion."""

RECORDS = "/xdisk/kobus/yimian/imagenet/rec"
HEAD = (
    "--model {model} --askc-type {fusion} --label-smoothing --mixup --auto_aug --last-gamma --no-wd --use-rec "
    "--save-dir params_{name} --logging-file {name}.log --rec-train {rec}/train.rec --rec-train-idx {rec}/train.idx "
    "--rec-val {rec}/val.rec --rec-val-idx {rec}/val.idx --save-frequency 1 --save-dir {save}"
)
FIRST_RELEASE = (
    "{what}--mode hybrid --lr 0.075 --lr-mode cosine --num-epochs {epochs} --batch-size 128 --num-gpus 2 -j 48 "
)


def _head(model, fusion, name, save):
    return HEAD.format(model=model, fusion=fusion, name=name, rec=RECORDS, save=f"/xdisk/kobus/yimian/{save}")


# training.md: "Commands to run unchanged"
DOCUMENTED = {
    "iAFF-ResNeXt-50": (
        _head("resnext", "ResGlobLocaforGlobLocaCha", "iaff_resnext50_aff", "iaff_resnext50_params"),
        "ImageNet-ResGlobLocaforGlobLocaCha-resnext--50-s-3",
    ),
    "iAFF-ResNet-50": (
        _head("resnet", "ResGlobLocaforGlobLocaCha", "iaff_resnet50", "iaff_resnet50_params"),
        "ImageNet-ResGlobLocaforGlobLocaCha-resnet--50-s-3",
    ),
    "AFF-ResNeXt-50": (
        _head("resnext", "ASKCFuse", "aff_resnext50_aff", "aff_resnext50_params"),
        "ImageNet-ASKCFuse-resnext--50-s-3",
    ),
    "first release, AFF-ResNet-50": (
        FIRST_RELEASE.format(what="--askc-type ASKCFuse --mixup ", epochs=180)
        + "--warmup-epochs 5 --dtype float16 --use-rec --last-gamma --no-wd --label-smoothing "
        "--save-dir params_resnet50_v1b_best_AFF --logging-file resnet50_v1b_best_AFF.log",
        "ImageNet-ASKCFuse-resnet--50-s-3",
    ),
    "first release, iAFF-ResNet-50": (
        FIRST_RELEASE.format(what="--askc-type ResGlobLocaforGlobLocaCha --mixup ", epochs=180)
        + "--warmup-epochs 5 --dtype float16 --use-rec --last-gamma --no-wd --label-smoothing "
        "--save-dir params_resnet50_v1b_best_iAFF --logging-file resnet50_v1b_best_iAFF.log",
        "ImageNet-ResGlobLocaforGlobLocaCha-resnet--50-s-3",
    ),
    "first release, AFF-ResNeXt-50": (
        FIRST_RELEASE.format(what="--askc-type ASKCFuse --model resnext50_32x4d_askc ", epochs=240)
        + "--use-rec --dtype float16 --warmup-epochs 5 --last-gamma --no-wd --label-smoothing --mixup "
        "--save-dir params_resnext50_32x4d_askc_best --logging-file resnext50_32x4d_askc_best.log",
        "ImageNet-ASKCFuse-resnext--50-s-3",
    ),
}
