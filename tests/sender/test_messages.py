"""From a message set to its calls: order, albums, ends, and what cannot be."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.errors import UsageError
from telewarm.models import Kind, MediaId, MessageSet, Part
from telewarm.sending.messages import AlbumStep, SingleStep, Step, TextStep, can_be_one_album, check, one_by_one, plan
from telewarm.telegram.values import DEFAULT_OPTIONS

BUTTONS = {"inline_keyboard": [[{"text": "go", "url": "https://example.org"}]]}
REPLY = {"message_id": 7}
ENTITIES = [{"type": "bold", "offset": 0, "length": 1}]

json_objects = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.booleans(), max_size=3)
formats = st.fixed_dictionaries(
    {}, optional={"parse_mode": st.sampled_from(["HTML", "MarkdownV2"]), "entities": st.just(ENTITIES)}
)
parts = st.builds(
    Part,
    media_id=st.integers(1, 20).map(MediaId),
    caption=st.none() | st.text(max_size=5),
    parse_mode=st.none() | st.sampled_from(["HTML", "markdownv2"]),
    has_spoiler=st.booleans(),
)
sets = st.builds(
    MessageSet,
    media=st.lists(parts, max_size=10).map(tuple),
    text=st.none() | st.text(min_size=1, max_size=5),
    parse_mode=st.none() | st.just("HTML"),
    album=st.booleans(),
    reply_markup=st.none() | json_objects,
    reply_parameters=st.none() | json_objects,
    message_thread_id=st.none() | st.integers(1, 99),
    disable_notification=st.booleans(),
    protect_content=st.booleans(),
    show_caption_above_media=st.booleans(),
)
captioned = [kind for kind in Kind if kind not in {Kind.STICKER, Kind.VIDEO_NOTE}]
kinds_of = st.fixed_dictionaries({MediaId(number): st.sampled_from(captioned) for number in range(1, 21)})


def of(*kinds: Kind, **more: object) -> tuple[MessageSet, dict[MediaId, Kind]]:
    """Items 1, 2, 3... of these kinds, with the captions c1, c2, c3..."""
    known = {MediaId(number): kind for number, kind in enumerate(kinds, 1)}
    media = [Part(media_id=media_id, caption=f"c{media_id}") for media_id in known]
    return MessageSet(media=media, **more), known  # type: ignore[arg-type]


def shape(steps: tuple[Step, ...]) -> list[object]:
    """A number for an item, a list for an album, its text for a text."""
    shapes: list[object] = []
    for step in steps:
        match step:
            case SingleStep():
                shapes.append(int(step.media_id))
            case AlbumStep():
                shapes.append([int(part.media_id) for part in step.items])
            case TextStep():
                shapes.append(step.text)
    return shapes


@given(sets, kinds_of)
def test_every_item_and_the_text_go_exactly_once_and_in_order(
    message: MessageSet, kinds: Mapping[MediaId, Kind]
) -> None:
    try:
        steps = plan(message, kinds)
    except UsageError:
        return
    went = [
        part.media_id
        for step in steps
        for part in (step.items if isinstance(step, AlbumStep) else [step] if isinstance(step, SingleStep) else [])
    ]
    order = {Kind.AUDIO: 0, Kind.VIDEO: 1, Kind.PHOTO: 2}
    ranks = [order.get(kinds[media_id], 3) for media_id in went]
    assert sorted(went) == sorted(part.media_id for part in message.media)
    assert ranks == sorted(ranks)
    assert [step.text for step in steps if isinstance(step, TextStep)] == ([message.text] if message.text else [])
    assert not message.text or isinstance(steps[-1], TextStep)


@given(sets, kinds_of)
def test_an_album_has_two_to_ten_that_mix_and_no_buttons(message: MessageSet, kinds: Mapping[MediaId, Kind]) -> None:
    try:
        steps = plan(message, kinds)
    except UsageError:
        return
    for album in (step for step in steps if isinstance(step, AlbumStep)):
        assert message.album
        assert 2 <= len(album.items) <= 10
        assert can_be_one_album([kinds[part.media_id] for part in album.items])
        assert album.options.reply_markup is None


@given(sets, kinds_of)
def test_the_reply_goes_with_the_first_and_the_buttons_with_the_last(
    message: MessageSet, kinds: Mapping[MediaId, Kind]
) -> None:
    try:
        steps = plan(message, kinds)
    except UsageError:
        return
    between = [None] * (len(steps) - 1)
    assert [step.options.reply_parameters for step in steps] == [message.reply_parameters, *between]
    assert [step.options.reply_markup for step in steps] == [*between, message.reply_markup]
    for step in steps:
        options = step.options
        assert (options.protect_content, options.disable_notification, options.message_thread_id) == (
            message.protect_content,
            message.disable_notification,
            message.message_thread_id,
        )


@pytest.mark.parametrize(
    ("kinds", "shown"),
    [
        ([Kind.PHOTO, Kind.VIDEO, Kind.PHOTO], [[2, 1, 3]]),
        ([Kind.DOCUMENT, Kind.PHOTO, Kind.DOCUMENT, Kind.PHOTO], [[2, 4], [1, 3]]),
        ([Kind.AUDIO, Kind.PHOTO, Kind.AUDIO], [[1, 3], 2]),
        ([Kind.DOCUMENT, Kind.VOICE, Kind.DOCUMENT], [[1, 3], 2]),
        ([Kind.VOICE, Kind.VOICE, Kind.ANIMATION, Kind.ANIMATION], [1, 2, 3, 4]),
        ([Kind.PHOTO], [1]),
        ([Kind.PHOTO] * 10, [list(range(1, 11))]),
    ],
)
def test_an_album_takes_what_telegram_mixes(kinds: list[Kind], shown: list[object]) -> None:
    message, known = of(*kinds, album=True)
    assert shape(plan(message, known)) == shown


def test_without_album_every_item_is_a_message_of_its_own() -> None:
    kinds = [Kind.DOCUMENT, Kind.PHOTO, Kind.VIDEO, Kind.AUDIO, Kind.VOICE, Kind.PHOTO]
    message, known = of(*kinds, text="bye")
    assert shape(plan(message, known)) == [4, 3, 2, 6, 1, 5, "bye"]


def test_every_item_of_an_album_keeps_its_own_caption() -> None:
    message, known = of(Kind.PHOTO, Kind.PHOTO, album=True)
    [album] = plan(message, known)
    assert isinstance(album, AlbumStep)
    assert [part.caption for part in album.items] == ["c1", "c2"]


def test_a_plain_message_costs_no_options() -> None:
    message, known = of(Kind.PHOTO, text="and")
    assert all(step.options is DEFAULT_OPTIONS for step in plan(message, known))


def test_format_and_spoiler_stay_with_their_part() -> None:
    media = [
        Part(media_id=MediaId(1), caption="<b>x</b>", parse_mode="HTML", has_spoiler=True),
        Part(media_id=MediaId(2), caption="x", entities=ENTITIES),
    ]
    message = MessageSet(media=media, text="*x*", parse_mode="MarkdownV2")
    first, second, text = plan(message, {MediaId(1): Kind.PHOTO, MediaId(2): Kind.PHOTO})
    assert [(step.options.parse_mode, step.options.entities) for step in (first, second, text)] == [
        ("HTML", None),
        (None, ENTITIES),
        ("MarkdownV2", None),
    ]
    assert [step.options.has_spoiler for step in (first, second, text)] == [True, False, False]


def test_the_items_of_a_broken_up_album_keep_all_but_the_second_reply() -> None:
    message, known = of(
        Kind.PHOTO, Kind.PHOTO, album=True, protect_content=True, show_caption_above_media=True, reply_parameters=REPLY
    )
    [album] = plan(message, known)
    assert isinstance(album, AlbumStep)
    first, second = one_by_one(album)
    assert (first.caption, second.caption) == ("c1", "c2")
    assert (first.options.reply_parameters, second.options.reply_parameters) == (REPLY, None)
    assert second.options.protect_content
    assert second.options.show_caption_above_media


def test_an_album_at_the_end_has_no_place_for_buttons_and_says_so() -> None:
    message, known = of(Kind.PHOTO, Kind.PHOTO, album=True, reply_markup=BUTTONS)
    with pytest.raises(UsageError, match="add a text"):
        plan(message, known)
    message, known = of(Kind.PHOTO, Kind.PHOTO, album=True, reply_markup=BUTTONS, text="here")
    assert plan(message, known)[-1].options.reply_markup == BUTTONS


@pytest.mark.parametrize("kind", [Kind.STICKER, Kind.VIDEO_NOTE])
def test_a_caption_on_what_has_none_is_refused(kind: Kind) -> None:
    message, known = of(kind)
    with pytest.raises(UsageError, match=f"a {kind.replace('_', ' ')}, which has no caption: send a text instead"):
        plan(message, known)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (MessageSet(), "nothing to send"),
        (MessageSet(text=""), "nothing to send"),
        (MessageSet(media=[Part(media_id=MediaId(1))] * 11), "at most 10 media go in one set; this one has 11"),
        (MessageSet(text="x", parse_mode="BBCode"), "the text has the parse_mode 'BBCode'; Telegram knows HTML"),
        (MessageSet(text="x", parse_mode=""), "the text has the parse_mode ''"),
        (MessageSet(text="x", parse_mode="HTML", entities=ENTITIES), "the text has a parse_mode and entities"),
        (
            MessageSet(media=[Part(media_id=MediaId(4), caption="x", parse_mode="HTML", entities=ENTITIES)]),
            "the caption of media item 4 has a parse_mode and entities",
        ),
    ],
)
def test_what_no_bot_can_send_is_refused_with_the_cure(message: MessageSet, words: str) -> None:
    for attempt in (check, lambda message: plan(message, {MediaId(1): Kind.PHOTO, MediaId(4): Kind.PHOTO})):
        with pytest.raises(UsageError, match=words):
            attempt(message)


@pytest.mark.parametrize("mode", ["HTML", "html", "MarkdownV2", "markdownv2", "Markdown"])
def test_telegrams_parse_modes_pass_in_any_case(mode: str) -> None:
    check(MessageSet(text="x", parse_mode=mode))
