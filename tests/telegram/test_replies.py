"""Status and body in, a value or a typed error out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.errors import (
    BadRequest,
    ChatMigrated,
    ChatUnreachable,
    FloodWait,
    InvalidBotToken,
    InvalidFileId,
    MessageNotFound,
    TelegramClientError,
    TelegramError,
    TelegramServerError,
    TelegramUnreachable,
)
from telewarm.telegram import response_types, responses


def refusal(status: int, description: str, **parameters: object) -> bytes:
    body: dict[str, object] = {"ok": False, "error_code": status, "description": description}
    return json.dumps(body | ({"parameters": parameters} if parameters else {})).encode()


def read(status: int, body: bytes, *, retry_after: str | None = None) -> TelegramError:
    with pytest.raises(TelegramError) as caught:
        responses.decode_response(
            response_types.MESSAGE_DECODER,
            status=status,
            body=body,
            retry_after=retry_after,
            method="sendPhoto",
            chat_id=-1005,
        )
    return caught.value


def in_group(inner: str) -> str:
    return f'Bad Request: failed to send message #1 with the error message "{inner}"'


DEAD = [
    "wrong remote file identifier specified: Wrong character in the string",
    "wrong remote file identifier specified: Wrong string length",
    "wrong remote file identifier specified: can't unserialize it. Wrong last symbol",
    "wrong remote file identifier specified: can't unserialize it",
    "invalid remote file identifier",
    "can't use file of type Photo as Video",
    "can't use file of type Thumbnail as Photo",
    "type of file mismatch",
    "wrong file identifier/HTTP URL specified",
    "invalid file HTTP URL specified: Unsupported URL protocol",
    "invalid file HTTP URL specified: URL host is empty",
    "URL must be in UTF-8",
    "wrong HTTP URL specified",
    "failed to get HTTP URL content",
    "wrong type of the web page content",
    "can't upload file by URL",
    "FILE_REFERENCE_EXPIRED",
    "FILE_REFERENCE_0_EXPIRED",
    "MEDIA_EMPTY",
    "invalid file_id",
    "wrong file_id or the file is temporarily unavailable",
]
GONE = ["message to forward not found", "message to copy not found", "message to delete not found"]
REQUESTS = [
    "there is no photo in the request",
    "there is no video note in the request",
    "chat_id is empty",
    "chat identifier is not specified",
    "message identifiers are not specified",
    'parameter "media" is required',
    "can't parse media JSON object",
    "expected an Array of InputMedia",
    "can't parse InputMedia: type \"animation\" can't be used in sendMediaGroup",
    "too many messages to send as an album",
    "audio can't be mixed with other media types",
    "group send failed",
    "message caption is too long",
    "text is too long",
    "can't parse entities: Can't find end of the entity starting at byte offset 5",
    "file must be non-empty",
    "file of size 10485761 bytes is too big for a photo; the maximum size is 10485760 bytes",
    "PHOTO_INVALID_DIMENSIONS",
    "IMAGE_PROCESS_FAILED",
    "wrong video note length",
    "the message can't be forwarded",
    "the message can't be copied",
    "message has protected content and can't be forwarded",
    "messages can't be forwarded",
    "message can't be deleted",
    "message can't be deleted for everyone",
    "message identifiers must be in a strictly increasing order",
    "file is too big",
    "file_id not specified",
    "something that nobody has seen yet",
]
CHATS = [
    (400, "Bad Request: chat not found", "not_found"),
    (400, "Bad Request: private chat not found", "not_found"),
    (403, "Forbidden: bot can't initiate conversation with a user", "not_found"),
    (400, "Bad Request: PEER_ID_INVALID", "not_found"),
    (403, "Forbidden: bot was blocked by the user", "blocked"),
    (403, "Forbidden: user is deactivated", "deactivated"),
    (403, "Forbidden: bot was kicked from the group chat", "kicked"),
    (403, "Forbidden: bot was kicked from the channel chat", "kicked"),
    (403, "Forbidden: bot is not a member of the supergroup chat", "not_member"),
    (403, "Forbidden: the group chat was deleted", "deleted"),
    (403, "Forbidden: the bot can't send messages to the bot", "no_rights"),
    (400, "Bad Request: need administrator rights in the channel chat", "no_rights"),
    (400, "Bad Request: have no write access to the chat", "no_rights"),
    (400, "Bad Request: not enough rights to send photos to the chat", "no_rights"),
    (400, "Bad Request: user restricted receiving of voice note messages", "no_rights"),
    (400, "Bad Request: VOICE_MESSAGES_FORBIDDEN", "no_rights"),
    (400, "Bad Request: CHAT_WRITE_FORBIDDEN", "no_rights"),
    (400, "Bad Request: CHAT_SEND_PHOTOS_FORBIDDEN", "no_rights"),
    (403, "Forbidden: for a reason of tomorrow", "no_rights"),
]
TOKENS = [
    (401, "Unauthorized"),
    (401, "Unauthorized: invalid token specified"),
    (404, "Not Found"),
    (421, "Misdirected Request: unallowed token specified"),
    (400, "Logged out"),
]
TABLE: list[tuple[int, str, type[TelegramClientError]]] = [
    *((400, f"Bad Request: {text}", InvalidFileId) for text in DEAD),
    (400, in_group("Wrong file identifier/HTTP URL specified"), InvalidFileId),
    *((400, f"Bad Request: {text}", MessageNotFound) for text in GONE),
    *((400, f"Bad Request: {text}", BadRequest) for text in REQUESTS),
    (400, in_group("PHOTO_INVALID_DIMENSIONS"), BadRequest),
    (404, "Not Found: method not found", BadRequest),
    (409, "Conflict: terminated by other getUpdates request", BadRequest),
    (413, "Request Entity Too Large", BadRequest),
    *((status, text, InvalidBotToken) for status, text in TOKENS),
    *((status, text, ChatUnreachable) for status, text, _ in CHATS),
    (500, "Internal Server Error: restart", TelegramServerError),
    (502, "Bad Gateway", TelegramServerError),
]


@pytest.mark.parametrize(("status", "description", "kind"), TABLE)
def test_each_of_telegrams_texts_has_its_class(status: int, description: str, kind: type[TelegramClientError]) -> None:
    error = read(status, refusal(status, description))
    assert type(error) is kind
    assert (error.status, error.description) == (status, description)
    assert (error.method, error.chat_id) == ("sendPhoto", -1005)


@pytest.mark.parametrize(("status", "description", "reason"), CHATS)
def test_an_unreachable_chat_says_why(status: int, description: str, reason: str) -> None:
    error = read(status, refusal(status, description))
    assert isinstance(error, ChatUnreachable)
    assert error.reason == reason


@pytest.mark.parametrize(
    ("status", "body", "header", "wait"),
    [
        (429, refusal(429, "Too Many Requests: retry after 35", retry_after=35), "35", 35),
        (429, refusal(429, "Too Many Requests: retry after 35"), None, 35),
        (429, b"", "7", 7),
        (429, b"<html>slow down</html>", None, 5),
        (429, b"", "Wed, 21 Oct 2026 07:28:00 GMT", 5),
        (429, refusal(429, "x", retry_after=1e12), None, 86_400),
        (429, refusal(429, "x", retry_after=-1), None, 0),
        (400, refusal(400, in_group("Too Many Requests: retry after 8")), None, 8),
        (403, refusal(403, "Forbidden: later", retry_after=4), None, None),
    ],
)
def test_a_flood_wait_is_found_in_every_dress(status: int, body: bytes, header: str | None, wait: float | None) -> None:
    error = read(status, body, retry_after=header)
    if wait is None:
        assert not isinstance(error, FloodWait)
    else:
        assert isinstance(error, FloodWait)
        assert error.retry_after == wait


def test_an_upgraded_group_gives_its_new_id() -> None:
    text = "Bad Request: group chat was upgraded to a supergroup chat"
    error = read(400, refusal(400, text, migrate_to_chat_id=-100777))
    assert isinstance(error, ChatMigrated)
    assert error.migrate_to_chat_id == -100777


@pytest.mark.parametrize("status", [500, 502, 504, 302, 403, 404, 418])
def test_a_page_of_something_in_front_is_a_fault_and_never_the_caller_s(status: int) -> None:
    error = read(status, b"<html><h1>Bad Gateway</h1></html>")
    assert type(error) is TelegramServerError
    assert error.status == status


def test_a_request_too_large_for_the_server_is_a_bad_request_even_without_words() -> None:
    assert type(read(413, b"")) is BadRequest


def test_a_revoked_token_is_known_by_its_status_alone() -> None:
    assert type(read(401, b"")) is InvalidBotToken


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b'{"ok":true,"result":{"no":1}}', b'{"ok":true}', b"\xff"])
def test_a_success_that_cannot_be_read_may_have_taken_effect(body: bytes) -> None:
    error = read(200, body)
    assert isinstance(error, TelegramUnreachable)
    assert error.effect_possible


def test_a_refusal_inside_a_200_is_a_refusal() -> None:
    assert type(read(200, refusal(400, "Bad Request: chat not found"))) is ChatUnreachable


@pytest.mark.parametrize(
    "quoted", ["/bot123456789:AAE-secret_secret", "123456789:AAE-secret_secret/x", "bot1%3AAAE-secret_"]
)
def test_a_token_that_is_quoted_back_to_us_is_cut_out(quoted: str) -> None:
    error = read(404, refusal(404, f"no such page {quoted}"))
    assert "secret" not in str(error)
    assert "<token>" in str(error)


@given(st.binary(max_size=200), st.integers(min_value=100, max_value=599), st.none() | st.text(max_size=12))
def test_no_bytes_whatever_raise_anything_else(body: bytes, status: int, header: str | None) -> None:
    read(status, body, retry_after=header)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
answers = st.fixed_dictionaries(
    {},
    optional={
        "ok": json_values,
        "error_code": json_values,
        "description": json_values,
        "parameters": st.fixed_dictionaries(
            {}, optional={"retry_after": json_values, "migrate_to_chat_id": json_values}
        ),
    },
)


@given(answers, st.integers(min_value=100, max_value=599))
def test_no_json_whatever_raises_anything_else(answer: dict[str, object], status: int) -> None:
    read(status, json.dumps(answer).encode())


def test_json_nested_beyond_reason_is_no_answer() -> None:
    read(200, b'{"ok":true,"result":{"message_id":1,"x":' + b"[" * 100_000)


def file(name: str) -> dict[str, object]:
    return {"file_id": f"{name}-id", "file_unique_id": f"{name}-unique", "file_size": 3}


def sent_as(content: dict[str, object]) -> tuple[str | None, str | None, str | None]:
    message = {"message_id": 5, "date": 1, "chat": {"id": -1005, "type": "channel", "title": "x"}} | content
    body = json.dumps({"ok": True, "result": message}).encode()
    answer = responses.decode_response(
        response_types.MESSAGE_DECODER, status=200, body=body, retry_after=None, method="sendX", chat_id=1
    )
    sent = response_types.sent(answer)
    assert (sent.chat_id, sent.message_id) == (-1005, 5)
    return sent.kind, sent.file_id, sent.file_unique_id


@pytest.mark.parametrize("kind", ["video", "audio", "document", "voice", "animation", "video_note", "sticker"])
def test_the_kind_is_the_one_that_telegram_returned(kind: str) -> None:
    assert sent_as({kind: file(kind)}) == (kind, f"{kind}-id", f"{kind}-unique")


def test_an_animation_is_no_document_though_it_brings_one() -> None:
    assert sent_as({"document": file("same"), "animation": file("same")})[0] == "animation"


def test_a_photo_is_known_by_its_largest_size() -> None:
    assert sent_as({"photo": [file("s"), file("m"), file("y")]}) == ("photo", "y-id", "y-unique")


def test_a_text_has_no_file() -> None:
    assert sent_as({"text": "hello"}) == (None, None, None)


def test_a_file_without_a_unique_id_has_none() -> None:
    assert sent_as({"voice": {"file_id": "v"}}) == ("voice", "v", None)
