import gzip
import hashlib
import http.server
import io
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from gluon_aff.data.cifar import files as cifar
from gluon_aff.data.cifar.files import load_cifar
from gluon_aff.errors import DataError, GluonAFFError, InputError
from gluon_aff.locks import locked

RNG = np.random.default_rng(5)
CIFAR100_RECORDS = np.hstack(
    [
        RNG.integers(0, 20, (7, 1), dtype=np.uint8),
        RNG.integers(0, 100, (7, 1), dtype=np.uint8),
        RNG.integers(0, 256, (7, 3072), dtype=np.uint8),
    ]
)


def sums(files):
    return "".join(f"{hashlib.sha1(data).hexdigest()}  {name}\n" for name, data in files.items()).encode()


@pytest.fixture
def files():
    content = {"train.bin": CIFAR100_RECORDS[:5].tobytes(), "test.bin": CIFAR100_RECORDS[5:].tobytes()}
    return {**content, "SHA1SUMS": sums(content)}


def write_folder(folder, files):
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def write_archive(path, members):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


def test_images_and_both_label_sets(tmp_path, files):
    folder = write_folder(tmp_path / "own", files)
    coarse = load_cifar("cifar100", True, data_dir=str(folder))
    fine = load_cifar("cifar100", True, fine_label=True, data_dir=str(folder))
    assert (len(coarse), coarse.classes, fine.classes) == (5, 20, 100)
    assert coarse.labels.dtype == np.int32
    assert coarse.images.dtype == np.uint8
    assert coarse.images.shape == (5, 32, 32, 3)
    assert coarse.images.flags.c_contiguous
    np.testing.assert_array_equal(coarse.labels, CIFAR100_RECORDS[:5, 0])
    np.testing.assert_array_equal(fine.labels, CIFAR100_RECORDS[:5, 1])
    # Value 2 + 1024 * c + 32 * y + x of a record is the pixel at row y, column x, channel c.
    assert coarse.images[3, 7, 30, 1] == CIFAR100_RECORDS[3, 2 + 1024 + 32 * 7 + 30]
    np.testing.assert_array_equal(load_cifar("cifar100", False, data_dir=str(folder)).labels, CIFAR100_RECORDS[5:, 0])


def test_fine_label_has_no_effect_on_cifar10(digits_dir):
    plain = load_cifar("cifar10", True, data_dir=str(digits_dir))
    fine = load_cifar("cifar10", True, fine_label=True, data_dir=str(digits_dir))
    assert plain.classes == fine.classes == 10
    np.testing.assert_array_equal(plain.labels, fine.labels)


def gluon_reading(gluon_class, folder, names, **attributes):
    """Gluon's own record reader on our files, past its check of the official sums."""
    reader = object.__new__(gluon_class)
    vars(reader).update(attributes)
    parts = [reader._read_batch(str(folder / name)) for name in names]
    return [np.concatenate(part) for part in zip(*parts)]


@pytest.mark.parametrize("train", [True, False])
def test_cifar10_is_what_gluon_reads(digits_dir, train):
    from mxnet.gluon.data.vision import CIFAR10

    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if train else ["test_batch.bin"]
    images, labels = gluon_reading(CIFAR10, digits_dir, names)
    ours = load_cifar("cifar10", train, data_dir=str(digits_dir))
    np.testing.assert_array_equal(ours.images, images)
    np.testing.assert_array_equal(ours.labels, labels)


@pytest.mark.parametrize("fine", [False, True])
def test_cifar100_is_what_gluon_reads(shapes_dir, fine):
    from mxnet.gluon.data.vision import CIFAR100

    images, labels = gluon_reading(CIFAR100, shapes_dir, ["test.bin"], _fine_label=fine)
    ours = load_cifar("cifar100", False, fine, data_dir=str(shapes_dir))
    np.testing.assert_array_equal(ours.images, images)
    np.testing.assert_array_equal(ours.labels, labels)


