"""The tasks that a model is asked."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One kind of question to a model."""

    spoken: bool = False
    """Whether speech is in the prompt or in the response."""
    heard: bool = False
    """Whether speech is in the response, which the recognizer then hears."""


TASKS: dict[str, Task] = {
    "t2t": Task(),
    "ifeval": Task(),
    "sqa": Task(spoken=True, heard=True),
    "asr": Task(spoken=True),
    "tts": Task(spoken=True, heard=True),
}
"""Task -> what it is, in the order in which they are asked."""
