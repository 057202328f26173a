"""LangChain, LlamaIndex and the OpenAI Agents SDK, through the gateway, each with the models that it brings.

LlamaIndex's model for Anthropic (0.12.3) is left out: with the anthropic package of today it raises before it sends.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import anthropic
import openai
import pytest
from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAI as LlamaOpenAI
from llama_index.llms.openai import OpenAIResponses as LlamaResponses
from pydantic import BaseModel
from upstream import SAID

set_tracing_disabled(True)
RETRIES = 2
BAD = (openai.BadRequestError, anthropic.BadRequestError)
FAILED = (openai.APIStatusError, anthropic.APIStatusError)


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    days: int


def weather(city: str, days: int, units: str = "", note: str = "") -> str:
    """The weather of the next days."""
    return "dry"


@dataclass
class Framework:
    """What a test wants of one framework with one kind of model; each takes the gateway's URL and a model's name."""

    ask: Callable[[str, str, str], str]
    stream: Callable[[str, str, str], Iterator[str]]
    structured: Callable[[str, str], Weather]
    calls: Callable[[str, str], list[dict]]


def langchain(make: Callable[[str, str], object]) -> Framework:
    def calls(url: str, model: str) -> list[dict]:
        return [call["args"] for call in make(url, model).bind_tools([tool(weather)]).invoke(SAID["question"]).tool_calls]

    return Framework(
        lambda url, model, text: said_by(make(url, model).invoke(text)),
        lambda url, model, text: (said_by(chunk) for chunk in make(url, model).stream(text)),
        lambda url, model: make(url, model).with_structured_output(Weather, **structured_by(make)).invoke("Bern?"),
        calls,
    )


def structured_by(make: object) -> dict:
    return {"method": "json_schema"} if make is not langchain_anthropic else {}


def said_by(message: object) -> str:
    """The text of a message, or the refusal in its place."""
    parts = message.content if isinstance(message.content, list) else [{"text": message.content}]
    texts = "".join(part.get("text") or part.get("refusal") or "" for part in parts if isinstance(part, dict))
    return texts or message.additional_kwargs.get("refusal") or ""


def langchain_chat(url: str, model: str) -> ChatOpenAI:
    return ChatOpenAI(model=model, base_url=f"{url}/v1", api_key=SAID["client_key"], max_retries=RETRIES)


def langchain_responses(url: str, model: str) -> ChatOpenAI:
    key = SAID["client_key"]
    return ChatOpenAI(model=model, base_url=f"{url}/v1", api_key=key, max_retries=RETRIES, use_responses_api=True)


def langchain_anthropic(url: str, model: str) -> ChatAnthropic:
    return ChatAnthropic(model=model, base_url=url, api_key=SAID["client_key"], max_retries=RETRIES, max_tokens=500)


def llama_index(make: Callable[[str, str], object]) -> Framework:
    def ask(url: str, model: str, text: str) -> str:
        return make(url, model).chat([ChatMessage(role="user", content=text)]).message.content or ""

    def stream(url: str, model: str, text: str) -> Iterator[str]:
        for part in make(url, model).stream_chat([ChatMessage(role="user", content=text)]):
            yield part.delta or ""

    def calls(url: str, model: str) -> list[dict]:
        llm = make(url, model)
        answer = llm.chat_with_tools([FunctionTool.from_defaults(weather)], user_msg=SAID["question"], allow_parallel_tool_calls=True)
        return [call.tool_kwargs for call in llm.get_tool_calls_from_response(answer)]

    def structured(url: str, model: str) -> Weather:
        return Weather.model_validate_json(ask(url, model, "Bern?"))

    return Framework(ask, stream, structured, calls)


# These look a model's name up in a list of known ones; what is asked for stands beside it.
def llama_chat(url: str, model: str) -> LlamaOpenAI:
    more = {"additional_kwargs": {"model": model}, "max_retries": RETRIES}
    return LlamaOpenAI(model="gpt-4o-mini", api_base=f"{url}/v1", api_key=SAID["client_key"], **more)


def llama_responses(url: str, model: str) -> LlamaResponses:
    more = {"additional_kwargs": {"model": model}, "max_retries": RETRIES}
    return LlamaResponses(model="gpt-4o-mini", api_base=f"{url}/v1", api_key=SAID["client_key"], **more)


def agents(kind: type) -> Framework:
    def agent(url: str, model: str, **more: object) -> Agent:
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=SAID["client_key"], max_retries=RETRIES)
        return Agent(name="one", instructions=SAID["own_system"], model=kind(model, client), **more)

    def ask(url: str, model: str, text: str) -> str:
        return str(asyncio.run(Runner.run(agent(url, model), text)).final_output or "")

    def stream(url: str, model: str, text: str) -> Iterator[str]:
        # The framework is asynchronous throughout; its events are taken one by one, so that a gate can be opened.
        loop = asyncio.new_event_loop()
        try:
            events = start(loop, agent(url, model), text)
            while (event := loop.run_until_complete(anext(events, None))) is not None:
                if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                    yield event.data.delta
        finally:
            loop.close()

    def start(loop: asyncio.AbstractEventLoop, one: Agent, text: str):
        async def begin():
            return Runner.run_streamed(one, text).stream_events()

        return loop.run_until_complete(begin())

    def calls(url: str, model: str) -> list[dict]:
        got = []

        @function_tool(name_override="weather")
        def note(city: str, days: int) -> str:
            """The weather of the next days."""
            got.append({"city": city, "days": days})
            return "dry"

        one = agent(url, model, tools=[note], tool_use_behavior="stop_on_first_tool")
        asyncio.run(Runner.run(one, SAID["question"]))
        return got

    def structured(url: str, model: str) -> Weather:
        return asyncio.run(Runner.run(agent(url, model, output_type=Weather), "Bern?")).final_output

    return Framework(ask, stream, structured, calls)


FRAMEWORKS = {
    "langchain-openai chat": langchain(langchain_chat),
    "langchain-openai responses": langchain(langchain_responses),
    "langchain-anthropic": langchain(langchain_anthropic),
    "llama-index-openai chat": llama_index(llama_chat),
    "llama-index-openai responses": llama_index(llama_responses),
    "openai-agents chat": agents(OpenAIChatCompletionsModel),
    "openai-agents responses": agents(OpenAIResponsesModel),
}


@pytest.fixture(params=FRAMEWORKS, ids=lambda name: name.replace(" ", "-"))
def framework(request) -> Framework:
    return FRAMEWORKS[request.param]


def innocent(text: str) -> bool:
    return not any(word in text for word in SAID["toxic_words"])


def test_allowed(framework, guarded, script):
    said = script("allowed")
    assert framework.ask(guarded.url, said.model, SAID["question"]) == SAID["harmless"]
    assert SAID["constitution"] in json.dumps(said.received()[0].body, ensure_ascii=False).replace("\\n", "\n")


def test_streamed(framework, guarded, script):
    said = script("allowed")
    assert "".join(framework.stream(guarded.url, said.model, SAID["question"])) == SAID["harmless"]
    assert said.received()[0].body["stream"] is True


def test_structured(framework, guarded, script, request):
    name = "structured-tool" if "langchain-anthropic" in request.node.name else "structured"
    assert framework.structured(guarded.url, script(name).model) == Weather(city="Bern", days=3)


def test_tools(framework, guarded, script):
    calls = framework.calls(guarded.url, script("tool").model)
    cities = [(call["city"], call["days"]) for call in calls]
    assert cities == [(tool["arguments"]["city"], tool["arguments"]["days"]) for tool in SAID["tools"]]


def test_blocked_input_raises_and_nothing_goes_up(framework, guarded, script):
    said = script("allowed")
    with pytest.raises(BAD) as raised:
        framework.ask(guarded.url, said.model, SAID["attack"])
    assert SAID["blocked"] in str(raised.value) and said.received() == []


def test_blocked_output_is_not_seen(framework, guarded, script):
    said = script("toxic")
    try:
        text = framework.ask(guarded.url, said.model, SAID["question"])
    except Exception as error:  # noqa: BLE001  a framework may raise where the model refuses; it may not leak or retry
        text = str(error)
    assert innocent(text) and len(said.received()) == 1


@pytest.mark.parametrize("name", ["toxic", "toxic-late"])
def test_blocked_output_in_a_stream_is_not_seen(framework, guarded, script, name):
    said, text = script(name), ""
    try:
        for part in framework.stream(guarded.url, said.model, SAID["question"]):
            text += part
            if SAID["cue"] in text:
                said.go()
    except Exception as error:  # noqa: BLE001  as above
        assert innocent(str(error))
    assert innocent(text) and len(said.received()) == 1
    assert name == "toxic" or SAID["cue"] in text


def test_refusals_read_as_answers(framework, refusing, script):
    said = script("allowed")
    try:
        assert framework.ask(refusing.url, said.model, SAID["attack"]) in (SAID["blocked"], "")
    except Exception as error:  # noqa: BLE001  the Agents SDK raises its own error for a refusal
        assert SAID["blocked"] in str(error) or "refus" in str(error).lower()
    assert said.received() == []


def test_errors_are_retried_as_without_a_gateway(framework, guarded, upstream, script):
    counts = []
    for url in (upstream.url, guarded.url):
        said = script("error-500")
        with pytest.raises(FAILED):
            framework.ask(url, said.model, SAID["question"])
        counts.append(len(said.received()))
    assert counts[0] == counts[1] >= 1 + RETRIES
    said = script("flaky")
    assert framework.ask(guarded.url, said.model, SAID["question"]) == SAID["harmless"]
    assert len(said.received()) == 2
