"""One stage from plain settings and folders, for processes that tests start."""

from pathlib import Path
from typing import Any

from src.data.replay import Replay
from src.grid.context import Context
from src.grid.typed import typed
from src.model.settings import Adapter
from src.train.methods import made_of
from src.train.settings import Optimization
from src.train.stage import choose, train_stage


def run(config: dict[str, Any], inputs: dict[str, Path], out: Path, context: Context) -> dict[str, Any]:
    """config: stage, adapter, optimization, replay, method; sets (by default its own) and replayed. inputs: base,
    previous, fisher, and examples by set. The method draws its text from `text`."""
    settings = typed(Optimization, config["optimization"])
    own = {name: inputs[name] for name in config.get("sets", [config["stage"]])}
    earlier = {name: inputs[name] for name in config.get("replayed", [])}
    replay = typed(Replay, config["replay"]) if config.get("replay") else None
    method = made_of(config["method"]) if config.get("method") else None
    text = None if "text" in earlier else inputs.get("text")
    chosen = choose(config["stage"], own, earlier, replay, settings, method, text)
    adapter, previous = typed(Adapter, config["adapter"]), inputs.get("previous")
    others = method, inputs.get("fisher")
    return train_stage(config["stage"], chosen, inputs["base"], previous, adapter, settings, out, context, *others)
