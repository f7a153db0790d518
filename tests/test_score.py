"""The command that scores given responses: its tables, its reports, and what it says of wrong input."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from src import score

ROOT = Path(__file__).parents[1]
OFFICIAL = ROOT.parent / "shared" / "data" / "ifeval" / "input_data.jsonl"
NLTK_DATA = ROOT.parent / "shared" / "data" / "nltk_data"

HASH = {"letter": "#", "let_frequency": 2, "let_relation": "at least"}
PROMPTS = [
    {"key": 1, "prompt": "one", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    {"key": 2, "prompt": "two", "instruction_id_list": ["startend:quotation", "keywords:existence"],
     "kwargs": [{}, {"keywords": ["red"]}]},
    {"key": 3, "prompt": "three", "instruction_id_list": ["keywords:letter_frequency"], "kwargs": [HASH]},
    {"key": 4, "prompt": "four", "instruction_id_list": ["language:response_language"], "kwargs": [{"language": "de"}]},
]  # fmt: skip
RESPONSES = {
    "one": "Järven rannalla on punainen talo.",
    "two": 'Here:\n"red"',
    "three": "",
    "four": "Am See steht ein rotes Haus, in dem ein alter Mann wohnt.",
}


def write(path: Path, rows: list) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def prompts(tmp_path) -> str:
    return write(tmp_path / "prompts.jsonl", PROMPTS)


@pytest.fixture
def responses(tmp_path) -> str:
    rows = [{"prompt": prompt, "response": response} for prompt, response in reversed(RESPONSES.items())]
    return write(tmp_path / "responses.jsonl", rows)


def run(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    """What the command prints; to stderr if it is to fail."""
    assert score.main([str(argument) for argument in arguments]) == status
    printed = capsys.readouterr()
    assert not (printed.out if status else printed.err)
    return printed.err if status else printed.out


def cells(text: str, name: str) -> list[str]:
    """The columns of a line of the table."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name}  ")]
    return line.removeprefix(name).replace(" ± ", "±").split()


def test_table_of_ifeval(capsys, prompts, responses):
    text = run(capsys, "ifeval", prompts, responses)
    assert cells(text, "prompt level") == ["50.0±25.0", "75.0±21.7", "4"]
    # Clustered: sqrt(.4^2 + .2^2 + .6^2 + .4^2) / 5, and sqrt(.2^2 + .4^2 + .8^2 + .2^2) / 5.
    assert cells(text, "instruction level") == ["60.0±17.0", "80.0±18.8", "5"]
    assert cells(text, "keywords") == ["50.0±35.4", "50.0±35.4", "2"]
    assert cells(text, "startend") == ["0.0", "100.0", "1"]
    assert "Chance in the official scorer: 1 of the 4 prompts (key 3)" in text


def test_report_of_ifeval(capsys, prompts, responses, tmp_path):
    out = tmp_path / "verdicts.jsonl"
    report = json.loads(run(capsys, "ifeval", prompts, responses, "--json", "--out", out))
    assert (report["prompts"], report["chance"]) == (4, [3])
    assert report["scores"]["prompt_strict"]["value"] == 0.5
    assert report["scores"]["instruction_loose"]["value"] == 0.8
    assert list(report["group"]) == ["keywords", "language", "punctuation", "startend"]
    assert report["instruction"]["keywords:existence"]["strict"] == {
        "value": 1, "n": 1, "standard_error": None, "clusters": 1,
    }  # fmt: skip
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["key"] for row in rows] == [1, 2, 3, 4]
    assert rows[1] == {
        "key": 2,
        "prompt": "two",
        "instruction_id_list": ["startend:quotation", "keywords:existence"],
        "response": 'Here:\n"red"',
        "strict": [False, True],
        "loose": [True, True],
    }


def test_responses_by_key(capsys, prompts, responses, tmp_path):
    by_prompt = run(capsys, "ifeval", prompts, responses)
    keys = {row["prompt"]: row["key"] for row in PROMPTS}
    rows = [{"key": keys[prompt], "response": response} for prompt, response in RESPONSES.items()]
    rows[0]["key"] = str(rows[0]["key"])
    assert run(capsys, "ifeval", prompts, write(tmp_path / "by_key.jsonl", rows)) == by_prompt


def test_another_language(capsys, prompts, responses):
    text = run(capsys, "ifeval", prompts, responses, "--language", "fi")
    assert cells(text, "prompt level")[2] == "3"
    assert "Responses in 'fi', by langdetect: 33.3 ± 27.2 of 3." in text
    assert "Left out: 1 prompts that ask for a response in a certain language." in text
    report = json.loads(run(capsys, "ifeval", prompts, responses, "--language", "fi", "--json"))
    assert (report["language"], report["in_language"]["value"], report["left_out"]) == ("fi", 1 / 3, 1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"key": 1, "response": "x"}], ": no response to 3 of 4 prompts; the first is '2'"),
        ([{"key": 1, "response": "x"}, {"prompt": "one", "response": "y"}], ":2: a second response to '1'; the first"),
        ([{"key": 9, "response": "x"}], ":1: a response to '9', and there is no such prompt"),
        ([{"prompt": "nine", "response": "x"}], ":1: a response to 'nine'..., and there is no such prompt"),
        ([{"response": "x"}], ':1: must have "key" or "prompt" beside "response"'),
        ([{"key": 1, "response": None}], ':1: must have a text as "response"'),
        (["{"], ":1: not JSON"),
        ([], ": is empty"),
    ],
)
def test_wrong_responses_are_one_line(capsys, prompts, tmp_path, rows, message):
    path = write(tmp_path / "wrong.jsonl", rows)
    said = run(capsys, "ifeval", prompts, path, status=2)
    assert said.startswith(path + message)
    assert said.count("\n") == 1


