"""Telewarm keeps a Telegram bot's media warm: upload once, send by file id for ever."""

__version__ = "0.1.0"
