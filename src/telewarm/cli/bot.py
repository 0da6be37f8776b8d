"""`telewarm bot …`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, TypeAlias

import typer
from rich.table import Table
from rich.text import Text

from telewarm.api.routes.bot_management import describe_check, describe_detail, describe_listed
from telewarm.bots.chat_names import SLUG_PATTERN
from telewarm.bots.health_check import BotCheck, CheckStatus
from telewarm.cli.chat import parse_chat
from telewarm.cli.common import (
    BotArgument,
    JsonOption,
    YesOption,
    confirm,
    pluralize,
    print_facts,
    run_with_app,
    spinner,
)
from telewarm.cli.console import echo_err, wide_console
from telewarm.database.bot_summaries import BotSummary
from telewarm.database.deletions import PurgeResult
from telewarm.errors import Conflict, NotFound, UsageError
from telewarm.models import Bot, MediaState
from telewarm.runtime import Telewarm

HELP = (
    "Your bots: add, show, check, pause, delete and restore.\n\n"
    "A bot's warm-up chat is a private channel or group it can post to: each file is uploaded there once.\n\n"
    "[bold]Examples[/]\n\n"
    "telewarm bot add shop --chat -1001234567890\n\n"
    "telewarm bot check\n\n"
    "telewarm bot delete shop\n\n"
    "telewarm bot undelete shop"
)
PAGE_SIZE = 500
MAX_WARMUP_CHATS = 64
NO_BOTS_MESSAGE = "No bots yet. Add one: telewarm bot add --help"

ChatsOption: TypeAlias = Annotated[
    list[str],
    typer.Option(
        "--chat",
        metavar="ID",
        show_default=False,
        help="Id of a private channel or group the bot can post to, or @name of a public one. Channel ids start with "
        "-100. Repeatable: each chat takes 20 uploads a minute.",
    ),
]

app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode="rich")


@app.command("list")
def list_(
    *,
    deleted: Annotated[bool, typer.Option("--deleted", help="Deleted bots that can be restored.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List your bots: media in each state, warm-up chats, and whether they are paused."""
    found = run_with_app(lambda telewarm: _all_summaries(telewarm, deleted=deleted))
    if as_json:
        typer.echo(json.dumps([describe_listed(one) for one in found], indent=2))
        return
    if not found:
        echo_err("No deleted bots." if deleted else NO_BOTS_MESSAGE)
        return
    table = Table("bot", "username", *MediaState, "chats", "", box=None, pad_edge=False)
    for column in table.columns[2:-1]:
        column.justify = "right"
    for one in found:
        counts = [f"{one.media_counts[state]:,}" for state in MediaState]
        table.add_row(one.slug, one.username, *counts, str(len(one.warmup_chats)), _pause_text(one))
    wide_console().print(table)


@app.command("show")
def show_(bot: BotArgument, *, as_json: JsonOption = False) -> None:
    """Show one bot: its media, its warm-up chats and their flood waits."""

    async def looking(telewarm: Telewarm) -> tuple[Bot, BotSummary]:
        return await telewarm.bots.read_current((await telewarm.bots.by_slug(bot)).bot.id)

    fresh, listed = run_with_app(looking)
    if as_json:
        typer.echo(json.dumps(describe_detail(fresh, listed), indent=2))
    else:
        print_facts(_facts(fresh, listed))


@app.command("add")
def add(bot: BotArgument, *, chats: ChatsOption) -> None:
    """Add a bot. Its token is asked for, or read from standard input, so that it is in no history and no process list.

    The token is checked with Telegram and stored encrypted. Then the warm-up
    chats are checked, as `telewarm bot check` does. The exit code is 1 when
    there is a problem.

    [bold]Examples[/]

    telewarm bot add shop --chat -1001234567890

    telewarm bot add shop --chat -1001234567890 --chat -1009876543210 < token.txt
    """
    if SLUG_PATTERN.fullmatch(bot) is None:
        raise UsageError(
            f"{bot!r} is not a valid name. Use a-z, 0-9, '.', '_' or '-', starting with a letter or digit; at most 63 "
            "characters"
        )
    wanted = _parse_chats(chats)
    token = _read_token()

    async def adding(telewarm: Telewarm) -> BotCheck:
        await telewarm.add_bot(bot, token, warmup_chats=wanted)
        return await telewarm.bots.check(bot)

    found = run_with_app(adding)
    echo_err(f"Added {bot}.")
    code = _print_checks([(bot, found)], as_json=False)
    echo_err(
        f"Next: telewarm media add {bot} photo.jpg --work"
        if code == 0
        else f"Then check again: telewarm bot check {bot}"
    )
    raise typer.Exit(code)


