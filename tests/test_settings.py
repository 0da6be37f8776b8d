"""Settings: read once from a mapping, refused with name, problem and example, never echoed."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import traceback
from pathlib import Path

import pytest
import typer
from dotenv import dotenv_values
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError
from typer.testing import CliRunner, Result

from telewarm.cli import env
from telewarm.component_config import proxy, secret_values
from telewarm.errors import SettingsError
from telewarm.settings import EnvVar, Settings, variables
from telewarm.settings.checks import EXAMPLE_KEYS, EXAMPLE_TOKENS, GENERATE_COMMAND

CANARY = "c4n4ry-s3cr3t"
R2 = {
    "R2_ACCOUNT_ID": "account",
    "R2_ACCESS_KEY_ID": "key",
    "R2_SECRET_ACCESS_KEY": CANARY,
    "R2_BUCKET": "media",
}
S3 = {
    "S3_ENDPOINT": "http://127.0.0.1:8333/",
    "S3_BUCKET": "media",
    "S3_ACCESS_KEY_ID": "key",
    "S3_SECRET_ACCESS_KEY": CANARY,
}
NAMES = [variable.name for variable in variables()]
DOCS = Path(__file__).parents[1] / "docs" / "settings.md"


def read(**environ: str) -> Settings:
    return Settings.from_environ(environ, None)


def refusal(**environ: str) -> str:
    """The error's text, after a look at all of its traceback for the values."""
    with pytest.raises(SettingsError) as caught:
        read(**environ)
    reported = "".join(traceback.format_exception(caught.value))
    assert CANARY not in reported
    return caught.value.message


def test_without_anything_set_the_defaults_of_the_node_system_hold() -> None:
    settings = read()
    assert settings.media_prewarm_concurrency == 5
    assert settings.media_prewarm_max_queue == 500
    assert settings.media_prewarm_interval_ms == 2000
    assert settings.media_prewarm_retry_weak_id == 0
    assert settings.telegram_api_root == "https://api.telegram.org"
    assert settings.database_url is None
    assert settings.object_storage is None


def test_the_data_folder_is_roots_own_or_in_the_users_data_home() -> None:
    folder = read().telewarm_data
    assert folder.is_absolute()
    assert (folder == Path("/var/lib/telewarm")) == (os.geteuid() == 0)
    assert read(TELEWARM_DATA="~/warm").telewarm_data == Path.home() / "warm"
    assert read(TELEWARM_DATA="/data").store_folder == Path("/data/media")
    assert read(TELEWARM_DATA="/data", TELEWARM_STORE_FOLDER="/media").store_folder == Path("/media")


def test_the_environment_wins_over_the_file_and_empty_is_not_set(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text('MEDIA_PREWARM_CONCURRENCY=7\nTELEWARM_RETRY_LIMIT=3\nADMIN_API_TOKEN="pa$$word-${HOME}-0123"\n')
    settings = Settings.from_environ({"TELEWARM_RETRY_LIMIT": "4", "MEDIA_PREWARM_MAX_QUEUE": ""}, file)
    assert settings.media_prewarm_concurrency == 7
    assert settings.telewarm_retry_limit == 4
    assert settings.media_prewarm_max_queue == 500
    assert settings.admin_api_token is not None
    assert settings.admin_api_token.get_secret_value() == "pa$$word-${HOME}-0123"


def test_a_missing_file_is_no_file_and_a_broken_one_is_named(tmp_path: Path) -> None:
    assert Settings.from_environ({}, tmp_path / "none") == read()
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"\.env cannot be read"):
        Settings.from_environ({}, tmp_path / ".env")


