"""Command class for chat ids, which may be negative, while a hyphen and a letter begin an option."""

from __future__ import annotations

import difflib
import re
from typing import Any

from typer.core import TyperCommand

OPTION_PATTERN = re.compile(r"--?[a-zA-Z].*", re.DOTALL)


class ChatIdCommand(TyperCommand):
    """With `ignore_unknown_options`, so that -1001234567890 is an argument."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - of click, or of typer's own
        """Parse arguments, and report unknown options."""
        takes_value = {name: not getattr(one, "is_flag", True) for one in self.params for name in one.opts}
        known = {*takes_value, *(name for one in self.params for name in one.secondary_opts), *ctx.help_option_names}
        is_value = False
        for given in args:
            if given == "--" and not is_value:
                break
            name = given.partition("=")[0]
            if not is_value and OPTION_PATTERN.fullmatch(given) and name not in known:
                near = difflib.get_close_matches(name, sorted(known), n=1)
                ctx.fail(f"No such option {name}." + (f" Did you mean {near[0]}?" if near else ""))
            is_value = not is_value and takes_value.get(given, False)
        return super().parse_args(ctx, args)
