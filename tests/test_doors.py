"""What is behind both doors: which images a plan needs of the lab, and what is refused before anything is created."""

from pathlib import Path

import pytest

from drtest.doors import lab_images, load_plan
from drtest.errors import UsageError

SCENARIOS = Path(__file__).parents[1] / "scenarios"


def written(folder: Path, *, servers: str, captures: str = "[running]") -> Path:
    file = folder / "some.drill.yaml"
    file.write_text(f"drill: some\ntitle: A question?\nservers: [{servers}]\ncaptures: {captures}\n")
    return file


def images(file: Path) -> tuple[str, ...]:
    return lab_images([load_plan(file, target="lab", config=None)])


def test_a_windows_server_needs_a_helper_of_another_image_in_the_lab() -> None:
    assert images(SCENARIOS / "first.drill.yaml") == ("linux",)
    assert images(SCENARIOS / "windows-root-volume.drill.yaml") == ("linux", "windows", "windows-helper")


def test_an_image_of_the_users_own_is_needed_besides_those_of_scratch_and_helper(tmp_path: Path) -> None:
    file = written(tmp_path, servers="{name: web, os: linux, launch: {image: golden}}")
    assert images(file) == ("golden", "linux")


@pytest.mark.parametrize(("os", "capture"), [("linux", "frozen"), ("windows", "vss")])
def test_a_capture_that_can_not_be_carried_out_is_refused_by_name(
    os: str, capture: str, tmp_path: Path
) -> None:
    server = f"{{name: web, os: {os}, launch: {{image: {os}}}}}"
    file = written(tmp_path, servers=server, captures=f"[running, {capture}]")
    with pytest.raises(UsageError, match=f"can't carry this out yet: capture {capture}") as refusal:
        load_plan(file, target="lab", config=None)
    assert "running, stopped and existing" in refusal.value.remedy
