"""The commands `params`, `evaluate` and `predict`, and the options on weights that other commands share."""

from __future__ import annotations

import argparse
import platform
import shlex
import sys
from collections import Counter
from dataclasses import asdict, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from gluon_aff._platform import ENGINE_CHOICES, ENGINES
from gluon_aff._version import __version__
from gluon_aff.commands import ENGINE, Command, json_text, not_negative, positive
from gluon_aff.errors import InputError, NoEngineError
from gluon_aff.printing import printable, show, show_text

if TYPE_CHECKING:
    from gluon_aff.evaluation.weights_file import EvaluatedWeights, LoadedNetwork, WeightsRequest

UNREADABLE = 1
MANY = 25  # images from which on it pays to prepare a network for many images


def _add_params_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    parser.add_argument("file", metavar="FILE", help="the .params file")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _params(options: argparse.Namespace) -> int:
    from gluon_aff.published import weights_with_hash
    from gluon_aff.results.text import columns_text
    from gluon_aff.weights.card_file import card_beside
    from gluon_aff.weights.identify import fitting_networks
    from gluon_aff.weights.params import not_finite
    from gluon_aff.weights.params_format import git_blob_sha1, read_params_file

    file = read_params_file(options.file)
    digest = git_blob_sha1(options.file)
    record = weights_with_hash(digest)
    fitting: Optional[List[str]]
    named = (card_beside(options.file) or {}).get("network")
    try:
        fitting = [named] if named else [network.name for network in fitting_networks(file)]
        fits = f"{named}, as its card says" if named else ", ".join(fitting) or "no network known here"
    except NoEngineError as reason:
        fitting, fits = None, f"not known ({reason})"
    arrays = [(name, list(array.shape), _type_name(array)) for name, array in file.arrays.items()]
    spoilt = not_finite(file.arrays)
    total = sum(array.size for array in file.arrays.values())
    if options.json:
        described = [dict(zip(("name", "shape", "dtype"), array)) for array in arrays]
        facts = {
            "arrays": described,
            "values": total,
            "exported": file.exported,
            "networks": fitting,
            "not_finite": spoilt,
        }
        show_text(json_text({**facts, "git_blob_sha1": digest, "published": asdict(record) if record else None}))
        return 0
    show_text(columns_text([(name, "x".join(map(str, shape)) or "scalar", dtype) for name, shape, dtype in arrays]))
    show("", f"{len(arrays)} arrays, {total:,} values")
    if file.exported:
        show("written by HybridBlock.export: for SymbolBlock.imports, with its -symbol.json")
    if spoilt:
        show(f"NaN or infinity in {len(spoilt)} arrays: {', '.join(spoilt)}")
    show(f"fits: {fits}")
    show(f"git blob SHA-1: {digest}")
    if record:
        show(f"published: {record.model}, {record.labels} labels, top-1 error {record.error:.2f} % {record.origin}")
        show(f"           open-aff@{record.commit[:7]} {record.path}")
    else:
        show("published: no")
    return 0


