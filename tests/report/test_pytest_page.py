"""What goes into pytest-html's page: pieces that bring their own look and leave the rest of the page alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from drtest.record.results import read
from drtest.report.pytest_page import cell_html, judgement_html, matrix_html, style
from tests.report.sample import bad_day_run, windows_run
from tests.report.test_page import Page
from tests.verdict.story import Story


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return windows_run(tmp_path_factory.mktemp("runs") / "run")


def test_the_matrix_is_a_piece_of_a_page(run: Path) -> None:
    page = Page(matrix_html(read(run / "results.json")))
    assert not page.wrong
    assert not page.open
    assert page.tags["html"] == page.tags["style"] == page.tags["a"] == 0
    for part in (
        "Not recoverable",
        "as expected",
        "a stand-in, no Windows runs here",
        "Windows root volume (win/root): snapshots taken while the server runs are unusable",
        "3 of 3 failed",
        "failure rate 44 % to 100 %",
    ):
        assert part in page.text


def test_a_cell_tells_its_verdict_reason_and_findings(run: Path) -> None:
    first = read(run / "results.json")["cells"][0]
    page = Page(cell_html(first))
    assert not page.wrong
    assert first["reason"] in page.text
    for finding in first["findings"]:
        assert finding["sentence"] in page.text


def test_a_judgement_is_shown_as_its_results_will_be() -> None:
    story = Story()
    page = Page(judgement_html(story.cell(), story.judge()))
    assert "RECOVERED" in page.text
    assert "all 250 acknowledged records" in page.text


def test_what_a_guest_says_stays_text(tmp_path: Path) -> None:
    results = read(bad_day_run(tmp_path / "run") / "results.json")
    for piece in (matrix_html(results), *(cell_html(cell) for cell in results["cells"])):
        assert "<script" not in piece
        assert Page(piece).tags["img"] == 0


def test_the_style_touches_nothing_but_its_own() -> None:
    css = re.sub(r"/\*.*?\*/", "", style(), flags=re.S)
    flat = re.sub(r"@(media|page)[^{]*\{|@page\s*\{[^}]*\}", "", css)
    selectors = [part.strip() for rule in re.findall(r"([^{}]+)\{", flat) for part in rule.split(",")]
    for selector in selectors:
        assert selector.startswith((".drtest", "body.drtest", "html:has(> body.drtest)")), selector
    assert "<" not in css


def test_it_needs_no_pytest() -> None:
    program = (
        "import sys; sys.modules['pytest'] = None; sys.modules['pytest_html'] = None\n"
        "import drtest.report.pytest_page as page; print(len(page.style()) > 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