def test_nothing_but_the_given_mapping_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIA_PREWARM_CONCURRENCY", "9")
    assert read().media_prewarm_concurrency == 5


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        read().media_prewarm_concurrency = 6


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("MEDIA_PREWARM_CONCURRENCY", "0", "must be greater than or equal to 1"),
        ("MEDIA_PREWARM_CONCURRENCY", "101", "must be less than or equal to 100"),
        ("MEDIA_PREWARM_CONCURRENCY", "five", "must be a valid integer"),
        ("TELEGRAM_API_LOCAL", "perhaps", "must be a valid boolean"),
        ("TELEWARM_LOG_FORMAT", "xml", "must be 'auto', 'pretty' or 'json'"),
        ("TELEWARM_ON_COLD", "never", "must be 'upload', 'wait' or 'fail'"),
        ("TELEWARM_FETCH_PORTS", "8080,http", "must be numbers of ports, 1 to 65535"),
        ("TELEWARM_FETCH_PORTS", "65536", "must be numbers of ports, 1 to 65535"),
        ("TELEWARM_SPOOL_BYTES", "plenty", "must be a number of bytes, or one with KiB, MiB or GiB"),
        ("TELEWARM_SPOOL_BYTES", "5", "must be greater than or equal to 1048576"),
        ("TELEWARM_FLOOD_BOT_PER_SECOND", "nan", "must be a finite number"),
        ("TELEWARM_FLOOD_GROUP_PER_MINUTE", "0", "must be greater than 0"),
        ("TELEGRAM_API_ROOT", "api.telegram.org", "must begin with http:// or https:// and a host"),
        ("TELEGRAM_API_ROOT", f"https://user:{CANARY}@host", "must not hold a user or a password"),
        ("TELEGRAM_API_ROOT", f"https://api.telegram.org/bot123456789:{CANARY}", "must end before /bot and the token"),
        ("TELEGRAM_API_ROOT", "https://host/tg/bot", "must end before /bot and the token"),
        ("TELEGRAM_API_ROOT", "https://host?x=1", "must not have a query or a fragment"),
        ("DATABASE_URL", f"mysql://user:{CANARY}@host/db", "is for MySQL: Telewarm needs PostgreSQL"),
        ("DATABASE_URL", f"prisma://{CANARY}", "is for Prisma's own proxy"),
        ("DATABASE_URL", f"{CANARY}@host/db", "must begin with postgresql://"),
        ("DATABASE_URL", f"postgresql://u:{CANARY}@host/db?sslmode=maybe", "has an sslmode that there is not"),
        ("DATABASE_URL", f"postgresql://u:{CANARY}@h/d?sslrootcert=/none", "download your provider's certificate"),
        ("S3_BUCKET", "my media", "must be a bucket's name alone"),
        ("S3_BUCKET", "https://host/media", "must be a bucket's name alone"),
        ("R2_BUCKET", "mídia", "must be a bucket's name alone"),
        ("S3_ACCESS_KEY_ID", "AK IA", "neither blanks nor characters outside of ASCII"),
        ("S3_ACCESS_KEY_ID", '"AKIA"', "has quotes around it"),
        ("R2_SECRET_ACCESS_KEY", f"{CANARY}é", "neither blanks nor characters outside of ASCII"),
        ("S3_REGION", "eu central", "neither blanks nor characters outside of ASCII"),
        ("TELEWARM_PROXY", f"ftp://user:{CANARY}@host", "must be a proxy such as http://"),
        ("DATABASE_URL", f"postgresql://user:{CANARY}/1@host/db", "special characters in it must be percent-encoded"),
        ("DATABASE_URL", f"postgresql://user:{CANARY}#1@host/db", "special characters in it must be percent-encoded"),
        ("R2_ACCOUNT_ID", "https://account", "must have nothing but letters, digits and hyphens"),
    ],
)
def test_a_wrong_value_is_refused_with_name_problem_and_example(name: str, value: str, problem: str) -> None:
    reported = refusal(**{name: value})
    assert reported.startswith(f"{name} ")
    assert problem in reported
    assert f"for example {name}=" in reported


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("ADMIN_API_TOKEN", CANARY, "must have at least 16 characters"),
        ("ADMIN_API_TOKEN", f"{CANARY} {CANARY}", "must have neither spaces"),
        ("ENCRYPTION_KEY", CANARY, "must have exactly 64 hex digits"),
        ("ENCRYPTION_KEY", "0" * 64, "is an example"),
        *(("ENCRYPTION_KEY", key.upper(), "is an example") for key in EXAMPLE_KEYS),
        *(("ADMIN_API_TOKEN", token, "is an example") for token in EXAMPLE_TOKENS),
    ],
)
def test_a_wrong_secret_is_refused_with_the_command_that_makes_one_and_no_example(
    name: str, value: str, problem: str
) -> None:
    reported = refusal(**{name: value})
    assert reported.startswith(f"{name} {problem}")
    assert reported.endswith(f": make one with `{GENERATE_COMMAND}`")
    assert f"{name}=" not in reported
    assert value not in reported


