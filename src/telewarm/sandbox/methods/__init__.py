"""The Bot API's methods, by name in lower case."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from telewarm.sandbox.call import Call
from telewarm.sandbox.methods import album, delete, forward, info, media, text

Method = Callable[[Call], Awaitable[object]]

METHODS: dict[str, Method] = {
    "getme": info.get_me,
    "getchat": info.get_chat,
    "getchatmember": info.get_chat_member,
    "sendchataction": info.send_chat_action,
    "getfile": info.get_file,
    "logout": info.log_out,
    "close": info.close,
    "sendmessage": text.send_message,
    "sendphoto": media.send_photo,
    "sendvideo": media.send_video,
    "sendaudio": media.send_audio,
    "senddocument": media.send_document,
    "sendvoice": media.send_voice,
    "sendanimation": media.send_animation,
    "sendvideonote": media.send_video_note,
    "sendsticker": media.send_sticker,
    "sendmediagroup": album.send_media_group,
    "forwardmessage": forward.forward_message,
    "forwardmessages": forward.forward_messages,
    "copymessage": forward.copy_message,
    "copymessages": forward.copy_messages,
    "deletemessage": delete.delete_message,
    "deletemessages": delete.delete_messages,
}
