"""A scripted provider in all dialects, on a loopback port of its own.

The model name says what it answers: `script:NAME@TAG`. NAME is a key of SCRIPTS (or `error-STATUS`), TAG is the test's
own, so that each test finds its requests among all received. Shapes are those of the providers' published types; each
event of a stream is one write, and all of an answer's bytes are kept, so that a test can ask for the very same ones.

A text may hold GATE: there the stream waits until the test says `go`, or until the client has left.
"""

from __future__ import annotations

import base64
import json
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

SAID = json.loads((Path(__file__).parent / "said.json").read_text(encoding="utf-8"))

GATE = None
GATE_PATIENCE_S = 30.0
CRITIC, REVISER = "You are the critic.", "You are the reviser."


@dataclass(frozen=True)
class Script:
    """What is answered: one tuple of parts a choice, or tool calls; and how the stream ends."""

    choices: tuple[tuple[str | None, ...], ...] = ()
    tools: tuple[dict, ...] = ()
    thinking: str = ""
    piece: int = 0  # characters a delta; 0: a word a delta
    ending: str = "done"  # or `reset` (RST), `close` (FIN without a last event)
    status: int = 200
    silent: bool = False  # nothing is sent before the gate opens
    revision: str = SAID["revised"]
    slow_critic: bool = False  # the critic waits for the gate

    def deltas(self, choice: int) -> Iterator[str | None]:
        for part in self.choices[choice]:
            if part is GATE:
                yield GATE
            elif self.piece:
                yield from (part[i : i + self.piece] for i in range(0, len(part), self.piece))
            else:
                yield from re.findall(r"\s*\S+", part)

    def text(self, choice: int) -> str:
        return "".join(part for part in self.choices[choice] if part is not GATE)


HARMLESS, TOXIC = SAID["harmless"], SAID["toxic"]
SCRIPTS = {
    "allowed": Script(((HARMLESS,),)),
    "toxic": Script(((TOXIC.strip(),),)),
    "toxic-late": Script(((HARMLESS, GATE, TOXIC),)),
    "toxic-stubborn": Script(((TOXIC.strip(),),), revision=TOXIC.strip()),
    "toxic-slow": Script(((TOXIC.strip(),),), slow_critic=True),
    "toxic-second": Script(((HARMLESS,), (TOXIC.strip(),))),
    "second": Script(((SAID["second"],),)),
    "two": Script(((HARMLESS,), (SAID["second"],))),
    "tool": Script(tools=tuple(SAID["tools"]), piece=3),
    "tool-toxic": Script(tools=({"id": "call_t", "name": "weather", "arguments": {"note": TOXIC.strip()}},), piece=3),
    "structured": Script(((SAID["structured"],),)),
    "structured-tool": Script(tools=({"id": "call_w", "name": "Weather", "arguments": {"city": "Bern", "days": 3}},), piece=3),
    "structured-json": Script(tools=({"id": "call_j", "name": "json", "arguments": {"city": "Bern", "days": 3}},), piece=3),
    "thinking": Script(((HARMLESS,),), thinking=SAID["thinking"]),
    "pii": Script(((SAID["pii"],),), piece=3),
    "hang": Script(((HARMLESS, GATE),), ending="close"),
    "silent": Script(((HARMLESS,),), silent=True),
    "reset": Script(((HARMLESS, GATE),), ending="reset"),
    "close": Script(((HARMLESS, GATE),), ending="close"),
    "flaky": Script(((HARMLESS,),)),
}


def scripted(model: str) -> Script:
    name = model.removeprefix("script:").split("@")[0]
    if name.startswith("error-"):
        return Script(status=int(name.removeprefix("error-")))
    return SCRIPTS[name]


@dataclass
class Received:
    """One request, and what became of its answer."""

    path: str
    headers: dict[str, str]
    body: dict
    sent: str = ""  # the answer's body so far
    ended: str = ""  # `sent`, `client_gone`, `reset`, `closed`
    tag: str = field(default="", repr=False)


class ClientGone(Exception):
    """The gateway has closed its side."""