@pytest.mark.parametrize(
    "token",
    [
        "aaaaaaaaaaaaaaaa",
        "A_LONG_RANDOM_TEXT",
        "a-long-random-text-2",
        "Um-Texto-Longo-E-Aleatorio!",
        "abababababababab",
        "hunter2hunter2hunter2",
        "0123456789abcdef",
        "1234567890123456",
        "zyxwvutsrqponmlk",
        "qwertyuiopasdfgh",
        "change-me-change-me",
        "my-secret-api-token",
        "SuperSecretPassword1",
        "your-token-here-please",
        "xxxxxxxxxxxxxxxxxxxx",
    ],
)
def test_a_token_that_anybody_would_try_is_refused(token: str) -> None:
    assert refusal(ADMIN_API_TOKEN=token).endswith(f": make one with `{GENERATE_COMMAND}`")


@given(st.binary(min_size=32, max_size=32).map(lambda seed: hashlib.sha256(seed).digest()))
def test_whatever_is_drawn_at_random_is_taken(drawn: bytes) -> None:
    for token in (drawn.hex(), base64.urlsafe_b64encode(drawn).decode(), str(int.from_bytes(drawn)), drawn[:8].hex()):
        assert read(ADMIN_API_TOKEN=token).admin_api_token is not None
    assert read(ENCRYPTION_KEY=drawn.hex()).encryption_key is not None


def test_the_documentation_publishes_no_token_that_would_be_taken() -> None:
    root = DOCS.parents[1]
    pages = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("examples/*")]
    assert len(pages) > 20
    for page in pages:
        for token in re.findall(r"(?:ADMIN_API_TOKEN=|Bearer )([\w.-]{8,})", page.read_text()):
            assert refusal(ADMIN_API_TOKEN=token), page


def test_every_problem_is_told_at_once() -> None:
    reported = refusal(
        MEDIA_PREWARM_CONCURRENCY="0", TELEWARM_DATABASE_POOL="x", TELEWARM_RETRY_LIMITS="3"
    ).splitlines()
    assert [line.split()[0] for line in reported] == [
        "Unknown",
        "TELEWARM_DATABASE_POOL",
        "MEDIA_PREWARM_CONCURRENCY",
    ]


def test_a_misspelt_name_is_refused_and_a_foreign_one_is_not_ours_to_judge() -> None:
    assert refusal(MEDIA_PREWARM_CONCURENCY="7") == (
        "Unknown setting MEDIA_PREWARM_CONCURENCY. Did you mean MEDIA_PREWARM_CONCURRENCY?"
    )
    assert read(MEDIA_PREWARM_LEGACY_MODE="1", PATH="/bin") == read()


@given(st.sampled_from(NAMES), st.text(min_size=20, alphabet=st.characters(blacklist_categories=["Cs"])))
def test_no_error_repeats_a_value(name: str, value: str) -> None:
    assume(all(value not in variable.example for variable in variables()))  # of which it also takes some
    secret = next(variable.secret for variable in variables() if variable.name == name)
    try:
        reported = repr(read(**{name: value})) if secret else ""
    except SettingsError as error:
        reported = "".join(traceback.format_exception(error))
    assert value not in reported


