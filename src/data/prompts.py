"""The prompt formats of the three stages, as plain text: what the user says and what the assistant answers.

    stage  user                        assistant
    ASR    instruction + units         transcript
    TTS    instruction + text          word, its units, word, its units ...
    SQA    units of the question       transcript, blank line, text answer, blank line, interleaved answer

A unit is written `<|17|>`; the tokenizer knows each as one token. The chat template is applied later, by the tokenizer.
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
UNIT = re.compile(r"<\|(\d+)\|>")


def unit_token(unit: int) -> str:
    return f"<|{unit}|>"


def unit_text(units: Sequence[int]) -> str:
    """[3, 17] -> "<|3|><|17|>"."""
    return "".join(map(unit_token, units))


def interleave(words: Sequence[str], units: Sequence[Sequence[int]]) -> str:
    """Each word followed by its own units: "paris<|3|><|9|> rome<|4|>"."""
    return " ".join(word + unit_text(own) for word, own in zip(words, units, strict=True))


def flatten(units: Sequence[Sequence[int]]) -> list[int]:
    """The units of an utterance from those of its words; a run that crosses a word boundary is one unit."""
    flat: list[int] = []
    for own in units:
        flat.extend(unit for i, unit in enumerate(own) if i or not flat or flat[-1] != unit)
    return flat


def asr(units: Sequence[int], instruction: str) -> str:
    return f"{instruction} {unit_text(units)}"


def tts(text: str, instruction: str) -> str:
    return f"{instruction} {text}"


def sqa(units: Sequence[int]) -> str:
    return unit_text(units)


def sqa_response(question: str, answer: str, words: Sequence[str], units: Sequence[Sequence[int]]) -> str:
    return SEPARATOR.join((question, answer, interleave(words, units)))


@dataclass(frozen=True)
class SqaParts:
    """What a response to a spoken question holds."""

    transcript: str
    text: str
    units: tuple[int, ...]
    well_formed: bool
    """Three non-empty parts, units in the third and only there."""


def without_units(text: str) -> str:
    return " ".join(UNIT.sub(" ", text).split())


def units_of(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in UNIT.findall(text))


def parse_sqa(response: str) -> SqaParts:
    """Take a response apart. Where the format is broken, what can be read is kept: a single part counts as the text
    answer too, and units are taken wherever they stand."""
    parts = [part.strip() for part in re.split(r"\n\s*\n", response.strip())]
    transcript = without_units(parts[0])
    text = without_units(parts[1]) if len(parts) > 1 else transcript
    spoken = units_of(parts[2]) if len(parts) > 2 else units_of(response)
    well_formed = (
        len(parts) == 3 and bool(transcript) and bool(text) and bool(spoken) and not UNIT.search(parts[0] + parts[1])
    )
    return SqaParts(transcript, text, spoken, well_formed)
