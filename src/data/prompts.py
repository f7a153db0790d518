"""The prompt formats of the three stages, as plain text: what the user says and what the assistant answers.

    stage  user                        assistant
    ASR    instruction + units         transcript
    TTS    instruction + text          word, its units, word, its units ...
    SQA    units of the question       transcript, blank line, text answer, blank line, interleaved answer

A unit is written `<|17|>`; the tokenizer knows each as one token. Where a text itself has such a thing, it is written
`< |17|>` in the prompt and stays text. The chat template is applied later, by the tokenizer.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

ASR_INSTRUCTIONS = (
    "please repeat the following words:",
    "write down the following speech:",
    "transcribe this audio:",
    "what was said in this recording:",
    "convert the speech to text:",
    "turn this audio into text:",
    "listen and write the words:",
    "give me the transcript:",
    "provide a transcript of this speech:",
    "write the words you hear:",
)
TTS_INSTRUCTIONS = (
    "please speak out loud the following words:",
    "read this text aloud:",
    "turn this text into speech:",
    "say this sentence out loud:",
    "convert the text to audio:",
    "pronounce the following words:",
    "recite this sentence:",
    "make a voice recording of this text:",
    "utter the following text:",
    "produce speech for this sentence:",
)
SEPARATOR = "\n\n"
UNIT = re.compile(r"<\|([0-9]+)\|>")


def unit_token(unit: int) -> str:
    return f"<|{unit}|>"


def unit_text(units: Sequence[int]) -> str:
    """[3, 17] -> "<|3|><|17|>"."""
    return "".join(map(unit_token, units))


def apart(name: re.Match[str]) -> str:
    """The name of a token with a space in it, so that no tokenizer takes it for the token."""
    return f"{name[0][0]} {name[0][1:]}"


def plain(text: str) -> str:
    """A text as it stands in a prompt: without units."""
    return UNIT.sub(apart, text)


def interleave(words: Sequence[str], units: Sequence[Sequence[int]]) -> str:
    """Each word followed by its own units: "paris<|3|><|9|> rome<|4|>"."""
    return " ".join(plain(word) + unit_text(own) for word, own in zip(words, units, strict=True))


def flatten(units: Sequence[Sequence[int]], repeats: bool) -> list[int]:
    """The units of an utterance from those of its words.

    repeats: every unit stays, one a frame. Without, a run of a unit was made one within each word, and a run that
    crosses a word boundary is made one here.
    """
    flat: list[int] = []
    for own in units:
        flat.extend(unit for i, unit in enumerate(own) if repeats or i or not flat or flat[-1] != unit)
    return flat


def asr(units: Sequence[int], instruction: str) -> str:
    return f"{instruction} {unit_text(units)}"


def tts(text: str, instruction: str) -> str:
    return f"{instruction} {plain(text)}"


def sqa(units: Sequence[int]) -> str:
    return unit_text(units)


def sqa_response(question: str, answer: str, words: Sequence[str], units: Sequence[Sequence[int]]) -> str:
    return SEPARATOR.join((plain(question), plain(answer), interleave(words, units)))


@dataclass(frozen=True)
class SqaParts:
    """What a response to a spoken question holds, as plain words and unit ids."""

    transcript: str
    text: str
    units: tuple[int, ...]
    well_formed: bool
    """Transcript, text answer and units are there, with blank lines between them, and the last part alone has units."""


def without_units(text: str) -> str:
    return " ".join(UNIT.sub(" ", text).split())


def units_of(text: str) -> tuple[int, ...]:
    """The units in a text; a number of ten digits or more is none."""
    return tuple(int(digits) for digits in UNIT.findall(text) if len(digits) < 10)


def parse_sqa(response: str) -> SqaParts:
    """Take a response apart: its first part is the transcript, the parts from the third on that has units are the
    spoken answer, and those between are the text answer, which may have blank lines of its own.

    Where the format is broken, what can be read is kept. Single line breaks are taken for blank lines if that gives at
    least three parts with units in the last alone. Without a spoken answer behind it the text answer goes on to the
    end, and units are taken wherever they stand. A single part counts as transcript and as text answer.
    """
    response = re.sub(r"\r\n?", "\n", response).strip()
    parts = re.split(r"\n\s*\n", response)
    lines = [line for line in response.split("\n") if line.strip()]
    by_lines = len(parts) < 3 <= len(lines) and not UNIT.search(" ".join(lines[:-1])) and bool(UNIT.search(lines[-1]))
    if by_lines:
        parts = lines
    start = next((i for i, part in enumerate(parts) if i >= 2 and UNIT.search(part)), len(parts))
    transcript = without_units(parts[0])
    text = without_units(" ".join(parts[1:start])) if len(parts) > 1 else transcript
    units = units_of(" ".join(parts[start:])) or units_of(response)
    alone = start == len(parts) - 1 and not UNIT.search(" ".join(parts[:start]))
    return SqaParts(transcript, text, units, alone and not by_lines and bool(transcript and text and units))
