"""The same settings and inputs give the same bytes, in any process."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.speech.conftest import FITTED, write_corpus

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from tests.speech.conftest import run_steps
run_steps(Path(sys.argv[1]))
"""


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.integration
def test_a_new_process_makes_the_same_bytes(speech: dict[str, Path], tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT, check=True, timeout=300)
    for kind in (step.kind for step in FITTED):
        here, there = digests(speech[kind]), digests(tmp_path / kind)
        assert here and here == there, kind
