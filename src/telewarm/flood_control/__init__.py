"""Telegram's flood limits in one place: how fast a bot, a chat and the processes of a cluster may send.

limits               the limits as values (rate, burst), as the settings give them
sliding_window       one counted scope: messages inside a window, and the limit that is learned from 429s
limiter              the rate limiter of one bot: its windows, permits and pauses
bot_windows          the windows of one bot, and which of them a 429 is about, since Telegram does not say
priority             who goes first: people, warm-ups, deliveries
waiters              first in, first out: callers that wait for a permit
fair_share           several broadcasts of one bot share its limit
cluster_sync         processes tell each other what they sent for the same bots
flood_wait           apply a 429 to the limiter, and count it
failure_counter      back-off while Telegram does not answer at all
circuit_breaker      the same for broadcasts, with a `getMe` probe

Decisions are pure functions of the time that is passed in; cluster_sync and circuit_breaker alone do I/O. Sources of
the numbers: Telegram's Bot FAQ, and measurements (docs/decisions/0005 and 0007).
"""
