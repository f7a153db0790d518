"""Every sentence of the corpus, spoken and written as units, word by word."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.data import jsonl
from src.data.unit_format import Units
from src.speech.audio import read_audio, write_audio
from src.speech.quantizer import load_quantizer
from src.speech.settings import SynthesizerConfig, UnitsConfig
from src.speech.synthesizer import make_synthesizer
from src.speech.threads import one_thread
from src.speech.units_of_words import WordAligner, without_repeats

if TYPE_CHECKING:
    from src.grid.context import Context

READ_ALOUD = ("asr", "tts", "eval_asr")
"""Lists of {id, text}; recognition and synthesis may share utterances, by id and text. The others are lists of {id,
question}, with an answer to speak or, for evaluation, the name of a set."""


class WordUnits:
    """Speaks texts one after another and gives the units of their words."""

    def __init__(self, synthesizer: SynthesizerConfig, quantizer: Path, stream: str) -> None:
        self._synthesizer = make_synthesizer(synthesizer, stream)
        self._encoder, self._quantizer = load_quantizer(quantizer)
        self._aligner = WordAligner()

    def read(self, text: str, audio: Path, audio_file: Path | None = None) -> dict[str, Any]:
        """The same of a text that is read out in the file `audio`; its words are not told apart."""
        samples = read_audio(audio)
        if audio_file:
            write_audio(audio_file, samples)
        units = without_repeats(self._quantizer(self._encoder(samples)))
        return {"text": text, "words": [text], "units": [units]}

    def __call__(self, text: str, audio_file: Path | None = None) -> dict[str, Any]:
        """{text, words, units: a list of unit ids for each word}; the audio goes to `audio_file` if one is named."""
        utterance = self._synthesizer(text)
        if audio_file:
            write_audio(audio_file, utterance.audio)
        units = self._quantizer(self._encoder(utterance.audio))
        words = [word.text for word in utterance.words]
        return {"text": text, "words": words, "units": self._aligner(units, utterance.words, self._encoder.frame_rate)}


@one_thread
def speak_corpus(
    settings: UnitsConfig, names: Sequence[str], corpus: Path, fitted: Path, out: Path, context: "Context"
) -> dict[str, Any]:
    """Write asr, tts, eval_asr .jsonl {id, text, words, units}, sqa.jsonl {id, question: {text, words, units}, answer:
    {..}}, eval_qa.jsonl {id, set, question: {..}}, units.json, and audio/<id>.flac of the first questions of each
    evaluation set.

    names: which of these lists. fitted: artifact of a quantizer. Every list has a voice stream of its own: what one
    holds does not change the audio of another.
    """
    lists = {name: list(jsonl.read(corpus / f"{name}.jsonl")) for name in names}
    total = sum(map(len, lists.values()))
    done = words = units = 0
    spoken: dict[tuple[str, str], dict[str, Any]] = {}
    kept: dict[str, int] = {}
    for name, rows in lists.items():
        speak = WordUnits(settings.synthesizer, fitted, stream=name)
        written: list[dict[str, Any]] = []
        for row in rows:
            if name in READ_ALOUD:
                key = (row["id"], row["text"])
                if key not in spoken:
                    spoken[key] = speak(row["text"])
                parts = [spoken[key]]
                written.append({"id": row["id"], **parts[0]})
            elif name == "sqa":
                parts = [speak(row["question"]), speak(row["answer"])]
                written.append({"id": row["id"], "question": parts[0], "answer": parts[1]})
            else:
                kept[row["set"]] = kept.get(row["set"], 0) + 1
                keep = kept[row["set"]] <= settings.keep_audio
                kept_file = out / "audio" / f"{row['id']}.flac" if keep else None
                if "audio" in row:
                    parts = [speak.read(row["question"], corpus / row["audio"], kept_file)]
                else:
                    parts = [speak(row["question"], kept_file)]
                written.append({"id": row["id"], "set": row["set"], "question": parts[0]})
            words += sum(len(part["words"]) for part in parts)
            units += sum(len(own) for part in parts for own in part["units"])
            done += 1
            context.report(done=done, total=total)
        jsonl.write(out / f"{name}.jsonl", written)
    encoder, quantizer = load_quantizer(fitted)
    Units(encoder.frame_rate, quantizer.clusters, repeats=False).write(out)
    return {"utterances": total, "words": words, "units_per_word": round(units / words, 2)}
