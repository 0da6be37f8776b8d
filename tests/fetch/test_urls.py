"""Which URLs are followed, and what a file is called: pure."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from telewarm.errors import UrlNotAllowed
from telewarm.fetch.addresses import is_public
from telewarm.fetch.download_name import MAX_NAME_CHARACTERS, name_of
from telewarm.fetch.urls import check_url, resolve_redirect

NO_PORTS: frozenset[int] = frozenset()
SECRET = "c4n4ry"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/film.mp4",
        "HTTPS://EXAMPLE.org./a%2Fb%20c?x=%7E&y=a+b",
        "https://example.org:443/a",
        "https://example.org:80/",
        "https://bücher.example/straße.jpg?q=ä",
        "https://1.1.1.1/a",
        "https://[2606:4700:4700::1111]/a",
        "https://under_score.example-1.org/a#fragment",
        "https://1e.example.0xyz/a",
        f"https://example.org/{'a' * 4000}",
    ],
)
def test_a_url_of_the_web_is_followed_as_it_is_written(url: str) -> None:
    found = check_url(url, NO_PORTS, is_public)
    assert found.scheme in {"http", "https"}
    assert not found.fragment
    if url.isascii():
        assert str(found).lower() == url.partition("#")[0].lower().replace(":443", "")
    else:
        assert str(found).isascii()


REFUSED = {
    "": "not a URL|http",
    "film.mp4": "http",
    "//example.org/a": "http",
    "ftp://example.org/a": "http",
    "file:///etc/passwd": "http",
    "gopher://example.org:70/_x": "http",
    "data:image/png;base64,iVBORw0KGgo=": "http",
    "javascript:alert(1)": "http",
    "http:///etc/passwd": "host",
    "http:example.org": "host",
    f"http://user:{SECRET}@example.org/": "password",
    f"http://{SECRET}@example.org/": "password",
    "http://@example.org/": "password",
    "http://example.org:8080/": "TELEWARM_FETCH_PORTS",
    "http://example.org:22/": "TELEWARM_FETCH_PORTS",
    "http://example.org:0/": "TELEWARM_FETCH_PORTS",
    "http://example.org:99999/": "not a URL",
    "http://example.org:x/": "not a URL",
    "http://exam ple.org/": "blanks",
    "http://example.org/\r\nX: y": "blanks",
    "http://example.org/\x00": "blanks",
    "http://exa%6dple.org/": "host|not a URL",
    "http://exam!ple.org/": "host|not a URL",
    "http://.example.org/": "host|not a URL",
    f"http://{'a' * 300}.org/": "host",
    f"http://example.org/{'a' * 5000}": "characters",
    "http://127.0.0.1/": "private",
    "http://10.0.0.1/": "private",
    "http://169.254.169.254/latest/meta-data/": "private",
    "http://0.0.0.0/": "private",
    "http://[::1]/": "private",
    "http://[::]/": "private",
    "http://[::ffff:127.0.0.1]/": "private",
    "http://[64:ff9b::7f00:1]/": "private",
    "http://[2002:7f00:1::]/": "private",
    "http://[fd00:ec2::254]/": "private",
    "http://[fe80::1%25eth0]/": "address|not a URL|private",
    "http://2130706433/": "address",
    "http://0x7f000001/": "address",
    "http://0x7f.1/": "address",
    "http://0x7f.0.0.0x1/": "address",
    "http://017700000001/": "address",
    "http://0177.0.0.1/": "address",
    "http://127.1/": "address",
    "http://127.0.1/": "address",
    "http://127.0.0.1./": "address",
    "http://127.0.0.1../": "address|host|not a URL",
    "http://1.1.1.1.1/": "address",
    "http://example.123/": "address",
    "http://１２７.0.0.1/": "private|address|not a URL",
    "http://①②⑦.⓪.⓪.①/": "private|address|not a URL",
    "http://127。0。0。1/": "private|address|not a URL",
    "http://[v1.fe80]/": "address|host|not a URL",
    "http://[::1/": "not a URL",
    "http://[]@": "not a URL|password",
    "http://example.org\\@127.0.0.1/": "host|password|not a URL",
    "http://127.0.0.1\\.example.org/": "host|not a URL",
    "http://example.org@127.0.0.1/": "password",
    "http://127.0.0.1#@example.org/": "private",
    "http://127.0.0.1?@example.org/": "private",
}


@pytest.mark.parametrize(("url", "why"), REFUSED.items())
def test_any_other_is_refused_with_the_reason_and_without_the_url(url: str, why: str) -> None:
    with pytest.raises(UrlNotAllowed, match=why) as caught:
        check_url(url, NO_PORTS, is_public)
    assert SECRET not in caught.value.message
    if "://" in url and ":///e" not in url:  # without a host it is relative to the one before
        with pytest.raises(UrlNotAllowed):
            resolve_redirect(url, URL("http://example.org/a/b"), NO_PORTS, is_public)


def test_a_port_that_is_named_is_allowed() -> None:
    assert check_url("http://example.org:8080/", frozenset({8080}), is_public).port == 8080


@given(st.text(alphabet="http:/@[]\\.%?#0123456789abx①。 -", max_size=40))
def test_whatever_is_followed_has_a_name_or_a_public_address(text: str) -> None:
    try:
        url = check_url(f"http://{text}", NO_PORTS, is_public)
    except UrlNotAllowed:
        return
    host = url.raw_host
    assert host
    if ":" in host or host.replace(".", "").isdigit():
        assert is_public(ip_address(host))


FROM = URL("https://example.org/a/b?secret=1#x")


@pytest.mark.parametrize(
    ("where", "target"),
    [
        ("c.jpg", "https://example.org/a/c.jpg"),
        ("/c.jpg?t=%7E", "https://example.org/c.jpg?t=%7E"),
        ("//other.example/c", "https://other.example/c"),
        ("https://other.example/ä", "https://other.example/%C3%A4"),
        ("", "https://example.org/a/b?secret=1"),
    ],
)
def test_a_redirect_is_followed_from_where_it_stands(where: str, target: str) -> None:
    assert str(resolve_redirect(where, FROM, NO_PORTS, is_public)) == target


def test_a_redirect_never_gives_up_encryption() -> None:
    with pytest.raises(UrlNotAllowed, match="from https:// to http://"):
        resolve_redirect("http://example.org/a", FROM, NO_PORTS, is_public)


@pytest.mark.parametrize(
    ("disposition", "path", "name"),
    [
        (None, "/a/film%20one.mp4", "film one.mp4"),
        (None, "/a/", None),
        (None, "", None),
        ('attachment; filename="a b.mp4"', "/x", "a b.mp4"),
        ("attachment; filename=\"x\"; filename*=UTF-8''%D0%BA%D0%BE%D1%82.jpg", "/x", "кот.jpg"),
        ('inline; filename="../../etc/passwd"', "/x", "passwd"),
        ('inline; filename="C:\\\\dir\\\\a.jpg"', "/x", "a.jpg"),
        ('attachment; filename="a\x00b\x1f.jpg"', "/x", "ab.jpg"),
        ("attachment; filename*=nonsense''%ff", "/x.jpg", "x.jpg"),
        ("; ; =", "/x.jpg", "x.jpg"),
        ("attachment", "/x.jpg", "x.jpg"),
        (None, "/..%2f..%2fa.jpg", "a.jpg"),
        (None, f"/{'x' * 400}", "x" * MAX_NAME_CHARACTERS),
    ],
)
def test_a_file_is_called_as_the_server_says_else_as_its_path_ends(
    disposition: str | None, path: str, name: str | None
) -> None:
    assert name_of(disposition, URL(f"https://example.org{path}", encoded=True)) == name


@given(st.text(max_size=80))
def test_any_header_gives_a_name_that_can_be_kept_or_none(text: str) -> None:
    name = name_of(f"attachment; filename={text}", URL("https://example.org/x"))
    assert name is None or (
        "\x00" not in name and "/" not in name and 0 < len(name) <= MAX_NAME_CHARACTERS and name.encode()
    )