@pytest.mark.parametrize(("group", "optional"), [(R2, set()), (S3, {"S3_ENDPOINT"})])
def test_a_store_that_is_half_set_is_refused_and_names_what_is_missing(
    group: dict[str, str], optional: set[str]
) -> None:
    for missing in set(group) - optional:
        reported = refusal(**{name: value for name, value in group.items() if name != missing})
        assert f"{missing} missing; for example {missing}=" in reported
    for name, value in group.items():
        assert "is only partly set" in refusal(**{name: value})


def test_two_stores_are_refused() -> None:
    assert "R2_* and S3_* are both set" in refusal(**R2, **S3)


def test_r2_and_s3_become_one_sort_of_value() -> None:
    r2, s3 = read(**R2).object_storage, read(**S3).object_storage
    assert r2 is not None
    assert s3 is not None
    assert (r2.endpoint, r2.region, r2.bucket) == ("https://account.r2.cloudflarestorage.com", "auto", "media")
    assert (s3.endpoint, s3.region, s3.path_style) == ("http://127.0.0.1:8333", "us-east-1", True)
    assert r2.secret_access_key.get_secret_value() == CANARY
    assert CANARY not in repr(r2) + repr(read(**R2))
    amazon = read(**{**S3, "S3_ENDPOINT": "", "S3_REGION": "eu-central-1"}).object_storage
    assert amazon is not None
    assert amazon.endpoint == "https://s3.eu-central-1.amazonaws.com"


def test_the_largest_upload_is_the_servers_unless_said_otherwise() -> None:
    assert read().max_upload_bytes == 50 << 20
    assert read(TELEGRAM_API_LOCAL="true").max_upload_bytes == 2000 << 20
    assert read(TELEWARM_MAX_UPLOAD_BYTES="20MiB").max_upload_bytes == 20 << 20


def test_the_shortest_retry_wait_is_not_above_the_longest() -> None:
    assert "must not be above TELEWARM_RETRY_MAX_MS" in refusal(TELEWARM_RETRY_BASE_MS="10", TELEWARM_RETRY_MAX_MS="9")


@pytest.mark.parametrize("variable", variables(), ids=NAMES)
def test_every_variable_is_explained_and_its_example_is_right(variable: EnvVar) -> None:
    assert variable.default
    assert variable.advice.endswith(".")
    if not variable.example:  # or somebody would take it for a secret of their own
        assert variable.secret
        assert f"Make one with `{GENERATE_COMMAND}`" in variable.advice
        return
    others = R2 if variable.name.startswith("R2_") else S3 if variable.name.startswith("S3_") else {}
    read(**{**others, variable.name: variable.example})


