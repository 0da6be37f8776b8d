"""`telewarm media …`: media in, found, renamed, warmed, shared and out."""

from __future__ import annotations

import json
import os
import pty
import re
import signal

import pytest

from telewarm import clock
from telewarm.database import media
from telewarm.errors import StoreUnavailable
from telewarm.models import MediaId, MediaState
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from tests.cli.conftest import Commands, ended
from tests.fixtures import odd_media
from tests.fixtures.app import WARMUP_CHAT, until
from tests.fixtures.media import jpeg
from tests.fixtures.rows import make_lease
from tests.fixtures.sandbox import token

CHAT = ("--chat", str(WARMUP_CHAT))

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def shop(command: Commands) -> Commands:
    """With a bot."""
    await command.ok("bot", "add", "shop", *CHAT, given=token(0))
    return command


async def ids(shop: Commands, *options: str, bot: str = "shop") -> list[int]:
    """As they are listed."""
    return [item["media_id"] for item in json.loads((await shop.ok("media", "list", bot, "--json", *options)).out)]


async def test_files_and_folders_are_added_and_one_that_cannot_be_stops_no_other(shop: Commands) -> None:
    inner = shop.folder / "more" / "inner"
    inner.mkdir(parents=True)
    (inner / "9.jpg").write_bytes(jpeg(9))
    (inner / ".hidden.jpg").write_bytes(jpeg(10))
    (shop.folder / "empty.jpg").write_bytes(b"")

    added = await shop("media", "add", "shop", "0.jpg", "empty.jpg", "more", "1.jpg")
    again = await shop.ok("media", "add", "shop", "1.jpg", "2.jpg")

    assert added.code == 1
    assert [line.split("\t")[1:] for line in added.out.splitlines()] == [
        ["photo", "0.jpg"], ["photo", "more/inner/9.jpg"], ["photo", "1.jpg"]
    ]  # fmt: skip
    assert "empty.jpg: UNREADABLE_MEDIA" in added.said
    assert "3 added and queued. 1 refused. To upload them now, run telewarm serve or use --work." in added.said
    assert again.out.splitlines()[0].endswith("\t1.jpg\talready there")
    assert "1 added and queued, 1 already there." in again.said
    assert len(await ids(shop)) == 4


async def test_a_folder_of_odd_files_loses_none_and_says_what_became_documents(shop: Commands) -> None:
    folder = shop.folder / "odd"
    folder.mkdir()
    (folder / "1 huge.png").write_bytes(odd_media.png(1 << 31, 10))
    (folder / os.fsdecode(b"2 caf\xe9.jpg")).write_bytes(jpeg(3))
    (folder / "3 fake.jpg").write_bytes(b"no photo")
    (folder / "4 good.jpg").write_bytes(jpeg(4))
    with (folder / "5 huge.bin").open("wb") as file:
        file.truncate(3 << 30)

    added = await shop("media", "add", "shop", "odd")

    assert added.code == 1
    assert [line.split("\t")[1:] for line in added.out.splitlines()] == [
        ["document", "odd/1 huge.png", "taken as a document: its header is damaged or cut off"],
        ["photo", "odd/2 caf?.jpg"],
        ["document", "odd/3 fake.jpg", "taken as a document: not a picture: its bytes are text/plain"],
        ["photo", "odd/4 good.jpg"],
    ]
    assert "5 huge.bin: MEDIA_RULE_BROKEN Telegram takes at most 50 MB from bots" in added.said
    assert "3072.00 MB" in added.said
    assert len(await ids(shop)) == 4


async def test_a_second_name_and_a_new_name_are_told_with_the_name_that_recipients_see(
    shop: Commands, sandbox: Sandbox
) -> None:
    for name in ("a.pdf", "b.pdf"):
        (shop.folder / name).write_bytes(b"%PDF-1.4")
    await shop.ok("media", "add", "shop", "a.pdf", "--work")
    assert (await shop.ok("media", "add", "shop", "b.pdf")).out.endswith('\tb.pdf\talready there as "a.pdf"\n')

    renamed = await shop.ok("media", "rename", "shop", "1", "c.pdf")
    assert 'recipients still see "a.pdf"' in renamed.said
    assert "telewarm media rewarm shop 1" in renamed.said
    again = await shop.ok("media", "rename", "shop", "1", "d.pdf", "--rewarm")
    assert "is queued" in again.said
    assert sandbox.state.stats.total.uploads == 1


