"""Progress of a generation, over all its tasks."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from src.grid.context import Context


class Progress:
    """Counts done work towards what the tasks have announced."""

    def __init__(self, context: "Context"):
        self.context = context
        self.done = self.total = 0

    def expect(self, count: int) -> None:
        self.total += count
        self.context.report(done=self.done, total=self.total)

    def advance(self, count: int) -> None:
        self.done += count
        self.context.report(done=self.done, total=self.total)
