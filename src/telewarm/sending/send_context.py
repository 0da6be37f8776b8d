"""Context of one send: its slot, what was sent already, the results."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from telewarm import clock
from telewarm.errors import TelewarmError
from telewarm.models import ChatId, Kind, MediaId, MessageId
from telewarm.sending.messages import AlbumStep, SingleStep, Step, TextStep
from telewarm.sending.rate_limited_call import SendSlot
from telewarm.telegram.effect import maybe_delivered


class OnCold(StrEnum):
    """When a media item has no file id yet: send its bytes now, wait for its warm-up, or fail."""

    UPLOAD = "upload"
    WAIT = "wait"
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True, slots=True)
class SendLimits:
    """`patience_seconds`: seconds that a send waits for floods and warm-ups, at most."""

    on_cold: OnCold = OnCold.UPLOAD
    patience_seconds: float = 60.0


class SendResult(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the set. `error` and no `message_id` when this one did not go; `lat_ms`: milliseconds.

    `cache_hit`: it went by a file id that was there already. `moved_to`: the supergroup that the group has become,
    where it went.
    """

    media_id: MediaId | None
    kind: Kind | None  # None for text
    message_id: MessageId | None
    cache_hit: bool
    lat_ms: float
    error: TelewarmError | None = None
    moved_to: ChatId | None = None

    @property
    def maybe_sent(self) -> bool:
        """There is an error, and the message may be in the chat all the same."""
        return self.error is not None and maybe_delivered(self.error)

    def raise_for_error(self) -> None:
        """Raise the error that kept this message from going, if there is one."""
        if self.error is not None:
            raise self.error


class SendResults(list[SendResult]):
    """The results of one message set, in the order in which its messages went."""

    def raise_for_error(self) -> SendResults:
        """Raise the first error, if a message did not go; else return the results."""
        for result in self:
            result.raise_for_error()
        return self


class SendContext(msgspec.Struct, kw_only=True, eq=False):
    """`step_started_at`: when the step under way began, on the monotonic clock. `over`: why nothing else of the set can
    go.
    """

    slot: SendSlot
    on_cold: OnCold
    step_started_at: float
    moved_to: ChatId | None = None
    redirected: bool = False  # Telegram sent us on, in this set; or it is not to be followed
    reached: bool = False
    aborted_by: TelewarmError | None = None
    results: list[SendResult] = []

    def redirect(self, moved_to: ChatId) -> None:
        self.moved_to = moved_to
        self.slot = msgspec.structs.replace(self.slot, chat_id=moved_to)

    def take_elapsed_ms(self) -> float:
        """Milliseconds of the step that ends here."""
        now = clock.monotonic()
        took = round(1000 * (now - self.step_started_at), 1)
        self.step_started_at = now
        return took

    def add_sent(
        self, media_id: MediaId | None, kind: Kind | None, message_id: MessageId, *, cache_hit: bool, lat_ms: float
    ) -> None:
        self.reached = True
        self.results.append(
            SendResult(
                media_id=media_id,
                kind=kind,
                message_id=message_id,
                cache_hit=cache_hit,
                lat_ms=lat_ms,
                moved_to=self.moved_to,
            )
        )

    def add_step_failure(self, step: Step, error: TelewarmError) -> None:
        """One result for each message that the step would have been."""
        match step:
            case SingleStep(media_id=media_id):
                self.add_failures([media_id], error)
            case AlbumStep(items=items):
                self.add_failures([part.media_id for part in items], error)
            case TextStep():
                self.add_failures([None], error)

    def add_failures(self, media_ids: list[MediaId] | list[None], error: TelewarmError) -> None:
        lat_ms = self.take_elapsed_ms()
        self.results += [
            SendResult(
                media_id=media_id,
                kind=None,
                message_id=None,
                cache_hit=False,
                lat_ms=lat_ms,
                error=error,
                moved_to=self.moved_to,
            )
            for media_id in media_ids
        ]
