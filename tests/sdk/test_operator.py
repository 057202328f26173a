"""What the operator does while an SDK client goes on: edits the policy, reads the metrics."""

from __future__ import annotations

import os

import pytest
from conftest import until
from test_chat import QUESTION, client
from upstream import SAID


def rewrite(path, text: str) -> None:
    """As an editor or a deployment does it: another file, renamed over the old one."""
    fresh = path.with_name(".fresh")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, path)


def test_an_edited_policy_takes_effect_and_a_broken_one_does_not(own_gateway, script, tap):
    said = script("allowed")
    sdk = client(own_gateway.url, tap)

    def revision() -> str:
        raw = sdk.chat.completions.with_raw_response.create(model=said.model, messages=QUESTION)
        assert raw.parse().choices[0].message.content == SAID["harmless"]
        return raw.headers["x-guardrail-policy"]

    good = own_gateway.policy_file.read_text(encoding="utf-8")
    first = revision()
    assert revision() == first and own_gateway.metric("wardline_config_last_reload_successful") == 1

    rewrite(own_gateway.policy_file, good.replace("Be kind to everyone.", "Be kind to all."))
    until(lambda: revision() != first)
    second = revision()
    assert second.startswith("guarded;rev=")
    sent = said.received()[-1].body["messages"][0]["content"]
    assert sent == SAID["constitution"].replace("Be kind to everyone.", "Be kind to all.")
    in_force = second.partition("rev=")[2]
    assert own_gateway.metric("wardline_policy_info", policy="guarded", revision=in_force) == 1

    rewrite(own_gateway.policy_file, good.replace("threshold:", "treshold:"))
    until(lambda: own_gateway.metric("wardline_config_last_reload_successful") == 0)
    assert revision() == second
    assert "treshold" in own_gateway.log()

    rewrite(own_gateway.policy_file, good)
    until(lambda: own_gateway.metric("wardline_config_last_reload_successful") == 1)
    until(lambda: revision() == first)


def test_a_stream_ends_under_the_policy_that_it_began_with(own_gateway, script, tap):
    said = script("toxic-late")
    sdk = client(own_gateway.url, tap)
    good = own_gateway.policy_file.read_text(encoding="utf-8")
    stream = sdk.chat.completions.create(model=said.model, messages=QUESTION, stream=True)
    text = ""
    while SAID["cue"] not in text:
        text += next(stream).choices[0].delta.content or ""
    before = own_gateway.metric("wardline_config_reloads_total", result="applied")
    rewrite(own_gateway.policy_file, good.replace("stages: [output]", "stages: [output]\n    mode: shadow"))
    until(lambda: own_gateway.metric("wardline_config_reloads_total", result="applied") > before)
    said.go()
    assert [chunk.choices[0].finish_reason for chunk in stream][-1] == "content_filter"

    later = script("toxic")
    completion = sdk.chat.completions.create(model=later.model, messages=QUESTION)
    assert completion.choices[0].message.content == SAID["toxic"].strip(), "a shadow rule only counts"
    shadowed = own_gateway.metric("wardline_guard_decisions_total", rule="harm-answer", mode="shadow", verdict="deny")
    assert shadowed == 1


@pytest.mark.parametrize("name", ["wardline_unscanned_bytes_total", "wardline_classifier_truncated_inputs_total"])
def test_what_must_stay_zero_is_zero(guarded, name):
    assert guarded.metric(name) == 0


def test_requests_are_counted_by_status(own_gateway, script, tap):
    sdk = client(own_gateway.url, tap)
    sdk.chat.completions.create(model=script("allowed").model, messages=QUESTION)
    sdk.chat.completions.create(model=script("tool").model, messages=QUESTION)
    with pytest.raises(Exception, match="404"):
        sdk.get("/unheard-of", cast_to=object)
    assert own_gateway.metric("wardline_http_requests_total", route="chat", code="200") == 2
    assert own_gateway.metric("wardline_http_requests_total", code="404") == 1
    assert own_gateway.metric("gen_ai_client_token_usage_sum", gen_ai_token_type="output") == 2 * 34
