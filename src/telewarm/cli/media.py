"""`telewarm media …`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, TypeAlias

import typer
from rich.filesize import decimal

from telewarm.api.routes.media import metadata_out
from telewarm.cli.adding import describe, import_all, import_progress, import_sources, print_outcome, print_summary
from telewarm.cli.common import (
    BotArgument,
    JsonOption,
    YesOption,
    confirm,
    parse_media_ids,
    pluralize,
    print_facts,
    run_with_app,
    spinner,
)
from telewarm.cli.console import echo_err, wide_console
from telewarm.cli.drafting import parse_time
from telewarm.cli.media_view import item_facts, items_table, state_text
from telewarm.cli.warming import WorkOption, work_until_warm
from telewarm.database import media as rows
from telewarm.database.media import RewarmScope
from telewarm.database.media_search import MediaFilters
from telewarm.errors import NotFound, UsageError
from telewarm.media.names import name_of
from telewarm.models import Bot, Kind, MediaId, MediaItem, MediaState
from telewarm.runtime import Telewarm

HELP = (
    "A bot's media: add, list and search, rename, re-warm, share, delete.\n\n"
    "[bold]Examples[/]\n\n"
    "telewarm media add shop photos/ film.mp4 --work\n\n"
    "telewarm media list shop --search cat\n\n"
    "telewarm media list shop --state error\n\n"
    "telewarm media rewarm shop --failed\n\n"
    "telewarm media share shop 17 18 --to news\n\n"
    "telewarm media delete shop 17 18"
)
PAGE_SIZE = 1000
MAX_NAMED_ITEMS = 3  # of what is to be deleted

MediaIdArgument: TypeAlias = Annotated[
    int, typer.Argument(metavar="ID", help="The media item's id.", show_default=False)
]
MediaIdsArgument: TypeAlias = Annotated[
    list[int], typer.Argument(metavar="ID", help="Ids of media items.", show_default=False)
]

app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode="rich")


@app.command("list")
def list_(  # noqa: PLR0913 - each is an argument or an option of the command line
    bot: BotArgument,
    *,
    kind: Annotated[Kind | None, typer.Option(help="Only of this kind.")] = None,
    state: Annotated[MediaState | None, typer.Option(help="Only in this state.")] = None,
    error: Annotated[
        str | None, typer.Option(metavar="CODE", help="Only those whose last error has this code.")
    ] = None,
    search: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only those with this somewhere in the name, in any case.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only those added then or later: 2031-05-01, or with T09:00.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only those added before then.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, newest first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show the newest media of a bot, or search them, and what is wrong with those that failed."""
    filters = MediaFilters(
        kind=kind,
        state=state,
        error_code=error,
        since=parse_time(since, option="--since"),
        until=parse_time(until, option="--until"),
        text=search,
    )

    async def listing(telewarm: Telewarm) -> tuple[list[MediaItem], bool, set[MediaId]]:
        items, more = await _newest_items(telewarm, bot, filters, limit=limit)
        return items, more, await rows.claimed(telewarm.pool, [item.id for item in items])

    items, more, in_hand = run_with_app(listing)
    if as_json:
        typer.echo(json.dumps([metadata_out(item) for item in items], indent=2))
    elif items:
        wide_console().print(items_table(items, in_hand))
    elif filters == MediaFilters():
        echo_err(f"{bot} has no media yet. Add some: telewarm media add {bot} FILE")
    else:
        echo_err(f"{bot} has no such media.")
    if more:
        echo_err(f"These are the newest {len(items):,}. For more: --limit {10 * limit}")


@app.command("show")
def show_(bot: BotArgument, media: MediaIdArgument, *, as_json: JsonOption = False) -> None:
    """Show one media item: the file, its file id, and what went wrong last."""

    async def looking(telewarm: Telewarm) -> tuple[MediaItem, set[MediaId]]:
        item = await _find_item(telewarm, bot, media)
        return item, await rows.claimed(telewarm.pool, [item.id])

    item, in_hand = run_with_app(looking)
    if as_json:
        typer.echo(json.dumps(metadata_out(item), indent=2))
    else:
        print_facts(item_facts(item, state_text(item, in_hand)))


