"""The embedded PostgreSQL: its folder, its server, the lock that one host holds on it."""
