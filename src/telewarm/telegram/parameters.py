"""Parameters of the Bot API's methods. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, assert_never

from telewarm.models import ChatId, Kind, MediaMetadata
from telewarm.telegram.files import FileIdRef, FileUpload, LocalPathRef, MediaFile, UrlRef
from telewarm.telegram.multipart import thumbnail_name
from telewarm.telegram.values import DEFAULT_OPTIONS, GroupItem, SendOptions

Parameters: TypeAlias = dict[str, object]

SEND_METHODS = {
    Kind.PHOTO: "sendPhoto",
    Kind.VIDEO: "sendVideo",
    Kind.AUDIO: "sendAudio",
    Kind.DOCUMENT: "sendDocument",
    Kind.VOICE: "sendVoice",
    Kind.ANIMATION: "sendAnimation",
    Kind.VIDEO_NOTE: "sendVideoNote",
    Kind.STICKER: "sendSticker",
}
MAX_VIDEO_NOTE_PIXELS = 640  # a longer `length` is refused


def text_parameters(chat_id: ChatId, text: str, options: SendOptions) -> Parameters:
    """Return the parameters of sendMessage."""
    parameters: Parameters = {"chat_id": chat_id, "text": text}
    if options is not DEFAULT_OPTIONS:
        parameters |= option_parameters(options)
        _put(parameters, "parse_mode", options.parse_mode)
        _put(parameters, "entities", options.entities)
        _put(parameters, "link_preview_options", options.link_preview_options)
    return parameters


def media_parameters(
    kind: Kind,
    chat_id: ChatId,
    file: MediaFile,
    *,
    facts: MediaMetadata | None = None,
    caption: str | None = None,
    options: SendOptions = DEFAULT_OPTIONS,
) -> Parameters:
    """Return the parameters of a media method, without the file if it is an upload, which has a part of its own."""
    parameters: Parameters = {"chat_id": chat_id}
    if not isinstance(file, FileUpload):
        parameters[kind.value] = file_reference(file)
    if isinstance(file, FileUpload | LocalPathRef) and file.thumbnail is not None:
        parameters["thumbnail"] = f"attach://{thumbnail_name(kind.value)}"
    if not isinstance(file, FileIdRef):
        parameters |= kind_parameters(kind)
    if facts is not None and not isinstance(file, FileIdRef):
        parameters |= metadata_parameters(kind, facts)
    _put(parameters, "caption", caption)
    if options is not DEFAULT_OPTIONS:
        parameters |= option_parameters(options)
        _put(parameters, "parse_mode", options.parse_mode)
        _put(parameters, "caption_entities", options.entities)
        _put(parameters, "show_caption_above_media", options.show_caption_above_media)
        _put(parameters, "has_spoiler", options.has_spoiler)
    return parameters


def group_parameters(
    chat_id: ChatId, items: Sequence[GroupItem], options: SendOptions
) -> tuple[Parameters, dict[str, FileUpload]]:
    """Return the parameters, and the uploads by the names under which the parameters refer to them."""
    uploads: dict[str, FileUpload] = {}
    media = []
    for index, item in enumerate(items):
        name = f"file{index}"
        if isinstance(item.file, FileUpload):
            uploads[name] = item.file
        media.append(_of_item(item, name, above=options.show_caption_above_media))
    return {"chat_id": chat_id, "media": media} | option_parameters(options), uploads


def _of_item(item: GroupItem, name: str, *, above: bool) -> Parameters:
    media: Parameters = {"type": item.kind.value}
    if isinstance(item.file, FileUpload):
        media["media"] = f"attach://{name}"
        if item.file.thumbnail is not None:
            media["thumbnail"] = f"attach://{thumbnail_name(name)}"
    else:
        media["media"] = file_reference(item.file)
    if not isinstance(item.file, FileIdRef):
        media |= kind_parameters(item.kind)
    if item.facts is not None and not isinstance(item.file, FileIdRef):
        media |= metadata_parameters(item.kind, item.facts)
    _put(media, "caption", item.caption)
    _put(media, "parse_mode", item.parse_mode)
    _put(media, "caption_entities", item.entities)
    _put(media, "has_spoiler", item.has_spoiler)
    _put(media, "show_caption_above_media", above)
    return media if item.extra is None else {**item.extra, **media}


def copy_parameters(caption: str | None, options: SendOptions) -> Parameters:
    """Return the parameters of copyMessage."""
    parameters = option_parameters(options)
    _put(parameters, "caption", caption)
    _put(parameters, "parse_mode", options.parse_mode)
    _put(parameters, "caption_entities", options.entities)
    _put(parameters, "show_caption_above_media", options.show_caption_above_media)
    return parameters


def option_parameters(options: SendOptions) -> Parameters:
    """Return the options of every sending method; defaults are left out."""
    parameters: Parameters = {} if options.extra is None else dict(options.extra)
    _put(parameters, "message_thread_id", options.message_thread_id)
    _put(parameters, "disable_notification", options.disable_notification)
    _put(parameters, "protect_content", options.protect_content)
    _put(parameters, "reply_parameters", options.reply_parameters)
    _put(parameters, "reply_markup", options.reply_markup)
    _put(parameters, "message_effect_id", options.message_effect_id)
    return parameters


def kind_parameters(kind: Kind) -> Parameters:
    """Return parameters that keep a document a document: Telegram may turn a GIF, MP4 or MP3 into another kind."""
    return {"disable_content_type_detection": True} if kind is Kind.DOCUMENT else {}


def metadata_parameters(kind: Kind, facts: MediaMetadata) -> Parameters:
    """Return the metadata, which Telegram would otherwise guess, and which the file id keeps for ever."""
    match kind:
        case Kind.VIDEO | Kind.ANIMATION:
            found = {"width": facts.width, "height": facts.height, "duration": whole_seconds(facts.duration)}
            streams = kind is Kind.VIDEO and facts.streamable is not False
            return _known(found) | ({"supports_streaming": True} if streams else {})
        case Kind.VIDEO_NOTE:
            sides = [side for side in (facts.width, facts.height) if side]
            length = min(*sides, MAX_VIDEO_NOTE_PIXELS) if sides else None
            return _known({"length": length, "duration": whole_seconds(facts.duration)})
        case Kind.AUDIO:
            found = {"duration": whole_seconds(facts.duration)}
            return _known(found | {"performer": facts.performer, "title": facts.title})
        case Kind.VOICE:
            return _known({"duration": whole_seconds(facts.duration)})
        case Kind.PHOTO | Kind.DOCUMENT | Kind.STICKER:
            return {}
        case _:
            assert_never(kind)


def whole_seconds(duration: float | None) -> int | None:
    """Round to whole seconds, as the Bot API takes; at least 1 for a positive duration."""
    return None if duration is None else max(1, round(duration))


def file_reference(file: FileIdRef | UrlRef | LocalPathRef) -> str:
    """Return the value of a file parameter."""
    match file:
        case FileIdRef(file_id=file_id):
            return file_id
        case UrlRef(url=url):
            return url
        case LocalPathRef(path=path):
            return path.as_uri()
        case _:
            assert_never(file)


def _put(parameters: Parameters, name: str, value: object) -> None:
    if value is not None and value is not False:
        parameters[name] = value


def _known(found: Mapping[str, object]) -> Parameters:
    return {name: value for name, value in found.items() if value is not None}
