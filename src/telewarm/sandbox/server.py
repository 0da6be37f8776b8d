"""Sandbox server: routing to methods, faults and floods, responses in Telegram's words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec

from telewarm.sandbox import control
from telewarm.sandbox.bots import Bot
from telewarm.sandbox.call import Call
from telewarm.sandbox.clock import monotonic, sleep
from telewarm.sandbox.config import Config
from telewarm.sandbox.errors import ApiError, ConnectionFault, RawAnswer, too_many_requests
from telewarm.sandbox.faults import Rule
from telewarm.sandbox.floods import OVERLOAD
from telewarm.sandbox.http import Connection, Reply, Request, Service
from telewarm.sandbox.methods import METHODS
from telewarm.sandbox.methods.info import path_of
from telewarm.sandbox.state import State

log = logging.getLogger(__name__)
FOREVER = 3600.0  # seconds; longer than any client waits
_encode = msgspec.json.Encoder().encode
UNLOADED = frozenset({"getme", "getupdates", "setwebhook", "deletewebhook", "getwebhookinfo", "logout", "close"})


class Sandbox:
    """A running sandbox: `url` for clients, `state` for tests in the same process."""

    def __init__(self, config: Config | None = None) -> None:
        self.state = State(config or Config())
        self.url = ""
        self._server: asyncio.Server | None = None
        self._service = Service(
            handle=self._handle,
            break_at=self._break_at,
            body_limit=lambda: self.state.config.body_limit,
            keep_file=lambda: self.state.config.keep_file,
            bandwidth=lambda: self.state.config.network.bandwidth,
        )

    @classmethod
    @asynccontextmanager
    async def running(
        cls, config: Config | None = None, *, host: str = "127.0.0.1", port: int = 0
    ) -> AsyncIterator[Sandbox]:
        """Listen while the block runs; port 0 is any free one."""
        sandbox = cls(config)
        await sandbox.start(host, port)
        try:
            yield sandbox
        finally:
            await sandbox.stop()

    async def start(self, host: str, port: int) -> None:
        """Start listening."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self._service), host, port, backlog=1024)
        bound = self._server.sockets[0].getsockname()
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        self.url = f"http://{shown}:{bound[1]}"

    async def stop(self) -> None:
        """Close at once; requests in progress are cancelled."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._service.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self._service.connections):
            connection.close()
        if self._server is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._server.wait_closed(), 1)
        await self.state.fetcher.close()

    # -- requests

    def _break_at(self, path: str) -> int | None:
        if not self.state.faults.rules:
            return None
        bot, method = addressed(path)
        return None if bot is None else self.state.faults.break_at(method, bot)

    async def _handle(self, request: Request) -> Reply:
        try:
            return await self._route(request)
        except ApiError as error:
            return error_reply(error)
        except RawAnswer as raw:
            return Reply(raw.status, raw.body, content_type=raw.content_type)
        except (ConnectionFault, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("sandbox_failed", extra={"method": addressed(request.path)[1]})
            return error_reply(ApiError(500, "restart"))

    async def _route(self, request: Request) -> Reply:
        if request.verb not in {"GET", "POST"}:
            return Reply(501, b"", close=True)
        if request.refused is not None:
            return self._refusal(request.refused)
        path = request.path
        if path.startswith("/bot"):
            return await self._method(request)
        if path.startswith("/sandbox/"):
            return Reply(200, _encode(control.answer(self.state, request)))
        if path.startswith("/file/bot") and not self.state.config.local:
            return self._download(path)
        raise ApiError(404, "Not Found")

    def _refusal(self, error: ApiError) -> Reply:
        """Return the response to an unreadable request: by the hosted server's proxy, empty by a local one."""
        if self.state.config.local:
            return Reply(error.code, b"", close=True)
        reply = error_reply(error)
        return Reply(reply.status, reply.body, close=True)

    def _authorise(self, token: str) -> Bot:
        config = self.state.config
        if not self.state.bots.knows(token):
            self.state.gate.admit(monotonic())
        return self.state.bots.authorise(token, declared_only=config.declared_bots_only, local=config.local)

    def _download(self, path: str) -> Reply:
        token, _, wanted = path.removeprefix("/file/bot").partition("/")
        self._authorise(token)
        number = wanted.partition("file_")[2].partition(".")[0]
        file = self.state.files.by_id(int(number)) if number.isdigit() else None
        content = None if file is None or path_of(file) != wanted else self.state.files.content(file)
        if content is None:
            raise ApiError(404, "Not Found")
        return Reply(200, content, content_type="application/octet-stream")

    async def _method(self, request: Request) -> Reply:
        token, _, name = request.path.removeprefix("/bot").partition("/")
        name = name.removeprefix("test/") or request.params.get("method", "")
        bot = self._authorise(token)
        call = Call(self.state, bot, name.lower(), request.params, request.files)
        stats = self.state.stats
        if call.method not in METHODS:
            raise ApiError(404, "Not Found: method not found")
        stats.begin(bot.id, name)
        try:
            result = await self._carried_out(call)
        except ApiError as error:
            stats.refused(bot.id, error.code, flood="Too Many Requests" in error.text)
            raise
        finally:
            stats.end()
        return Reply(200, b'{"ok":true,"result":' + _encode(result) + b"}")

    # -- one call

    async def _carried_out(self, call: Call) -> object:
        """Count the load, wait for the network, then run the method between its faults."""
        uploads = list(call.files.values())
        total = sum(upload.size for upload in uploads)
        with self.state.gate.active(call.bot.id, total, len(uploads)) as overloaded:
            if uploads:
                self.state.stats.uploaded(call.bot.id, uploads)
            await sleep(self.state.config.network.latency)
            if not self.state.config.local:
                await self._pace(call, total, overloaded=overloaded)
            return await self._between_faults(call)

    async def _pace(self, call: Call, total: int, *, overloaded: bool) -> None:
        """Delay a request as the hosted server does (facts 3.3)."""
        if overloaded and call.method not in UNLOADED:
            await sleep(self.state.config.floods.hold)
            raise too_many_requests(OVERLOAD)
        await sleep(self.state.gate.space(call.bot.id, total, monotonic()))

    async def _between_faults(self, call: Call) -> object:
        rule = (
            self.state.faults.strike(call.method, call.bot.id, chat_number(call)) if self.state.faults.rules else None
        )
        if rule is None:
            return await METHODS[call.method](call)
        self.state.stats.faults += 1
        if rule.when == "before":
            await self._fail(rule)
            return await METHODS[call.method](call)
        result = await METHODS[call.method](call)
        await self._fail(rule)
        return result

    async def _fail(self, rule: Rule) -> None:
        """Fail by a rule. Returns only after a finite `hang`."""
        if rule.action == "hang":
            await sleep(rule.seconds or FOREVER)
        if rule.action != "hang" or not rule.seconds:
            raise rule.failure()


def error_reply(error: ApiError) -> Reply:
    """Return an error response."""
    body: dict[str, object] = {"ok": False, "error_code": error.code, "description": error.description}
    if error.parameters:
        body["parameters"] = error.parameters
    retry_after = error.parameters.get("retry_after") if error.code == 429 else None
    return Reply(error.code, _encode(body), retry_after=retry_after)


def addressed(path: str) -> tuple[int | None, str]:
    """Return the bot id and the method, in lower case, of a path."""
    token, _, method = path.removeprefix("/bot").partition("/")
    number = token.partition(":")[0]
    if not path.startswith("/bot") or not (number.isascii() and number.isdigit()):
        return None, ""
    return int(number), method.removeprefix("test/").lower()


def chat_number(call: Call) -> int | None:
    """Return the chat that fault rules compare."""
    try:
        return call.state.chats.id_of(call.text("chat_id"))
    except ApiError:
        return None
