"""The HTTP server of the commands: the only importer of the ASGI server."""
