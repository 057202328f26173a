"""OpenAI's Python SDK, through the gateway, on /v1/chat/completions."""

from __future__ import annotations

import json

import openai
import pytest
from conftest import innocent, until
from openai import ContentFilterFinishReasonError, DefaultHttpxClient, OpenAI
from pydantic import BaseModel
from upstream import SAID

QUESTION = [{"role": "system", "content": SAID["own_system"]}, {"role": "user", "content": SAID["question"]}]
GONE = "wardline_stream_terminations_total"
BIG = 123456789012345678901234567890  # no double holds it
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of the next days.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
        },
    }
]


def client(url: str, tap, **more) -> OpenAI:
    http = DefaultHttpxClient(transport=tap.of(DefaultHttpxClient), trust_env=False)
    return OpenAI(base_url=f"{url}/v1", api_key=SAID["client_key"], http_client=http, **{"timeout": 40, **more})


def collected(chunks, script=None) -> tuple[dict[int, str], dict[int, str]]:
    """Text and finish reason of each choice; the script's gate is opened once most of the harmless text has come."""
    texts, finished = {}, {}
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            if choice.finish_reason:
                finished[choice.index] = choice.finish_reason
        if script and SAID["cue"] in texts.get(0, ""):
            script.go()
    return texts, finished


def frames(wire: str) -> list[dict | str]:
    """The data of each event; comments do not count."""
    data = [line.removeprefix("data: ") for line in wire.splitlines() if line.startswith("data: ")]
    return [one if one == "[DONE]" else json.loads(one) for one in data]


# -- allowed


def test_allowed(guarded, script, tap):
    said = script("allowed")
    raw = client(guarded.url, tap).chat.completions.with_raw_response.create(model=said.model, messages=QUESTION)
    completion = raw.parse()
    assert completion.choices[0].message.content == SAID["harmless"]
    assert completion.choices[0].finish_reason == "stop"
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (21, 34)
    assert completion._request_id.startswith("req_") and completion._request_id == raw.headers["x-request-id"]
    assert raw.headers["x-upstream-request-id"] == "req_up_1"
    assert raw.headers["x-guardrail-policy"].startswith("guarded;rev=")
    assert raw.headers["x-guardrail-action"] == "allow"
    (received,) = said.received()
    assert tap.text == received.sent, "what no rule touches arrives byte for byte"


def test_constitution_goes_first_and_the_clients_own_words_stay(guarded, script, tap):
    said = script("allowed")
    sdk = client(guarded.url, tap)
    for _ in range(2):
        sdk.chat.completions.create(
            model=said.model, messages=QUESTION, metadata={"team": "a"}, extra_body={"new": {"big": BIG}}
        )
    first, second = said.received()
    assert first.body["messages"][0] == {"role": "system", "content": SAID["constitution"]}
    assert first.body["messages"][1:] == QUESTION
    assert first.body["metadata"] == {"team": "a"} and first.body["new"] == {"big": BIG}
    assert first.body == second.body
    assert first.headers["authorization"] == f"Bearer {SAID['upstream_key']}"
    assert SAID["client_key"] not in json.dumps([first.headers, first.body])


def test_developer_prompt_keeps_its_role(guarded, script, tap):
    said = script("allowed")
    messages = [{"role": "developer", "content": SAID["own_system"]}, QUESTION[1]]
    client(guarded.url, tap).chat.completions.create(model=said.model, messages=messages)
    sent = said.received()[0].body["messages"]
    assert sent == [{"role": "developer", "content": SAID["constitution"]}, *messages]


def test_streamed_allowed(guarded, script, tap):
    said = script("allowed")
    stream = client(guarded.url, tap).chat.completions.create(model=said.model, messages=QUESTION, stream=True)
    assert stream.response.headers["x-guardrail-policy"].startswith("guarded;rev=")
    assert stream.response.headers["content-type"].startswith("text/event-stream")
    texts, finished = collected(stream)
    assert texts == {0: SAID["harmless"]} and finished == {0: "stop"}
    assert tap.text == said.received()[0].sent, "what no rule touches arrives byte for byte"


def test_stream_helper_allowed(guarded, script, tap):
    said = script("allowed")
    with client(guarded.url, tap).chat.completions.stream(model=said.model, messages=QUESTION) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == SAID["harmless"] == final.choices[0].message.content


