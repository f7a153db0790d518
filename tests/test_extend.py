"""Additions, as docs/extend.md shows them, to a copy of the repository: what they touch, and what keeps its name."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import ROOT

PLAN = """
import json, sys
from src.grid.step import closure
from src.recipe import compose
print(json.dumps([[step.name for step in closure(compose(one).steps)] for one in json.loads(sys.argv[1])]))
"""
PLAIN = [["strategy=none", "profile=smoke"], ["strategy=merge_ties_replay", "profile=smoke"]]
TINY = [
    "data.base_texts=400", "data.pool_texts=60", "data.asr_sentences=40", "data.tts_sentences=20",
    "data.sqa_questions=20", "data.fit_utterances=100", "data.evaluation_instructions=4", "data.evaluation_sentences=4",
    "data.evaluation_facts=4", "speech.recognizer.steps=5", "model.pretrain.epochs=1",
    "evaluate.asr_examples=2", "evaluate.tts_examples=2",
]  # fmt: skip
"""The smoke profile at a size at which all works and nothing is learned."""


def blocks(section: str, language: str) -> list[str]:
    """The code of a section of the page."""
    text = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return re.findall(rf"```{language}\n(.*?)```", found, re.DOTALL)


class Copy:
    """A copy of the repository, and what was changed in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        if listed.returncode:
            pytest.skip("not a git checkout")
        for name in filter(None, listed.stdout.decode().split("\0")):
            source = ROOT / name
            if source.exists():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, root / name, follow_symlinks=False)
        self.before = self.files()

    def files(self) -> dict[str, bytes]:
        """Content of each file, without what runs write."""
        found = (path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink())
        named = {str(path.relative_to(self.root)): path for path in found}
        written = re.compile(r"outputs/|(.*/)?__pycache__/")
        return {name: path.read_bytes() for name, path in named.items() if not written.match(name)}

    def touched(self) -> set[str]:
        """Files that were added, changed or removed."""
        now = self.files()
        return {name for name in now.keys() | self.before.keys() if now.get(name) != self.before.get(name)}

    def write(self, name: str, content: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(content, encoding="utf-8")

    def python(self, *arguments: str) -> str:
        """What a process in the copy prints."""
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, check=False, timeout=1200
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def plans(self, *cells: Sequence[str]) -> list[list[str]]:
        """Names of the steps of each cell."""
        found: list[list[str]] = json.loads(self.python("-c", PLAN, json.dumps(cells)))
        return found


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "repository")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """Names of the steps of the cells PLAIN, without any addition."""
    return Copy(tmp_path_factory.mktemp("plain") / "repository").plans(*PLAIN)


def added(copy: Copy, plain: list[list[str]], *cells: Sequence[str]) -> list[list[str]]:
    """The steps of cells with the addition; the plain cells keep theirs."""
    *kept, first, second = copy.plans(*cells, *PLAIN)
    assert [first, second] == plain
    return kept


def kinds(steps: Sequence[str]) -> list[str]:
    return [name.rpartition("-")[0] for name in steps]


def test_a_strategy_is_one_file(copy: Copy, plain: list[list[str]]) -> None:
    (yaml,) = blocks("A strategy that combines what exists", "yaml")
    copy.write("conf/strategy/extra/slerp_replay.yaml", yaml)
    (steps,) = added(copy, plain, ["strategy=extra/slerp_replay", "profile=smoke"])
    assert copy.touched() == {"conf/strategy/extra/slerp_replay.yaml"}
    new = kinds([name for name in steps if name not in plain[1]])
    assert new == ["merge-slerp-replay", "generate-merge-slerp-replay", "score-merge-slerp-replay"]


def test_a_model_that_is_trained_already_is_one_file(copy: Copy, plain: list[list[str]]) -> None:
    (yaml,) = blocks("A model that is trained already", "yaml")
    copy.write("conf/strategy/extra/theirs.yaml", yaml)
    (steps,) = added(copy, plain, ["strategy=extra/theirs", "profile=smoke"])
    assert copy.touched() == {"conf/strategy/extra/theirs.yaml"}
    assert kinds([name for name in steps if name not in plain[0]]) == ["given", "generate-given", "score-given"]


