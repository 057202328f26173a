"""A tiny template grammar: ``{slot}`` expands to one of the slot's alternatives, recursively.

Long lists keep every eighth alternative back (``held_out``), so that generated validation texts are made of
phrases that training never drew.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

SLOT = re.compile(r"\{([a-z_0-9]+)\}")
HOLD_OUT_EVERY = 8
HOLD_OUT_MIN = 16


class Grammar:
    """Expands templates; one instance per random stream."""

    def __init__(self, rules: Mapping[str, Sequence[str]], rng: random.Random, held_out: bool = False) -> None:
        self.rules = rules
        self.rng = rng
        self.held_out = held_out

    def choose(self, items: Sequence[str]) -> str:
        """Draw one item, honouring the hold-out of long lists."""
        if len(items) < HOLD_OUT_MIN:
            return self.rng.choice(items)
        kept = HOLD_OUT_EVERY - 1
        if self.held_out:
            return items[self.rng.randrange(len(items) // HOLD_OUT_EVERY) * HOLD_OUT_EVERY + kept]
        while True:
            index = self.rng.randrange(len(items))
            if index % HOLD_OUT_EVERY != kept:
                return items[index]

    def slot(self, name: str) -> str:
        """Expand one slot."""
        return self.expand(self.choose(self.rules[name]))

    def expand(self, template: str) -> str:
        """Replace every known ``{slot}`` of a template; unknown braces are left alone."""

        def replace(match: re.Match[str]) -> str:
            name = match.group(1)
            if name == "n":
                return str(self.rng.randint(2, 60))
            if name == "big":
                return str(self.rng.randint(1_000, 99_999))
            return self.slot(name) if name in self.rules else match.group(0)

        return SLOT.sub(replace, template)