def test_official_sums_and_files_are_gluons(tmp_path):
    from mxnet.gluon.data import vision

    for name, gluon_class in (("cifar10", vision.CIFAR10), ("cifar100", vision.CIFAR100)):
        recorded = {}

        class Reader(gluon_class):
            def _get_data(self, recorded=recorded):
                recorded.update(train=dict(self._train_data), test=dict(self._test_data), archive=self._archive_file[0])

        Reader(root=str(tmp_path))
        layout = cifar._LAYOUTS[name]
        assert recorded == {"train": layout.train, "test": layout.test, "archive": layout.archive}


@pytest.mark.parametrize("prefix", ["cifar-100-binary/", "./cifar-100-binary/", ""])
@pytest.mark.parametrize("place", ["file", "folder"])
def test_archive(tmp_path, files, prefix, place):
    path = write_archive(tmp_path / "cifar-100-binary.tar.gz", {prefix + name: data for name, data in files.items()})
    data = load_cifar("cifar100", True, data_dir=str(path if place == "file" else tmp_path))
    np.testing.assert_array_equal(data.labels, CIFAR100_RECORDS[:5, 0])
    assert [entry.name for entry in tmp_path.iterdir()] == ["cifar-100-binary.tar.gz"]


def test_folder_that_holds_the_unpacked_folder(tmp_path, files):
    write_folder(tmp_path / "cifar-100-binary", files)
    assert len(load_cifar("cifar100", False, data_dir=str(tmp_path))) == 2


def test_gluons_folder_is_the_default(tmp_path, files, monkeypatch):
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    write_folder(tmp_path / "datasets" / "cifar100", files)
    assert len(load_cifar("cifar100", True)) == 5


def test_a_home_that_nobody_has_is_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"^~nobody-at-all: no such file or folder; .*cifar-100-binary\.tar\.gz"):
        load_cifar("cifar100", True, data_dir="~nobody-at-all")


def test_a_folder_of_gluons_with_a_name_too_long_is_said(monkeypatch):
    monkeypatch.setenv("MXNET_HOME", "/" + "x" * 300)
    with pytest.raises(DataError, match="File name too long; name the place of cifar-100-binary"):
        load_cifar("cifar100", True)


