"""File ids in Telegram's own format (facts 5.1 and 5.2).

A file id is base64url of `zero_encode(bytes) + version + 4`. Nothing is stored to check one: the access hash in it is
a keyed hash of the bot and the file, so a foreign bot's id decodes but does not fit.
"""

from __future__ import annotations

import base64
import hashlib
import re
import string
import struct
from dataclasses import dataclass

from telewarm.sandbox.errors import ApiError, bad

VERSION = 59  # of TDLib, the last but one byte
PERSISTENT = 4  # the last byte
REFERENCE = 0x02000000  # flag: a file reference is present
DC = 2

TYPES = {
    "thumbnail": 0,
    "photo": 2,
    "voice": 3,
    "video": 4,
    "document": 5,
    "sticker": 8,
    "audio": 9,
    "animation": 10,
    "video_note": 13,
}
KINDS = {number: kind for kind, number in TYPES.items()}
PHOTO_CLASS = frozenset({"photo", "thumbnail"})

_ALPHABET = frozenset(string.ascii_letters + string.digits + "-_")
_ZEROS = re.compile(rb"\x00{1,250}")
_RUNS = re.compile(rb"\x00(.)", re.DOTALL)
_HEAD = struct.Struct("<ii")
_IDS = struct.Struct("<qq")
_TAIL = struct.Struct("<iii")


@dataclass(frozen=True, slots=True)
class Decoded:
    """Content of a file id."""

    kind: str
    id: int
    access_hash: int
    letter: str  # of the photo size or thumbnail, else empty


def zero_encode(data: bytes) -> bytes:
    """Encode runs of zeros."""
    return _ZEROS.sub(lambda run: bytes((0, len(run[0]))), data)


def zero_decode(data: bytes) -> bytes:
    """Decode runs of zeros."""
    return _RUNS.sub(lambda run: bytes(run[1][0]), data)


def encode(kind: str, file_id: int, access_hash: int, *, reference: bytes, letter: str = "") -> str:
    """Return the file id of a file in one message."""
    number = TYPES[kind]
    name = bytes((len(reference),)) + reference
    name += bytes(-len(name) % 4)
    data = _HEAD.pack(number | REFERENCE, DC) + name + _IDS.pack(file_id, access_hash)
    if letter:
        data += _TAIL.pack(1, number, ord(letter))
    return _base64(zero_encode(data) + bytes((VERSION, PERSISTENT)))


def unique(kind: str, file_id: int, letter: str = "") -> str:
    """Return the file_unique_id, equal for all bots and messages."""
    if kind in PHOTO_CLASS:
        return _base64(zero_encode(struct.pack("<iqB", 1, file_id, ord(letter) + 5)))
    return _base64(zero_encode(struct.pack("<iq", 2, file_id)))


def decode(text: str) -> Decoded:
    """Decode a file id. Raises ApiError in Telegram's words."""
    data = _from_base64(text)
    if not data or data[-1] != PERSISTENT:
        raise _wrong("can't unserialize it. Wrong last symbol")
    if len(data) > 1 and data[-2] > VERSION:
        raise bad("invalid remote file identifier")
    try:
        return _unpack(zero_decode(data[:-2]))
    except (struct.error, KeyError, IndexError, ValueError):
        raise _wrong("can't unserialize it") from None


def access_hash(secret: bytes, bot: int, file_id: int) -> int:
    """Return the access hash of a file for a bot."""
    digest = hashlib.blake2b(_IDS.pack(bot, file_id), key=secret, digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def reference(chat: int, message: int, date: int, salt: bytes) -> bytes:
    """Return the file reference of a message. `salt`: 16 bytes that differ each time."""
    where = struct.pack(">II", message, date) + salt
    if chat > 0:
        return b"\x03" + where
    if chat > -1_000_000_000_000:
        return b"\x04" + struct.pack(">I", -chat & 0xFFFFFFFF) + where
    return b"\x06" + struct.pack(">Q", -chat - 1_000_000_000_000) + where


def _unpack(data: bytes) -> Decoded:
    number, _ = _HEAD.unpack_from(data)
    kind = KINDS[number & 0xFFFFFF]
    at = _HEAD.size
    if number & REFERENCE:
        at += data[at] + 1
        at += -at % 4
    file_id, owner = _IDS.unpack_from(data, at)
    at += _IDS.size
    letter = ""
    if kind in PHOTO_CLASS:
        letter = chr(_TAIL.unpack_from(data, at)[2])
        at += _TAIL.size
    if at != len(data):
        raise ValueError(at)
    return Decoded(kind, file_id, owner, letter)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_base64(text: str) -> bytes:
    body = text.rstrip("=")
    padding = len(text) - len(body)
    if padding >= 3 or (padding and len(text) % 4):
        raise _wrong("Wrong string padding")
    if len(body) % 4 == 1:
        raise _wrong("Wrong string length")
    if not _ALPHABET.issuperset(body):
        raise _wrong("Wrong character in the string")
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))


def _wrong(detail: str) -> ApiError:
    return bad(f"wrong remote file identifier specified: {detail}")
