"""Renews tests/fixtures/sdk: what the official SDKs send and understand, one JSON document a line. `make sdk-record`.

Requests: each call of an SDK with every member that its parameters know, and each arm of each union in turn, goes to a
recorder on loopback; kept is the body as it came over the wire. Answers and events: values of the SDK's own response
types, checked by the types once more. Streams: composed of such events, and read to their end by the SDK itself.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anthropic
import openai
import pydantic
from anthropic.types import Message, RawMessageStreamEvent, message_count_tokens_params, message_create_params
from openai.types import (
    Completion,
    CreateEmbeddingResponse,
    Model,
    completion_create_params,
    embedding_create_params,
    moderation_create_params,
)
from openai.types.chat import ChatCompletion, ChatCompletionChunk, completion_create_params as chat_create_params
from openai.types.responses import Response, ResponseStreamEvent, response_create_params
import shapes
from shapes import variants

OUT = Path(__file__).resolve().parents[1] / "fixtures" / "sdk"


class Recorder(BaseHTTPRequestHandler):
    """Keeps bodies; answers with an error that no SDK retries, or with the stream that is to be read."""

    bodies: list[bytes] = []
    stream: bytes | None = None
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        type(self).bodies.append(body)
        if self.stream is None:
            status, kind, answer = 400, "application/json", b'{"error":{"message":"recorded","type":"invalid_request_error"}}'
        else:
            status, kind, answer = 200, "text/event-stream", self.stream
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


def lines(name: str, documents: list[bytes]) -> None:
    documents = list(dict.fromkeys(documents))
    (OUT / f"{name}.jsonl").write_bytes(b"".join(document + b"\n" for document in documents))
    print(f"{name}: {len(documents)} documents, {sum(map(len, documents))} bytes")


def requests(name: str, call, params: type, least: dict | None = None) -> None:
    """Calls with each variant of the parameters; what an SDK refuses to send is counted."""
    Recorder.bodies.clear()
    unsent = 0
    for arguments in variants(params):
        arguments = {**(least or {}), **arguments}
        before = len(Recorder.bodies)
        arguments.pop("stream", None)
        if "max_tokens" in arguments:
            arguments["max_tokens"] = 100  # larger ones the SDK wants to be streamed
        try:
            call(**arguments)
        except (openai.BadRequestError, anthropic.BadRequestError):
            pass
        except Exception as error:  # noqa: BLE001
            print(f"  {name}: not sent: {type(error).__name__}: {str(error)[:120]}", file=sys.stderr)
        unsent += len(Recorder.bodies) == before
    lines(f"{name}_requests", list(Recorder.bodies))
    if unsent:
        print(f"  {unsent} variants were not sent")


def dumped(kind) -> list[bytes]:
    """Every variant, as the SDK's own type writes it."""
    adapter = pydantic.TypeAdapter(kind)
    return [adapter.dump_json(adapter.validate_python(value), by_alias=True, exclude_unset=True) for value in variants(kind)]


def sse(events: list[dict], named: bool, kind) -> bytes:
    adapter = pydantic.TypeAdapter(kind)
    out = []
    for event in events:
        data = adapter.dump_json(adapter.validate_python(event), exclude_unset=True).decode()
        out.append((f"event: {event['type']}\n" if named else "") + f"data: {data}\n\n")
    return ("".join(out) + ("" if named else "data: [DONE]\n\n")).encode()


