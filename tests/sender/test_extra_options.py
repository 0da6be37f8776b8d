"""Link previews in their short forms, and what `extra` may not hold."""

from __future__ import annotations

import pytest

from telewarm.errors import UsageError
from telewarm.sending.extra_options import Preview, check_extra, preview_options


@pytest.mark.parametrize(
    ("said", "options"),
    [
        (None, None),
        (True, None),
        (False, {"is_disabled": True}),
        ("Off", {"is_disabled": True}),
        ("above, large", {"show_above_text": True, "prefer_large_media": True}),
        (
            {"above": True, "url": "https://example.org", "small": None},
            {"show_above_text": True, "url": "https://example.org"},
        ),
        ({"off": True}, {"is_disabled": True}),
    ],
)
def test_a_preview_is_said_in_words_or_as_telegram_says_it(said: Preview | None, options: object) -> None:
    assert preview_options(said) == options


@pytest.mark.parametrize(("said", "words"), [("huge", "is 'huge'"), ("large,small", "not both")])
def test_a_preview_of_other_words_or_of_two_sizes_is_refused(said: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        preview_options(said)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("photo", "id", "give a media item"),
        ("chat_id", 7, "is said by the recipient"),
        ("cover", "attach://x", "nothing is uploaded"),
    ],
)
def test_extra_holds_no_file_no_upload_and_nothing_that_has_a_field(name: str, value: object, words: str) -> None:
    check_extra("extra", {"cover": "file-id", "business_connection_id": "7", "start_timestamp": 3})
    with pytest.raises(UsageError, match=words):
        check_extra("extra", {name: value})
