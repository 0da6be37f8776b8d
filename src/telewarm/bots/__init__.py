"""Bots: registry, sessions, health check, chat names."""
