"""`telewarm broadcast …`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, cast

import typer
from rich.console import Console
from rich.table import Table

from telewarm.bots.chat_names import resolve_chat
from telewarm.broadcasts import csv_export
from telewarm.broadcasts.recipient_import import ImportResult
from telewarm.broadcasts.recipients import ListFormat
from telewarm.cli import broadcast_tables, drafting, lists, message_options, submitting, watching
from telewarm.cli.chat import parse_recipient
from telewarm.cli.common import check_id, run_with_app
from telewarm.cli.console import echo_err, wide_console
from telewarm.cli.options import ChatIdCommand
from telewarm.cli.run import install_stop_event
from telewarm.cli.send import CONTEXT_SETTINGS, result_line
from telewarm.errors import UsageError
from telewarm.models import Broadcast, BroadcastId, BroadcastState, DeliveryStatus
from telewarm.runtime import Telewarm
from telewarm.sending.send_context import SendResult

HELP = (
    "One message set to many chats, from a list of chat ids.\n\n"
    "Nobody gets it twice, also when a process is killed in the middle. "
    "Settings come from the environment and from .env.\n\n"
    "[bold]All at once[/]\n\n"
    'telewarm broadcast send shop chats.csv --text "We open at nine."\n\n'
    "[bold]Step by step[/]\n\n"
    'telewarm broadcast create shop --media cat.jpg --caption "<b>New</b>" --html\n\n'
    "telewarm broadcast load 1 chats.csv\n\n"
    "telewarm broadcast test 1 500000001\n\n"
    "telewarm broadcast start 1 --at 2031-05-01T09:00\n\n"
    "telewarm broadcast watch 1"
)

BroadcastIdArgument: TypeAlias = Annotated[
    int, typer.Argument(metavar="ID", min=1, callback=check_id, help="The broadcast's id.")
]
BotArgument: TypeAlias = Annotated[str, typer.Argument(help="The bot's slug.")]
ListArgument: TypeAlias = Annotated[
    Path, typer.Argument(metavar="LIST", help="Chat ids: CSV, NDJSON or JSON; - reads standard input.")
]
FormatOption: TypeAlias = Annotated[
    ListFormat | None, typer.Option("--format", help="What the list is; else its first bytes say.")
]
ColumnOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--column",
        metavar="NAME",
        help="Where the chat ids are: a column's name, its number from 1, a key of JSON, or * for every cell.",
    ),
]
YesOption: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before it is sent.")]
OutputOption: TypeAlias = Annotated[
    Path | None, typer.Option("--output", "-o", dir_okay=False, help="Write it there, not to standard output.")
]

app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode="rich")


SEND_HELP = """\
Make a broadcast, load its recipients, and send it, with a bar until it is done.

Run again with the same message and list it goes on with the unfinished broadcast: nobody gets it twice. What was
finished within a day it sends again only when you say so (--again for scripts).

Ctrl-C ends the bar and the worker in this process, not the broadcast: it goes on wherever a worker runs. The exit
code is 0 when it is done and somebody got it.

[bold]Examples[/]

telewarm broadcast send shop chats.csv --text "We open at nine."

telewarm broadcast send shop chats.csv --media cat.jpg --media 17 --album --caption "<b>New</b>" --html

