"""No body that a FastAPI upstream can read passes unscanned, and none that everybody reads alike is refused."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import corpus
import pytest
from corpus import CALM, PHRASE, Case
from gateway import Gateway
from oracle import Oracle, reads


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    server = Oracle().start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def keyword(oracle: Oracle) -> Iterator[Gateway]:
    gateway = Gateway("keyword", oracle.url).start()
    yield gateway
    gateway.stop()


def post(url: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        connection.close()


def through(keyword: Gateway, oracle: Oracle, body: bytes, headers: dict[str, str]) -> tuple[int, dict, list]:
    """Status and answer, and what reached the oracle."""
    oracle.readings.clear()
    status, answer = post(keyword.url, body, headers)
    return status, answer, list(oracle.readings)


def direct(oracle: Oracle, body: bytes, headers: dict[str, str]) -> object:
    """What the oracle makes of a body without the gateway."""
    oracle.readings.clear()
    post(oracle.url, body, headers)
    return oracle.readings[0]


def without_constitution(reading: dict) -> dict:
    head, *rest = reading["messages"]
    assert head == {"role": "system", "content": "Be kind."}
    return {**reading, "messages": rest}


@pytest.mark.parametrize("case", corpus.ACCEPTED, ids=lambda case: case.name)
def test_what_everybody_reads_is_read_and_judged(keyword, oracle, case: Case):
    status, answer, reached = through(keyword, oracle, case.body, case.headers)
    assert (status, answer["error"]["code"], reached) == (400, "content_filter", [])
    if "Content-Encoding" in case.headers:
        return  # an upstream gets it plain
    calm = case.calm() if PHRASE.encode() in case.body else case.body.replace(corpus.ESCAPED.encode(), CALM.encode())
    status, answer, (reached,) = through(keyword, oracle, calm, case.headers)
    assert status == 200, answer
    assert without_constitution(reached) == direct(oracle, calm, case.headers)


@pytest.mark.parametrize("case", corpus.REFUSED, ids=lambda case: case.name)
def test_what_readers_differ_on_is_refused_and_never_forwarded(keyword, oracle, case: Case):
    for body in (case.body, case.calm()):
        status, answer, reached = through(keyword, oracle, body, case.headers)
        assert status in case.status and reached == [], answer
        assert answer["error"]["message"] and answer["error"]["code"] != "content_filter"
        assert PHRASE not in json.dumps(answer)


@pytest.mark.parametrize(("case", "expected"), corpus.LEFT_OPEN, ids=lambda one: getattr(one, "name", ""))
def test_what_is_left_to_each_reader_is_judged_or_refused(keyword, oracle, case: Case, expected: int):
    status, _, reached = through(keyword, oracle, case.calm(), case.headers)
    assert (status, len(reached)) == (expected, int(expected == 200))
    if PHRASE.encode() in case.body:
        status, _, reached = through(keyword, oracle, case.body, case.headers)
        assert (status, reached) == (400, [])


def test_the_oracle_reads_much_that_the_gateway_refuses(oracle):
    """Otherwise it would be no oracle: these would have passed a guard that cannot read them."""
    read = [case.name for case in corpus.REFUSED if reads(direct(oracle, case.body, case.headers), PHRASE)]
    for name in ("n_bom", "n_utf-16", "n_duplicate_messages", "n_number_0", "n_surrogate_0", "n_text", "n_charset_lie"):
        assert name in read, read
