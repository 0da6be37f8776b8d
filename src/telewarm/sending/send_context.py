"""Context of one send: its slot, the results so far, and why it was aborted."""

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
    """What to do with a media item without a file id: upload its bytes now, wait for its warm-up, or fail."""

    UPLOAD = "upload"
    WAIT = "wait"
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True, slots=True)
class SendLimits:
    """Defaults of sends. `patience_seconds`: maximum wait for flood limits and warm-ups."""

    on_cold: OnCold = OnCold.UPLOAD
    patience_seconds: float = 60.0


class SendResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of one message of the set. `error` without `message_id`: it was not sent; `lat_ms`: milliseconds.

    `cache_hit`: it was sent by a file id that existed already. `moved_to`: the supergroup that it went to, because the
    group has become that.
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
        """Whether the message failed and may have been delivered all the same."""
        return self.error is not None and maybe_delivered(self.error)

    def raise_for_error(self) -> None:
        """Raise the error of this message, if there is one."""
        if self.error is not None:
            raise self.error


class SendResults(list[SendResult]):
    """The results of one message set, in the order of its messages."""

    def raise_for_error(self) -> SendResults:
        """Raise the first error if a message failed; else return the results."""
        for result in self:
            result.raise_for_error()
        return self


class SendContext(msgspec.Struct, kw_only=True, eq=False):
    """State of one send.

    `step_started_at`: start of the current step, on the monotonic clock. `aborted_by`: why the remaining steps are
    skipped.
    """

    slot: SendSlot
    on_cold: OnCold
    step_started_at: float
    moved_to: ChatId | None = None
    redirected: bool = False  # already redirected once by Telegram; or redirects are not to be followed
    reached: bool = False
    aborted_by: TelewarmError | None = None
    results: list[SendResult] = []

    def redirect(self, moved_to: ChatId) -> None:
        """Send the rest to the supergroup that the group has become."""
        self.moved_to = moved_to
        self.slot = msgspec.structs.replace(self.slot, chat_id=moved_to)

    def take_elapsed_ms(self) -> float:
        """Return the milliseconds of the step that ends here, and start the next."""
        now = clock.monotonic()
        took = round(1000 * (now - self.step_started_at), 1)
        self.step_started_at = now
        return took

    def add_sent(
        self, media_id: MediaId | None, kind: Kind | None, message_id: MessageId, *, cache_hit: bool, lat_ms: float
    ) -> None:
        """Add the result of a sent message."""
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
        """Add a failed result for each message of the step."""
        match step:
            case SingleStep(media_id=media_id):
                self.add_failures([media_id], error)
            case AlbumStep(items=items):
                self.add_failures([part.media_id for part in items], error)
            case TextStep():
                self.add_failures([None], error)

    def add_failures(self, media_ids: list[MediaId] | list[None], error: TelewarmError) -> None:
        """Add a failed result for each media item."""
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