@app.command("add")
def add(
    bot: BotArgument,
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Files, folders, or http(s) URLs to fetch once.", show_default=False),
    ],
    *,
    kind: Annotated[Kind | None, typer.Option(help="What they are sent as; else what their bytes are.")] = None,
    work: WorkOption = False,
    as_json: JsonOption = False,
) -> None:
    """Add files to a bot's library. A running worker uploads them: telewarm serve, telewarm worker, or --work.

    Prints a line for each: id, kind, file, and whether it was already there.
    Files already there are not uploaded again, so after an interruption just
    repeat the command. A file that is refused does not stop the others: the
    reason is printed, and the exit code is 1.

    [bold]Examples[/]

    telewarm media add shop photos/ film.mp4

    telewarm media add shop *.jpg --kind document --work

    telewarm media add shop https://example.org/film.mp4
    """
    sources = import_sources(files)

    async def adding(telewarm: Telewarm) -> int:
        session, outcomes = await telewarm.bots.by_slug(bot), []
        with import_progress(sources) as bar:
            async with aclosing(import_all(telewarm, session, sources, kind, bar.advance)) as done:
                async for outcome in done:
                    bar.finish_file()
                    outcomes.append(outcome)
                    print_outcome(outcome, None if as_json else bar.print_line)
        if as_json:
            typer.echo(json.dumps([describe(one) for one in outcomes], indent=2))
        ids = [one.result.item.id for one in outcomes if one.result is not None]
        refused = len(outcomes) - len(ids)
        print_summary(outcomes, refused, work=work)
        code = (
            await work_until_warm(telewarm, bot, lambda: rows.count_by_state(telewarm.pool, ids)) if work and ids else 0
        )
        return code or int(refused > 0)

    raise typer.Exit(run_with_app(adding, min_log_level="error"))


@app.command("rename")
def rename(
    bot: BotArgument,
    media: MediaIdArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help='One line; "" for none.', show_default=False)],
    *,
    rewarm: Annotated[
        bool, typer.Option("--rewarm", help="Upload it again, so that recipients see the new name.")
    ] = False,
) -> None:
    """Give a media item another name. Recipients see it once it is rewarmed: --rewarm, or telewarm media rewarm."""
    shown = name_of(name)
    if name and shown is None:
        raise UsageError('the name has no character that can be shown; give another, or "" for none')

    async def renaming(telewarm: Telewarm) -> MediaItem:
        session = await telewarm.bots.by_slug(bot)
        item = await _find_item(telewarm, bot, media)
        return await telewarm.library.rename(item.id, shown, rewarm=session.bot if rewarm else None)

    renamed = run_with_app(renaming)
    echo_err(f"media item {media} has no name now" if shown is None else f"media item {media} is called {shown} now")
    if renamed.note is not None:
        cure = "" if rewarm else f": telewarm media rewarm {bot} {media}, or give --rewarm"
        echo_err(f"{renamed.note}{cure}")


@app.command("rewarm")
def rewarm(
    bot: BotArgument,
    media: Annotated[
        list[int] | None, typer.Argument(metavar="ID", help="These, before others.", show_default=False)
    ] = None,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Everything that failed.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="The whole library.")] = False,
    work: WorkOption = False,
) -> None:
    """Upload media again: some, all that failed, or all. Media with a file id can be sent by it meanwhile."""
    if bool(media) + failed + everything != 1:
        raise UsageError("Choose one: item ids, --failed or --all")
    ids = parse_media_ids(media or ())

    async def warming(telewarm: Telewarm) -> int:
        session = await telewarm.bots.by_slug(bot)
        with spinner("Queueing"):
            count, missing = await _rewarm(
                telewarm, session.bot, ids, RewarmScope.FAILED if failed else RewarmScope.ALL
            )
        _print_missing(bot, missing)
        echo_err(f"{pluralize(count, 'media item', 'media items')} queued.")

        async def look() -> Mapping[MediaState, int]:
            known = (
                rows.count_by_state(telewarm.pool, ids)
                if ids
                else rows.count_by_state_of_bot(telewarm.pool, session.bot.id)
            )
            return await known

        code = await work_until_warm(telewarm, bot, look) if work and count else 0
        return code or int(bool(missing))

    raise typer.Exit(run_with_app(warming, min_log_level="error"))


@app.command("share")
def share(
    bot: BotArgument,
    media: Annotated[
        list[int] | None,
        typer.Argument(metavar="ID", help="Which media; the whole library if none is given.", show_default=False),
    ] = None,
    *,
    to: Annotated[
        list[str], typer.Option("--to", metavar="BOT", help="The bot that gets them. Repeatable.", show_default=False)
    ],
) -> None:
    """Add a bot's media to other bots' libraries, without storing the files again.

    Bots that share a warm-up chat upload nothing again either: the other bot
    forwards the message. The exit code is 1 when an id is not there.

    [bold]Examples[/]

    telewarm media share shop --to news --to blog

    telewarm media share shop 17 18 --to news
    """
    ids = parse_media_ids(media or ())
    if bot in to:
        raise UsageError(f"{bot} already has them. Name another bot with --to")

    async def sharing(telewarm: Telewarm) -> Sequence[MediaId]:
        source = (await telewarm.bots.by_slug(bot)).bot
        targets = [(await telewarm.bots.by_slug(slug)).bot for slug in dict.fromkeys(to)]
        missing = await _missing_ids(telewarm, source, ids)
        for target in targets:
            with spinner(f"Sharing with {target.slug}"):
                new = await telewarm.library.share(source, target, ids or None)
            echo_err(f"Added {pluralize(new, 'media item', 'media items')} to {target.slug}.")
        return missing

    missing = run_with_app(sharing)
    _print_missing(bot, missing)
    raise typer.Exit(int(bool(missing)))


