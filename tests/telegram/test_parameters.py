"""What a call says."""

from pathlib import Path

import pytest

from telewarm.models import ChatId, FileId, Kind, MediaMetadata
from telewarm.telegram import parameters
from telewarm.telegram.files import FileIdRef, FileUpload, LocalPathRef, MediaFile, UrlRef
from telewarm.telegram.values import GroupItem, SendOptions

CHAT = ChatId(7)
FACTS = MediaMetadata(
    bytes=9, mime="video/mp4", ext="mp4", width=1280, height=720, duration=12.6, title="Song", performer="Band"
)
UPLOAD = FileUpload(path=Path("/x.mp4"), filename="x.mp4", mime="video/mp4", bytes=9)
PICTURED = FileUpload(path=Path("/x.mp4"), filename="x.mp4", mime="video/mp4", bytes=9, thumbnail=b"jpeg")
ID = FileIdRef(file_id=FileId("abc"))


@pytest.mark.parametrize(
    ("kind", "reported"),
    [
        (Kind.PHOTO, {}),
        (Kind.DOCUMENT, {"disable_content_type_detection": True}),
        (Kind.STICKER, {}),
        (Kind.VIDEO, {"width": 1280, "height": 720, "duration": 13, "supports_streaming": True}),
        (Kind.ANIMATION, {"width": 1280, "height": 720, "duration": 13}),
        (Kind.VIDEO_NOTE, {"length": 640, "duration": 13}),
        (Kind.AUDIO, {"duration": 13, "performer": "Band", "title": "Song"}),
        (Kind.VOICE, {"duration": 13}),
    ],
)
def test_an_upload_tells_what_its_kind_keeps(kind: Kind, reported: dict[str, object]) -> None:
    assert parameters.media_parameters(kind, CHAT, UPLOAD, facts=FACTS) == {"chat_id": 7} | reported


@pytest.mark.parametrize("file", [LocalPathRef(path=Path("/a.gif")), UrlRef(url="https://example.org/a.gif"), UPLOAD])
def test_a_document_stays_a_document_by_every_way_but_by_its_id(file: MediaFile) -> None:
    flag = "disable_content_type_detection"
    said, _ = parameters.group_parameters(CHAT, [GroupItem(kind=Kind.DOCUMENT, file=file)], SendOptions())
    assert f"'{flag}': True" in repr(said["media"])
    assert parameters.media_parameters(Kind.DOCUMENT, CHAT, file)[flag] is True
    assert flag not in parameters.media_parameters(Kind.DOCUMENT, CHAT, ID)
    assert flag not in parameters.media_parameters(Kind.VIDEO, CHAT, file)


@pytest.mark.parametrize(("streamable", "said"), [(True, True), (None, True), (False, None)])
def test_only_a_video_whose_index_comes_first_is_told_to_stream(streamable: bool | None, said: bool | None) -> None:  # noqa: FBT001
    facts = MediaMetadata(bytes=1, mime="video/mp4", ext="mp4", streamable=streamable)
    assert parameters.metadata_parameters(Kind.VIDEO, facts).get("supports_streaming") is said


def test_a_file_id_is_told_nothing_since_it_has_been_frozen_long_ago() -> None:
    assert parameters.media_parameters(Kind.VIDEO, CHAT, ID, facts=FACTS) == {"chat_id": 7, "video": "abc"}


def test_unknown_facts_are_left_out() -> None:
    bare = MediaMetadata(bytes=9, mime="audio/mpeg", ext="mp3")
    assert parameters.media_parameters(Kind.AUDIO, CHAT, UPLOAD, facts=bare) == {"chat_id": 7}
    assert parameters.metadata_parameters(Kind.VIDEO_NOTE, bare) == {}


def test_what_lasts_a_moment_lasts_a_second() -> None:
    assert [parameters.whole_seconds(duration) for duration in (0.04, 1.4, 59.6, None)] == [1, 1, 60, None]


def test_a_path_is_sent_as_a_file_url() -> None:
    there = LocalPathRef(path=Path("/data/a file.mp4"))
    assert parameters.media_parameters(Kind.VIDEO, CHAT, there)["video"] == "file:///data/a%20file.mp4"


def test_a_thumbnail_is_attached() -> None:
    assert parameters.media_parameters(Kind.VIDEO, CHAT, PICTURED)["thumbnail"] == "attach://video_thumbnail"


def test_options_that_are_off_are_not_sent() -> None:
    assert parameters.media_parameters(Kind.PHOTO, CHAT, ID, options=SendOptions()) == {"chat_id": 7, "photo": "abc"}


def test_every_option_reaches_the_message() -> None:
    entities = [{"type": "bold", "offset": 0, "length": 2}]
    options = SendOptions(
        parse_mode="HTML",
        entities=entities,
        reply_markup={"inline_keyboard": []},
        reply_parameters={"message_id": 3},
        message_thread_id=4,
        disable_notification=True,
        protect_content=True,
        show_caption_above_media=True,
        has_spoiler=True,
    )
    common = {
        "chat_id": 7,
        "parse_mode": "HTML",
        "reply_markup": {"inline_keyboard": []},
        "reply_parameters": {"message_id": 3},
        "message_thread_id": 4,
        "disable_notification": True,
        "protect_content": True,
    }
    media = {"caption_entities": entities, "show_caption_above_media": True, "has_spoiler": True, "caption": "hi"}
    assert parameters.text_parameters(CHAT, "hi", options) == common | {"text": "hi", "entities": entities}
    assert parameters.media_parameters(Kind.PHOTO, CHAT, ID, caption="hi", options=options) == common | media | {
        "photo": "abc"
    }


def test_an_empty_caption_takes_the_original_s_away_and_none_keeps_it() -> None:
    assert parameters.copy_parameters("", SendOptions()) == {"caption": ""}
    assert parameters.copy_parameters(None, SendOptions()) == {}


def test_a_group_attaches_each_upload_under_its_own_name() -> None:
    items = [
        GroupItem(kind=Kind.VIDEO, file=PICTURED, facts=FACTS, caption="one", parse_mode="HTML"),
        GroupItem(kind=Kind.PHOTO, file=ID, has_spoiler=True),
        GroupItem(kind=Kind.PHOTO, file=UrlRef(url="https://x/y.jpg")),
    ]
    options = SendOptions(protect_content=True, show_caption_above_media=True)
    said, uploads = parameters.group_parameters(CHAT, items, options)
    assert uploads == {"file0": PICTURED}
    assert said == {
        "chat_id": 7,
        "protect_content": True,
        "media": [
            {
                "type": "video",
                "media": "attach://file0",
                "thumbnail": "attach://file0_thumbnail",
                "width": 1280,
                "height": 720,
                "duration": 13,
                "supports_streaming": True,
                "caption": "one",
                "parse_mode": "HTML",
                "show_caption_above_media": True,
            },
            {"type": "photo", "media": "abc", "has_spoiler": True, "show_caption_above_media": True},
            {"type": "photo", "media": "https://x/y.jpg", "show_caption_above_media": True},
        ],
    }