@pytest.mark.parametrize("wanted", [True, False])
def test_usage_in_streams_comes_when_asked_for(guarded, script, tap, wanted):
    said = script("allowed")
    options = {"include_usage": wanted}
    chunks = list(
        client(guarded.url, tap).chat.completions.create(
            model=said.model, messages=QUESTION, stream=True, stream_options=options
        )
    )
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert [(one.prompt_tokens, one.completion_tokens) for one in usages] == ([(21, 34)] if wanted else [])
    assert said.received()[0].body["stream_options"] == options


@pytest.mark.parametrize("streamed", [False, True])
def test_two_choices(guarded, script, tap, streamed):
    said = script("two")
    got = client(guarded.url, tap).chat.completions.create(model=said.model, messages=QUESTION, n=2, stream=streamed)
    texts = collected(got)[0] if streamed else {one.index: one.message.content for one in got.choices}
    assert texts == {0: SAID["harmless"], 1: SAID["second"]}
    assert said.received()[0].body["n"] == 2


# -- blocked


@pytest.mark.parametrize("streamed", [False, True])
def test_blocked_input(guarded, script, tap, streamed):
    said = script("allowed")
    before = guarded.metric("wardline_guard_decisions_total", rule="attack", action="block", stage="input")
    with pytest.raises(openai.BadRequestError) as raised:
        client(guarded.url, tap).chat.completions.create(
            model=said.model, messages=[{"role": "user", "content": SAID["attack"]}], stream=streamed
        )
    error = raised.value
    assert (error.status_code, error.code, error.type) == (400, "content_filter", "invalid_request_error")
    assert error.request_id.startswith("req_") and SAID["blocked"] in error.message
    assert SAID["attack"] not in tap.text
    assert error.response.headers["x-guardrail-action"] == "block"
    assert tap.requests == 1, "the SDK does not retry"
    assert said.received() == []
    after = guarded.metric("wardline_guard_decisions_total", rule="attack", action="block", stage="input")
    assert after == before + 1


def test_blocked_input_anywhere_in_the_conversation(guarded, script, tap):
    said = script("allowed")
    messages = [
        *QUESTION,
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Bern\"}"}}
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": SAID["attack"]},
    ]  # fmt: skip
    with pytest.raises(openai.BadRequestError):
        client(guarded.url, tap).chat.completions.create(model=said.model, messages=messages)
    assert said.received() == []


@pytest.mark.parametrize("streamed", [False, True])
def test_blocked_input_as_a_refusal(refusing, script, tap, streamed):
    said = script("allowed")
    attack = [{"role": "user", "content": SAID["attack"]}]
    completions = client(refusing.url, tap).chat.completions
    if streamed:
        with completions.stream(model=said.model, messages=attack) as stream:
            message = stream.get_final_completion().choices[0]
    else:
        message = completions.create(model=said.model, messages=attack).choices[0]
    assert message.finish_reason == "stop"
    assert message.message.refusal == SAID["blocked"] and not message.message.content
    assert said.received() == []


def test_blocked_output(guarded, script, tap):
    said = script("toxic")
    completion = client(guarded.url, tap).chat.completions.create(model=said.model, messages=QUESTION)
    (choice,) = completion.choices
    assert choice.finish_reason == "content_filter"
    assert choice.message.content is None and choice.message.refusal == SAID["blocked"]
    assert innocent(tap.text)
    assert completion.model_extra["guardrail"]["action"] == "block"
    assert len(said.received()) == tap.requests == 1


def test_parse_helper_tells_of_the_block(guarded, script, tap):
    said = script("toxic")
    with pytest.raises(ContentFilterFinishReasonError):
        client(guarded.url, tap).chat.completions.parse(model=said.model, messages=QUESTION)
    assert innocent(tap.text)


def test_blocked_output_as_a_refusal(refusing, script, tap):
    said = script("toxic")
    completion = client(refusing.url, tap).chat.completions.create(model=said.model, messages=QUESTION)
    (choice,) = completion.choices
    assert (choice.finish_reason, choice.message.refusal) == ("stop", SAID["blocked"])
    assert not choice.message.content and innocent(tap.text)


def test_blocked_choice_leaves_the_other_alone(guarded, script, tap):
    said = script("toxic-second")
    first, second = client(guarded.url, tap).chat.completions.create(
        model=said.model, messages=QUESTION, n=2
    ).choices  # fmt: skip
    assert (first.finish_reason, first.message.content) == ("stop", SAID["harmless"])
    assert second.finish_reason == "content_filter" and not second.message.content
    assert innocent(tap.text)