async def test_a_program_reads_what_became_of_each_file(shop: Commands) -> None:
    (shop.folder / "text.jpg").write_bytes(b"no photo")

    added = await shop("media", "add", "shop", "0.jpg", "text.jpg", "--kind", "photo", "--json")

    assert added.code == 1
    good, bad = json.loads(added.out)
    assert (good["file"], good["ok"], good["created"], good["state"]) == ("0.jpg", True, True, "warming")
    assert (bad["file"], bad["ok"], bad["error"]) == ("text.jpg", False, "MEDIA_RULE_BROKEN")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("add", "shop", "0.jpg", "gone.jpg"), 2, "gone.jpg: no such file"),
        (("add", "shop", "nothing"), 2, "No files found"),
        (("add", "nobody", "0.jpg"), 1, "telewarm bot add"),
        (("add", "shop", "http://127.0.0.1/film.mp4?key=secret"), 1, "film.mp4: URL_REFUSED"),
        (("show", "shop", "7"), 1, "telewarm media list shop"),
        (("show", "shop", str(2**63)), 1, "is not the id of a media item"),
        (("rename", "shop", "7", "x"), 1, "has no media item 7"),
        (("rename", "shop", "7", "\n"), 1, "no character"),
        (("rewarm", "shop"), 1, "--failed"),
        (("rewarm", "shop", "7", "--all"), 1, "--failed"),
        (("share", "shop", "--to", "shop"), 1, "another bot"),
        (("share", "shop", "--to", "nobody"), 1, "telewarm bot add"),
        (("list", "shop", "--since", "soon"), 1, "--since"),
    ],
)
async def test_a_slip_is_told_with_the_cure_and_changes_nothing(
    shop: Commands, arguments: tuple[str, ...], code: int, words: str
) -> None:
    (shop.folder / "nothing").mkdir()
    slip = await shop("media", *arguments)
    assert slip.code == code
    assert words in slip.said
    assert "secret" not in slip.said
    assert await ids(shop) == []


async def test_media_are_listed_newest_first_and_searched_by_what_is_known_of_them(shop: Commands) -> None:
    assert "telewarm media add shop" in (await shop.ok("media", "list", "shop")).said
    for name in ("Cat[red].jpg", "dog.jpg"):
        (shop.folder / name).write_bytes(jpeg(len(name)))
        await shop.ok("media", "add", "shop", name)
    telewarm = await shop.opener(worker=False)
    await telewarm.pool.execute(
        "UPDATE media SET state = 'error', last_error_code = 'A', last_error = '[b]so' WHERE id = 2"
    )

    assert await ids(shop) == [2, 1]
    assert await ids(shop, "--search", "cat[R") == [1]
    assert await ids(shop, "--state", "error", "--error", "A") == [2]
    assert await ids(shop, "--kind", "video") == await ids(shop, "--until", "2001-01-01") == []
    assert await ids(shop, "--since", "2001-01-01T09:00") == [2, 1]
    shown = await shop.ok("media", "list", "shop", "--limit", "1")
    assert "[b]so" in shown.out
    assert "For more: --limit 10" in shown.said
    whole = (await shop.ok("media", "list", "shop")).out
    assert "Cat[red].jpg" in whole
    assert re.search(r"^1 +photo +queued ", whole, re.MULTILINE)  # no worker has taken it
    await telewarm.pool.execute("UPDATE media SET lease_id = $1 WHERE id = 1", await make_lease(telewarm.pool))
    assert re.search(r"^state +warming *$", (await shop.ok("media", "show", "shop", "1")).out, re.MULTILINE)
    assert "no such media" in (await shop.ok("media", "list", "shop", "--kind", "video")).said


async def test_an_item_is_shown_and_renamed_by_its_own_bot_alone(shop: Commands) -> None:
    await shop.ok("bot", "add", "news", *CHAT, given=token(1))
    await shop.ok("media", "add", "shop", "0.jpg")

    await shop.ok("media", "rename", "shop", "1", " a\ncat [red]")
    foreign = await shop("media", "rename", "news", "1", "x")

    assert foreign.code == 1
    assert "acat [red]" in (await shop.ok("media", "show", "shop", "1")).out
    assert json.loads((await shop.ok("media", "show", "shop", "1", "--json")).out)["name"] == "acat [red]"
    await shop.ok("media", "rename", "shop", "1", "")
    assert json.loads((await shop.ok("media", "show", "shop", "1", "--json")).out)["name"] is None


async def test_media_are_shared_with_several_bots_and_stored_once(shop: Commands) -> None:
    for number, slug in enumerate(("news", "blog"), start=1):
        await shop.ok("bot", "add", slug, *CHAT, given=token(number))
    await shop.ok("media", "add", "shop", "0.jpg", "1.jpg")

    some = await shop("media", "share", "shop", "1", "99", "--to", "news")
    everything = await shop.ok("media", "share", "shop", "--to", "news", "--to", "blog")

    assert some.code == 1
    assert "shop has no media item 99" in some.said
    assert "Added 1 media item to news" in some.said
    assert "Added 1 media item to news.\n" in everything.said
    assert "Added 2 media items to blog." in everything.said
    assert [len(await ids(shop, bot=slug)) for slug in ("news", "blog")] == [2, 2]
    telewarm = await shop.opener(worker=False)
    assert await telewarm.pool.fetchval("SELECT count(*) FROM blob") == 2


