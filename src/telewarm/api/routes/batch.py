"""Route: many files in one request, streamed one after the other, each with its own result."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from python_multipart.multipart import parse_options_header

from telewarm.api import uploads
from telewarm.api.dependencies import AppState, BotDep, StateDep
from telewarm.api.error_responses import HttpError, error_body, error_response, status_of
from telewarm.api.multipart import FileEnd, FileStart, MultiFileForm
from telewarm.api.openapi import error_responses, responses_of
from telewarm.api.routes.media import KIND_VALUES, blank_as_none, describe_added
from telewarm.api.schemas.media_and_bots import Batch as BatchAnswer
from telewarm.api.schemas.media_and_bots import BatchAborted
from telewarm.database.transient import as_unavailable_error
from telewarm.errors import TelewarmError
from telewarm.media.names import name_of
from telewarm.models import Bot, Kind
from telewarm.storage.incoming_file import IncomingFile

log = structlog.get_logger(__name__)
router = APIRouter(tags=["media"])

REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["files"],
                    "properties": {
                        "kind": {
                            "type": "string",
                            "enum": [*KIND_VALUES, ""],
                            "description": "Of the files after it",
                            "example": "photo",
                        },
                        "files": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                            "description": "Every part with a file name, whatever its field is called",
                            "example": ["(bytes)"],
                        },
                    },
                }
            }
        },
    }
}
ABORTED_RESPONSES = error_responses(
    (400, "BAD_REQUEST"), (400, "CUT_OFF"), "TOO_SLOW", "TOO_LARGE", (422, "BAD_REQUEST"), model=BatchAborted
)


@router.post(
    "/bots/{slug}/media/batch",
    openapi_extra=REQUEST_BODY,
    **responses_of(
        BatchAnswer,
        "NOT_FOUND",
        "STORE_UNAVAILABLE",
        description="Every file was judged: see `items`",
        other_responses=ABORTED_RESPONSES,
    ),
)
async def add_batch(
    request: Request,
    session: BotDep,
    serving: StateDep,
    kind: Annotated[
        Kind | None,
        blank_as_none(Kind),
        Query(description="Of all files; else what their bytes are", examples=["photo"]),
    ] = None,
) -> JSONResponse:
    """Keep up to 100 files (TELEWARM_MAX_BATCH_FILES) of one form and have them warmed.

    Every part with a file name is a file, whatever its field is called. `items` tells of each, in their order, what it
    would have been told alone: one that is not taken stops no other, and what `items` says is kept is durable. A field
    `kind` holds for the files after it. With more files than that the answer is a 413, with a body that breaks off a
    400: the whole files before are kept and in `items`, of the half one nothing is.
    """
    taking = BatchUpload(serving, session.bot, kind)
    async with taking.exit_stack:
        try:
            await taking.read(uploads.body_chunks(request, serving.body_stall_seconds), _boundary(request))
        except HttpError as error:
            return error_response(
                error.status_code, error.code, error.detail, headers=error.headers, items=taking.items
            )
    return JSONResponse(_response_body(taking.items))


class BatchUpload:
    """A batch being received. `items`: results of its files so far."""

    def __init__(self, app_state: AppState, bot: Bot, kind: Kind | None) -> None:
        self.items: list[dict[str, object]] = []
        self.exit_stack = AsyncExitStack()
        self._app_state = app_state
        self._bot = bot
        self._kind = kind
        self._file: BatchFile | None = None

    async def read(self, chunks: AsyncIterator[bytes], boundary: bytes) -> None:
        """Read the batch. Raises HttpError: 400, 408, 413, 422."""
        form = MultiFileForm(boundary, max_files=self._app_state.max_batch_files)
        async for chunk in chunks:
            for event in form.feed(chunk):
                await self._handle_event(event)
        if not form.ended:
            raise HttpError(
                400, "BAD_REQUEST", "the multipart body ends before its last boundary; send what is missing again"
            )
        uploads.parse_kind(form.fields.get("kind"))  # after the last file it holds for none, and is wrong all the same
        if not self.items:
            raise HttpError(400, "BAD_REQUEST", "the form has no file: send each as a part with a file name")

    async def _handle_event(self, event: FileStart | FileEnd | bytes) -> None:
        match event:
            case FileStart():
                await self._start_file(event)
            case FileEnd():
                await self._finish_file()
            case _:
                if self._file is not None:
                    await self._file.write(event, self._app_state.max_upload_bytes)

    async def _start_file(self, start: FileStart) -> None:
        most = self._app_state.max_batch_files
        if len(self.items) == most:
            raise HttpError(
                413,
                "TOO_LARGE",
                f"a batch has at most {most} files here (TELEWARM_MAX_BATCH_FILES): the first {most} were judged, see "
                "`items`; send the others in another batch",
            )
        kind = uploads.parse_kind(start.kind) or self._kind
        incoming = await self.exit_stack.enter_async_context(self._app_state.library.receive())
        self._file = BatchFile(incoming, kind=kind, name=name_of(start.name))

    async def _finish_file(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        report = await self._ingest(file)
        self.items.append({"index": len(self.items), "name": file.name, **report})
        await self.exit_stack.aclose()  # the next file has a place of its own

    async def _ingest(self, file: BatchFile) -> dict[str, object]:
        """Return the result that the file would have alone."""
        try:
            if file.error is not None:
                raise file.error
            uploads.check_not_empty(file.incoming)
            added = await self._app_state.library.add(self._bot, file.incoming, kind=file.kind, name=file.name)
        except HttpError as error:
            return _failed_item(error.status_code, {"error": error.code, "message": error.detail})
        except Exception as error:
            ours = error if isinstance(error, TelewarmError) else as_unavailable_error(error)
            if ours is None:
                raise
            log.info("batch_file_refused", bot=self._bot.slug, code=ours.code, error=ours.message)
            return _failed_item(status_of(ours), error_body(ours))
        status = 201 if added.created else 200
        return {"ok": True, "status": status, "created": added.created, **describe_added(added)}


class BatchFile:
    """A file being received. `error`: why it is refused; its other bytes are skipped."""

    def __init__(self, incoming: IncomingFile, *, kind: Kind | None, name: str | None) -> None:
        self.incoming = incoming
        self.kind = kind
        self.name = name
        self.error: Exception | None = None

    async def write(self, chunk: bytes, max_bytes: int) -> None:
        """Write bytes."""
        if self.error is not None:
            return
        try:
            await uploads.write_chunk(self.incoming, chunk, max_bytes)
        except (HttpError, TelewarmError) as error:
            self.error = error


def _failed_item(status: int, error: dict[str, object]) -> dict[str, object]:
    return {"ok": False, "status": status, "created": False, **error}


def _response_body(items: list[dict[str, object]]) -> dict[str, object]:
    created = sum(item["created"] is True for item in items)
    failed = sum(item["ok"] is False for item in items)
    counts = {"created": created, "existing": len(items) - created - failed, "failed": failed}
    return {"ok": True, "count": len(items), **counts, "items": items}


def _boundary(request: Request) -> bytes:
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    if content_type != b"multipart/form-data":
        raise HttpError(400, "BAD_REQUEST", "a batch is a form: send it as multipart/form-data, each file as a part")
    return uploads.boundary_of(options)
