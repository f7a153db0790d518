"""Translated prompts: which of them count, and which language their responses are in."""

from pathlib import Path

import pytest

from src.evaluate import ifeval_prompts, languages

OFFICIAL = Path(__file__).parents[3] / "shared" / "data" / "ifeval" / "input_data.jsonl"
FINNISH = "Järven rannalla on punainen talo, jossa asuu vanha mies."
SWEDISH = "Vid sjön står ett rött hus där en gammal man bor."


def test_prompts_that_ask_for_a_language_are_left_out():
    asks = {"key": 1, "instruction_id_list": ["punctuation:no_comma", "language:response_language"]}
    asks_not = {"key": 2, "instruction_id_list": ["punctuation:no_comma"]}
    assert languages.comparable([asks, asks_not]) == [asks_not]


@pytest.mark.skipif(not OFFICIAL.is_file(), reason="the official prompts are not here")
def test_510_of_the_541_official_prompts_count():
    """As the Finnish evaluation reports it."""
    prompts = ifeval_prompts.load(OFFICIAL)
    assert (len(prompts), len(languages.comparable(prompts))) == (541, 510)


def test_share_of_responses_in_a_language():
    responses = [FINNISH, SWEDISH, "", "123"]
    assert [languages.detect(response) for response in responses] == ["fi", "sv", None, None]
    share = languages.share_in("fi", responses)
    assert (share["value"], share["n"]) == (1 / 4, 4)


def test_unknown_language_is_named():
    languages.require_known("fi")
    with pytest.raises(ValueError, match=r"there is no language 'finnish'; langdetect knows af, ar, .* fi, "):
        languages.require_known("finnish")
