"""Embedded PostgreSQL: its folder, its server, and its lock."""
