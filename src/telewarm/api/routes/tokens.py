"""Routes: create, list, rotate and revoke API tokens. A secret is in the response that creates it, only."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, Field

from telewarm.api.dependencies import LimitedBodyRoute, StateDep
from telewarm.api.openapi import AT, Ok, Time, responses_of
from telewarm.api.schemas.bodies import Body
from telewarm.api.schemas.types import RejectBool
from telewarm.api.token_cache import ApiTokenCache
from telewarm.database import tokens
from telewarm.database.tokens import ApiToken, Role

router = APIRouter(tags=["tokens"], route_class=LimitedBodyRoute)

NAME = {"pattern": f"^(?!{tokens.PREFIX}){tokens.NAME.pattern}$"}
GRACE = 300  # seconds
LONGEST_GRACE = 86_400
LONGEST_DAYS = 3650
ROLES = "`read`: look; `operate`: send, add media, run broadcasts too; `admin`: all"


def keyring(request: Request) -> ApiTokenCache | None:
    return cast("ApiTokenCache | None", getattr(request.app.state, "keyring", None))


OfPath = Annotated[str, Path(description="The token's name", examples=["grafana"], json_schema_extra=NAME)]
OfProcess = Annotated[ApiTokenCache | None, Depends(keyring)]


class TokenCreate(Body):
    name: Annotated[
        str,
        Field(description="Letters, digits, `.`, `_`, `-`; 63 in all", examples=["grafana"], json_schema_extra=NAME),
    ]
    role: Annotated[Role, Field(description=ROLES, examples=["read"])]
    expires_in_days: Annotated[
        float | None,
        Field(gt=0, le=LONGEST_DAYS, allow_inf_nan=False, description="Null: it does not expire", examples=[90]),
        RejectBool,
    ] = None


class TokenRotate(Body):
    grace_s: Annotated[
        int,
        Field(
            ge=0, le=LONGEST_GRACE, description="Seconds for which the old secret goes on being good", examples=[300]
        ),
        RejectBool,
    ] = GRACE


class TokenOut(BaseModel):
    """A named token, without its secret."""

    name: Annotated[str, Field(description="What it is called", examples=["grafana"])]
    role: Annotated[Role, Field(description=ROLES, examples=["read"])]
    created_at: Annotated[Time, Field(description="In UTC", examples=[AT])]
    expires_at: Annotated[Time | None, Field(description="In UTC; null: it does not expire", examples=[AT])]
    last_used_at: Annotated[Time | None, Field(description="In UTC, to the minute; null: not yet", examples=[AT])]
    revoked_at: Annotated[Time | None, Field(description="In UTC; null: it is good", examples=[None])]


class TokenWithSecret(TokenOut):
    """Its secret, this once."""

    ok: Ok
    token: Annotated[str, Field(description="The secret. Keep it: it is shown nowhere else", examples=["tw_q83vEjRW…"])]


class TokenRevoked(TokenOut):
    ok: Ok


class TokenListOut(BaseModel):
    ok: Ok
    tokens: Annotated[list[TokenOut], Field(description="By name, those that are not revoked")]


@router.post(
    "/tokens", **responses_of(TokenWithSecret, "CONFLICT", status=201, words="Made; its secret is in this answer alone")
)
async def create(body: TokenCreate, response: Response, serving: StateDep, ring: OfProcess) -> dict[str, object]:
    """Make a token. It is shown in this answer alone: only its hash is kept."""
    lifetime = None if body.expires_in_days is None else timedelta(days=body.expires_in_days)
    async with serving.pool.acquire() as connection:
        made, secret = await tokens.create(connection, name=body.name, role=body.role, lifetime=lifetime)
    return _shown_once(made, secret, response, ring)


@router.get("/tokens", **responses_of(TokenListOut, words="All of them"))
async def list_tokens(serving: StateDep) -> dict[str, object]:
    """Every token that is not revoked, by name, without its secret."""
    return {"ok": True, "tokens": [describe(one) for one in await tokens.listed(serving.pool)]}


@router.post(
    "/tokens/{name}/rotate",
    **responses_of(TokenWithSecret, "NOT_FOUND", "CONFLICT", (400, "BAD_REQUEST"), words="Its new secret, this once"),
)
async def rotate(
    name: OfPath, response: Response, serving: StateDep, ring: OfProcess, body: TokenRotate | None = None
) -> dict[str, object]:
    """Make a new secret for a token; the old one goes on for `grace_s`, and ends with the next rotation."""
    grace = timedelta(seconds=(body or TokenRotate()).grace_s)
    async with serving.pool.acquire() as connection:
        made, secret = await tokens.rotate(connection, name, grace=grace)
    return _shown_once(made, secret, response, ring)


@router.delete(
    "/tokens/{name}", **responses_of(TokenRevoked, "NOT_FOUND", (400, "BAD_REQUEST"), words="It opens nothing any more")
)
async def revoke(name: OfPath, serving: StateDep, ring: OfProcess) -> dict[str, object]:
    """Let a token open nothing any more: here at once, in other processes within moments."""
    async with serving.pool.acquire() as connection:
        revoked = await tokens.revoke(connection, name)
    if ring is not None:
        ring.invalidate()
    return {"ok": True, **describe(revoked)}


def _shown_once(made: ApiToken, secret: str, response: Response, ring: ApiTokenCache | None) -> dict[str, object]:
    if ring is not None:  # do not wait for our own notification: it may be used at once
        ring.invalidate()
    response.headers["Cache-Control"] = "no-store"
    return {"ok": True, "token": secret, **describe(made)}


def describe(one: ApiToken) -> dict[str, object]:
    return {
        "name": one.name,
        "role": one.role,
        "created_at": one.created_at.isoformat(),
        "expires_at": one.expires_at and one.expires_at.isoformat(),
        "last_used_at": one.last_used_at and one.last_used_at.isoformat(),
        "revoked_at": one.revoked_at and one.revoked_at.isoformat(),
    }
