"""Some of the cases of benchmarks/bad_input.py: wrong input ends in one line that names what is wrong."""

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("word", ["ratoi", "deepspeed.", "src.score"])
def test_wrong_input_is_one_line(word: str) -> None:
    command = [sys.executable, "-m", "benchmarks.bad_input", word]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    counted = re.search(r"^(\d+) cases, (\d+) refused", done.stdout, flags=re.MULTILINE)
    assert done.returncode == 0 and counted and counted[1] == counted[2] != "0", done.stdout + done.stderr
