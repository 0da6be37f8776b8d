"""Methods getMe, getChat, getChatMember, sendChatAction, getFile, logOut and close."""

from __future__ import annotations

import math

from telewarm.sandbox import fileids
from telewarm.sandbox.call import Call
from telewarm.sandbox.chats import Chat, Status
from telewarm.sandbox.clock import monotonic
from telewarm.sandbox.errors import ApiError, bad, too_many_requests
from telewarm.sandbox.files import DIRECTORIES, File

DOWNLOAD_LIMIT = 20 << 20
GIFTS = ("unlimited_gifts", "limited_gifts", "unique_gifts", "premium_subscription", "gifts_from_channels")
SEND_RIGHTS = {
    "can_send_messages": {"text"},
    "can_send_audios": {"audio"},
    "can_send_documents": {"document"},
    "can_send_photos": {"photo"},
    "can_send_videos": {"video"},
    "can_send_video_notes": {"video_note"},
    "can_send_voice_notes": {"voice"},
    "can_send_polls": set[str](),
    "can_send_other_messages": {"animation", "sticker"},
    "can_add_web_page_previews": set[str](),
}
MEMBERS_MAY = (
    "can_react_to_messages",
    "can_edit_tag",
    "can_change_info",
    "can_invite_users",
    "can_pin_messages",
    "can_manage_topics",
)
ADMINISTRATORS_MAY = (
    "can_manage_chat",
    "can_delete_messages",
    "can_manage_video_chats",
    "can_restrict_members",
    "can_promote_members",
    "can_change_info",
    "can_invite_users",
    "can_post_stories",
    "can_edit_stories",
    "can_delete_stories",
    "can_send_welcome_messages",
)
CLOSE_AFTER = 600.0  # seconds
UNAVAILABLE = "wrong file_id or the file is temporarily unavailable"


async def get_me(call: Call) -> object:
    """Return the bot."""
    return {
        **call.bot.as_user(),
        "can_join_groups": True,
        "can_read_all_group_messages": False,
        "supports_inline_queries": False,
        "supports_guest_queries": False,
        "can_connect_to_business": False,
        "has_main_web_app": False,
        "has_topics_enabled": False,
        "allows_users_to_create_topics": False,
        "can_manage_bots": False,
    }


async def get_chat(call: Call) -> object:
    """Return a chat."""
    chat = call.state.find_chat(call.bot, call.text("chat_id"))
    accepted = dict.fromkeys(GIFTS, True)
    shown: dict[str, object] = {**chat.as_chat(), "accent_color_id": chat.id % 7, "max_reaction_count": 11}
    if chat.protected:
        shown["has_protected_content"] = True
    if chat.type in {"group", "supergroup"}:
        shown["permissions"] = {**_may_send(chat), **dict.fromkeys(MEMBERS_MAY, True)}
    return {**shown, "accepted_gift_types": accepted}


async def get_chat_member(call: Call) -> object:
    """Return a membership."""
    chat = call.state.find_chat(call.bot, call.text("chat_id"))
    user_id = call.integer("user_id", 0)
    if not user_id:
        raise bad("invalid user_id specified")
    member = call.state.bots.get(user_id)
    if member is None:
        raise bad("member not found")
    return {"user": member.as_user(), **_membership(chat, chat.status(member))}


def _membership(chat: Chat, status: Status) -> dict[str, object]:
    """Return a membership. A chat's restrictions apply to administrators here: such a bot is shown as restricted."""
    if status == "left" or chat.type == "private":
        return {"status": "member" if chat.type == "private" else "left"}
    if status == "kicked":
        return {"status": "kicked", "until_date": 0}
    if chat.type != "channel" and (chat.restricted or not chat.write_access or not chat.can_post):
        own = {**_may_send(chat), **dict.fromkeys(MEMBERS_MAY, True)}
        return {"status": "restricted", "is_member": True, "until_date": 0, **own}
    if status == "member":
        return {"status": "member"}
    rights = dict.fromkeys(ADMINISTRATORS_MAY, True) | {"can_be_edited": False, "is_anonymous": False}
    if chat.type == "channel":
        rights |= {"can_post_messages": chat.can_post, "can_edit_messages": chat.can_post}
    return {"status": "administrator", **rights, "can_delete_messages": chat.can_delete}


def _may_send(chat: Chat) -> dict[str, object]:
    may = chat.write_access and chat.can_post
    return {right: may and not kinds & chat.restricted for right, kinds in SEND_RIGHTS.items()}


async def send_chat_action(call: Call) -> object:
    """Show an action; refused where the bot may not post."""
    call.required("action")
    call.state.find_chat_for_post(call.bot, call.text("chat_id"))
    return True


async def get_file(call: Call) -> object:
    """Return a file's path."""
    text = call.text("file_id")
    if not text:
        raise bad("file_id not specified")
    file, decoded = _own_file(call, text)
    size = next((size.size for size in file.sizes if size.letter == decoded.letter), file.size)
    local = call.state.config.local
    if file.size > DOWNLOAD_LIMIT and not local:
        raise bad("file is too big")
    shown: dict[str, object] = {
        "file_id": text,
        "file_unique_id": fileids.unique(decoded.kind, file.id, decoded.letter),
        "file_size": size,
    }
    path = str(file.path) if local and file.path is not None else path_of(file)
    if file.path is None and call.state.files.content(file) is None:
        raise bad(UNAVAILABLE)
    return {**shown, "file_path": path}


def _own_file(call: Call, text: str) -> tuple[File, fileids.Decoded]:
    """Return the bot's own file; getFile has its own texts for an invalid id."""
    try:
        decoded = fileids.decode(text)
    except ApiError:
        raise bad("invalid file_id") from None
    try:
        return call.state.files.resolve(call.bot.id, text, decoded), decoded
    except ApiError:
        raise bad(UNAVAILABLE) from None


def path_of(file: File) -> str:
    """Return the path of a file."""
    directory, extension = DIRECTORIES[file.kind]
    return f"{directory}/file_{file.id}.{extension}"


async def log_out(call: Call) -> object:
    """Log out."""
    call.bot.logged_out = True
    return True


async def close(call: Call) -> object:
    """Refuse in the first ten minutes of a server's life."""
    wait = math.ceil(call.state.started + CLOSE_AFTER - monotonic())
    if wait > 0:
        raise too_many_requests(wait)
    return True