def chat_stream() -> bytes:
    """Three choices that take turns: text with log probabilities, a refusal, and two calls of tools at once."""
    def chunk(index: int, delta: dict, finish: str | None = None, logprobs: dict | None = None) -> dict:
        choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
        return {"id": "chatcmpl-r1", "object": "chat.completion.chunk", "created": 1794500000, "model": "gpt-5-mini", "choices": [choice], "usage": None}

    events = [chunk(index, {"role": "assistant", "content": "" if index == 0 else None}) for index in range(3)]
    words = ["The museum", " in the old", " harbour", " opens at", " nine and", " closes late."]
    refusal = ["I can", "not help", " with the", " second", " question", "."]
    for word, no in zip(words, refusal):
        token = {"token": word, "logprob": -0.5, "bytes": list(word.encode()), "top_logprobs": []}
        events.append(chunk(0, {"content": word}, None, {"content": [token], "refusal": None}))
        events.append(chunk(1, {"refusal": no}))
    for call, name in enumerate(["find_museum", "find_hours"]):
        function = {"name": name, "arguments": ""}
        events.append(chunk(2, {"tool_calls": [{"index": call, "id": f"call_{call}", "type": "function", "function": function}]}))
        for piece in ['{"place": "the', " old har", 'bour", "day"', ': "Sunday"}']:
            events.append(chunk(2, {"tool_calls": [{"index": call, "function": {"arguments": piece}}]}))
    events += [chunk(0, {}, "stop"), chunk(1, {}, "stop"), chunk(2, {}, "tool_calls")]
    usage = {"prompt_tokens": 19, "completion_tokens": 40, "total_tokens": 59}
    return sse([*events, {**chunk(0, {}), "choices": [], "usage": usage}], False, ChatCompletionChunk)


def message_stream() -> bytes:
    """Signed thinking, cited text in two blocks, and two uses of tools."""
    usage = {"input_tokens": 35, "output_tokens": 1}
    message = {"id": "msg_r1", "type": "message", "role": "assistant", "model": "claude-sonnet-5", "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    events: list[dict] = [{"type": "message_start", "message": message}]

    def block(at: int, start: dict, deltas: list[dict]) -> None:
        events.append({"type": "content_block_start", "index": at, "content_block": start})
        events.extend({"type": "content_block_delta", "index": at, "delta": delta} for delta in deltas)
        events.append({"type": "content_block_stop", "index": at})

    thoughts = [{"type": "thinking_delta", "thinking": text} for text in ["The visitor asks", " about the", " harbour."]]
    block(0, {"type": "thinking", "thinking": "", "signature": ""}, [*thoughts, {"type": "signature_delta", "signature": "c2lnbmVkIHRob3VnaHQ="}])
    words = [{"type": "text_delta", "text": text} for text in ["The museum", " in the old", " harbour"]]
    citation = {"type": "char_location", "cited_text": "Open all week.", "document_index": 0, "document_title": "Flyer", "start_char_index": 0, "end_char_index": 14, "file_id": None}
    block(1, {"type": "text", "text": "", "citations": []}, [{"type": "citations_delta", "citation": citation}, *words])
    block(2, {"type": "text", "text": ""}, [{"type": "text_delta", "text": text} for text in [" opens at", " nine and", " closes late."]])
    for at, name in enumerate(["find_museum", "find_hours"], start=3):
        pieces = ['{"place": "the', " old har", 'bour"}']
        block(at, {"type": "tool_use", "id": f"toolu_{at}", "name": name, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces])
    events.append({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None}, "usage": {"output_tokens": 42}})
    events.append({"type": "message_stop"})
    return sse(events, True, RawMessageStreamEvent)


