"""Our Telegram client beside bare aiohttp, against the sandbox in another process.

    python benchmarks/standalone/client.py [--sends 4000] [--uploads 600] [--rounds 5] [--concurrency 20]

Sends by file id: `BotApi.send_media`, and a loop of `session.post(url, json=...)` that looks at no answer.
Uploads of 200 kB photos: ours from a file, aiohttp's FormData from that file, and one request encoded beforehand.
The contestants take turns, so that a slow moment of the machine hits all of them; the medians of the rounds count.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import aiohttp
import uvloop

from telewarm.demo import media
from telewarm.models import ChatId, FileId, Kind
from telewarm.telegram.client import BotApi
from telewarm.telegram.files import FileIdRef, FileUpload
from telewarm.telegram.transport import Transport

TOKEN = "1000000001:" + "s" * 35
CHAT = ChatId(42)
PHOTO_BYTES = 200_000

Call: TypeAlias = Callable[[], Awaitable[object]]


@contextlib.contextmanager
def sandbox() -> Iterator[str]:
    command = [sys.executable, "-m", "telewarm", "sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            root = next((word for word in line.split() if word.startswith("http")), None)
            if root is None:
                raise SystemExit(f"The sandbox did not start: {' '.join(command)}")
            yield root
        finally:
            process.terminate()


async def rate(call: Call, *, count: int, concurrency: int) -> tuple[float, float]:
    """Calls a second, and CPU milliseconds of this process for each."""
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            await call()

    started, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(concurrency):
            tasks.create_task(work())
    return count / (time.perf_counter() - started), (time.process_time() - cpu) * 1000 / count


async def compare(title: str, calls: Mapping[str, Call], *, count: int, rounds: int, concurrency: int) -> None:
    """The first of `calls` is ours; the others are what it is measured against."""
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for call in calls.values():
        await rate(call, count=max(1, count // 10), concurrency=concurrency)
    for _ in range(rounds):
        for name, call in calls.items():
            results[name].append(await rate(call, count=count, concurrency=concurrency))
    medians = {name: statistics.median(speed for speed, _ in measured) for name, measured in results.items()}
    ours = next(iter(medians.values()))
    print(f"{title}: {count} x {rounds} rounds, {concurrency} at once")
    for name, median in medians.items():
        cpu = statistics.median(cost for _, cost in results[name])
        print(f"  {name:<28} {median:8.0f}/s  {cpu:6.3f} ms CPU each   ours/this {ours / median:5.2f}")


def poster(session: aiohttp.ClientSession, url: str, **arguments: object) -> Call:
    async def post() -> None:
        async with session.post(url, **arguments) as response:  # type: ignore[arg-type]  # passed through
            await response.read()
            response.raise_for_status()

    return post


async def sends(
    bot: BotApi, session: aiohttp.ClientSession, url: str, photo: Path, options: argparse.Namespace
) -> None:
    upload = FileUpload(path=photo, filename="photo.jpg", mime="image/jpeg", bytes=PHOTO_BYTES)
    file_id = (await bot.send_media(Kind.PHOTO, CHAT, upload)).file_id or FileId("")
    calls = {
        "BotApi.send_media(FileIdRef)": lambda: bot.send_media(Kind.PHOTO, CHAT, FileIdRef(file_id=file_id)),
        "bare aiohttp": poster(session, url, json={"chat_id": CHAT, "photo": file_id}),
    }
    await compare("sends", calls, count=options.sends, rounds=options.rounds, concurrency=options.concurrency)


def preencoded(photo: Path) -> bytes:
    head = (
        f'--b\r\nContent-Disposition: form-data; name="chat_id"\r\n\r\n{CHAT}\r\n--b\r\n'
        'Content-Disposition: form-data; name="photo"; filename="photo.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    )
    return head.encode() + photo.read_bytes() + b"\r\n--b--\r\n"


async def uploads(
    bot: BotApi, session: aiohttp.ClientSession, url: str, photo: Path, options: argparse.Namespace
) -> None:
    upload = FileUpload(path=photo, filename="photo.jpg", mime="image/jpeg", bytes=PHOTO_BYTES)
    encoded = preencoded(photo)

    def form() -> aiohttp.FormData:
        data = aiohttp.FormData({"chat_id": str(CHAT)})
        data.add_field("photo", photo.read_bytes(), filename="photo.jpg", content_type="image/jpeg")
        return data

    async def with_form_data() -> None:
        await poster(session, url, data=form())()

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    calls = {
        "BotApi.send_media(Upload)": lambda: bot.send_media(Kind.PHOTO, CHAT, upload),
        "aiohttp FormData": with_form_data,
        "aiohttp, encoded beforehand": poster(session, url, data=encoded, headers=headers),
    }
    await compare(
        "uploads of 200 kB", calls, count=options.uploads, rounds=options.rounds, concurrency=options.concurrency
    )


async def run(root: str, folder: Path, options: argparse.Namespace) -> None:
    photo = folder / "photo.jpg"
    photo.write_bytes(media.photo(1, bytes=PHOTO_BYTES))
    url = f"{root}/bot{TOKEN}/sendPhoto"
    async with Transport.open() as transport, aiohttp.ClientSession() as session:
        bot = BotApi(transport, TOKEN, root=root)
        await sends(bot, session, url, photo, options)
        await uploads(bot, session, url, photo, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sends", type=int, default=4000, help="sends a round")
    parser.add_argument("--uploads", type=int, default=600, help="uploads a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=20)
    parser.add_argument("--root", help="a BotApi API server that runs already")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        root = options.root or stack.enter_context(sandbox())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        uvloop.run(run(root, folder, options))


if __name__ == "__main__":
    main()
