"""What a hostile caller with a good token sends: each is to be refused, and to leave no trace.

`{shop}`, `{photo}` in a path stand for a bot and for a media item that are there.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.fixtures.media import jpeg

ADMIN = "/api/admin"
MEDIA = f"{ADMIN}/bots/shop/media"
SEND = f"{ADMIN}/bots/shop/send"
READER = 500_000_001
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
JSON = {"Content-Type": "application/json"}
PHOTO = jpeg(4711)
INJECTIONS = ("' OR '1'='1", "shop'; DROP TABLE media; --", "$1", "%s", "{0}", "${jndi:ldap://127.0.0.1/a}", "$(id)")
TRAVERSALS = (
    "..",
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "....//",
    "..\\..\\x",
    "~root",
)
ODD_TEXTS = ("\0", "\x1b[31m", "\r\nX-Evil: 1", "\u202eevil", "\ufeff", "a" * 5000, "\U0001f4a3" * 100)
PRIVATE = (
    "http://127.0.0.1/", "http://localhost/", "http://[::1]/", "http://0.0.0.0/", "http://10.0.0.1/", "http://192.168.0.1/",
    "http://172.16.0.1/", "http://169.254.169.254/latest/meta-data/", "http://100.64.0.1/", "http://2130706433/",
    "http://0x7f000001/", "http://017700000001/", "http://127.1/", "http://[::ffff:127.0.0.1]/", "http://[fe80::1]/",
    "http://[fc00::1]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://user:secret@127.0.0.1/",
    "http://127.0.0.1:22/", "http://127.0.0.1:5432/", "file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/",
    "data:text/plain,hello", "javascript:alert(1)", "//127.0.0.1/", "http://", "http:///x", "", "\0", "http://\0/",
    "http://exa mple/", "http://127.0.0.1%2f@example.org/", "http://" + 300 * "a" + ".example/",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    name: str
    method: str = "POST"
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def as_json(name: str, path: str, said: object, *, method: str = "POST") -> Case:
    return Case(name=name, method=method, path=path, body=json.dumps(said).encode(), headers=JSON)


def raw_json(name: str, path: str, text: bytes, *, method: str = "POST") -> Case:
    return Case(name=name, method=method, path=path, body=text, headers=JSON)


def cases() -> list[Case]:
    return [
        *_paths(),
        *_queries(),
        *_json_shapes(),
        *_sends(),
        *_bots(),
        *_broadcasts(),
        *_tokens(),
        *_forms(),
        *_files(),
        *_urls(),
        *_previews(),
    ]


def _paths() -> Iterator[Case]:
    for text in (*INJECTIONS, *TRAVERSALS):
        quoted = (
            text.replace(" ", "%20").replace("'", "%27").replace("\\", "%5c").replace("$", "%24").replace("{", "%7b")
        )
        yield Case(name=f"slug {text}", path=f"{ADMIN}/bots/{quoted}/media", body=PHOTO)
        yield Case(name=f"media id {text}", method="DELETE", path=f"{ADMIN}/media/{quoted}")
    for number in (
        "0",
        "-1",
        "1.5",
        "1e3",
        "9223372036854775808",
        400 * "9",
        "0x10",
        "NaN",
        "%00",
        "%F0%9F%92%A3",
        "١",
    ):
        yield Case(name=f"rewarm {number[:30]}", path=f"{ADMIN}/media/{number}/rewarm")
        yield Case(name=f"start broadcast {number[:30]}", path=f"{ADMIN}/broadcasts/{number}/start")
    for method in ("TRACE", "PUT", "PATCH", "PROPFIND", "OPTIONS"):
        yield Case(name=f"method {method}", method=method, path=f"{ADMIN}/bots")


def _queries() -> Iterator[Case]:
    for query in (
        "limit=-1",
        "limit=1e9",
        "limit=NaN",
        "offset=-1",
        "kind=%00",
        "state=ready%27--",
        "before=x",
        "limit=٣",
    ):
        yield Case(name=f"list {query}", method="GET", path=f"{MEDIA}?{query}")
    for query in ("state=%00", "after=1e400", "limit=0", "limit=" + 500 * "9"):
        yield Case(name=f"chats {query[:30]}", method="GET", path=f"{ADMIN}/bots/shop/chats?{query}")
    yield Case(name="audit before", method="GET", path=f"{ADMIN}/audit?before=-5")
    yield Case(name="a query that is too long", method="GET", path=f"{MEDIA}?x={40_000 * 'a'}")


def _json_shapes() -> Iterator[Case]:
    deep = b'{"chat_id":' + 100_000 * b"[" + 100_000 * b"]" + b"}"
    texts = {
        "deep": deep,
        "deep objects": 50_000 * b'{"a":' + b"1" + 50_000 * b"}",
        "not ended": b'{"chat_id": 1, "text": "x"',
        "trailing": b'{"chat_id": 1, "text": "x"} {}',
        "a huge number": b'{"chat_id": ' + 5000 * b"9" + b', "text": "x"}',
        "a huge exponent": b'{"chat_id": 1e400, "text": "x"}',
        "NaN": b'{"chat_id": NaN, "text": "x"}',
        "no UTF-8": b'{"chat_id": 1, "text": "\xff\xfe\xc0\xaf"}',
        "an array": b"[1, 2, 3]",
        "a text": b'"hello"',
        "null": b"null",
        "nothing": b"",
        "a comment": b'{"chat_id": 1 /* no */, "text": "x"}',
        "single quotes": b"{'chat_id': 1}",
        "compressed": gzip.compress(b'{"chat_id": 1, "text": "x"}'),
        "2 MB": b'{"chat_id": 1, "text": "' + 2_000_000 * b"x" + b'"}',
    }
    for name, text in texts.items():
        yield raw_json(f"json: {name}", SEND, text)
        yield raw_json(f"json for a bot: {name}", f"{ADMIN}/bots", text)
    yield Case(
        name="json sent as text", path=SEND, body=b'{"chat_id": 1, "text": "x"}', headers={"Content-Type": "text/plain"}
    )
    yield Case(name="json sent as a form", path=SEND, body=b"chat_id=1&text=x")


def _sends() -> Iterator[Case]:
    wrong: dict[str, object] = {
        "no chat": {"text": "x"},
        "chat is a text": {"chat_id": "' OR 1=1", "text": "x"},
        "chat is true": {"chat_id": True, "text": "x"},
        "chat is a fraction": {"chat_id": 1.5, "text": "x"},
        "chat is too large": {"chat_id": 2**63, "text": "x"},
        "nothing to send": {"chat_id": READER},
        "eleven media": {"chat_id": READER, "media": 11 * [1]},
        "media of nobody": {"chat_id": READER, "media": [2**63 - 1]},
        "media ids that are none": {"chat_id": READER, "media": [0, -1]},
        "media that is an injection": {"chat_id": READER, "media": ["1; DROP TABLE media"]},
        "a text of a megabyte": {"chat_id": READER, "text": 1_000_000 * "x"},
        "a text of too many characters": {"chat_id": READER, "text": 5000 * "x"},
        "a caption without media": {"chat_id": READER, "caption": "x"},
        "patience without end": {"chat_id": READER, "text": "x", "patience_ms": 10**12},
        "negative patience": {"chat_id": READER, "text": "x", "patience_ms": -1},
        "an unknown way for cold media": {"chat_id": READER, "text": "x", "on_cold": "explode"},
        "a key that is too long": {"chat_id": READER, "text": "x", "idempotency_key": 201 * "k"},
        "a key of nothing": {"chat_id": READER, "text": "x", "idempotency_key": ""},
        "a key with a NUL": {"chat_id": READER, "text": "x", "idempotency_key": "a\0b"},
        "buttons that are a text": {"chat_id": READER, "text": "x", "reply_markup": "evil"},
        "entities that are a text": {"chat_id": READER, "text": "x", "entities": "evil"},
        "two ways to reply": {
            "chat_id": READER,
            "text": "x",
            "reply_to_message_id": 1,
            "reply_parameters": {"message_id": 1},
        },
    }
    for name, said in wrong.items():
        yield as_json(f"send: {name}", SEND, said)


def _bots() -> Iterator[Case]:
    good = {"slug": "evil", "token": f"1000000009:{35 * 'A'}", "warmup_chats": [-1001]}
    for text in (*INJECTIONS, *TRAVERSALS, *ODD_TEXTS, "", " ", "-x", 64 * "b"):
        yield as_json(f"bot: slug {text[:20]!r}", f"{ADMIN}/bots", good | {"slug": text})
    for text in (*INJECTIONS, *ODD_TEXTS, "", "1:2", "123456789/../../x:abc", "12345:abc/getMe?x="):
        yield as_json(f"bot: token {text[:20]!r}", f"{ADMIN}/bots", good | {"token": text})
    for chats in ([], 65 * [-1], ["x"], [2**63], [1.5], "x", {"a": 1}, None):
        yield as_json(f"bot: chats {str(chats)[:20]}", f"{ADMIN}/bots", good | {"warmup_chats": chats})
        yield as_json(
            f"bot: other chats {str(chats)[:20]}",
            f"{ADMIN}/bots/shop/warmup-chats",
            {"warmup_chats": chats},
            method="PUT",
        )
    for chat in (None, "", "x", 2**63, [1], "1; DROP TABLE bot", 1.5):
        yield as_json(
            f"bot: warm-up chat {chat!r}", f"{ADMIN}/bots/shop/warmup-chat", {"warmup_chat_id": chat}, method="PUT"
        )


def _broadcasts() -> Iterator[Case]:
    message = {"text": "x"}
    wrong: dict[str, object] = {
        "no bot": {"message": message},
        "an unknown bot": {"bot": "nobody", "message": message},
        "both ways to name bots": {"bot": "shop", "bots": ["shop"], "message": message},
        "too many bots": {"bots": 101 * ["shop"], "message": message},
        "nothing to say": {"bot": "shop", "message": {}},
        "a field that nobody knows": {"bot": "shop", "message": message | {"evil": 1}},
        "a name of two lines": {"bot": "shop", "message": message, "name": "a\nb"},
        "no rate": {"bot": "shop", "message": message, "per_second": 0},
        "an endless rate": {"bot": "shop", "message": message, "per_second": float("inf")},
        "a start in the year 9999": {"bot": "shop", "message": message, "starts_at": "9999-12-31T23:59:59Z"},
        "a start without a zone": {"bot": "shop", "message": message, "starts_at": "2031-01-01T00:00:00"},
        "a NUL": {"bot": "shop", "message": {"text": "a\0b"}},
        "a NUL in buttons": {"bot": "shop", "message": message | {"reply_markup": {"a": "\0"}}},
    }
    for name, said in wrong.items():
        yield as_json(f"broadcast: {name}", f"{ADMIN}/broadcasts", said)
    for name, body, kind in (
        ("compressed", gzip.compress(b"1\n2\n"), {"Content-Type": "text/csv", "Content-Encoding": "gzip"}),
        ("a form", b"--x--\r\n", FORM),
        ("json that is none", b"[1, 2", JSON),
    ):
        yield Case(
            name=f"recipients of nobody's broadcast: {name}",
            path=f"{ADMIN}/broadcasts/999/recipients",
            body=body,
            headers=kind,
        )


def _tokens() -> Iterator[Case]:
    for name in (*INJECTIONS, *TRAVERSALS, *ODD_TEXTS, "", "ADMIN_API_TOKEN", "local"):
        yield as_json(f"token: name {name[:20]!r}", f"{ADMIN}/tokens", {"name": name, "role": "read"})
    for role in ("root", "", "Admin", None, 1, ["admin"]):
        yield as_json(f"token: role {role!r}", f"{ADMIN}/tokens", {"name": "evil", "role": role})
    for days in (0, -1, 10**9, "x"):
        yield as_json(
            f"token: days {days!r}", f"{ADMIN}/tokens", {"name": "evil", "role": "read", "expires_in_days": days}
        )


def _part(disposition: bytes, content: bytes, more: bytes = b"") -> bytes:
    return b"--x\r\nContent-Disposition: form-data; " + disposition + b"\r\n" + more + b"\r\n" + content + b"\r\n"


def _forms() -> Iterator[Case]:
    good, end = _part(b'name="file"; filename="a.jpg"', PHOTO), b"--x--\r\n"
    bodies = {
        "an unknown kind": _part(b'name="kind"', b"hologram") + good + end,
        "a kind that is an injection": _part(b'name="kind"', b"photo'; --") + good + end,
        "two files": good + good + end,
        "a thousand parts": 1000 * _part(b'name="a"', b"b") + good + end,
        "a field of a megabyte": _part(b'name="kind"', 1_000_000 * b"x") + good + end,
        "headers without end": _part(b'name="file"; filename="a"', PHOTO, 2000 * b"X-A: aaaaaaaaaa\r\n") + end,
        "a form within the form": _part(b'name="file"; filename=""', b"--x--\r\n--x\r\n") + end,
        "cut off": good[:-30],
        "no last boundary": good,
        "a NUL for a boundary": b"--\0\r\n",
        "nothing but boundaries": 5000 * b"--x\r\n" + end,
        "an encoding of its own": _part(b'name="file"; filename="a"', b"", b"Content-Transfer-Encoding: base64\r\n")
        + end,
    }
    for name, body in bodies.items():
        yield Case(name=f"form: {name}", path=MEDIA, body=body, headers=FORM)
    for boundary in ("", 100 * "x", '"'):
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        yield Case(name=f"form: boundary {boundary[:9]!r}", path=MEDIA, body=good + end, headers=kind)


def _bomb(width: int, height: int) -> bytes:
    """A PNG of a few kB that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")


