"""Configuration of the sandbox: floods, network, limits. Values that can be changed while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """At most `count` messages in any `seconds`."""

    count: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Floods:
    """Flood limits (facts 3.1 to 3.3); None or 0 switches one off. All are off by default."""

    bot: Limit | None = None
    private: Limit | None = None
    group: Limit | None = None  # channels too: no number of their own is published
    group_second: Limit | None = None  # beside `group`: about one a second in one chat, with short bursts
    same_size: bool = False  # spacing of uploads with the same byte total
    active_requests: int = 0  # per bot, like the next two
    active_uploads: int = 0
    active_upload_bytes: int = 0
    unsent_per_chat: int = 0
    new_bots: tuple[Limit, ...] = ()  # tokens that were not seen before
    hold: float = 3.0  # seconds an overload 429 is held back before it is answered
    album_429_in_400: bool = False  # a flood inside an album answers 400 with the 429 in its text

    @classmethod
    def off(cls) -> Floods:
        """Return limits that are all off."""
        return cls()

    @classmethod
    def telegram(cls) -> Floods:
        """Return the published and the observed limits of the hosted server."""
        return cls(
            bot=Limit(count=30, seconds=1),
            private=Limit(count=3, seconds=3),
            group=Limit(count=20, seconds=60),
            group_second=Limit(count=3, seconds=3),
            same_size=True,
            active_requests=1000,
            active_uploads=100,
            active_upload_bytes=1 << 32,
            unsent_per_chat=310,
            new_bots=(Limit(count=20, seconds=60), Limit(count=600, seconds=3600)),
            album_429_in_400=True,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """`latency`: seconds before each effect. `bandwidth`: upload bytes a second on each connection; None: unlimited."""

    latency: float = 0.0
    bandwidth: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Sizes in bytes, times in seconds."""

    floods: Floods = field(default_factory=Floods)
    network: Network = field(default_factory=Network)
    local: bool = False  # a server started with --local: file paths, 2000 MB, no pacing
    declared_bots_only: bool = False  # otherwise any well-formed token is a bot
    declared_chats_only: bool = False  # otherwise every id is a chat that can be reached
    strict_kinds: bool = False  # a file id of another document kind is an error, as on servers before 2022
    clock_offset: float = 0.0  # added to the wall clock, for the 48-hour rule
    seed: int = 0  # of the ids
    upload_limit: int = 50 * MIB  # hosted; the exact value is unconfirmed
    url_cache: float = 3 * 86400.0  # how long a URL's content, or its failure, is remembered
    url_timeout: float = 10.0
    keep_file: int = MIB  # bodies up to this size are kept for download
    keep_files: int = 64 * MIB  # all kept bodies together; the oldest go first
    keep_texts: int = 10_000  # text messages that can still be forwarded
    keep_media: int | None = None  # media messages that can still be forwarded; None: all

    @property
    def body_limit(self) -> int:
        """Return the limit of a request: the files and up to 1 MiB of parameters."""
        return (2000 * MIB if self.local else self.upload_limit) + MIB