def test_the_dotenv_template_has_every_variable_and_sets_none(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(env.dotenv_template())
    assert dotenv_values(file) == {}
    file.write_text("\n".join(line.removeprefix("#") for line in file.read_text().splitlines() if "# " not in line))
    assert list(dotenv_values(file)) == NAMES


def test_the_settings_page_of_the_docs_is_up_to_date() -> None:
    assert DOCS.read_text() == env.markdown_page(), "run: telewarm env --markdown > docs/settings.md"


def show(folder: Path, environ: dict[str, str]) -> Result:
    """What `telewarm env` prints in a folder without `.env` when these are set."""
    app = typer.Typer()
    app.command()(env.env)
    with contextlib.chdir(folder):
        return CliRunner(env=environ).invoke(app, [])


def test_telewarm_env_shows_every_variable_and_no_secret(tmp_path: Path) -> None:
    shown = show(tmp_path, {**R2, "MEDIA_PREWARM_CONCURRENCY": "17"})
    assert shown.exit_code == 0
    rows = {row[1]: row for row in (line.split() for line in shown.stdout.splitlines()) if len(row) > 1}
    assert set(NAMES) <= set(rows)
    assert "17" in rows["MEDIA_PREWARM_CONCURRENCY"]
    assert "set" in rows["R2_SECRET_ACCESS_KEY"]
    assert "not" not in rows["R2_SECRET_ACCESS_KEY"]
    assert CANARY not in shown.output


def test_telewarm_env_with_a_wrong_value_shows_no_value_at_all(tmp_path: Path) -> None:
    shown = show(tmp_path, {"TELEGRAM_API_ROOT": f"https://user:{CANARY}@host"})
    assert shown.exit_code == 1
    assert "TELEGRAM_API_ROOT must not hold a user or a password" in shown.stdout
    assert CANARY not in shown.output


@pytest.mark.parametrize("around", ["{0} ", " {0}\n", "\t{0}\r\n", "\u00a0{0}\u200b", "\ufeff{0}"])
def test_blanks_and_line_ends_around_any_value_do_not_count(around: str) -> None:
    urls = {
        "DATABASE_URL": "postgresql://u:p@h/d",
        "TELEGRAM_API_ROOT": "http://host/tg",
        "ENCRYPTION_KEY": "0a1b" * 16,
    }
    plain = {**S3, **urls, "MEDIA_PREWARM_CONCURRENCY": "7", "TELEGRAM_API_LOCAL": "true"}

    assert read(**{name: around.format(value) for name, value in plain.items()}) == read(**plain)
    assert read(S3_BUCKET=around.format(""), TELEWARM_DATA="/d") == read(TELEWARM_DATA="/d")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("TELEWARM_LOG_LEVEL: info\n", 1),
        ("# a comment\n\nS3_BUCKET=media\nTELEWARM_LOG_LEVEL: info\nR2_BUCKET=x\n", 4),
        ("A=1\nTELEWARM_LOG_LEVEL\n", 2),
        ("A=1\n\n= 2\n", 3),
    ],
)
def test_a_line_of_the_file_that_sets_nothing_is_named(tmp_path: Path, text: str, line: int) -> None:
    file = tmp_path / ".env"
    file.write_text(text)

    with pytest.raises(SettingsError, match=rf"\.env line {line}: write NAME=value"):
        Settings.from_environ({}, file)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        # Neon, its psql command, Heroku, Azure and DigitalOcean, Supabase, RDS behind libpq's own keep-alives
        ("postgresql://u:p@x.neon.tech/db?sslmode=require&channel_binding=require",
         "postgresql://u:p@x.neon.tech/db?sslmode=require"),
        ("psql 'postgresql://u:p@h/db?sslmode=require&channel_binding=require'", "postgresql://u:p@h/db?sslmode=require"),
        ("postgres://u:p@h.compute.amazonaws.com:5432/db", "postgres://u:p@h.compute.amazonaws.com:5432/db"),
        ("postgresql://u:p@h:25060/db?sslmode=require", "postgresql://u:p@h:25060/db?sslmode=require"),
        ("postgresql://u:p@h:5432/db?pgbouncer=true&connection_limit=1", "postgresql://u:p@h:5432/db"),
        ("postgresql://u:p@h/db?connect_timeout=10&keepalives=1&application_name=x", "postgresql://u:p@h/db"),
        ("postgresql://u:p@h/db?target_session_attrs=read-write", "postgresql://u:p@h/db?target_session_attrs=read-write"),
        ("postgresql://u:p@h/db?options=endpoint%3Dep-x", "postgresql://u:p@h/db?options=endpoint%3Dep-x"),
        ("postgresql://u:p@h/db?schema=app", "postgresql://u:p@h/db?options=-c%20search_path%3Dapp"),
        ("jdbc:postgresql://h/db?user=u&password=p&ssl=true", "postgresql://h/db?user=u&password=p&sslmode=require"),
        ("postgresql+asyncpg://u:p@h/db", "postgresql://u:p@h/db"),
        ("postgres+psycopg2://u:p@h/db?sslmode=no-verify", "postgres://u:p@h/db?sslmode=require"),
        ("postgresql://u:p@a:1,b:2/db", "postgresql://u:p@a:1,b:2/db"),
        ("DATABASE_URL=\"postgresql://u:p@h/db\"", "postgresql://u:p@h/db"),
        ("postgresql://u:p%40%2F@h/db?host=/run/pg&port=5433", "postgresql://u:p%40%2F@h/db?host=/run/pg&port=5433"),
    ],
)  # fmt: skip
def test_a_database_url_is_taken_as_consoles_and_other_libraries_write_it(given: str, kept: str) -> None:
    url = read(DATABASE_URL=given).database_url

    assert url is not None
    assert url.get_secret_value() == kept