@pytest.mark.parametrize("include_usage", [False, True])
def test_blocked_from_the_first_word_of_a_stream(guarded, script, tap, include_usage):
    said = script("toxic")
    options = {"stream_options": {"include_usage": True}} if include_usage else {}
    stream = client(guarded.url, tap).chat.completions.create(
        model=said.model, messages=QUESTION, stream=True, **options
    )
    texts, finished = collected(stream)
    assert SAID["toxic"].strip().startswith(texts.get(0, "")) and finished == {0: "content_filter"}
    assert innocent(tap.text) and frames(tap.text)[-1] == "[DONE]"


def test_blocked_in_the_middle_of_a_stream(guarded, script, tap):
    said = script("toxic-late")
    stream = client(guarded.url, tap).chat.completions.create(model=said.model, messages=QUESTION, stream=True)
    texts, finished = collected(stream, said)
    assert SAID["cue"] in texts[0] and SAID["harmless"].startswith(texts[0])
    assert finished == {0: "content_filter"}
    assert innocent(tap.text)
    events = frames(tap.text)
    assert events[-1] == "[DONE]" and all("choices" in event for event in events[:-1])
    assert len({event["id"] for event in events[:-1]}) == 1, "the end bears the stream's own id"


def test_stream_helper_tells_of_the_block(guarded, script, tap):
    said = script("toxic-late")
    text = ""
    with client(guarded.url, tap).chat.completions.stream(model=said.model, messages=QUESTION) as stream:
        for event in stream:
            if event.type == "content.delta":
                text = event.snapshot
                if SAID["cue"] in text:
                    said.go()
        with pytest.raises(ContentFilterFinishReasonError):
            stream.get_final_completion()
    assert SAID["cue"] in text and SAID["harmless"].startswith(text) and innocent(tap.text)


def test_stream_helper_gets_a_refusal(refusing, script, tap):
    said = script("toxic-late")
    with client(refusing.url, tap).chat.completions.stream(model=said.model, messages=QUESTION) as stream:
        for event in stream:
            if event.type == "content.delta" and SAID["cue"] in event.snapshot:
                said.go()
        (choice,) = stream.get_final_completion().choices
    assert (choice.finish_reason, choice.message.refusal) == ("stop", SAID["blocked"])
    assert SAID["harmless"].startswith(choice.message.content) and innocent(tap.text)


# -- structured


def test_structured_output(guarded, script, tap):
    class Weather(BaseModel):
        city: str
        days: int

    said = script("structured")
    sdk = client(guarded.url, tap).chat.completions
    got = sdk.parse(model=said.model, messages=QUESTION, response_format=Weather)
    assert got.choices[0].message.parsed == Weather(city="Bern", days=3)
    with sdk.stream(model=said.model, messages=QUESTION, response_format=Weather) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == Weather(city="Bern", days=3)
    assert said.received()[0].body["response_format"]["json_schema"]["schema"]["properties"]["city"]["type"] == "string"


# -- tools


def test_tool_calls(guarded, script, tap):
    said = script("tool")
    completion = client(guarded.url, tap).chat.completions.create(model=said.model, messages=QUESTION, tools=TOOLS)
    (choice,) = completion.choices
    assert choice.finish_reason == "tool_calls"
    calls = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls]
    assert calls == [(tool["id"], tool["name"], tool["arguments"]) for tool in SAID["tools"]]
    assert said.received()[0].body["tools"] == TOOLS


def test_streamed_tool_calls(guarded, script, tap):
    said = script("tool")
    calls: dict[int, dict] = {}
    for chunk in client(guarded.url, tap).chat.completions.create(
        model=said.model, messages=QUESTION, tools=TOOLS, stream=True
    ):
        for part in [part for choice in chunk.choices for part in choice.delta.tool_calls or []]:
            call = calls.setdefault(part.index, {"id": part.id, "name": part.function.name, "arguments": ""})
            call["arguments"] += part.function.arguments or ""
    parsed = [{**call, "arguments": json.loads(call["arguments"])} for call in calls.values()]
    assert parsed == SAID["tools"]
    assert tap.text == said.received()[0].sent


def test_stream_helper_with_tool_calls(guarded, script, tap):
    said = script("tool")
    with client(guarded.url, tap).chat.completions.stream(model=said.model, messages=QUESTION, tools=TOOLS) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
    assert [(one.name, json.loads(one.arguments)) for one in done] == [
        (tool["name"], tool["arguments"]) for tool in SAID["tools"]
    ]


