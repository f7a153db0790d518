"""Speech-IFEval: its modified checks, its rates against published ones, and its judge against a local endpoint."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from src.evaluate import ifeval, speech_ifeval
from src.evaluate.speech_ifeval import Judge

KEY = "sk-not-to-be-seen"


def row(metric: str = "open", name: str = "punctuation:no_comma", number: int = 7, **kwargs: Any) -> dict[str, Any]:
    """A prompt in the authors' schema."""
    made = {
        "id": number,
        "audio_filepath": f"speech/{number}.wav",
        "instruction": f"Say what you hear in recording {number}.",
        "dataset": "speech",
        "metric": metric,
    }
    if metric == "cot":
        del made["id"]
        return made
    return {**made, "instruction_id_list": [name], "kwargs": [kwargs]}


def rule(name: str, **kwargs: Any) -> dict[str, Any]:
    return {"key": "1", "prompt": "x", "category": "closed_ended", "instruction_id_list": [name], "kwargs": [kwargs]}


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


@pytest.mark.parametrize(
    ("response", "bullets"),
    [
        ("* red\n- blue", 2),
        ("Colors:\n\n• **red**: warm\n\n• blue", 2),
        ("Here:\n1. red\n2. blue\n10) green", 3),
        ("• red\n\t+ a shade\n• blue", 2),
        ("**Colors**\n• red\n* blue", 2),
        ("red and 2 blue", 0),
    ],
)
def test_bullets_also_start_with_a_dot_or_a_digit(response, bullets):
    for number in range(4):
        asked = rule("detectable_format:number_bullet_lists", num_bullets=number)
        assert speech_ifeval.follows(asked, response) == (number == bullets)


@pytest.mark.parametrize(
    ("response", "paragraphs"),
    [
        ("one", 1),
        ("one\ntwo", 2),
        ("one\n\n\ntwo\nthree\n", 3),
        ("one\n\n***\n\ntwo", 2),
        ("***\none\n***", 1),
        ("one *** two", 2),
    ],
)
def test_paragraphs_end_at_line_breaks(response, paragraphs):
    for number in range(5):
        asked = rule("length_constraints:number_paragraphs", num_paragraphs=number)
        assert speech_ifeval.follows(asked, response) == (number == paragraphs)


def test_empty_paragraph_in_between_is_wrong():
    for number in range(4):
        assert not speech_ifeval.number_paragraphs("one\n \ntwo", number)


def test_case_is_checked_in_any_language():
    finnish = "JÄRVEN RANNALLA ON PUNAINEN TALO"
    upper, lower = rule("change_case:english_capital"), rule("change_case:english_lowercase")
    assert speech_ifeval.follows(upper, finnish)
    assert speech_ifeval.follows(lower, finnish.lower())
    assert not speech_ifeval.follows(upper, finnish.title())
    assert not speech_ifeval.follows(lower, finnish.title())
    assert not ifeval.check(lower, finnish.lower()).strict[0], "IFEval's own wants English"


@pytest.mark.parametrize("response", ["The answer is: red", '"the answer is: red"', "'The answer is:' red"])
def test_quotation_marks_before_the_repeated_text_are_forgiven(response):
    assert speech_ifeval.follows(rule("combination:repeat_prompt", prompt_to_repeat="The answer is:"), response)


def test_text_before_the_repeated_text_is_not_forgiven():
    asked = rule("combination:repeat_prompt", prompt_to_repeat="The answer is:")
    assert not speech_ifeval.follows(asked, "Well. The answer is: red")


def test_other_checks_are_those_of_ifeval_and_strict():
    quoted = rule("startend:quotation")
    assert speech_ifeval.follows(quoted, '"red"')
    assert not speech_ifeval.follows(quoted, 'Here it is:\n"red"'), "what loose would forgive"
    assert not speech_ifeval.follows(rule("punctuation:no_comma"), " ")