def _type_name(array: Any) -> str:
    return array.dtype.names[0] if array.dtype.names else array.dtype.name  # bfloat16 is a structured type here


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which weights to use; `request_of` reads them."""
    parser.add_argument(
        "--model", metavar="NAME", help="name of the network, as `gluon-aff models` lists it (default: the network "
        "that the file describes or fits)"
    )  # fmt: skip
    parser.add_argument(
        "--params", metavar="FILE", default="published", help="weight file (.params), or the word published for the "
        "original's weights, which are looked for in --root and --open-aff, and downloaded otherwise (default: "
        "published)"
    )  # fmt: skip
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument(
        "--fine-label", action="store_const", const="fine", dest="labels", help="the network was trained on "
        "CIFAR-100's 100 classes (default: as the weights say)"
    )  # fmt: skip
    labels.add_argument(
        "--superclass", action="store_const", const="superclass", dest="labels", help="the network was trained on "
        "CIFAR-100's 20 superclasses (default: as the weights say)"
    )  # fmt: skip
    parser.add_argument(
        "--open-aff", metavar="DIR", help="clone of the original repository, open-aff (default: $GLUON_AFF_OPEN_AFF)"
    )
    parser.add_argument(
        "--root", default="params", metavar="DIR", help="folder for published weights (default: params)"
    )
    parser.add_argument(
        "--input-size",
        type=positive,
        metavar="PIXELS",
        help="side of ImageNet images in pixels (default: that of the training, which is 224 for published weights)",
    )


def add_engine_option(parser: argparse.ArgumentParser) -> None:
    """Add the option --engine, which chooses MXNet or PyTorch."""
    parser.add_argument(
        "--engine",
        choices=ENGINE_CHOICES,
        help="framework that computes (default: $GLUON_AFF_ENGINE, else auto: mxnet where it works, else torch)",
    )


def add_finite_option(parser: argparse.ArgumentParser) -> None:
    """Add the option --allow-not-finite, for the study of broken weights."""
    parser.add_argument(
        "--allow-not-finite", action="store_true", help="accept weights with NaN or infinity, to study them; their "
        "outputs may look normal; not with ONNX Runtime (default: refuse them)"
    )  # fmt: skip


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine", choices=(*ENGINE_CHOICES, "onnxruntime"), help="framework that computes (default: "
        "$GLUON_AFF_ENGINE, else auto: mxnet where it works, unless only torch can use the GPU, else torch; for an "
        ".onnx file of gluon-aff export, which --params also takes, onnxruntime on the CPU)"
    )  # fmt: skip
    add_finite_option(parser)
    add_device_options(parser)


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Add the options on devices, number format, batch size and output."""
    parser.add_argument(
        "--gpus", default="0", metavar="IDS", help="GPU ids, such as 0,1 (default: 0; the CPU computes if there is no "
        "GPU)"
    )  # fmt: skip
    parser.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), default="float32", help="number format of convolutions "
        "and dense layers; with MXNet, float16 needs a GPU; bfloat16 needs PyTorch, and a processor or GPU that "
        "supports it (default: float32)"
    )  # fmt: skip
    parser.add_argument("--batch-size", type=positive, default=128, help="images in a batch (default: 128)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which validation images to use."""
    parser.add_argument(
        "--dataset", choices=("cifar10", "cifar100", "imagenet"), help="data set (default: that of the training, if "
        "the weights say it)"
    )  # fmt: skip
    parser.add_argument(
        "--data-dir", metavar="DIR", help="for CIFAR, its archive or folder (default: Gluon's folder, "
        "~/.mxnet/datasets, to which it is downloaded); for ImageNet, the folder that has val.rec and val.idx, or the "
        "folder val with a folder for each class (no default)"
    )  # fmt: skip
    parser.add_argument(
        "-j", "--num-workers", type=not_negative, default=8, help="threads that decode ImageNet images (default: 8)"
    )


def request_of(options: argparse.Namespace) -> WeightsRequest:
    """Return the request for weights that the parsed options describe."""
    from gluon_aff.evaluation.weights_file import WeightsRequest

    names = {field.name for field in fields(WeightsRequest)}
    return WeightsRequest(**{name: value for name, value in vars(options).items() if name in names})


def model_and_file(text: str) -> Tuple[Optional[str], str]:
    """Split MODEL=PARAMS; MODEL is None if it is left out.

    A text with a slash before its first equals sign is a path.
    """
    model, equals, params = text.partition("=")
    return (model, params) if equals and "/" not in model else (None, text)


def titles(networks: Sequence[LoadedNetwork]) -> List[str]:
    """Return a title for each network: its title in the paper, or the name of its run.

    If the same network occurs several times, its titles are the names of the weight files.
    """
    from gluon_aff.models import MODELS

    names = [loaded.card.network for loaded in networks]
    of_a_kind = Counter(names)
    return [
        Path(loaded.path).stem if of_a_kind[name] > 1 else MODELS[name].title if name in MODELS else name
        for name, loaded in zip(names, networks)
    ]


def _add_evaluate_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    add_file_options(parser)
    _add_engine_options(parser)
    add_data_options(parser)
    parser.add_argument("--per-class", action="store_true", help="also show the accuracy of each class")
    parser.add_argument(
        "--csv", default="logs/evaluations.csv", metavar="FILE", help="append the figures as a row to this CSV file, "
        "or to none if it is '' (default: %(default)s)"
    )  # fmt: skip


def _evaluate(options: argparse.Namespace) -> int:
    from gluon_aff.evaluation.weights_file import evaluate_weights, load_weights
    from gluon_aff.results.evaluations import append_row, check_table

    if options.csv:
        check_table(options.csv)
    loaded = load_weights(request_of(options), many_images=True)
    evaluated = evaluate_weights(loaded, options.dataset, options.data_dir, options.batch_size, options.num_workers)
    for note in evaluated.data.notes:
        show(f"gluon-aff: {note}", file=sys.stderr)
    row = _evaluation_row(evaluated, options.batch_size)
    if options.json:
        show_text(json_text({**row, "per_class": [asdict(count) for count in evaluated.evaluation.per_class]}))
    else:
        show_text(_evaluation_text(evaluated, options.batch_size, options.per_class))
    if options.csv:
        sys.stdout.flush()
        append_row(options.csv, row)
        show(f"row appended to {options.csv}", file=sys.stderr)
    return 0


def _evaluation_row(evaluated: EvaluatedWeights, batch_size: int) -> Dict[str, Any]:
    import numpy as np

    loaded, figures = evaluated.loaded, evaluated.evaluation
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "network": loaded.card.network,
        "weights": loaded.path,
        "git_blob_sha1": loaded.card.git_blob_sha1,
        "dataset": evaluated.data.dataset,
        "labels": evaluated.data.labels,
        "official_data": evaluated.data.official,
        "images": figures.images,
        "top1": figures.top1,
        "top5": figures.top5,
        "loss": figures.loss,
        "published_error_percent": loaded.published.error if loaded.published else None,
        "images_per_second": round(figures.images_per_second, 1),
        "batch_size": batch_size,
        "devices": loaded.engine,
        "versions": f"gluon_aff {__version__}, {loaded.framework}, NumPy {np.__version__}, "
        f"Python {platform.python_version()}",
        "command": shlex.join(["gluon-aff", *sys.argv[1:]]),
    }


