"""`telewarm send`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import typer
from msgspec import structs
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from telewarm import logs
from telewarm.bots.sessions import BotSession
from telewarm.cli import message_options
from telewarm.cli.chat import parse_recipient
from telewarm.cli.common import JsonOption
from telewarm.cli.console import echo_err
from telewarm.cli.run import load_settings, run
from telewarm.cures import Interface
from telewarm.errors import DecoderFailed, MediaError, UsageError
from telewarm.models import MediaId, MessageSet, Part
from telewarm.runtime import Telewarm
from telewarm.sending.idempotency import describe
from telewarm.sending.send_context import SendResult

CONTEXT_SETTINGS: dict[str, Any] = {"ignore_unknown_options": True}  # of the command: a chat id below zero is no option


HELP = """\
Send files, media of the library, and text to one chat. Prints one line a message; with --json, one object.

A file that was sent before goes by its file id, without an upload. The exit code is 1 when something did not go.
Settings come from the environment and from .env.

[bold]Examples[/]

telewarm send shop 500000001 --text "It is here."

telewarm send shop -1001234567890 cat.jpg dog.mp4 --album --caption "<b>New</b>" --html

telewarm send shop 500000001 --media 17 --media 18 --reply-to 42 --silent

telewarm send shop 500000001 cat.jpg --json | jq .results[0].message_id
"""

CHAT_HELP = "The recipient's chat id, negative for groups and channels; or @name of a public one."
ChatArgument: TypeAlias = Annotated[str, typer.Argument(metavar="CHAT", callback=parse_recipient, help=CHAT_HELP)]
FilesArgument: TypeAlias = Annotated[
    list[Path] | None, typer.Argument(exists=True, dir_okay=False, readable=True, help="They stay in the library.")
]
WithoutReplyOption: TypeAlias = Annotated[
    bool, typer.Option("--allow-sending-without-reply", help="Send it also when that message is gone.")
]


def send(  # noqa: PLR0913 - each is an argument or an option of the command line
    bot: Annotated[str, typer.Argument(help="The bot's slug.")],
    chat: ChatArgument,
    files: FilesArgument = None,
    *,
    text: Annotated[str | None, typer.Option(help="A message of its own, after the media.")] = None,
    caption: Annotated[str | None, typer.Option(help="Caption of the first item.")] = None,
    media: Annotated[list[int] | None, typer.Option(help="Id of a media item, before FILES; repeatable.")] = None,
    html: Annotated[bool, typer.Option("--html", help="Text and caption are HTML.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Text and caption are MarkdownV2.")] = False,
    album: Annotated[bool, typer.Option("--album", help="Send as an album where Telegram allows.")] = False,
    silent: Annotated[bool, typer.Option("--silent", help="The recipient's device makes no sound.")] = False,
    protect: Annotated[bool, typer.Option("--protect", help="No forwarding and no saving.")] = False,
    buttons: message_options.ButtonsOption = None,
    link_preview: message_options.PreviewOption = None,
    effect: message_options.EffectOption = None,
    as_file: message_options.FileOption = False,
    spoiler: message_options.SpoilerOption = False,
    caption_above: message_options.AboveOption = False,
    as_given: message_options.OrderOption = False,
    extra: message_options.ExtraOption = None,
    reply_to: Annotated[int | None, typer.Option(min=1, help="Answer this message of the chat.")] = None,
    allow_sending_without_reply: WithoutReplyOption = False,
    topic: Annotated[int | None, typer.Option(min=1, help="Topic (thread id) of a forum.")] = None,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to wait for Telegram's limits, at most.")] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Send files, media of the library, and text to one chat."""
    mode = parse_mode_of(html=html, markdown=markdown)
    said = message_options.MessageOptions(buttons=buttons, link_preview=link_preview, effect=effect, as_file=as_file,
        spoiler=spoiler, caption_above=caption_above, as_given=as_given, extra=extra or ())  # fmt: skip
    _check_not_empty(media=bool(media or files), text=bool(text), caption=bool(caption))
    plain = MessageSet(
        text=text,
        parse_mode=mode if text else None,
        album=album,
        reply_parameters=None if reply_to is None else {"message_id": reply_to},
        message_thread_id=topic,
        disable_notification=silent,
        protect_content=protect,
        allow_sending_without_reply=allow_sending_without_reply,
    )
    message = said.apply(plain)

    async def sending(telewarm: Telewarm, session: BotSession) -> Sequence[SendResult]:
        ids = [*map(MediaId, media or ()), *await add_files(telewarm, session, files or ())]
        whole = with_caption(structs.replace(message, media=tuple(Part(media_id=one) for one in ids)), caption, mode)
        return await telewarm.send(bot, chat, whole, patience=patience)

    raise typer.Exit(0 if run(_send_with_app(bot, sending, json_lines if as_json else result_lines)) else 1)