def test_published_rates_are_means_of_the_categories():
    """The authors' leaderboard: closed-ended, creative writing, chain of thought, IFrate.

    Without two models: DeSTA2's three rates do not average to its IFrate, and DiVA's first is no count out of 933.
    """
    sizes = {"closed_ended": 933, "creative_writing": 400, "chain_of_thought": 200}
    published = {
        "BLSP-emo": (66.35, 63.75, 50.50, 60.20),
        "Qwen2-Audio-Instruct": (41.59, 67.75, 32.00, 47.11),
        "SALMONN": (37.41, 61.25, 12.00, 36.89),
        "Qwen-Audio-Chat": (10.93, 56.00, 32.00, 32.98),
        "LTU-AS": (28.83, 47.75, 11.00, 29.19),
        "Llama3-8B-Instruct": (93.35, 93.75, 90.50, 92.53),
    }
    for name, (*shares, mean) in published.items():
        examples: list[dict[str, Any]] = []
        followed: list[bool | None] = []
        for (category, n), share in zip(sizes.items(), shares, strict=True):
            right = round(share / 100 * n)
            examples += [{"category": category, "instruction_id_list": []}] * n
            followed += [True] * right + [False] * (n - right)
        found = speech_ifeval.rates(examples, followed)
        assert [round(100 * entry["value"], 2) for entry in found["categories"].values()] == shares, name
        assert 100 * found["overall"]["value"] == pytest.approx(mean, abs=0.006), name
        assert found["overall"]["n"] == 1533


def test_published_forgetting_rate():
    assert round(speech_ifeval.forgetting_rate(89.23, 92.53), 2) == -3.57
    assert speech_ifeval.forgetting_rate(0.6, 0.5) == pytest.approx(20)
    with pytest.raises(ValueError, match="must be above 0"):
        speech_ifeval.forgetting_rate(0.5, 0.0)


def test_rates_by_group_and_of_what_there_is():
    names = ["startend:quotation", "detectable_format:title", "change_case:english_capital", "keywords:existence"]
    examples = [{"category": "closed_ended", "instruction_id_list": [name]} for name in names]
    examples += [{"category": "chain_of_thought", "instruction_id_list": []}] * 2
    found = speech_ifeval.rates(examples, [True, False, True, True, True, None])
    assert {name: (entry["value"], entry["n"]) for name, entry in found["groups"].items()} == {
        "change_case": (1, 1),
        "keywords": (1, 1),
        "wrapping": (0.5, 2),
    }
    assert [entry["n"] for entry in found["categories"].values()] == [4, 1]
    assert found["overall"]["value"] == pytest.approx((0.75 + 1) / 2)


def test_error_of_the_mean_is_that_of_independent_estimates():
    entries = {str(i): {"value": 0.5, "n": 10, "standard_error": error} for i, error in enumerate((0.3, 0.4))}
    assert speech_ifeval.overall(entries)["standard_error"] == pytest.approx(0.25)


def test_prompts_of_the_authors_folder(tmp_path):
    """Three files, of which the chain-of-thought rows have neither id nor constraint."""
    closed, creative, _ = (tmp_path / name for name in speech_ifeval.FILES)
    write(closed, row("wer", number=0), row("accuracy", number=1))
    paragraphs = row("open", "length_constraints:number_paragraphs", 934, num_paragraphs=2)
    write(creative, {**paragraphs, "key": "paragraphs-0"})
    write(tmp_path / "closed_ended_questions-woprompt.jsonl", row("wer", number=0))
    found = speech_ifeval.load(tmp_path)
    assert [each["category"] for each in found] == ["closed_ended", "closed_ended", "creative_writing"]
    write(tmp_path / speech_ifeval.FILES[2], row("cot", number=2))
    found = speech_ifeval.load(tmp_path)
    assert [each["key"] for each in found[:3]] == ["0", "1", "934"]
    assert found[3]["key"] == "speech/2.wav Say what you hear in recording 2."
    assert (found[3]["category"], found[3]["instruction_id_list"]) == ("chain_of_thought", [])
    assert (found[2]["prompt"], found[2]["audio_filepath"]) == ("Say what you hear in recording 934.", "speech/934.wav")
    for example in found:
        response = {"response": "red", **{name: value for name, value in example.items() if name != "key"}}
        assert speech_ifeval.identify(response) == example["key"]