# -- redaction


@pytest.mark.parametrize("streamed", [False, True])
def test_personal_data_in_the_answer(guarded, script, tap, streamed):
    said = script("pii")
    got = client(guarded.url, tap).chat.completions.create(model=said.model, messages=QUESTION, stream=streamed)
    if streamed:
        texts, finished = collected(got)
        text, finish = texts[0], finished[0]
    else:
        text, finish = got.choices[0].message.content, got.choices[0].finish_reason
    assert (text, finish) == (SAID["pii_redacted"], "stop")
    assert not any(part in tap.text for part in SAID["pii_parts"])


@pytest.mark.parametrize("streamed", [False, True])
def test_log_probabilities_do_not_tell_what_was_redacted(guarded, script, tap, streamed):
    said = script("pii")
    got = client(guarded.url, tap).chat.completions.create(
        model=said.model, messages=QUESTION, logprobs=True, stream=streamed
    )
    choices = [choice for one in (got if streamed else [got]) for choice in one.choices]
    tokens = "".join(token.token for choice in choices if choice.logprobs for token in choice.logprobs.content)
    spelled = bytes(byte for choice in choices if choice.logprobs for t in choice.logprobs.content for byte in t.bytes)
    for part in SAID["pii_parts"]:
        assert part not in tokens and part.encode() not in spelled


def test_personal_data_in_the_prompt(guarded, script, tap):
    said = script("allowed")
    messages = [QUESTION[0], {"role": "user", "content": [{"type": "text", "text": SAID["pii"]}]}]
    raw = client(guarded.url, tap).chat.completions.with_raw_response.create(model=said.model, messages=messages)
    assert raw.headers["x-guardrail-action"] == "redact"
    (received,) = said.received()
    assert received.body["messages"][-1]["content"] == [{"type": "text", "text": SAID["pii_redacted"]}]
    assert not any(part in json.dumps(received.body) for part in SAID["pii_parts"])


# -- revision


def test_revised(revising, script, tap):
    said = script("toxic")
    before = len(revising.pairs())
    raw = client(revising.url, tap).chat.completions.with_raw_response.create(model=said.model, messages=QUESTION)
    (choice,) = raw.parse().choices
    assert (choice.message.content, choice.finish_reason) == (SAID["revised"], "stop")
    assert raw.headers["x-guardrail-action"] == "revise" and innocent(tap.text)
    asked, critic, reviser = said.received()
    assert asked.body["messages"][1:] == QUESTION
    material = json.loads(critic.body["messages"][-1]["content"])
    assert (material["answer"], material["principle"]) == (SAID["toxic"].strip(), "Be kind to everyone.")
    assert material["request"] == "Point out what is unkind in the last response."
    material = json.loads(reviser.body["messages"][-1]["content"])
    assert material["critique"] == "It insults the reader."
    until(lambda: len(revising.pairs()) == before + 1)
    row = revising.pairs()[-1]
    assert row["prompt"] == QUESTION
    assert row["chosen"] == [{"role": "assistant", "content": SAID["revised"]}]
    assert row["rejected"] == [{"role": "assistant", "content": SAID["toxic"].strip()}]


def test_revision_that_is_no_better_is_blocked(revising, script, tap):
    said = script("toxic-stubborn")
    before = len(revising.pairs())
    (choice,) = client(revising.url, tap).chat.completions.create(model=said.model, messages=QUESTION).choices
    assert choice.finish_reason == "content_filter" and innocent(tap.text)
    assert len(said.received()) == 3 and len(revising.pairs()) == before


def test_stream_is_repaired_from_what_was_read(gateways, script, tap):
    gateway, said = gateways("repairing"), script("toxic-late")
    with client(gateway.url, tap).chat.completions.stream(model=said.model, messages=QUESTION) as stream:
        for event in stream:
            if event.type == "content.delta" and SAID["cue"] in event.snapshot:
                said.go()
        (choice,) = stream.get_final_completion().choices
    shown, revised = choice.message.content.split(SAID["revised"])
    assert (choice.finish_reason, revised) == ("stop", "") and innocent(tap.text)
    assert SAID["cue"] in shown and SAID["harmless"].startswith(shown.strip())
    _asked, critic, reviser = said.received()
    assert json.loads(critic.body["messages"][-1]["content"])["answer"] == SAID["harmless"] + SAID["toxic"]
    assert json.loads(reviser.body["messages"][-1]["content"])["shown"].strip() == shown.strip()