@app.command("delete")
def delete(bot: BotArgument, media: MediaIdsArgument, *, yes: YesOption = False) -> None:
    """Delete media of a bot: all of these, or none while an unfinished broadcast needs one.

    Files that no other bot uses are removed within the hour. Sent messages
    stay. This cannot be undone except by adding the files again, so it asks
    first; scripts use --yes.
    """
    ids = parse_media_ids(media)
    if not yes:
        named = run_with_app(lambda telewarm: _describe_items(telewarm, bot, ids))
        confirm(f"Delete {named} of {bot} for good?", yes=False)
    removed = run_with_app(lambda telewarm: telewarm.delete(bot, ids))
    _print_missing(bot, missing := sorted(set(ids) - set(removed.media_ids)))
    freed = f" {decimal(removed.bytes)} will be freed within the hour." if removed.blobs else ""
    echo_err(f"Deleted {pluralize(len(removed.media_ids), 'media item', 'media items')}.{freed}")
    raise typer.Exit(int(bool(missing)))


@app.command("collect")
def collect() -> None:
    """Find objects in the store that no media item uses, and delete those found long enough ago.

    A process that is killed while it adds a file may leave one behind. Files
    of deleted media are removed by any running Telewarm; this command is for
    the rest, now and then. It touches nothing that a media item uses, and
    nothing that is not Telewarm's.
    """

    async def collecting(telewarm: Telewarm) -> tuple[int, int]:
        with spinner("Looking through the store"):
            return await telewarm.collector.find_orphaned_objects(), await telewarm.collector.collect()

    strays, blobs = run_with_app(collecting)
    found = pluralize(strays, "unused object", "unused objects")
    echo_err(
        f"Deleted {pluralize(blobs, 'file', 'files')}. Found {found}; run this again in 15 minutes to delete them."
    )


async def _newest_items(
    telewarm: Telewarm, bot: str, filters: MediaFilters, *, limit: int
) -> tuple[list[MediaItem], bool]:
    """And whether there may be more."""
    session = await telewarm.bots.by_slug(bot)
    items: list[MediaItem] = []
    before: MediaId | None = None
    while len(items) < limit:
        page = await telewarm.library.page(
            session.bot, filters, before=before, limit=min(PAGE_SIZE, limit - len(items))
        )
        items += page.items
        if page.next is None:
            return items, False
        before = page.next
    return items, True


async def _find_item(telewarm: Telewarm, bot: str, given: int) -> MediaItem:
    """Raises NotFound for one that is not the bot's."""
    session, [media_id] = await telewarm.bots.by_slug(bot), parse_media_ids([given])
    if await _missing_ids(telewarm, session.bot, [media_id]):
        raise NotFound(f"{bot} has no media item {media_id}. List them: telewarm media list {bot}")
    return await rows.get(telewarm.pool, media_id)


async def _missing_ids(telewarm: Telewarm, bot: Bot, ids: Sequence[MediaId]) -> list[MediaId]:
    return sorted(set(ids) - set(await rows.owned(telewarm.pool, bot.id, ids)))


async def _rewarm(
    telewarm: Telewarm, bot: Bot, ids: Sequence[MediaId], scope: RewarmScope
) -> tuple[int, Sequence[MediaId]]:
    """How many are due by it, and which of the ids the bot does not have."""
    if not ids:
        return await telewarm.library.rewarm_all([bot], scope), []
    count, found = await telewarm.library.rewarm_selected(bot, ids)
    return count, sorted(set(ids) - set(found))


async def _describe_items(telewarm: Telewarm, bot: str, ids: Sequence[MediaId]) -> str:
    """What is to be deleted, in words. Raises NotFound when it is nothing."""
    session = await telewarm.bots.by_slug(bot)
    found = await rows.owned(telewarm.pool, session.bot.id, ids)
    if not found:
        raise NotFound(f"{bot} has none of these media. List them: telewarm media list {bot}")
    items = [await rows.get(telewarm.pool, media_id) for media_id in found[:MAX_NAMED_ITEMS]]
    names = ", ".join(f"{item.id} {item.name}" if item.name else str(item.id) for item in items)
    return (
        f"{pluralize(len(found), 'media item', 'media items')} ({names}{', …' if len(found) > MAX_NAMED_ITEMS else ''})"
    )


def _print_missing(bot: str, missing: Sequence[MediaId]) -> None:
    if missing:
        echo_err(f"{bot} has no media item {', '.join(map(str, missing))}.")
