"""One set of instructions for all libraries: it is fixed before they are loaded, and gives the same bits everywhere."""

import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest

from src.grid import instructions
from tests.conftest import ROOT

ZEN = {"vendor_id": "AuthenticAMD", "model name": "AMD EPYC", "flags": "sse2 fma avx avx2"}
XEON = {"vendor_id": "GenuineIntel", "model name": "Intel Xeon", "flags": "sse2 fma avx avx2 avx512f"}
OLD = {"vendor_id": "GenuineIntel", "model name": "Intel Core 2", "flags": "sse2 ssse3"}
FIXED = instructions.VARIABLES
DESCRIBED = [
    (ZEN, {}, "AVX2 with MKL for AMD"),
    (XEON, {}, "AVX2 with MKL for Intel"),
    (ZEN, {"MKL_CBWR": "COMPATIBLE"}, "AVX2 with MKL for any processor"),
    (XEON, {"MKL_CBWR": "COMPATIBLE"}, "AVX2 with MKL for any processor"),
    (XEON, {"MKL_CBWR": "AVX512"}, "chosen for Intel Xeon with MKL_CBWR=AVX512"),
    (XEON, {"ATEN_CPU_CAPABILITY": "avx512"}, "chosen for Intel Xeon with ATEN_CPU_CAPABILITY=avx512"),
    (OLD, {}, "chosen for Intel Core 2"),
    ({}, {}, "chosen for x86_64"),
]


@pytest.mark.parametrize(("processor", "own", "text"), DESCRIBED)
def test_what_is_fixed_and_said(
    processor: dict[str, str], own: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in FIXED:
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(instructions, "processor", lambda: processor)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    instructions.fix()
    expected = {**FIXED, **own} if "avx2" in processor.get("flags", "") else own
    assert {name: os.environ[name] for name in FIXED if name in os.environ} == expected
    assert instructions.described() == text


def test_they_are_fixed_before_the_libraries_are_loaded() -> None:
    code = "import json, os, sys, src; print(json.dumps([dict(os.environ), sorted(sys.modules)]))"
    outside = {name: value for name, value in os.environ.items() if name not in FIXED} | {"MKL_CBWR": "COMPATIBLE"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True, check=True)
    environment, modules = json.loads(done.stdout)
    assert environment["MKL_CBWR"] == "COMPATIBLE", "what a user sets stays"
    assert instructions.has_avx2() == ("ATEN_CPU_CAPABILITY" in environment)
    assert not {"numpy", "torch", "scipy", "sklearn"} & set(modules)


VERSIONS = {"torch": "2.13.0+cpu", "transformers": "5.23.0", "numpy": "2.4.6", "scipy": "1.17.1"}
CHECKSUMS = {
    "random numbers": "4f70e560d877f89c",
    "generation": "d7e60d9736fbe09a",
    "convolution": "6a53e308c05815fa",
    "numpy": "19c5ee82d073dfef",
    "scipy": "c935928f99d31b17",
}
"""Taken on an AMD EPYC without AVX-512, with these versions."""
TRAINING = {"AVX2 with MKL for AMD": "22c018b35ba84852", "AVX2 with MKL for any processor": "f58801b5c1b29f44"}
"""By instructions: MKL computes the matrix products."""


@pytest.mark.parametrize("mkl", ["AVX2", "COMPATIBLE"])
def test_the_same_bits_as_on_another_machine(mkl: str) -> None:
    if not instructions.has_avx2() or any(version(package) != known for package, known in VERSIONS.items()):
        pytest.skip("the checksums are of other versions, or this processor has no AVX2")
    environment = {**os.environ, **FIXED, "MKL_CBWR": mkl, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.grid.rounding"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    known = instructions.processor()
    if known.get("vendor_id") != "AuthenticAMD" or "avx512f" in known["flags"]:
        pytest.skip(f"the checksums were taken on an AMD EPYC without AVX-512; on {known.get('model name')}: {found}")
    training = found["checksums"].pop("training")
    assert found["checksums"] == CHECKSUMS
    assert training == TRAINING.get(found["instructions"], training)
