"""Packaging of gluon_aff."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
# Machines and Pythons for which MXNet 1.9.1, its last release, has a wheel
WITH_MXNET = "sys_platform == 'linux' and platform_machine == 'x86_64' and python_version < '3.12'"
ELSEWHERE = "sys_platform != 'linux' or platform_machine != 'x86_64' or python_version >= '3.12'"
ONNX = [
    f"onnx>=1.13,<1.19 ; {WITH_MXNET}",  # MXNet's exporter reads onnx.mapping, which onnx 1.19 removed
    f"onnx>=1.13 ; {ELSEWHERE}",
    "onnxruntime",
]


def read_version() -> str:
    """Read the version without importing the package, since pip may run this with nothing but setuptools installed."""
    text = (ROOT / "gluon_aff" / "_version.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise RuntimeError('gluon_aff/_version.py has no line __version__ = "..."')
    return found.group(1)


setup(
    name="gluon_aff",
    version=read_version(),
    description="AFF and iAFF networks in MXNet/Gluon and PyTorch, with training and pretrained weights",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["gluon_aff", "gluon_aff.*"]),
    # gluon_aff/published/figures is a link to logs/published
    package_data={
        "gluon_aff": ["py.typed"],
        "gluon_aff.data": ["imagenet_classes.txt"],
        "gluon_aff.published": ["figures/*.json", "figures/*/*.csv"],
        "gluon_aff.results": ["report.css", "report.js"],
    },
    # Not scripts=[...], to which pip gives a "#!" line that does not work if the path has a space.
    py_modules=["gluon_aff_command"],
    entry_points={"console_scripts": ["gluon-aff = gluon_aff_command:main"]},
    python_requires=">=3.8",
    install_requires=[
        f"mxnet==1.9.1 ; {WITH_MXNET}",
        f"gluoncv==0.10.5.post0 ; {WITH_MXNET}",  # which brings opencv-python
        f"numpy>=1.17,<1.24 ; {WITH_MXNET}",  # MXNet 1.9.1 uses np.bool, which NumPy 1.24 removed
        f"numpy>=1.24 ; {ELSEWHERE}",
        f"opencv-python-headless ; {ELSEWHERE}",
        f"torch>=2.4 ; {ELSEWHERE}",  # the only engine there
        "filelock",
        "matplotlib",
        "pillow",
        "requests",
        "tqdm",
    ],
    extras_require={
        "cu112": ["mxnet-cu112==1.9.1"],
        "coco": ["pycocotools"],
        "demo": ["scikit-learn"],
        "onnx": ONNX,
        "torch": ["torch>=2.4"],
        "safetensors": ["safetensors", "torch>=2.4"],
        "tensorboard": ["tensorboardX>=2.6.2.2"],
        "test": [
            "hypothesis",
            *ONNX,
            "pycocotools",
            "pytest",
            "pytest-cov",
            "pytest-timeout",
            "pytest-xdist",
            "scikit-learn",
            "tensorboardX>=2.6.2.2",
        ],
        "dev": ["mypy", "nox", "ruff"],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.8",
        "Programming Language :: Python :: 3.9",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Programming Language :: Python :: Implementation :: CPython",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
)
