"""Routes: the audit log."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from telewarm.api.audit_writer import AuditWriter
from telewarm.api.dependencies import StateDep
from telewarm.api.openapi import EXAMPLE_TIME, Ok, TimeText, responses_of
from telewarm.api.schemas.types import MAX_BIGINT
from telewarm.database import audit
from telewarm.database.audit import AuditEntry

router = APIRouter(tags=["audit"])


def get_audit_writer(request: Request) -> AuditWriter | None:
    """Return the audit writer of this process."""
    return cast("AuditWriter | None", getattr(request.app.state, "audit", None))


class AuditEntryOut(BaseModel):
    """One change."""

    id: Annotated[int, Field(description="Higher is newer", examples=[4711])]
    at: Annotated[TimeText, Field(description="When it was answered, in UTC", examples=[EXAMPLE_TIME])]
    actor: Annotated[
        str | None,
        Field(
            description="The token's name, or `ADMIN_API_TOKEN`: the server's own. "
            "Null: an address was shut out for wrong tokens",
            examples=["grafana"],
        ),
    ]
    role: Annotated[str | None, Field(description="That the token had", examples=["operate"])]
    action: Annotated[str, Field(description="Method and route", examples=["POST /api/admin/bots/{slug}/send"])]
    target: Annotated[
        str,
        Field(description="The path and the query, without secrets", examples=["/api/admin/bots/shop?forever=true"]),
    ]
    status: Annotated[int, Field(description="Of the answer", examples=[200])]
    request_id: Annotated[str | None, Field(description="As in the log", examples=["9f86d081884c7d65"])]
    address: Annotated[str | None, Field(description="Where the call came from", examples=["203.0.113.7"])]


class AuditPage(BaseModel):
    """A page of audit entries."""

    ok: Ok
    changes: Annotated[list[AuditEntryOut], Field(description="The newest first")]
    next: Annotated[int | None, Field(description="`before` of the next page; null on the last one", examples=[4611])]


@router.get("/audit", **responses_of(AuditPage, description="A page of the log"))
async def list_audit_entries(
    serving: StateDep,
    log_of_this_process: Annotated[AuditWriter | None, Depends(get_audit_writer)],
    before: Annotated[
        int | None, Query(ge=1, le=MAX_BIGINT, description="`next` of the page before", examples=[4611])
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many", examples=[100])] = 100,
) -> dict[str, object]:
    """List the changes made through the API, newest first; kept for 90 days. `next` is null on the last page.

    Other processes' changes appear within about a second.
    """
    if log_of_this_process is not None:
        await log_of_this_process.flush()
    found = await audit.page(serving.pool, before=before, limit=limit + 1)
    shown = found[:limit]
    return {
        "ok": True,
        "changes": [describe(change) for change in shown],
        "next": shown[-1].id if len(found) > limit else None,
    }


def describe(entry: AuditEntry) -> dict[str, object]:
    """Return an entry as JSON."""
    return {
        "id": entry.id,
        "at": entry.at.isoformat(),
        "actor": entry.actor,
        "role": entry.role,
        "action": entry.action,
        "target": entry.target,
        "status": entry.status,
        "request_id": entry.request_id,
        "address": entry.address,
    }
