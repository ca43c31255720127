"""What is read from ELF files: of MXNet as it is installed, of files laid out here, of damaged ones."""

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gluon_aff._platform import mxnet_builds, mxnet_folder
from gluon_aff.machine.gpus import CU112
from gluon_aff.machine.shared_library import GPUCode, gpu_code, needed_libraries

MXNET = str(Path(mxnet_folder() or "mxnet", "libmxnet.so"))

# GPUs by what CUDA's documentation says of binary compatibility: upwards within a major version
RUN_CU112 = [(5, 0), (5, 2), (6, 0), (6, 1), (7, 0), (7, 5), (8, 0), (8, 6), (8, 9)]
CANNOT_RUN_CU112 = [(3, 5), (3, 7), (9, 0), (10, 0), (12, 0)]


@pytest.mark.engine
def test_installed_mxnet():
    needed = needed_libraries(MXNET)
    assert {"libopenblas.so.0", "libgfortran.so.3", "libgomp.so.1", "libc.so.6"} <= set(needed)
    on_gpus = mxnet_builds() == ["mxnet-cu112"]
    assert gpu_code(MXNET) == (CU112 if on_gpus else GPUCode())
    assert ("libcudnn.so.8" in needed) == on_gpus


@pytest.mark.engine
def test_as_readelf_reads_it():
    if shutil.which("readelf") is None:
        pytest.skip("no readelf")
    lines = subprocess.run(["readelf", "-dW", MXNET], capture_output=True, text=True, check=True).stdout.splitlines()
    named = [line.split("[")[1].rstrip("]") for line in lines if "(NEEDED)" in line]
    assert list(needed_libraries(MXNET)) == named


@pytest.mark.parametrize("padding", [0, 40])
def test_gpu_code(tmp_path, write_library, padding):
    code = [(2, 86), (2, 50), (1, 75), (2, 120)]
    path = write_library(tmp_path / "lib.so", ["libcudart.so.11.0", "libc.so.6"], code, padding)
    assert needed_libraries(str(path)) == ("libcudart.so.11.0", "libc.so.6")
    assert gpu_code(str(path)) == GPUCode(((5, 0), (8, 6), (12, 0)), ((7, 5),))


@pytest.mark.parametrize(
    ("code", "runs", "does_not"),
    [
        (CU112, RUN_CU112, CANNOT_RUN_CU112),
        (GPUCode(((7, 5),)), [(7, 5)], [(7, 0), (7, 2), (8, 0)]),
        (GPUCode(((5, 0),), ((8, 0),)), [(5, 2), (8, 0), (9, 0), (12, 0)], [(6, 0), (7, 5)]),
        (GPUCode(), [], [(5, 0), (9, 0)]),
    ],
)
def test_which_gpus_run_it(code, runs, does_not):
    assert all(code.runs_on(capability) for capability in runs)
    assert not any(code.runs_on(capability) for capability in does_not)


def test_code_in_words():
    assert str(CU112) == "machine code for 5.0, 6.0, 7.0, 8.0, 8.6 and no PTX, which runs on 5.x, 6.x, 7.x, 8.x"
    assert str(GPUCode(((7, 5), (8, 0), (8, 6)), ((8, 6),))) == (
        "machine code for 7.5, 8.0, 8.6 and PTX for 8.6, which runs on 7.5+, 8.x, 8.6 and newer"
    )


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"<!DOCTYPE html>" * 10, b"\x7fELF\x01\x01" + bytes(100)])
def test_other_files(tmp_path, content):
    path = tmp_path / "libmxnet.so"
    path.write_bytes(content)
    for read in (needed_libraries, gpu_code):
        with pytest.raises(ValueError, match=r"libmxnet.so is not a complete shared library"):
            read(str(path))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_an_error_or_harmless(tmp_path, write_library, data):
    path = write_library(tmp_path / "lib.so", ["libcudart.so.11.0"], [(2, 50), (1, 75)])
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for read in (needed_libraries, gpu_code):
        with contextlib.suppress(ValueError):
            read(str(path))


@pytest.mark.parametrize(("place", "value"), [(0x2F, 0x40), (0x3E, 0xFF)])
def test_tables_beyond_the_file(tmp_path, write_library, place, value):
    """An offset that fits no C integer; a section of names that there is not."""
    path = write_library(tmp_path / "lib.so", ["libcudart.so.11.0"], [(2, 50)])
    whole = bytearray(path.read_bytes())
    whole[place] = value
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"lib.so is not a complete shared library"):
        needed_libraries(str(path))


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        gpu_code(str(tmp_path / "gone.so"))
