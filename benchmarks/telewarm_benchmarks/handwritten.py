"""`python -m telewarm_benchmarks.handwritten PORT`: the service that sends by file id, written by hand.

FastAPI, pydantic and aiohttp as their tutorials use them: a bearer token, a checked body, file ids in a dict that was
read when the process started, one request to Telegram, a response with what it said, uvicorn's log of requests. No
flood control, no chat statuses. Settings come from the environment: API_TOKEN, API_ROOT, BOT_TOKEN, MEDIA_ID, FILE_ID.
"""

from __future__ import annotations

import hmac
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import aiohttp
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

SETTINGS = {name: os.environ.get(name, "") for name in ("API_TOKEN", "API_ROOT", "BOT_TOKEN", "MEDIA_ID", "FILE_ID")}  # noqa: TID251 - a program of its own


class Send(BaseModel):
    """The body of a send."""

    model_config = ConfigDict(extra="forbid")

    chat_id: int
    media: Annotated[list[int], Field(min_length=1, max_length=10)]
    caption: Annotated[str | None, Field(max_length=1024)] = None
    silent: bool = False


class Result(BaseModel):
    """One message that was sent."""

    media_id: int
    message_id: int


class Response(BaseModel):
    """The response to a send."""

    ok: bool
    results: list[Result]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the session, and read the file ids."""
    app.state.file_ids = {int(SETTINGS["MEDIA_ID"]): SETTINGS["FILE_ID"]}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200)) as session:
        app.state.session = session
        yield


def check_token(authorization: Annotated[str, Header()] = "") -> None:
    """Raises 401."""
    if not hmac.compare_digest(authorization.encode(), f"Bearer {SETTINGS['API_TOKEN']}".encode()):
        raise HTTPException(401, "wrong token")


app = FastAPI(lifespan=lifespan)


@app.post("/api/bots/{slug}/send", dependencies=[Depends(check_token)])
async def send(slug: str, body: Send, request: Request) -> Response:
    """Send each media item by its file id."""
    results = []
    for media_id in body.media:
        file_id = request.app.state.file_ids.get(media_id)
        if file_id is None:
            raise HTTPException(404, f"{slug} has no media item {media_id}")
        fields = {"chat_id": body.chat_id, "photo": file_id, "disable_notification": body.silent}
        if body.caption is not None:
            fields["caption"] = body.caption
        url = f"{SETTINGS['API_ROOT']}/bot{SETTINGS['BOT_TOKEN']}/sendPhoto"
        async with request.app.state.session.post(url, json=fields) as response:
            reply = await response.json()
        if not reply["ok"]:
            raise HTTPException(502, reply["description"])
        results.append(Result(media_id=media_id, message_id=reply["result"]["message_id"]))
    return Response(ok=True, results=results)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]))  # with its log of requests, as ours has one
