"""Published files where users have them: folders, flat, a clone; verified, or downloaded."""

from dataclasses import replace
from pathlib import Path

import mxnet as mx
import pytest
from shared_by_tests.file_server import serving

from gluon_aff.download import Patience
from gluon_aff.errors import GluonAFFError, InputError
from gluon_aff.models import model_record
from gluon_aff.published import published_weights
from gluon_aff.weights.params_format import git_blob_sha1
from gluon_aff.weights.store import pretrained_file, published_file

IN_FOLDERS = "cifar100/AFF-ResNet-32"
CLOSED = "http://127.0.0.1:9/x"  # nothing listens on the discard port


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """AFF-ResNet-32's fine weights with the hash of a small file, which lies in `made`."""
    monkeypatch.delenv("GLUON_AFF_OPEN_AFF", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    mx.nd.save(str(tmp_path / "made"), {"x": mx.nd.arange(1000)})
    return replace(published_weights()[0], git_blob_sha1=git_blob_sha1(str(tmp_path / "made")))


def put(tmp_path, *parts, content=None):
    path = tmp_path.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((tmp_path / "made").read_bytes() if content is None else content)
    return str(path)


@pytest.fixture
def server(tmp_path):
    """Serves `made`; its address and the paths asked for."""
    with serving(tmp_path / "made") as (address, asked):
        yield f"{address}/w", asked


@pytest.mark.parametrize("layout", [IN_FOLDERS, ""], ids=["folders", "flat"])
def test_found_in_params(layout, weights, tmp_path):
    path = put(tmp_path, "params", layout, weights.file_name)
    assert published_file(weights, str(tmp_path / "params"), url=CLOSED) == path


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_found_in_a_clone(by, weights, tmp_path, monkeypatch):
    path = put(tmp_path, "clone", weights.path)
    clone = str(tmp_path / "clone")
    if by == "environment":
        monkeypatch.setenv("GLUON_AFF_OPEN_AFF", clone)
    found = published_file(weights, str(tmp_path / "params"), clone if by == "argument" else None, url=CLOSED)
    assert found == path


def test_downloaded_into_the_original_folders_and_found_there_the_next_time(weights, tmp_path, server):
    url, asked = server
    root = tmp_path / "params"
    path = published_file(weights, str(root), url=url)
    assert path == str(root / IN_FOLDERS / weights.file_name)
    assert git_blob_sha1(path) == weights.git_blob_sha1
    assert published_file(weights, str(root), url=CLOSED) == path
    assert asked == ["/w"]


def test_the_caller_says_how_long_to_wait(weights, tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr("gluon_aff.download.download", lambda *_, **options: given.update(options))
    for patience in (None, Patience(retries=0)):
        published_file(weights, str(tmp_path / "params"), patience=patience)
        assert given["patience"] == (patience or Patience())


def test_another_file_of_that_name_is_passed_over_and_kept(weights, tmp_path, server):
    """A run of one's own may reach 0.8357 too."""
    own = put(tmp_path, "params", weights.file_name, content=b"my own run")
    path = published_file(weights, str(tmp_path / "params"), url=server[0])
    assert path != own
    with open(own, "rb") as file:
        assert file.read() == b"my own run"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
    ],
)
def test_what_is_wrong_with_the_files_there_is_said(content, problem, weights, tmp_path):
    put(tmp_path, "clone", weights.path, content=content)
    with pytest.raises(GluonAFFError, match=problem) as error:
        published_file(weights, str(tmp_path / "p"), str(tmp_path / "clone"), url=CLOSED, patience=Patience(retries=0))
    message = str(error.value)
    assert weights.file_name in message
    assert "--open-aff" in message
    assert "\n" not in message
    assert not list((tmp_path / "p").rglob("*"))


@pytest.mark.parametrize("clone", [False, True])
def test_the_message_begins_with_what_is_missing_and_says_where_to_put_it(clone, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clone").mkdir()
    with pytest.raises(GluonAFFError) as error:
        published_file(weights, open_aff="clone" if clone else None, url=CLOSED, patience=Patience(retries=0))
    assert str(error.value) == (
        f"the weights of aff_resnet32_cifar100 are not in params/{' or clone/' if clone else ''} and could not be "
        f"downloaded ([Errno 111] Connection refused): download {CLOSED} elsewhere and put the file at "
        f"{tmp_path}/params/{IN_FOLDERS}/{weights.file_name}, or name a clone of open-aff (--open-aff DIR; open_aff= "
        "in Python; $GLUON_AFF_OPEN_AFF)"
    )


def test_what_is_not_a_label_set_is_a_file(tmp_path):
    record = model_record("aff_resnet32_cifar100")
    (tmp_path / "weights").touch()
    for path in (str(tmp_path / "weights"), "nowhere.params"):
        assert pretrained_file(record, path) == path
    with pytest.raises(InputError, match=r"fine, superclass, a \.params file"):
        pretrained_file(record, "nowhere")


def test_a_folder_that_cannot_be_made_is_said(weights, tmp_path, server):
    (tmp_path / "params").touch()
    with pytest.raises(GluonAFFError, match=r"or name a clone of open-aff") as error:
        published_file(weights, str(tmp_path / "params"), url=server[0])
    assert "could not be downloaded" not in str(error.value)


def test_no_such_clone(weights, tmp_path):
    with pytest.raises(GluonAFFError, match="is not a directory: name a clone of open-aff"):
        published_file(weights, str(tmp_path / "params"), str(tmp_path / "clone"), url=CLOSED)


def test_the_wrong_file_from_the_server_is_not_kept(weights, tmp_path, server):
    put(tmp_path, "made", content=b"something else")
    other = put(tmp_path, "params", "cifar100", "mine.params")
    with pytest.raises(GluonAFFError, match="the weights"):
        published_file(weights, str(tmp_path / "params"), url=server[0])
    assert list((tmp_path / "params").rglob("*")) == [tmp_path / "params" / "cifar100", Path(other)]