def _zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/evil.jpg", bytes(10_000_000))
    return sink.getvalue()


def _files() -> Iterator[Case]:
    html = b"<html><script>alert(1)</script></html>"
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
    as_photo = {
        "html": html,
        "svg": svg,
        "a program": b"MZ" + bytes(2000),
        "an ELF": b"\x7fELF" + bytes(2000),
        "a zip bomb": _zipped(),
        "a picture bomb": _bomb(60_000, 60_000),
        "a picture of nothing": _bomb(0, 0),
        "a ribbon": _bomb(9000, 10),
        "half a JPEG": PHOTO[:40],
        "a JPEG with a page behind its head": PHOTO[:20] + html,
        "a GIF that is a script": b"GIF89a/*" + html + b"*/=1;",
        "text": b"hello",
        "zeroes": bytes(5000),
        "an empty file": b"",
    }
    for name, data in as_photo.items():
        yield Case(name=f"as a photo: {name}", path=f"{MEDIA}?kind=photo", body=data)
    for kind in ("video", "audio", "voice", "animation", "video_note", "sticker"):
        yield Case(name=f"a photo as {kind}", path=f"{MEDIA}?kind={kind}", body=PHOTO)
        yield Case(name=f"a page as {kind}", path=f"{MEDIA}?kind={kind}", body=html)
    yield Case(name="an mp4 of headers alone", path=f"{MEDIA}?kind=video", body=b"\0\0\0\x18ftypmp42" + bytes(16))
    lies = b"\0\0\0\x18ftypisom" + bytes(12) + b"\xff\xff\xff\xffmoov" + bytes(100)
    yield Case(name="an mp4 whose boxes lie", path=f"{MEDIA}?kind=video", body=lies)
    for name, said in (
        ("no base64", {"kind": "photo", "data_base64": "%%%"}),
        ("nothing", {"kind": "photo", "data_base64": ""}),
        ("a number", {"kind": "photo", "data_base64": 5}),
        ("text as a photo", {"kind": "photo", "data_base64": base64.b64encode(b"hello").decode()}),
    ):
        yield as_json(f"base64: {name}", MEDIA, said)


def _urls() -> Iterator[Case]:
    for url in PRIVATE:
        yield as_json(f"url: {url[:50]!r}", MEDIA, {"url": url})
    yield as_json("url and bytes", MEDIA, {"url": "http://127.0.0.1/", "data_base64": base64.b64encode(PHOTO).decode()})


def _previews() -> Iterator[Case]:
    for query in (
        "expires=9999999999&signature=" + 64 * "0",
        "expires=-1&signature=x",
        "signature=%00",
        "expires=1e400&signature=x",
    ):
        yield Case(name=f"preview {query[:30]}", method="GET", path=f"/api/media/preview/{{photo}}?{query}")
    beyond = {"Range": "bytes=9999999-"}
    yield Case(name="a preview's bytes behind its end", method="GET", path="/api/media/preview/{photo}", headers=beyond)
    for number in ("0", "-1", "x", "9223372036854775808", "..%2f1"):
        yield Case(name=f"preview of {number}", method="GET", path=f"/api/media/preview/{number}")
