"""Schemas of media and bots, with units and examples."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from telewarm.api.openapi import EXAMPLE_TIME, ErrorBody, Ok, TimeText
from telewarm.models import Kind, MediaState, UploadMethod

EXAMPLE_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
EXAMPLE_PREVIEW_URL = "/api/media/preview/4711?expires=1935392400&signature=nYeoagCuh4Ww9sMvUUzFzP2b2Bh33OoOugXYsVbz15g"
EXAMPLE_STORAGE_KEY = f"media/9f/{EXAMPLE_SHA256}.jpg"
NextPage = Annotated[int | None, Field(description="`before` of the next page; null on the last one", examples=[4000])]
MediaIdOut = Annotated[int, Field(description="What a media item is found by", examples=[4711])]


class Cache(BaseModel):
    """What is known of an item's file id."""

    status: Annotated[MediaState, Field(description="As the item's `state`", examples=["ready"])]
    file_id: Annotated[str | None, Field(description="Of this bot and no other", examples=["AgACAgIAAxkDAAIB…"])]
    file_unique_id: Annotated[
        str | None, Field(description="The same for all bots; nothing can be sent by it", examples=["AQADq7cxG2pQ-Ul9"])
    ]
    sent_kind: Annotated[Kind | None, Field(description="What Telegram made of it", examples=["photo"])]
    warmed_at: Annotated[
        TimeText | None, Field(description="When the id came, in UTC; null: none yet", examples=[EXAMPLE_TIME])
    ]
    way: Annotated[UploadMethod | None, Field(description="How the file id was got", examples=["upload"])]
    attempts: Annotated[int, Field(description="That failed since it was asked for", examples=[0])]
    last_error: Annotated[str | None, Field(description="With the cure", examples=[None])]
    last_error_code: Annotated[str | None, Field(description="Of that error", examples=[None])]


class Media(BaseModel):
    """A media item."""

    media_id: MediaIdOut
    sha256: Annotated[str, Field(description="Of its bytes, 64 hex digits", examples=[EXAMPLE_SHA256])]
    kind: Annotated[Kind, Field(description="What it is sent as", examples=["photo"])]
    name: Annotated[str | None, Field(description="The file name that it is uploaded with", examples=["cat.jpg"])]
    sent_name: Annotated[
        str | None,
        Field(
            description="The name of its last upload, which recipients see until it is rewarmed", examples=["cat.jpg"]
        ),
    ]
    state: Annotated[
        MediaState, Field(description="Stored, being warmed, ready to send, or in error", examples=["ready"])
    ]
    bytes: Annotated[int, Field(description="Of the file", examples=[204800])]
    mime: Annotated[str, Field(description="By its bytes", examples=["image/jpeg"])]
    ext: Annotated[str, Field(description="By its bytes", examples=["jpg"])]
    width: Annotated[int | None, Field(description="Pixels", examples=[1280])]
    height: Annotated[int | None, Field(description="Pixels", examples=[960])]
    duration: Annotated[float | None, Field(description="Seconds", examples=[None])]
    title: Annotated[str | None, Field(description="Of audio", examples=[None])]
    performer: Annotated[str | None, Field(description="Of audio", examples=[None])]
    storage_key: Annotated[str, Field(description="Where it is in the store", examples=[EXAMPLE_STORAGE_KEY])]
    created_at: Annotated[TimeText, Field(description="When it came, in UTC", examples=[EXAMPLE_TIME])]
    preview_url: Annotated[
        str,
        Field(
            description="To look at the file without a token, for an hour or more; with `&thumbnail=1` the thumbnail. "
            "Relative to this server",
            examples=[EXAMPLE_PREVIEW_URL],
        ),
    ]
    cache: Annotated[Cache, Field(description="What is known of its file id")]


class MediaResponse(BaseModel):
    """One media item."""

    ok: Ok
    media: Annotated[Media, Field(description="As it is now")]


class RenamedMedia(MediaResponse):
    """A renamed media item."""

    note: Annotated[
        str | None,
        Field(description="Which name recipients still see, if another; else null", examples=[None]),
    ]


