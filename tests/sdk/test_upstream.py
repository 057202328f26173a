"""The control: the scripted upstream satisfies the SDKs by itself, with nothing between them."""

from __future__ import annotations

import json

import openai
import pytest
import test_chat as chat
import test_messages as messages
from upstream import SAID


def test_chat_whole_and_streamed(upstream, script, tap):
    completions = chat.client(upstream.url, tap).chat.completions
    said = script("two")
    whole = completions.create(model=said.model, messages=chat.QUESTION, n=2)
    assert [choice.message.content for choice in whole.choices] == [SAID["harmless"], SAID["second"]]
    streamed = completions.create(
        model=said.model, messages=chat.QUESTION, stream=True, stream_options={"include_usage": True}
    )
    assert chat.collected(streamed)[0] == {0: SAID["harmless"], 1: SAID["second"]}
    assert [one.body.get("stream", False) for one in said.received()] == [False, True]
    with completions.stream(model=script("tool").model, messages=chat.QUESTION, tools=chat.TOOLS) as stream:
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert [json.loads(call.function.arguments) for call in calls] == [tool["arguments"] for tool in SAID["tools"]]


def test_messages_whole_and_streamed(upstream, script, tap):
    sdk = messages.client(upstream.url, tap).messages
    said = script("thinking")
    whole = sdk.create(model=said.model, **messages.QUESTION)
    with sdk.stream(model=said.model, **messages.QUESTION) as stream:
        final = stream.get_final_message()
    for thinking, text in (whole.content, final.content):
        assert (thinking.thinking, thinking.signature) == (SAID["thinking"], SAID["signature"])
        assert text.text == SAID["harmless"]
    with sdk.stream(model=script("tool").model, tools=messages.TOOLS, **messages.QUESTION) as stream:
        calls = stream.get_final_message().content
    assert [call.input for call in calls] == [tool["arguments"] for tool in SAID["tools"]]


def test_errors_faults_and_gates(upstream, script, tap):
    completions = chat.client(upstream.url, tap).chat.completions
    busy = script("error-429")
    with pytest.raises(openai.RateLimitError):
        completions.create(model=busy.model, messages=chat.QUESTION)
    assert len(busy.received()) == 3
    broken = script("reset")
    with pytest.raises(Exception, match="reset|disconnect|Connection|closed") as raised:
        chat.collected(completions.create(model=broken.model, messages=chat.QUESTION, stream=True), broken)
    assert not isinstance(raised.value, AssertionError) and broken.ended() == "reset"
    left = script("hang")
    stream = completions.create(model=left.model, messages=chat.QUESTION, stream=True)
    next(iter(stream))
    stream.close()
    assert left.ended() == "client_gone"
    late = script("toxic-late")
    text, stop = messages.collected(
        messages.client(upstream.url, tap).messages.create(model=late.model, stream=True, **messages.QUESTION), late
    )
    assert (text, stop) == (SAID["harmless"] + SAID["toxic"], "end_turn")


def test_critic_and_reviser(upstream, script, tap):
    said = script("toxic")
    document = {"principle": "p", "request": "r", "conversation": [], "answer": "a"}
    sdk = messages.client(upstream.url, tap).messages

    def ask(system: str, material: dict) -> dict:
        question = [{"role": "user", "content": json.dumps(material)}]
        got = sdk.create(model=said.model, max_tokens=99, system=system, messages=question)
        return json.loads(got.content[0].text)

    assert ask("You are the critic. Judge.", document)["violated"] is True
    assert ask("You are the reviser. Mend.", {**document, "critique": "c"}) == {"revision": SAID["revised"]}

