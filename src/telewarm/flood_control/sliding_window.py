"""Sliding window of messages in one scope, with a capacity that is learned.

The capacity grows by *probes*: now and then one message more than is known to pass. It falls, when Telegram refuses a
message within it, to what had passed. Pure: never sleeps, never reads a clock.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque

from telewarm.flood_control.limits import RateLimit

MIN_CAPACITY_SHARE, MAX_CAPACITY_SHARE = 0.1, 4.0  # of the limit's burst: bounds of a learned capacity; at least 1
MAX_DECREASE_SHARE = 0.5  # maximum share of the capacity that one 429 removes
# Messages without a 429 before a probe: after a 429, after a refused probe, after many refused ones.
FLOOD_PROBE_MESSAGES, REFUSAL_PROBE_MESSAGES, MAX_PROBE_MESSAGES = 50, 200, 1600
PROBE_EXPIRY_SECONDS = 60.0  # seconds after which the answer to a probe is no longer expected
PROCESS_QUOTA_SHARE = 0.2  # of a capacity: what one process may use whatever others send; at least 1 message
UNREPORTED_SHARE = 0.2  # of what others sent in a window: so much more they may have sent without a notification yet
HOLD_SECONDS = 0.1  # seconds between notifying others of a message that needs their room, and sending it
PACE_SHARE = 0.8  # of the average interval: the spacing of messages that leave room for other processes
PACED_SECONDS = 10.0  # seconds of spacing after the last message of another process, or of a caller that waited for it
UNLIMITED_MESSAGES = 1_000_000_000  # where nothing is counted


class LearnedLimit:
    """Messages in a window of one kind of scope (a bot, its private chats, its groups), shared by all of a kind.

    `within`: a longer window of the same chats, which this one only spaces out. Values beyond the longer window's use
    are never probed: nothing would be gained, and each failed probe is a 429.
    """

    __slots__ = (
        "_clean",
        "_lowered_at",
        "_lowered_size",
        "_min_size",
        "_probe_interval",
        "_probe_until",
        "_within",
        "certain_seconds",
        "limit",
        "size",
        "window",
    )

    def __init__(self, limit: RateLimit, learned: float | None = None, *, within: LearnedLimit | None = None) -> None:
        self.limit = limit
        self._within = within
        self.window = limit.seconds + limit.slack  # seconds after which a message has certainly left the window
        self.certain_seconds = limit.seconds - limit.slack  # seconds for which a message is certainly inside
        self._min_size = max(1, math.ceil(MIN_CAPACITY_SHARE * limit.burst))
        self.size = limit.burst if learned is None else round(min(max(learned, self._min_size), self._max_size))
        self._clean = 0  # messages that passed since the last 429
        self._probe_interval = 0 if learned is None else REFUSAL_PROBE_MESSAGES
        self._probe_until = self._lowered_at = -math.inf
        self._lowered_size = 0

    @property
    def _max_size(self) -> int:
        most, within = int(MAX_CAPACITY_SHARE * self.limit.burst), self._within
        if within is None:
            return most
        useful = math.ceil((within.size + 1) / within.limit.seconds * self.limit.seconds)
        return min(most, max(self.limit.burst, useful))

    @property
    def below_setting(self) -> bool:
        """Whether a flood wait has lowered the capacity below the setting."""
        return self.size < self.limit.burst

    @property
    def tested(self) -> bool:
        """Whether the capacity exceeds the setting."""
        return self.size != self.limit.burst or self._probe_interval >= REFUSAL_PROBE_MESSAGES

    def may_probe(self, now: float) -> bool:
        """Return whether it is time for a probe, one message more than is known to pass."""
        return self._clean >= self._probe_interval and self.untested(now)

    def untested(self, now: float) -> bool:
        """Return whether there is something left to learn, and no probe in flight."""
        return self.size < self._max_size and now >= self._probe_until

    def probe(self, now: float) -> None:
        """Note a probe: the next one waits for its answer."""
        self._probe_until = now + PROBE_EXPIRY_SECONDS

    def probe_over(self) -> None:
        """Note the end of a probe."""
        self._probe_until = -math.inf

    def succeeded(self, count: int) -> None:
        """Count messages that passed."""
        self._clean += count

    def confirmed(self, inside: int) -> None:
        """Note how many messages passed within one window.

        After a new maximum the next probe may follow at once; not for windows of seconds, where a token bucket may have
        let its savings pass.
        """
        if inside > self.size:
            self.size = min(inside, self._max_size)
            self._probe_interval = 0 if self._within is None else FLOOD_PROBE_MESSAGES

    def recovered(self) -> None:
        """Raise the capacity by one, up to the setting, after windows that were nearly full."""
        if self.size < self.limit.burst and self._clean >= max(self._probe_interval, FLOOD_PROBE_MESSAGES):
            self.size += 1
            self._clean = 0

    def refused(self, left: int, *, sent_at: float, now: float, probed: bool = True) -> None:
        """Lower the capacity after a 429 for a message beside `left` others in its window.

        `probed`: the message exceeded the known capacity on purpose. Within a minute the count decides. Seconds may be
        counted by a token bucket: there, a refusal within the known capacity means one message too many. Calls in
        flight report the same limit several times: together they lower the capacity once, to what really passed.
        """
        if sent_at <= self._lowered_at:
            self.size = min(self.size, max(left, self._lowered_size))
            return
        self._lowered_at = now
        self._lowered_size = max(self._min_size, int(MAX_DECREASE_SHARE * self.size))
        if left >= self.size and not probed and self._within is not None:
            left = self.size - 1
        if left >= self.size:  # beyond the known capacity, which is right, then
            self._probe_interval = min(max(2 * self._probe_interval, REFUSAL_PROBE_MESSAGES), MAX_PROBE_MESSAGES)
        else:
            self.size = max(left, self._lowered_size)
            if self._clean >= self._probe_interval:
                self._probe_interval = FLOOD_PROBE_MESSAGES
        self._clean = 0


class SlidingWindow:
    """Window of a bot, of a chat, or of the uploads of one size. Without a capacity only pauses hold messages back."""

    __slots__ = (
        "_last",
        "_pending",
        "_remote",
        "_sent",
        "_unproven_until",
        "_window",
        "capacity",
        "flooded_until",
        "paced_until",
        "paused_until",
        "reported",
        "shared_until",
    )

    def __init__(self, capacity: LearnedLimit | None, *, now: float) -> None:
        self.capacity = capacity
        self._window = 0.0 if capacity is None else capacity.window
        self.paused_until = now
        self.flooded_until = now  # end of the pause that a 429 set
        self._sent: list[float] = []  # when each message counted, as far as is known; sorted
        self._pending = 0  # messages among them without an answer yet
        self._unproven_until = now
        self._remote: deque[tuple[float, int]] = deque()  # time and number of messages from other processes
        self._last = -math.inf  # time of this process's last message
        self.paced_until = -math.inf
        self.shared_until = -math.inf  # other processes have messages in the window until then
        self.reported = False  # a 429 named a time, and nothing was sent since

    def opens_at(self, now: float, *, count: int = 1, behind: int = 0) -> float:
        """Return the first time, `now` or later, for `count` more messages. Later answers may change it.

        A time that the server named is trusted for one message, whatever else is in the window. `behind`: messages to
        go first.
        """
        if behind and self.capacity is not None:
            windows, place = divmod(count + behind - 1, self.capacity.size)
            return max(now, self.paused_until, self._room_at(place + 1)) + windows * self._window
        room = self._room_at(count)
        if room > now and self.reported and count == 1 and self.capacity is not None and self.capacity.untested(now):
            room = now
        return max(now, self.paused_until, room)

    def room(self, now: float) -> int:
        """Return how many messages may go now."""
        if now < self.paused_until:
            return 0
        if self.capacity is None:
            return UNLIMITED_MESSAGES
        return max(self.capacity.size - self.inside(now), 0)

    def may_probe(self, now: float, *, count: int, latency: float) -> bool:
        """Return whether only the capacity blocks, by one message, and a probe is allowed.

        The probe must be able to prove something: the messages in the window must still be there after the `latency` of
        a call.
        """
        if self.capacity is None or now < self.paused_until or not self.capacity.may_probe(now):
            return False
        if now < self.shared_until and not self.capacity.below_setting:
            return False  # a window shared with other processes proves nothing beyond the setting
        if not self._room_at(count - 1) <= now < self._room_at(count):
            return False
        size = self.capacity.size
        return len(self._sent) >= size and self._sent[-size] > now + latency - self.capacity.certain_seconds

    def spend(self, now: float, *, count: int) -> bool:
        """Count messages as they are sent. Returns whether they are a probe."""
        if self.capacity is None:
            return False
        probing = self._room_at(count) > now
        if probing:
            self.capacity.probe(now)
        self._forget(now)
        for _ in range(count):
            insort(self._sent, now)
        self._pending += count
        self._last = now
        self.reported = False
        return probing

    def succeeded(self, at: float, counted_at: float, *, count: int, now: float) -> None:
        """Note that messages sent `at` have passed. A new maximum within one window raises the capacity."""
        if self.capacity is None:
            return
        self._move(at, counted_at, count=count)
        self.capacity.succeeded(count)
        if now < self.shared_until and self.inside(now) + self.unreported_remote(now) >= self.capacity.size:
            self.capacity.recovered()  # room is left for what others may have sent: probes would never fill the window
        if len(self._sent) - self._pending > self.capacity.size and now >= self._unproven_until:
            inside = len(self._sent) - bisect_right(self._sent, now - self.capacity.certain_seconds) - self._pending
            self.capacity.confirmed(inside if now >= self.shared_until else min(inside, self.capacity.limit.burst))

    def outcome_unknown(self, at: float, *, count: int, now: float) -> None:
        """Note that no answer came: the messages may have counted, as late as now. They confirm nothing."""
        if self.capacity is not None:
            self._move(at, now, count=count)
            self._unproven_until = now + self._window

    def refund(self, at: float, *, count: int) -> None:
        """Remove refused messages: the server did not count them."""
        if self.capacity is not None:
            self._move(at, None, count=count)

    def add_remote(self, now: float, *, count: int) -> None:
        """Count messages that another process sent or is about to send.

        Beside them, at most the setting can be confirmed.
        """
        if self.capacity is None:
            return
        self._forget(now)
        for _ in range(count):
            insort(self._sent, now + HOLD_SECONDS)
        self._remote.append((now, count))
        self.shared_until = now + HOLD_SECONDS + self._window
        self.paced_until = now + PACED_SECONDS

    def next_paced_at(self, now: float, *, count: int) -> float:
        """Return when `count` messages may go, spaced out to leave room for other processes, as bursts would not."""
        if self.capacity is None or now >= self.paced_until:
            return now
        return self._last + PACE_SHARE * count * self._window / self.capacity.size

    def unreported_remote(self, now: float) -> int:
        """Return how many messages other processes may have sent without a notification yet."""
        if now >= self.shared_until:
            return 0
        while self._remote and self._remote[0][0] + self._window <= now:
            self._remote.popleft()
        return math.ceil(UNREPORTED_SHARE * sum(count for _, count in self._remote))

    def _forget(self, now: float) -> None:
        if self._sent and self._sent[0] + self._window <= now:
            del self._sent[: bisect_right(self._sent, now - self._window)]

    def _move(self, at: float, to: float | None, *, count: int) -> None:
        self._pending = max(0, self._pending - count)
        for _ in range(count):
            place = bisect_left(self._sent, at)
            if place < len(self._sent) and self._sent[place] == at:
                del self._sent[place]
            if to is not None:
                insort(self._sent, to)

    def refused(self, now: float, retry_after: float, *, sent_at: float, reported: bool, probed: bool = True) -> None:
        """Obey a 429. Pauses only grow, so a late answer never reopens a scope.

        `reported`: the refused message was sent at a time that the server had named. That time is then not trusted
        again.
        """
        self.pause_until(now + retry_after, flooded=True)
        self.reported = not reported
        if self.capacity is not None:
            self.capacity.refused(self.inside(now), sent_at=sent_at, now=now, probed=probed)

    def pause_until(self, until: float, *, flooded: bool = False) -> None:
        """Pause without lowering the capacity. `flooded`: for a 429, perhaps about another scope of the same chat."""
        if flooded:
            self.flooded_until = max(self.flooded_until, until)
        self.paused_until = max(self.paused_until, until)

    def inside(self, now: float) -> int:
        """Return the number of messages in the window."""
        return len(self._sent) - bisect_right(self._sent, now - self._window)

    def fill(self, now: float) -> float:
        """Return the share of the capacity in use."""
        return 0.0 if self.capacity is None else self.inside(now) / self.capacity.size

    def frees_in(self, now: float) -> float:
        """Return the seconds until the server's window loses its oldest message; minus infinity when it has none."""
        inside = self.inside(now)
        if not inside or self.capacity is None:
            return -math.inf
        return self._sent[-inside] + self.capacity.limit.seconds - now

    def idle(self, now: float) -> bool:
        """Return whether the window can be dropped without changing any decision."""
        return now >= self.paused_until and (not self._sent or self._sent[-1] + self._window <= now)

    def _room_at(self, count: int) -> float:
        """Return when `count` more messages fit into the capacity; more than it holds go alone."""
        if self.capacity is None:
            return -math.inf
        size = self.capacity.size
        over = len(self._sent) + min(count, size) - size
        return self._sent[over - 1] + self._window if over > 0 else -math.inf


class ProcessQuota:
    """The part of a capacity that one process may use whatever the others send."""

    __slots__ = ("_capacity", "_own")

    def __init__(self, capacity: LearnedLimit) -> None:
        self._capacity = capacity
        self._own: deque[float] = deque(
            maxlen=math.ceil(PROCESS_QUOTA_SHARE * MAX_CAPACITY_SHARE * capacity.limit.burst)
        )

    @property
    def size(self) -> int:
        """Maximum of messages in the window."""
        return max(1, int(PROCESS_QUOTA_SHARE * self._capacity.size))

    def spend(self, now: float, *, count: int) -> None:
        """Count sent messages. Refused ones count too, or the quota would allow endless attempts."""
        for _ in range(count):
            self._own.append(now)

    def opens_at(self, *, count: int, behind: int) -> float:
        """Return when `count` more fit into the quota, after `behind` others; more than it holds go alone."""
        windows, place = divmod(min(count, self.size) + behind - 1, self.size)
        nth = self.size - place  # the last but so many must have left the window
        opens_at = self._own[-nth] + self._capacity.window if len(self._own) >= nth else -math.inf
        return opens_at + windows * self._capacity.window
