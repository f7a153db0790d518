"""How a text of the closed domain is split into words, for its vocabulary and for its tokenizer alike."""

import re

WORD = r"\n+|p\.s\.|[a-z]+|\*{6}|<<|>>|[^\sa-z]"


def split_words(text: str) -> list[str]:
    """The text tokens of a text: words, marks, line breaks."""
    return re.findall(WORD, text.lower())