async def test_media_are_deleted_after_a_yes_from_a_person_or_from_a_script(shop: Commands) -> None:
    await shop.ok("media", "add", "shop", "0.jpg")
    await shop.ok("media", "add", "shop", "1.jpg")

    script = await shop("media", "delete", "shop", "1")
    refused = await shop.answered("", "media", "delete", "shop", "1", "2")
    assert (script.code, refused.code) == (1, 1)
    assert "--yes" in script.said
    assert "Delete 2 media items (1 0.jpg, 2 1.jpg) of shop for good?" in refused.said
    assert await ids(shop) == [2, 1]

    assert "Deleted 1 media item" in (await shop.answered("y", "media", "delete", "shop", "1")).said
    some = await shop("media", "delete", "shop", "1", "2", "--yes")
    assert (some.code, "shop has no media item 1" in some.said) == (1, True)
    assert await ids(shop) == []
    none = await shop.answered("y", "media", "delete", "shop", "1")
    assert (none.code, "has none of these" in none.said) == (1, True)


async def test_objects_that_belong_to_nothing_are_found(shop: Commands) -> None:
    await shop.ok("media", "add", "shop", "0.jpg")
    folder, old = shop.opener.data / "media", clock.now().timestamp() - 2 * 86_400
    [kept] = [path for path in folder.rglob("*.jpg") if "thumbnails" not in path.parts]
    stray = kept.parent.parent / "aa" / f"{'a' * 64}.jpg"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"x")
    for path in (kept, stray):
        os.utime(path, (old, old))

    first, second = await shop.ok("media", "collect"), await shop.ok("media", "collect")

    assert "Deleted 0 files. Found 1 unused object" in first.said
    assert "Found 0 unused objects" in second.said


async def test_with_work_they_are_warm_when_it_ends(shop: Commands, sandbox: Sandbox) -> None:
    added = await shop.process("media", "add", "shop", "0.jpg", "1.jpg", "--work")
    assert (added.code, "2 ready, 0 failed" in added.said) == (0, True), added
    assert sandbox.state.stats.total.uploads == 2

    again = await shop.process("media", "rewarm", "shop", "1", "--work")
    assert (again.code, "1 media item queued" in again.said) == (0, True), again
    assert sandbox.state.stats.total.uploads == 3


async def test_with_work_what_fails_is_told_and_warmed_anew_once_it_can_be(shop: Commands, sandbox: Sandbox) -> None:
    sandbox.state.faults.add(
        Rule(action="error", code=400, description="Bad Request: IMAGE_PROCESS_FAILED", count=None)
    )

    added = await shop.process("media", "add", "shop", "0.jpg", "--work")
    assert added.code == 1
    assert "0 ready, 1 failed" in added.said
    assert "telewarm media list shop --state error" in added.said
    assert "IMAGE_PROCESS_FAILED" in (await shop.ok("media", "list", "shop", "--state", "error")).out

    sandbox.state.faults.clear()
    again = await shop.process("media", "rewarm", "shop", "--failed", "--work")
    assert (again.code, "1 ready, 0 failed" in again.said) == (0, True), again


@pytest.mark.heavy
async def test_ctrl_c_ends_the_waiting_and_loses_nothing(shop: Commands, sandbox: Sandbox) -> None:
    sandbox.state.faults.add(Rule(action="hang", method="sendPhoto", count=None))
    telewarm = await shop.opener(worker=False)
    process = await shop.start("media", "add", "shop", "0.jpg", "--work")

    async def is_sent() -> bool:
        return sandbox.state.stats.total.calls["sendPhoto"] > 0

    await until(telewarm, is_sent)
    process.send_signal(signal.SIGINT)
    reported = await ended(process)

    assert reported.code == 130
    assert "1 still waiting" in reported.said
    assert (await media.get(telewarm.pool, MediaId(1))).state is MediaState.WARMING


async def test_a_bar_on_a_terminal_leaves_the_lines_to_the_pipe(shop: Commands) -> None:
    ours, theirs = pty.openpty()
    try:
        process = await shop.start("media", "add", "shop", "0.jpg", "1.jpg", stderr=theirs)
        reported = await ended(process)
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert len(reported.out.splitlines()) == 2
    assert "of 2" in shown
    assert "0.jpg" not in shown


async def test_on_a_terminal_the_lines_stand_above_the_bar(shop: Commands) -> None:
    ours, theirs = pty.openpty()
    try:
        process = await shop.start("media", "add", "shop", "0.jpg", "1.jpg", stdout=theirs, stderr=theirs)
        assert (await ended(process)).code == 0
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert re.search(r"(\n|\x1b\[2K)\d\s+photo\s+0\.jpg *\r\n", shown)


async def test_a_store_that_is_away_ends_it_with_one_error_and_the_rest_can_be_added_later(shop: Commands) -> None:
    folder = shop.opener.data / "media" / "media"
    folder.write_text("no folder")

    away = await shop("media", "add", "shop", *(f"{number}.jpg" for number in range(3)))

    assert away.code == 1
    assert away.said.count(StoreUnavailable.code) == 1
    folder.unlink()
    await shop.ok("media", "add", "shop", *(f"{number}.jpg" for number in range(3)))
    assert len(await ids(shop)) == 3
