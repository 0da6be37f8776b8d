"""Client for the Bot API methods of one bot."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from telewarm.errors import UsageError
from telewarm.models import ChatId, FileId, Kind, MediaMetadata, MessageId, SentMessage
from telewarm.telegram import multipart, parameters, response_types, responses
from telewarm.telegram.files import FileUpload, LocalPathRef, MediaFile, UrlRef
from telewarm.telegram.parameters import Parameters
from telewarm.telegram.responses import ResponseDecoder
from telewarm.telegram.transport import Request, SendRequest
from telewarm.telegram.values import DEFAULT_OPTIONS, BotProfile, Chat, ChatMember, GroupItem, SendOptions, TelegramFile

T = TypeVar("T")
HOSTED_API_ROOT = "https://api.telegram.org"
TOKEN_PATTERN = re.compile(r"([1-9][0-9]{0,15}):[A-Za-z0-9_-]{1,80}")
CALL_TIMEOUT_SECONDS = 30.0  # seconds for a call without an upload
MIN_UPLOAD_BYTES_PER_SECOND = 100_000  # a slower upload is aborted
URL_FETCH_SECONDS = 60.0  # additional seconds for Telegram to fetch a URL
JSON_ENCODER = msgspec.json.Encoder(enc_hook=str)  # for subclasses of str, such as a caption of type `SafeText`
MAX_LOCAL_FILE_BYTES = 2_000_000_000  # limit of a local server, for a file of unknown size


class BotApi:
    """Bot API of one bot, a cheap value over a shared transport. Of the network, methods raise only TelegramError."""

    __slots__ = ("_base", "_send_request", "telegram_id")

    def __init__(self, transport: SendRequest, token: str, *, root: str = HOSTED_API_ROOT) -> None:
        """`root`: URL of the Bot API server. Raises UsageError for a malformed token or root."""
        shape = TOKEN_PATTERN.fullmatch(token)
        if shape is None:
            raise UsageError("This is not a bot token; it looks like 123456789:ABC... and comes from @BotFather")
        if urlsplit(root).scheme not in ("http", "https") or not urlsplit(root).hostname:
            raise UsageError("The Bot API root must be a URL such as https://api.telegram.org or http://127.0.0.1:8081")
        self.telegram_id = int(shape[1])
        self._send_request = transport
        self._base = f"{root.rstrip('/')}/bot{token}/"

    def __repr__(self) -> str:
        return f"BotApi({self.telegram_id})"

    async def get_me(self) -> BotProfile:
        """Return the bot's profile."""
        return response_types.bot_profile(await self._call("getMe", {}, response_types.USER_DECODER))

    async def get_chat(self, chat_id: ChatId | str) -> Chat:
        """Return a chat by id, or by the `@name` of a public channel or group."""
        known = None if isinstance(chat_id, str) else chat_id
        return response_types.chat(
            await self._call("getChat", {"chat_id": chat_id}, response_types.CHAT_DECODER, chat_id=known)
        )

    async def get_chat_member(self, chat_id: ChatId, user_id: int) -> ChatMember:
        """Return a membership; the bot's own includes what it may do."""
        said: Parameters = {"chat_id": chat_id, "user_id": user_id}
        return response_types.member(
            await self._call("getChatMember", said, response_types.MEMBER_DECODER, chat_id=chat_id)
        )

    async def send_chat_action(self, chat_id: ChatId) -> None:
        """Show "typing" for a moment. Nothing stays in the chat, and a missing right to post is reported."""
        said: Parameters = {"chat_id": chat_id, "action": "typing"}
        await self._call("sendChatAction", said, response_types.BOOL_DECODER, chat_id=chat_id)

    async def send_message(self, chat_id: ChatId, text: str, *, options: SendOptions = DEFAULT_OPTIONS) -> SentMessage:
        """Send a text message."""
        said = parameters.text_parameters(chat_id, text, options)
        return response_types.sent(
            await self._call("sendMessage", said, response_types.MESSAGE_DECODER, chat_id=chat_id)
        )

    async def send_media(
        self,
        kind: Kind,
        chat_id: ChatId,
        file: MediaFile,
        *,
        facts: MediaMetadata | None = None,
        caption: str | None = None,
        options: SendOptions = DEFAULT_OPTIONS,
        timeout: float | None = None,
    ) -> SentMessage:
        """Send a media item. `facts`: metadata of a file new to Telegram. `timeout`: seconds; by default by size.

        Raises the errors of reading an upload (StoreError), too. Stickers and video notes carry no caption.
        """
        said = parameters.media_parameters(kind, chat_id, file, facts=facts, caption=caption, options=options)
        message = await self._call(
            parameters.SEND_METHODS[kind],
            said,
            response_types.MESSAGE_DECODER,
            chat_id=chat_id,
            uploads=_uploads(kind, file),
            timeout=upload_timeout(file, facts) if timeout is None else timeout,
        )
        return response_types.sent(message)

    async def send_media_group(
        self,
        chat_id: ChatId,
        items: Sequence[GroupItem],
        *,
        options: SendOptions = DEFAULT_OPTIONS,
        timeout: float | None = None,
    ) -> list[SentMessage]:
        """Send an album. Results are in Telegram's order. A FloodWait may come after a part was sent."""
        said, uploads = parameters.group_parameters(chat_id, items, options)
        messages = await self._call(
            "sendMediaGroup",
            said,
            response_types.MESSAGES_DECODER,
            chat_id=chat_id,
            uploads=uploads,
            timeout=sum(upload_timeout(item.file, item.facts) for item in items) if timeout is None else timeout,
        )
        return [response_types.sent(message) for message in messages]

    async def forward_message(
        self, chat_id: ChatId, from_chat_id: ChatId, message_id: MessageId, *, options: SendOptions = DEFAULT_OPTIONS
    ) -> SentMessage:
        """Forward a message. The response holds this bot's own file id, whichever bot sent the message first."""
        said = _of_source(chat_id, from_chat_id, message_id) | parameters.option_parameters(options)
        return response_types.sent(
            await self._call("forwardMessage", said, response_types.MESSAGE_DECODER, chat_id=chat_id)
        )

    async def copy_message(
        self,
        chat_id: ChatId,
        from_chat_id: ChatId,
        message_id: MessageId,
        *,
        caption: str | None = None,
        options: SendOptions = DEFAULT_OPTIONS,
    ) -> MessageId:
        """Copy a message. Without `caption` the copy keeps the original's; an empty one removes it."""
        said = _of_source(chat_id, from_chat_id, message_id) | parameters.copy_parameters(caption, options)
        copied = await self._call("copyMessage", said, response_types.MESSAGE_ID_DECODER, chat_id=chat_id)
        return MessageId(copied.message_id)

    async def delete_message(self, chat_id: ChatId, message_id: MessageId) -> None:
        """Delete a message. Telegram refuses after 48 hours."""
        said: Parameters = {"chat_id": chat_id, "message_id": message_id}
        await self._call("deleteMessage", said, response_types.BOOL_DECODER, chat_id=chat_id)

    async def delete_messages(self, chat_id: ChatId, message_ids: Sequence[MessageId]) -> None:
        """Delete up to 100 messages. Telegram ignores missing ones."""
        said: Parameters = {"chat_id": chat_id, "message_ids": list(message_ids)}
        await self._call("deleteMessages", said, response_types.BOOL_DECODER, chat_id=chat_id)

    async def get_file(self, file_id: FileId) -> TelegramFile:
        """Return a file's path for a download."""
        return response_types.telegram_file(
            await self._call("getFile", {"file_id": file_id}, response_types.FILE_DECODER)
        )

    async def _call(
        self,
        method: str,
        fields: Mapping[str, object],
        decoder: ResponseDecoder[T],
        *,
        chat_id: ChatId | None = None,
        uploads: Mapping[str, FileUpload] | None = None,
        timeout: float = CALL_TIMEOUT_SECONDS,
    ) -> T:
        request = Request(
            method=method,
            chat_id=chat_id,
            url=self._base + method,
            body=multipart.encode(fields, uploads) if uploads else JSON_ENCODER.encode(fields),
            timeout=timeout,
        )
        response = await self._send_request(request)
        return responses.decode_response(
            decoder,
            status=response.status,
            body=response.body,
            retry_after=response.retry_after,
            method=method,
            chat_id=chat_id,
        )