def test_prompts_of_the_hub(monkeypatch):
    """Arrow fills with None what a row does not have."""
    import datasets

    repeat = row("wer", "combination:repeat_prompt", 1, prompt_to_repeat="x")
    rows = {
        speech_ifeval.FILES[0]: [row("wer", number=0), repeat],
        speech_ifeval.FILES[1]: [row("open", number=2)],
        speech_ifeval.FILES[2]: [{**row("cot", number=3), "id": None}],
    }
    patterns = []

    def load_dataset(source, config, *, data_files, split, revision):
        patterns.append(data_files)
        return datasets.Dataset.from_list(rows[data_files.removeprefix("**/")])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = speech_ifeval.load("kehanlu/Speech-IFEval", "abc")
    assert patterns == [f"**/{name}" for name in speech_ifeval.FILES]
    assert [each["key"][:12] for each in found] == ["0", "1", "2", "speech/3.wav"]
    assert [each["kwargs"] for each in found[:2]] == [[{}], [{"prompt_to_repeat": "x"}]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"id": 9}, ':2: must have an "instruction", and as "metric" one of wer, accuracy, open, cot'),
        ({**row("open"), "metric": "bleu"}, ':2: must have an "instruction", and as "metric"'),
        (row("open", number=1), ":2: a second prompt with key 1; the first is"),
        (row("open", "colors:red"), ':2: unknown instruction "colors:red"'),
        (row("open", "detectable_format:number_bullet_lists"), ":number_bullet_lists needs num_bullets"),
        ({"instruction": "x", "metric": "cot"}, ':2: must have "id", or "audio_filepath" and "instruction"'),
    ],
)
def test_problem_of_a_prompts_file_is_one_line(tmp_path, wrong, message):
    path = write(tmp_path / "prompts.jsonl", row("wer", number=1), wrong)
    with pytest.raises(ValueError) as raised:
        speech_ifeval.load(path)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(str(path))
    assert message in line


