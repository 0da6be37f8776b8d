"""Small decisions without input and output: names of media items, what a preview is shown as, idle time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from telewarm.idle_tracking import mark_idle, use_idle_tracker
from telewarm.media.content_policy import preview_type
from telewarm.media.names import name_of, old_name_note, shows_old_name
from telewarm.models import BotId, FileId, Kind, MediaId, MediaItem, MediaMetadata, MediaState, Sha256


def item(kind: Kind, *, sent_name: str | None, state: MediaState = MediaState.READY) -> MediaItem:
    return MediaItem(
        id=MediaId(1), bot_id=BotId(1), sha256=Sha256("0" * 64), kind=kind, name="new.mp4", state=state, way=None,
        facts=MediaMetadata(bytes=1, mime="video/mp4", ext="mp4"), storage_key="key", file_id=FileId("id"),
        file_unique_id="unique", sent_kind=kind, warmed_at=None, attempts=0, last_error_code=None, last_error=None,
        queued_at=None, created_at=datetime(2031, 5, 1, tzinfo=UTC), sent_name=sent_name,
    )  # fmt: skip


def test_recipients_see_an_old_name_of_kinds_that_show_one() -> None:
    assert shows_old_name(item(Kind.VIDEO, sent_name="old.mp4"))
    assert not shows_old_name(item(Kind.VIDEO, sent_name="new.mp4"))
    assert not shows_old_name(item(Kind.VOICE, sent_name="old.mp4"))


@pytest.mark.parametrize(
    ("sent_name", "state", "words"),
    [
        ("old.mp4", MediaState.READY, 'still see "old.mp4"; they see the new name once it is rewarmed'),
        (
            None,
            MediaState.WARMING,
            "made of the file; they see the new name once it is rewarmed, which is queued",
        ),
    ],
)
def test_the_note_on_an_old_name_says_until_when(sent_name: str | None, state: MediaState, words: str) -> None:
    assert old_name_note(item(Kind.VIDEO, sent_name=sent_name, state=state)).endswith(words)


@pytest.mark.parametrize(("text", "name"), [(None, None), ("\n", None), (" a\nb ", "ab"), ("x" * 300, "x" * 255)])
def test_a_name_is_one_line_of_bounded_length(text: str | None, name: str | None) -> None:
    assert name_of(text) == name


@pytest.mark.parametrize(
    ("mime", "shown"),
    [
        ("image/png", ("image/png", True)),
        ("application/pdf", ("application/pdf", False)),
        ("text/html", ("application/octet-stream", False)),
    ],
)
def test_browsers_show_only_what_runs_nothing(mime: str, shown: tuple[str, bool]) -> None:
    assert preview_type(mime) == shown


def test_idle_time_is_reported_to_the_tracker_of_the_block() -> None:
    reported: list[str] = []

    class Tracker:
        def __enter__(self) -> None:
            reported.append("idle")

        def __exit__(self, *_: object) -> None:
            reported.append("busy")

    with mark_idle():
        assert not reported
    with use_idle_tracker(Tracker()), mark_idle():
        assert reported == ["idle"]
    assert reported == ["idle", "busy"]
    with mark_idle():
        assert reported == ["idle", "busy"]
