"""Check that the shared libraries to which MXNet is linked are there."""

from __future__ import annotations

import os
import re
import sysconfig
from pathlib import Path
from typing import Dict, List, Tuple

from gluon_aff.machine.children import ask
from gluon_aff.machine.findings import Finding, mend, note, ok
from gluon_aff.machine.gpus import DRIVER_LIBRARY

# pip's packages of the libraries to which mxnet-cu112's libmxnet.so is linked, directly or through other libraries.
CUDA_PACKAGES = {
    "libcudart.so.11.0": "nvidia-cuda-runtime-cu11",
    "libnvrtc.so.11.2": "nvidia-cuda-nvrtc-cu11",
    "libcublas.so.11": "nvidia-cublas-cu11",
    "libcublasLt.so.11": "nvidia-cublas-cu11",
    "libcufft.so.10": "nvidia-cufft-cu11",
    "libcurand.so.10": "nvidia-curand-cu11",
    "libcusolver.so.11": "nvidia-cusolver-cu11",
    "libcudnn.so.8": "'nvidia-cudnn-cu11==8.*'",
    "libnccl.so.2": "nvidia-nccl-cu11",
    "libnvToolsExt.so.1": "nvidia-nvtx-cu11",
}
PIP_CUDA = Path(sysconfig.get_paths()["purelib"], "nvidia")
SYSTEM_PACKAGES = {"libgomp.so.1": "libgomp1", "libGL.so.1": "libgl1"}


def check_libraries(library: str, needed: Tuple[str, ...]) -> List[Finding]:
    """Check the libraries to which MXNet's native library is linked: the system's, and CUDA's in a build for CUDA.

    Args:
        library: path of MXNet's native library; empty if MXNet is not installed.
        needed: names of the libraries to which it is linked; empty if it cannot be read.
    """
    if not library:
        return []
    if not needed:
        return [note("libraries", f"{library} cannot be read, so what it needs is not known")]
    answer = ask("libraries", needed, str(Path(library).parent))
    if answer.problem:
        return [note("libraries", f"loading what MXNet needs: {answer.problem}")]
    of_cuda = {name: found for name, found in answer.value.items() if _is_nvidias(name)}
    others = {name: found for name, found in answer.value.items() if name not in of_cuda}
    return [_libraries(label, found) for label, found in (("libraries", others), ("CUDA libraries", of_cuda)) if found]


def _libraries(label: str, found: Dict[str, Dict[str, str]]) -> Finding:
    missing = [_culprit(name, answer["problem"]) for name, answer in found.items() if "problem" in answer]
    if missing:
        names = list(dict.fromkeys(missing))
        return mend(label, f"missing: {', '.join(names)}", "; ".join(_library_remedies(names)))
    folders = {Path(answer["path"]).parent for answer in found.values() if "/" in answer["path"]}
    merged = {str(PIP_CUDA / "*/lib" if folder.parent.parent == PIP_CUDA else folder) for folder in folders}
    return ok(label, f"all {len(found)} found, in {', '.join(sorted(merged))}")


def _culprit(name: str, problem: str) -> str:
    """Return the missing library, `name` or one that it needs; for other problems, add the loader's message."""
    said = re.match(r"(\S+): cannot open shared object file", problem)
    if said is None:
        return f"{name} ({problem})"
    return Path(said[1]).name


def _library_remedies(missing: List[str]) -> List[str]:
    remedies = []
    if DRIVER_LIBRARY in missing:
        remedies.append("install NVIDIA's driver (a container is started with --gpus all)")
    from_pip = [name for name in missing if name in CUDA_PACKAGES]
    lacking = [name for name in from_pip if not list(PIP_CUDA.glob(f"*/lib/{name}"))]
    if from_pip:
        packages = " ".join(dict.fromkeys(CUDA_PACKAGES[name] for name in lacking))
        remedies += [f"pip install {packages}"] if packages else []
        kept = ":$LD_LIBRARY_PATH" if os.environ.get("LD_LIBRARY_PATH") else ""
        remedies.append(f"export LD_LIBRARY_PATH=$(echo {PIP_CUDA}/*/lib | tr ' ' ':'){kept}")
    of_system = [name for name in missing if name not in CUDA_PACKAGES and name != DRIVER_LIBRARY]
    if of_system:
        owners = (SYSTEM_PACKAGES.get(name, f"the package that has {name}") for name in of_system)
        remedies.append(f"apt install {' '.join(owners)}")
    return remedies


def _is_nvidias(name: str) -> bool:
    return name.startswith(("libcu", "libnv", "libnccl"))
