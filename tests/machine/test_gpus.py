"""GPUs of a driver that is not NVIDIA's, held against builds of MXNet."""

import pytest

from gluon_aff.machine.findings import MEND, NOTE, OK
from gluon_aff.machine.gpus import CU112, GPU, Driver, carried_code, check_gpus, find_driver, nvidia_card
from gluon_aff.machine.shared_library import GPUCode

T4, H200, K80 = "Tesla T4,7,5", "NVIDIA H200,9,0", "Tesla K80,3,7"
CPU_BUILD = (0, None)
CUDA_BUILD = (11, CU112)


def states(findings):
    return {finding.check: finding.state for finding in findings}


def test_driver_is_asked(driver, system):
    driver(f"{T4};{H200}", FAKE_CUDA="11040")
    system(
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.57.02  Tue Jul 13 2021\nGCC 12",
    )
    gpus = (GPU(0, "Tesla T4", (7, 5), 2**34), GPU(1, "NVIDIA H200", (9, 0), 2**34))
    assert find_driver() == Driver((11, 4), gpus, "", "470.57.02")


def test_numbers_are_those_that_cuda_leaves(driver):
    driver(f"{T4};{H200};{K80}", CUDA_VISIBLE_DEVICES="2,0")
    assert [(gpu.number, gpu.name) for gpu in find_driver().gpus] == [(0, "Tesla K80"), (1, "Tesla T4")]
    assert "CUDA_VISIBLE_DEVICES=2,0" in check_gpus(find_driver(), *CUDA_BUILD)[0].message


def test_hidden_gpus(driver):
    driver(T4, CUDA_VISIBLE_DEVICES="")
    findings = check_gpus(find_driver(), *CUDA_BUILD)
    assert states(findings) == {"driver": OK, "GPU": NOTE}
    assert findings[1].message == "the driver shows none: CUDA_ERROR_NO_DEVICE (CUDA_VISIBLE_DEVICES='')"


def test_driver_that_crashes(driver):
    driver(T4, FAKE_CRASH="1")
    assert find_driver() == Driver(problem="crashed with SIGSEGV (Segmentation fault)")
    (finding,) = check_gpus(find_driver(), *CPU_BUILD)
    assert (finding.state, finding.message) == (NOTE, "NVIDIA's driver: crashed with SIGSEGV (Segmentation fault)")


@pytest.mark.parametrize(
    ("gpus", "build", "expected"),
    [
        (T4, CUDA_BUILD, {"GPU 0": OK}),
        (f"{T4};{H200}", CUDA_BUILD, {"GPU 0": OK, "GPU 1": NOTE}),
        (f"{K80};{H200}", CUDA_BUILD, {"GPU 0": MEND, "GPU 1": MEND}),
        (H200, (12, GPUCode((), ((8, 0),))), {"GPU 0": OK}),
        (H200, (11, None), {"GPU 0": OK}),  # what the build carries is not known
        (f"{T4};{H200}", CPU_BUILD, {"GPU 0": NOTE, "GPU 1": NOTE}),
    ],
)
def test_gpus_and_builds(driver, gpus, build, expected):
    driver(gpus)
    assert states(check_gpus(find_driver(), *build)) == {"driver": OK, **expected}


def test_what_is_said_of_a_gpu(driver):
    driver(f"{T4};{H200}")
    _, _, useless = check_gpus(find_driver(), *CUDA_BUILD)
    assert useless.message == f"NVIDIA H200, 16.0 GiB, compute capability 9.0: MXNet cannot run on it, having {CU112}"
    assert useless.remedy == "--gpus 0"
    _, unused, neither = check_gpus(find_driver(), *CPU_BUILD)
    assert unused.message.endswith("compute capability 7.5: not used, since this MXNet is for the CPU")
    assert unused.remedy.startswith("make gpu, or ")
    assert "mxnet-cu112 cannot run on it either" in neither.message
    assert neither.remedy == ""


@pytest.mark.parametrize(("cuda", "state"), [("10020", MEND), ("11000", OK), ("12020", OK)])
def test_driver_that_is_older_than_mxnets_cuda(driver, cuda, state):
    driver(T4, FAKE_CUDA=cuda)
    assert check_gpus(find_driver(), *CUDA_BUILD)[0].state == state
    assert check_gpus(find_driver(), *CPU_BUILD)[0].state == OK


NO_DRIVER = Driver(problem="OSError: libcuda.so.1: cannot open shared object file: No such file or directory")


@pytest.mark.parametrize(
    ("vendor", "kind", "there"),
    [("0x10de", "0x030200", True), ("0x10de", "0x040300", False), ("0x1002", "0x030000", False)],
)
def test_card_without_a_driver(system, vendor, kind, there):
    system("sys/bus/pci/devices/0000:01:00.0/vendor", vendor + "\n")
    system("sys/bus/pci/devices/0000:01:00.0/class", kind + "\n")
    assert nvidia_card() == there
    (finding,) = check_gpus(NO_DRIVER, *CPU_BUILD)
    assert finding.state == NOTE
    assert finding.remedy == ("install NVIDIA's driver" if there else "")


def test_code_of_a_build(tmp_path, write_library):
    with_code = write_library(tmp_path / "cu112.so", [], [(2, number) for number in (50, 60, 70, 80, 86)])
    assert carried_code(str(with_code)) == CU112
    assert carried_code(str(write_library(tmp_path / "cpu.so"))) is None
    assert carried_code(str(tmp_path / "gone.so")) is None
