"""Every error Telewarm raises on purpose. Messages say what happened, to what, and the cure; never a secret.

TelewarmError
├── SettingsError               a setting is missing or wrong
├── UsageError                  the caller asked for something that cannot be
│   ├── NotFound                no such bot or media item
│   │   ├── NoSuchBot           not even a deleted one
│   │   └── BotDeleted          it was deleted, and can be brought back
│   └── Conflict                it exists already, or its state forbids this
├── MediaError                  the file itself
│   ├── UnreadableMedia         the bytes are not what a kind needs, or cannot be read at all
│   └── MediaRuleViolation      a Telegram rule: has rule, measured, cure
├── DecoderFailed               a decoder process of ours failed; the file need not be at fault: has failure
├── FetchError                  a file that was to be fetched by its URL
│   ├── UrlNotAllowed           we do not go there: scheme, port, private address, password, too many redirects
│   ├── UrlFetchFailed          no answer, or one that broke off: name, connection, certificate, time
│   ├── UrlNotAFile             an answer that is no file: has status
│   └── FileTooLarge            larger than what is taken in: has largest
├── MediaNotReady               no file id yet, and the caller asked not to wait: has retry_after
├── StoreError                  object storage
│   ├── ObjectMissing
│   ├── ObjectCorrupt           the bytes do not have the hash they are named by
│   └── StoreUnavailable        network, credentials, bucket
├── DatabaseError
│   ├── DatabaseUnavailable
│   ├── DatabaseForbidden       the role lacks a right: the message has the GRANT
│   ├── NotMigrated             run `telewarm migrate`
│   └── EmbeddedPostgresFailed
├── BackupError                 a backup that cannot be made, or an archive that cannot be restored
└── TelegramError               has method, chat_id
    ├── TelegramUnreachable     no answer: has effect_possible (the bytes had left)
    └── TelegramClientError     an answer with ok=false: has status, description
        ├── FloodWait           429, also inside a 400: has retry_after
        ├── TelegramServerError 5xx
        ├── InvalidBotToken     401, and 404 on a malformed token
        ├── ChatMigrated        has migrate_to_chat_id
        ├── ChatUnreachable     blocked, deactivated, kicked, not found...: has reason
        ├── InvalidFileId       the file id or URL will not do: wrong, foreign, expired, other class
        ├── MessageNotFound     the message to forward, copy or delete is not there
        └── BadRequest          any other 4xx
"""

from __future__ import annotations

from typing import ClassVar

from telewarm.cures import Cure, Interface

LOGGED_OUT_MESSAGE = (
    "the bot is logged out of this Bot API server; its token is not revoked. Check TELEGRAM_API_ROOT; after a logOut a "
    "server takes the bot back 10 minutes later"
)


class TelewarmError(Exception):
    """Base class of all errors. `code`: stable and public, used by the HTTP API. The text has the library's remedy."""

    code: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str = "", *, by_face: Cure | None = None) -> None:
        super().__init__(message if by_face is None else f"{message}; {by_face.library}")
        self.summary, self.by_face = message, by_face

    @property
    def message(self) -> str:
        """What happened, with the remedy."""
        return str(self)

    def message_for(self, interface: Interface) -> str:
        """Return the message with the remedy of that interface."""
        return self.message if self.by_face is None else f"{self.summary}; {getattr(self.by_face, interface.value)}"


class SettingsError(TelewarmError):
    """A setting is missing or wrong."""

    code = "BAD_SETTING"


class UsageError(TelewarmError):
    """The caller asked for something impossible."""

    code = "BAD_REQUEST"


class NotFound(UsageError):
    """No such bot, media item or other object."""

    code = "NOT_FOUND"


class BotDeleted(NotFound):
    """The bot was deleted and can be restored."""

    def __init__(self, slug: str) -> None:
        super().__init__(
            f"bot {slug!r} is deleted",
            by_face=Cure(
                library=f"bring it back with `tw.undelete_bot({slug!r})`, or delete it for good with "
                f"`tw.bots.delete_for_good({slug!r})`",
                cli=f"bring it back with `telewarm bot undelete {slug}`, or delete it for good with `telewarm bot "
                f"delete {slug} --forever`",
                api=f"bring it back with POST /api/admin/bots/{slug}/undelete, or delete it for good with DELETE "
                f"/api/admin/bots/{slug}?forever=true",
            ),
        )