def _evaluation_text(evaluated: EvaluatedWeights, batch_size: int, per_class: bool) -> str:
    loaded, figures = evaluated.loaded, evaluated.evaluation
    labels = "" if evaluated.data.labels == evaluated.data.dataset else f", {evaluated.data.labels} labels"
    other = "" if evaluated.data.official else " (not the official images)"
    lines = [
        f"network         {loaded.card.network}",
        f"weights         {loaded.path}",
        f"git blob SHA-1  {loaded.card.git_blob_sha1}",
        f"data            {evaluated.data.dataset}{other}{labels}, {figures.images:,} images, "
        f"{len(evaluated.data.names)} classes under {loaded.card.outputs} outputs",
        f"top-1 accuracy  {figures.top1:.6f} (error {100 * (1 - figures.top1):.2f} %)",
        f"top-5 accuracy  {figures.top5:.6f} (error {100 * (1 - figures.top5):.2f} %)",
        f"loss            {figures.loss:.6f}",
        f"speed           {figures.images_per_second:.0f} images/s on {loaded.engine}, {batch_size} at a time",
        f"engine          {loaded.framework}, {loaded.reason}",
    ]
    if loaded.published:
        difference = 100 * (1 - figures.top1) - loaded.published.error
        here = f": {difference:+.2f} points from it here" if evaluated.data.official else ", on the official images"
        lines.append(f"published       top-1 error {loaded.published.error:.2f} %{here}")
    else:
        lines.append("published       no: not a file of the original repository")
    lines = [*map(printable, lines)]
    if per_class:
        from gluon_aff.results.text import columns_text, percent

        rows = [
            (str(count.label), name, str(count.images), percent(count.correct / count.images) if count.images else "-")
            for name, count in zip(evaluated.data.names, figures.per_class)
        ]
        lines += ["", columns_text([("label", "class", "images", "accuracy"), *rows], right=(0, 2, 3))]
    return "\n".join(lines)


