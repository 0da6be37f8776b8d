"""`telewarm bench`: what the command prints, keeps and returns. Never a test of speed."""

from __future__ import annotations

import inspect
import json
import signal
from dataclasses import fields
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from telewarm.cli import app
from telewarm_benchmarks import everything
from telewarm_benchmarks.everything import Bench, Result
from telewarm_benchmarks.figures import Figure, Verdict, shown
from tests.demo.test_showcase import command

pytestmark = pytest.mark.timeout(60)  # whole programs start; mostly it takes a few seconds
WARMUP = ("bench", "warmup", "--photos", "10", "--rounds", "1", "--concurrency", "3")
MET = Figure(name="ratio", value=0.9, least=0.5, most=1.3, beside="a | b")
MISSED = Figure(name="wait", value=1234.5, unit="ms", most=1000)


async def test_the_warm_up_benchmark_measures_both_loops_and_keeps_its_figures(data_folder: Path) -> None:
    kept = data_folder / "figures.json"
    async with command(data_folder, *WARMUP, "--save", str(kept)) as bench:
        out, err = await bench.communicate()
    assert err.decode().splitlines() == ["warmup: 3 in flight: round 1 of 1"]
    found = json.loads(kept.read_text())
    missed = any(figure["verdict"] == "missed" for figure in found["figures"])
    assert bench.returncode == missed
    assert "media a second" in out.decode()
    assert found["options"] == {"photos": 10, "rounds": 1, "levels": [3]}
    assert found["machine"]["cores"]
    ratio, speed, cpu, p50, p95 = (figure["value"] for figure in found["figures"])
    assert min(ratio, speed, cpu) > 0
    assert 0 < p50 <= p95


@pytest.mark.timeout(60)  # processes start; mostly it takes five
async def test_all_of_them_leave_a_file_each_and_one_table(data_folder: Path) -> None:
    kept = data_folder / "results"
    async with command(data_folder, "bench", "all", "--small", "--only", "latency", "--save-to", str(kept)) as bench:
        out, _ = await bench.communicate()
    assert (bench.returncode, out.decode().split()[-1]) == (0, str(kept / "summary.md"))
    assert json.loads((kept / "latency.json").read_text())["bench"] == "latency"
    assert "| latency | media a second |" in (kept / "summary.md").read_text()


def test_a_slip_in_a_name_is_told_with_the_names_that_there_are() -> None:
    result = CliRunner().invoke(app, ["bench", "all", "--only", "speed"], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "no benchmark speed; there are warmup, latency" in result.output


async def test_a_terminated_benchmark_leaves_nothing_behind(data_folder: Path) -> None:
    async with command(data_folder, "bench", "fairness", "--small", TMPDIR=str(data_folder)) as bench:
        assert bench.stderr is not None
        assert (await bench.stderr.readline()).startswith(b"fairness: filling the libraries")
        started = [process for process in psutil.process_iter() if is_of(process, bench.pid, data_folder)]
        assert {"postgres", "python"} <= {process.name().rstrip("0123456789.") for process in started}
        bench.send_signal(signal.SIGTERM)
        out, err = await bench.communicate()
        assert (bench.returncode, out, err) == (128 + signal.SIGTERM, b"", b"")
    assert psutil.wait_procs(started, timeout=5)[1] == []
    assert names_in(data_folder) == []


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def is_of(process: psutil.Process, parent: int, folder: Path) -> bool:
    """Its child, or a process that works in the folder, as the database does."""
    try:
        return process.ppid() == parent or Path(process.cwd()).is_relative_to(folder)
    except psutil.Error:
        return False


@pytest.mark.parametrize("bench", everything.BENCHES, ids=lambda bench: bench.name)
def test_the_catalogue_names_sizes_that_a_benchmark_has(bench: Bench) -> None:
    measure = bench.load()
    parameters = inspect.signature(measure).parameters
    plan = everything.plan_of(measure)
    assert "report" in parameters
    assert bench.small.keys() <= (parameters.keys() if plan is None else {field.name for field in fields(plan)})
    for name, parameter in parameters.items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert (parameter.default is inspect.Parameter.empty) == (name == "report")


def test_a_figure_is_met_missed_or_has_no_target() -> None:
    bare = Figure(name="bare", value=1)
    assert [one.verdict for one in (MET, MISSED, bare)] == [Verdict.MET, Verdict.MISSED, Verdict.NONE]
    assert [one.target for one in (MET, MISSED, bare)] == ["≥ 0.5, ≤ 1.3", "≤ 1,000", ""]


def test_figures_come_back_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "flood.json"
    everything.save(path, "flood", [MET, MISSED], {"minutes": 2})
    assert everything.load(path) == Result(name="flood", figures=[MET, MISSED])
    assert everything.load(path).missed
    assert everything.load(tmp_path / "none.json") == Result(name="none", failed=True)


def test_the_summary_has_a_line_for_each_figure_and_for_each_benchmark_that_failed() -> None:
    text = everything.summary(
        [Result(name="flood", figures=[MET, MISSED]), Result(name="crash", failed=True)], small=False
    )
    assert "full size" in text
    assert text.splitlines()[-3:] == [
        "| flood | ratio | 0.9 | ≥ 0.5, ≤ 1.3 | met | a \\| b |",
        "| flood | wait | 1,234 ms | ≤ 1,000 | **missed** |  |",
        "| crash | no figures | | | **failed** | |",
    ]


@pytest.mark.parametrize(("value", "text"), [(0.98765, "0.988"), (1234.5, "1,234"), (0.0, "0"), (12.34, "12.3")])
def test_figures_are_shown_with_the_digits_that_matter(value: float, text: str) -> None:
    assert shown(value) == text