psql -Atc "SELECT chat_id FROM customer" | telewarm broadcast send shop - --text "Hello" --rate 20 --yes
"""


@app.command("send", help=SEND_HELP)
def send(  # noqa: PLR0913 - each is an argument or an option of the command line
    bot: BotArgument,
    recipients: ListArgument,
    *,
    text: drafting.TextOption = None,
    caption: drafting.CaptionOption = None,
    media: drafting.MediaOption = None,
    html: drafting.HtmlOption = False,
    markdown: drafting.MarkdownOption = False,
    album: drafting.AlbumOption = False,
    silent: drafting.SilentOption = False,
    protect: drafting.ProtectOption = False,
    buttons: message_options.ButtonsOption = None,
    link_preview: message_options.PreviewOption = None,
    effect: message_options.EffectOption = None,
    as_file: message_options.FileOption = False,
    spoiler: message_options.SpoilerOption = False,
    caption_above: message_options.AboveOption = False,
    as_given: message_options.OrderOption = False,
    extra: message_options.ExtraOption = None,
    name: drafting.NameOption = None,
    rate: drafting.RateOption = None,
    gate: drafting.GateOption = True,
    at: drafting.AtOption = None,
    also: drafting.AlsoOption = None,
    form: FormatOption = None,
    column: ColumnOption = None,
    yes: YesOption = False,
    again: Annotated[
        bool, typer.Option("--again", help="Send it once more, although the same list got the same message today.")
    ] = False,
) -> None:
    """Make a broadcast, load its recipients, and send it."""
    said = message_options.MessageOptions(buttons=buttons, link_preview=link_preview, effect=effect, as_file=as_file,
        spoiler=spoiler, caption_above=caption_above, as_given=as_given, extra=extra or ())  # fmt: skip
    draft = drafting.BroadcastOptions(
        bots=[bot, *(also or ())],
        text=text, caption=caption, media=media or (), html=html, markdown=markdown, album=album, silent=silent,
        protect=protect, options=said, name=name, rate=rate, gate=gate, at=at,
    )  # fmt: skip

    raise typer.Exit(
        run_with_app(
            lambda telewarm: _send(telewarm, draft, recipients, form=form, column=column, yes=yes, again=again)
        )
    )


@app.command("create")
def create(  # noqa: PLR0913 - each is an argument or an option of the command line
    bots: Annotated[list[str], typer.Argument(metavar="BOT...", help="Slugs; the media are the first one's.")],
    *,
    text: drafting.TextOption = None,
    caption: drafting.CaptionOption = None,
    media: drafting.MediaOption = None,
    html: drafting.HtmlOption = False,
    markdown: drafting.MarkdownOption = False,
    album: drafting.AlbumOption = False,
    silent: drafting.SilentOption = False,
    protect: drafting.ProtectOption = False,
    buttons: message_options.ButtonsOption = None,
    link_preview: message_options.PreviewOption = None,
    effect: message_options.EffectOption = None,
    as_file: message_options.FileOption = False,
    spoiler: message_options.SpoilerOption = False,
    caption_above: message_options.AboveOption = False,
    as_given: message_options.OrderOption = False,
    extra: message_options.ExtraOption = None,
    name: drafting.NameOption = None,
    rate: drafting.RateOption = None,
    gate: drafting.GateOption = True,
    at: drafting.AtOption = None,
) -> None:
    """Make a draft, one for each bot, and print the ids. Then load, test and start it."""
    said = message_options.MessageOptions(buttons=buttons, link_preview=link_preview, effect=effect, as_file=as_file,
        spoiler=spoiler, caption_above=caption_above, as_given=as_given, extra=extra or ())  # fmt: skip
    draft = drafting.BroadcastOptions(
        bots=bots,
        text=text, caption=caption, media=media or (), html=html, markdown=markdown, album=album, silent=silent,
        protect=protect, options=said, name=name, rate=rate, gate=gate, at=at,
    )  # fmt: skip
    for one in run_with_app(lambda telewarm: drafting.create_drafts(telewarm, draft)):
        typer.echo(one.id)


@app.command("load")
def load(
    broadcast: BroadcastIdArgument, recipients: ListArgument, *, form: FormatOption = None, column: ColumnOption = None
) -> None:
    """Add chat ids to a draft; a chat that is already in it is only counted."""
    run_with_app(lambda telewarm: lists.load_file(telewarm, BroadcastId(broadcast), recipients, form, column))


@app.command("test", cls=ChatIdCommand, context_settings=CONTEXT_SETTINGS)
def test(
    broadcast: BroadcastIdArgument,
    chat: Annotated[
        str,
        typer.Argument(metavar="CHAT", callback=parse_recipient, help="Who gets it: an id, or @name of a public chat."),
    ],
) -> None:
    """Send the message to one chat now; this counts nowhere. The exit code is 1 when something did not go."""

    async def testing(telewarm: Telewarm) -> list[SendResult]:
        one = await telewarm.broadcasts.get(BroadcastId(broadcast))
        session = await telewarm.bots.get(one.bot_id)
        return await telewarm.broadcasts.test(one.id, await resolve_chat(session.api, session.chat_names, chat))

    results = run_with_app(testing)
    for result in results:
        typer.echo(result_line(result))
    raise typer.Exit(any(result.error is not None for result in results))


@app.command("start")
def start(broadcast: BroadcastIdArgument, *, at: drafting.AtOption = None, yes: YesOption = False) -> None:
    """Send it, now or at a time. When the column of its list was guessed, it asks first, or needs --yes."""
    starts_at = drafting.parse_time(at)

    async def starting(telewarm: Telewarm) -> Broadcast:
        one = await telewarm.broadcasts.get(BroadcastId(broadcast))
        asked = one.guess is not None and not yes and sys.stdin.isatty()
        if asked:
            echo_err(f"Where its chat ids are was guessed: {one.guess}")
            typer.confirm(f"Send it to {one.recipients:,} chats?", abort=True, err=True)
        return await telewarm.broadcasts.start(one.id, starts_at=starts_at, confirm=yes or asked)

    found = run_with_app(starting)
    begins = f"is scheduled: {watching.start_text(found)}" if found.state is BroadcastState.SCHEDULED else "starts now"
    echo_err(f"Broadcast {broadcast} {begins}. A worker sends it: telewarm worker, telewarm serve,")
    echo_err(f"or telewarm broadcast watch {broadcast} --work")


@app.command("pause")
def pause(broadcast: BroadcastIdArgument) -> None:
    """Pause: finish messages in progress, start no more."""
    _print_broadcast(run_with_app(lambda telewarm: telewarm.broadcasts.pause(BroadcastId(broadcast))))


@app.command("resume")
def resume(broadcast: BroadcastIdArgument) -> None:
    """Go on with a paused one."""
    _print_broadcast(run_with_app(lambda telewarm: telewarm.broadcasts.resume(BroadcastId(broadcast))))


@app.command("cancel")
def cancel(broadcast: BroadcastIdArgument) -> None:
    """Cancel for good."""
    _print_broadcast(run_with_app(lambda telewarm: telewarm.broadcasts.cancel(BroadcastId(broadcast))))


@app.command("undo")
def undo(broadcast: BroadcastIdArgument) -> None:
    """Delete what was sent, as far as Telegram lets a bot: within 48 hours."""
    _print_broadcast(run_with_app(lambda telewarm: telewarm.broadcasts.undo(BroadcastId(broadcast))))


@app.command("retry-unknown")
def retry_unknown(broadcast: BroadcastIdArgument) -> None:
    """Send again to those of whom nobody knows whether they got it: some may get it twice."""
    _print_broadcast(run_with_app(lambda telewarm: telewarm.broadcasts.retry_unknown(BroadcastId(broadcast))))


@app.command("retry")
def retry(
    broadcast: BroadcastIdArgument,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Those that failed: they surely have not got it.")] = False,
    unknown: Annotated[bool, typer.Option("--unknown", help="The unknown ones: some may get it twice.")] = False,
) -> None:
    """Send again to recipients that failed, or of whom nobody knows whether they got it."""
    if not failed and not unknown:
        raise UsageError("choose whom to send to again: --failed, --unknown, or both")
    outcomes = [DeliveryStatus.FAILED] * failed + [DeliveryStatus.UNKNOWN] * unknown
    _print_broadcast(run_with_app(lambda telewarm: telewarm.broadcasts.retry(BroadcastId(broadcast), outcomes)))


@app.command("delete")
def delete(broadcast: BroadcastIdArgument) -> None:
    """Delete the broadcast and its results. Sent messages stay."""
    run_with_app(lambda telewarm: telewarm.broadcasts.delete(BroadcastId(broadcast)))


@app.command("watch")
def watch(
    broadcast: BroadcastIdArgument,
    *,
    work: Annotated[bool, typer.Option("--work", help="Send it from this process too.")] = False,
) -> None:
    """Show a bar until it has ended. Ctrl-C ends the bar, not the broadcast."""

    async def watching_it(telewarm: Telewarm) -> int:
        return await _watch(telewarm, [BroadcastId(broadcast)], install_stop_event(), work=work)

    raise typer.Exit(run_with_app(watching_it))


@app.command("list")
def list_(
    *,
    bot: Annotated[str | None, typer.Option(help="Only this bot's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many, newest first.")] = 20,
) -> None:
    """The newest broadcasts and how far they are."""

    async def listing(telewarm: Telewarm) -> Table:
        bot_id = None if bot is None else (await telewarm.bots.by_slug(bot)).bot.id
        return await broadcast_tables.broadcasts_table(
            telewarm, await telewarm.broadcasts.page(bot_id=bot_id, limit=limit)
        )

    wide_console().print(run_with_app(listing))


@app.command("show")
def show(broadcast: BroadcastIdArgument) -> None:
    """One broadcast: its state, how far it is, why it waits, and why some did not get it."""

    async def showing(telewarm: Telewarm) -> Table:
        return await broadcast_tables.broadcast_table(telewarm, await telewarm.broadcasts.get(BroadcastId(broadcast)))

    wide_console().print(run_with_app(showing))


@app.command("results")
def results(
    broadcast: BroadcastIdArgument,
    *,
    outcome: Annotated[
        str | None,
        typer.Option(help=f"Only these: {', '.join(DeliveryStatus)}, or pending for those that have none yet."),
    ] = None,
    output: OutputOption = None,
) -> None:
    """What became of each recipient, as CSV: chat_id,outcome,message_ids,error,moved_to."""
    which = _parse_outcome(outcome)

    async def writing(telewarm: Telewarm) -> None:
        pages = telewarm.broadcasts.results(BroadcastId(broadcast), outcome=which)
        await lists.write_csv(csv_export.results_csv(pages), output)

    run_with_app(writing)


@app.command("rejected")
def rejected(broadcast: BroadcastIdArgument, *, output: OutputOption = None) -> None:
    """The lines of its lists that held no chat id, as CSV: line,reason,excerpt."""

    async def writing(telewarm: Telewarm) -> None:
        found = telewarm.broadcasts.rejected(BroadcastId(broadcast))
        await lists.write_csv(csv_export.rejected_csv(found), output)

    run_with_app(writing)


async def _send(
    telewarm: Telewarm,
    draft: drafting.BroadcastOptions,
    recipients: Path,
    *,
    form: ListFormat | None,
    column: str | None,
    yes: bool,
    again: bool,
) -> int:
    """The exit code."""

    def fill(broadcast_id: BroadcastId) -> Awaitable[ImportResult]:
        return lists.load_file(telewarm, broadcast_id, recipients, form, column)

    submitted, stop = await submitting.submit(telewarm, draft, recipients, fill, yes=yes, again=again)
    if submitted is None:
        return 1
    return await _watch(telewarm, [one.id for one in submitted.broadcasts], stop, work=True)


async def _watch(telewarm: Telewarm, ids: Sequence[BroadcastId], stop: asyncio.Event, *, work: bool) -> int:
    """The exit code."""
    if work:
        await telewarm.worker.start()
    found = await watching.watch_broadcasts(telewarm, ids, stop)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    causes = await telewarm.broadcasts.causes(ids)
    return watching.print_results(console, found, causes, stopped=stop.is_set())


def _print_broadcast(one: Broadcast) -> None:
    echo_err(f"Broadcast {one.id} is {one.state}: {watching.describe_counts(one)}")


def _parse_outcome(text: str | None) -> DeliveryStatus | Literal["pending"] | None:
    if text is None or text == "pending":
        return cast(Literal["pending"] | None, text)
    try:
        return DeliveryStatus(text)
    except ValueError:
        raise UsageError(f"--outcome is {text!r}; there are {', '.join(DeliveryStatus)}, and pending") from None
