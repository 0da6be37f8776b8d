"""Options of a broadcast on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from telewarm import clock
from telewarm.bots.sessions import BotSession
from telewarm.broadcasts.plans import SendPlan
from telewarm.cli.message_options import MessageOptions
from telewarm.cli.send import add_files, parse_mode_of, with_caption
from telewarm.errors import UsageError
from telewarm.models import Broadcast, MediaId, MessageSet, Part
from telewarm.runtime import Telewarm

TextOption: TypeAlias = Annotated[str | None, typer.Option("--text", help="A message of its own, after the media.")]
CaptionOption: TypeAlias = Annotated[str | None, typer.Option("--caption", help="Caption of the first item.")]
MediaOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--media", metavar="ID|FILE", help="A media item of the library, or a file to add; repeatable."),
]
HtmlOption: TypeAlias = Annotated[bool, typer.Option("--html", help="Text and caption are HTML.")]
MarkdownOption: TypeAlias = Annotated[bool, typer.Option("--markdown", help="Text and caption are MarkdownV2.")]
AlbumOption: TypeAlias = Annotated[bool, typer.Option("--album", help="Send as an album where Telegram allows.")]
SilentOption: TypeAlias = Annotated[bool, typer.Option("--silent", help="Recipients' devices make no sound.")]
ProtectOption: TypeAlias = Annotated[bool, typer.Option("--protect", help="No forwarding and no saving.")]
NameOption: TypeAlias = Annotated[str | None, typer.Option("--name", help="A name for people.")]
RateOption: TypeAlias = Annotated[float | None, typer.Option("--rate", min=0.001, help="Messages a second at most.")]
GateOption: TypeAlias = Annotated[
    bool, typer.Option("--gate/--no-gate", help="Begin only when all media have their file ids.")
]
AtOption: TypeAlias = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="Start then: 2031-05-01T09:00, in your time zone; or now.")
]
AlsoOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--also", metavar="BOT", help="Another bot; rows with its slug in a column `bot` are its; repeatable."
    ),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class BroadcastOptions:
    """`bots`: the slugs. `media`: ids and paths, as they were given."""

    bots: Sequence[str]
    text: str | None
    caption: str | None
    media: Sequence[str]
    html: bool
    markdown: bool
    album: bool
    silent: bool
    protect: bool
    options: MessageOptions
    name: str | None
    rate: float | None
    gate: bool
    at: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class BroadcastRequest:
    """A checked broadcast request."""

    bots: Sequence[BotSession]
    message: MessageSet
    plan: SendPlan


async def create_drafts(telewarm: Telewarm, options: BroadcastOptions) -> list[Broadcast]:
    """Create the drafts. Raises UsageError, NotFound, before anything is created."""
    wanted = await build_request(telewarm, options)
    plan = wanted.plan
    return await telewarm.broadcasts.create(
        wanted.bots,
        wanted.message,
        name=plan.name,
        gate=plan.gate,
        per_second=plan.per_second,
        starts_at=plan.starts_at,
    )


async def build_request(telewarm: Telewarm, options: BroadcastOptions) -> BroadcastRequest:
    """Build the request; files are added to the first bot's library.

    Raises UsageError, NotFound, before anything is created.
    """
    starts_at = None if options.at == "now" else parse_time(options.at)
    mode = parse_mode_of(html=options.html, markdown=options.markdown)
    _check_options(options)
    bots = [await telewarm.bots.by_slug(slug) for slug in options.bots]
    message = MessageSet(
        media=await _message_parts(telewarm, bots[0], options.media),
        text=options.text,
        parse_mode=mode if options.text else None,
        album=options.album,
        disable_notification=options.silent,
        protect_content=options.protect,
    )
    plan = SendPlan(name=options.name, gate=options.gate, per_second=options.rate, starts_at=starts_at)
    said = options.options.apply(with_caption(message, options.caption, mode))
    return BroadcastRequest(bots=bots, message=said, plan=plan)


def parse_time(text: str | None, *, option: str = "--at") -> datetime | None:
    """Parse a time, in the machine's time zone by default. Raises UsageError."""
    if text is None:
        return None
    if text == "now":
        return clock.now()
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option} is {text!r}, which is no time: write it as 2031-05-01T09:00 or with +02:00"
        ) from None


def _check_options(options: BroadcastOptions) -> None:
    if not options.media and not options.text:
        raise UsageError("there is nothing to send: give --text, --media, or both")
    if options.caption and not options.media:
        raise UsageError("there are no media to go with --caption: give --media, or use --text")
    for given in options.media:
        if not given.isdecimal() and not Path(given).is_file():
            raise UsageError(f"--media {given}: there is no such file, and it is no id of a media item")


async def _message_parts(telewarm: Telewarm, session: BotSession, media: Sequence[str]) -> tuple[Part, ...]:
    files = [Path(given) for given in media if not given.isdecimal()]
    added = iter(await add_files(telewarm, session, files))
    return tuple([Part(media_id=MediaId(int(given)) if given.isdecimal() else next(added)) for given in media])