def add_method(copy: Copy) -> None:
    (code,), (yaml,) = (blocks("A training method", language) for language in ("python", "yaml"))
    copy.write("src/train/methods/l1.py", code)
    copy.write("conf/method/l1.yaml", yaml)


def test_a_method_is_one_class_and_one_file(copy: Copy, plain: list[list[str]]) -> None:
    add_method(copy)
    (steps,) = added(copy, plain, ["strategy=none", "method=l1", "profile=smoke"])
    assert copy.touched() == {"src/train/methods/l1.py", "conf/method/l1.yaml"}
    new = kinds([name for name in steps if name not in plain[0]])
    assert [label for label in new if label.startswith("train")] == ["train-asr-l1", "train-tts-l1", "train-sqa-l1"]


@pytest.mark.slow
@pytest.mark.integration
def test_a_method_and_a_set_train_and_a_vocoder_speaks(copy: Copy) -> None:
    """The penalty reaches the loss, the data of the new form are trained on, and answers are heard as spoken."""
    add_method(copy)
    add_set(copy)
    add_vocoder(copy)
    stage = ["train.chain=[count]", "train.stages.count.epochs=6", "speech/vocoder=mean_spectrum"]
    cell = ["strategy=extra/count", "method=l1", *stage, "profile=smoke", *TINY]
    copy.python("-m", "src.run", "-m", *cell, "method.strength=0,1", "tracker.mode=disabled", "name=added")
    trained = sorted(copy.root.glob("outputs/store/train-count-l1-*"))
    losses = [(folder / "metrics.jsonl").read_text() for folder in trained]
    assert len(trained) == 2 and losses[0] != losses[1]
    counts = [json.loads((folder / "manifest.json").read_text())["summary"]["data"] for folder in trained]
    assert [count["count"]["kept"] for count in counts] == [40, 40]
    (vocoder,) = copy.root.glob("outputs/store/vocoder-*/vocoder.json")
    assert json.loads(vocoder.read_text())["config"] == {"name": "mean_spectrum", "iterations": 16}
    assert list(copy.root.glob("outputs/store/recognizer-*/wer.json")), "the recognizer heard it"


def test_a_chain_is_no_file_or_one(copy: Copy, plain: list[list[str]]) -> None:
    mix = "+train.stages.mix={sets: [asr, tts], epochs: 1, max_length: 256, batch_tokens: 768}"
    cells = [["train.chain=[asr,sqa]"], ["train.chain=[mix,sqa]", mix], ["+train.stages.sqa.lr=1e-3"]]
    (yaml,) = blocks("Another chain of stages", "yaml")
    copy.write("conf/strategy/extra/recovery.yaml", yaml)
    told = [["strategy=none", "profile=smoke", *one] for one in cells]
    two, mixed, slower, text = added(copy, plain, *told, ["strategy=extra/recovery", "profile=smoke"])
    assert copy.touched() == {"conf/strategy/extra/recovery.yaml"}
    trained = [[name for name in steps if name.startswith("train-")] for steps in (two, mixed, slower, text, plain[0])]
    assert kinds(trained[0]) == ["train-asr", "train-sqa"] and kinds(trained[1]) == ["train-mix", "train-sqa"]
    assert trained[2][:2] == trained[4][:2] and trained[2][2] != trained[4][2]
    assert trained[3][:3] == trained[4] and kinds(trained[3])[3] == "train-text"
    assert trained[0][0] == trained[4][0], "the stage that both chains begin with is one training"


def add_set(copy: Copy) -> None:
    entry, maker = blocks("A stage on data of a new form", "python")
    (yaml,) = blocks("A stage on data of a new form", "yaml")
    stages = (copy.root / "src" / "stages.py").read_text(encoding="utf-8")
    copy.write("src/stages.py", f"{stages}\n\n{entry}")
    copy.write("src/steps/count_words.py", maker)
    copy.write("conf/strategy/extra/count.yaml", yaml)


def test_data_of_a_new_form_are_an_entry_a_maker_and_one_file(copy: Copy, plain: list[list[str]]) -> None:
    add_set(copy)
    (steps,) = added(copy, plain, ["strategy=extra/count", "profile=smoke"])
    assert copy.touched() == {"src/stages.py", "src/steps/count_words.py", "conf/strategy/extra/count.yaml"}
    assert {"count_words", "examples-count", "train-count"} <= set(kinds(steps))


