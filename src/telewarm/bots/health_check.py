"""Health check of a bot: its token, and its right to post to its warm-up chats. Nothing is posted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from telewarm.errors import (
    LOGGED_OUT_MESSAGE,
    ChatMigrated,
    ChatUnreachable,
    FloodWait,
    InvalidBotToken,
    TelegramError,
    TelegramServerError,
    TelegramUnreachable,
)
from telewarm.models import ChatId, Kind
from telewarm.telegram.client import BotApi
from telewarm.telegram.values import BotProfile, Chat, ChatMember, ChatPermissions

MAX_CONCURRENT_CHECKS = 8  # chats
CURES = {  # by ChatUnreachable's reason
    "topic_closed": "open the topic again in that chat (General too), or use another chat",
    "restricted": "lift the bot's restriction there or make it an administrator, or use another chat",
    "payment_required": "that chat asks for Stars for each message: make the bot an administrator, or use another chat",
    "no_rights": "let the bot send this kind of message there, or make it an administrator, or use another chat",
}
TRANSIENT_ERRORS = (FloodWait, TelegramServerError, TelegramUnreachable)  # prove nothing about the token or the chat


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckStatus:
    """Result of one check.

    `ok` None: unknown. `message`: the problem and the remedy, or a remark; None: neither. `code`: of Telegram's error.
    """

    ok: bool | None
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatCheck:
    """Result for a chat.

    `status`: the bot's membership, in Telegram's words. `refused`: kinds that it may not send there.
    """

    chat_id: ChatId
    result: CheckStatus
    type: str | None = None
    title: str | None = None
    status: str | None = None
    protected: bool = False
    refused: Sequence[Kind] = ()
    migrated_to: ChatId | None = None  # the supergroup that the group became


@dataclass(frozen=True, kw_only=True, slots=True)
class BotCheck:
    """Result for a bot. `profile` None: the token gave none. `chats`: in their order; empty without a valid token."""

    token: CheckStatus
    profile: BotProfile | None
    chats: Sequence[ChatCheck]

    @property
    def ok(self) -> bool:
        """Whether the token and all chats are in order."""
        return all(one.ok for one in (self.token, *(chat.result for chat in self.chats)))


async def check_bot(api: BotApi, chats: Sequence[ChatId]) -> BotCheck:
    """Run the checks. Telegram's errors become results."""
    try:
        profile = await api.get_me()
    except TelegramError as error:
        return BotCheck(
            token=_status_from_token_error(error), profile=None, chats=[_unknown_chat(chat_id) for chat_id in chats]
        )
    slots = asyncio.Semaphore(MAX_CONCURRENT_CHECKS)

    async def one(chat_id: ChatId) -> ChatCheck:
        """Check one chat."""
        async with slots:
            return await _check_chat(api, chat_id)

    return BotCheck(token=CheckStatus(ok=True), profile=profile, chats=await asyncio.gather(*map(one, chats)))


async def _check_chat(api: BotApi, chat_id: ChatId) -> ChatCheck:
    try:
        chat = await api.get_chat(chat_id)
        member = None if chat.type == "private" else await api.get_chat_member(chat_id, api.telegram_id)
        if chat.type == "group":  # only a write tells that a group has become a supergroup
            await api.send_chat_action(chat_id)
    except ChatMigrated as error:
        return await _check_supergroup(api, chat_id, ChatId(error.migrate_to_chat_id))
    except TelegramError as error:
        return ChatCheck(chat_id=chat_id, result=_status_from_chat_error(error))
    return assess(chat, member)


async def _check_supergroup(api: BotApi, chat_id: ChatId, now_at: ChatId) -> ChatCheck:
    """Check the supergroup, and report it under the group's id, with a remark."""
    found = await _check_chat(api, now_at)
    moved = f"the group became the supergroup {now_at}, which is used in its place from now on"
    message = moved if found.result.message is None else f"{moved}; {found.result.message}"
    return replace(found, chat_id=chat_id, migrated_to=now_at, result=replace(found.result, message=message))


def assess(chat: Chat, member: ChatMember | None) -> ChatCheck:
    """Assess a bot's membership. `member` None: a private chat, about which Telegram tells nothing before a message."""
    rights = ChatPermissions() if member is None else _rights(chat, member)
    return ChatCheck(
        chat_id=chat.chat_id,
        result=_status_from_rights(chat, member, rights),
        type=chat.type,
        title=chat.name,
        status=None if member is None else member.status,
        protected=chat.protected,
        refused=rights.refused,
    )


def _rights(chat: Chat, member: ChatMember) -> ChatPermissions:
    """Return what the bot may send to the chat."""
    match member.status:
        case "creator" | "administrator":
            return ChatPermissions(may_send=chat.type != "channel" or member.may_post is not False)
        case "member" if chat.type != "channel":
            return chat.permissions
        case "restricted":
            return member.permissions
        case _:
            return ChatPermissions(may_send=False)


def _status_from_rights(chat: Chat, member: ChatMember | None, rights: ChatPermissions) -> CheckStatus:
    if member is None:
        return CheckStatus(
            ok=True, message="a private chat: whether its user has blocked the bot shows when something is sent"
        )
    if not rights.may_send:
        cure = (
            "make it an administrator with the right to post messages"
            if chat.type == "channel"
            else "let it send messages there, or make it an administrator"
        )
        return CheckStatus(
            ok=False, message=f"the bot is {member.status} there and may not post: {cure}, or use another chat"
        )
    if rights.refused:
        kinds = ", ".join(rights.refused)
        cure = "allow them in the chat's permissions, or make the bot an administrator"
        return CheckStatus(ok=False, message=f"the bot may not send these kinds there: {kinds}; {cure}")
    if chat.protected:
        return CheckStatus(
            ok=True,
            message="nothing can be forwarded out of this chat, so bots that share it upload each for itself; allow "
            "saving content in its settings to spare that",
        )
    return CheckStatus(ok=True)


def _status_from_token_error(error: TelegramError) -> CheckStatus:
    if isinstance(error, InvalidBotToken) and error.logged_out:
        return CheckStatus(ok=False, code=error.code, message=LOGGED_OUT_MESSAGE)
    if isinstance(error, InvalidBotToken):
        return CheckStatus(
            ok=False,
            code=error.code,
            message=f"Telegram does not take the token ({error.description}): copy it again from @BotFather and "
            "give it with `telewarm bot token` or PUT /api/admin/bots/{slug}/token",
        )
    return CheckStatus(ok=None, code=error.code, message=f"{error.message}; check again later")


def _status_from_chat_error(error: TelegramError) -> CheckStatus:
    match error:
        case ChatUnreachable():
            message = (
                f"{error.description}: add the bot to this chat as an administrator that may post, or correct the id; "
                "one of a channel begins with -100"
                if error.reason not in CURES
                else f"{error.description}: {CURES[error.reason]}"
            )
            return CheckStatus(ok=False, code=error.code, message=message)
        case _:
            passing = isinstance(error, TRANSIENT_ERRORS)
            cure = "check again later" if passing else "correct the id, or use another chat"
            return CheckStatus(ok=None if passing else False, code=error.code, message=f"{error.message}; {cure}")


def _unknown_chat(chat_id: ChatId) -> ChatCheck:
    return ChatCheck(chat_id=chat_id, result=CheckStatus(ok=None, message="Not checked: fix the token first"))
