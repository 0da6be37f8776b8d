"""Which file settings come from, and what a `.env` that merely lies in the current folder may not do."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from telewarm.cli import app
from telewarm.errors import SettingsError
from telewarm.settings import Settings, SettingsFile, check_redirects, choose_settings_file

KEY = "5eed" * 16
EVIL = "https://evil.example.org"


S3 = {"S3_SECRET_ACCESS_KEY": "secret", "S3_ACCESS_KEY_ID": "id", "S3_BUCKET": "media"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's configuration folder; the current folder is another one."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    folder = tmp_path / "xdg_config_home" / "telewarm"
    folder.mkdir(parents=True)
    return folder


def written(path: Path, **values: str) -> Path:
    path.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    return path


def chosen(home: Path, *, named: Path | None = None, **environ: str) -> SettingsFile:
    return choose_settings_file(environ, named_file=named, folder=Path(), home=home)


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner(env={"COLUMNS": "300", **environ}).invoke(app, arguments)


def test_one_file_is_read_the_one_that_was_named_then_the_one_here_then_the_users_own(home: Path) -> None:
    assert chosen(home) == SettingsFile(path=None)
    own = written(home / ".env")
    assert chosen(home) == SettingsFile(path=own)
    here = written(Path(".env"))
    assert chosen(home) == SettingsFile(path=here.absolute(), is_implicit=True)
    by_variable, by_option = written(home / "one.env"), written(home / "other.env")
    assert chosen(home, TELEWARM_ENV_FILE=str(by_variable)) == SettingsFile(path=by_variable)
    assert chosen(home, named=by_option, TELEWARM_ENV_FILE=str(by_variable)) == SettingsFile(path=by_option)


def test_a_file_that_was_named_and_is_not_there_is_told(home: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.env is no file"):
        chosen(home, named=Path("none.env"))
    with pytest.raises(SettingsError, match="TELEWARM_ENV_FILE"):
        chosen(home, TELEWARM_ENV_FILE=str(home))


@pytest.mark.parametrize("mode", [0o602, 0o666])
def test_a_file_here_that_everybody_can_change_is_not_trusted_until_it_is_named(home: Path, mode: int) -> None:
    here = written(Path(".env"))
    here.chmod(mode)
    with pytest.raises(SettingsError, match="can be changed by everybody"):
        chosen(home)
    assert chosen(home, named=here) == SettingsFile(path=here.absolute())
    here.chmod(0o664)
    assert chosen(home).is_implicit


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_here_of_another_user_is_not_trusted(home: Path) -> None:
    here = written(Path(".env"))
    os.chown(here, 65534, 65534)
    with pytest.raises(SettingsError, match="belongs to another user"):
        chosen(home)


@pytest.mark.parametrize(
    ("values", "environ"),
    [
        ({"TELEGRAM_API_ROOT": EVIL}, {}),
        ({"TELEGRAM_API_ROOT": " http://evil.example.org:80/ "}, {}),
        ({"TELEGRAM_API_ROOT": "http://127.0.0.1.evil.example.org"}, {}),
        ({"TELEGRAM_API_ROOT": "http://api.telegram.org"}, {}),
        ({"TELEGRAM_API_ROOT": "http://[::ffff:192.0.2.1"}, {}),
        ({"TELEGRAM_API_ROOT": EVIL, "TELEWARM_DATA": "~/.local/share/telewarm"}, {}),
        ({"TELEGRAM_API_ROOT": EVIL, "TELEWARM_DATA": "/var/lib/telewarm"}, {}),
        ({"TELEGRAM_API_ROOT": EVIL, "TELEWARM_DATA": "../data"}, {}),
        ({"TELEGRAM_API_ROOT": EVIL, "TELEWARM_DATA": "./link"}, {}),
        ({"TELEGRAM_API_ROOT": EVIL, "TELEWARM_DATA": "./data"}, {"TELEWARM_DATA": "/srv/data"}),
        ({"TELEGRAM_API_ROOT": EVIL, "TELEWARM_DATA": "./data"}, {"ENCRYPTION_KEY": KEY}),
        ({"TELEGRAM_API_ROOT": EVIL, "ENCRYPTION_KEY": KEY}, {"ENCRYPTION_KEY": KEY}),
        ({"TELEGRAM_API_ROOT": EVIL, "DATABASE_URL": "postgresql:///telewarm"}, {}),
        ({"TELEWARM_PROXY": "http://evil.example.org:3128"}, {}),
        ({"TELEWARM_PROXY": "evil.example.org:3128"}, {}),
        ({"https_proxy": EVIL}, {}),
        ({"ALL_PROXY": "http://192.0.2.1:8080"}, {}),
        ({"S3_ENDPOINT": EVIL}, {"S3_SECRET_ACCESS_KEY": "secret", "S3_ACCESS_KEY_ID": "id", "S3_BUCKET": "media"}),
    ],
)
def test_a_file_here_sends_the_tokens_of_other_bots_nowhere(
    home: Path, values: dict[str, str], environ: dict[str, str]
) -> None:
    Path("link").symlink_to(home)
    here = written(Path(".env"), **values)
    ended = run("bot", "list", **environ)
    assert isinstance(ended.exception, SettingsError)
    [redirect] = [name for name in values if name not in {"TELEWARM_DATA", "ENCRYPTION_KEY", "DATABASE_URL"}]
    assert ended.exception.message.startswith(f"{here.absolute()} sets {redirect}, ")
    assert f"--env-file {here.absolute()}" in ended.exception.message
    assert not Path("data").exists()
    given = run("--env-file", ".env", "env", **environ)  # whoever names it means it
    assert f"Settings file: {here.absolute()}" in given.stdout


@pytest.mark.parametrize("linked", ["encryption.key", "postgres", "postgres/cluster"])
def test_a_data_folder_beside_a_file_holds_its_own_key_and_no_link_to_anothers(
    home: Path, tmp_path: Path, linked: str
) -> None:
    there = tmp_path / "theirs"
    there.mkdir()
    link = Path("data", linked)
    link.parent.mkdir(parents=True)
    link.symlink_to(there / linked)
    written(Path(".env"), TELEGRAM_API_ROOT=EVIL, TELEWARM_DATA="./data")
    assert chosen(home).is_implicit
    ended = run("bot", "list")
    assert isinstance(ended.exception, SettingsError)
    assert "sets TELEGRAM_API_ROOT, where bot tokens would be sent to" in ended.exception.message
    assert list(there.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "environ"),
    [
        ({"S3_ENDPOINT": EVIL, **S3}, {}),
        ({"S3_ENDPOINT": EVIL}, {"S3_ENDPOINT": "https://s3.example.org", **S3}),
        ({"S3_ENDPOINT": "http://127.0.0.1:9000"}, S3),
        ({"ADMIN_API_TOKEN": "f3b1c0a97d4e5826", "DATABASE_URL": "postgresql://me:pw@db.example.org/telewarm"}, {}),
        ({"TELEGRAM_API_ROOT": "http://127.0.0.1:8081"}, {}),
        ({"TELEGRAM_API_ROOT": "http://localhost:8081"}, {}),
        ({"TELEGRAM_API_ROOT": "http://[::1]:8081"}, {}),
        ({"TELEGRAM_API_ROOT": "https://api.telegram.org"}, {}),
        ({"TELEGRAM_API_ROOT": "https://bots.example.org", "TELEWARM_DATA": "./data"}, {}),
        ({"TELEGRAM_API_ROOT": "https://bots.example.org", "TELEWARM_DATA": "data"}, {}),
        ({"TELEGRAM_API_ROOT": "https://bots.example.org", "ENCRYPTION_KEY": KEY}, {}),
        ({"TELEGRAM_API_ROOT": EVIL}, {"TELEGRAM_API_ROOT": "https://api.telegram.org"}),
        ({"TELEWARM_PROXY": "direct"}, {}),
    ],
)
def test_a_file_in_ones_own_project_works(home: Path, values: dict[str, str], environ: dict[str, str]) -> None:
    here = written(Path(".env"), **values)
    assert choose_settings_file(environ, named_file=None, folder=Path(), home=home).is_implicit
    check_redirects(here.absolute(), values, environ)
    shown = run("env", **environ)
    assert shown.exit_code == 0, shown.output
    assert f"Settings file: {here.absolute()}" in shown.stdout


def test_folders_in_a_file_are_relative_to_it_and_those_of_the_environment_to_where_one_is(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(home / ".env", TELEWARM_DATA="./data", TELEWARM_STORE_FOLDER="media")
    for folder in (home, home.parent):
        monkeypatch.chdir(folder)
        settings = Settings.from_environ({}, file)
        assert (settings.telewarm_data, settings.store_folder) == (home / "data", home / "media")
    assert Settings.from_environ({"TELEWARM_DATA": "here"}, file).telewarm_data == home.parent / "here"
    written(file, TELEWARM_DATA="~/data")
    assert Settings.from_environ({}, file).telewarm_data == Path.home() / "data"
    monkeypatch.chdir(home)
    assert Settings.from_environ({}, Path(".env")).telewarm_data == Path.home() / "data"


def test_env_shows_what_holds_now_and_where_it_is_from(home: Path) -> None:
    def rows(**environ: str) -> dict[str, str]:
        shown = run("env", **environ)
        assert shown.exit_code == 0, shown.output
        found, last = dict[str, str](), ""
        for _, name, _, _, now, *_ in (line.split("│") for line in shown.stdout.splitlines() if line.startswith("│")):
            last = name.strip() or last
            found[last] = found.get(last, "") + now.strip()
        return found

    default = Path("/var/lib/telewarm") if os.geteuid() == 0 else home.parents[1] / "xdg_data_home" / "telewarm"
    assert "".join(f"{default} (default)".split()) == "".join(rows()["TELEWARM_DATA"].split())
    assert "Settings file: none" in run("env").stdout
    written(Path(".env"), TELEWARM_DATA="./data", MEDIA_PREWARM_CONCURRENCY="7", ADMIN_API_TOKEN="f3b1c0a97d4e5826")
    shown = {name: now.replace(" ", "") for name, now in rows(MEDIA_PREWARM_CONCURRENCY="9").items()}
    assert shown["TELEWARM_DATA"] == f"{Path('data').absolute()}(.env)"
    assert shown["TELEWARM_STORE_FOLDER"] == f"{Path('data').absolute()}/media(default)"
    assert shown["MEDIA_PREWARM_CONCURRENCY"] == "9(environment)"
    assert shown["ADMIN_API_TOKEN"] == "set"


@pytest.mark.parametrize("form", ["pretty", "json"])
def test_a_file_that_was_found_here_is_told_beside_what_a_command_prints(home: Path, form: str) -> None:
    data = home / "data"
    here = written(Path(".env"), TELEWARM_DATA=str(data), TELEWARM_LOG_FORMAT=form)
    ended = run("token", "show")
    assert ended.stdout == f"{(data / 'api.token').read_text()}\n"
    line = ended.stderr.splitlines()[0]
    if form == "json":
        assert json.loads(line) == {
            "event": "settings",
            "level": "info",
            "file": str(here.absolute()),
            "data": str(data),
        }
    else:
        assert line == f"settings: {here.absolute()}, data: {data}"
    assert "settings:" not in run("--env-file", str(here), "token", "show").stderr
