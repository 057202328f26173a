"""How the official SDKs take each ending of a blocked stream: both settings of `on_output_block`, before the first word, in
mid-stream and in the middle of a tool call, with and without usage."""

from __future__ import annotations

import pytest
import test_chat
import test_messages
import test_responses
from conftest import innocent
from openai import ContentFilterFinishReasonError
from upstream import SAID

PLACES = ("toxic", "toxic-late", "tool-toxic")
POLICIES = ("guarded", "refusing")


@pytest.fixture
def blocked(gateways, script):
    """A gateway under a policy, and a script whose gate is open from the beginning."""

    def start(policy: str, place: str):
        said = script(place)
        said.go()
        return gateways(policy), said

    return start


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("policy", POLICIES)
def test_chat_completions(blocked, tap, policy, place, usage):
    gateway, said = blocked(policy, place)
    ai = test_chat.client(gateway.url, tap)
    asked = {"model": said.model, "messages": test_chat.QUESTION, "tools": test_chat.TOOLS}
    if usage:
        asked["stream_options"] = {"include_usage": True}
    chunks = list(ai.chat.completions.create(**asked, stream=True))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert [c.finish_reason for c in choices if c.finish_reason] == ["content_filter" if policy == "guarded" else "stop"]
    assert not any(choice.delta.tool_calls for choice in choices) and innocent(tap.text)
    text = "".join(choice.delta.content or "" for choice in choices)
    assert SAID["harmless"].startswith(text)
    told = "".join(choice.delta.refusal or "" for choice in choices)
    # Under `content_filter` only an answer that has not begun at all says more than its reason to end.
    assert told == SAID["blocked"] if policy == "refusing" else told in ("", SAID["blocked"])
    with ai.chat.completions.stream(**asked) as stream:
        for _ in stream:
            pass
        if policy == "guarded":
            with pytest.raises(ContentFilterFinishReasonError):
                stream.get_final_completion()
        else:
            (choice,) = stream.get_final_completion().choices
            assert (choice.message.refusal, choice.finish_reason) == (SAID["blocked"], "stop")
            assert not choice.message.tool_calls


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("policy", POLICIES)
def test_messages_(blocked, tap, policy, place):
    gateway, said = blocked(policy, place)
    asked = {"model": said.model, "max_tokens": 500, "messages": [{"role": "user", "content": SAID["question"]}]}
    with test_messages.client(gateway.url, tap).messages.stream(**asked) as stream:
        for _ in stream:
            pass
        final = stream.get_final_message()
    assert final.stop_reason == ("refusal" if policy == "guarded" else "end_turn")
    texts = [block.text for block in final.content]
    assert innocent(tap.text) and all(block.type == "text" for block in final.content)
    said_something = any(text and text != SAID["blocked"] for text in texts)
    assert (SAID["blocked"] in texts) == (policy == "refusing" or not said_something)
    assert SAID["harmless"].startswith("".join(text for text in texts if text != SAID["blocked"]))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("policy", POLICIES)
def test_responses_(blocked, tap, policy, place):
    gateway, said = blocked(policy, place)
    ai = test_responses.client(gateway.url, tap)
    events = list(ai.responses.create(model=said.model, input=SAID["question"], stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events))) and innocent(tap.text)
    last = events[-1]
    if policy == "guarded":
        assert (last.type, last.response.incomplete_details.reason) == ("response.incomplete", "content_filter")
        with ai.responses.stream(model=said.model, input=SAID["question"]) as stream:
            for _ in stream:
                pass
            with pytest.raises(RuntimeError):
                stream.get_final_response()
    else:
        parts = [part for item in last.response.output if item.type == "message" for part in item.content]
        assert last.type == "response.completed"
        assert SAID["blocked"] in [getattr(part, "refusal", None) or part.text for part in parts]
        with ai.responses.stream(model=said.model, input=SAID["question"]) as stream:
            for _ in stream:
                pass
            assert stream.get_final_response().status == "completed"
    assert not any(item.type == "function_call" for item in last.response.output)