class SignedUrl(BaseModel):
    """A signed URL."""

    ok: Ok
    url: Annotated[str, Field(description="Relative to this server", examples=[EXAMPLE_PREVIEW_URL])]
    expires_at: Annotated[TimeText, Field(description="When it ends, in UTC", examples=[EXAMPLE_TIME])]
    expires_in: Annotated[int, Field(description="Seconds until then", examples=[600])]


class RewarmResponse(MediaResponse):
    """A rewarmed media item."""

    media_id: MediaIdOut
    message: Annotated[
        str, Field(description="For people", examples=["media item 4711 is queued to be uploaded again"])
    ]


class MediaPage(BaseModel):
    """A page of media."""

    ok: Ok
    media: Annotated[list[Media], Field(description="Newest first")]
    count: Annotated[
        int | None,
        Field(description="How many fit in all; null where only a look at each would tell", examples=[1234]),
    ]
    limit: Annotated[int, Field(description="Of this page", examples=[100])]
    offset: Annotated[int, Field(description="How many were passed over", examples=[0])]
    next: NextPage


class AddedMedia(BaseModel):
    """An added media item."""

    ok: Ok
    media_id: MediaIdOut
    sha256: Annotated[str, Field(description="Of its bytes, 64 hex digits", examples=[EXAMPLE_SHA256])]
    bytes: Annotated[int, Field(description="Of the file", examples=[204800])]
    kind: Annotated[Kind, Field(description="What it is sent as", examples=["photo"])]
    state: Annotated[MediaState, Field(description="`warming`, or what it is already", examples=["warming"])]
    warming: Annotated[bool, Field(description="Its state is `warming`", examples=[True])]
    storage_key: Annotated[str, Field(description="Where it is in the store", examples=[EXAMPLE_STORAGE_KEY])]
    r2_key: Annotated[str, Field(description="The same, for clients of old", examples=[EXAMPLE_STORAGE_KEY])]
    note: Annotated[
        str | None,
        Field(
            description="What a person should know: why a file without `kind` was taken as a document, or under which "
            "name the bot has it already",
            examples=["taken as a document: not a picture: its bytes are text/plain"],
        ),
    ]


class DeletedMedia(BaseModel):
    """Deleted media."""

    ok: Ok
    deleted: Annotated[int, Field(description="Items", examples=[3])]
    not_found: Annotated[list[int], Field(description="Ids that the bot has no item of", examples=[[]])]
    blobs: Annotated[int, Field(description="Files that nobody else has: they are collected soon", examples=[2])]
    bytes: Annotated[int, Field(description="Of those files", examples=[409600])]


class CollectResponse(BaseModel):
    """Orphaned objects."""

    ok: Ok
    blobs: Annotated[int, Field(description="Files whose time had come, deleted now", examples=[0])]
    strays: Annotated[
        int,
        Field(description="Objects that belong to nothing, found now: they go in a quarter of an hour", examples=[0]),
    ]


class DueResponse(BaseModel):
    """Number of due items."""

    ok: Ok
    count: Annotated[int, Field(description="How many items are due by it", examples=[12])]
    not_found: Annotated[
        list[int] | None, Field(description="With `media_ids`: those that the bot has no item of", examples=[[]])
    ] = None


class BatchItem(BaseModel):
    """What became of one file of a batch."""

    index: Annotated[int, Field(description="Its place in the request, from 0", examples=[0])]
    name: Annotated[str | None, Field(description="Its file name", examples=["cat.jpg"])]
    ok: Annotated[bool, Field(description="It is in the library", examples=[True])]
    status: Annotated[
        int, Field(description="What it would have got alone: 201, 200 when it is there, 4xx", examples=[201])
    ]
    created: Annotated[bool, Field(description="False: it was there already", examples=[True])] = False
    media_id: Annotated[int | None, Field(description="Of the media item", examples=[4711])] = None
    sha256: Annotated[str | None, Field(description="Of its bytes, 64 hex digits", examples=[EXAMPLE_SHA256])] = None
    bytes: Annotated[int | None, Field(description="Of the file", examples=[204800])] = None
    kind: Annotated[Kind | None, Field(description="What it is sent as", examples=["photo"])] = None
    state: Annotated[MediaState | None, Field(description="Of the media item", examples=["warming"])] = None
    warming: Annotated[bool | None, Field(description="Its state is `warming`", examples=[True])] = None
    storage_key: Annotated[
        str | None, Field(description="Where it is in the store", examples=[EXAMPLE_STORAGE_KEY])
    ] = None
    r2_key: Annotated[str | None, Field(description="The same, for clients of old", examples=[EXAMPLE_STORAGE_KEY])] = (
        None
    )
    error: Annotated[str | None, Field(description="Why it is not: a stable code", examples=[None])] = None
    message: Annotated[str | None, Field(description="What happened, and the cure", examples=[None])] = None


