"""Whatever is in a file or the environment, what reads it gives an answer or one of the package's own errors.

FUZZ=5000 pytest tests/test_fuzz.py tries each with so many examples.
"""

import contextlib
import copy
import gzip
import hashlib
import io
import json
import os
import pickle
import struct
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from shared_by_tests.cards import card_for
from shared_by_tests.fakes import FakeLearner
from shared_by_tests.written_logs import SEGMENTATION, log_lines

from gluon_aff._platform import SWITCHES, WHOLE_NUMBERS, check_variables, engine_name
from gluon_aff.data.cifar.files import load_cifar
from gluon_aff.data.image_files import read_image
from gluon_aff.data.imagenet.class_lists import read_classes, record_classes
from gluon_aff.data.imagenet.images import decode, naming
from gluon_aff.data.imagenet.record_files import (
    RECORD_HEADER,
    encoded_image,
    framed,
    highest_label,
    index_offsets,
    indexed_spans,
    matched_records,
    open_record_file,
    record_label,
)
from gluon_aff.data.stop_signs.annotations import load_stop_signs
from gluon_aff.data.stop_signs.masked_images import read_pair
from gluon_aff.distributed import whole_number
from gluon_aff.distributed.launch import read_hosts
from gluon_aff.errors import GluonAFFError
from gluon_aff.evaluation.weights_file import output_names
from gluon_aff.machine.resources import check_settings, check_threads
from gluon_aff.published import published_runs
from gluon_aff.registry import import_registered
from gluon_aff.results.ablation import finished_result, summaries
from gluon_aff.results.compare import chosen_run, compare, fitting_run, nearest_runs
from gluon_aff.results.evaluations import COLUMNS, append_row, check_table
from gluon_aff.results.logs import read_log
from gluon_aff.results.report import write_report
from gluon_aff.settings.cifar import CIFARSettings
from gluon_aff.training.checkpoint import RunFacts, RunState, read_checkpoint, restore, same_run, save_checkpoint
from gluon_aff.weights.card_file import HASH, card_beside, card_path, check_card_path
from gluon_aff.weights.description import describe
from gluon_aff.weights.identify import head_classes
from gluon_aff.weights.params import structural_arrays
from gluon_aff.weights.params_format import read_params_file, sha256, write_params_file
from gluon_aff.weights.states_format import read_states, write_states

EXAMPLES = int(os.environ.get("FUZZ", "60"))
ANY = st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
HUGE = (2**16 - 1, 2**31 - 1, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)
JSON = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
        st.sampled_from([*HUGE, -1, 0, 10**400, 1e308, float("nan"), "1" * 5000]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
# What the environment can hold
VALUES = st.one_of(
    st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=20),
    st.integers().map(str),
    st.sampled_from(["", " ", "0x4", "1e3", "²", "٣", "9" * 5000, "-1", "~nobody-at-all/x", "/dev/null", "x" * 300]),
)
RESULT = {
    **{"fusion": "AFF", "r": 4, "blocks": 1, "seed": 0, "parameters": 10, "score": 0.5, "paper": None},
    **{"best_epoch": 1, "epochs": 2, "data": "official", "log": "train.log", "command": ["train-cifar"]},
}
often = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file"


