from src.report.looks import ORIGINAL, WITH, WITHOUT, looks

PLAIN = {"merge": "none", "alpha": 16, "method": "none", "settings": {}}


def row(label: str, replay: bool, **other: object) -> dict:
    return {"label": label, "strategy": label, "replay": replay, **PLAIN, **other}


def test_color_and_fill_say_replay_and_shape_says_the_rest() -> None:
    rows = [row("original", False), row("none", False), row("ties", False, merge="ties"), row("replay", True)]
    rows += [row("ties_replay", True, merge="ties"), row("l2", False, method="l2"), row("a", False, alpha=14)]
    found = looks(rows)
    assert found["original"].color == ORIGINAL
    assert {name for name, look in found.items() if look.color == WITH} == {"replay", "ties_replay"}
    assert {name for name, look in found.items() if look.color == WITHOUT} == {"none", "ties", "l2", "a"}
    assert all(look.filled == (look.color == WITH) for name, look in found.items() if name != "original")
    same = [(found[name].marker, found[name].line, found[name].hatch) for name in ("none", "replay")]
    assert same[0] == same[1] and found["ties"].marker == found["ties_replay"].marker
    assert len({found[name].marker for name in ("none", "ties", "l2", "a")}) == 4


def test_values_of_a_setting_have_shapes_of_their_own() -> None:
    rows = [row(f"r{ratio}", True, settings={"replay.ratio": ratio}) for ratio in (0.1, 0.2, 0.5)]
    assert len({look.marker for look in looks(rows).values()}) == 3
