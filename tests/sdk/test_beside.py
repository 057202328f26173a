"""The official Python SDKs, through the gateway, on the smaller endpoints: embeddings, moderations, models, token counts,
legacy completions, and Azure OpenAI's paths."""

from __future__ import annotations

import json

import openai
import pytest
import test_messages as messages
from conftest import innocent
from openai import AzureOpenAI, DefaultHttpxClient
from test_chat import QUESTION, client, collected
from upstream import SAID

CATEGORIES = 13


def azure(url: str, tap) -> AzureOpenAI:
    http = DefaultHttpxClient(transport=tap.of(DefaultHttpxClient), trust_env=False)
    return AzureOpenAI(azure_endpoint=url, api_key=SAID["client_key"], api_version="2024-10-21", http_client=http)


def test_embeddings(guarded, script, tap):
    said = script("allowed")
    sdk = client(guarded.url, tap).embeddings
    got = sdk.create(model=said.model, input=["The sea", "Write to anna.keller@example.org"])
    assert [one.embedding for one in got.data] == [[0.5, -0.25, 0.0], [0.5, -0.25, 1.0]]
    (received,) = said.received()
    assert received.body["input"] == ["The sea", "Write to [EMAIL_ADDRESS]"]
    assert received.sent == tap.text and received.body["encoding_format"] == "base64"
    for bad, code in ((SAID["attack"], "content_filter"), ([[1, 2, 3]], "unscannable")):
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.create(model=said.model, input=bad)
        assert caught.value.code == code
    assert len(said.received()) == 1


def test_moderations_come_from_the_gateways_own_classifier(guarded, tap):
    sdk = client(guarded.url, tap).moderations
    got = sdk.create(model="omni-moderation-latest", input=[SAID["harmless"], SAID["toxic"]])
    assert [one.flagged for one in got.results] == [False, True]
    abusive = got.results[1]
    assert abusive.categories.harassment and abusive.category_scores.harassment > 0.5
    assert len(json.loads(tap.text)["results"][1]["categories"]) == CATEGORIES
    assert not abusive.categories.sexual_minors and abusive.category_scores.sexual_minors == 0
    assert got.id.startswith("modr-")
    assert sdk.create(input=SAID["toxic"]).results[0].flagged
    parts = [{"type": "text", "text": SAID["harmless"]}, {"type": "text", "text": SAID["toxic"]}]
    assert len(sdk.create(input=parts).results) == 1
    with pytest.raises(openai.BadRequestError):
        sdk.create(input=[{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}])


def test_models_in_both_dialects(guarded, tap):
    sdk = client(guarded.url, tap).models
    assert [model.id for model in sdk.list()] == ["gpt-scripted"]
    assert sdk.retrieve("gpt-4o-mini").id == "gpt-4o-mini"
    with pytest.raises(openai.PermissionDeniedError):
        sdk.delete("gpt-4o-mini")
    sdk = messages.client(guarded.url, tap).models
    assert [model.id for model in sdk.list(limit=5)] == ["claude-scripted"]
    assert sdk.retrieve("claude-x").id == "claude-x"


def test_tokens_are_counted_with_the_constitution(guarded, script, tap):
    said = script("allowed")
    question = {key: value for key, value in messages.QUESTION.items() if key != "max_tokens"}
    counted = messages.client(guarded.url, tap).messages.count_tokens(model=said.model, **question)
    (received,) = said.received()
    assert counted.input_tokens > 0 and received.sent == tap.text
    assert received.body["system"] == SAID["constitution"]


def test_legacy_completions(guarded, script, tap):
    said = script("allowed")
    sdk = client(guarded.url, tap).completions
    assert sdk.create(model=said.model, prompt=SAID["question"]).choices[0].text == SAID["harmless"]
    assert said.received()[0].body["prompt"] == f"{SAID['constitution']}\n\n{SAID['question']}"
    text = "".join(chunk.choices[0].text for chunk in sdk.create(model=said.model, prompt="Hello", stream=True))
    assert text == SAID["harmless"]
    for stream in (False, True):
        got = sdk.create(model=script("toxic").model, prompt="Hello", stream=stream)
        last = list(got)[-1] if stream else got
        assert (last.choices[0].finish_reason, last.choices[0].text) == ("content_filter", "")
    with pytest.raises(openai.BadRequestError):
        sdk.create(model=said.model, prompt=SAID["attack"])
    assert innocent(tap.text)


def test_azures_paths_and_key(guarded, script, tap):
    said = script("allowed")
    sdk = azure(guarded.url, tap)
    whole = sdk.chat.completions.create(model=said.model, messages=QUESTION)
    assert whole.choices[0].message.content == SAID["harmless"]
    streamed = sdk.chat.completions.create(model=said.model, messages=QUESTION, stream=True)
    assert collected(streamed)[0] == {0: SAID["harmless"]}
    received = said.received()[0]
    assert received.path == f"/openai/deployments/{said.model}/chat/completions?api-version=2024-10-21"
    assert received.headers["api-key"] == SAID["upstream_key"]
    assert "authorization" not in received.headers
    assert received.body["messages"][0] == {"role": "system", "content": SAID["constitution"]}
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model=said.model, messages=[{"role": "user", "content": SAID["attack"]}])
    assert caught.value.code == "content_filter"
    assert len(sdk.embeddings.create(model=script("allowed").model, input="The sea").data) == 1
    with pytest.raises(openai.PermissionDeniedError):
        sdk.images.generate(model="dall-e-3", prompt="The sea")
    toxic = sdk.chat.completions.create(model=script("toxic").model, messages=QUESTION)
    assert toxic.choices[0].finish_reason == "content_filter"
