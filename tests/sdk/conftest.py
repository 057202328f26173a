"""What the tests stand on: one scripted upstream, one gateway a policy, SDK clients with a tap on their wire."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import httpx2
import pytest
from gateway import Gateway
from upstream import SAID, Received, Upstream

PATIENCE_S = 20.0


class Scripted:
    """One test's script: the model name to ask for, and what the upstream saw of it."""

    def __init__(self, upstream: Upstream, name: str) -> None:
        self._upstream = upstream
        self._tag = uuid.uuid4().hex[:12]
        self.model = f"script:{name}@{self._tag}"

    def received(self) -> list[Received]:
        return self._upstream.received(self._tag)

    def go(self) -> None:
        """Opens the script's gate."""
        self._upstream.go(self._tag)

    def ended(self, nth: int = 0) -> str:
        """How one of the answers ended, as the upstream saw it; waits for the end."""
        until(lambda: any(one.ended for one in self.received()[nth:]))
        return self.received()[nth].ended


class Tap(httpx2.HTTPTransport):
    """Counts what an SDK sends and keeps every byte of the bodies that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0
        self.wire = bytearray()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests += 1
        got = super().handle_request(request)
        stream = _Tee(got.stream, self.wire)
        return httpx2.Response(got.status_code, headers=got.headers, stream=stream, extensions=got.extensions)

    @property
    def text(self) -> str:
        return self.wire.decode()


class _Tee(httpx2.SyncByteStream):
    def __init__(self, inner: httpx2.SyncByteStream, copy: bytearray) -> None:
        self._inner, self._copy = inner, copy

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._inner:
            self._copy += piece
            yield piece

    def close(self) -> None:
        self._inner.close()


def until(true: Callable[[], bool]) -> None:
    """Waits for something that must come about; generous, since how long it takes is not what is tested."""
    patience = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < patience, "waited in vain"
        time.sleep(0.02)


def innocent(wire: str) -> bool:
    """Whether none of the abusive words is in it."""
    return not any(word in wire for word in SAID["toxic_words"])


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    server = Upstream().start()
    yield server
    server.stop()


@pytest.fixture
def script(upstream: Upstream) -> Callable[[str], Scripted]:
    return lambda name: Scripted(upstream, name)


@pytest.fixture
def tap() -> Tap:
    return Tap()


@pytest.fixture(scope="session")
def gateways(upstream: Upstream) -> Iterator[Callable[[str], Gateway]]:
    with ExitStack() as stack:

        @cache
        def running(policy: str) -> Gateway:
            gateway = Gateway(policy, upstream.url).start()
            stack.callback(gateway.stop)
            return gateway

        yield running


@pytest.fixture
def guarded(gateways: Callable[[str], Gateway]) -> Gateway:
    return gateways("guarded")


@pytest.fixture
def refusing(gateways: Callable[[str], Gateway]) -> Gateway:
    return gateways("refusing")


@pytest.fixture
def revising(gateways: Callable[[str], Gateway]) -> Gateway:
    return gateways("revising")


@pytest.fixture
def own_gateway(upstream: Upstream) -> Iterator[Gateway]:
    """A gateway for one test, which may edit its policy."""
    gateway = Gateway("guarded", upstream.url).start()
    yield gateway
    gateway.stop()