class NoSuchBot(NotFound):
    """No such bot, not even a deleted one."""

    def __init__(self, slug: str) -> None:
        super().__init__(
            f"no bot has the slug {slug[:80]!r}",
            by_face=Cure(
                library="create it with `tw.add_bot(…)`; `tw.slugs()` has those that there are",
                cli="create it with `telewarm bot add`; `telewarm bot list` shows those that there are",
                api="create it with POST /api/admin/bots; GET /api/admin/bots lists those that there are",
            ),
        )


class Conflict(UsageError):
    """The object exists already, or its state does not allow this."""

    code = "CONFLICT"


class MediaError(TelewarmError):
    """The file itself is at fault."""

    code = "BAD_MEDIA"


class UnreadableMedia(MediaError):
    """The bytes do not fit the kind or are unreadable. `problem`: without the remedy; None if not even a document."""

    code = "UNREADABLE_MEDIA"

    def __init__(self, message: str, *, problem: str | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class MediaRuleViolation(MediaError):
    """The file breaks a rule of Telegram for this kind."""

    code = "MEDIA_RULE_BROKEN"

    def __init__(self, *, rule: str, measured: str, cure: str) -> None:
        super().__init__(f"{rule}; this file has {measured}. {cure}")
        self.rule = rule
        self.measured = measured
        self.cure = cure


class DecoderFailed(TelewarmError):
    """A decoder failed, by a bug or a broken installation. `failure`: in a few words."""

    code = "DECODER_FAILED"

    def __init__(self, message: str, *, failure: str) -> None:
        super().__init__(message)
        self.failure = failure

    @property
    def problem(self) -> str:
        """The problem without the remedy."""
        return f"Telewarm's decoder failed ({self.failure.partition(':')[0]}), which need not be the file's fault"


class FetchError(TelewarmError):
    """A file could not be fetched by its URL."""

    code = "FETCH_FAILED"


class UrlNotAllowed(FetchError):
    """The URL is not allowed: scheme, port, private address, password, too many redirects."""

    code = "URL_REFUSED"


class UrlFetchFailed(FetchError):
    """No response, or a broken one: name, connection, certificate, timeout."""

    code = "URL_UNREACHABLE"


class UrlNotAFile(FetchError):
    """The response is not a file. `status`: of the HTTP response."""

    code = "URL_WITHOUT_FILE"

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class FileTooLarge(FetchError):
    """The file is too large. `largest`: maximum in bytes."""

    code = "TOO_LARGE"

    def __init__(self, *, largest: int) -> None:
        super().__init__(f"the file is larger than the {largest:,} bytes that are taken here")
        self.largest = largest


class MediaNotReady(TelewarmError):
    """No file id yet, and the caller does not wait. `retry_after`: seconds until a retry makes sense."""

    code = "MEDIA_NOT_READY"

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoreError(TelewarmError):
    """The object store failed."""

    code = "STORE_ERROR"


class ObjectMissing(StoreError):
    """The object does not exist."""

    code = "OBJECT_MISSING"


class ObjectCorrupt(StoreError):
    """The bytes do not have the hash in their name."""

    code = "OBJECT_CORRUPT"


class StoreUnavailable(StoreError):
    """The store is unavailable: network, credentials, bucket."""

    code = "STORE_UNAVAILABLE"


class DatabaseError(TelewarmError):
    """The database failed."""

    code = "DATABASE_ERROR"


class DatabaseUnavailable(DatabaseError):
    """The database is unavailable."""

    code = "DATABASE_UNAVAILABLE"


class DatabaseForbidden(DatabaseError):
    """The database role lacks a right; the message has the GRANT."""

    code = "DATABASE_FORBIDDEN"


class NotMigrated(DatabaseError):
    """The schema is missing or outdated: run `telewarm migrate`."""

    code = "NOT_MIGRATED"


class EmbeddedPostgresFailed(DatabaseError):
    """The embedded PostgreSQL cannot run."""

    code = "EMBEDDED_POSTGRES_FAILED"


class BackupError(TelewarmError):
    """A backup cannot be made, or an archive cannot be restored."""

    code = "BACKUP_FAILED"


class TelegramError(TelewarmError):
    """A call to Telegram failed. `chat_id`: the call's chat, if any; `method`: the Bot API method."""

    code = "TELEGRAM_ERROR"

    def __init__(self, message: str, *, method: str, chat_id: int | None = None) -> None:
        super().__init__(message)
        self.method = method
        self.chat_id = chat_id


class TelegramUnreachable(TelegramError):
    """No response. `effect_possible`: the whole request was sent, so the message may have been delivered."""

    code = "TELEGRAM_UNREACHABLE"

    def __init__(self, message: str, *, method: str, chat_id: int | None = None, effect_possible: bool) -> None:
        super().__init__(message, method=method, chat_id=chat_id)
        self.effect_possible = effect_possible


class TelegramClientError(TelegramError):
    """Telegram responded with ok=false. `description`: in Telegram's words."""

    code = "TELEGRAM_REFUSED"

    def __init__(self, *, method: str, chat_id: int | None = None, status: int, description: str) -> None:
        to = "" if chat_id is None else f" to chat {chat_id}"
        super().__init__(f"Telegram refused {method}{to}: {description}", method=method, chat_id=chat_id)
        self.status = status
        self.description = description


class FloodWait(TelegramClientError):
    """A 429: wait `retry_after` seconds. Not a failure."""

    code = "FLOOD_WAIT"

    def __init__(
        self, *, method: str, chat_id: int | None = None, status: int, description: str, retry_after: float
    ) -> None:
        super().__init__(method=method, chat_id=chat_id, status=status, description=description)
        self.retry_after = retry_after


class TelegramServerError(TelegramClientError):
    """A 5xx of Telegram."""

    code = "TELEGRAM_FAULT"


class InvalidBotToken(TelegramClientError):
    """Telegram does not accept the token. `logged_out`: it is valid, but the bot called `logOut` on this server."""

    code = "TOKEN_REFUSED"

    @property
    def logged_out(self) -> bool:
        """Whether the bot is logged out of this server."""
        return "logged out" in self.description.lower()

    @property
    def message(self) -> str:
        """What happened, with the remedy."""
        return f"{self}: {LOGGED_OUT_MESSAGE}" if self.logged_out else str(self)

    @property
    def cure(self) -> str:
        """The owner's remedy; empty for a logged-out bot, whose `message` has it."""
        return "It goes on by itself then." if self.logged_out else "Give the bot its current token."


class ChatMigrated(TelegramClientError):
    """The group became a supergroup: use `migrate_to_chat_id` from now on."""

    code = "CHAT_MIGRATED"

    def __init__(
        self, *, method: str, chat_id: int | None = None, status: int, description: str, migrate_to_chat_id: int
    ) -> None:
        super().__init__(method=method, chat_id=chat_id, status=status, description=description)
        self.migrate_to_chat_id = migrate_to_chat_id

    @property
    def message(self) -> str:
        """What happened, with the new id."""
        return f"{self}; its id is {self.migrate_to_chat_id} now"


class ChatUnreachable(TelegramClientError):
    """The chat cannot be reached.

    `reason`: blocked, deactivated, kicked, not_member, not_found, deleted, no_rights, topic_closed, restricted,
    payment_required.
    """

    code = "CHAT_UNREACHABLE"

    def __init__(self, *, method: str, chat_id: int | None = None, status: int, description: str, reason: str) -> None:
        super().__init__(method=method, chat_id=chat_id, status=status, description=description)
        self.reason = reason


class InvalidFileId(TelegramClientError):
    """The file id or URL is invalid: malformed, another bot's, expired, of another kind."""

    code = "DEAD_FILE_ID"


class MessageNotFound(TelegramClientError):
    """The message to forward, copy or delete does not exist."""

    code = "MESSAGE_GONE"


class BadRequest(TelegramClientError):
    """Any other 4xx."""

    code = "TELEGRAM_BAD_REQUEST"
