"""The command line teaches itself."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner, Result

import telewarm
from telewarm.cli import app
from telewarm_benchmarks.everything import BENCHES

HUGE = str(2**63)
COMMANDS = ["demo", "serve", "worker", "send", "broadcast", "broadcast send", "broadcast watch"]
COMMANDS += [f"bot {name}" for name in ("list", "show", "add", "token", "chats", "check", "pause", "resume")]
COMMANDS += ["bot delete", "bot undelete"]
COMMANDS += [f"media {name}" for name in ("list", "show", "add", "rename", "rewarm", "share", "delete", "collect")]
COMMANDS += ["sandbox", "migrate", "env", "bench", "bench all"]
COMMANDS += [f"bench {bench.name}" for bench in BENCHES]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_the_commands_are_listed_with_what_they_do(arguments: tuple[str, ...]) -> None:
    said = run(*arguments).output
    for command in COMMANDS:
        assert command.split()[0] in said
    assert "Serve the HTTP API and warm media" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_says_what_it_does(command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"telewarm {command}" in result.output.replace("root", "telewarm")
    assert len(result.output.split()) > 20


def test_serve_explains_its_options_with_their_defaults() -> None:
    said = run("serve", "--help").output
    for word in (
        "--host",
        "127.0.0.1",
        "--port",
        "8000",
        "--no-worker",
        "ADMIN_API_TOKEN",
        "telewarm token show",
        "telewarm env",
    ):
        assert word in said


@pytest.mark.parametrize("arguments", [("serv",), ("serve", "--port", "70000"), ("serve", "--prt", "1")])
def test_a_slip_is_told_with_the_way_to_help(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "--help" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("broadcast", "show", HUGE),
        ("broadcast", "test", "1", HUGE),
        ("send", "shop", HUGE, "--text", "x"),
    ],
)
def test_a_number_that_is_no_id_is_refused_before_anything_is_opened(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert "too large" in result.output


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_printed_alone(option: str) -> None:
    result = run(option)
    assert (result.exit_code, result.output) == (0, f"telewarm {telewarm.__version__}\n")


@pytest.mark.parametrize("command", [(), ("send",), ("broadcast", "send")])
def test_help_has_a_short_option_too(command: tuple[str, ...]) -> None:
    assert run(*command, "-h").output == run(*command, "--help").output
