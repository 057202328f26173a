"""Generated benign documents (tool JSON, logs, code, system prompts, e-mails, HTML ...) and how to hide an attack in one."""

from __future__ import annotations

import html
import json
import random

from .grammar import Grammar
from .phrases import load

LISTS = load("documents")
NAMES, WORDS, STATES, CITIES, LEVELS = (LISTS[key] for key in ("names", "words", "states", "cities", "levels"))


class Documents:
    """Random benign documents; ``hide`` puts a foreign text into one of them."""

    def __init__(self, rng: random.Random, held_out: bool = False) -> None:
        self.rng = rng
        self.phrases = Grammar({"name": NAMES, "city": CITIES, "w": WORDS}, rng, held_out)
        self.everyday = Grammar(load("everyday"), rng, held_out)
        self.trigger = Grammar(load("trigger"), rng, held_out)
        self.close = False
        """Whether the last document or small talk was made of words of an attack."""
        self.kinds = [
            self.tool_json,
            self.tool_list,
            self.log,
            self.code,
            self.email,
            self.web_page,
            self.table,
            self.markdown,
            self.yaml,
            self.chat,
            self.search_results,
            self.prose,
        ]

    def sentence(self) -> str:
        """One harmless sentence."""
        return self.phrases.expand(self.phrases.choose(LISTS["sentences"]))

    def prose(self, extra: str | None = None) -> str:
        """A paragraph; ``extra`` is put somewhere between its sentences."""
        parts = [self.sentence() for _ in range(self.rng.randint(1, 7))]
        if extra is not None:
            parts.insert(self.rng.randint(0, len(parts)), extra)
        return self.rng.choice([" ", " ", "\n"]).join(parts)

    def stamp(self) -> str:
        """A time stamp."""
        r = self.rng
        return f"20{r.randint(19, 26)}-{r.randint(1, 12):02}-{r.randint(1, 28):02}T{r.randint(0, 23):02}:{r.randint(0, 59):02}:{r.randint(0, 59):02}Z"

    def value(self) -> object:
        """One JSON value."""
        r = self.rng
        return r.choice(
            [
                r.randint(0, 99_999),
                round(r.random() * 100, 2),
                r.choice(STATES),
                r.choice(NAMES),
                r.choice(CITIES),
                self.stamp(),
                True,
                None,
                self.sentence(),
                f"{r.choice(NAMES).lower()}@example.com",
                f"{r.getrandbits(48):x}",
                f"https://example.com/{r.choice(WORDS)}/{r.randint(1, 999)}",
            ]
        )

    def record(self, extra: str | None = None) -> dict[str, object]:
        """One JSON object."""
        keys = self.rng.sample(
            [
                "id",
                "status",
                "name",
                "city",
                "created_at",
                "total",
                "note",
                "email",
                "url",
                "count",
                "temperature",
                "title",
                "summary",
                "owner",
                "description",
                "result",
                "currency",
                "tags",
                "error",
                "body",
            ],
            self.rng.randint(2, 8),
        )
        made = {key: self.value() for key in keys}
        if extra is not None:
            made[self.rng.choice(["note", "description", "body", "comment", "title", "content", "summary"])] = extra
        return made

    def tool_json(self, extra: str | None = None) -> str:
        """The result of one tool call."""
        body: object = self.record(extra)
        if self.rng.random() < 0.4:
            body = {"tool": f"get_{self.rng.choice(WORDS)}", "ok": True, "result": body}
        return json.dumps(body, indent=self.rng.choice([None, None, 2]), ensure_ascii=False)

    def tool_list(self, extra: str | None = None) -> str:
        """A tool result with several records."""
        rows = [self.record() for _ in range(self.rng.randint(1, 4))]
        rows.insert(self.rng.randint(0, len(rows)), self.record(extra))
        return json.dumps({"results": rows, "count": len(rows)}, ensure_ascii=False)

    def log(self, extra: str | None = None) -> str:
        """Log lines."""
        r = self.rng
        verbs = [
            "started",
            "finished",
            "ignored duplicate message",
            "request completed",
            "retrying",
            "connection refused",
            "killed by signal 9",
            "cache miss",
            "user logged in",
            "override applied from config",
            "skipping previous entries",
            "aborted child process",
            "permission denied",
        ]
        lines = [
            f"{self.stamp()} {r.choice(LEVELS)} {r.choice(WORDS)}[{r.randint(1, 9999)}]: {r.choice(verbs)} {r.choice(WORDS)}={r.getrandbits(24):x} took {r.randint(1, 900)}ms"
            for _ in range(r.randint(1, 7))
        ]
        if extra is not None:
            lines.insert(
                r.randint(0, len(lines)),
                f'{self.stamp()} {r.choice(LEVELS)} user_agent="{extra}"' if r.random() < 0.5 else f"{self.stamp()} INFO message: {extra}",
            )
        return "\n".join(lines)

    def code(self, extra: str | None = None) -> str:
        """A code file; ``extra`` becomes a comment or a string."""
        parts = [
            self.phrases.choose(LISTS["code"]).format(w=self.rng.choice(WORDS), n=self.rng.randint(1, 90))
            for _ in range(self.rng.randint(1, 3))
        ]
        if extra is not None:
            flat = extra.replace("\n", " ")
            parts.insert(
                self.rng.randint(0, len(parts)),
                self.rng.choice(
                    [
                        f"# {flat}\n",
                        f"// {flat}\n",
                        f"/* {flat} */\n",
                        f'"""{extra}"""\n',
                        f"<!-- {flat} -->\n",
                        f'msg = "{flat}"\n',
                        f"-- {flat}\n",
                    ]
                ),
            )
        return "\n".join(parts)

    def email(self, extra: str | None = None) -> str:
        """An e-mail."""
        r = self.rng
        head = r.choice(
            [
                f"From: {r.choice(NAMES)} <{r.choice(WORDS)}@example.com>\nTo: {r.choice(NAMES)}\nSubject: {r.choice(WORDS).title()} {r.randint(1, 999)}\n\n",
                "",
                f"Subject: Re: {r.choice(WORDS)}\n",
            ]
        )
        return f"{head}{r.choice(['Hi', 'Dear', 'Hello', 'Good morning'])} {r.choice(NAMES)},\n\n{self.prose(extra)}\n\n{r.choice(['Best', 'Kind regards', 'Thanks', 'Cheers'])},\n{r.choice(NAMES)}"

    def web_page(self, extra: str | None = None) -> str:
        """An HTML fragment; ``extra`` may be hidden in it."""
        r = self.rng
        blocks = [
            r.choice(["<p>{}</p>", "<li>{}</li>", "<h2>{}</h2>", '<div class="item">{}</div>', "<td>{}</td>"]).format(
                html.escape(self.sentence())
            )
            for _ in range(r.randint(1, 5))
        ]
        if extra is not None:
            blocks.insert(
                r.randint(0, len(blocks)),
                r.choice(
                    [
                        "<p>{}</p>",
                        "<!-- {} -->",
                        '<div style="display:none">{}</div>',
                        '<span style="color:white;font-size:0">{}</span>',
                        '<img alt="{}">',
                        "<li>{}</li>",
                    ]
                ).replace("{}", extra),
            )
        return (
            f"<html><head><title>{r.choice(WORDS).title()}</title></head><body>{''.join(blocks)}</body></html>"
            if r.random() < 0.5
            else "\n".join(blocks)
        )

    def table(self, extra: str | None = None) -> str:
        """CSV or markdown rows."""
        r = self.rng
        rows = [[str(r.randint(1, 999)), r.choice(NAMES), r.choice(CITIES), r.choice(STATES)] for _ in range(r.randint(2, 7))]
        if extra is not None:
            rows[r.randrange(len(rows))][r.choice([1, 3])] = extra
        if r.random() < 0.5:
            return "id,name,city,status\n" + "\n".join(",".join(row) for row in rows)
        return "| id | name | city | status |\n|---|---|---|---|\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows)

    def markdown(self, extra: str | None = None) -> str:
        """A README or an article."""
        items = "\n".join(f"- {self.sentence()}" for _ in range(self.rng.randint(1, 4)))
        return f"# {self.rng.choice(WORDS).title()} {self.rng.choice(['guide', 'notes', 'API', 'README', 'FAQ'])}\n\n{self.prose(extra)}\n\n## {self.rng.choice(['Usage', 'Instructions', 'Rules', 'Install', 'Details'])}\n{items}"

    def yaml(self, extra: str | None = None) -> str:
        """A configuration file."""
        r = self.rng
        lines = [
            f"{r.choice(WORDS)}:",
            f"  enabled: {r.choice(['true', 'false'])}",
            f"  timeout_s: {r.randint(1, 90)}",
            f"  host: {r.choice(CITIES).lower()}.example.com",
            f"  retries: {r.randint(0, 9)}",
            f"  override: {r.choice(['true', 'false'])}",
        ]
        if extra is not None:
            lines.insert(r.randint(1, len(lines)), f"  description: {extra}" if r.random() < 0.5 else f"  # {extra}")
        return "\n".join(lines)

    def chat(self, extra: str | None = None) -> str:
        """A transcript; ``extra`` is one of the messages."""
        lines = [self.sentence() if self.rng.random() < 0.6 else self.everyday.slot("everyday") for _ in range(self.rng.randint(2, 6))]
        if extra is not None:
            lines.insert(self.rng.randint(0, len(lines)), extra)
        who = self.rng.choice([["user", "assistant"], ["Customer", "Agent"], self.rng.sample(NAMES, 2), ["Human", "AI"]])
        return "\n".join(f"{who[i % 2]}: {line}" for i, line in enumerate(lines))

    def search_results(self, extra: str | None = None) -> str:
        """Search hits."""
        hits = [
            f"[{i + 1}] {self.rng.choice(WORDS).title()} in {self.rng.choice(CITIES)}\nhttps://example.com/{i}\n{self.prose(extra if i == 0 else None)}"
            for i in range(self.rng.randint(1, 3))
        ]
        self.rng.shuffle(hits)
        return "\n\n".join(hits)

    def system_prompt(self) -> str:
        """A benign system prompt."""
        rules = [self.phrases.expand(self.phrases.choose(LISTS["system_rules"])) for _ in range(self.rng.randint(1, 6))]
        role = self.rng.choice(LISTS["roles"])
        start = self.rng.choice(
            [
                f"You are a {role}.",
                f"You are {self.rng.choice(NAMES)}, a {role}.",
                f"Your role: {role}.",
                f"As a {role} you help users of our site.",
                f"# Role\n{role.capitalize()}\n\n# Rules",
            ]
        )
        if self.rng.random() < 0.3:
            return start + "\n" + "\n".join(f"- {rule}" for rule in rules)
        return start + " " + " ".join(rules)

    def benign(self) -> str:
        """Any benign document, sometimes with a harmless instruction or trigger words in it."""
        self.close = False
        if self.rng.random() < 0.16:
            return self.system_prompt()
        draw = self.rng.random()
        self.close = draw < 0.22
        extra = self.trigger.slot("trigger") if draw < 0.22 else self.everyday.slot("everyday") if draw < 0.34 else None
        return self.rng.choice(self.kinds)(extra)

    def hide(self, attack: str, carrier: str | None = None) -> str:
        """Put an attack into a generated document, or between two parts of a given carrier text."""
        if carrier is None:
            return self.rng.choice(self.kinds)(attack)
        breaks = [i for i, ch in enumerate(carrier) if ch in ".\n;>}" and i > 10] or [len(carrier) - 1]
        at = self.rng.choice([self.rng.choice(breaks) + 1, self.rng.choice(breaks) + 1, len(carrier), 0])
        return f"{carrier[:at]}{self.rng.choice([' ', ' ', chr(10), chr(10) * 2])}{attack}{self.rng.choice([' ', chr(10)])}{carrier[at:]}"

    def small_talk(self) -> str:
        """A harmless sentence in one of many languages."""
        lists, close = load("small_talk"), load("foreign_near")
        language = self.rng.choice([*(k for k in lists if not k.startswith("fill_")), "de", "de", "de", "de", "fr", "es"])
        self.close = language in close and self.rng.random() < 0.4
        source = close if self.close else lists
        text = self.phrases.choose(source[language])
        context = load("foreign").get(f"{language}_context")
        if context and self.rng.random() < 0.35:
            parts = [self.phrases.choose(context), text, self.phrases.choose(context)]
            text = " ".join(parts[self.rng.choice((0, 1)) : self.rng.choice((1, 2, 3))] or parts[:2])
        for key in ("p", "f", "t"):
            text = text.replace("{" + key + "}", self.rng.choice(lists[f"fill_{key}"]))
        return text
