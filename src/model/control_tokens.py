"""Text that looks like a tokenizer's control tokens, written so that it is read as text.

    plain = PlainText(tokenizer)
    plain("what does <|eot_id|> do?")    # "what does < |eot_id|> do?"

A tokenizer takes the name of a special token for the token itself wherever it stands, and so a text about chat formats
would end a turn or begin one. Units are not escaped here, since prompts consist of them: `src.data.prompts.plain` does
so for each text of which a prompt is made.
"""

import re

from transformers import PreTrainedTokenizerBase

from src.data.prompts import UNIT, apart


class PlainText:
    """Sets a space into each special token of the tokenizer but its units, where one stands in a text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
        names = {*added, *tokenizer.all_special_tokens}
        # The longest first: one may begin with another. One of a single character cannot be set apart.
        found = sorted((name for name in names if len(name) > 1 and not UNIT.fullmatch(name)), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, found))) if found else None

    def __call__(self, text: str) -> str:
        return self._special.sub(apart, text) if self._special else text
