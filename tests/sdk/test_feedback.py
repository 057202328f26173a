"""Feedback with the official OpenAI SDK: the README's own lines, run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import openai
import pytest
from conftest import until
from test_chat import QUESTION, client
from upstream import SAID

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def lines(model: str) -> str:
    """The README's example; only the model's name is the test's own."""
    (example,) = [code for code in re.findall(r"```python\n(.*?)```", README, re.S) if '"/feedback"' in code]
    assert example.count('model="gpt-4.1"') == 1
    return example.replace("gpt-4.1", model)


def test_the_readmes_example_leaves_rows(rated, script, tap):
    sdk = client(rated.url, tap)
    statuses, post = [], sdk.post

    def heard(path, **more):
        said = post(path, **more)
        statuses.extend([said["status"]] if path == "/feedback" else [])
        return said

    sdk.post = heard
    other = sdk.chat.completions.create(model=script("second").model, messages=QUESTION)
    before = len(rated.rows("unpaired")), len(rated.pairs())
    exec(lines(script("allowed").model), {"client": sdk, "messages": QUESTION, "other": other})
    assert statuses == ["kept"] * 4
    until(lambda: (len(rated.rows("unpaired")), len(rated.pairs())) == (before[0] + 2, before[1] + 2))
    thumbs, copy = rated.rows("unpaired")[-2:]
    assert (thumbs["label"], thumbs["meta"]["signal"], thumbs["meta"]["comment"]) == (False, "explicit", "It misses the point.")
    assert (copy["label"], copy["meta"]["signal"], copy["meta"]["event"]) == (True, "implicit", "copy")
    demonstration, preferred = rated.pairs()[-2:]
    assert demonstration["chosen"][0]["content"] == "What should have been said."
    assert demonstration["rejected"][0]["content"] == SAID["harmless"]
    assert (preferred["chosen"][0]["content"], preferred["rejected"][0]["content"]) == (SAID["harmless"], SAID["second"])
    assert all(row["prompt"] == QUESTION for row in (thumbs, copy, demonstration, preferred))


def test_a_streamed_answer_is_rated_by_the_id_in_its_head(rated, script, tap):
    sdk = client(rated.url, tap)
    raw = sdk.chat.completions.with_raw_response.create(model=script("second").model, messages=QUESTION, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in raw.parse() if chunk.choices)
    assert text == SAID["second"]
    said = lambda: sdk.post("/feedback", body={"request_id": raw.headers["x-request-id"], "rating": 5}, cast_to=object)
    assert said()["status"] == "kept"
    assert said()["status"] == "duplicate"


def test_only_real_exchanges_of_ones_own_can_be_rated(rated, script, tap):
    sdk = client(rated.url, tap)
    answer = sdk.chat.completions.create(model=script("allowed").model, messages=QUESTION)
    stranger = sdk.with_options(api_key="somebody-else")
    for asked, request_id in ((sdk, "req_made_up"), (stranger, answer._request_id)):
        with pytest.raises(openai.APIStatusError) as caught:
            asked.post("/feedback", body={"request_id": request_id, "thumbs": "up"}, cast_to=object)
        assert caught.value.status_code in (400, 403, 404), caught.value