@st.composite
def damaged(draw, whole):
    """The bytes with one to four faults: flipped, cut out, repeated, or overwritten with a number, often a huge one."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        fault = draw(st.sampled_from(["flip", "end", "cut", "repeat", "number"]))
        if fault == "flip" and content:
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif fault == "end":
            del content[place:]
        elif fault == "cut":
            del content[place : place + draw(st.integers(1, 16))]
        elif fault == "repeat":
            content[place:place] = content[place : place + draw(st.integers(1, 64))]
        else:
            number = draw(st.sampled_from(HUGE) | st.integers(0, 2**64 - 1))
            size, order = draw(st.sampled_from([2, 4, 8])), draw(st.sampled_from(["little", "big"]))
            content[place : place + size] = (number % 256**size).to_bytes(size, order)
    return bytes(content)


@st.composite
def changed(draw, whole):
    """The JSON value with one to three parts of it removed, or replaced by any other."""
    content = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        inner = content
        while inner:
            keys = list(inner) if isinstance(inner, dict) else range(len(inner))
            key = draw(st.sampled_from(list(keys)))
            if inner[key] and isinstance(inner[key], (dict, list)) and draw(st.integers(0, 4)):
                inner = inner[key]
                continue
            if draw(st.booleans()):
                inner[key] = draw(JSON)
            else:
                del inner[key]
            break
    return content


READERS = {
    "hosts": read_hosts,
    "table": check_table,
    "index": index_offsets,
    "log": read_log,
    "archive": lambda path: load_cifar("cifar100", True, data_dir=path),
    "params": structural_arrays,
    "states": read_states,
    "image": read_image,
    "classes": read_classes,
    "names": lambda path: output_names(card_for("any", 32, 2), path),
    "checkpoint": lambda path: read_checkpoint(os.path.dirname(path)),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@often
@given(content=ANY)
@example(content=b"")
@example(content=b"\xff\xfe")
@example(content=b"\xef\xbb\xbf")
@example(content=b"\0")
def test_any_bytes(read, file, content):
    for path in (file, file.parent / "checkpoint.json"):
        path.write_bytes(content)
    with contextlib.suppress(GluonAFFError):
        read(str(file))


@often
@given(content=ANY | damaged(",".join(COLUMNS).encode() + b"\n1,2\n"))
def test_a_table_is_never_harmed(file, content):
    file.write_bytes(content)
    with contextlib.suppress(GluonAFFError):
        append_row(str(file), dict.fromkeys(COLUMNS, "x"))
    assert file.read_bytes().startswith(content)


@often
@given(changed=st.dictionaries(st.sampled_from([*RESULT, "more"]), JSON, max_size=3))
@example(changed={})
@example(changed={"command": 5})
@example(changed={"score": "x"})
@example(changed={"score": float("inf")})
def test_any_result_of_a_row(tmp_path, changed):
    (tmp_path / "result.json").write_text(json.dumps({**RESULT, **changed}))
    with contextlib.suppress(GluonAFFError):
        result = finished_result(str(tmp_path), ["train-cifar"])
        summaries([result, result])


ARRAYS = {
    "output.weight": np.arange(6, dtype="f").reshape(2, 3),
    "output.bias": np.zeros(2, np.float16),
    "count": np.int64([[1]]),
    "arg:ä": np.zeros((0, 4), np.uint8),
}


def written(write, *arguments):
    """What is in the file that is written so."""
    with tempfile.TemporaryDirectory() as folder:
        write(str(Path(folder, "file")), *arguments)
        return Path(folder, "file").read_bytes()


@pytest.mark.parametrize("version", [1, 2])
@often
@given(data=st.data())
def test_damaged_params(version, file, data):
    file.write_bytes(data.draw(damaged(written(write_params_file, ARRAYS, version))))
    with contextlib.suppress(GluonAFFError):
        head_classes(read_params_file(str(file)))
        structural_arrays(str(file), allow_not_finite=data.draw(st.booleans()))


COUNTS = {0: 6, 1: 6}
STATES = written(
    write_states,
    "NAG",
    {0: ARRAYS["output.weight"], 1: (None, ARRAYS["output.bias"])},
    {
        "num_update": 6,
        "_all_index_update_counts": {0: COUNTS},
        "_index_update_count": COUNTS,
        "wd": 0.1,
        "sym_info": (),
    },
)


@often
@given(content=damaged(STATES) | damaged(pickle.dumps({"a": [1, 2.0, (None, "x")]}, 4)))
def test_damaged_states(file, content):
    """No loader of Python's own is asked."""
    file.write_bytes(content)
    asked = mock.Mock(side_effect=AssertionError("it was unpickled"))
    with mock.patch.multiple(pickle, load=asked, loads=asked, Unpickler=asked), contextlib.suppress(GluonAFFError):
        read_states(str(file))


def picture(kind, mode="RGB", **options):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(encoded, kind, **options)
    return encoded.getvalue()


