"""Whatever is in a file, what reads it gives an answer or one of the package's own errors, in one line."""

import contextlib
import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gluon_aff.data.cifar.files import load_cifar
from gluon_aff.data.imagenet.record_files import index_offsets
from gluon_aff.distributed.launch import read_hosts
from gluon_aff.errors import GluonAFFError
from gluon_aff.results.ablation import finished_result, summaries
from gluon_aff.results.evaluations import COLUMNS, append_row, check_table
from gluon_aff.results.logs import read_log

ANY = st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
RESULT = {
    **{"fusion": "AFF", "r": 4, "blocks": 1, "seed": 0, "parameters": 10, "score": 0.5, "paper": None},
    **{"best_epoch": 1, "epochs": 2, "data": "official", "log": "train.log", "command": ["train-cifar"]},
}
often = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file"


READERS = {
    "hosts": read_hosts,
    "table": check_table,
    "index": index_offsets,
    "log": read_log,
    "archive": lambda path: load_cifar("cifar100", True, data_dir=path),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@often
@given(content=ANY)
@example(content=b"")
@example(content=b"\xff\xfe")
@example(content=b"\xef\xbb\xbf")
@example(content=b"\0")
def test_any_bytes(read, file, content):
    file.write_bytes(content)
    with contextlib.suppress(GluonAFFError):
        read(str(file))


@often
@given(content=ANY)
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
def test_any_result_of_a_row(tmp_path, changed):
    (tmp_path / "result.json").write_text(json.dumps({**RESULT, **changed}))
    with contextlib.suppress(GluonAFFError):
        result = finished_result(str(tmp_path), ["train-cifar"])
        summaries([result, result])