@pytest.fixture
def archive(tmp_path, files, monkeypatch):
    """An archive that a server on this machine has where the official one is, and Gluon's empty folder."""
    made = write_archive(tmp_path / "site" / "cifar-100-binary.tar.gz", files)
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    monkeypatch.setitem(cifar._LAYOUTS, "cifar100", replace(cifar._LAYOUTS["cifar100"], archive_sha256=digest))
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(made.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(cifar, "CIFAR_SITE", f"http://127.0.0.1:{server.server_port}")
        yield made
        server.shutdown()


def test_the_archive_is_downloaded_once(archive, tmp_path, capsys):
    folder = tmp_path / "home" / "datasets" / "cifar100"
    assert len(load_cifar("cifar100", True)) == 5
    assert capsys.readouterr().out == f"downloading {cifar.CIFAR_SITE}/{archive.name} to {folder}\n"
    assert [path.name for path in folder.iterdir()] == [archive.name]
    archive.unlink()
    assert len(load_cifar("cifar100", False)) == 2
    assert capsys.readouterr().out == ""


def test_a_download_is_announced_before_it_begins(archive, monkeypatch):
    """Also where the output is a file, which is written in blocks."""

    class Blocks(io.StringIO):
        written = ""

        def flush(self):
            self.written = self.getvalue()

    monkeypatch.setattr("sys.stdout", Blocks())
    load_cifar("cifar100", True)
    assert sys.stdout.written.startswith("downloading http://127.0.0.1")


def test_what_another_process_downloads_is_waited_for(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "SECONDS_BETWEEN_LOOKS", 0.01)
    place = tmp_path / "home" / "datasets" / "cifar100" / archive.name
    place.parent.mkdir(parents=True)
    with ThreadPoolExecutor(1) as pool, locked(f"{place}.lock"):
        loading = pool.submit(load_cifar, "cifar100", True)
        with pytest.raises(TimeoutError):
            loading.result(timeout=0.3)
        archive.rename(place)
        assert len(loading.result(timeout=20)) == 5


def test_a_download_that_fails_is_explained(archive, tmp_path):
    archive.write_bytes(b"another archive")
    for reason in ("SHA-256", "404"):
        with pytest.raises(GluonAFFError) as error:
            load_cifar("cifar100", True)
        assert not isinstance(error.value, InputError)  # the network's fault, so exit code 1 as for weights
        for part in (archive.name, reason, "www.cs.toronto.edu/~kriz/cifar.html", "--data-dir"):
            assert part in one_line(error)
        assert not list((tmp_path / "home" / "datasets" / "cifar100").iterdir())
        archive.unlink(missing_ok=True)


def test_other_ways_to_write_a_sum(tmp_path, files):
    digest = hashlib.sha1(files["train.bin"]).hexdigest().upper()
    files["SHA1SUMS"] = f"# my data\n{digest} *train.bin\r\n".encode()
    assert len(load_cifar("cifar100", True, data_dir=str(write_folder(tmp_path / "own", files)))) == 5


def broken(files, **changes):
    """The files with some replaced (sums made anew) or, for None, removed."""
    content = {name: data for name, data in files.items() if name != "SHA1SUMS"}
    for key, data in changes.items():
        content[key + ".bin"] = data
    content = {name: data for name, data in content.items() if data is not None}
    return {**content, "SHA1SUMS": sums(content)}


def bad_label(column, value):
    records = CIFAR100_RECORDS[:5].copy()
    records[2, column] = value
    return records.tobytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": None}, ["train.bin is missing", "cifar.html"]),
        ({"train": b""}, ["train.bin has 0 bytes"]),
        ({"train": CIFAR100_RECORDS[:5].tobytes()[:-1]}, ["train.bin has 15,369 bytes", "3,074-byte"]),
        ({"train": bad_label(0, 20)}, ["label byte is 20", "not cifar-100-binary.tar.gz"]),
        ({"train": bad_label(1, 100)}, ["label byte is 100", "largest label is 99"]),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_files(tmp_path, files, change, words, packed):
    content = broken(files, **change)
    if packed:
        path = write_archive(tmp_path / "own.tar.gz", {f"cifar-100-binary/{name}": content[name] for name in content})
    else:
        path = write_folder(tmp_path / "own", content)
    with pytest.raises(DataError) as error:
        load_cifar("cifar100", True, data_dir=str(path))
    for word in [*words, str(path)]:
        assert word in one_line(error)


@pytest.mark.parametrize("listing", ["missing", "other sum", "other file"])
def test_wrong_sum(tmp_path, files, listing):
    expected = "e207cd2e05b73b1393c74c7f5e7bea451d63e08e"
    if listing == "missing":
        del files["SHA1SUMS"]
    elif listing == "other sum":
        expected = "0" * 40
        files["SHA1SUMS"] = f"{expected}  train.bin\n".encode()
    else:
        files["SHA1SUMS"] = sums({"test.bin": files["test.bin"]})
    folder = write_folder(tmp_path / "own", files)
    with pytest.raises(DataError) as error:
        load_cifar("cifar100", True, data_dir=str(folder))
    found = hashlib.sha1(files["train.bin"]).hexdigest()
    for part in (str(folder), "train.bin", found, expected, "sha1sum *.bin > SHA1SUMS"):
        assert part in one_line(error)


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz.*data_batch_1\.bin.*--data-dir"):
        load_cifar("cifar10", True, data_dir=str(tmp_path))
    with pytest.raises(DataError, match=r"absent: no such file or folder; name the place of .* with --data-dir"):
        load_cifar("cifar10", True, data_dir=str(tmp_path / "absent"))


@pytest.mark.parametrize(
    ("file", "asked", "title", "there"),
    [
        ("test_batch.bin", "cifar100", "CIFAR-10", "cifar10"),
        ("cifar-10-batches-bin/data_batch_2.bin", "cifar100", "CIFAR-10", "cifar10"),
        ("cifar-100-binary.tar.gz", "cifar10", "CIFAR-100", "cifar100"),
    ],
)
def test_the_files_of_the_other_data_set_are_recognised(file, asked, title, there, tmp_path):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(b"")
    with pytest.raises(DataError, match=f"{tmp_path.name} has {title}'s files: add --dataset {there}, or name "):
        load_cifar(asked, True, data_dir=str(tmp_path))


@pytest.mark.parametrize("content", [b"no archive", b"\x1f\x8b\x08\x00 damaged", b""])
def test_not_an_archive(tmp_path, content):
    path = tmp_path / "cifar-100-binary.tar.gz"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        load_cifar("cifar100", True, data_dir=str(path))
    assert str(path) in one_line(error)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_archive_cut_short(tmp_path, files, keep):
    path = write_archive(tmp_path / "cifar-100-binary.tar.gz", files)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(DataError) as error:
        load_cifar("cifar100", True, data_dir=str(path))
    assert str(path) in one_line(error)


@pytest.mark.parametrize("name", ["../train.bin", "/train.bin", "other/train.bin", "cifar-100-binary/../train.bin"])
def test_members_under_other_names_are_passed_over(tmp_path, files, name):
    path = write_archive(tmp_path / "own.tar.gz", {name: files["train.bin"]})
    with pytest.raises(DataError, match=r"train\.bin is missing"):
        load_cifar("cifar100", True, data_dir=str(path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["own.tar.gz"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_links_and_other_special_members_are_refused(tmp_path, kind):
    path = tmp_path / "own.tar.gz"
    member = tarfile.TarInfo("cifar-100-binary/train.bin")
    member.type, member.linkname = kind, "/etc/hostname"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(member)
    with pytest.raises(DataError, match=r"train\.bin is not a plain file"):
        load_cifar("cifar100", True, data_dir=str(path))


@pytest.mark.parametrize(
    ("dataset", "name", "most"),
    [
        ("cifar100", "train.bin", 153_700_000),
        ("cifar10", "data_batch_1.bin", 30_730_000),
        ("cifar100", "SHA1SUMS", 65536),
    ],
)
def test_oversized_member_is_refused_unread(tmp_path, dataset, name, most):
    path = tmp_path / "own.tar.gz"
    for size, said in ((most + 1, f"is not a plain file of at most {most:,} bytes"), (most, "is not a complete")):
        member = tarfile.TarInfo(name)
        member.size = size
        with tarfile.open(path, "w:gz") as tar:
            tar.fileobj.write(member.tobuf())
        with pytest.raises(DataError, match=said):
            load_cifar(dataset, True, data_dir=str(path))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_sums_are_read_as_editors_save_them(tmp_path, files, encoding):
    """PowerShell's > writes UTF-16."""
    files["SHA1SUMS"] = files["SHA1SUMS"].decode().replace("\n", "\r\n").encode(encoding)
    assert len(load_cifar("cifar100", True, data_dir=str(write_folder(tmp_path / "own", files)))) == 5


def test_sums_that_are_no_text_are_refused(tmp_path, files):
    files["SHA1SUMS"] = b"\x80\x81"
    with pytest.raises(DataError, match=r"SHA1SUMS is not a text file .*: write it with sha1sum"):
        load_cifar("cifar100", True, data_dir=str(write_folder(tmp_path / "own", files)))


def packed(path, *blocks):
    path.write_bytes(gzip.compress(b"".join(blocks)))
    return str(path)


def header(name="cifar-100-binary/train.bin", size=0, kind=tarfile.REGTYPE):
    """A member's header; the size as base 256, which alone can say a negative one."""
    member = tarfile.TarInfo(name)
    member.type = kind
    block = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = (size % (1 << 96)).to_bytes(12, "big") if size < 0 else b"\x80" + size.to_bytes(11, "big")
    block[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(block))[0]
    return bytes(block)


def pax(**said):
    """A header that says more of the next member."""
    records = b"".join(
        b"%d %s=%s\n" % (len(name) + len(value) + 5, name, value)
        for name, value in ((name.encode(), value.encode()) for name, value in said.items())
    )
    return header("more", len(records), tarfile.XHDTYPE) + records.ljust(512, b"\0")


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ([header(size=-512)], "a member has -512 bytes"),
        ([header("README"), header("README", size=-512)], "a member has -512 bytes"),
        ([header("README"), header("README"), header("README", size=-1024)], "a member has -1,024 bytes"),
        ([header("README", size=-(1 << 80))], "a member has -1,208,925,819,614,629,174,706,176 bytes"),
        ([pax(size="-512"), header()], ""),
        ([pax(size="-1536"), header("README")], ""),
        ([header("long", -512, tarfile.GNUTYPE_LONGNAME), header()], "a member has -512 bytes"),
        ([header("long", 4097, tarfile.GNUTYPE_LONGNAME), header()], "a member has 4,097 bytes"),
        ([header("long", 1 << 40, tarfile.GNUTYPE_LONGNAME), header()], "a member has 1,099,511,627,776 bytes"),
    ],
)
@pytest.mark.parametrize("end", [b"", bytes(1024)])
def test_a_member_of_a_size_that_cannot_be_is_refused_at_once(tmp_path, blocks, said, end):
    """Some releases of tarfile go back by a negative size, and so read the same member for ever."""
    path = packed(tmp_path / "own.tar.gz", *blocks, end)
    with pytest.raises(
        DataError, match=rf"is not a complete \.tar\.gz archive \({said}|train\.bin is (missing|not a plain file)"
    ) as error:
        load_cifar("cifar100", True, data_dir=path)
    assert said in str(error.value)


def test_a_name_as_long_as_the_bound_is_read(tmp_path, files):
    name = header("long", 4096, tarfile.GNUTYPE_LONGNAME) + b"n" * 4095 + b"\0"
    train = header(size=len(files["train.bin"])) + files["train.bin"] + bytes(-len(files["train.bin"]) % 512)
    sums = header("SHA1SUMS", len(files["SHA1SUMS"])) + files["SHA1SUMS"].ljust(512, b"\0")
    path = packed(tmp_path / "own.tar.gz", name, header(), sums, train, bytes(1024))
    assert len(load_cifar("cifar100", True, data_dir=path)) == 5


def test_an_archive_that_unpacks_to_more_than_any_is_refused(tmp_path, files, monkeypatch):
    monkeypatch.setattr(cifar, "MOST_UNPACKED", 100_000)
    for size, said in ((98_976, r"train\.bin is missing"), (200_000, "it unpacks to more than 100,000 bytes")):
        path = packed(tmp_path / "own.tar.gz", header("README", size - 512), bytes(size), bytes(512))
        with pytest.raises(DataError, match=said):
            load_cifar("cifar100", True, data_dir=path)


def test_an_archive_of_too_many_members_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "MOST_MEMBERS", 10)
    for members, said in ((10, r"train\.bin is missing"), (11, "it has more than 10 members")):
        path = packed(tmp_path / "own.tar.gz", header("README") * members, bytes(1024))
        with pytest.raises(DataError, match=said):
            load_cifar("cifar100", True, data_dir=path)


def test_a_file_that_is_too_large_for_memory_is_refused_unread(tmp_path, files, monkeypatch):
    folder = write_folder(tmp_path / "own", files)
    monkeypatch.setattr(cifar, "LARGEST_FILE", len(files["train.bin"]))
    assert len(load_cifar("cifar100", True, data_dir=str(folder))) == 5
    monkeypatch.setattr(cifar, "LARGEST_FILE", len(files["train.bin"]) - 1)
    with pytest.raises(DataError, match=r"train\.bin is larger than"):
        load_cifar("cifar100", True, data_dir=str(folder))


def test_unknown_data_set():
    with pytest.raises(InputError, match="cifar10, cifar100"):
        load_cifar("cifar", True)
