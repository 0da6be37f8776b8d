"""`telewarm media file-id`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from telewarm.cli.common import BotArgument, JsonOption, parse_media_ids, run_with_app
from telewarm.cli.media import MediaIdArgument
from telewarm.inputs import WarmFile
from telewarm.runtime import Telewarm


def file_id(
    bot: BotArgument,
    media: MediaIdArgument,
    *,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for its warm-up, which needs a worker.")] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Print a media item's file id, to send it with a program of your own.

    It belongs to this bot. With --json also its kind and the Bot API's method
    that sends it. The exit code is 1 while there is none.
    """
    [wanted] = parse_media_ids([media])

    async def looking(telewarm: Telewarm) -> WarmFile:
        return await telewarm.file_id(bot, wanted, wait=wait)

    found = run_with_app(looking)
    if as_json:
        facts = {"media_id": found.media_id, "file_id": found.file_id, "kind": found.kind, "method": found.method}
        typer.echo(json.dumps(facts))
    else:
        typer.echo(found.file_id)
