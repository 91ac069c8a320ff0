"""Packaging of adawm_planner, for pip and for colcon (ament_python).

Package data (tasks, vehicles, nets) stays beside the modules; models, launch files and parameters go to
share/adawm_planner, where adawm_planner/paths.py finds them.
"""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_namespace_packages, setup

NAME = "adawm_planner"
ROOT = Path(__file__).parent
RUN = ["click", "cryptography", "numpy", "onnxruntime", "opencv-python-headless", "PyYAML", "rich", "safetensors"]
SIM = ["carla==0.9.16", "eclipse-sumo", "gymnasium", "libsumo", "sumolib"]
TRAIN = ["matplotlib", "onnx", "peft", "scipy", "tensorboard", "torch==2.13.0"]
DEV = [
    "coverage",
    "highway-env",
    "hypothesis",
    "mutmut",
    "mypy",
    "psutil",
    "pytest",
    "pytest-xdist",
    "ruff",
    "types-PyYAML",
    "types-psutil",
]


def version() -> str:
    """`__version__` of the package, read without importing it."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / NAME / "__init__.py").read_text(), re.MULTILINE)
    assert found is not None, "adawm_planner/__init__.py lacks __version__"
    return found[1]


def packages() -> list[str]:
    """Every folder of the package; searched below it, because ros2_ws links back to the root."""
    below = find_namespace_packages(NAME, exclude=["*__pycache__*"])
    return [NAME, *(f"{NAME}.{name}" for name in below)]


def shared(folder: str) -> list[tuple[str, list[str]]]:
    """(destination below the prefix, files) for each folder under `folder`."""
    by_parent: dict[Path, list[str]] = {}
    for file in sorted((ROOT / folder).rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            relative = file.relative_to(ROOT)
            by_parent.setdefault(relative.parent, []).append(str(relative))
    return [(f"share/{NAME}/{parent}", files) for parent, files in by_parent.items()]


setup(
    name=NAME,
    version=version(),
    description="World-model planner that drives a vehicle and finetunes itself by low-rank adapters",
    license="Apache-2.0",
    packages=packages(),
    package_data={"": ["*.yaml", "*.xml", "*.xodr", "*.sumocfg", "*.json", "py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *shared("launch"),
        *shared("models"),
    ],
    python_requires=">=3.10,<3.13",
    install_requires=RUN,
    extras_require={"gpu": ["onnxruntime-gpu>=1.18"], "train": TRAIN, "sim": SIM, "dev": DEV},
    entry_points={
        "console_scripts": [
            f"adawm = {NAME}.cli.main:main",
            f"gate_node = {NAME}.ros.gate_node:main",
            f"planner_node = {NAME}.ros.planner_node:main",
            f"finetuner_node = {NAME}.ros.finetuner_node:main",
            f"sim_bridge_node = {NAME}.ros.sim_bridge_node:main",
        ]
    },
    zip_safe=False,
)
