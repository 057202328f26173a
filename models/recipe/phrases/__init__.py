"""The phrase lists of the generators, one text file a list."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

Rules = dict[str, list[str]]


def _decode(item: str) -> str:
    text = item.removeprefix("\\") if item.startswith(("\\[", "\\#")) else item
    text = text.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")
    return text.replace("␣", " ").replace("∅", "")


@cache
def load(name: str) -> Rules:
    """Read ``name.txt``: ``[slot]`` headers, then the alternatives of the slot."""
    rules: Rules = {}
    slot: list[str] = []
    for line in (files(__package__) / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            slot = rules.setdefault(line[1:-1], [])
        else:
            slot += [_decode(item) for item in line.split(" | ")]
    return rules
