"""The control and statistics endpoints under /sandbox/ (JSON in, JSON out)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from telewarm.sandbox import fileids
from telewarm.sandbox.call import clamped
from telewarm.sandbox.chats import Status, Type
from telewarm.sandbox.config import Floods, Network
from telewarm.sandbox.errors import ApiError, bad
from telewarm.sandbox.faults import Rule
from telewarm.sandbox.http import Request
from telewarm.sandbox.mail import Content
from telewarm.sandbox.state import State

T = TypeVar("T")
Answer = dict[str, object]
UNSET = msgspec.UNSET
Unset = msgspec.UnsetType


class ChatChange(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Changes for /sandbox/chats; see `chats.Chat` for the fields."""

    id: int
    type: Type | Unset = UNSET
    title: str | Unset = UNSET
    username: str | Unset = UNSET
    exists: bool | Unset = UNSET
    deactivated: bool | Unset = UNSET
    deleted: bool | Unset = UNSET
    protected: bool | Unset = UNSET
    can_post: bool | Unset = UNSET
    can_delete: bool | Unset = UNSET
    write_access: bool | Unset = UNSET
    migrated_to: int | Unset | None = UNSET
    refuses: str | Unset = UNSET
    slow_mode: int | Unset = UNSET
    topics: dict[int, bool] | Unset = UNSET
    never_started: bool | Unset = UNSET
    blocked: bool | Unset = UNSET
    blocked_bots: set[int] | Unset = UNSET
    restricted: set[str] | Unset = UNSET
    voice_forbidden: set[str] | Unset = UNSET
    members: dict[int, Status] | Unset = UNSET
    others: Status | Unset = UNSET