def parse_mode_of(*, html: bool, markdown: bool) -> str | None:
    """Return the parse mode of the options."""
    if html and markdown:
        raise UsageError("Use either --html or --markdown, not both")
    return "HTML" if html else "MarkdownV2" if markdown else None


def _check_not_empty(*, media: bool, text: bool, caption: bool) -> None:
    if caption and not media:
        raise UsageError("there are no media to go with --caption: give files or --media, or use --text")
    if not media and not text:
        raise UsageError("there is nothing to send: give files, --media, --text, or several of them")


def with_caption(message: MessageSet, caption: str | None, mode: str | None) -> MessageSet:
    """Put the caption into the message."""
    if not caption:
        return message
    first = structs.replace(message.media[0], caption=caption, parse_mode=mode)
    return structs.replace(message, media=(first, *message.media[1:]))


async def _send_with_app(
    slug: str,
    sending: Callable[[Telewarm, BotSession], Awaitable[Sequence[SendResult]]],
    printed: Callable[[Sequence[SendResult]], Sequence[str]],
) -> bool:
    """Send. Returns whether all messages were sent."""
    settings = load_settings()
    if settings.telewarm_log_level == "info":  # the lines that the command prints itself say enough
        logs.configure(log_format=settings.telewarm_log_format, level="warning")
    async with Telewarm.open(settings, worker=False) as telewarm:
        results = await sending(telewarm, await telewarm.bots.by_slug(slug))
    for text in printed(results):
        typer.echo(text)
    return _all_went(results)


def _all_went(results: Sequence[SendResult]) -> bool:
    return all(result.error is None for result in results)


def result_lines(results: Sequence[SendResult]) -> list[str]:
    """Return the lines about the results."""
    return [result_line(result) for result in results]


def json_lines(results: Sequence[SendResult]) -> list[str]:
    """Return the HTTP API's JSON in one line."""
    shown = {"ok": _all_went(results), "results": [describe(result, Interface.CLI) for result in results]}
    return [msgspec.json.encode(shown).decode()]


def result_line(result: SendResult) -> str:
    """Return the line about one message."""
    what = "text" if result.media_id is None else f"{result.kind or 'media'} {result.media_id}"
    if result.error is not None:
        maybe = " (maybe sent: look at the chat before you send it again)" if result.maybe_sent else ""
        return f"{what}: {result.error.code} {result.error.message_for(Interface.CLI)}{maybe}"
    how = "" if result.media_id is None else ", by file id" if result.cache_hit else ", uploaded"
    moved = "" if result.moved_to is None else f", to chat {result.moved_to}, which the group is now"
    return f"{what}: message {result.message_id}{how}, {result.lat_ms} ms{moved}"


async def add_files(telewarm: Telewarm, session: BotSession, files: Sequence[Path]) -> list[MediaId]:
    """Add files to the bot's library. Returns their ids, also of existing ones."""
    with _bytes_progress(sum(path.stat().st_size for path in files)) as advance:
        return [await _add_file(telewarm, session, path, advance) for path in files]


async def _add_file(telewarm: Telewarm, session: BotSession, path: Path, advance: Callable[[int], None]) -> MediaId:
    try:
        added = await telewarm.library.add_file(session.bot, path, on_read=advance)
    except (MediaError, DecoderFailed):
        echo_err(f"{_printable_path(path)} cannot be sent, and nothing was:")
        raise
    if added.note:
        echo_err(f"{_printable_path(path)}: {added.note}")
    return added.item.id


def _printable_path(path: Path) -> str:
    """Return a printable path, which may hold bytes that are not UTF-8."""
    return str(path).encode(errors="replace").decode()


@contextmanager
def _bytes_progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar of the bytes read, on a terminal; yields a function that advances it."""
    console = Console(stderr=True)
    if not total or not console.is_terminal:
        yield lambda _: None
        return
    columns = (TextColumn("into the library"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda more: progress.advance(task, more)
