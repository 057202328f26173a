"""What the tests stand on: one scripted upstream, one gateway a policy, SDK clients with a tap on their wire."""

from __future__ import annotations

import importlib
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

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


class Tap:
    """Counts what an SDK sends and keeps every byte of the bodies that it gets."""

    def __init__(self) -> None:
        self.requests = 0
        self.wire = bytearray()

    def of(self, client: type) -> object:
        """A transport for an SDK's HTTP client: those of different years stand on different libraries."""
        roots = (base.__module__.partition(".")[0] for base in client.__mro__)
        http = importlib.import_module(next(root for root in roots if root in ("httpx", "httpx2")))
        tap = self

        class Tee(http.SyncByteStream):
            def __init__(self, inner: object) -> None:
                self._inner = inner

            def __iter__(self) -> Iterator[bytes]:
                for piece in self._inner:
                    tap.wire += piece
                    yield piece

            def close(self) -> None:
                self._inner.close()

        class Transport(http.HTTPTransport):
            def handle_request(self, request: object) -> object:
                tap.requests += 1
                got = super().handle_request(request)
                more = {"headers": got.headers, "stream": Tee(got.stream), "extensions": got.extensions}
                return http.Response(got.status_code, **more)

        return Transport()

    @property
    def text(self) -> str:
        return self.wire.decode()


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
def rated(gateways: Callable[[str], Gateway]) -> Gateway:
    return gateways("rated")


@pytest.fixture
def own_gateway(upstream: Upstream) -> Iterator[Gateway]:
    """A gateway for one test, which may edit its policy."""
    gateway = Gateway("guarded", upstream.url).start()
    yield gateway
    gateway.stop()
