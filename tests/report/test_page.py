"""The consistency report: one file, made of the run's folder alone, in which a guest's words stay words."""

import ast
import base64
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from drtest import report
from drtest.errors import DrtestError
from drtest.report.cells import MOST_IMAGE_BYTES, inside
from drtest.report.page import write_report
from tests.report.sample import HOSTILE, bad_day_run, doubtful_run, first_run, screen, windows_run

VOID = {"meta", "img", "br", "link", "input", "hr", "rect", "line"}


class Page(HTMLParser):
    """What a browser makes of the page, as far as the tests ask."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if not (self.open and self.open[-1] == "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def values(self, name: str) -> list[str]:
        return [value for _, known, value in self.attributes if known == name]


@pytest.fixture(
    scope="module", params=[windows_run, first_run, bad_day_run], ids=["windows", "first", "bad-day"]
)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Callable[[Path], Path] = request.param
    return made(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return windows_run(tmp_path_factory.mktemp("windows") / "run")


@pytest.fixture(scope="module")
def bad_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bad_day_run(tmp_path_factory.mktemp("bad") / "run")


def page_of(run: Path) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


def test_it_is_one_file_that_asks_nobody_for_anything(run: Path) -> None:
    page = page_of(run)
    assert page.tags["script"] == page.tags["link"] == page.tags["iframe"] == 0
    assert all(source.startswith("data:image/") for source in page.values("src"))
    assert all(target.startswith("#") for target in page.values("href"))
    assert "default-src 'none'" in " ".join(page.values("content"))
    html = (run / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(", html)


def test_it_is_well_formed_and_each_link_leads_somewhere(run: Path) -> None:
    page = page_of(run)
    assert not page.wrong
    assert not page.open
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {target[1:] for target in page.values("href")} <= set(ids)
    assert page.values("href")


def test_the_same_folder_gives_the_same_report(run: Path, tmp_path: Path) -> None:
    before = (run / "report.html").read_bytes()
    copy = tmp_path / "elsewhere"
    shutil.copytree(run, copy)
    (copy / "report.html").unlink()
    assert write_report(copy).read_bytes() == before


def test_nothing_in_it_reads_a_clock() -> None:
    for path in Path(report.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in {"now", "utcnow", "today", "time", "getenv"}, (
                    f"{path.name}:{node.lineno}"
                )


def test_it_is_for_its_owner_alone(run: Path) -> None:
    assert (run / "report.html").stat().st_mode & 0o777 == 0o600


def test_the_first_screen_says_all_before_the_first_cell(windows: Path) -> None:
    text = page_of(windows).text
    order = [
        "Are running-state snapshots of Windows root volumes usable?",
        "2 servers, 4 volumes, captured running and stopped, 24 backups judged",
        "Of 8 kinds of backup tested, 7 were recoverable and 1 was not",
        "the backups are unusable all the same",
        "Know this first",
        "a stand-in, no Windows runs here",
        "a write pool of strength 1.0 acts on its root volume (seed 4711)",
        "reproduced",
        "Windows root volume (win/root): snapshots taken while the server runs are unusable",
        "3 of 3 snapshots taken running were unusable (rate 44 % to 100 %)",
        "taken running",
        "3 of 3 failed",
        "taken stopped",
        "0 of 3 failed",
        "Windows data volume (win/data): snapshots taken while the server runs are not affected",
        "no failure in 3 snapshots taken running, rate below 56 %",
        "Linux root volume (lin/root)",
        "Linux data volume (lin/data)",
        "Not recoverable",
        "3 of 3 trials failed",
        "What was found",
    ]
    text = text[text.index("Consistency report") :]
    for part in order:
        assert part in text, part
        text = text.split(part, 1)[1]


def test_an_expected_failure_is_red_and_called_not_recoverable(windows: Path) -> None:
    html = (windows / "report.html").read_text(encoding="utf-8")
    box = re.search(r'<td class="box unusable".*?</td>', html, re.S)
    assert box
    assert "Not recoverable" in box[0]
    assert "as expected" in box[0]
    assert 'class="answer unusable"' in html
    assert 'class="answer usable"' not in html


def test_each_failed_cell_shows_what_was_lost_and_what_the_machines_said(windows: Path) -> None:
    page = page_of(windows)
    assert [value for _, name, value in page.attributes if name == "class"].count("timeline") == 3
    assert "record 249, the last acknowledged before the capture" in page.text
    assert "28 missing, 1 torn" in page.text
    assert "Cluster accounting failed at 41219" in page.text
    assert "The system has been halted." in page.text
    pictures = page.values("src")
    # Two tries of each system that did not come up, and one of each that did.
    assert len(pictures) == 2 * 2 + 10
    assert base64.b64decode(pictures[0].split(",", 1)[1]).startswith(b"\xff\xd8\xff")


def test_a_failed_group_stands_before_the_others_and_names_its_circumstances(windows: Path) -> None:
    found = page_of(windows).text.split("What was found", 1)[1]
    for part in (
        "win / root, taken running",
        "System Windows 10.0.20348.0",
        "Hypervisor Amazon EC2 t3.large",
        "Storage driver oem3.inf 1.5.1.0",
        "Write cache driver's default",
        "Load 250 acknowledged records",
        "win / root, taken stopped",
    ):
        assert part in found, part
        found = found.split(part, 1)[1]


def test_each_trial_of_a_statement_leads_to_its_cell(windows: Path) -> None:
    html = (windows / "report.html").read_text(encoding="utf-8")
    block = html[html.index('<ul class="statements">') : html.index('class="matrix"')]
    assert re.findall(r'class="(\w+)" href="#(cell-[^"]+)"', block)[:6] == [
        *(("unusable", f"cell-windows-root-volume-win-root-running-{trial}") for trial in (1, 2, 3)),
        *(("usable", f"cell-windows-root-volume-win-root-stopped-{trial}") for trial in (1, 2, 3)),
    ]
    # The bar of 0 of 3: from 0 to 56 %.
    assert 'x="0.0" y="1" width="56.1"' in block


def test_results_of_an_older_version_are_still_rendered(windows: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(windows, old)
    results = json.loads((old / "results.json").read_text())
    for cell in results["cells"]:
        del cell["covariates"]
    for statement in results["statements"]:
        statement["text"] = (
            f"{statement['server']}/{statement['volume']}: snapshots taken running are unusable"
        )
    (old / "results.json").write_text(json.dumps(results))
    text = Page(write_report(old).read_text(encoding="utf-8")).text
    assert "win/root: snapshots taken running are unusable" in text
    assert "3 of 3 failed" in text
    assert "Hypervisor" not in text


def test_all_three_results_are_told_apart(tmp_path: Path) -> None:
    html = (doubtful_run(tmp_path / "run") / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'<span class="result ([\w-]+)">', html) == [
        "not-reproduced",
        "reproduced",
        "inconclusive",
        "not-reproduced",
    ]
    text = Page(html).text
    assert "the finding was not reproduced: no failure in 3 snapshots taken running, rate below 56 %" in text
    assert "1 trial came to no verdict" in text
    assert "the control arm is broken" in text
    assert "safe" not in text


def test_a_run_in_which_all_came_back_says_so_at_once(tmp_path: Path) -> None:
    text = page_of(first_run(tmp_path / "run")).text
    assert "All 6 kinds of backup tested were recoverable." in text
    assert "Know this first" not in text
    assert "nothing: all that was created is gone" in text


def test_the_record_names_who_what_and_the_hashes(windows: Path) -> None:
    text = page_of(windows).text
    head = json.loads((windows / "evidence.jsonl").read_text().splitlines()[-1])["hash"]
    for part in (
        "20261124-175121-a1b2",
        "drtest 0.1.0",
        "accelerator tcg",
        head,
        "windows-root-volume.drill.yaml",
    ):
        assert part in text


def test_what_a_guest_says_stays_text(bad_day: Path) -> None:
    html = (bad_day / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert HOSTILE[:40] in page.text  # it is shown
    assert "<script" not in html
    assert page.tags["img"] == 2 * 2  # each capture's screenshot, in the cells of root and set
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    for character in ("\x1b", "\x00", "\u202e"):
        assert character not in html


def test_a_title_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    page = page_of(bad_day_run(tmp_path / "run", title="'</title><script>x</script>'"))
    assert page.tags["script"] == 0
    assert "</title><script>x</script>" in page.text


def test_what_is_not_known_and_what_is_left_over_is_told(bad_day: Path) -> None:
    text = page_of(bad_day).text
    assert "of 3 nothing is known" in text
    assert "this is not a stopped capture" in text
    assert "Left over in the cloud" in text
    assert "vol-0d00000000000001" in text
    assert "the objective of 10 s is missed" in text


def test_an_objective_is_not_met_by_those_that_never_came_up(windows: Path) -> None:
    assert "missed in 2 trials where it never did" in page_of(windows).text


def test_the_age_of_a_snapshot_that_the_drill_made_is_held_against_nobody(windows: Path) -> None:
    page = page_of(windows)
    assert "Age of the recovery point: not judged, as the drill made its snapshots itself" in page.text
    assert "nothing was measured" not in page.text


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda run: (run / "evidence.jsonl").unlink(), "The evidence of this run is not in its folder"),
        (
            lambda run: (run / "evidence.jsonl").write_text(
                (run / "evidence.jsonl").read_text().replace('"exit": 1', '"exit": 0', 1)
            ),
            "The evidence of this run was changed after it was written: line",
        ),
    ],
)
def test_evidence_that_is_gone_or_was_changed_is_the_first_notice(
    windows: Path, tmp_path: Path, spoil: Callable[[Path], Any], says: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(windows, copy)
    spoil(copy)
    write_report(copy)
    page = page_of(copy)
    assert says in page.text
    assert page.text.index(says) < page.text.index("a stand-in, no Windows runs here")
    assert not [target for target in page.values("href") if target.startswith("#e0")]


def test_a_run_without_results_has_no_report(windows: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(windows, copy)
    (copy / "results.json").unlink()
    with pytest.raises(DrtestError, match=r"results\.json"):
        write_report(copy)


def test_a_run_whose_files_are_gone_still_has_one(windows: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(windows, copy)
    shutil.rmtree(copy / "console")
    write_report(copy)
    assert page_of(copy).tags["img"] == 0


def test_no_name_in_the_evidence_leads_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(screen("secret"))
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "fine.jpg").write_bytes(screen("fine"))
    for name in ("../secret", str(tmp_path / "secret"), "link", "", ".", "gone", "a\0b"):
        assert inside(folder, name) is None, name
    assert inside(folder, "fine.jpg")
    (folder / "large.jpg").write_bytes(b"\xff\xd8\xff" + bytes(MOST_IMAGE_BYTES))
    assert inside(folder, "large.jpg") is None


def test_what_is_no_picture_is_not_embedded(windows: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(windows, copy)
    for path in (copy / "console").glob("*.jpg"):
        path.write_bytes(b"<svg onload=alert(1)>")
    write_report(copy)
    assert page_of(copy).tags["img"] == 0


def test_a_large_console_is_cut_to_its_end(tmp_path: Path) -> None:
    run = first_run(tmp_path / "run")
    (run / "console" / "lin-running-1.txt").write_bytes(b"early\n" * 100_000 + b"the last line\n")
    write_report(run)
    html = (run / "report.html").read_text(encoding="utf-8")
    assert "the last line" in html
    assert html.count("early") < 200
    assert len(html) < 400_000
