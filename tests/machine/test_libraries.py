"""Libraries that MXNet needs, found and missing."""

import subprocess
from pathlib import Path

import pytest

from gluon_aff._platform import mxnet_folder
from gluon_aff.machine import libraries
from gluon_aff.machine.findings import MEND, NOTE, OK
from gluon_aff.machine.libraries import check_libraries
from gluon_aff.machine.shared_library import needed_libraries

LIBRARY = str(Path(mxnet_folder() or "mxnet", "libmxnet.so"))
# what `readelf -d` says of the libmxnet.so of mxnet-cu112 1.9.1, but for the C library's parts
CU112 = (
    "libopenblas.so.0", "libgfortran.so.3", "libcudnn.so.8", "libcuda.so.1", "libnccl.so.2", "libcudart.so.11.0",
    "libcufft.so.10", "libcublas.so.11", "libcusolver.so.11", "libcurand.so.10", "libnvrtc.so.11.2",
    "libnvToolsExt.so.1", "libgomp.so.1", "libstdc++.so.6",
)  # fmt: skip


@pytest.fixture
def no_pip_packages(tmp_path, monkeypatch):
    """Where pip would put CUDA's libraries; nothing yet."""
    monkeypatch.setattr(libraries, "PIP_CUDA", tmp_path / "nvidia")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    return tmp_path / "nvidia"


@pytest.mark.engine
def test_installed_mxnet_has_what_it_needs():
    finding = check_libraries(LIBRARY, needed_libraries(LIBRARY))[0]
    assert (finding.check, finding.state) == ("libraries", OK)
    assert str(mxnet_folder()) in finding.message


def test_no_mxnet_and_an_unreadable_one():
    assert check_libraries("", ()) == []
    (finding,) = check_libraries("/nowhere/libmxnet.so", ())
    assert (finding.state, "/nowhere/libmxnet.so cannot be read" in finding.message) == (NOTE, True)


def test_system_library_that_is_missing():
    (finding,) = check_libraries(LIBRARY, ("libc.so.6", "libgomp.so.9"))
    assert (finding.state, finding.message) == (MEND, "missing: libgomp.so.9")
    assert finding.remedy == "apt install the package that has libgomp.so.9"


def test_the_name_debian_has_for_it(monkeypatch):
    monkeypatch.setattr(
        libraries, "ask", lambda *_: libraries_answer({"libgomp.so.1": "libgomp.so.1: cannot open shared object file"})
    )
    assert check_libraries(LIBRARY, ("libgomp.so.1",))[0].remedy == "apt install libgomp1"


def libraries_answer(problems):
    from gluon_aff.machine.children import Answer

    return Answer({name: {"problem": problem} for name, problem in problems.items()})


def test_cuda_is_missing(no_pip_packages, monkeypatch):
    problems = {name: f"{name}: cannot open shared object file" for name in CU112 if libraries._is_nvidias(name)}
    assert len(problems) == 10
    problems["libcublas.so.11"] = "libcublasLt.so.11: cannot open shared object file"
    monkeypatch.setattr(libraries, "ask", lambda *_: libraries_answer(problems))
    (finding,) = check_libraries(LIBRARY, CU112)
    assert (finding.check, finding.state) == ("CUDA libraries", MEND)
    assert finding.message == (
        "missing: libcudnn.so.8, libcuda.so.1, libnccl.so.2, libcudart.so.11.0, libcufft.so.10, libcublasLt.so.11, "
        "libcusolver.so.11, libcurand.so.10, libnvrtc.so.11.2, libnvToolsExt.so.1"
    )
    driver, packages, path = finding.remedy.split("; ")
    assert driver.startswith("install NVIDIA's driver")
    assert packages == (
        "pip install 'nvidia-cudnn-cu11==8.*' nvidia-nccl-cu11 nvidia-cuda-runtime-cu11 nvidia-cufft-cu11 "
        "nvidia-cublas-cu11 nvidia-cusolver-cu11 nvidia-curand-cu11 nvidia-cuda-nvrtc-cu11 nvidia-nvtx-cu11"
    )
    assert path == f"export LD_LIBRARY_PATH=$(echo {no_pip_packages}/*/lib | tr ' ' ':')"


def test_pip_has_it_but_the_loader_does_not_look_there(no_pip_packages, monkeypatch):
    (no_pip_packages / "cudnn" / "lib").mkdir(parents=True)
    (no_pip_packages / "cudnn" / "lib" / "libcudnn.so.8").write_text("")
    (no_pip_packages / "nccl" / "lib").mkdir(parents=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/mine")
    problems = {"libcudnn.so.8": "libcudnn.so.8: cannot open shared object file: No such file"}
    monkeypatch.setattr(libraries, "ask", lambda *_: libraries_answer(problems))
    (finding,) = check_libraries(LIBRARY, ("libcudnn.so.8",))
    assert finding.remedy.startswith("export LD_LIBRARY_PATH=$(")
    command = f"{finding.remedy}; echo $LD_LIBRARY_PATH"
    printed = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert printed == f"{no_pip_packages}/cudnn/lib:{no_pip_packages}/nccl/lib:/opt/mine\n"


def test_found_and_damaged_ones(driver, driver_folder, tmp_path, monkeypatch):
    driver("Tesla T4,7,5")
    finding = check_libraries(LIBRARY, ("libcuda.so.1",))[0]
    assert (finding.state, finding.message) == (OK, f"all 1 found, in {driver_folder}")
    (tmp_path / "libcuda.so.1").write_text("cut short")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    finding = check_libraries(LIBRARY, ("libcuda.so.1",))[0]
    assert finding.state == MEND
    assert "libcuda.so.1 (" in finding.message
    assert finding.remedy