class BotChange(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Changes for /sandbox/bots. `renew`: forget the token, so that a new one is accepted."""

    id: int
    username: str | Unset = UNSET
    first_name: str | Unset = UNSET
    declared: bool | Unset = UNSET
    revoked: bool | Unset = UNSET
    logged_out: bool | Unset = UNSET
    renew: bool = False


class FileChange(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`kill`: file ids to invalidate; `kill_files`: file ids of files to invalidate entirely, for all bots."""

    kill: list[str] = []
    kill_files: list[str] = []
    revive: bool = False


class Change(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Changes for /sandbox/config. `floods`: `off`, `telegram` or single limits beside `off`."""

    floods: str | Floods | Unset = UNSET
    network: Network | Unset = UNSET
    latency: float | Unset = UNSET
    bandwidth: float | Unset | None = UNSET
    local: bool | Unset = UNSET
    declared_bots_only: bool | Unset = UNSET
    declared_chats_only: bool | Unset = UNSET
    strict_kinds: bool | Unset = UNSET
    clock_offset: float | Unset = UNSET
    url_cache: float | Unset = UNSET


class FaultChange(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Changes for /sandbox/faults."""

    rules: list[Rule] = []
    clear: bool = False


def answer(state: State, request: Request) -> Answer:
    """Answer a control request. Raises ApiError 404 for an unknown path, 400 for a wrong body."""
    name = request.path.removeprefix("/sandbox/").strip("/")
    handler = HANDLERS.get(name)
    if handler is None:
        raise ApiError(404, "Not Found")
    try:
        return {"ok": True, **handler(state, request)}
    except msgspec.DecodeError as error:
        raise bad(str(error)) from None


def stats(state: State, request: Request) -> Answer:
    """Return the statistics."""
    shown = state.stats.as_dict(chats=request.params.get("chats", "") in {"1", "true"})
    return {**shown, "files": len(state.files), "killed": len(state.files.killed) + len(state.files.killed_files)}


def reset(state: State, request: Request) -> Answer:
    """Reset everything, or with `{"what": "stats"}` the statistics."""
    if request.params.get("what") == "stats":
        state.stats.clear()
    else:
        state.reset()
    return {}


def faults(state: State, request: Request) -> Answer:
    """Return the rules, or add `rules`, or add the body as one rule."""
    if request.verb == "POST":
        one = "action" in request.params
        change = FaultChange(rules=[body(request, Rule)]) if one else body(request, FaultChange)
        if change.clear:
            state.faults.clear()
        for rule in change.rules:
            state.faults.add(rule)
    return {"rules": state.faults.rules}


def chats(state: State, request: Request) -> Answer:
    """Change chats."""
    changes = set_fields(body(request, ChatChange))
    chat = state.chats.declare(int(str(changes.pop("id"))), **changes)
    return {"chat": chat}


def bots(state: State, request: Request) -> Answer:
    """Change bots."""
    change = body(request, BotChange)
    if change.renew:
        state.bots.renew(change.id)
    bot = state.bots.open(change.id)
    for name, value in set_fields(change).items():
        if name not in {"id", "renew"}:
            setattr(bot, name, value)
    return {"bot": bot.as_user()}


def files(state: State, request: Request) -> Answer:
    """Describe the file of `file_id` (GET), or invalidate ids (POST)."""
    if request.verb == "GET":
        return describe(state, request.params.get("file_id", ""))
    change = body(request, FileChange)
    if change.revive:
        state.files.killed.clear()
        state.files.killed_files.clear()
    state.files.killed.update(change.kill)
    state.files.killed_files.update(fileids.decode(text).id for text in change.kill_files)
    return {"killed": len(state.files.killed), "killed_files": len(state.files.killed_files)}


def describe(state: State, text: str) -> Answer:
    """Describe a file."""
    file = state.files.by_id(fileids.decode(text).id)
    if file is None:
        raise bad("no such file")
    return {
        "kind": file.kind,
        "bytes": file.size,
        "sha256": file.sha256.hex(),
        "name": file.name,
        "mime": file.mime,
        "width": file.width,
        "height": file.height,
        "duration": file.duration,
        "has_thumbnail": file.thumbnail is not None,
        "uploads": state.files.uploads_of(file.sha256),
    }


def message(state: State, request: Request) -> Answer:
    """Return the content of a message, by chat and message id, as `bot` (an id) numbers it."""
    bot = state.bots.open(clamped(request.params.get("bot", ""), 0, 1 << 54))
    chat = state.find_chat(bot, request.params.get("chat_id", ""))
    found = state.mail.box(chat, bot.id).get(chat.id, clamped(request.params.get("message_id", ""), 0, 1 << 31))
    if found is None:
        return {"message": None}
    kind = "text" if found.content.file is None else found.content.file.kind
    return {
        "message": {"kind": kind, "text": found.content.text, "date": found.date, "sender": found.content.sender}
        | _also(found.content)
    }


def _also(content: Content) -> Answer:
    """Return entities, and parameters that a message shows."""
    shown: Answer = dict(content.extras)
    if content.entities:
        shown["entities"] = [list(entity) for entity in content.entities]
    return shown


def config(state: State, request: Request) -> Answer:
    """Change the configuration."""
    if request.verb == "POST":
        changes = set_fields(body(request, Change))
        floods = changes.get("floods")
        if isinstance(floods, str):
            changes["floods"] = named_floods(floods)
        network = changes.pop("network", state.config.network)
        parts = {name: changes.pop(name) for name in ("latency", "bandwidth") if name in changes}
        changes["network"] = dataclasses.replace(network, **parts)
        state.configure(**changes)
    return {"config": state.config}


def named_floods(name: str) -> Floods:
    """Return named flood limits."""
    if name == "telegram":
        return Floods.telegram()
    if name == "off":
        return Floods.off()
    raise bad(f"floods are `off` or `telegram`, not `{name}`")


def set_fields(change: msgspec.Struct) -> dict[str, Any]:
    """Return the fields that were set."""
    return {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}


def body(request: Request, shape: type[T]) -> T:
    """Decode a body. Raises ApiError."""
    return msgspec.json.decode(request.raw or b"{}", type=shape)


HANDLERS: dict[str, Callable[[State, Request], Answer]] = {
    "stats": stats,
    "reset": reset,
    "faults": faults,
    "chats": chats,
    "bots": bots,
    "files": files,
    "message": message,
    "config": config,
}
