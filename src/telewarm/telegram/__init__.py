"""The Bot API: client, parameters, transport, responses and error patterns."""
