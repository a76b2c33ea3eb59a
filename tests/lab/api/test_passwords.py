"""The password of the Windows guests: who is told it, and who can read it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drtest.lab import lifecycle
from drtest.lab.board import MachineSpec
from drtest.lab.keys import make_password
from drtest.lab.resources import Instance

from .conftest import Site, stock_image

PASSWORD = "a secret of 1 lab"


def test_a_lab_makes_a_password_of_its_own_for_its_owner_alone_and_keeps_it(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    made = make_password(first)
    assert first.stat().st_mode & 0o777 == 0o600
    assert make_password(first) == made == first.read_text()
    assert make_password(second) != made
    assert not set(made) & set(":\r\n")  # NTLM's file of accounts gives them a meaning


@pytest.mark.parametrize(("os", "told"), [("windows", PASSWORD), ("linux", "")])
def test_windows_is_told_the_password_and_linux_is_not(site: Site, ec2: Any, os: str, told: str) -> None:
    image = stock_image(site.compute, site.account, os=os)
    made = ec2.run_instances(ImageId=image, InstanceType="t3.micro", MinCount=1, MaxCount=1)["Instances"][0]
    instance = site.compute.books.find(Instance, made["InstanceId"])
    assert instance is not None
    spec = lifecycle.spec(replace(site.compute, password=PASSWORD), instance)
    assert spec.password == told
    assert ("password" in spec.identity()) is bool(told)
    assert spec.identity().get("password", "") == (told and f"drtest.password={told}")
    assert MachineSpec.from_json(spec.to_json()) == spec
    assert PASSWORD not in repr(spec)
