"""The audit log, page by page."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Query, Request

from telewarm.api.journal import AuditLog
from telewarm.api.services import Serving
from telewarm.database import audit
from telewarm.database.audit import Change

router = APIRouter(tags=["audit"])

LARGEST_ID = 2**63 - 1


def audit_log(request: Request) -> AuditLog | None:
    return cast("AuditLog | None", getattr(request.app.state, "audit", None))


@router.get("/audit")
async def page(
    serving: Serving,
    log_of_this_process: Annotated[AuditLog | None, Depends(audit_log)],
    before: Annotated[int | None, Query(ge=1, le=LARGEST_ID, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, object]:
    """Who changed what through the API, the newest first; kept for 90 days. `next` is null on the last page.

    `actor` is the name of the token, `ADMIN_API_TOKEN`, `local` (a program of this machine, without a token), or null
    where an address was shut out for wrong tokens. Other processes' changes appear within about a second.
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


def describe(change: Change) -> dict[str, object]:
    return {
        "id": change.id,
        "at": change.at.isoformat(),
        "actor": change.actor,
        "role": change.role,
        "action": change.action,
        "target": change.target,
        "status": change.status,
        "request_id": change.request_id,
        "address": change.address,
    }
