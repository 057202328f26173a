"""Obfuscations and noise: what an attacker types to slip past a filter, and what honest people mistype."""

from __future__ import annotations

import codecs
import random
import re

LEET = {"a": "4@", "e": "3", "i": "1!", "o": "0", "s": "5$", "t": "7", "l": "1", "b": "8", "g": "9"}
NEIGHBOURS = {
    "a": "sq",
    "e": "wr",
    "i": "uo",
    "o": "ip",
    "s": "ad",
    "t": "ry",
    "n": "bm",
    "r": "et",
    "l": "k",
    "h": "gj",
    "d": "sf",
    "c": "xv",
    "u": "yi",
    "m": "n",
}
SIMILAR = {"a": "а", "e": "е", "o": "о", "c": "с", "p": "р", "i": "і"}


def leet(text: str, rng: random.Random) -> str:
    """Digits and signs for some letters."""
    share = rng.uniform(0.2, 0.8)
    return "".join(rng.choice(LEET[c.lower()]) if c.lower() in LEET and rng.random() < share else c for c in text)


def typos(text: str, rng: random.Random) -> str:
    """Swapped, doubled, missing or neighbouring letters."""
    share = rng.uniform(0.02, 0.08)
    out: list[str] = []
    for c in text:
        if c.isalpha() and rng.random() < share:
            kind = rng.random()
            if kind < 0.3:
                continue
            if kind < 0.6:
                c = rng.choice(NEIGHBOURS.get(c.lower(), c))
            elif kind < 0.8:
                c += c
            elif out:
                out.insert(len(out) - 1, c)
                continue
        out.append(c)
    return "".join(out)


def spaced(text: str, rng: random.Random) -> str:
    """Letters of some words pulled apart."""
    sign = rng.choice([" ", " ", ".", "-", "_"])
    share = rng.choice([0.15, 0.4, 1.0])
    return " ".join(sign.join(w) if len(w) > 2 and rng.random() < share else w for w in text.split(" "))


def squeezed(text: str, rng: random.Random) -> str:
    """Spaces lost between some words."""
    share = rng.uniform(0.1, 0.5)
    return "".join(c for c in text if c != " " or rng.random() > share)


def decorated(text: str, rng: random.Random) -> str:
    """Punctuation noise around words."""
    sign = rng.choice(["*", "_", "~", "!", "...", "|", '"'])
    return " ".join(f"{sign}{w}{sign}" if rng.random() < 0.3 else w for w in text.split(" "))


def look_alikes(text: str, rng: random.Random) -> str:
    """Some letters from another alphabet (the normaliser undoes most of them)."""
    share = rng.uniform(0.05, 0.3)
    return "".join(SIMILAR[c] if c in SIMILAR and rng.random() < share else c for c in text)


def shouting(text: str, rng: random.Random) -> str:
    """Upper or changing case (the tokenizer lowers it) with many signs."""
    return text.upper() + rng.choice(["", "!", "!!!", "!?"])


def half_read(text: str, rng: random.Random) -> str:
    """Leet as the normaliser gives it back: words that are mostly letters are read again, with l and i taken for each other."""
    words = []
    for word in leet(text, rng).split(" "):
        if 2 * sum(c.isalpha() for c in word) >= len(word):
            one = "i" if rng.random() < 0.8 else "l"
            word = word.translate(str.maketrans({"4": "a", "@": "a", "3": "e", "1": one, "!": "i", "0": "o", "5": "s", "$": "s", "7": "t", "8": "b", "9": "g"}))
        words.append(word)
    return " ".join(words)


def backwards(text: str, rng: random.Random) -> str:
    """Each word from its end, or the whole text."""
    return text[::-1] if rng.random() < 0.25 else " ".join(w[::-1] for w in text.split(" "))


def rot13(text: str, rng: random.Random) -> str:
    """The alphabet turned by thirteen, sometimes only in part: where the normaliser is not sure it leaves a sentence alone."""
    return " ".join(codecs.encode(w, "rot13") for w in text.split(" ")) if rng.random() < 0.7 else "".join(
        codecs.encode(part, "rot13") if rng.random() < 0.6 else part for part in re.split(r"(?<=[.!?:\n])", text)
    )


KINDS = (leet, leet, leet, half_read, half_read, typos, typos, typos, spaced, spaced, squeezed, decorated, look_alikes, shouting, backwards, backwards, backwards, rot13, rot13)


def obfuscate(text: str, rng: random.Random) -> str:
    """One random obfuscation; very long texts only get typos."""
    return (typos if len(text) > 1500 else rng.choice(KINDS))(text, rng)