def response_stream() -> bytes:
    """A summary of reasoning, a message of two parts, and two calls of functions."""
    events: list[dict] = []

    def emit(kind: str, **members: object) -> None:
        events.append({"type": kind, "sequence_number": len(events), **members})

    def frame(status: str, output: list) -> dict:
        return {"id": "resp_r1", "object": "response", "created_at": 1794500000, "status": status, "error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "model": "gpt-5-mini", "output": output, "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0}

    emit("response.created", response=frame("in_progress", []))
    emit("response.in_progress", response=frame("in_progress", []))
    output = []
    thought = ["The visitor asks", " about the", " harbour."]
    place = {"item_id": "rs_1", "output_index": 0, "summary_index": 0}
    emit("response.output_item.added", output_index=0, item={"id": "rs_1", "type": "reasoning", "summary": []})
    emit("response.reasoning_summary_part.added", **place, part={"type": "summary_text", "text": ""})
    for word in thought:
        emit("response.reasoning_summary_text.delta", **place, delta=word)
    emit("response.reasoning_summary_text.done", **place, text="".join(thought))
    emit("response.reasoning_summary_part.done", **place, part={"type": "summary_text", "text": "".join(thought)})
    output.append({"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "".join(thought)}]})
    emit("response.output_item.done", output_index=0, item=output[-1])
    begun = {"id": "msg_1", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
    emit("response.output_item.added", output_index=1, item=begun)
    parts = []
    for at, words in enumerate([["The museum", " in the old", " harbour"], [" opens at", " nine and", " closes late."]]):
        place = {"item_id": "msg_1", "output_index": 1, "content_index": at}
        emit("response.content_part.added", **place, part={"type": "output_text", "text": "", "annotations": []})
        for word in words:
            emit("response.output_text.delta", **place, delta=word, logprobs=[])
        parts.append({"type": "output_text", "text": "".join(words), "annotations": []})
        emit("response.output_text.done", **place, text="".join(words), logprobs=[])
        emit("response.content_part.done", **place, part=parts[-1])
    output.append({**begun, "status": "completed", "content": parts})
    emit("response.output_item.done", output_index=1, item=output[-1])
    for at, name in enumerate(["find_museum", "find_hours"], start=2):
        pieces = ['{"place": "the', " old har", 'bour"}']
        call = {"id": f"fc_{at}", "type": "function_call", "status": "in_progress", "call_id": f"call_{at}", "name": name, "arguments": ""}
        emit("response.output_item.added", output_index=at, item=call)
        for piece in pieces:
            emit("response.function_call_arguments.delta", item_id=call["id"], output_index=at, delta=piece)
        emit("response.function_call_arguments.done", item_id=call["id"], output_index=at, name=name, arguments="".join(pieces))
        output.append({**call, "status": "completed", "arguments": "".join(pieces)})
        emit("response.output_item.done", output_index=at, item=output[-1])
    usage = {"input_tokens": 19, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}, "output_tokens": 40, "output_tokens_details": {"reasoning_tokens": 9}, "total_tokens": 59}
    emit("response.completed", response={**frame("completed", output), "usage": usage})
    return sse(events, True, ResponseStreamEvent)


def streams(ai: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    messages = [{"role": "user", "content": "When does the museum open?"}]
    for name, stream, read in [
        ("chat_n3", chat_stream(), lambda: ai.chat.completions.stream(model="m", messages=messages)),
        ("messages_cited", message_stream(), lambda: claude.messages.stream(model="m", max_tokens=9, messages=messages)),
        ("responses_parts", response_stream(), lambda: ai.responses.stream(model="m", input="x")),
    ]:
        Recorder.stream = stream
        with read() as reading:
            count = sum(1 for _ in reading)
        assert count > 20, f"{name}: the SDK read {count} events"
        (OUT / f"{name}.sse").write_bytes(stream)
        print(f"{name}: {len(stream)} bytes, {count} events to the SDK")
    Recorder.stream = None


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    ai = openai.OpenAI(base_url=f"{address}/v1", api_key="k", max_retries=0)
    claude = anthropic.Anthropic(base_url=address, api_key="k", max_retries=0)
    requests("chat", ai.chat.completions.create, chat_create_params.CompletionCreateParamsNonStreaming)
    requests("responses", ai.responses.create, response_create_params.ResponseCreateParamsNonStreaming, {"model": "m", "input": "x"})
    requests("completions", ai.completions.create, completion_create_params.CompletionCreateParamsNonStreaming)
    requests("embeddings", ai.embeddings.create, embedding_create_params.EmbeddingCreateParams)
    requests("moderations", ai.moderations.create, moderation_create_params.ModerationCreateParams)
    requests("messages", claude.messages.create, message_create_params.MessageCreateParamsNonStreaming)
    shapes.BREADTH = 1  # the same messages
    requests("tokens", claude.messages.count_tokens, message_count_tokens_params.MessageCountTokensParams)
    shapes.BREADTH = 2
    for name, kind in [
        ("chat_replies", ChatCompletion),
        ("completions_replies", Completion),
        ("embeddings_replies", CreateEmbeddingResponse),
        ("models_replies", Model),
        ("messages_replies", Message),
    ]:
        lines(name, dumped(kind))
    shapes.BREADTH = 1  # an event that brings a whole response need not bring every response
    for name, kind in [
        ("responses_replies", Response),
        ("chat_events", ChatCompletionChunk),
        ("completions_events", Completion),
        ("responses_events", ResponseStreamEvent),
        ("messages_events", RawMessageStreamEvent),
    ]:
        lines(name, dumped(kind))
    streams(ai, claude)
    print(f"openai {openai.__version__}, anthropic {anthropic.__version__}")


main()
