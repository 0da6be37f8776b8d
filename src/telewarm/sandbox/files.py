"""Files that Telegram stores: one record for all bots (facts 5)."""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from telewarm.sandbox import fileids
from telewarm.sandbox.errors import bad

STEPS = (("s", 90), ("m", 320), ("x", 800), ("y", 1280), ("w", 2560))  # photo sizes: letter, longest side
DIRECTORIES = {
    "photo": ("photos", "jpg"),
    "video": ("videos", "mp4"),
    "document": ("documents", "bin"),
    "audio": ("music", "mp3"),
    "voice": ("voice", "oga"),
    "animation": ("animations", "mp4"),
    "video_note": ("video_notes", "mp4"),
    "sticker": ("stickers", "webp"),
    "thumbnail": ("thumbnails", "jpg"),
}


@dataclass(frozen=True, slots=True)
class Size:
    """One rendition of a photo, or a thumbnail."""

    letter: str
    width: int
    height: int
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A file. `kind`: as Telegram returned it. Sides in pixels, duration in seconds."""

    id: int
    kind: str
    size: int
    sha256: bytes
    name: str = ""
    mime: str = ""
    width: int = 0
    height: int = 0
    duration: int = 0
    title: str = ""
    performer: str = ""
    sizes: tuple[Size, ...] = ()  # of a photo, smallest first
    thumbnail: Size | None = None
    is_animated: bool = False
    path: Path | None = None  # on a local server: where it was read from

    @property
    def unique_id(self) -> str:
        """The unique id; of a photo, that of its largest size."""
        return fileids.unique(self.kind, self.id, self.sizes[-1].letter if self.sizes else "")


def photo_sizes(width: int, height: int, size: int) -> tuple[Size, ...]:
    """Return the renditions: each step below the original's longest side, and the step that holds the original."""
    longest = max(width, height, 1)
    sizes: list[Size] = []
    for letter, side in STEPS:
        scale = min(1.0, side / longest)
        w, h = max(1, round(width * scale)), max(1, round(height * scale))
        sizes.append(Size(letter, w, h, rendition_bytes(w, h, size)))
        if longest <= side:
            break
    return tuple(sizes)


def rendition_bytes(width: int, height: int, size: int) -> int:
    """Return a plausible size of a JPEG: about 1.2 bits a pixel and a header, at most the upload's."""
    return max(1, min(size, 600 + width * height * 3 // 20))


def thumbnail_box(width: int, height: int) -> Size | None:
    """Return the thumbnail that Telegram makes for these sides."""
    if not width or not height:
        return None
    scale = min(1.0, 320 / max(width, height))
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    return Size("m", w, h, rendition_bytes(w, h, 1 << 20))


@dataclass(slots=True)
class Files:
    """All files by id, and the invalidated file ids."""

    secret: bytes
    seed: int
    keep: int
    killed: set[str] = field(default_factory=set)  # single file ids
    killed_files: set[int] = field(default_factory=set)  # files of which every id is dead
    _by_id: dict[int, File] = field(default_factory=dict)
    _photos: dict[tuple[int, bytes], File] = field(default_factory=dict)
    _kept: OrderedDict[int, bytes] = field(default_factory=OrderedDict)
    _kept_bytes: int = 0
    _count: int = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def new_id(self) -> int:
        """Return a new id of 63 bits, never 0; equal for equal seeds and runs."""
        self._count += 1
        digest = hashlib.blake2b(struct.pack("<qq", self.seed, self._count), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1 | 1

    def add(self, file: File, kept: bytes | None) -> File:
        """Add a file."""
        self._by_id[file.id] = file
        if kept is not None and len(kept) <= self.keep:
            self._kept[file.id] = kept
            self._kept_bytes += len(kept)
            while self._kept_bytes > self.keep:
                _, dropped = self._kept.popitem(last=False)
                self._kept_bytes -= len(dropped)
        return file

    def photo_of(self, bot: int, sha256: bytes) -> File | None:
        """Return the photo that this bot made of the same bytes: it is reused."""
        return self._photos.get((bot, sha256))

    def remember_photo(self, bot: int, file: File) -> None:
        """Remember a photo for reuse."""
        self._photos[bot, file.sha256] = file

    def content(self, file: File) -> bytes | None:
        """Return the bytes, if they are still kept."""
        return self._kept.get(file.id)

    def by_id(self, file_id: int) -> File | None:
        """Return a file by id."""
        return self._by_id.get(file_id)

    def uploads_of(self, sha256: bytes) -> int:
        """Return how many files were made of these bytes: one for each upload, unless a photo was reused."""
        return sum(1 for file in self._by_id.values() if file.sha256 == sha256)

    def owner_hash(self, bot: int, file: File) -> int:
        """Return the access hash of a file for a bot."""
        return fileids.access_hash(self.secret, bot, file.id)

    def resolve(self, bot: int, text: str, decoded: fileids.Decoded) -> File:
        """Return the file of a bot's own, valid file id. Raises ApiError for an invalid or foreign one."""
        file = self._by_id.get(decoded.id)
        if file is None or self.owner_hash(bot, file) != decoded.access_hash:
            raise bad("wrong file identifier/HTTP URL specified")
        if text in self.killed or file.id in self.killed_files:
            raise bad("wrong file identifier/HTTP URL specified")
        return file

    def clear(self) -> None:
        """Forget all files."""
        self.killed.clear()
        self.killed_files.clear()
        self._by_id.clear()
        self._photos.clear()
        self._kept.clear()
        self._kept_bytes = 0