class Batch(BaseModel):
    """A batch."""

    ok: Ok
    count: Annotated[int, Field(description="Files in the request", examples=[3])]
    created: Annotated[int, Field(description="New in the library", examples=[1])]
    existing: Annotated[int, Field(description="There already", examples=[1])]
    failed: Annotated[int, Field(description="Not taken", examples=[1])]
    items: Annotated[list[BatchItem], Field(description="One for each file, in their order")]


class BatchAborted(ErrorBody):
    """A batch that was not taken to its end: `items` were, and stay."""

    items: Annotated[list[BatchItem] | None, Field(description="Those that were judged")] = None


class BotOut(BaseModel):
    """A bot; never its token."""

    id: Annotated[int, Field(description="Our number of it", examples=[1])]
    slug: Annotated[str, Field(description="Your name for the bot", examples=["shop"])]
    telegram_id: Annotated[int, Field(description="Telegram's number of it", examples=[123456789])]
    username: Annotated[str | None, Field(description="Telegram's name of it", examples=["shop_bot"])]
    warmup_chats: Annotated[list[int], Field(description="Where it uploads to", examples=[[-1001234567890]])]


class BotCreated(BaseModel):
    """A new bot."""

    ok: Ok
    bot: Annotated[BotOut, Field(description="As it is kept")]


class BotListItem(BotOut):
    """A bot with how it stands; never its token."""

    paused: Annotated[bool, Field(description="Somebody stopped its background work", examples=[False])]
    paused_at: Annotated[TimeText | None, Field(description="Since when, in UTC", examples=[None])]
    flood_wait_s: Annotated[float, Field(description="Seconds that Telegram bids it wait", examples=[0])]
    media: Annotated[
        dict[MediaState, int],
        Field(description="Items by state", examples=[{"cold": 0, "warming": 2, "ready": 1230, "error": 1}]),
    ]
    created_at: Annotated[TimeText, Field(description="When it came, in UTC", examples=[EXAMPLE_TIME])]
    deleted_at: Annotated[TimeText | None, Field(description="When it was deleted, in UTC", examples=[None])]


class BotPage(BaseModel):
    """A page of bots."""

    ok: Ok
    bots: Annotated[list[BotListItem], Field(description="By slug")]
    next: Annotated[str | None, Field(description="`after` of the next page; null on the last", examples=[None])]


class BotDetail(BotListItem):
    """A bot with its details."""

    closed_chats: Annotated[
        dict[str, float],
        Field(description="Chats under a flood wait, and its seconds", examples=[{"-1001234567890": 7.5}]),
    ]
    learned: Annotated[
        dict[str, float], Field(description="Messages a window that Telegram lets pass, as learned", examples=[{}])
    ]


class BotResponse(BaseModel):
    """One bot."""

    ok: Ok
    bot: Annotated[BotDetail, Field(description="As it is now")]


class WarmupChat(BaseModel):
    """Warm-up chats."""

    ok: Ok
    slug: Annotated[str, Field(description="Your name for the bot", examples=["shop"])]
    warmup_chat_id: Annotated[int, Field(description="Where it uploads to", examples=[-1001234567890])]


class TokenCheck(BaseModel):
    """Check of the token."""

    ok: Annotated[bool | None, Field(description="null: it could not be found out now", examples=[True])]
    username: Annotated[str | None, Field(description="Telegram's name of it", examples=["shop_bot"])]
    error: Annotated[str | None, Field(description="A stable code; null: none", examples=[None])]
    message: Annotated[str | None, Field(description="What is wrong, and the cure", examples=[None])]


