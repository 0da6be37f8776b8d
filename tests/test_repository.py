"""Files of the repository around the code: workflows, and the links of the documentation."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PAGES = sorted(
    path
    for folder in (".", ".github", "docs", "docs/decisions", "benchmarks", "examples")
    for path in (ROOT / folder).glob("*.md")
)
USES = re.compile(r"^\s*(?:- )?uses:\s*(.+)$", re.MULTILINE)
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_a_full_commit_with_its_version_beside_it(path: Path) -> None:
    used = USES.findall(path.read_text(encoding="utf-8"))
    assert used
    assert [one for one in used if not PINNED.fullmatch(one)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_no_permissions_but_those_that_a_job_names(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "\npermissions: {}\n" in text
    assert text.count("\n    permissions:\n") == text.count("\n    runs-on: ")


def test_an_action_has_the_same_commit_in_every_workflow() -> None:
    used = {one for path in WORKFLOWS for one in USES.findall(path.read_text(encoding="utf-8"))}
    assert len(used) == len({one.partition("@")[0] for one in used})


def test_the_tests_run_on_every_python_that_the_package_claims() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    claimed = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    tested = re.search(r"python: (\[.*\])\n    steps:(?s:.*?)make test\n", text)
    assert tested is not None
    assert re.findall(r"3\.\d+", tested[1]) == claimed


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_to_a_file_of_the_repository_has_that_file(path: Path) -> None:
    links = LINK.findall(CODE.sub("", path.read_text(encoding="utf-8")))
    files = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    assert [file for file in files if not (path.parent / file).exists()] == []
