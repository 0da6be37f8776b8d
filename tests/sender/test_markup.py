"""What is refused before Telegram sees it, and that nothing right is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from telewarm.errors import UsageError
from telewarm.models import MediaId, MessageSet, Part
from telewarm.sandbox.entities import parse
from telewarm.sandbox.errors import ApiError
from telewarm.sending.escape import escape_html, escape_markdown
from telewarm.sending.markup import check_text, visible_text
from telewarm.sending.messages import check

PHOTO = MediaId(1)


def captioned(caption: str, parse_mode: str | None = None) -> MessageSet:
    return MessageSet(media=[Part(media_id=PHOTO, caption=caption)], parse_mode=parse_mode)


@pytest.mark.parametrize(
    ("text", "parse_mode", "length"),
    [
        ("x" * 1024, None, 1024),
        ("😀" * 1024, None, 1024),
        ("  so \n", None, 2),
        ("<b>" + "x" * 1024 + "</b>", "HTML", 1024),
        ('<a href="https://example.org/a>b">so</a>', "HTML", 2),
        ("&lt;&amp;&#128512;" * 300, "html", 900),
        ("*" + r"\." * 1024 + "*", "MarkdownV2", 1024),
        ("[so](https://example.org/" + "x" * 2000 + ")", "MarkdownV2", 2),
    ],
)
def test_what_people_see_is_counted_and_no_marks(text: str, parse_mode: str | None, length: int) -> None:
    assert visible_text(text, parse_mode) == length
    check(captioned(text, parse_mode)) if length <= 1024 else None


@pytest.mark.parametrize("parse_mode", [None, "HTML", "MarkdownV2"])
@pytest.mark.parametrize(
    ("message", "limit"),
    [
        (lambda mode: captioned("x" * 1025, mode), 1024),
        (lambda mode: MessageSet(text="x" * 4097, parse_mode=mode), 4096),
    ],
)
def test_too_long_a_text_is_refused_with_its_own_limit(
    message: Callable[[str | None], MessageSet], limit: int, parse_mode: str | None
) -> None:
    with pytest.raises(UsageError, match=f"at most {limit} characters, and this has {limit + 1}"):
        check(message(parse_mode))


BROKEN = [
    ("Sale <b>ends<b> today", "HTML"),
    ("5 < 6", "HTML"),
    ("so</b>", "HTML"),
    ("<b>so</i>", "HTML"),
    ("a <b", "HTML"),
    ("Now 1.5", "MarkdownV2"),
    ("a-b", "MarkdownV2"),
    ("*x* {so}", "MarkdownV2"),
]


@pytest.mark.parametrize(("text", "parse_mode"), BROKEN)
def test_broken_markup_is_refused_with_its_cure_as_telegram_would(text: str, parse_mode: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be formatted: .+; "):
        check(MessageSet(text=text, parse_mode=parse_mode))
    with pytest.raises(ApiError):
        parse(text, parse_mode)


@pytest.mark.parametrize(
    ("text", "parse_mode"),
    [
        ('<tg-emoji emoji-id="5368324170671202286">👍</tg-emoji>', "HTML"),
        ("<blockquote expandable>so\nso</blockquote>", "HTML"),
        ('<tag-of-tomorrow at="1">so', "HTML"),
        ("<a href='https://example.org/?a=\">'>so</a></>", "None"),
        ("`a.b-c` ```x\n1.5```", "MarkdownV2"),
        ("![👍](tg://emoji?id=5368324170671202286)", "MarkdownV2"),
        (">so\n**>and so||", "MarkdownV2"),
        (r"[a\.b](https://example.org/a.b-c?d=e\)f)", "MarkdownV2"),
        (r"1\.5 \- \{\}", "MarkdownV2"),
    ],
)
def test_what_may_be_right_is_left_to_telegram(text: str, parse_mode: str) -> None:
    check_text("it", text, parse_mode, max_characters=4096)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=60))
def test_an_escaped_text_is_never_refused(text: str) -> None:
    check_text("it", f"<b>{escape_html(text)}</b>", "HTML", max_characters=4096)
    check_text("it", f"*{escape_markdown(text)}*", "MarkdownV2", max_characters=4096)


@example("\\ ", "MarkdownV2")
@given(st.text(alphabet="ab<>/&;bi*_`.\\[]()!~|\" '", max_size=40), st.sampled_from(["HTML", "MarkdownV2"]))
def test_nothing_is_refused_that_the_sandbox_takes(text: str, parse_mode: str) -> None:
    try:
        parsed = parse(text, parse_mode)
    except ApiError:
        return
    check_text("it", text, parse_mode, max_characters=len(parsed.text))


@pytest.mark.parametrize(
    ("markup", "words"),
    [
        ({"inline_keyboard": [{"text": "so"}]}, "a list of rows"),
        ({"inline_keyboard": [[{"url": "https://example.org"}]]}, "button 1 of inline_keyboard has no `text`"),
        ({"inline_keyboard": [[{"text": "a", "callback_data": "x" * 65}]]}, "64 bytes"),
        ({"buttons": []}, "one of inline_keyboard"),
        ({}, "one of inline_keyboard"),
    ],
)
def test_buttons_that_no_keyboard_has_are_refused(markup: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check(MessageSet(text="so", reply_markup=markup))


@pytest.mark.parametrize(
    "markup",
    [
        {"keyboard": [["Yes", {"text": "No"}]], "resize_keyboard": True},
        {"remove_keyboard": True},
        {"force_reply": True, "input_field_placeholder": "so"},
        {"inline_keyboard": []},
        {"inline_keyboard": [[{"text": "a", "style": "danger", "new_in_11": {}}]]},
    ],
)
def test_keyboards_pass(markup: dict[str, object]) -> None:
    check(MessageSet(text="so", reply_markup=markup))
