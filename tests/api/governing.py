"""An API with named tokens and an audit log, and clients of it with tokens of each role."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import httpx
from fastapi import FastAPI

from telewarm.api.audit_writer import AuditWriter
from telewarm.api.token_cache import ApiTokenCache
from telewarm.database.tokens import Role
from telewarm.runtime import Telewarm
from tests.api.conftest import client_of

TOKENS = "/api/admin/tokens"
AUDIT = "/api/admin/audit"


@dataclass(kw_only=True, slots=True)
class Governed:
    """`admin`: a client with the server's own token."""

    telewarm: Telewarm
    app: FastAPI
    token_cache: ApiTokenCache
    log: AuditWriter
    admin: httpx.AsyncClient
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def make(self, name: str, role: Role, **more: object) -> str:
        """The secret of a new token."""
        answer = await self.admin.post(TOKENS, json={"name": name, "role": role, **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])

    async def client(self, secret: str | None, *, address: str = "127.0.0.1") -> httpx.AsyncClient:
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        transport = httpx.ASGITransport(self.app, client=(address, 4711))
        client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", headers=headers)
        return await self.stack.enter_async_context(client)

    async def changes(self) -> list[dict[str, object]]:
        """The audit log, the newest first."""
        return list((await self.admin.get(AUDIT, params={"limit": 1000})).json()["changes"])


@asynccontextmanager
async def governing(telewarm: Telewarm) -> AsyncIterator[Governed]:
    token_cache, log, app = telewarm.token_cache, telewarm.audit, telewarm.api()
    async with client_of(app, Authorization=f"Bearer {telewarm.server_token().secret}") as admin:
        governed = Governed(telewarm=telewarm, app=app, token_cache=token_cache, log=log, admin=admin)
        async with governed.stack:
            yield governed