def test_folder_without_the_files_says_which(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has none of closed_ended_questions\.jsonl, creative_writing\.jsonl"):
        speech_ifeval.load(tmp_path)


class Endpoint(HTTPServer):
    """Answers in turn with what the test put into `answers`: (status, body). What it was sent is in `received`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, object]] = []
        self.received: list[tuple[str, dict[str, str], dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def say(self, *contents: str | None) -> None:
        self.answers += [(200, {"choices": [{"message": {"content": content}}]}) for content in contents]


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append((self.path, dict(self.headers), body))
        status, answer = self.server.answers.pop(0)
        said = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"{self.server.url}/elsewhere")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def endpoint(monkeypatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("JUDGE_KEY", KEY)
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def judge_at(endpoint: Endpoint, **settings: Any) -> Judge:
    return Judge(endpoint.url, "some-model", "JUDGE_KEY", **{"pause": 0.001, "requests": 1, "timeout": 20, **settings})


REASONING = {"key": "1", "prompt": "Who speaks? Think step by step.", "category": "chain_of_thought"}


def test_judge_asks_as_openai_is_asked(endpoint):
    endpoint.say("The answer lists its steps.\n\n**Verdict: yes**")
    assert judge_at(endpoint)(REASONING, "First, the voice is low. So: a man.") is True
    ((path, headers, body),) = endpoint.received
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["temperature"]) == ("some-model", 0)
    system, user = body["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert REASONING["prompt"] in user["content"]
    assert "First, the voice is low. So: a man." in user["content"]


@pytest.mark.parametrize(
    ("content", "verdict"),
    [
        ("Verdict: yes", True),
        ("verdict: NO.", False),
        ("Yes, it might seem so, but no.\nVerdict: no", False),
        ("**Verdict:** **yes**", True),
        ("No", False),
        ("It only states a result.\nno", False),
        ("I cannot tell.", None),
        ("Is it yes or no?", None),
        ("", None),
        (None, None),
    ],
)
def test_verdict_is_the_last_word(endpoint, content, verdict):
    endpoint.say(content)
    assert judge_at(endpoint)(REASONING, "a man") is verdict


def test_no_key_is_sent_without_one(endpoint):
    endpoint.say("Verdict: no")
    Judge(endpoint.url, "some-model")(REASONING, "a man")
    assert "Authorization" not in endpoint.received[0][1]


def test_what_fails_for_a_while_is_asked_again(endpoint):
    endpoint.answers += [(503, b"busy"), (429, b"slower, please")]
    endpoint.say("Verdict: yes")
    assert judge_at(endpoint)(REASONING, "First, ...") is True
    assert len(endpoint.received) == 3
    assert endpoint.received[0][2] == endpoint.received[2][2]


def test_what_fails_for_good_is_one_line(endpoint):
    endpoint.answers += [(500, b"broken")] * 3
    with pytest.raises(ConnectionError, match=r"the judge at http.* did not answer in 3 attempts \(HTTP 500: broken\)"):
        judge_at(endpoint, retries=2)(REASONING, "a man")


def test_endpoint_that_is_not_there_is_one_line(endpoint, monkeypatch):
    judge = judge_at(endpoint, retries=1)
    endpoint.server_close()
    with pytest.raises(ConnectionError, match="did not answer in 2 attempts"):
        judge(REASONING, "a man")


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, f'{{"error": "wrong key {KEY}"}}'.encode(), r"refused a request \(HTTP 401: .*wrong key \*\*\*"),
        (302, b"", r"refused a request \(HTTP 302"),
        (200, b"<html>", "does not answer as OpenAI's chat completions do: <html>"),
        (200, {"choices": []}, "does not answer as OpenAI's chat completions do"),
    ],
)
def test_refusal_is_not_repeated_and_shows_no_key(endpoint, status, body, message):
    endpoint.answers.append((status, body))
    with pytest.raises(ValueError, match=message) as raised:
        judge_at(endpoint)(REASONING, "a man")
    assert len(endpoint.received) == 1
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("key", [None, "", "two\nlines", "sk–dash"])
def test_key_that_cannot_be_sent_is_not_shown(monkeypatch, key):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("JUDGE_KEY", key)
    with pytest.raises(ValueError, match=r"^the environment variable JUDGE_KEY must hold the judge's key$"):
        Judge("https://host/v1", "some-model", "JUDGE_KEY")


def test_url_that_is_none_is_named():
    with pytest.raises(ValueError, match=r"must be as https://host/v1, not 'host/v1'"):
        Judge("host/v1", "some-model")


def test_judge_is_not_shown_its_key(endpoint):
    assert KEY not in repr(judge_at(endpoint))


def test_verdicts_of_rules_and_of_the_judge_keep_their_order(endpoint):
    reasoning: dict[str, Any] = {**REASONING, "instruction_id_list": [], "kwargs": []}
    examples = [reasoning, rule("punctuation:no_comma"), reasoning, rule("punctuation:no_comma"), reasoning, reasoning]
    endpoint.say("Verdict: no", "Verdict: yes", "who knows")
    found = speech_ifeval.verdicts(examples, ["a man", "a, b", "first", "ab", " ", "x"], judge_at(endpoint))
    assert found == [False, False, True, True, False, None]
    assert len(endpoint.received) == 3, "an empty response is not asked about"


def test_chain_of_thought_needs_a_judge():
    with pytest.raises(ValueError, match="1 chain-of-thought responses need a judge"):
        speech_ifeval.verdicts([REASONING], ["a man"])
