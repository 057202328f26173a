"""OpenAI's Python SDK, through the gateway, on /v1/responses."""

from __future__ import annotations

import json

import openai
import pytest
from conftest import innocent
from test_chat import client, frames
from upstream import SAID

QUESTION = {"input": SAID["question"], "instructions": SAID["own_system"]}
TOOLS = [
    {
        "type": "function",
        "name": "weather",
        "description": "The weather of the next days.",
        "strict": False,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    }
]


def text_of(events, script=None) -> tuple[str, list]:
    """The text of all deltas, and the events; the script's gate is opened once most of the harmless text has come."""
    text, seen = "", []
    for event in events:
        seen.append(event)
        if event.type == "response.output_text.delta":
            text += event.delta
        if script and SAID["cue"] in text:
            script.go()
    return text, seen


def test_allowed_whole_and_streamed(guarded, script, tap):
    said = script("allowed")
    sdk = client(guarded.url, tap).responses
    response = sdk.create(model=said.model, **QUESTION)
    assert (response.output_text, response.status) == (SAID["harmless"], "completed")
    assert response._request_id.startswith("req_")
    (received,) = said.received()
    assert tap.text == received.sent, "what no rule touches arrives byte for byte"
    assert received.body["instructions"] == f"{SAID['constitution']}\n\n{SAID['own_system']}"
    tap.wire.clear()
    text, seen = text_of(sdk.create(model=said.model, stream=True, **QUESTION))
    assert text == SAID["harmless"] and seen[-1].type == "response.completed"
    assert tap.text == said.received()[1].sent


def test_stream_helper_gives_the_final_response(guarded, script, tap):
    with client(guarded.url, tap).responses.stream(model=script("allowed").model, **QUESTION) as stream:
        assert stream.get_final_response().output_text == SAID["harmless"]


def test_tool_calls_whole_and_streamed(guarded, script, tap):
    said = script("tool")
    sdk = client(guarded.url, tap).responses
    whole = sdk.create(model=said.model, tools=TOOLS, **QUESTION)
    with sdk.stream(model=said.model, tools=TOOLS, **QUESTION) as stream:
        final = stream.get_final_response()
    for response in (whole, final):
        calls = [json.loads(call.arguments) for call in response.output]
        assert calls == [tool["arguments"] for tool in SAID["tools"]]


def test_structured_output_is_parsed(guarded, script, tap):
    form = {"format": {"type": "json_schema", "name": "sea", "schema": {"type": "object", "properties": {}}}}
    said = script("allowed")
    client(guarded.url, tap).responses.create(model=said.model, text=form, **QUESTION)
    assert said.received()[0].body["text"] == form


@pytest.mark.parametrize("stream", [False, True])
def test_blocked_input_is_a_bad_request_and_tried_once(guarded, script, tap, stream):
    said = script("allowed")
    with pytest.raises(openai.BadRequestError) as caught:
        client(guarded.url, tap).responses.create(model=said.model, input=SAID["attack"], stream=stream)
    assert (caught.value.code, caught.value.param) == ("content_filter", "input")
    assert tap.requests == 1 and not said.received()


def test_blocked_output_is_incomplete(guarded, script, tap):
    response = client(guarded.url, tap).responses.create(model=script("toxic").model, **QUESTION)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "content_filter")
    assert response.output[0].content[0].refusal == SAID["blocked"]
    assert response.model_extra["guardrail"]["action"] == "block"
    assert innocent(tap.text)


def test_blocked_in_mid_stream_keeps_what_was_said(guarded, script, tap):
    said = script("toxic-late")
    text, seen = text_of(client(guarded.url, tap).responses.create(model=said.model, stream=True, **QUESTION), said)
    assert SAID["harmless"].startswith(text.rstrip()) and SAID["cue"] in text
    last = seen[-1]
    assert (last.type, last.response.incomplete_details.reason) == ("response.incomplete", "content_filter")
    assert last.response.output_text == text and last.response.output[0].status == "incomplete"
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert innocent(tap.text)


def test_blocked_before_the_first_word(guarded, script, tap):
    _, seen = text_of(client(guarded.url, tap).responses.create(model=script("toxic").model, stream=True, **QUESTION))
    assert seen[-1].type == "response.incomplete"
    assert seen[-1].response.output[-1].content[0].refusal == SAID["blocked"]
    assert innocent(tap.text)


def test_refusals_look_like_answers(refusing, script, tap):
    sdk = client(refusing.url, tap).responses
    for question in ({"input": SAID["attack"], "model": script("allowed").model}, {**QUESTION, "model": script("toxic").model}):
        assert sdk.create(**question).status == "completed"
        with sdk.stream(**question) as stream:
            final = stream.get_final_response()
        assert (final.status, final.output[-1].content[0].refusal) == ("completed", SAID["blocked"])
    said = script("toxic-late")
    text, seen = text_of(sdk.create(model=said.model, stream=True, **QUESTION), said)
    assert seen[-1].type == "response.completed" and seen[-1].response.output[-1].content[0].refusal == SAID["blocked"]
    assert SAID["cue"] in text and innocent(tap.text)


def test_personal_data_is_replaced_in_every_repetition(guarded, script, tap):
    said = script("pii")
    sdk = client(guarded.url, tap).responses
    assert sdk.create(model=said.model, **QUESTION).output_text == SAID["pii_redacted"]
    with sdk.stream(model=said.model, **QUESTION) as stream:
        assert stream.get_final_response().output_text == SAID["pii_redacted"]
    assert tap.text.count(SAID["pii_redacted"]) == 5, "the whole answer, and four times in the stream"
    assert not any(part in tap.text for part in SAID["pii_parts"])


def test_an_abusive_answer_is_revised(revising, script, tap):
    response = client(revising.url, tap).responses.create(model=script("toxic").model, **QUESTION)
    assert (response.output_text, response.model_extra["guardrail"]["action"]) == (SAID["revised"], "revise")
    assert innocent(tap.text)


def test_stored_state_is_denied_with_the_reason(guarded, script, tap):
    sdk = client(guarded.url, tap)
    said = script("allowed")
    for more in ({"previous_response_id": "resp_1"}, {"conversation": "conv_1"}, {"background": True}, {"prompt": {"id": "p"}}):
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.responses.create(model=said.model, input="Hello", **more)
        assert (caught.value.code, caught.value.param) == ("stored_state", next(iter(more)))
    for ask in (lambda: sdk.responses.retrieve("resp_1"), lambda: sdk.conversations.create(), lambda: sdk.files.list()):
        with pytest.raises(openai.PermissionDeniedError) as caught:
            ask()
        assert caught.value.code == "endpoint_not_allowed"
    assert tap.requests == 7 and not said.received()


def test_upstream_errors_and_broken_streams_raise(guarded, script, tap):
    said = script("error-503")
    with pytest.raises(openai.InternalServerError):
        client(guarded.url, tap).responses.create(model=said.model, **QUESTION)
    assert len(said.received()) == 3, "the SDK's own retries"
    said = script("close")
    with pytest.raises(openai.APIError):
        text_of(client(guarded.url, tap).responses.create(model=said.model, stream=True, **QUESTION), said)
    assert frames(tap.text)[-1]["code"] == "upstream_stream_broken"
