"""Downloads from a server of the test's own, which may cut them off, what cards say, and what to do without a network.
Snapshots of the hub are tested with the backbone that they were first made for."""

import hashlib
import shlex
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from src.model import hub_files

CONTENT = bytes(range(256)) * 40


class Handler(BaseHTTPRequestHandler):
    """CONTENT under /whole.pt and /cut.pt; the latter stops at 1000 bytes, unless it is asked for what follows."""

    asked: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        span = self.headers["Range"]
        self.asked.append(span)
        if self.path == "/missing.pt":
            self.send_error(404)
            return
        begin = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
        if begin >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(len(CONTENT) - begin))
        self.end_headers()
        self.wfile.write(CONTENT[begin : 1000 if self.path == "/cut.pt" and not span else None])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Handler.asked.clear()
    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()


def test_a_file_is_downloaded_once(server: str, tmp_path: Path) -> None:
    path = hub_files.download(f"{server}/whole.pt?download=true", tmp_path / "kept")
    assert path == tmp_path / "kept" / "whole.pt" and path.read_bytes() == CONTENT
    assert hub_files.download(f"{server}/whole.pt?download=true", tmp_path / "kept") == path
    assert Handler.asked == [None]
    assert hub_files.sha256(path) == hashlib.sha256(CONTENT).hexdigest()


def test_what_was_cut_off_is_completed(server: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"/cut\.pt was cut off at 1000 bytes: start the step again"):
        hub_files.download(f"{server}/cut.pt", tmp_path)
    assert not (tmp_path / "cut.pt").exists()
    assert hub_files.download(f"{server}/cut.pt", tmp_path).read_bytes() == CONTENT
    assert Handler.asked == [None, "bytes=1000-"]


def test_a_part_that_is_no_part_is_forgotten(server: str, tmp_path: Path) -> None:
    (tmp_path / "whole.pt.part").write_bytes(CONTENT + b"more")
    assert hub_files.download(f"{server}/whole.pt", tmp_path).read_bytes() == CONTENT


def test_what_cannot_be_had_says_what_to_do(server: str, tmp_path: Path) -> None:
    for url, reason in ((f"{server}/missing.pt", "404"), ("http://127.0.0.1:9/x.pt", "refused")):
        with pytest.raises(ValueError, match=rf"cannot be downloaded: .*{reason}.*curl -LO http") as raised:
            hub_files.download(url, tmp_path)
        assert "\n" not in str(raised.value)


def test_the_remedy_without_a_network_fetches_what_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same revision, and no other files, however many patterns they have."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    patterns = ["model*.safetensors", "config.json", "a.json", "b.json", "all/train.clean.100/*.parquet", "c d.json"]
    included = [word for pattern in patterns for word in ("--include", pattern)]
    options: tuple[tuple[str | None, str, list[str]], ...] = (
        ("0a1b", "dataset", ["--repo-type", "dataset", "--revision", "0a1b"]),
        (None, "model", []),
    )
    for revision, kind, expected in options:
        with pytest.raises(ValueError, match=r"^some/thing is no folder .* with `hf download some/thing ") as raised:
            hub_files.snapshot("some/thing", patterns, revision, kind)
        command = str(raised.value).split("`")[1]
        assert "'model*.safetensors'" in command, "no shell must expand it"
        assert shlex.split(command) == ["hf", "download", "some/thing", *expected, *included]


def test_licenses_of_cards(tmp_path: Path) -> None:
    assert hub_files.licence(tmp_path) == "not stated by its folder"
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: cc-by-nc-4.0\ntags: [a]\n---\nlicense: of text\n")
    assert hub_files.licence(tmp_path) == "cc-by-nc-4.0"
    (tmp_path / "README.md").write_text("# A model\nlicense: MIT, it says\n")
    assert hub_files.licence(tmp_path) == "not stated by its folder"


def test_commits_of_snapshots(tmp_path: Path) -> None:
    assert hub_files.commit(tmp_path / "models--a--b" / "snapshots" / "0a1b") == "0a1b"
    assert hub_files.commit(tmp_path) is None
