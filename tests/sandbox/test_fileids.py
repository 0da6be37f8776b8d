"""File ids in the real format: what can be decoded from public samples holds here too."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.sandbox import fileids
from telewarm.sandbox.errors import ApiError

longs = st.integers(min_value=-(2**63), max_value=2**63 - 1)
salts = st.binary(min_size=16, max_size=16)
chats = st.sampled_from([777, 7_000_000_000, -1001234567890, -1009999999999])
documents = st.sampled_from(sorted(set(fileids.TYPES) - fileids.PHOTO_CLASS))
letters = st.sampled_from("smxyw")

PREFIXES = {
    "photo": "AgACAgIAA",
    "voice": "AwACAgIAA",
    "video": "BAACAgIAA",
    "document": "BQACAgIAA",
    "sticker": "CAACAgIAA",
    "audio": "CQACAgIAA",
    "animation": "CgACAgIAA",
    "video_note": "DQACAgIAA",
    "thumbnail": "AAMCAgADG",
}


def make(kind: str, *, chat: int = -1001234567890, file: int = 1 << 60, owner: int = 1 << 61, letter: str = "") -> str:
    reference = fileids.reference(chat, 1_000_000, 1_790_000_000, bytes(range(1, 17)))
    return fileids.encode(kind, file, owner, reference=reference, letter=letter)


@given(st.binary(max_size=700))
def test_zero_encoding_loses_nothing(data: bytes) -> None:
    assert fileids.zero_decode(fileids.zero_encode(data)) == data


@given(documents, longs, longs, chats, salts)
def test_a_file_id_says_what_it_was_made_of(kind: str, file: int, owner: int, chat: int, salt: bytes) -> None:
    reference = fileids.reference(chat, 5, 1_790_000_000, salt)
    text = fileids.encode(kind, file, owner, reference=reference)
    assert fileids.decode(text) == fileids.Decoded(kind, file, owner, "")


@given(letters, longs, longs, salts, st.sampled_from(["photo", "thumbnail"]))
def test_a_photo_id_also_says_its_size(letter: str, file: int, owner: int, salt: bytes, kind: str) -> None:
    reference = fileids.reference(777, 5, 1_790_000_000, salt)
    text = fileids.encode(kind, file, owner, reference=reference, letter=letter)
    assert fileids.decode(text) == fileids.Decoded(kind, file, owner, letter)


@pytest.mark.parametrize(("kind", "prefix"), PREFIXES.items())
def test_each_kind_has_telegrams_prefix(kind: str, prefix: str) -> None:
    letter = "m" if kind in fileids.PHOTO_CLASS else ""
    assert make(kind, letter=letter).startswith(prefix[:8])


def test_the_reference_tells_a_private_chat_from_a_channel() -> None:
    assert make("photo", chat=777, letter="x")[8:12] == "AxkD"
    assert make("photo", letter="x")[8:12] == "AyEG"


@given(longs, longs, salts)
def test_lengths_stay_within_those_of_real_ids(file: int, owner: int, salt: bytes) -> None:
    private = fileids.reference(7_000_000_000, 1_000_000, 1_790_000_000, salt)
    channel = fileids.reference(-1001234567890, 1_000_000, 1_790_000_000, salt)
    zeros = sum(number.to_bytes(8, "little", signed=True).count(0) for number in (file, owner)) + salt.count(0)
    slack = 2 + 2 * zeros  # the published extremes are of random ids, which have few zero bytes
    assert 80 - slack <= len(fileids.encode("photo", file, owner, reference=private, letter="y")) <= 86 + slack
    assert 88 - slack <= len(fileids.encode("photo", file, owner, reference=channel, letter="y")) <= 95 + slack
    assert 68 - slack <= len(fileids.encode("video", file, owner, reference=private)) <= 76 + slack
    assert 76 - slack <= len(fileids.encode("video", file, owner, reference=channel)) <= 83 + slack


def test_unique_ids_have_telegrams_length_and_prefix() -> None:
    number = 0x0123456789ABCDEF
    assert len(fileids.unique("photo", number, "y")) == 16
    assert fileids.unique("photo", number, "y").startswith("AQAD")
    assert len(fileids.unique("video", number)) == 15
    assert fileids.unique("video", number).startswith("AgAD")


def test_the_sizes_of_one_photo_differ_only_at_the_end() -> None:
    first, second = fileids.unique("photo", 1 << 60, "s"), fileids.unique("photo", 1 << 60, "y")
    assert first[:-1] == second[:-1]
    assert first != second


@given(st.integers(min_value=1), st.integers(min_value=1))
def test_an_access_hash_belongs_to_one_bot(bot: int, other: int) -> None:
    bot, other = bot % 2**54, other % 2**54
    same = fileids.access_hash(b"k", bot, 5) == fileids.access_hash(b"k", other, 5)
    assert same == (bot == other)


def cut(text: str) -> str:
    """The same id with its inside cut short: its last two bytes still say that it is one."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return base64.urlsafe_b64encode(data[:20] + data[-2:]).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("abc*", "wrong remote file identifier specified: Wrong character in the string"),
        ("abcde", "wrong remote file identifier specified: Wrong string length"),
        ("abcd=", "wrong remote file identifier specified: Wrong string padding"),
        ("AgADAQADpqkxG1r0iEY", "wrong remote file identifier specified: can't unserialize it. Wrong last symbol"),
        (cut(make("video")), "wrong remote file identifier specified: can't unserialize it"),
    ],
)
def test_a_string_that_is_no_file_id_is_refused_in_telegrams_words(text: str, detail: str) -> None:
    with pytest.raises(ApiError) as caught:
        fileids.decode(text)
    assert caught.value.description == f"Bad Request: {detail}"


def test_an_id_of_a_newer_server_is_refused() -> None:
    data = bytearray(base64.urlsafe_b64decode(make("video") + "=" * (-len(make("video")) % 4)))
    data[-2] = fileids.VERSION + 1
    newer = base64.urlsafe_b64encode(bytes(data)).rstrip(b"=").decode()
    with pytest.raises(ApiError, match="invalid remote file identifier"):
        fileids.decode(newer)


@given(st.text(max_size=120))
def test_any_text_is_either_decoded_or_refused(text: str) -> None:
    try:
        decoded = fileids.decode(text)
    except ApiError:
        return
    assert decoded.kind in fileids.TYPES
