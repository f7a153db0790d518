"""The fork server where temporary files are far away."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.conftest import ROOT

START = """
import sys
from pathlib import Path
from src.grid.processes import fork_server

if __name__ == "__main__":
    process = fork_server([], Path(sys.argv[1])).Process(target=print, args=("forked",))
    process.start()
    process.join()
    raise SystemExit(process.exitcode)
"""


@pytest.mark.parametrize("length", [75, 200], ids=["as long as it may be", "longer"])
def test_a_temporary_folder_with_a_longer_path_than_a_socket_may_have(length: int, tmp_path: Path) -> None:
    script, log = tmp_path / "start.py", tmp_path / "log"
    script.write_text(START)
    with TemporaryDirectory(dir="/tmp") as near:
        far = Path(near) / ("x" * (length - len(near) - 1))
        far.mkdir()
        environment = os.environ | {"TMPDIR": str(far), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(script), str(log)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert log.read_text() == "forked\n"
