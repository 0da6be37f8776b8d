"""ASGI middleware: access log, authentication, concurrency limit."""
