"""The file of a send: its form, Telegram's checks, and the resulting file (facts 1, 4.2, 4.4, 6)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from telewarm.sandbox import fileids, kinds
from telewarm.sandbox.call import Call
from telewarm.sandbox.errors import bad, too_big
from telewarm.sandbox.fetch import FILE_LIMIT, PHOTO_LIMIT, check_url
from telewarm.sandbox.files import File, Size, photo_sizes, thumbnail_box
from telewarm.sandbox.kinds import FileOrigin
from telewarm.sandbox.sniff import Facts
from telewarm.sandbox.uploads import FileSink, Upload

LIMITS = {"photo": (10 << 20, "photo"), "video_note": (12 << 20, "video note")}
THUMBNAIL_LIMIT = 200 * 1024 - 1
THUMBNAIL_SIDE = 320
ANY_LIMIT = 4000 << 20
PROBED = 10_000_000  # bytes; of larger files Telegram reads no length and no sides
REUSED = 11_000_000  # bytes; smaller photos are used again by their hash
MAX_SIDE = 10_000
MAX_DURATION = 86_400
NOTE_SIDE = 640
MAX_SUM = 10_000  # of a photo's sides
MAX_RATIO = 20
CHUNK_BYTES = 1 << 20

PHOTO_EXTENSIONS = frozenset({"", ".jpg", ".jpeg", ".gif", ".png", ".tif", ".bmp"})
IMAGES = frozenset({"jpeg", "png", "gif", "webp", "bmp", "tiff"})
BY_URL: dict[str, frozenset[str]] = {
    "photo": IMAGES,
    "document": frozenset({"pdf", "zip", "gif"}),
    "voice": frozenset({"ogg"}),
    "sticker": IMAGES,
}
WRONG_TYPE = "wrong type of the web page content"


@dataclass(frozen=True, kw_only=True, slots=True)
class Attributes:
    """Attributes of a new file from the sender; 0 or empty: none."""

    width: int = 0
    height: int = 0
    duration: int = 0
    title: str = ""
    performer: str = ""
    thumbnail: Upload | None = None
    detect: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Input:
    """A file to send as `kind`: an upload, or a text in its place."""

    kind: str
    text: str = ""
    upload: Upload | None = None
    attributes: Attributes = Attributes()
    decoded: fileids.Decoded | None = None
    url: str = ""
    path: str = ""


def find_input(call: Call, kind: str, value: str, field: str, attributes: Attributes) -> Input:
    """Return the file of a parameter: step 1. `field`: the name of its upload."""
    upload = None
    if value.startswith("attach://"):
        upload = call.files.get(value.removeprefix("attach://"))
    elif not value:
        upload = call.files.get(field)
    if upload is not None:
        return Input(kind=kind, upload=upload, attributes=attributes)
    if not value or value.startswith("attach://"):
        raise bad(f"there is no {kind.replace('_', ' ')} in the request")
    return Input(kind=kind, text=value, attributes=attributes)


def check_input(call: Call, given: Input) -> Input:
    """Check what needs no backend: step 5."""
    if given.upload is not None:
        check_sizes(given, given.upload)
        return given
    if call.state.config.local and given.text.startswith("file:/"):
        return replace(given, path=local_path(given.text))
    if "." in given.text:
        return replace(given, url=check_url(given.text))
    decoded = fileids.decode(given.text)
    check_class(decoded, given.kind, strict=call.state.config.strict_kinds)
    return replace(given, decoded=decoded)


def check_sizes(given: Input, upload: Upload) -> None:
    """Check the size of an upload."""
    if upload.size == 0:
        raise bad("file must be non-empty")
    limit, what = LIMITS.get(given.kind, (ANY_LIMIT, ""))
    if upload.size > limit:
        raise too_big(upload.size, limit, what)
    thumbnail = given.attributes.thumbnail
    if thumbnail is not None and thumbnail.size > THUMBNAIL_LIMIT:
        raise too_big(thumbnail.size, THUMBNAIL_LIMIT, "thumbnail")


def check_class(decoded: fileids.Decoded, kind: str, *, strict: bool) -> None:
    """Check the class of a file id."""
    is_photo, wants_photo = decoded.kind in fileids.PHOTO_CLASS, kind == "photo"
    if is_photo != wants_photo or decoded.kind == "thumbnail":
        raise bad(f"can't use file of type {kinds.NAMES[decoded.kind]} as {kinds.NAMES[kind]}")
    if strict and decoded.kind != kind:
        raise bad("type of file mismatch")


def local_path(text: str) -> str:
    """Return the path of a `file:` URI."""
    path = unquote(text.removeprefix("file:"))
    path = path.removeprefix("//localhost") if path.startswith("//localhost/") else path
    return "/" + path.lstrip("/")


async def resolve(call: Call, given: Input) -> tuple[File, bytes | None]:
    """Return the file, known or new: step 7. A new one is not stored yet; small bytes are returned, too."""
    if given.decoded is not None:
        return call.state.files.resolve(call.bot.id, given.text, given.decoded), None
    if given.url:
        return await _from_url(call, given)
    if given.path:
        upload = await asyncio.to_thread(read_path, given.path, call.state.config.keep_file)
        check_sizes(given, upload)
        file, kept = _made(call, given, upload)
        return replace(file, path=Path(given.path)), kept
    assert given.upload is not None  # noqa: S101  (find_input and check_input leave no other case)
    return _made(call, given, given.upload)


async def _from_url(call: Call, given: Input) -> tuple[File, bytes | None]:
    if given.kind == "video_note":
        raise bad("can't upload file by URL")
    state = call.state
    upload = state.fetcher.recall(given.url)
    if upload is None:
        state.stats.fetched(call.bot.id)
        upload = await state.fetcher.fetch(
            given.url,
            limit=PHOTO_LIMIT if given.kind == "photo" else FILE_LIMIT,
            keep=state.config.keep_file,
            timeout=state.config.url_timeout,
            remember=state.config.url_cache,
        )
    allowed = BY_URL.get(given.kind)
    if upload.size == 0 or (allowed is not None and upload.facts.format not in allowed):
        raise bad(WRONG_TYPE)
    if given.kind == "voice" and upload.mime not in {"audio/ogg", "application/ogg"}:
        raise bad(WRONG_TYPE)
    return _made(call, replace(given, attributes=Attributes()), upload)


def read_path(path: str, keep: int) -> Upload:
    """Hash and sniff a local file, in chunks. Blocks."""
    file = Path(path)
    sink = FileSink(file.name, "application/octet-stream", keep=keep)
    try:
        with file.open("rb") as stream:
            while data := stream.read(CHUNK_BYTES):
                sink.write(data)
    except OSError:
        raise bad("wrong file identifier/HTTP URL specified") from None
    return sink.finish()


def _made(call: Call, given: Input, upload: Upload) -> tuple[File, bytes | None]:
    if given.kind == "photo":
        return photo_file(call, upload), upload.kept
    return document_file(call, given, upload), upload.kept


def photo_file(call: Call, upload: Upload) -> File:
    """Return a photo of an upload."""
    facts = upload.facts
    if facts.format not in IMAGES and PurePosixPath(upload.name).suffix.lower() not in PHOTO_EXTENSIONS:
        # clients send good pictures as `application.octet-stream`, so the name only matters if the bytes are none
        raise bad("photo has unsupported extension. Use one of .jpg, .jpeg, .gif, .png, .tif or .bmp")
    if facts.format not in IMAGES or (facts.format != "tiff" and not (facts.width and facts.height)):
        raise bad("IMAGE_PROCESS_FAILED")
    sides = sorted((max(1, facts.width), max(1, facts.height)))
    if sum(sides) > MAX_SUM or sides[1] > MAX_RATIO * sides[0]:
        raise bad("PHOTO_INVALID_DIMENSIONS")
    files = call.state.files
    known = files.photo_of(call.bot.id, upload.sha256) if upload.size < REUSED else None
    if known is not None and known.id not in files.killed_files:
        return known
    sizes = photo_sizes(facts.width, facts.height, upload.size)
    return File(id=files.new_id(), kind="photo", size=upload.size, sha256=upload.sha256, sizes=sizes)


def document_file(call: Call, given: Input, upload: Upload) -> File:
    """Return a file of another kind of an upload."""
    facts, said = upload.facts, given.attributes
    asked = FileOrigin(kind=given.kind, name=upload.name, by_url=bool(given.url), detect=said.detect, size=upload.size)
    kind = kinds.decide(asked, facts)
    seen = facts if upload.size <= PROBED else Facts(format=facts.format)
    width, height = said.width or seen.width, said.height or seen.height
    timed = kind not in {"document", "sticker"}
    return File(
        id=call.state.files.new_id(),
        kind=kind,
        size=upload.size,
        sha256=upload.sha256,
        name=file_name(kind, facts, upload.name),
        mime=kinds.mime_of(kind, facts, upload.mime),
        width=width,
        height=height,
        duration=(said.duration or round(seen.duration)) if timed else 0,
        title=said.title or seen.title,
        performer=said.performer or seen.performer,
        thumbnail=thumbnail_of(kind, said.thumbnail, seen, width, height),
        is_animated=kinds.is_animated_sticker(asked, facts),
    )


def thumbnail_of(kind: str, given: Upload | None, seen: Facts, width: int, height: int) -> Size | None:
    """Return the sender's thumbnail if it fits the rules, else the one that Telegram makes."""
    if kind == "voice":
        return None
    if given is not None and given.facts.format == "jpeg":
        sides = given.facts.width, given.facts.height
        if min(sides) > 0 and max(sides) <= THUMBNAIL_SIDE:
            return Size("m", *sides, given.size)
    pictured = seen.width > 0 and (seen.video or seen.format in IMAGES)
    return thumbnail_box(width, height) if pictured else None


def file_name(kind: str, facts: Facts, name: str) -> str:
    """Return the file name that Telegram shows."""
    if kind in {"voice", "video_note"}:
        return ""
    if kind == "animation" and facts.format == "gif":
        return f"{name or 'animation.gif'}.mp4"
    return name


def store(call: Call, file: File, kept: bytes | None) -> File:
    """Store a new file: its ids work from now on."""
    files = call.state.files
    if files.by_id(file.id) is None:
        files.add(file, kept)
        if file.kind == "photo" and file.size < REUSED:
            files.remember_photo(call.bot.id, file)
    return file
