"""A FastAPI upstream that says what it read: how the frameworks behind a gateway understand a body."""

from __future__ import annotations

import json
import threading
import time

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError


class Message(BaseModel):
    """As a lenient server declares it: types are coerced."""

    role: str
    content: str | list | None = None


class Chat(BaseModel):
    model: str
    messages: list[Message]
    stream: bool = False


class Oracle:
    """The server. `readings` has one entry a request that came: the tree that Python's JSON made of it, or none."""

    def __init__(self) -> None:
        self.readings: list[object] = []
        app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> JSONResponse:
            try:
                tree = await request.json()
            except (ValueError, RecursionError):
                self.readings.append(None)
                return JSONResponse({"detail": "unreadable"}, 422)
            self.readings.append(tree)
            try:
                asked = Chat.model_validate(tree)
            except ValidationError:
                asked = None
            answer = {"role": "assistant", "content": "Understood." if asked else "Read, and not understood."}
            choice = {"index": 0, "message": answer, "finish_reason": "stop"}
            return JSONResponse(
                {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
            )

        self._server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def start(self) -> Oracle:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    @property
    def port(self) -> int:
        return self._server.servers[0].sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)


def reads(reading: object, phrase: str) -> bool:
    """Whether the phrase is in what was read, in a key or a value."""
    return phrase in json.dumps(reading, ensure_ascii=False)