class Upstream:
    """The server; `received(tag)` and `go(tag)` are its whole control."""

    def __init__(self, gap_s: float = 0.0) -> None:
        self.gap_s = gap_s
        self._received: list[Received] = []
        self._gates: dict[str, threading.Event] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Exchange)
        self._server.upstream = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> Upstream:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def received(self, tag: str) -> list[Received]:
        with self._lock:
            return [one for one in self._received if one.tag == tag]

    def go(self, tag: str) -> None:
        self.gate(tag).set()

    def gate(self, tag: str) -> threading.Event:
        with self._lock:
            return self._gates.setdefault(tag, threading.Event())

    def note(self, one: Received) -> int:
        """Keeps a request; says how many of its tag there are now."""
        with self._lock:
            self._received.append(one)
            return sum(other.tag == one.tag for other in self._received)


class _Server(ThreadingHTTPServer):
    upstream: Upstream
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A gateway that hangs up is part of the script; anything else is told in the record that it lacks."""


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""

    # -- control, for tests in another process

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if "/models" in url.path:
            return self._whole(200, json.dumps(models("anthropic-version" in self.headers, url.path)))
        tag = parse_qs(url.query).get("tag", [""])[0]
        if url.path == "/-/received":
            body = json.dumps([asdict(one) for one in self.server.upstream.received(tag)])
        else:
            self.server.upstream.go(tag)
            body = "[]"
        return self._whole(200, body)

    # -- the provider

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("transfer-encoding"):
            raw = b"".join(self._chunks())
        body = json.loads(raw)
        headers = {name.lower(): value for name, value in self.headers.items()}
        model = body["model"]
        one = Received(self.path, headers, body, tag=model.partition("@")[2])
        nth = self.server.upstream.note(one)
        dialect = DIALECTS[re.sub("^/openai/(deployments/[^/]*|v1)", "/v1", urlsplit(self.path).path)](body)
        script = scripted(model)
        try:
            self._answer(one, dialect, script, 429 if model.startswith("script:flaky") and nth == 1 else script.status)
        except (ClientGone, BrokenPipeError, ConnectionResetError):
            one.ended = "client_gone"
            self.close_connection = True

    def _answer(self, one: Received, dialect: Dialect, script: Script, status: int) -> None:
        if script.silent:
            self._await_gate(one.tag)
        if status != 200:
            one.sent = json.dumps(dialect.error(status))
            self._whole(status, one.sent, {"retry-after-ms": "20", "x-ratelimit-remaining-requests": "0"})
        elif (role := dialect.asked_as()) is not None:
            if script.slow_critic:
                self._await_gate(one.tag)
            one.sent = json.dumps(dialect.text_answer(opinion(role, dialect.question(), script)), ensure_ascii=False)
            self._whole(200, one.sent)
        elif one.body.get("stream"):
            self._stream(one, dialect.events(script), script.ending)
            return
        else:
            one.sent = json.dumps(dialect.answer(script), ensure_ascii=False)
            self._whole(200, one.sent)
        one.ended = "sent"

    def _whole(self, status: int, body: str, more: dict[str, str] | None = None) -> None:
        payload = body.encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self._own_headers(more)
        self.wfile.write(payload)

    def _stream(self, one: Received, events: Iterator[str | None], ending: str) -> None:
        chunked = ending != "close"
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header(*(("transfer-encoding", "chunked") if chunked else ("connection", "close")))
        self._own_headers({})
        for event in events:
            if event is GATE:
                self._await_gate(one.tag)
                if ending == "reset":
                    return self._reset(one)
                if ending == "close":
                    one.ended, self.close_connection = "closed", True
                    return None
                continue
            if self._left(self.server.upstream.gap_s):
                raise ClientGone
            payload = event.encode()
            one.sent += event
            self.wfile.write(b"%x\r\n%s\r\n" % (len(payload), payload) if chunked else payload)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")
        one.ended = "sent"
        return None

    def _own_headers(self, more: dict[str, str] | None) -> None:
        for name, value in {"x-request-id": "req_up_1", "request-id": "req_up_1", **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def _await_gate(self, tag: str) -> None:
        gate, patience = self.server.upstream.gate(tag), time.monotonic() + GATE_PATIENCE_S
        while not gate.is_set() and time.monotonic() < patience:
            if self._left(0.02):
                raise ClientGone

    def _left(self, wait_s: float) -> bool:
        """Whether the peer has closed; waits that long for it."""
        readable, _, _ = select.select([self.connection], [], [], wait_s)
        return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""

    def _reset(self, one: Received) -> None:
        one.ended, self.close_connection = "reset", True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()


def opinion(role: str, question: str, script: Script) -> str:
    """What critic and reviser answer. A document that is not as agreed gets no usable answer."""
    material = json.loads(question)
    agreed = {"principle", "request", "conversation", "answer"} | ({"critique"} if role == REVISER else set())
    if role == REVISER and "shown" in material:
        agreed |= {"shown"}
    if set(material) != agreed:
        return f"expected {sorted(agreed)}, found {sorted(material)}"
    if role == CRITIC:
        return json.dumps({"violated": True, "where": material["answer"][:20], "why": "It insults the reader."})
    return json.dumps({"revision": script.revision})


class Dialect:
    """One wire format."""

    def __init__(self, body: dict) -> None:
        self.body = body
        self.model = body["model"]

    def asked_as(self) -> str | None:
        return next((role for role in (CRITIC, REVISER) if self.system().startswith(role)), None)

    def system(self) -> str:
        raise NotImplementedError

    def question(self) -> str:
        return plain(self.body["messages"][-1]["content"])

    def error(self, status: int) -> dict:
        raise NotImplementedError

    def text_answer(self, text: str) -> dict:
        return self.answer(Script(((text,),)))

    def answer(self, script: Script) -> dict:
        raise NotImplementedError

    def events(self, script: Script) -> Iterator[str | None]:
        raise NotImplementedError


def plain(content: str | list[dict]) -> str:
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


class Chat(Dialect):
    """POST /v1/chat/completions."""

    ID = "chatcmpl-Ck4yQ0scripted"

    def system(self) -> str:
        first = self.body["messages"][0]
        return plain(first["content"]) if first["role"] in ("system", "developer") else ""

    def error(self, status: int) -> dict:
        code = "rate_limit_exceeded" if status == 429 else "server_error"
        return {"error": {"message": "The upstream says no.", "type": "requests", "param": None, "code": code}}

    def usage(self) -> dict:
        into, out = SAID["usage"]["input"], SAID["usage"]["output"]
        return {
            "prompt_tokens": into,
            "completion_tokens": out,
            "total_tokens": into + out,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        }

    def frame(self, kind: str, choices: list[dict], **more: object) -> dict:
        return {
            "id": self.ID,
            "object": kind,
            "created": 1760000000,
            "model": self.model,
            "choices": choices,
            "service_tier": "default",
            "system_fingerprint": "fp_scripted",
            **more,
        }

    def answer(self, script: Script) -> dict:
        choices = [self.choice(index, script) for index in range(len(script.choices))]
        if script.tools:
            calls = [
                {"id": tool["id"], "type": "function", "function": {"name": tool["name"], "arguments": arguments(tool)}}
                for tool in script.tools
            ]
            message = {"role": "assistant", "content": None, "tool_calls": calls, "refusal": None, "annotations": []}
            choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}]
        return self.frame("chat.completion", choices, usage=self.usage())

    def choice(self, index: int, script: Script) -> dict:
        text = script.text(index)
        message = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
        deltas = [delta for delta in script.deltas(index) if delta is not GATE]
        return {"index": index, "message": message, "logprobs": self.logprobs(deltas), "finish_reason": "stop"}

    def logprobs(self, deltas: list[str]) -> dict | None:
        if not self.body.get("logprobs"):
            return None
        content = [
            {"token": delta, "logprob": -0.25, "bytes": list(delta.encode()), "top_logprobs": []} for delta in deltas
        ]
        return {"content": content, "refusal": None}

    def chunk(self, choices: list[dict], **more: object) -> str:
        wanted = (self.body.get("stream_options") or {}).get("include_usage")
        more = {"usage": None, **more} if wanted else more
        return f"data: {json.dumps(self.frame('chat.completion.chunk', choices, **more), ensure_ascii=False)}\n\n"

    def delta(self, index: int, delta: dict, finish: str | None = None, text: str | None = None) -> str:
        logprobs = None if text is None else self.logprobs([text])
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return self.chunk([choice], obfuscation="aX7pQ2")

    def events(self, script: Script) -> Iterator[str | None]:
        if script.tools:
            yield from self.tool_events(script)
        lanes = [script.deltas(index) for index in range(len(script.choices))]
        for index in range(len(lanes)):
            yield self.delta(index, {"role": "assistant", "content": "", "refusal": None})
        while lanes_open := [(index, lane) for index, lane in enumerate(lanes) if lane is not None]:
            for index, lane in lanes_open:  # choices take turns
                try:
                    text = next(lane)
                except StopIteration:
                    lanes[index] = None
                    yield self.delta(index, {}, "stop")
                    continue
                yield GATE if text is GATE else self.delta(index, {"content": text}, text=text)
        if (self.body.get("stream_options") or {}).get("include_usage"):
            yield self.chunk([], usage=self.usage())
        yield "data: [DONE]\n\n"

    def tool_events(self, script: Script) -> Iterator[str]:
        yield self.delta(0, {"role": "assistant", "content": None})
        for at, tool in enumerate(script.tools):
            function = {"name": tool["name"], "arguments": ""}
            yield self.delta(0, {"tool_calls": [{"index": at, "id": tool["id"], "type": "function", "function": function}]})
            for piece in pieces(arguments(tool), script.piece):
                yield self.delta(0, {"tool_calls": [{"index": at, "function": {"arguments": piece}}]})
        yield self.delta(0, {}, "tool_calls")


class Messages(Dialect):
    """POST /v1/messages."""

    def system(self) -> str:
        return plain(self.body.get("system") or "")

    def error(self, status: int) -> dict:
        kind = {429: "rate_limit_error", 529: "overloaded_error"}.get(status, "api_error")
        error = {"type": kind, "message": "The upstream says no."}
        return {"type": "error", "error": error, "request_id": "req_up_1"}

    def message(self, content: list[dict], stop: str | None, output: int) -> dict:
        usage = {
            "input_tokens": SAID["usage"]["input"],
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output,
            "service_tier": "standard",
        }
        return {
            "id": "msg_01scripted",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": usage,
        }

    def answer(self, script: Script) -> dict:
        content = []
        if script.thinking:
            content.append({"type": "thinking", "thinking": script.thinking, "signature": SAID["signature"]})
        if script.choices:
            content.append({"type": "text", "text": script.text(0)})
        content += [{"type": "tool_use", "id": t["id"], "name": t["name"], "input": t["arguments"]} for t in script.tools]
        return self.message(content, "tool_use" if script.tools else "end_turn", SAID["usage"]["output"])

    def events(self, script: Script) -> Iterator[str | None]:
        yield event("message_start", message=self.message([], None, 1))
        yield event("ping")
        index = 0
        for start, deltas in self.blocks(script):
            yield event("content_block_start", index=index, content_block=start)
            for delta in deltas:
                yield GATE if delta is GATE else event("content_block_delta", index=index, delta=delta)
            yield event("content_block_stop", index=index)
            index += 1
        stop = {"stop_reason": "tool_use" if script.tools else "end_turn", "stop_sequence": None}
        yield event("message_delta", delta=stop, usage={"output_tokens": SAID["usage"]["output"]})
        yield event("message_stop")

    def blocks(self, script: Script) -> Iterator[tuple[dict, Iterator[dict | None]]]:
        if script.thinking:
            steps = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(script.thinking, 5)]
            signed = {"type": "signature_delta", "signature": SAID["signature"]}
            yield {"type": "thinking", "thinking": "", "signature": ""}, iter([*steps, signed])
        if script.choices:
            texts = script.deltas(0)
            yield {"type": "text", "text": ""}, (t if t is GATE else {"type": "text_delta", "text": t} for t in texts)
        for tool in script.tools:
            fragments = ["", *pieces(arguments(tool), script.piece)]
            deltas = ({"type": "input_json_delta", "partial_json": piece} for piece in fragments)
            yield {"type": "tool_use", "id": tool["id"], "name": tool["name"], "input": {}}, deltas


class Tokens(Messages):
    """POST /v1/messages/count_tokens."""

    def answer(self, script: Script) -> dict:
        return {"input_tokens": len(json.dumps(self.body))}


class Responses(Chat):
    """POST /v1/responses. Repeats the request's own words in every answer, as the provider does."""

    ID = "resp_0scripted"

    def system(self) -> str:
        return self.body.get("instructions") or ""

    def response(self, status: str, output: list[dict]) -> dict:
        into, out = SAID["usage"]["input"], SAID["usage"]["output"]
        return {
            "id": self.ID,
            "object": "response",
            "created_at": 1760000000,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": self.body.get("instructions"),
            "metadata": self.body.get("metadata") or {},
            "model": self.model,
            "output": output,
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "text": self.body.get("text") or {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": self.body.get("tools") or [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": {
                "input_tokens": into,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": out,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": into + out,
            }
            if status == "completed"
            else None,
        }

    def message(self, text: str, status: str = "completed") -> dict:
        content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}] if status == "completed" else []
        return {"id": "msg_1", "type": "message", "status": status, "role": "assistant", "content": content}

    def call(self, at: int, tool: dict, text: str) -> dict:
        call = {"id": f"fc_{at}", "type": "function_call", "status": "completed", "call_id": tool["id"]}
        return {**call, "name": tool["name"], "arguments": text}

    def answer(self, script: Script) -> dict:
        output = [self.message(script.text(0))] if script.choices else []
        output += [self.call(at, tool, arguments(tool)) for at, tool in enumerate(script.tools)]
        return self.response("completed", output)

    def events(self, script: Script) -> Iterator[str | None]:
        number = iter(range(10_000))

        def told(kind: str, **more: object) -> str:
            return event(kind, sequence_number=next(number), **more)

        yield told("response.created", response=self.response("in_progress", []))
        yield told("response.in_progress", response=self.response("in_progress", []))
        output = []
        if script.choices:
            place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            yield told("response.output_item.added", output_index=0, item=self.message("", "in_progress"))
            yield told("response.content_part.added", **place, part=part)
            for delta in script.deltas(0):
                if delta is GATE:
                    yield GATE
                else:
                    more = {"logprobs": [], "obfuscation": "aX7pQ2"}
                    yield told("response.output_text.delta", **place, delta=delta, **more)
            text = script.text(0)
            yield told("response.output_text.done", **place, text=text, logprobs=[])
            yield told("response.content_part.done", **place, part={**part, "text": text})
            output.append(self.message(text))
            yield told("response.output_item.done", output_index=0, item=output[0])
        for at, tool in enumerate(script.tools):
            place = {"item_id": f"fc_{at}", "output_index": at}
            yield told("response.output_item.added", output_index=at, item=self.call(at, tool, ""))
            for piece in pieces(arguments(tool), script.piece):
                yield told("response.function_call_arguments.delta", **place, delta=piece)
            yield told("response.function_call_arguments.done", **place, arguments=arguments(tool), name=tool["name"])
            output.append(self.call(at, tool, arguments(tool)))
            yield told("response.output_item.done", output_index=at, item=output[-1])
        yield told("response.completed", response=self.response("completed", output))