def test_held_stream_is_revised_whole(gateways, script, tap):
    gateway, said = gateways("holding"), script("toxic")
    with client(gateway.url, tap).chat.completions.stream(model=said.model, messages=QUESTION) as stream:
        (choice,) = stream.get_final_completion().choices
    assert (choice.message.content, choice.finish_reason) == (SAID["revised"], "stop") and innocent(tap.text)


# -- faults


def test_client_that_leaves_in_the_middle_cancels_the_upstream(guarded, script, tap):
    said = script("hang")
    before = guarded.metric(GONE, route="chat", reason="client_gone")
    stream = client(guarded.url, tap).chat.completions.create(model=said.model, messages=QUESTION, stream=True)
    next(chunk for chunk in stream if chunk.choices[0].delta.content)
    stream.close()
    assert said.ended() == "client_gone"
    until(lambda: guarded.metric(GONE, route="chat", reason="client_gone") == before + 1)


def test_client_that_gives_up_waiting_cancels_the_upstream(guarded, script, tap):
    said = script("silent")
    with pytest.raises(openai.APITimeoutError):
        client(guarded.url, tap, max_retries=0, timeout=1.0).chat.completions.create(
            model=said.model, messages=QUESTION
        )
    assert said.ended() == "client_gone"


def test_client_that_leaves_during_a_revision_cancels_the_critic(revising, script, tap):
    said = script("toxic-slow")
    with pytest.raises(openai.APITimeoutError):
        client(revising.url, tap, max_retries=0, timeout=2.0).chat.completions.create(
            model=said.model, messages=QUESTION
        )
    assert said.ended(1) == "client_gone"
    assert len(said.received()) == 2, "the reviser is not asked"


def test_upstreams_own_errors_pass_and_are_retried(guarded, script, tap):
    said = script("error-429")
    with pytest.raises(openai.RateLimitError) as raised:
        client(guarded.url, tap).chat.completions.create(model=said.model, messages=QUESTION)
    error = raised.value
    assert (error.code, error.type) == ("rate_limit_exceeded", "requests")
    assert error.response.headers["retry-after-ms"] == "20"
    assert error.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert tap.requests == len(said.received()) == 3, "the SDK retries twice, the gateway never"


def test_retry_that_succeeds(guarded, script, tap):
    said = script("flaky")
    completion = client(guarded.url, tap).chat.completions.create(model=said.model, messages=QUESTION)
    assert completion.choices[0].message.content == SAID["harmless"]
    assert tap.requests == len(said.received()) == 2


@pytest.mark.parametrize("fault", ["reset", "close"])
@pytest.mark.parametrize("helper", [False, True])
def test_broken_stream_never_looks_complete(guarded, script, tap, fault, helper):
    said = script(fault)
    completions = client(guarded.url, tap).chat.completions
    with pytest.raises(openai.APIError):
        if helper:
            with completions.stream(model=said.model, messages=QUESTION) as stream:
                for event in stream:
                    if event.type == "content.delta" and SAID["cue"] in event.snapshot:
                        said.go()
        else:
            collected(completions.create(model=said.model, messages=QUESTION, stream=True), said)
    assert said.received()[0].ended == {"reset": "reset", "close": "closed"}[fault]
    events = frames(tap.text)
    assert "[DONE]" not in events and not any(
        choice["finish_reason"] for event in events for choice in event.get("choices", [])
    )


# -- not served


def test_other_routes_are_denied(guarded, tap):
    sdk = client(guarded.url, tap)
    for call in (
        lambda: sdk.batches.list(),
        lambda: sdk.images.generate(prompt="text"),
        lambda: sdk.beta.assistants.list(),
        lambda: sdk.chat.completions.retrieve("chatcmpl-1"),
    ):
        with pytest.raises(openai.PermissionDeniedError) as raised:
            call()
        assert raised.value.code == "endpoint_not_allowed" and raised.value.request_id.startswith("req_")
    assert tap.requests == 4


def test_image_is_refused_because_nobody_reads_it(guarded, script, tap):
    said = script("allowed")
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    content = [{"type": "text", "text": SAID["question"]}, image]
    with pytest.raises(openai.BadRequestError) as raised:
        client(guarded.url, tap).chat.completions.create(
            model=said.model, messages=[{"role": "user", "content": content}]
        )
    assert raised.value.type == "invalid_request_error" and said.received() == [] and tap.requests == 1
