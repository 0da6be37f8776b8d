"""Bots as this process knows them: registry, health check, chat names."""