@app.command("token")
def token_(bot: BotArgument) -> None:
    """Replace a bot's token. It is asked for, or read from standard input, and checked with Telegram.

    With the token of another Telegram bot, all media are warmed again: a file
    id belongs to one bot.
    """
    token = _read_token()

    async def replacing(telewarm: Telewarm) -> Bot:
        return await telewarm.bots.replace_token(bot, token)

    echo_err(f"{bot} is now @{run_with_app(replacing).username}, in every process.")


@app.command("chats")
def chats_(bot: BotArgument, *, chats: ChatsOption) -> None:
    """Replace a bot's warm-up chats. They are checked at once. Existing file ids stay valid."""
    wanted = _parse_chats(chats)

    async def replacing(telewarm: Telewarm) -> BotCheck:
        await telewarm.bots.replace_chats(bot, wanted)
        return await telewarm.bots.check(bot)

    raise typer.Exit(_print_checks([(bot, run_with_app(replacing))], as_json=False))


@app.command("check")
def check(
    bots: Annotated[
        list[str] | None, typer.Argument(metavar="BOT", help="Slugs; all bots if none is given.", show_default=False)
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Ask Telegram whether the token is good and the bot may post to each warm-up chat. Nothing is posted to anybody.

    Each problem comes with its fix. The exit code is 1 when there is a problem,
    or when something could not be checked.
    """

    async def checking(telewarm: Telewarm) -> list[tuple[str, BotCheck]]:
        with spinner("Asking Telegram"):
            return [(slug, await telewarm.bots.check(slug)) for slug in bots or await telewarm.slugs()]

    raise typer.Exit(_print_checks(run_with_app(checking), as_json=as_json))


@app.command("pause")
def pause(bot: BotArgument) -> None:
    """Pause a bot's warm-ups and broadcasts in every process. Messages in progress are finished; sends go on."""
    run_with_app(lambda telewarm: telewarm.bots.pause(bot))
    echo_err(f"Paused {bot}. Resume it with: telewarm bot resume {bot}")


@app.command("resume")
def resume(bot: BotArgument) -> None:
    """Resume a paused bot."""
    run_with_app(lambda telewarm: telewarm.bots.resume(bot))
    echo_err(f"Resumed {bot}.")


@app.command("delete")
def delete(
    bot: BotArgument,
    *,
    forever: Annotated[bool, typer.Option("--forever", help="Erase a deleted bot with everything it has.")] = False,
    yes: YesOption = False,
) -> None:
    """Delete a bot: all its work stops in every process. Undo with `telewarm bot undelete`.

    With --forever, a bot that is already deleted is erased with its media, chat
    ledger, broadcasts, and the files no other bot uses. It asks first; scripts
    use --yes.
    """
    if not forever:
        run_with_app(lambda telewarm: telewarm.delete_bot(bot))
        echo_err(f"Deleted {bot}. Undo with: telewarm bot undelete {bot}")
        return
    if not yes:
        items = run_with_app(lambda telewarm: _count_media_of_deleted(telewarm, bot))
        confirm(f"Delete {bot} for good, with {pluralize(items, 'media item', 'media items')}?", yes=False)

    async def purging(telewarm: Telewarm) -> PurgeResult:
        with spinner(f"Deleting {bot}"):
            return await telewarm.bots.delete_for_good(bot)

    gone = run_with_app(purging)
    media, broadcasts = (
        pluralize(gone.media, "media item", "media items"),
        pluralize(gone.broadcasts, "broadcast", "broadcasts"),
    )
    echo_err(f"Deleted {bot} for good, with {media} and {broadcasts}.")


@app.command("undelete")
def undelete(bot: BotArgument) -> None:
    """Restore a deleted bot with everything it had; pending work continues."""
    _, changed = run_with_app(lambda telewarm: telewarm.bots.undelete(bot))
    echo_err(f"Restored {bot}." if changed else f"{bot} is not deleted.")


def _parse_chats(chats: Sequence[str]) -> list[int | str]:
    """Each once; the first is the preferred one. Raises UsageError."""
    wanted = [parse_chat(chat, "--chat") for chat in dict.fromkeys(chats)]
    if len(wanted) > MAX_WARMUP_CHATS:
        raise UsageError(f"A bot has at most {MAX_WARMUP_CHATS} warm-up chats; {len(wanted)} were given")
    return wanted


def _read_token() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    return str(typer.prompt("Token from @BotFather", hide_input=True, err=True)).strip()


async def _all_summaries(telewarm: Telewarm, *, deleted: bool) -> list[BotSummary]:
    found: list[BotSummary] = []
    while True:
        page = await telewarm.bots.page(deleted=deleted, after=found[-1].slug if found else "", limit=PAGE_SIZE)
        found += page
        if len(page) < PAGE_SIZE:
            return found


async def _count_media_of_deleted(telewarm: Telewarm, slug: str) -> int:
    """How many media a deleted bot has. Raises NotFound, Conflict."""
    for one in await _all_summaries(telewarm, deleted=True):
        if one.slug == slug:
            return sum(one.media_counts.values())
    if slug in await telewarm.slugs():
        raise Conflict(f"Bot {slug!r} is not deleted. Delete it first, then again with --forever")
    raise NotFound(f"There is no bot {slug!r}, not even a deleted one. See: telewarm bot list")


def _pause_text(one: BotSummary) -> str:
    if one.deleted_at is not None:
        return f"deleted {one.deleted_at.astimezone():%Y-%m-%d %H:%M}"
    if one.paused_at is not None:
        return "paused"
    return f"waits {one.flood_wait_seconds:,.0f} s" if one.flood_wait_seconds else ""


def _facts(fresh: Bot, listed: BotSummary) -> Iterator[tuple[str, object]]:
    yield "bot", listed.slug
    yield "username", listed.username and f"@{listed.username}"
    yield "telegram id", listed.telegram_id
    yield "media", ", ".join(f"{listed.media_counts[state]:,} {state}" for state in MediaState)
    for chat in listed.warmup_chats:
        wait = fresh.chat_pauses.get(chat)
        yield "warm-up chat", f"{chat}, waits {wait:,.0f} s for Telegram's limits" if wait else chat
    yield "paused", listed.paused_at and f"since {listed.paused_at.astimezone():%Y-%m-%d %H:%M}"
    yield "waits", f"{listed.flood_wait_seconds:,.0f} s for Telegram's limits" if listed.flood_wait_seconds else None
    yield "added", f"{listed.created_at.astimezone():%Y-%m-%d %H:%M}"


def _print_checks(checked: Sequence[tuple[str, BotCheck]], *, as_json: bool) -> int:
    """The exit code."""
    if as_json:
        typer.echo(json.dumps({slug: describe_check(found) for slug, found in checked}, indent=2))
    elif not checked:
        echo_err(NO_BOTS_MESSAGE)
    else:
        table = Table("bot", "what", "", "details", box=None, pad_edge=False)
        for slug, found in checked:
            username = "" if found.profile is None else f" of @{found.profile.username}"
            _add_check_row(table, slug, f"token{username}", found.token)
            for chat in found.chats:
                _add_check_row(
                    table, slug, f"chat {chat.chat_id}" + (f" {chat.title}" if chat.title else ""), chat.result
                )
        wide_console().print(table)
    return 0 if all(found.ok for _, found in checked) else 1


def _add_check_row(table: Table, slug: str, what: str, status: CheckStatus) -> None:
    verdict = {True: "[green]ok[/]", False: "[red]problem[/]", None: "[yellow]unknown[/]"}[status.ok]
    table.add_row(slug, Text(what), verdict, Text(status.message or ""))
