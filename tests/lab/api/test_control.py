"""Up, status and down: one process, its folder, and what is left of it. No image and no machine is needed here."""

import http.client
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest

from drtest.errors import EnvironmentFailedError
from drtest.lab import control
from drtest.lab.folder import LabFolder, LabStatus

from .conftest import until


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "lab"
    yield place
    control.down(place)


def _client(lab: LabStatus) -> Any:
    return boto3.client(
        "ec2",
        region_name=lab.region,
        endpoint_url=lab.endpoint,
        aws_access_key_id=lab.access_key,
        aws_secret_access_key=lab.secret_key,
    )


def _dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_lab_comes_up_answers_and_goes_down_without_a_trace(folder: Path) -> None:
    assert control.status(folder) is None
    lab = control.up(folder=folder, images=())
    ec2 = _client(lab)
    key = ec2.describe_key_pairs(KeyNames=[lab.key_name], IncludePublicKey=True)["KeyPairs"][0]
    assert key["KeyType"] == "ed25519"
    (subnet,) = ec2.describe_subnets(SubnetIds=[lab.subnet])["Subnets"]
    assert subnet["AvailabilityZone"] == lab.zone
    assert lab.endpoint.startswith("http://127.0.0.1:")
    assert (lab.accelerator, lab.machines) == ("tcg", ())
    stopped = control.down(folder)
    assert any(str(lab.pid) in sentence for sentence in stopped)
    assert _dead(lab.pid)
    assert control.status(folder) is None
    assert control.down(folder) == []
    assert not (folder / "disks").exists()


def test_the_folder_and_its_secrets_are_the_owner_s_alone(folder: Path) -> None:
    lab = control.up(folder=folder, images=())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in (folder / "lab.json", lab.key_file, folder / "lab.log"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_two_labs_have_different_keys(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    first, second = control.up(folder=folder, images=()), control.up(folder=other, images=())
    try:
        assert first.access_key != second.access_key
        assert first.key_file.read_text() != second.key_file.read_text()
    finally:
        control.down(other)


def test_up_twice_is_one_lab(folder: Path) -> None:
    first = control.up(folder=folder, images=())
    assert control.up(folder=folder, images=()) == first == control.status(folder)


def test_two_who_bring_it_up_at_once_get_one_lab(folder: Path) -> None:
    found: list[LabStatus] = []
    threads = [
        threading.Thread(target=lambda: found.append(control.up(folder=folder, images=()))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({lab.pid for lab in found}) == 1


def test_the_status_goes_through_json(folder: Path) -> None:
    lab = control.up(folder=folder, images=())
    assert LabStatus.from_json(json.loads(json.dumps(lab.to_json()))) == lab


def test_a_lab_that_nobody_asks_ends_by_itself(folder: Path) -> None:
    lab = control.up(folder=folder, images=(), idle_minutes=0.05)
    until(lambda: control.status(folder) is None, seconds=20)
    until(lambda: _dead(lab.pid))
    assert not (folder / "books.sqlite").exists()


def test_a_killed_lab_comes_back_as_it_was(folder: Path) -> None:
    lab = control.up(folder=folder, images=())
    ec2 = _client(lab)
    volume = ec2.create_volume(AvailabilityZone=lab.zone, Size=1)["VolumeId"]
    until(lambda: ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available")
    group = ec2.create_security_group(GroupName="g", Description="d")["GroupId"]
    password = lab.password_file.read_text()
    os.kill(lab.pid, signal.SIGKILL)
    until(lambda: control.status(folder) is None)
    again = control.up(folder=folder, images=())
    assert again.pid != lab.pid
    assert again.password_file.read_text() == password
    assert (again.endpoint, again.access_key, again.subnet) == (lab.endpoint, lab.access_key, lab.subnet)
    assert again.key_file.read_text() == lab.key_file.read_text()
    assert ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available"
    assert ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["GroupName"] == "g"
    assert again.lost == ()


def test_down_works_when_the_lab_is_dead(folder: Path) -> None:
    lab = control.up(folder=folder, images=())
    os.kill(lab.pid, signal.SIGKILL)
    until(lambda: control.status(folder) is None)
    assert control.down(folder)
    assert not (folder / "books.sqlite").exists()
    assert not lab.key_file.exists()


def test_down_kills_a_lab_that_does_not_listen(folder: Path) -> None:
    lab = control.up(folder=folder, images=())
    os.kill(lab.pid, signal.SIGSTOP)
    stopped = control.down(folder, deadline=0.5)
    assert any("killed" in sentence for sentence in stopped)
    assert _dead(lab.pid)


def test_a_lab_that_does_not_answer_is_told_from_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = control.up(folder=folder, images=())
    place = LabFolder(folder)
    found = place.read_status()
    assert found is not None
    place.write_status(LabStatus.from_json({**found.to_json(), "endpoint": "http://127.0.0.1:1"}))
    with pytest.raises(EnvironmentFailedError, match="does not answer"):
        control.status(folder)
    place.write_status(lab)


def test_a_lab_that_can_not_start_says_why(folder: Path) -> None:
    LabFolder(folder).make()
    (folder / "books.sqlite").write_text("this is no database, and it is long enough to be seen as none")
    with pytest.raises(EnvironmentFailedError, match="file is not a database"):
        control.up(folder=folder, images=())


def test_a_folder_with_other_things_in_it_is_left_alone(folder: Path) -> None:
    (folder / "disks").mkdir(parents=True)
    folder.chmod(0o755)
    with pytest.raises(EnvironmentFailedError, match="no lab's folder"):
        control.up(folder=folder, images=())
    assert control.down(folder) == []
    assert (folder / "disks").exists()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_a_second_process_is_not_the_lab(folder: Path) -> None:
    control.up(folder=folder, images=())
    command = [sys.executable, "-m", "drtest.lab.daemon", "--folder", str(folder), "--accelerator", "tcg"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 4
    assert "another process is the lab" in second.stderr


def test_only_the_owner_may_use_the_lab_s_own_door(folder: Path) -> None:
    lab = control.up(folder=folder, images=())
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(lab.endpoint).port, timeout=10)
    connection.request("POST", "/drtest-lab/status", headers={"Authorization": "Bearer guessed"})
    assert connection.getresponse().status == 401
    connection.close()