def _uploads(kind: Kind, file: MediaFile) -> dict[str, FileUpload] | None:
    """Return the multipart uploads: the file or, if the server reads that itself, its thumbnail."""
    if isinstance(file, FileUpload):
        return {kind.value: file}
    if not isinstance(file, LocalPathRef) or file.thumbnail is None:
        return None
    thumbnail = file.thumbnail

    async def chunks() -> AsyncIterator[bytes]:
        yield thumbnail

    picture = FileUpload.stream(chunks, filename="thumbnail.jpg", mime="image/jpeg", bytes=len(thumbnail))
    return {multipart.thumbnail_name(kind.value): picture}


def upload_timeout(file: MediaFile, facts: MediaMetadata | None) -> float:
    """Return the timeout in seconds for sending this file: the response comes after the last byte."""
    match file:
        case FileUpload():
            return CALL_TIMEOUT_SECONDS + file.total / MIN_UPLOAD_BYTES_PER_SECOND
        case UrlRef():
            return CALL_TIMEOUT_SECONDS + URL_FETCH_SECONDS
        case LocalPathRef():
            return (
                CALL_TIMEOUT_SECONDS
                + (MAX_LOCAL_FILE_BYTES if facts is None else facts.bytes) / MIN_UPLOAD_BYTES_PER_SECOND
            )
        case _:
            return CALL_TIMEOUT_SECONDS


def _of_source(chat_id: ChatId, from_chat_id: ChatId, message_id: MessageId) -> Parameters:
    return {"chat_id": chat_id, "from_chat_id": from_chat_id, "message_id": message_id}
