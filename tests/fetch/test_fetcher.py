"""Files by URL, from a real server of ours: whole or refused, from public machines alone, and in bounds."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import traceback
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from telewarm import clock
from telewarm.errors import FetchError, FileTooLarge, UrlFetchFailed, UrlNotAFile, UrlNotAllowed
from telewarm.fetch.addresses import Address
from telewarm.fetch.fetcher import HAS_MAX_HEADERS, MAX_REDIRECTS, FetchTimeouts
from telewarm.fetch.resolving import MAX_CONCURRENT_LOOKUPS, SystemResolver, validating_socket_factory
from tests.fetch.web import PRIVATE, PUBLIC, SLOW, Handler, Web, answer, web

FILE = bytes(range(256)) * 1000
SECRET = "c4n4ry-s3cr3t"


@pytest.fixture
async def net() -> AsyncIterator[Web]:
    async with web() as net:
        net.answers["/film.mp4"] = answer(FILE, "Set-Cookie: session=1")
        yield net


def moved(to: str, status: str = "302 Found") -> bytes:
    return answer(b"elsewhere", f"Location: {to}", "Set-Cookie: session=1; Path=/", status=status)


async def refused(net: Web, url: str, error: type[FetchError], *, max_bytes: int = 1 << 20) -> str:
    """The message of the error. Nothing private was reached; nothing of the URL or the answer is in it or the log."""
    with capture_logs() as logged, pytest.raises(error) as caught:
        await net.fetch(url, max_bytes=max_bytes)
    reported = "".join(traceback.format_exception(caught.value)) + str(logged)
    assert SECRET not in reported
    assert net.intrusions == 0
    return caught.value.message


async def test_a_file_is_fetched_by_its_name_with_nothing_that_tells_of_us(
    net: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{net.port}")
    assert await net.fetch(net.url("/film.mp4?sig=%7E%2F")) == (FILE, "film.mp4")
    [head] = net.requests
    assert head.startswith("GET /film.mp4?sig=%7E%2F HTTP/1.1\r\n")
    names = {line.partition(":")[0].lower() for line in head.split("\r\n")[1:] if line}
    assert names <= {"host", "accept", "accept-encoding", "user-agent", "connection"}
    assert f"Host: files.example:{net.port}" in head
    assert "Accept-Encoding: identity" in head
    assert net.intrusions == 0


async def test_redirects_are_followed_hop_by_hop_without_cookies(net: Web) -> None:
    statuses = [
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ]
    for number, status in enumerate(statuses):
        net.answers[f"/{number}"] = moved(f"{number + 1}?x={number}", status)
    net.answers["/5"] = answer(FILE, 'Content-Disposition: attachment; filename="film one.mp4"')
    assert await net.fetch(net.url("/0")) == (FILE, "film one.mp4")
    assert net.looked_up == ["files.example"] * (MAX_REDIRECTS + 1)  # each hop again
    assert "cookie" not in "".join(net.requests).lower()
    net.answers["/5"] = moved("/6")
    assert f"more than {MAX_REDIRECTS} times" in await refused(net, net.url("/0"), UrlNotAllowed)
    net.answers["/0"] = moved("/0")
    await refused(net, net.url("/0"), UrlNotAllowed)


WAYS_IN = [
    "http://127.0.0.1:{port}/",
    "http://intranet.example:{port}/",
    "http://0.0.0.0:{port}/",
    "http://0:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://[::1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://１２７.0.0.1:{port}/",
    "http://169.254.169.254:{port}/latest/meta-data/",
    "http://files.example:{other}/",
    "http://files.example@127.0.0.1:{port}/",
    f"http://user:{SECRET}@files.example:{{port}}/film.mp4",
    "//127.0.0.1:{port}/",
    "file:///etc/passwd",
    "ftp://files.example/a",
    "gopher://127.0.0.1:{port}/_GET",
]


@pytest.mark.parametrize("way", WAYS_IN)
async def test_no_way_leads_to_a_private_machine_neither_at_once_nor_by_a_redirect(net: Web, way: str) -> None:
    to = way.format(port=net.port, other=net.port + 1)
    await refused(net, to, UrlNotAllowed)
    net.answers["/away"] = moved(to.encode().decode("latin-1"))
    await refused(net, net.url(f"/away?token={SECRET}"), UrlNotAllowed)
    assert len(net.requests) == 1


async def test_a_name_that_changes_its_address_after_the_look_is_not_asked_again(net: Web) -> None:
    """DNS rebinding: public when it is judged, private from then on."""
    net.names["rebind.example"] = [[PUBLIC], [PRIVATE]]
    url = net.url("/film.mp4", "rebind.example")
    assert (await net.fetch(url))[0] == FILE
    assert net.looked_up == ["rebind.example"]
    assert "private address" in await refused(net, url, UrlNotAllowed)

    net.names["rebind.example"] = [[PUBLIC], [PRIVATE]]
    net.answers["/again"] = moved(net.url("/film.mp4", "rebind.example"))
    await refused(net, net.url("/again", "rebind.example"), UrlNotAllowed)
    assert net.intrusions == 0


@pytest.mark.parametrize("found", [[PUBLIC, PRIVATE], [PRIVATE, PUBLIC], [PUBLIC, ip_address("::1")]])
async def test_a_name_with_one_private_address_is_refused_whatever_the_others_are(
    net: Web, found: list[Address]
) -> None:
    net.names["mixed.example"] = [found]
    await refused(net, net.url("/film.mp4", "mixed.example"), UrlNotAllowed)
    assert not net.requests


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "127.1", "files.example", "::1", "fe80::1%eth0"])
def test_whatever_got_so_far_gets_no_socket_to_a_private_address(host: str) -> None:
    make = validating_socket_factory(lambda address: address == PUBLIC)
    with pytest.raises(UrlNotAllowed):
        make((socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 80)))
    make((socket.AF_INET, socket.SOCK_STREAM, 6, "", (str(PUBLIC), 80))).close()


async def test_what_cannot_be_reached_says_what_to_check(net: Web) -> None:
    assert "has no address" in await refused(net, net.url(f"/{SECRET}", "nowhere.example"), UrlFetchFailed)
    net.names["empty.example"] = [[]]
    assert "has no address" in await refused(net, net.url("/", "empty.example"), UrlFetchFailed)


async def test_an_error_of_the_server_is_told_by_its_number_alone(net: Web) -> None:
    for status in ("404 Not Found", "403 Forbidden", "500 Internal", "206 Partial Content", "300 Multiple Choices"):
        net.answers["/x"] = answer(SECRET.encode(), status=status)
        assert f"HTTP {status[:3]}" in await refused(net, net.url(f"/x?sig={SECRET}"), UrlNotAFile)


async def test_a_bomb_is_refused_packed(net: Web) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    for encoding in ("gzip", "deflate", "br", "zstd", "identity, gzip"):
        net.answers["/x"] = answer(bomb, f"Content-Encoding: {encoding}")
        assert "packs" in await refused(net, net.url("/x"), UrlNotAFile)
    net.answers["/x"] = answer(bomb, "Content-Type: application/gzip")
    assert (await net.fetch(net.url("/x")))[0] == bomb


async def test_a_file_that_says_it_is_too_large_is_refused_before_its_body(net: Web) -> None:
    net.answers["/x"] = b"HTTP/1.1 200 OK\r\nContent-Length: 1000001\r\n\r\n"
    message = await refused(net, net.url("/x"), FileTooLarge, max_bytes=1_000_000)
    assert message == "the file is larger than the 1,000,000 bytes that are taken here"
    net.answers["/x"] = answer(FILE)
    assert (await net.fetch(net.url("/x"), max_bytes=len(FILE)))[0] == FILE
    await refused(net, net.url("/x"), FileTooLarge, max_bytes=len(FILE) - 1)


@pytest.mark.parametrize("head", [b"", b"Transfer-Encoding: chunked\r\n"], ids=["to the end", "chunked"])
async def test_a_file_without_end_is_left_at_the_limit(net: Web, head: bytes) -> None:
    sent = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        piece = bytes(10_000)
        while True:
            writer.write(b"2710\r\n" + piece + b"\r\n" if head else piece)
            await writer.drain()
            sent += len(piece)

    net.answers["/x"] = endless
    await refused(net, net.url("/x"), FileTooLarge, max_bytes=300_000)
    await net.closed.wait()
    assert sent < 20 << 20  # what fits into the buffers of two sockets


CUT = {
    "too long": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nshort and then some",
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
    "chunk head": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
    "no chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nwhat?\r\n",
    "trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    + b"a: b\r\n" * 100_000
    + b"\r\n",
}


@pytest.mark.parametrize("said", CUT.values(), ids=CUT)
async def test_a_file_that_is_shorter_or_longer_than_it_says_is_no_file(net: Web, said: bytes) -> None:
    net.answers["/x"] = said
    await refused(net, net.url("/x"), UrlFetchFailed)


async def test_an_empty_file_is_none(net: Web) -> None:
    net.answers["/x"] = answer(b"")
    assert "empty" in await refused(net, net.url("/x"), UrlNotAFile)


WRONG_HEADS = {
    "nothing": b"",
    "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "HTTP/0.9": b"<html>" + SECRET.encode() + b"</html>",
    "a long header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\nx",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\nx",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nshort",
    "a strange length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nshort",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nshort",
}
if not HAS_MAX_HEADERS:  # an aiohttp that counts no headers
    del CUT["trailers"], WRONG_HEADS["many headers"]


@pytest.mark.parametrize("said", WRONG_HEADS.values(), ids=WRONG_HEADS)
async def test_what_is_no_answer_is_refused(net: Web, said: bytes) -> None:
    net.answers["/x"] = said
    await refused(net, net.url(f"/x?sig={SECRET}"), UrlFetchFailed)


@pytest.mark.parametrize("piece", [b"X-A: y\r\n", b"x" * 1000], ids=["headers", "one header"])
async def test_a_head_without_end_is_left(net: Web, piece: bytes) -> None:
    sent = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            writer.write(piece * 100)
            await writer.drain()
            sent += 100 * len(piece)

    net.answers["/x"] = endless
    await refused(net, net.url("/x"), UrlFetchFailed)
    await net.closed.wait()
    assert sent < 20 << 20


async def test_a_redirect_with_a_body_without_end_is_not_read(net: Web) -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /film.mp4\r\nTransfer-Encoding: chunked\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(b"2710\r\n" + bytes(10_000) + b"\r\n")
                await writer.drain()

    net.answers["/x"] = endless
    assert (await net.fetch(net.url("/x")))[0] == FILE


async def hang(writer: asyncio.StreamWriter) -> None:
    del writer
    await clock.sleep(3600)


async def stall(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")
    await writer.drain()
    await clock.sleep(3600)


async def drip(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await clock.sleep(0.05)


async def drip_head(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await clock.sleep(0.05)


@pytest.mark.parametrize(
    ("how", "reported"), [(hang, "in time"), (drip_head, "in time"), (stall, "too slowly"), (drip, "too slowly")]
)
async def test_a_server_that_takes_its_time_is_left(net: Web, how: Handler, reported: str) -> None:
    net.answers["/x"] = how
    began = clock.monotonic()
    assert reported in await refused(net, net.url("/x"), UrlFetchFailed)
    assert clock.monotonic() - began < 5


async def test_a_name_that_is_looked_up_for_ever_is_left(net: Web) -> None:
    assert "in time" in await refused(net, net.url("/", SLOW), UrlFetchFailed)


async def test_lookups_that_hang_keep_their_places_and_no_more_are_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, begun, go_on = asyncio.get_running_loop(), 0, asyncio.Event()

    async def hanging(*_: object, **__: object) -> list[tuple[object, ...]]:
        nonlocal begun
        begun += 1
        await go_on.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (str(PUBLIC), 80))]

    monkeypatch.setattr(loop, "getaddrinfo", hanging)
    names = SystemResolver()
    for _ in range(3 * MAX_CONCURRENT_LOOKUPS):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await names("files.example", 80)
    assert begun == MAX_CONCURRENT_LOOKUPS
    go_on.set()
    assert await names("files.example", 80) == [PUBLIC]


async def test_names_are_looked_up_as_the_system_does() -> None:
    assert set(await SystemResolver()("localhost", 80)) <= {ip_address("127.0.0.1"), ip_address("::1")}
    with pytest.raises(socket.gaierror):
        await SystemResolver()("no-such-host.invalid", 80)


async def test_whoever_gives_up_closes_the_connection(net: Web) -> None:
    reached = asyncio.Event()

    async def wait(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")
        reached.set()
        while True:
            writer.write(b"x")
            await writer.drain()
            await clock.sleep(0.01)

    net.answers["/x"] = wait
    task = asyncio.create_task(net.fetch(net.url("/x"), patience=FetchTimeouts()))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await net.closed.wait()


def certificate(folder: Path, *names: str) -> Path:
    """A self-signed one, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(clock.now() - timedelta(days=1))
        .not_valid_after(clock.now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path = folder / "server.pem"
    path.write_bytes(key.private_bytes(pem, private, serialization.NoEncryption()) + made.public_bytes(pem))
    return path


async def test_a_certificate_must_be_trusted_and_of_the_name(tmp_path: Path) -> None:
    path = certificate(tmp_path, "files.example")
    trust = ssl.create_default_context(cafile=path)
    async with web(path) as net:
        net.answers["/film.mp4"] = answer(FILE)
        url = net.url("/film.mp4").replace("http:", "https:")
        assert "certificate" in await refused(net, url, UrlFetchFailed)
        net.names["other.example"] = [[PUBLIC]]
        async with net.fetcher(trust=trust) as fetcher:
            async with fetcher.get(url, max_bytes=len(FILE)) as download:
                assert b"".join([chunk async for chunk in download.chunks]) == FILE
            with pytest.raises(UrlFetchFailed, match="certificate"):
                async with fetcher.get(url.replace("files.", "other."), max_bytes=len(FILE)):
                    pass
        assert len(net.requests) == 1
