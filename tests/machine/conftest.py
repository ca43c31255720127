"""Stand-ins for what this machine does not have: libraries of other builds, GPUs, other systems."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from gluon_aff.machine import system_files

STRINGS, DYNAMIC, BYTES = 3, 6, 1  # types of ELF sections

# CUDA's driver with the GPUs of $FAKE_GPUS, such as "Tesla T4,7,5;NVIDIA H200,9,0".
DRIVER = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int count = 0, capabilities[8][2];
static char names[8][64];
int cuInit(unsigned flags) {
    const char *gpus = getenv("FAKE_GPUS"), *visible = getenv("CUDA_VISIBLE_DEVICES");
    char all[8][64], list[64] = "0,1,2,3,4,5,6,7";
    int numbers[8][2], total = 0;
    if (getenv("FAKE_CRASH")) raise(SIGSEGV);
    while (gpus && sscanf(gpus, "%63[^,],%d,%d", all[total], &numbers[total][0], &numbers[total][1]) == 3) {
        total++;
        gpus = strchr(gpus, ';');
        if (gpus) gpus++;
    }
    if (visible) snprintf(list, sizeof list, "%s", visible);
    for (char *part = strtok(list, ","); part && atoi(part) < total; part = strtok(NULL, ",")) {
        strcpy(names[count], all[atoi(part)]);
        memcpy(capabilities[count++], numbers[atoi(part)], sizeof capabilities[0]);
    }
    return count ? 0 : 100;
}
int cuDriverGetVersion(int *v) { *v = getenv("FAKE_CUDA") ? atoi(getenv("FAKE_CUDA")) : 12020; return 0; }
int cuDeviceGetCount(int *n) { *n = count; return 0; }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "%s", names[device]); return 0; }
int cuDeviceGetAttribute(int *v, int attribute, int device) { *v = capabilities[device][attribute - 75]; return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 16ul << 30; return 0; }
int cuGetErrorName(int code, const char **name) { *name = code == 100 ? "CUDA_ERROR_NO_DEVICE" : "?"; return 0; }
"""


@pytest.fixture(scope="session")
def driver_folder(tmp_path_factory):
    """Folder with a stand-in for libcuda.so.1."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the stand-in of CUDA's driver")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(DRIVER)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libcuda.so.1", folder / "driver.c"], check=True)
    return folder


@pytest.fixture
def driver(driver_folder, monkeypatch):
    """Function that gives processes started from now on a driver with these GPUs."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver_folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def install(gpus: str, **environment: str) -> None:
        monkeypatch.setenv("FAKE_GPUS", gpus)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return install


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Function that writes a file of the system, in whose place those from now on are read."""
    root = tmp_path / "root"
    monkeypatch.setattr(system_files, "ROOT", root)

    def write(path: str, text: str) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)

    return write


def write_library(path: Path, needed=(), gpu_code=(), padding: int = 0) -> Path:
    """Write an ELF file that needs those libraries and carries GPU code: (kind, number) such as (2, 86).

    Laid out by the ELF specification and the layout of CUDA's fat binaries, `padding` bytes before each of those.
    """
    names = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    tags, position = [], 1
    for name in needed:
        tags.append(struct.pack("<QQ", 1, position))
        position += len(name) + 1
    dynamic = b"".join([struct.pack("<QQ", 14, 0), *tags, struct.pack("<QQ", 0, 0)])
    entries = [
        struct.pack("<HHIQ", kind, 0x101, 64, 24) + bytes(12) + struct.pack("<I", number) + bytes(32) + bytes(24)
        for kind, number in gpu_code
    ]
    code = b"".join(
        bytes(padding) + struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(part)) + part
        for part in (b"".join(entries), b"".join(entries[:1]))
        if part
    )
    sections = [("", 0, b""), (".dynstr", STRINGS, names), (".dynamic", DYNAMIC, dynamic)]
    sections += [(".nv_fatbin", BYTES, code)] if code else []
    sections += [(".bss", 8, b"")]
    texts = b"".join(name.encode() + b"\0" for name, _, _ in sections) + b".shstrtab\0"
    sections += [(".shstrtab", STRINGS, texts)]
    content, headers, name_at = b"", b"", 0
    for name, kind, data in sections:
        size = 1 << 40 if name == ".bss" else len(data)
        headers += struct.pack("<IIQQQQIIQQ", name_at, kind, 0, 0, 64 + len(content), size, 0, 0, 1, 0)
        content += data
        name_at += len(name) + 1
    start = (
        b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHH", 3, 62, 1, 0, 0, 64 + len(content), 0, 64, 0, 0)
    )
    start += struct.pack("<HHH", 64, len(sections), len(sections) - 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(start + content + headers)
    return path


@pytest.fixture(name="write_library")
def write_library_fixture():
    """`write_library` for tests."""
    return write_library
