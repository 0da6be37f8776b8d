"""A bare client for the sandbox's tests: what goes in and out, unwrapped."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import aiohttp

from telewarm.sandbox import Sandbox
from tests.fixtures.sandbox import token

CHANNEL = -1001234567890
OTHER_CHANNEL = -1009876543210
GROUP = -4567
USER = 777


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    status: int
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def result(self) -> Any:  # noqa: ANN401  (JSON)
        assert self.status == 200, self.body
        return self.body["result"]

    @property
    def error(self) -> tuple[int, str]:
        assert self.body["error_code"] == self.status
        return self.status, self.body["description"]


async def call(
    sandbox: Sandbox,
    method: str,
    *,
    bot: int = 0,
    files: dict[str, tuple[str, bytes]] | None = None,
    **params: Any,  # noqa: ANN401  (whatever a method takes)
) -> Answer:
    """Call a method as the `bot`th bot: JSON, or multipart if there are `files` (name -> file name, bytes)."""
    url = f"{sandbox.url}/bot{token(bot)}/{method}"
    async with aiohttp.ClientSession() as session:
        if files is None:
            request = session.post(url, json=params)
        else:
            form = aiohttp.FormData({name: str(value) for name, value in params.items()})
            for name, (filename, data) in files.items():
                form.add_field(name, io.BytesIO(data), filename=filename, content_type="application/octet-stream")
            request = session.post(url, data=form)
        async with request as response:
            return Answer(status=response.status, body=await response.json(), headers=dict(response.headers))


async def control(sandbox: Sandbox, name: str, body: dict[str, Any] | None = None, **query: str) -> dict[str, Any]:
    """POST `body` to a control endpoint, or GET it without one."""
    url = f"{sandbox.url}/sandbox/{name}"
    async with aiohttp.ClientSession() as session:
        request = session.get(url, params=query) if body is None else session.post(url, json=body)
        async with request as response:
            answer: dict[str, Any] = await response.json()
            return answer


async def warm(
    sandbox: Sandbox, data: bytes, *, chat: int = CHANNEL, bot: int = 0, name: str = "a.jpg"
) -> dict[str, Any]:
    """Upload a photo; the message."""
    message: dict[str, Any] = (
        await call(sandbox, "sendPhoto", bot=bot, files={"photo": (name, data)}, chat_id=chat)
    ).result
    return message


def file_id(message: dict[str, Any]) -> str:
    """Of a photo message, its largest size."""
    found: str = message["photo"][-1]["file_id"]
    return found
