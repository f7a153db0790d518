"""Files of settings as people save them: each is read right, or refused in one line that names it."""

from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf

from src import config
from src.grid.errors import ConfigError
from src.settings_files import FileConfigSource
from tests.conftest import ROOT

GOOD = "# @package _global_\nstrategy:\n  name: mine\n  label: Größe\n"
RIGHT = {"strategy": {"name": "mine", "label": "Größe"}}
FILES = {
    "plain": (GOOD.encode(), RIGHT),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD.encode(), RIGHT),
    "CRLF": (GOOD.replace("\n", "\r\n").encode(), RIGHT),
    "empty": (b"", {}),
    "a tab": (b"name: a\nlabel:\n\tb: 1\n", "line 3: found character '\\t' that cannot start any token; YAML indents"),
    "a duplicate key": (b"name: a\nlabel: b\nname: c\n", "line 3: found duplicate key name"),
    "an open bracket": (b"name: [a,\n", "line 2: expected the node content, but found '<stream end>'"),
    "two documents": (b"a: 1\n---\nb: 1\n", "line 2: but found another document"),
    "Latin-1": (GOOD.encode("latin-1"), "line 4: not UTF-8 (byte 0xf6)"),
    "UTF-16": (GOOD.encode("utf-16"), "line 1: not UTF-8 (byte 0xff)"),
    "zeros": (b"name: a\n\0\0", "holds no settings: unacceptable character #x0000"),
    "a number": (b"5", "holds no settings: Invalid loaded object type: int"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_right_or_named(tmp_path: Path, name: str) -> None:
    content, right = FILES[name]
    file = tmp_path / "a b" / f"{name}.yaml"
    file.parent.mkdir()
    file.write_bytes(content)
    source = FileConfigSource("test", f"file://{tmp_path}")
    if isinstance(right, str):
        with pytest.raises(ConfigError) as raised:
            source.load_config(f"a b/{name}")
        said = str(raised.value)
        assert said.startswith(str(file)) and right in said and "\n" not in said
    else:
        found = source.load_config(f"a b/{name}")
        assert OmegaConf.to_container(found.config) == right
        assert found.header.get("package") == ("_global_" if content else None)


def test_hydra_reads_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "strategy"
    folder.mkdir()
    (folder / "marked.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    (folder / "tab.yaml").write_text("name:\n\ta: 1")
    (folder / "lost.yaml").write_text("name: ${nowhere}\nlabel: a")
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):

        def composed(name: str) -> str:
            given = [f"hydra.searchpath=[file://{tmp_path}]", f"strategy={name}", "profile=smoke"]
            found = config.compose(lambda given: hydra.compose("config", given), given)
            return config.cell(found)[0].strategy.name

        assert composed("marked") == "mine"
        with pytest.raises(ConfigError, match=r"tab\.yaml, line 2: found character"):
            composed("tab")
        with pytest.raises(ConfigError, match=r"^strategy\.name: Interpolation key 'nowhere' not found$"):
            composed("lost")