@pytest.mark.parametrize(
    ("given", "hidden"),
    [
        (f"postgresql://u:{CANARY}@h/db", {CANARY}),
        (f"postgresql://h/db?user=u&password={CANARY}", {CANARY}),
        (f"postgresql://u:{CANARY}%40@h/db?sslpassword=two-words", {f"{CANARY}%40", f"{CANARY}@", "two-words"}),
        (f"jdbc:postgresql://h/db?password={CANARY}%40", {f"{CANARY}%40", f"{CANARY}@"}),
    ],
)
def test_every_password_of_a_database_url_is_known_as_a_secret(given: str, hidden: set[str]) -> None:
    assert set(secret_values(read(DATABASE_URL=given))) == hidden


@pytest.mark.parametrize(
    ("environ", "used"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://p:3128"}, "http://p:3128"),
        ({"https_proxy": "http://low:1", "HTTPS_PROXY": "http://high:1"}, "http://low:1"),
        ({"ALL_PROXY": "p:3128"}, "http://p:3128"),
        ({"HTTP_PROXY": "http://p:3128"}, None),
        ({"HTTP_PROXY": "http://p:3128", "TELEGRAM_API_ROOT": "http://bots.lan:8081"}, "http://p:3128"),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "api.telegram.org"}, None),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "localhost, .telegram.org"}, None),
        ({"HTTPS_PROXY": "http://p:3128", "no_proxy": "*"}, None),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "gram.org"}, "http://p:3128"),
        ({"HTTP_PROXY": "http://p:1", "TELEGRAM_API_ROOT": "http://10.1.2.3:8081", "NO_PROXY": "10.0.0.0/8"}, None),
        ({"HTTPS_PROXY": "http://p:3128", "TELEWARM_PROXY": "http://u:w@own:1"}, "http://u:w@own:1"),
        ({"HTTPS_PROXY": "http://p:3128", "TELEWARM_PROXY": "direct"}, None),
        ({"ALL_PROXY": "socks5://p:1080", "TELEWARM_PROXY": "direct"}, None),
    ],
)
def test_the_proxy_is_our_own_or_the_machines(environ: dict[str, str], used: str | None) -> None:
    assert proxy(read(**environ)) == used


@pytest.mark.parametrize("name", ["TELEWARM_PROXY", "ALL_PROXY", "HTTPS_PROXY"])
def test_a_socks_proxy_is_refused_with_the_cure(name: str) -> None:
    reported = refusal(**{name: f"socks5h://u:{CANARY}@127.0.0.1:1080"})

    assert "is a SOCKS proxy" in reported
    assert "direct" in reported


@pytest.mark.parametrize(
    "endpoint", ["https://account.r2.cloudflarestorage.com/media", "https://media.s3.amazonaws.com"]
)
def test_an_endpoint_that_has_the_bucket_in_it_is_refused(endpoint: str) -> None:
    assert "S3_ENDPOINT has the bucket's name in it" in refusal(**{**S3, "S3_ENDPOINT": endpoint})


def test_servers_may_be_below_a_path() -> None:
    settings = read(
        **{**S3, "S3_ENDPOINT": "https://x.supabase.co/storage/v1/s3"}, TELEGRAM_API_ROOT="https://host/tg/"
    )

    assert settings.object_storage is not None
    assert settings.object_storage.endpoint == "https://x.supabase.co/storage/v1/s3"
    assert settings.telegram_api_root == "https://host/tg"
