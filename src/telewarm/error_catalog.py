"""Catalogue of error codes with status, meaning and remedy, the source of docs/errors.md and the OpenAPI document."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class ErrorCategory(StrEnum):
    """Headings of docs/errors.md."""

    COMMON = "Any request"
    REQUEST = "What you ask for"
    MEDIA = "Media"
    TELEGRAM = "Telegram"
    OUTAGE = "Outages"
    COMMANDS = "Command line and library alone"


@dataclass(frozen=True, slots=True)
class ErrorDoc:
    """Documentation of a code. `statuses`: HTTP statuses, empty for none. `meaning`, `cure`: Markdown."""

    where: ErrorCategory
    code: str
    statuses: tuple[int, ...]
    meaning: str
    cure: str


def _category(where: ErrorCategory, *rows: tuple[str, tuple[int, ...], str, str]) -> tuple[ErrorDoc, ...]:
    return tuple(ErrorDoc(where, *row) for row in rows)


ERROR_DOCS: tuple[ErrorDoc, ...] = (
    *_category(
        ErrorCategory.COMMON,
        (
            "UNAUTHORIZED",
            (401,),
            "There is no token with the request, or one that opens nothing.",
            "Send `Authorization: Bearer <token>`, with what `telewarm token show` prints, or a named token.",
        ),
        (
            "FORBIDDEN",
            (403,),
            "The token's role does not allow this.",
            "Use a token with the role that the message names.",
        ),
        (
            "TOO_MANY_ATTEMPTS",
            (429,),
            "Too many wrong tokens came from your address, or too many wrong signatures of preview URLs.",
            "Come with the right one, which is let in at any time; wrong ones count again after `Retry-After`.",
        ),
        (
            "METHOD_NOT_ALLOWED",
            (405,),
            "There is such a route, but not with this method.",
            "The header `Allow` has the right ones; the routes are at `/docs`.",
        ),
        (
            "HEADERS_TOO_LARGE",
            (431,),
            "The request has more than 100 headers, or more than 32 KiB of them and its address.",
            "Send fewer; what is large belongs in the body.",
        ),
        (
            "TOO_LARGE",
            (413,),
            "The body, a file or a form field is larger than it may be; the message names the limit.",
            "The message says which limit it is and what to do.",
        ),
        (
            "TOO_SLOW",
            (408,),
            "The head or the body stood still, or did not arrive in its time.",
            "Send it again, over a better connection.",
        ),
        (
            "CUT_OFF",
            (400,),
            "The body ended before its length. Nothing of a file was kept.",
            "Send it again.",
        ),
        (
            "TOO_MANY_LISTENERS",
            (503,),
            "This process serves as many event streams as it may.",
            "Wait for the seconds in `Retry-After`, listen to another process, or raise `TELEWARM_EVENT_LISTENERS`.",
        ),
        (
            "OVERLOADED",
            (503,),
            "This process has as many requests as it can answer in time. Nothing was done.",
            "Wait for the seconds in `Retry-After`, or ask another process; when it lasts, run more of them.",
        ),
        (
            "STOPPING",
            (503,),
            "The server stops, and the request was not done in time: some of it may have been.",
            "Ask again: another process, or this one once it is back. Streams go on after your last id.",
        ),
        (
            "INTERNAL",
            (500,),
            "A bug in Telewarm.",
            "Look for the answer's `request_id` in the log, and tell us what stands there.",
        ),
    ),
    *_category(
        ErrorCategory.REQUEST,
        (
            "BAD_REQUEST",
            (400, 415, 422),
            "It cannot be understood (400), comes in a form that is not taken (415), or has fields that do not fit.",
            "Change the request as the message says; the fields are at `/docs`.",
        ),
        (
            "NOT_FOUND",
            (404,),
            "There is no such route, bot, media item, broadcast or token.",
            "Check the path and the id.",
        ),
        (
            "CONFLICT",
            (409,),
            "It exists already, or its state forbids this; the message says what does.",
            "Look at the thing as it is now, and decide again.",
        ),
    ),
    *_category(
        ErrorCategory.MEDIA,
        (
            "UNREADABLE_MEDIA",
            (422,),
            "The bytes are damaged, or not what the kind needs.",
            "Send a whole file of the right type, or add it as a document; the message says what was found.",
        ),
        (
            "DECODER_FAILED",
            (500,),
            "The process that decodes media failed, or does not start: our bug, or a broken installation.",
            "Send the file as a document meanwhile; the log has the cause, in the events that begin with `decoder_`.",
        ),
        (
            "MEDIA_RULE_BROKEN",
            (422,),
            "A rule of Telegram's that this file breaks as this kind: size, sides, codec, type.",
            "The message has the rule, what was measured and what to do: often another kind, such as document.",
        ),
        (
            "BAD_MEDIA",
            (422,),
            "A media item whose warm-up ended in error is to be sent.",
            "Look at its `last_error`, fix that, and warm it again.",
        ),
        (
            "MEDIA_NOT_READY",
            (409,),
            "It has no file id yet, and the caller asked not to wait (`on_cold: fail`), or not so long.",
            "Ask again after the seconds in `Retry-After`, or send with `on_cold: upload`.",
        ),
        (
            "BAD_SIGNATURE",
            (403,),
            "The signature of a preview URL is not right, or is for the thumbnail alone.",
            "Use it as it was made, or have a new one made: all end when the encryption key is rotated.",
        ),
        (
            "URL_EXPIRED",
            (410,),
            "The preview URL was good, and its time is over.",
            "Have a new one made, for longer if need be.",
        ),
        (
            "RANGE_NOT_SATISFIABLE",
            (416,),
            "The range of a preview begins after the end of the file.",
            "`Content-Range` of the answer has the size.",
        ),
        (
            "URL_REFUSED",
            (422,),
            "Not a URL to add media from: no http(s), a private address, another port, a password, many redirects.",
            "Give the file's public URL, or upload it. `TELEWARM_FETCH_PRIVATE`, `TELEWARM_FETCH_PORTS` for intranets.",
        ),
        (
            "URL_UNREACHABLE",
            (502,),
            "The URL's server was not found, did not answer, broke off, was too slow, or has a wrong certificate.",
            "Check the URL in a browser; try again.",
        ),
        (
            "URL_WITHOUT_FILE",
            (502,),
            "The URL's server answered with an error, whose number the message has, with nothing, or compressed.",
            "Check that the URL opens in a browser that is not logged in, or upload the file.",
        ),
        (
            "OBJECT_MISSING",
            (404,),
            "The media item's bytes are not in the store any more, and there is no other way to send it.",
            "Add the file again: it becomes the same item.",
        ),
        (
            "OBJECT_CORRUPT",
            (503,),
            "The bytes in the store are not those that were put there.",
            "Check the store; add the file again.",
        ),
        (
            "UNSTORABLE",
            (),
            "In `last_error_code` of a media item: the database refused to keep what became of its warm-up, a bug.",
            "Tell us what the log says in `row_write_refused`; re-warm the item once that is gone.",
        ),
    ),
    *_category(
        ErrorCategory.TELEGRAM,
        (
            "FLOOD_WAIT",
            (429,),
            "Telegram's limits, known or met, would make this wait longer than the caller does.",
            "Try again after the seconds in `Retry-After`, or give a longer `patience_ms`.",
        ),
        (
            "CHAT_UNREACHABLE",
            (403,),
            "The recipient blocked the bot, is gone, or never wrote to it; or the bot may not write there.",
            "Nothing for you to do: broadcasts skip it from now on. Its chat status has the reason.",
        ),
        (
            "CHAT_MIGRATED",
            (409,),
            "The group became a supergroup, and it could not be followed there.",
            "Use the chat id that the message names.",
        ),
        (
            "TOKEN_REFUSED",
            (422,),
            "Telegram does not take the bot's token, or the bot is logged out of this Bot API server.",
            "Copy it again from @BotFather; `telewarm bot token` or `PUT /api/admin/bots/{slug}/token` replaces it.",
        ),
        (
            "DEAD_FILE_ID",
            (422,),
            "Telegram takes neither the file id nor any other way to the file.",
            "Warm the media item again; if that fails, add the file again.",
        ),
        (
            "MESSAGE_GONE",
            (404,),
            "The message to forward, copy or delete is not there any more.",
            "Warm the media item again.",
        ),
        (
            "TELEGRAM_BAD_REQUEST",
            (422,),
            "Telegram refuses the message as it is; its words are in the message.",
            "Change what they name: mostly the marks of a parse mode, an entity, a button.",
        ),
        (
            "TELEGRAM_REFUSED",
            (502,),
            "Telegram answered something that is of no use, such as a message without the file.",
            "Try again; if it lasts, check `TELEGRAM_API_ROOT` and what answers there.",
        ),
        (
            "TELEGRAM_FAULT",
            (502,),
            "Telegram failed (5xx). With `maybe_sent` the message may have gone: no 5xx proves that it did not.",
            "Look at the chat before you send it again; with an idempotency key, trying again is safe.",
        ),
        (
            "TELEGRAM_UNREACHABLE",
            (502,),
            "No answer came from the Bot API server. With `maybe_sent` the message may have gone all the same.",
            "Check the network and `TELEGRAM_API_ROOT`. Send with an idempotency key, so that trying again is safe.",
        ),
    ),
    *_category(
        ErrorCategory.OUTAGE,
        (
            "DATABASE_UNAVAILABLE",
            (503,),
            "The database does not answer.",
            "Ask again shortly; check PostgreSQL if it lasts. `/health` has more.",
        ),
        (
            "STORE_UNAVAILABLE",
            (503,),
            "The object storage, the library's folder or the disk of `TELEWARM_DATA` cannot be used.",
            "The message names the cause; ask again once it is fixed.",
        ),
        (
            "NOT_READY",
            (503,),
            "`/readyz` and `/health`: something that this process works with is not there. `checks` says what.",
            "Fix that; `/health` has each one's cure.",
        ),
    ),
    *_category(
        ErrorCategory.COMMANDS,
        (
            "BAD_SETTING",
            (),
            "A setting is missing or wrong.",
            "The message has its name, what is wrong and an example; `telewarm env` shows all of them.",
        ),
        (
            "NOT_MIGRATED",
            (),
            "The database has an older schema than this version needs, or none yet.",
            "Run `telewarm migrate`. `telewarm serve` and `telewarm worker` do it too, nothing else does.",
        ),
        (
            "DATABASE_FORBIDDEN",
            (),
            "The role in `DATABASE_URL` lacks a right.",
            "Run the `GRANT` in the message as the owner of the tables.",
        ),
        (
            "BACKUP_FAILED",
            (),
            "A backup cannot be made, or its archive cannot be restored. What was there before is as it was.",
            "The message says what is wrong with the archive, the disk or the database.",
        ),
        (
            "EMBEDDED_POSTGRES_FAILED",
            (),
            "The embedded database cannot start or stop.",
            "The message has its last words. Or set `DATABASE_URL` to a PostgreSQL of your own.",
        ),
        (
            "DATABASE_ERROR",
            (),
            "The database was reached and refused: a migration that failed, a schema of a newer version.",
            "The message says what to do.",
        ),
        (
            "STORE_ERROR",
            (),
            "The family of OBJECT_… and STORE_UNAVAILABLE, for `except StoreError`.",
            "As theirs.",
        ),
        (
            "FETCH_FAILED",
            (),
            "The family of all that goes wrong with adding media by URL, for `except FetchError`.",
            "As theirs.",
        ),
        (
            "TELEGRAM_ERROR",
            (),
            "The family of all that comes of calling Telegram, for `except TelegramError`.",
            "As theirs.",
        ),
    ),
)
INTRODUCTION = """
`error` is one of the codes below and does not change between versions; `message` is for people: what happened, to what,
and the cure. Answers with 429, and those with `MEDIA_NOT_READY`, `OVERLOADED`, `STOPPING` or `TOO_MANY_LISTENERS`, have
the header `Retry-After`, in seconds. Those with 5xx have the `request_id` that their lines in the log have too, but for
`OVERLOADED`, of which the log tells the number. The code of a message that did not go is also in the `results` of a
send, and in the `last_error` of a media item; the command line prints the same codes.
"""
BY_CODE = {known.code: known for known in ERROR_DOCS}


def markdown() -> str:
    """Return the text of docs/errors.md."""
    lines = [
        "# Errors",
        "",
        "<!-- Made by `telewarm errors --markdown > docs/errors.md`. A test fails when it is out of date. -->",
        "",
        "An answer that is no success is JSON, whatever went wrong:",
        "",
        "```json",
        '{"ok": false, "error": "NOT_FOUND", "message": "no bot has the slug \'shp\'; create it with …"}',
        "```",
        "",
        *textwrap.wrap(INTRODUCTION.strip(), 118, break_on_hyphens=False),
    ]
    for where in ErrorCategory:
        lines += ["", f"## {where.value}", "", *_table(where)]
    return "\n".join(lines) + "\n"


def _table(where: ErrorCategory) -> Iterator[str]:
    with_status = where is not ErrorCategory.COMMANDS
    yield "| code | status | what it means | cure |" if with_status else "| code | what it means | cure |"
    yield "| --- | --- | --- | --- |" if with_status else "| --- | --- | --- |"
    for known in ERROR_DOCS:
        if known.where is where:
            status = f" {', '.join(map(str, known.statuses))} |" if with_status else ""
            yield f"| `{known.code}` |{status} {known.meaning} | {known.cure} |"