def test_prompts_that_read_the_same_need_a_key(capsys, tmp_path):
    prompts = write(tmp_path / "prompts.jsonl", [PROMPTS[0], {**PROMPTS[0], "key": 5}])
    path = write(tmp_path / "responses.jsonl", [{"prompt": "one", "response": "x"}])
    assert 'the prompts 1 and 5 read the same: name one by its "key"' in run(capsys, "ifeval", prompts, path, status=2)


def test_other_wrong_input_is_one_line(capsys, prompts, responses, tmp_path):
    asked = ("ifeval", prompts, responses)
    missing = tmp_path / "nowhere.jsonl"
    assert run(capsys, "ifeval", prompts, missing, status=2) == f"{missing}: No such file or directory\n"
    assert run(capsys, "ifeval", missing, responses, status=2).startswith(f"{missing}: no such file, nor the name of")
    assert "no language 'finnish'" in run(capsys, *asked, "--language", "finnish", status=2)
    assert "there is no folder" in run(capsys, *asked, "--out", tmp_path / "nowhere" / "out.jsonl", status=2)
    wrong = write(tmp_path / "wrong.jsonl", [{**PROMPTS[0], "instruction_id_list": ["punctuation:comma"]}])
    assert run(capsys, "ifeval", wrong, responses, status=2).startswith(f'{wrong}:1: unknown instruction "punct')


def test_missing_nltk_data_is_said_before_the_responses_are_read(capsys, tmp_path, monkeypatch):
    from src.evaluate import checkers

    checkers.load()
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    sentences = {"num_sentences": 3, "relation": "at least"}
    asked = {**PROMPTS[0], "instruction_id_list": ["length_constraints:number_sentences"], "kwargs": [sentences]}
    prompts = write(tmp_path / "prompts.jsonl", [asked])
    said = run(capsys, "ifeval", prompts, tmp_path / "nowhere.jsonl", status=2)
    assert "python -m nltk.downloader punkt_tab" in said
    assert said.count("\n") == 1


QUICK = """
import sys
from src import score
status = score.main(sys.argv[1:])
print([name for name in ("torch", "transformers", "datasets", "hydra") if name in sys.modules], status, file=sys.stderr)
"""


def test_scoring_imports_no_torch_and_no_transformers(prompts, responses):
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", QUICK, "ifeval", prompts, responses, "--language", "fi"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.stderr.splitlines()[-1] == "[] 0", done.stderr