def test_a_benchmark_in_text_is_one_file(copy: Copy, plain: list[list[str]]) -> None:
    text = (ROOT / "docs" / "lm_eval.md").read_text(encoding="utf-8")
    (yaml,), (rows,) = (re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) for language in ("yaml", "json"))
    copy.write("tasks/where.yaml", yaml)
    copy.write("tasks/where.jsonl", rows)
    asked = ["evaluate.lm_eval.tasks=[where]", "evaluate.lm_eval.include_path=tasks"]
    (steps,) = added(copy, plain, [*PLAIN[0], *asked])
    assert copy.touched() == {"tasks/where.yaml", "tasks/where.jsonl"}
    (new,) = [name for name in steps if name not in plain[0]]
    assert "where" in new


def test_a_question_set_is_one_file(copy: Copy, plain: list[list[str]], tmp_path: Path) -> None:
    questions = tmp_path / "mine.jsonl"
    questions.write_text('{"question": "what is red", "answer": "rome"}\n', encoding="utf-8")
    (yaml,) = blocks("A spoken question set", "yaml")
    yaml = yaml.replace("/data/mine.jsonl", str(questions)).replace("laptop", "smoke")
    copy.write("conf/data/mine.yaml", yaml)
    cells = [[*PLAIN[0], more] for more in ("data=mine", f"+data.questions.mine={{path: {questions}}}")]
    file, line = added(copy, plain, *cells)
    assert copy.touched() == {"conf/data/mine.yaml"} and file == line
    new = kinds([name for name in file if name not in plain[0]])
    assert new[:2] == ["questions", "units"] and not [label for label in new if label.startswith(("train", "examples"))]


def test_a_base_model_is_one_file(copy: Copy, plain: list[list[str]], tmp_path: Path) -> None:
    (yaml,) = blocks("Another base model", "yaml")
    copy.write("conf/model/mine.yaml", yaml.replace("/data/model", str(tmp_path)))
    (steps,) = added(copy, plain, [*PLAIN[0], "model=mine"])
    assert copy.touched() == {"conf/model/mine.yaml"}
    shared = {"corpus", "quantizer", "units", "vocoder", "recognizer"}
    assert set(kinds([name for name in steps if name in plain[0]])) == shared and "backbone" in kinds(steps)


def test_a_published_recognizer_is_one_file(copy: Copy, plain: list[list[str]]) -> None:
    yaml, _ = blocks("Another encoder, vocoder or recognizer", "yaml")
    copy.write("conf/speech/mine.yaml", yaml)
    paper = ["strategy=none", "profile=paper"]
    before, after = added(copy, plain, paper, [*paper, "speech=mine"])
    assert copy.touched() == {"conf/speech/mine.yaml"}
    assert kinds([name for name in after if name not in before]) == ["whisper", "generate-sqa", "score-sqa"]


def add_vocoder(copy: Copy) -> set[str]:
    (code,), (_, yaml) = (blocks("Another encoder, vocoder or recognizer", language) for language in ("python", "yaml"))
    files = {"src/speech/vocoders/mean_spectrum.py": code, "conf/speech/vocoder/mean_spectrum.yaml": yaml}
    for name, content in files.items():
        copy.write(name, content)
    return set(files)


def test_a_fitted_vocoder_is_one_class_and_one_file(copy: Copy, plain: list[list[str]]) -> None:
    files = add_vocoder(copy)
    (steps,) = added(copy, plain, [*PLAIN[0], "speech/vocoder=mean_spectrum"])
    assert copy.touched() == files
    new = kinds([name for name in steps if name not in plain[0]])
    assert new == ["vocoder", "recognizer", "generate-sqa", "score-sqa"]


def test_the_page_has_a_section_for_each_addition() -> None:
    text = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^## ", text, re.MULTILINE)) == 10
    named = [name for name in re.findall(r"`((?:src|conf|tests|launchers)/[\w/.]*)`", text) if (ROOT / name).exists()]
    for name in ("tests/launchers/processes/", "tests/launchers/test_another_scheduler.py", "conf/speech/hubert.yaml"):
        assert name in named