class ChatCheck(BaseModel):
    """Check of a warm-up chat."""

    chat_id: Annotated[int, Field(description="A warm-up chat of the bot", examples=[-1001234567890])]
    ok: Annotated[
        bool | None, Field(description="It may post there; null: it could not be found out now", examples=[False])
    ]
    type: Annotated[str | None, Field(description="Of chat", examples=["channel"])]
    title: Annotated[str | None, Field(description="Of the chat", examples=["Shop: warm-up"])]
    status: Annotated[str | None, Field(description="The bot's in the chat", examples=["administrator"])]
    protected: Annotated[bool, Field(description="Nothing can be forwarded out of it", examples=[False])]
    refused_kinds: Annotated[list[Kind], Field(description="That it may not send there", examples=[[]])]
    error: Annotated[str | None, Field(description="A stable code; null: none", examples=[None])]
    message: Annotated[
        str | None,
        Field(description="What is wrong, and the cure", examples=["the bot is left there and may not post: …"]),
    ]


class BotCheckResponse(BaseModel):
    """Health check of a bot."""

    ok: Annotated[bool, Field(description="It was looked at", examples=[True])]
    healthy: Annotated[bool, Field(description="All is well", examples=[False])]
    token: Annotated[TokenCheck, Field(description="Is it good?")]
    chats: Annotated[list[ChatCheck], Field(description="In the bot's order")]


class BotRestored(BaseModel):
    """A restored bot."""

    ok: Ok
    changed: Annotated[bool, Field(description="False: it was not deleted", examples=[True])]
    bot: Annotated[BotDetail, Field(description="As it is now")]


class BotDeletedOut(BaseModel):
    """A deleted bot."""

    ok: Ok
    slug: Annotated[str, Field(description="Your name for the bot", examples=["shop"])]
    forever: Annotated[bool, Field(description="It cannot be brought back", examples=[False])]
    media: Annotated[int | None, Field(description="Deleted for good: items", examples=[None])] = None
    broadcasts: Annotated[int | None, Field(description="Deleted for good", examples=[None])] = None
    blobs: Annotated[int | None, Field(description="Files that nobody else has", examples=[None])] = None
    bytes: Annotated[int | None, Field(description="Of those files", examples=[None])] = None


class WarmupStats(BaseModel):
    """Warm-up statistics of this process."""

    queue_size: Annotated[int, Field(description="Items that wait, of all bots", examples=[120])]
    processing_count: Annotated[int, Field(description="Items in some process's hand", examples=[10])]
    active_workers: Annotated[int, Field(description="Uploads under way in this process", examples=[5])]
    max_concurrency: Annotated[int, Field(description="Uploads at once that its lanes may have", examples=[5])]
    utilization_pct: Annotated[float, Field(description="Of the one in the other", examples=[100])]


class QueueStats(WarmupStats):
    """Queue statistics."""

    ok: Ok


class QueueItem(BaseModel):
    """An item near the front of the queue."""

    bot_slug: Annotated[str, Field(description="Your name for the bot", examples=["shop"])]
    media_id: MediaIdOut
    kind: Annotated[Kind, Field(description="What it is sent as", examples=["photo"])]
    sha256: Annotated[str, Field(description="Its first 16 digits, and …", examples=["9f86d081884c7d65…"])]
    enqueued_at: Annotated[int | None, Field(description="Milliseconds since 1970", examples=[1935392400000])]
    waiting_ms: Annotated[int | None, Field(description="Milliseconds since then", examples=[1500])]


class WarmupQueueOut(BaseModel):
    """The warm-up queue."""

    bot_slug: Annotated[str, Field(description="Your name for the bot", examples=["shop"])]
    due: Annotated[int, Field(description="Items that are warming", examples=[130])]
    waiting: Annotated[int, Field(description="Of these, waiting for a back-off; 100 at most", examples=[0])]
    head_age_s: Annotated[
        float | None, Field(description="Seconds since the one that goes next was asked for", examples=[1.5])
    ]


class PrewarmStats(WarmupStats):
    """Statistics as in the Node system."""

    worker_running: Annotated[bool, Field(description="In this process", examples=[True])]
    queue_items: Annotated[list[QueueItem], Field(description="The 20 that go next")]
    bots: Annotated[list[WarmupQueueOut], Field(description="Those with items that are warming, by slug")]


class PrewarmStatsOut(BaseModel):
    """Statistics as in the Node system, with the next items."""

    ok: Ok
    metrics: Annotated[PrewarmStats, Field(description="As they are now")]