PICTURES = {
    "JPEG": picture("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
    "progressive JPEG": picture("JPEG", "L", progressive=True),
    "PNG": picture("PNG"),
    "PNG with a palette": picture("PNG", "P", transparency=3),
    "BMP": picture("BMP"),
    "WebP": picture("WEBP", quality=80),
    "lossless WebP": picture("WEBP", "RGBA", lossless=True),
    "TIFF": picture("TIFF"),
    "packed TIFF": picture("TIFF", "CMYK", compression="tiff_lzw"),
    "GIF": picture("GIF", "P"),
    "PPM": picture("PPM"),
}


@pytest.mark.parametrize("kind", PICTURES)
@often
@given(data=st.data())
def test_damaged_pictures(kind, file, data):
    content = data.draw(damaged(PICTURES[kind]))
    file.write_bytes(content)
    few = {f"gluon_aff.data.{module}.MOST_PIXELS": 1 << 20 for module in ("image_files", "imagenet.images")}
    with contextlib.ExitStack() as patches:
        for name, bound in few.items():  # the real one is for gigabytes
            patches.enter_context(mock.patch(name, bound))
        for read in (lambda: read_image(str(file)), lambda: decode(content, upright=data.draw(st.booleans()))):
            with contextlib.suppress(GluonAFFError), naming("file"):
                read()


def records():
    """A record file and its index."""
    content, begins = b"", []
    for label, kind in enumerate(("PNG", "JPEG")):
        begins.append(len(content))
        content += framed(RECORD_HEADER.pack(0, label, label, 0) + PICTURES[kind])
    content += framed(RECORD_HEADER.pack(1, 0, 2, 0) + struct.pack("<f", 1) + PICTURES["BMP"])
    return content, b"".join(b"%d\t%d\n" % pair for pair in enumerate([*begins, 0]))


RECORDS, INDEX = records()


@often
@given(record=st.just(RECORDS) | damaged(RECORDS), index=st.just(INDEX) | damaged(INDEX))
def test_damaged_records(file, record, index):
    file.with_suffix(".rec").write_bytes(record)
    file.with_suffix(".idx").write_bytes(index)
    names = str(file.with_suffix(".rec")), str(file.with_suffix(".idx"))
    content = open_record_file(names[0])
    with contextlib.suppress(GluonAFFError):
        highest_label(content, indexed_spans(content, *names), *names, None)
    with contextlib.suppress(GluonAFFError), naming(names[0]):
        for number, pieces in enumerate(matched_records(content, *names)):
            record_label(content, pieces, number, names[0], 2)
            with mock.patch("gluon_aff.data.imagenet.images.MOST_PIXELS", 1 << 20):
                decode(encoded_image(content, pieces), upright=True)


@often
@given(content=ANY | damaged(b"a\nb\n") | damaged(b"0\t0.0\ta/x.jpg\n1\t1.0\tb\\y.jpg\n"), labels=st.integers(0, 3))
def test_any_list_of_classes(file, content, labels):
    for ending in (".lst", ".classes"):
        file.with_suffix(ending).write_bytes(content)
        with contextlib.suppress(GluonAFFError):
            record_classes(str(file.with_suffix(".rec")), labels)
        file.with_suffix(ending).unlink()


HEIGHT, WIDTH = 24, 20
COCO = {
    "info": {"description": "COCO 2017 Dataset"},
    "images": [{"id": number, "file_name": "1.png", "width": WIDTH, "height": HEIGHT} for number in (1, 2)],
    "categories": [{"id": 4, "name": "stop sign"}],
    "annotations": [
        {"id": number, "image_id": image, "category_id": 4, "segmentation": shape, "iscrowd": 0}
        for number, (image, shape) in enumerate(
            [
                (1, [[2, 3, 10, 3, 10, 9, 2, 9]]),
                (2, {"size": [HEIGHT, WIDTH], "counts": [100, 80, 300]}),
                (1, {"size": [HEIGHT, WIDTH], "counts": "T3`2\\9"}),
            ]
        )
    ],
}


@often
@given(content=changed(COCO))
def test_any_annotations(tmp_path, content):
    pytest.importorskip("pycocotools")
    for folder in ("annotations", "val2017"):
        (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / "val2017" / "1.png").write_bytes(PICTURES["PNG"])
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    with contextlib.suppress(GluonAFFError):
        for place in load_stop_signs(str(tmp_path), train=False).images:
            read_pair(place)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    facts = RunFacts({"num_epochs": 9, "seed": 1}, 1, 17, ({"from": "the start", "versions": "x", "engine": "MXNet"},))
    folder = tmp_path_factory.mktemp("checkpoint")
    return Path(save_checkpoint(str(folder), RunState(1, 0.5, errors=((0.1, 0.2),)), facts, FakeLearner(1), b"log\n"))


@often
@given(data=st.data())
def test_any_facts_of_a_checkpoint(checkpoint, data):
    """With the right hash over them, as another version or another program may write them."""
    whole = (checkpoint / "checkpoint.json").read_text()
    content = json.loads(whole)
    content.pop("own_sha256")
    content = data.draw(changed(content))
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (checkpoint / "checkpoint.json").write_text(json.dumps({**content, "own_sha256": digest}))
    try:
        with contextlib.suppress(GluonAFFError):
            found = read_checkpoint(str(checkpoint))
            assert isinstance(found.finished, bool)
            assert isinstance(found.facts.engine, str)
            assert isinstance(found.state.position, str)
            found.log()
            restore(found, FakeLearner(1))
            same_run(found, CIFARSettings(seed=1), 1, seed_given=False)
    finally:
        (checkpoint / "checkpoint.json").write_text(whole)


CARD = {
    **{"gluon_aff": "0.1", "network": "resnet20_b1", "outputs": 10, "labels": "", "dataset": "cifar10"},
    **{"weights_git_blob_sha1": "0" * 40, "input_size": 32, "preprocessing": "cifar", "crop": "x", "pixels": "x"},
    **{"mean": [0.5] * 3, "std": [0.5] * 3, "class_names": [], "engine": "", "versions": "", "host": "cifar_resnet"},
    "settings": {"askc_type": "AFF", "layers": [1, 1, 1], "channels": [16, 16, 32, 64], "r": 4},
}


@pytest.mark.inference
@often
@given(content=changed(CARD))
def test_any_card(tmp_path, content):
    params = str(tmp_path / "net.params")
    write_params_file(params, ARRAYS)
    Path(card_path(params)).write_text(json.dumps({**content, HASH: sha256(params)}))
    for read in (card_beside, check_card_path, lambda path: describe(read_params_file(path))):
        with contextlib.suppress(GluonAFFError):
            read(params)


LOGS = (
    *("\n".join(log_lines(published_runs()[name], 3)) for name in ("aff_resnet32_fine", "aff_resnet50")),
    SEGMENTATION,
)


@often
@given(content=st.one_of(*(damaged(log.encode()) for log in LOGS)), packed=st.booleans(), data=st.data())
def test_damaged_logs(tmp_path, content, packed, data):
    path = tmp_path / "logs" / "train.log.gz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data.draw(damaged(gzip.compress(content))) if packed else content)
    with contextlib.suppress(GluonAFFError):
        runs = read_log(str(path))
        run = runs[chosen_run(runs) - 1]
        nearest_runs(run)
        fitting_run(run)
        compare(run, published_runs()["aff_resnet32_fine"])
    with contextlib.suppress(GluonAFFError):
        write_report(str(path.parent), str(tmp_path / "report.html"))


@often
@given(content=damaged(b"localhost slots=2\n# more\nnode-1\nnode-2 slots=8 # fast\n"))
def test_damaged_hosts(file, content):
    file.write_bytes(content)
    with contextlib.suppress(GluonAFFError):
        assert all(host.name for host in read_hosts(str(file)))


@often
@given(content=changed({name: value if isinstance(value, str) else json.dumps(value) for name, value in CARD.items()}))
def test_any_properties_of_an_onnx_file(file, content):
    onnx, opened = pytest.importorskip("onnx"), pytest.importorskip("gluon_aff.export.onnx_runtime").open_onnx
    pytest.importorskip("onnxruntime")
    values = [onnx.helper.make_tensor_value_info(name, 1, ["n", 3]) for name in ("images", "logits")]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["images"], ["logits"])], "net", *[[v] for v in values]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=7)
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in content.items()}
    onnx.helper.set_model_props(model, texts)
    file.write_bytes(model.SerializeToString())
    with contextlib.suppress(GluonAFFError):
        opened(str(file))


OF_LAUNCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT", "DMLC_WORKER_ID", "DMLC_NUM_WORKER")
VARIABLES = {
    "GLUON_AFF_ENGINE": engine_name,
    "OMP_NUM_THREADS": check_threads,
    "GLUON_AFF_IMPORT": lambda: import_registered([]),
    "MXNET_HOME": lambda: load_cifar("cifar10", True),
    **{name: check_variables for name in (*WHOLE_NUMBERS[1:], *SWITCHES)},
    "MXNET_ENGINE_TYPE": check_settings,
    **{name: lambda name=name: whole_number(name) for name in OF_LAUNCH},
}


@often
@given(name=st.sampled_from(list(VARIABLES)), value=VALUES)
def test_any_environment(tmp_path, name, value):
    refusal = GluonAFFError("nothing is downloaded here")
    with mock.patch.dict(os.environ, {"HOME": str(tmp_path)}), mock.patch(
        "gluon_aff.download.download", side_effect=refusal
    ):
        os.environ[name] = value
        with contextlib.suppress(GluonAFFError):
            VARIABLES[name]()
