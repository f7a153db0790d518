"""One set of instructions for all numerical libraries, so that another processor computes the same bits.

PyTorch, MKL, oneDNN, OpenBLAS and NumPy look at the processor when they are loaded and choose kernels for it, which
round differently. All are held to AVX2 here, which Intel's and AMD's processors have had since 2013 and 2015.
`src/__init__.py` calls `fix`, so that it happens before the libraries are loaded, in whatever process this code runs.

MKL has two sets of AVX2 kernels: one for Intel's processors, one for all others. With MKL_CBWR=COMPATIBLE in the
environment it uses the same on both, at a cost (docs/laptop.md).
"""

import os
import platform
from functools import cache
from pathlib import Path

VARIABLES = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
"""What is set where the processor has AVX2 and the environment says nothing else."""
MKL, COMPATIBLE = "MKL_CBWR", "COMPATIBLE"


def fix() -> None:
    """Set the variables. What the environment has already stays."""
    if has_avx2():
        for name, value in VARIABLES.items():
            os.environ.setdefault(name, value)


def described() -> str:
    """What decides how this process rounds. Processes with the same text and the same packages compute the same bits.

    Where the libraries choose by the processor, the text names it.
    """
    values = {name: os.environ.get(name) for name in VARIABLES}
    compatible = values[MKL] == COMPATIBLE
    other = [name for name in VARIABLES if values[name] != VARIABLES[name] and not (name == MKL and compatible)]
    if not has_avx2() or other:
        given = " ".join(f"{name}={values[name]}" for name in other if values[name] is not None)
        text = "chosen for " + (processor().get("model name") or platform.machine())
        return f"{text} with {given}" if given else text
    intel = processor().get("vendor_id") == "GenuineIntel"
    return "AVX2 with MKL for " + ("any processor" if compatible else "Intel" if intel else "AMD")


def has_avx2() -> bool:
    """Whether the processor is known to have AVX2 and FMA, which the AVX2 kernels use too."""
    return {"avx2", "fma"} <= set(processor().get("flags", "").split())


@cache
def processor() -> dict[str, str]:
    """What Linux says of the first processor: vendor_id, model name, flags; nothing on other systems."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
