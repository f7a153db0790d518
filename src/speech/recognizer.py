"""The recognizer that hears what spoken answers contain: fitted, and tested on answers that it has not heard."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jiwer
import numpy.typing as npt

from src.data import jsonl
from src.speech import load
from src.speech.audio import to_int16
from src.speech.protocols import Audio, Recognizer
from src.speech.quantizer import load_quantizer
from src.speech.settings import RecognizerConfig
from src.speech.synthesizer import make_synthesizer
from src.speech.threads import one_thread

if TYPE_CHECKING:
    from src.grid.context import Context


def count_errors(references: Sequence[str], heard: Sequence[str]) -> dict[str, float | int]:
    """Word error rate over all of `heard`, with the counts it is made of."""
    result = jiwer.process_words(list(references), list(heard))
    return {
        "wer": result.wer,
        "n": len(references),
        "hits": result.hits,
        "substitutions": result.substitutions,
        "deletions": result.deletions,
        "insertions": result.insertions,
    }


def in_batches(recognizer: Recognizer, audios: Sequence[npt.NDArray[Any]], size: int = 32) -> list[str]:
    """Recognize any number of audios, `size` at a time."""
    return [text for i in range(0, len(audios), size) for text in recognizer(audios[i : i + size])]


@one_thread
def fit_to(
    settings: RecognizerConfig, corpus: Path, fitted: Path, vocoder_folder: Path, out: Path, context: "Context"
) -> dict[str, Any]:
    """Fit the recognizer to the utterances of the artifact `fitted` of a quantizer, and test it on judge.jsonl.

    Writes the recognizer's own files, wer.json and judge.jsonl {id, text, heard_natural, heard_resynthesized}.
    Homophones count as the same word.
    """
    encoder, quantizer = load_quantizer(fitted)
    vocoder = load.vocoder(vocoder_folder)

    def vocoded(audio: npt.NDArray[Any]) -> Audio:
        return vocoder(quantizer(encoder(audio)).tolist())

    recognizer = settings.fit(corpus, fitted, vocoded, out, context)
    held_out = list(jsonl.read(corpus / "judge.jsonl"))
    synthesizer = make_synthesizer(settings.synthesizer, stream="judge")
    audios = [to_int16(synthesizer(row["text"]).audio) for row in held_out]
    heard_natural = in_batches(recognizer, audios)
    heard_resynthesized = in_batches(recognizer, [vocoded(audio) for audio in audios])
    references = [recognizer.canonical(row["text"]) for row in held_out]
    wer = {
        "natural": count_errors(references, heard_natural),
        "resynthesized": count_errors(references, heard_resynthesized),
    }
    (out / "wer.json").write_text(json.dumps(wer, ensure_ascii=False), encoding="utf-8")
    jsonl.write(
        out / "judge.jsonl",
        (
            {"id": row["id"], "text": row["text"], "heard_natural": natural_text, "heard_resynthesized": vocoded_text}
            for row, natural_text, vocoded_text in zip(held_out, heard_natural, heard_resynthesized, strict=True)
        ),
    )
    return {f"wer_{kind}": round(float(counts["wer"]), 4) for kind, counts in wer.items()}
