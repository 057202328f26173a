"""Anthropic's Python SDK, through the gateway, on /v1/messages."""

from __future__ import annotations

import json

import anthropic
import pytest
from anthropic import Anthropic, DefaultHttpxClient
from conftest import innocent, until
from upstream import SAID

QUESTION = {"max_tokens": 200, "messages": [{"role": "user", "content": SAID["question"]}]}
WITH_SYSTEM = {**QUESTION, "system": SAID["own_system"]}
ATTACK = {"max_tokens": 200, "messages": [{"role": "user", "content": SAID["attack"]}]}
BIG = 123456789012345678901234567890  # no double holds it
TOOLS = [
    {
        "name": "weather",
        "description": "The weather of the next days.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    }
]


def client(url: str, tap, **more) -> Anthropic:
    http = DefaultHttpxClient(transport=tap.of(DefaultHttpxClient), trust_env=False)
    return Anthropic(base_url=url, api_key=SAID["client_key"], http_client=http, **{"timeout": 40, **more})


def collected(events, script=None) -> tuple[str, str | None]:
    """Text and stop reason; the script's gate is opened once most of the harmless text has come."""
    text, stop = "", None
    for event in events:
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            text += event.delta.text
            if script and SAID["cue"] in text:
                script.go()
        if event.type == "message_delta":
            stop = event.delta.stop_reason
    return text, stop


def read(stream, script) -> None:
    """Reads a helper's stream to its end; the script's gate is opened once most of the harmless text has come."""
    text = ""
    for piece in stream.text_stream:
        text += piece
        if SAID["cue"] in text:
            script.go()


def kinds(wire: str) -> list[str]:
    return [line.removeprefix("event: ") for line in wire.splitlines() if line.startswith("event: ")]


# -- allowed


def test_allowed(guarded, script, tap):
    said = script("allowed")
    raw = client(guarded.url, tap).messages.with_raw_response.create(model=said.model, **QUESTION)
    message = raw.parse()
    assert [block.text for block in message.content] == [SAID["harmless"]]
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (21, 34)
    assert message._request_id.startswith("req_") and message._request_id == raw.headers["request-id"]
    assert raw.headers["x-upstream-request-id"] == "req_up_1"
    assert raw.headers["x-guardrail-policy"].startswith("guarded;rev=")
    assert raw.headers["x-guardrail-action"] == "allow"
    (received,) = said.received()
    assert tap.text == received.sent, "what no rule touches arrives byte for byte"


def test_constitution_goes_first_and_the_clients_own_words_stay(guarded, script, tap):
    said = script("allowed")
    sdk = client(guarded.url, tap)
    for _ in range(2):
        sdk.messages.create(model=said.model, metadata={"user_id": "u-1"}, extra_body={"new": {"big": BIG}}, **WITH_SYSTEM)
    first, second = said.received()
    blocks = [{"type": "text", "text": SAID["constitution"]}, {"type": "text", "text": SAID["own_system"]}]
    assert first.body["system"] == blocks
    assert first.body["messages"] == QUESTION["messages"]
    assert first.body["metadata"] == {"user_id": "u-1"} and first.body["new"] == {"big": BIG}
    assert first.body == second.body
    assert first.headers["x-api-key"] == SAID["upstream_key"] and first.headers["anthropic-version"]
    assert SAID["client_key"] not in json.dumps([first.headers, first.body])


def test_system_blocks_keep_their_cache_mark(guarded, script, tap):
    said = script("allowed")
    own = {"type": "text", "text": SAID["own_system"], "cache_control": {"type": "ephemeral"}}
    client(guarded.url, tap).messages.create(model=said.model, system=[own], **QUESTION)
    assert said.received()[0].body["system"] == [{"type": "text", "text": SAID["constitution"]}, own]


def test_constitution_where_the_client_has_no_system_prompt(guarded, script, tap):
    said = script("allowed")
    client(guarded.url, tap).messages.create(model=said.model, **QUESTION)
    system = said.received()[0].body["system"]
    assert system in (SAID["constitution"], [{"type": "text", "text": SAID["constitution"]}])


def test_streamed_allowed(guarded, script, tap):
    said = script("allowed")
    stream = client(guarded.url, tap).messages.create(model=said.model, stream=True, **QUESTION)
    assert stream.response.headers["x-guardrail-policy"].startswith("guarded;rev=")
    assert collected(stream) == (SAID["harmless"], "end_turn")
    assert tap.text == said.received()[0].sent, "what no rule touches arrives byte for byte"


def test_stream_helper_allowed(guarded, script, tap):
    said = script("allowed")
    with client(guarded.url, tap).messages.stream(model=said.model, **QUESTION) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == SAID["harmless"] == final.content[0].text
    assert (final.usage.input_tokens, final.usage.output_tokens) == (21, 34)


@pytest.mark.parametrize("streamed", [False, True])
def test_signed_thinking_passes_untouched(guarded, script, tap, streamed):
    said = script("thinking")
    messages = client(guarded.url, tap).messages
    if streamed:
        with messages.stream(model=said.model, **QUESTION) as stream:
            final = stream.get_final_message()
    else:
        final = messages.create(model=said.model, **QUESTION)
    thinking, text = final.content
    assert (thinking.thinking, thinking.signature) == (SAID["thinking"], SAID["signature"])
    assert text.text == SAID["harmless"] and tap.text == said.received()[0].sent


# -- blocked


@pytest.mark.parametrize("streamed", [False, True])
def test_blocked_input(guarded, script, tap, streamed):
    said = script("allowed")
    before = guarded.metric("wardline_guard_decisions_total", rule="attack", action="block", stage="input")
    with pytest.raises(anthropic.BadRequestError) as raised:
        client(guarded.url, tap).messages.create(model=said.model, stream=streamed, **ATTACK)
    error = raised.value
    assert (error.status_code, error.type) == (400, "invalid_request_error")
    assert error.body["error"]["message"].startswith(SAID["blocked"])
    assert error.request_id.startswith("req_") and error.body["request_id"] == error.request_id
    assert SAID["attack"] not in tap.text
    assert error.response.headers["x-guardrail-action"] == "block"
    assert tap.requests == 1, "the SDK does not retry"
    assert said.received() == []
    after = guarded.metric("wardline_guard_decisions_total", rule="attack", action="block", stage="input")
    assert after == before + 1


def test_blocked_input_in_a_tool_result(guarded, script, tap):
    said = script("allowed")
    use = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Bern"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": SAID["attack"]}]}
    messages = [*QUESTION["messages"], {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    with pytest.raises(anthropic.BadRequestError):
        client(guarded.url, tap).messages.create(model=said.model, max_tokens=200, messages=messages, tools=TOOLS)
    assert said.received() == []


@pytest.mark.parametrize("streamed", [False, True])
def test_blocked_input_as_a_refusal(refusing, script, tap, streamed):
    said = script("allowed")
    messages = client(refusing.url, tap).messages
    if streamed:
        with messages.stream(model=said.model, **ATTACK) as stream:
            final = stream.get_final_message()
    else:
        final = messages.create(model=said.model, **ATTACK)
    assert [block.text for block in final.content] == [SAID["blocked"]]
    assert final.stop_reason == "end_turn" and final.role == "assistant"
    assert said.received() == []


def test_blocked_output(guarded, script, tap):
    said = script("toxic")
    message = client(guarded.url, tap).messages.create(model=said.model, **QUESTION)
    assert message.stop_reason == "refusal"
    assert [block.text for block in message.content] in ([], [SAID["blocked"]])
    assert innocent(tap.text)
    assert message.model_extra["guardrail"]["action"] == "block"
    assert len(said.received()) == tap.requests == 1


def test_blocked_from_the_first_word_of_a_stream(guarded, script, tap):
    said = script("toxic")
    with client(guarded.url, tap).messages.stream(model=said.model, **QUESTION) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "refusal"
    assert innocent(tap.text) and kinds(tap.text)[-1] == "message_stop"


def test_stream_is_repaired_from_what_was_read(gateways, script, tap):
    gateway, said = gateways("repairing"), script("toxic-late")
    read = ""
    with client(gateway.url, tap).messages.stream(model=said.model, **QUESTION) as stream:
        for text in stream.text_stream:
            read += text
            if SAID["cue"] in read:
                said.go()
        message = stream.get_final_message()
    (block,) = message.content
    shown, revised = block.text.split(SAID["revised"])
    assert (message.stop_reason, revised) == ("end_turn", "") and innocent(tap.text)
    assert SAID["cue"] in shown and SAID["harmless"].startswith(shown.strip())
    assert message.usage.output_tokens == SAID["usage"]["output"]


def test_held_stream_is_revised_whole(gateways, script, tap):
    gateway, said = gateways("holding"), script("toxic")
    with client(gateway.url, tap).messages.stream(model=said.model, **QUESTION) as stream:
        message = stream.get_final_message()
    assert ([block.text for block in message.content], message.stop_reason) == ([SAID["revised"]], "end_turn")
    assert innocent(tap.text)


def test_blocked_in_the_middle_of_a_stream(guarded, script, tap):
    said = script("toxic-late")
    stream = client(guarded.url, tap).messages.create(model=said.model, stream=True, **QUESTION)
    text, stop = collected(stream, said)
    assert SAID["cue"] in text and SAID["harmless"].startswith(text) and stop == "refusal"
    assert innocent(tap.text)
    assert [kind for kind in kinds(tap.text) if kind not in ("ping", "content_block_delta")] == [
        "message_start",
        "content_block_start",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_stream_helper_tells_of_the_block(guarded, script, tap):
    said = script("toxic-late")
    with client(guarded.url, tap).messages.stream(model=said.model, **QUESTION) as stream:
        read(stream, said)
        final = stream.get_final_message()
    assert final.stop_reason == "refusal"
    assert SAID["cue"] in final.content[0].text and SAID["harmless"].startswith(final.content[0].text) and innocent(tap.text)


# -- tools


def test_tool_calls(guarded, script, tap):
    said = script("tool")
    message = client(guarded.url, tap).messages.create(model=said.model, tools=TOOLS, **QUESTION)
    assert message.stop_reason == "tool_use"
    calls = [{"id": block.id, "name": block.name, "arguments": block.input} for block in message.content]
    assert calls == SAID["tools"]
    assert said.received()[0].body["tools"] == TOOLS


def test_streamed_tool_calls(guarded, script, tap):
    said = script("tool")
    calls: dict[int, dict] = {}
    for event in client(guarded.url, tap).messages.create(model=said.model, tools=TOOLS, stream=True, **QUESTION):
        if event.type == "content_block_start":
            calls[event.index] = {"id": event.content_block.id, "name": event.content_block.name, "arguments": ""}
        if event.type == "content_block_delta":
            calls[event.index]["arguments"] += event.delta.partial_json
    parsed = [{**call, "arguments": json.loads(call["arguments"])} for call in calls.values()]
    assert parsed == SAID["tools"]
    assert tap.text == said.received()[0].sent


def test_stream_helper_with_tool_calls(guarded, script, tap):
    said = script("tool")
    with client(guarded.url, tap).messages.stream(model=said.model, tools=TOOLS, **QUESTION) as stream:
        final = stream.get_final_message()
    assert [block.input for block in final.content] == [tool["arguments"] for tool in SAID["tools"]]


# -- redaction


@pytest.mark.parametrize("streamed", [False, True])
def test_personal_data_in_the_answer(guarded, script, tap, streamed):
    said = script("pii")
    got = client(guarded.url, tap).messages.create(model=said.model, stream=streamed, **QUESTION)
    text, stop = collected(got) if streamed else (got.content[0].text, got.stop_reason)
    assert (text, stop) == (SAID["pii_redacted"], "end_turn")
    assert not any(part in tap.text for part in SAID["pii_parts"])


def test_personal_data_in_the_prompt(guarded, script, tap):
    said = script("allowed")
    messages = [{"role": "user", "content": [{"type": "text", "text": SAID["pii"]}]}]
    raw = client(guarded.url, tap).messages.with_raw_response.create(
        model=said.model, max_tokens=200, messages=messages
    )
    assert raw.headers["x-guardrail-action"] == "redact"
    (received,) = said.received()
    assert received.body["messages"][0]["content"] == [{"type": "text", "text": SAID["pii_redacted"]}]
    assert not any(part in json.dumps(received.body) for part in SAID["pii_parts"])


# -- revision


def test_revised(revising, script, tap):
    said = script("toxic")
    before = len(revising.pairs())
    raw = client(revising.url, tap).messages.with_raw_response.create(model=said.model, **WITH_SYSTEM)
    message = raw.parse()
    assert [block.text for block in message.content] == [SAID["revised"]] and message.stop_reason == "end_turn"
    assert raw.headers["x-guardrail-action"] == "revise" and innocent(tap.text)
    _asked, critic, reviser = said.received()
    material = json.loads(critic.body["messages"][-1]["content"])
    assert (material["answer"], material["principle"]) == (SAID["toxic"].strip(), "Be kind to everyone.")
    assert json.loads(reviser.body["messages"][-1]["content"])["critique"] == "It insults the reader."
    until(lambda: len(revising.pairs()) == before + 1)
    row = revising.pairs()[-1]
    system = {"role": "system", "content": SAID["own_system"]}
    assert row["prompt"] == [system, *QUESTION["messages"]]
    assert row["chosen"] == [{"role": "assistant", "content": SAID["revised"]}]
    assert row["rejected"] == [{"role": "assistant", "content": SAID["toxic"].strip()}]


def test_revision_that_is_no_better_is_blocked(revising, script, tap):
    said = script("toxic-stubborn")
    before = len(revising.pairs())
    message = client(revising.url, tap).messages.create(model=said.model, **QUESTION)
    assert message.stop_reason == "refusal" and innocent(tap.text)
    assert len(said.received()) == 3 and len(revising.pairs()) == before


# -- faults


def test_client_that_leaves_in_the_middle_cancels_the_upstream(guarded, script, tap):
    said = script("hang")
    stream = client(guarded.url, tap).messages.create(model=said.model, stream=True, **QUESTION)
    next(event for event in stream if event.type == "content_block_delta")
    stream.close()
    assert said.ended() == "client_gone"


def test_client_that_gives_up_waiting_cancels_the_upstream(guarded, script, tap):
    said = script("silent")
    with pytest.raises(anthropic.APITimeoutError):
        client(guarded.url, tap, max_retries=0, timeout=1.0).messages.create(model=said.model, **QUESTION)
    assert said.ended() == "client_gone"


def test_client_that_leaves_during_a_revision_cancels_the_critic(revising, script, tap):
    said = script("toxic-slow")
    with pytest.raises(anthropic.APITimeoutError):
        client(revising.url, tap, max_retries=0, timeout=2.0).messages.create(model=said.model, **QUESTION)
    assert said.ended(1) == "client_gone"
    assert len(said.received()) == 2, "the reviser is not asked"


@pytest.mark.parametrize(("status", "kind"), [(429, "rate_limit_error"), (529, "overloaded_error")])
def test_upstreams_own_errors_pass_and_are_retried(guarded, script, tap, status, kind):
    said = script(f"error-{status}")
    with pytest.raises(anthropic.APIStatusError) as raised:
        client(guarded.url, tap).messages.create(model=said.model, **QUESTION)
    error = raised.value
    assert (error.status_code, error.type) == (status, kind)
    assert error.response.headers["retry-after-ms"] == "20"
    assert error.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert tap.requests == len(said.received()) == 3, "the SDK retries twice, the gateway never"


def test_retry_that_succeeds(guarded, script, tap):
    said = script("flaky")
    message = client(guarded.url, tap).messages.create(model=said.model, **QUESTION)
    assert message.content[0].text == SAID["harmless"]
    assert tap.requests == len(said.received()) == 2


@pytest.mark.parametrize("fault", ["reset", "close"])
@pytest.mark.parametrize("helper", [False, True])
def test_broken_stream_never_looks_complete(guarded, script, tap, fault, helper):
    said = script(fault)
    messages = client(guarded.url, tap).messages
    with pytest.raises(anthropic.APIError):
        if helper:
            with messages.stream(model=said.model, **QUESTION) as stream:
                read(stream, said)
        else:
            collected(messages.create(model=said.model, stream=True, **QUESTION), said)
    assert said.received()[0].ended == {"reset": "reset", "close": "closed"}[fault]
    assert not {"message_stop", "message_delta"} & set(kinds(tap.text))


# -- not served


def test_other_routes_are_denied(guarded, tap):
    sdk = client(guarded.url, tap)
    for call in (
        lambda: sdk.messages.batches.list(),
        lambda: sdk.beta.files.list(),
        lambda: sdk.messages.batches.retrieve("batch_1"),
    ):
        with pytest.raises(anthropic.PermissionDeniedError) as raised:
            call()
        assert raised.value.type == "permission_error" and raised.value.request_id.startswith("req_")
    assert tap.requests == 3


def test_image_is_refused_because_nobody_reads_it(guarded, script, tap):
    said = script("allowed")
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    content = [{"type": "image", "source": source}, {"type": "text", "text": SAID["question"]}]
    with pytest.raises(anthropic.BadRequestError) as raised:
        client(guarded.url, tap).messages.create(
            model=said.model, max_tokens=200, messages=[{"role": "user", "content": content}]
        )
    assert raised.value.type == "invalid_request_error" and said.received() == [] and tap.requests == 1