class Completions(Chat):
    """POST /v1/completions."""

    ID = "cmpl-0scripted"

    def system(self) -> str:
        return ""

    def answer(self, script: Script) -> dict:
        text = script.text(0)
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": "stop"}
        return self.frame("text_completion", [choice], usage=self.usage())

    def events(self, script: Script) -> Iterator[str | None]:
        for delta in [*script.deltas(0), ""]:
            finish = None if delta else "stop"
            choice = {"text": delta, "index": 0, "logprobs": None, "finish_reason": finish}
            yield f"data: {json.dumps(self.frame('text_completion', [choice]), ensure_ascii=False)}\n\n"
        yield "data: [DONE]\n\n"


class Embeddings(Chat):
    """POST /v1/embeddings."""

    def system(self) -> str:
        return ""

    def answer(self, script: Script) -> dict:
        texts = [self.body["input"]] if isinstance(self.body["input"], str) else self.body["input"]
        data = []
        for index in range(len(texts)):
            numbers = [0.5, -0.25, float(index)]
            packed = base64.b64encode(struct.pack("<3f", *numbers)).decode()
            vector = packed if self.body.get("encoding_format") == "base64" else numbers
            data.append({"object": "embedding", "index": index, "embedding": vector})
        return {"object": "list", "data": data, "model": self.model, "usage": {"prompt_tokens": 3, "total_tokens": 3}}


DIALECTS = {
    "/v1/chat/completions": Chat,
    "/v1/responses": Responses,
    "/v1/completions": Completions,
    "/v1/embeddings": Embeddings,
    "/v1/messages": Messages,
    "/v1/messages/count_tokens": Tokens,
}


def models(anthropic: bool, path: str) -> dict:
    """The list, or one of it."""
    if anthropic:
        one = {"type": "model", "id": "claude-scripted", "display_name": "Scripted", "created_at": "2026-01-01T00:00:00Z"}
        whole = {"data": [one], "has_more": False, "first_id": one["id"], "last_id": one["id"]}
    else:
        one = {"id": "gpt-scripted", "object": "model", "created": 1760000000, "owned_by": "system"}
        whole = {"object": "list", "data": [one]}
    return whole if path.endswith("/models") else {**one, "id": path.rsplit("/", 1)[1]}


def event(kind: str, **more: object) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more}, ensure_ascii=False)}\n\n"


def arguments(tool: dict) -> str:
    return json.dumps(tool["arguments"], ensure_ascii=False)


def pieces(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]
