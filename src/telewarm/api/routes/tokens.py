"""Routes: create, list, rotate and revoke API tokens. A secret is in the response that creates it, only."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, Field

from telewarm.api.dependencies import LimitedBodyRoute, StateDep
from telewarm.api.openapi import EXAMPLE_TIME, Ok, TimeText, responses_of
from telewarm.api.schemas.bodies import RequestBody
from telewarm.api.schemas.types import RejectBool
from telewarm.api.token_cache import ApiTokenCache
from telewarm.database import tokens
from telewarm.database.tokens import ApiToken, Role

router = APIRouter(tags=["tokens"], route_class=LimitedBodyRoute)

NAME_SCHEMA = {"pattern": f"^(?!{tokens.SECRET_PREFIX}){tokens.NAME_PATTERN.pattern}$"}
DEFAULT_GRACE_SECONDS = 300  # seconds
MAX_GRACE_SECONDS = 86_400
MAX_LIFETIME_DAYS = 3650
ROLES_DESCRIPTION = "`read`: look; `operate`: send, add media, run broadcasts too; `admin`: all"


def get_token_cache(request: Request) -> ApiTokenCache | None:
    """Return the token cache of this process."""
    return cast("ApiTokenCache | None", getattr(request.app.state, "token_cache", None))


TokenNamePath = Annotated[
    str, Path(description="The token's name", examples=["grafana"], json_schema_extra=NAME_SCHEMA)
]
TokenCacheDep = Annotated[ApiTokenCache | None, Depends(get_token_cache)]


class TokenCreate(RequestBody):
    """A new token."""

    name: Annotated[
        str,
        Field(
            description="Letters, digits, `.`, `_`, `-`; 63 in all", examples=["grafana"], json_schema_extra=NAME_SCHEMA
        ),
    ]
    role: Annotated[Role, Field(description=ROLES_DESCRIPTION, examples=["read"])]
    expires_in_days: Annotated[
        float | None,
        Field(gt=0, le=MAX_LIFETIME_DAYS, allow_inf_nan=False, description="Null: it does not expire", examples=[90]),
        RejectBool,
    ] = None


class TokenRotate(RequestBody):
    """Grace period of the old secret."""

    grace_s: Annotated[
        int,
        Field(
            ge=0,
            le=MAX_GRACE_SECONDS,
            description="Seconds for which the old secret goes on being good",
            examples=[300],
        ),
        RejectBool,
    ] = DEFAULT_GRACE_SECONDS


class TokenOut(BaseModel):
    """A named token, without its secret."""

    name: Annotated[str, Field(description="What it is called", examples=["grafana"])]
    role: Annotated[Role, Field(description=ROLES_DESCRIPTION, examples=["read"])]
    created_at: Annotated[TimeText, Field(description="In UTC", examples=[EXAMPLE_TIME])]
    expires_at: Annotated[
        TimeText | None, Field(description="In UTC; null: it does not expire", examples=[EXAMPLE_TIME])
    ]
    last_used_at: Annotated[
        TimeText | None, Field(description="In UTC, to the minute; null: not yet", examples=[EXAMPLE_TIME])
    ]
    revoked_at: Annotated[TimeText | None, Field(description="In UTC; null: it is good", examples=[None])]


class TokenWithSecret(TokenOut):
    """Its secret, this once."""

    ok: Ok
    token: Annotated[str, Field(description="The secret. Keep it: it is shown nowhere else", examples=["tw_q83vEjRW…"])]


class TokenRevoked(TokenOut):
    """A revoked token."""

    ok: Ok


class TokenListOut(BaseModel):
    """All tokens."""

    ok: Ok
    tokens: Annotated[list[TokenOut], Field(description="By name, those that are not revoked")]


@router.post(
    "/tokens",
    **responses_of(TokenWithSecret, "CONFLICT", status=201, description="Made; its secret is in this answer alone"),
)
async def create_token(
    body: TokenCreate, response: Response, serving: StateDep, ring: TokenCacheDep
) -> dict[str, object]:
    """Make a token. It is shown in this answer alone: only its hash is kept."""
    lifetime = None if body.expires_in_days is None else timedelta(days=body.expires_in_days)
    async with serving.pool.acquire() as connection:
        made, secret = await tokens.create(connection, name=body.name, role=body.role, lifetime=lifetime)
    return _token_response(made, secret, response, ring)


@router.get("/tokens", **responses_of(TokenListOut, description="All of them"))
async def list_tokens(serving: StateDep) -> dict[str, object]:
    """Every token that is not revoked, by name, without its secret."""
    return {"ok": True, "tokens": [describe(one) for one in await tokens.list_tokens(serving.pool)]}


@router.post(
    "/tokens/{name}/rotate",
    **responses_of(
        TokenWithSecret, "NOT_FOUND", "CONFLICT", (400, "BAD_REQUEST"), description="Its new secret, this once"
    ),
)
async def rotate_token(
    name: TokenNamePath, response: Response, serving: StateDep, ring: TokenCacheDep, body: TokenRotate | None = None
) -> dict[str, object]:
    """Make a new secret for a token; the old one goes on for `grace_s`, and ends with the next rotation."""
    grace = timedelta(seconds=(body or TokenRotate()).grace_s)
    async with serving.pool.acquire() as connection:
        made, secret = await tokens.rotate(connection, name, grace=grace)
    return _token_response(made, secret, response, ring)


@router.delete(
    "/tokens/{name}",
    **responses_of(TokenRevoked, "NOT_FOUND", (400, "BAD_REQUEST"), description="It opens nothing any more"),
)
async def revoke_token(name: TokenNamePath, serving: StateDep, ring: TokenCacheDep) -> dict[str, object]:
    """Let a token open nothing any more: here at once, in other processes within moments."""
    async with serving.pool.acquire() as connection:
        revoked = await tokens.revoke(connection, name)
    if ring is not None:
        ring.invalidate()
    return {"ok": True, **describe(revoked)}


def _token_response(made: ApiToken, secret: str, response: Response, ring: ApiTokenCache | None) -> dict[str, object]:
    if ring is not None:  # do not wait for our own notification: it may be used at once
        ring.invalidate()
    response.headers["Cache-Control"] = "no-store"
    return {"ok": True, "token": secret, **describe(made)}


def describe(one: ApiToken) -> dict[str, object]:
    """Return a token as JSON."""
    return {
        "name": one.name,
        "role": one.role,
        "created_at": one.created_at.isoformat(),
        "expires_at": one.expires_at and one.expires_at.isoformat(),
        "last_used_at": one.last_used_at and one.last_used_at.isoformat(),
        "revoked_at": one.revoked_at and one.revoked_at.isoformat(),
    }