def _add_predict_options(parser: argparse.ArgumentParser, argv: List[str]) -> None:
    add_file_options(parser)
    _add_engine_options(parser)
    parser.add_argument(
        "--top-k", type=positive, default=5, metavar="K", help="number of classes to show for each image (default: 5)"
    )
    parser.add_argument(
        "--names", metavar="FILE", help="text file with one class name in each line (default: the names of the weights "
        "or of their data set)"
    )  # fmt: skip
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files: JPEG, PNG, BMP, WebP, TIFF, PNM, GIF")


def _predict(options: argparse.Namespace) -> int:
    from gluon_aff.data.preprocessing import preprocessing
    from gluon_aff.evaluation.predict import predict
    from gluon_aff.evaluation.weights_file import load_weights, names_known, output_names

    loaded = load_weights(request_of(options), many_images=len(options.images) >= MANY)
    names = output_names(loaded.card, options.names)
    if not (options.names or loaded.card.names or loaded.published):
        of = f"those of {loaded.card.dataset}, by the file's name" if names_known(loaded.card) else "none are known"
        show(f"class names: {of} (--names gives others)", file=sys.stderr)
    predictions = predict(
        loaded.infer,
        options.images,
        preprocessing(loaded.card.for_cifar, loaded.card.input_size),
        options.top_k,
        options.batch_size,
    )
    errors: List[str] = []
    results = []
    for prediction in predictions:
        classes = [{"label": label, "name": names[label], "score": score} for label, score in prediction.classes]
        if prediction.error:
            errors.append(prediction.error)
            if len(options.images) > 1:
                show(f"gluon-aff: {prediction.error}", file=sys.stderr)
        elif not options.json:
            show(prediction.path)
            for row in classes:
                show(f"  {row['score']:.4f}  {row['name']}")
        results.append({"image": prediction.path, "classes": classes, "error": prediction.error or None})
    if options.json:
        show_text(json_text(results))
    if len(errors) == len(options.images):
        raise InputError(errors[0] if len(errors) == 1 else f"none of the {len(errors)} images could be read")
    return UNREADABLE if errors else 0


COMMANDS: Dict[str, Command] = {
    "params": Command(
        "show the arrays of a .params file, the network that it fits, and whether it was published",
        _add_params_options,
        _params,
        ("params/0.8357-cifar100-ASKCFuse-resnet-32-c-4-s-1-best.params",),
        about="Engine: none is needed to read the file; to find the network that it fits, MXNet where it works, else "
        "PyTorch.",
    ),
    "evaluate": Command(
        "measure the accuracy of weights on validation images",
        _add_evaluate_options,
        _evaluate,
        (
            "--model aff_resnet32_cifar100 --fine-label --data-dir cifar-100-binary.tar.gz",
            "--model iaff_resnext50_32x4d --data-dir imagenet",
            "--params demo/params/0.9831-cifar10-ASKCFuse-resnet-8-c-1-s-1-best.params --data-dir demo/digits "
            "--per-class",
        ),
        computes=True,
        engines=ENGINES,
        about="The figures are top-1 and top-5 accuracy (0 to 1), loss, and images per second; for published weights, "
        f"the published error too.\n\n{ENGINE}",
    ),
    "predict": Command(
        "name the likeliest classes of images",
        _add_predict_options,
        _predict,
        (
            "--model iaff_resnext50_32x4d cat.jpg dog.png",
            "--params my.params --names classes.txt *.png",
            "--params my.onnx cat.jpg",
        ),
        computes=True,
        engines=ENGINES,
        about="For each image, the likeliest classes are printed with their softmax scores (0 to 1). An image that "
        "cannot be read is named, and the others are classified; the exit code is then 1, or 2 if no image could be "
        f"read.\n\n{ENGINE}",
    ),
}