def test_help_shows_the_commands(prompts):
    done = subprocess.run([sys.executable, "-m", "src.score", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert "python -m src.score speech-ifeval data/eval_data" in done.stdout
    done = subprocess.run([sys.executable, "-m", "src.score", "bleu"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "invalid choice: 'bleu'" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not OFFICIAL.is_file(), reason="the official prompts are not here")
@pytest.mark.skipif(not NLTK_DATA.is_dir(), reason="nltk's punkt_tab is not here")
def test_official_prompts_in_two_processes(tmp_path):
    """The same bytes, with other hash seeds; and the totals are those of the harness's own aggregation."""
    rows = [json.loads(line) for line in OFFICIAL.read_text().splitlines()]
    path = write(tmp_path / "responses.jsonl", [{"key": row["key"], "response": row["prompt"]} for row in rows])
    printed = []
    for seed in ("1", "2"):
        out = tmp_path / f"verdicts{seed}.jsonl"
        environment = {**os.environ, "NLTK_DATA": str(NLTK_DATA), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-m", "src.score", "ifeval", OFFICIAL, path, "--json", "--out", out]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed.append((done.stdout, out.read_text()))
    assert printed[0] == printed[1]
    report = json.loads(printed[0][0])
    assert (report["prompts"], report["chance"]) == (541, [1122, 1129])

    from src.evaluate import checkers

    verdicts = [json.loads(line) for line in printed[0][1].splitlines()]
    for way in ("strict", "loose"):
        total = checkers.load().agg_inst_level_acc([row[way] for row in verdicts])
        assert report["scores"][f"instruction_{way}"]["value"] == pytest.approx(total)
        assert report["scores"][f"prompt_{way}"]["value"] == pytest.approx(sum(all(r[way]) for r in verdicts) / 541)


def speech(metric: str, number: int, *constraint: object) -> dict:
    made = {"audio_filepath": f"{number}.wav", "instruction": f"What is said in {number}?", "metric": metric}
    if metric == "cot":
        return made
    return {**made, "id": number, "instruction_id_list": [constraint[0]], "kwargs": [constraint[1]]}


SPEECH = {
    "closed_ended_questions.jsonl": [
        speech("wer", 0, "change_case:english_capital", {}),
        speech("accuracy", 1, "detectable_format:title", {}),
    ],
    "creative_writing.jsonl": [speech("open", 2, "detectable_format:number_bullet_lists", {"num_bullets": 2})],
    "chain-of-thought.jsonl": [speech("cot", 3), speech("cot", 4)],
}
GOOD = ["RED", "<<red>>", "1. red\n2. blue", "First, it is warm. So: red.", "Step by step: red."]
POOR = ["Red", "<<red>>", "1. red\n2. blue", "Red.", "Red."]


@pytest.fixture
def benchmark(tmp_path) -> Path:
    """A folder as the authors' data/eval_data, and beside it outputs/good and outputs/poor."""
    numbers = {name: [int(row["audio_filepath"][0]) for row in rows] for name, rows in SPEECH.items()}
    for folder in (tmp_path / "eval_data", tmp_path / "good", tmp_path / "poor"):
        folder.mkdir()
        for name, rows in SPEECH.items():
            said = {"good": GOOD, "poor": POOR}.get(folder.name)
            if said:
                rows = [row | {"response": said[i]} for row, i in zip(rows, numbers[name], strict=True)]
            write(folder / name, rows)
    return tmp_path


class Handler(BaseHTTPRequestHandler):
    """A judge for which "Red." alone is a bare answer."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][1]["content"]
        content = "Verdict: no" if asked.endswith("\nRed.") else "Verdict: yes"
        said = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def judge(monkeypatch):
    """The arguments that name a judge."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield ["--judge-url", f"http://127.0.0.1:{server.server_port}/v1", "--judge-model", "local"]
    server.shutdown()
    thread.join()
    server.server_close()


def test_forgetting_of_a_spoken_model(capsys, benchmark, judge):
    asked = ("speech-ifeval", benchmark / "eval_data")
    report = run(capsys, *asked, benchmark / "good", "--json", *judge)
    assert json.loads(report)["overall"]["value"] == 1
    (benchmark / "reference.json").write_text(report)
    text = run(capsys, *asked, benchmark / "poor", "--reference", benchmark / "reference.json", *judge)
    assert cells(text, "closed_ended") == ["50.0±35.4", "2"]
    assert cells(text, "creative_writing") == ["100.0", "1"]
    assert cells(text, "chain_of_thought") == ["0.0±0.0", "2"]
    assert cells(text, "IFrate") == ["50.0", "5"]
    assert cells(text, "change_case") == ["0.0", "1"]
    assert "Forgetting rate: -50.00, against the reference's IFrate of 100.0." in text
    assert "Chain of thought was judged by local." in text


def test_chain_of_thought_is_left_out_without_a_judge(capsys, benchmark, judge):
    asked = ("speech-ifeval", benchmark / "eval_data")
    text = run(capsys, *asked, benchmark / "poor")
    assert cells(text, "IFrate") == ["75.0", "3"]
    assert "IFrate is the mean of closed_ended and creative_writing alone: chain_of_thought is not scored." in text
    assert "2 chain-of-thought prompts need a judge (--judge-url, --judge-model)." in text
    (benchmark / "reference.json").write_text(run(capsys, *asked, benchmark / "good", "--json"))
    text = run(capsys, *asked, benchmark / "poor", "--reference", benchmark / "reference.json")
    assert "Forgetting rate: -25.00" in text
    said = run(capsys, *asked, benchmark / "poor", "--reference", benchmark / "reference.json", *judge, status=2)
    assert "score the reference on the same categories" in said


def test_verdicts_of_speech_ifeval(capsys, benchmark, judge):
    out = benchmark / "verdicts.jsonl"
    run(capsys, "speech-ifeval", benchmark / "eval_data", benchmark / "poor", "--out", out, *judge)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["followed"] for row in rows] == [False, True, True, False, False]
    assert rows[0] == {
        "key": "0", "category": "closed_ended", "prompt": "What is said in 0?", "response": "Red", "followed": False,
    }  # fmt: skip


def test_wrong_input_of_speech_ifeval_is_one_line(capsys, benchmark):
    asked = ("speech-ifeval", benchmark / "eval_data", benchmark / "good")
    said = run(capsys, *asked, "--judge-url", "http://127.0.0.1:1/v1", status=2)
    assert said == "a judge needs both --judge-url and --judge-model\n"
    said = run(capsys, *asked, "--reference", benchmark / "good" / "creative_writing.jsonl", status=2)
    assert "must be what `python -m src.score speech-ifeval ... --json` prints" in said
    (benchmark / "good" / "creative_writing.jsonl").unlink()
    said = run(capsys, *asked, status=2)
    assert said == f"{benchmark / 'good'}: no response to 1 of 3 prompts; the first is '2'\n"
    assert "has none of closed_ended" in run(capsys, "speech-ifeval", benchmark, benchmark / "good", status=2)
