"""Types of ids."""

from __future__ import annotations

from typing import NewType

BotId = NewType("BotId", int)  # of our row; not Telegram's id of the bot
MediaId = NewType("MediaId", int)
BroadcastId = NewType("BroadcastId", int)
ChatId = NewType("ChatId", int)  # Telegram's; negative for groups and channels
MessageId = NewType("MessageId", int)
Sha256 = NewType("Sha256", str)  # 64 lower-case hex digits
FileId = NewType("FileId", str)  # of one bot
