"""The AWS CLI against the whole lab: its process, a real machine, real disks."""

from pathlib import Path

import pytest

from drtest.lab import control

from .api.test_clients import Cli, life

pytestmark = pytest.mark.lab


def test_the_aws_cli_takes_a_real_machine_through_its_life(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    lab = control.up(folder=folder)
    try:
        aws = Cli(endpoint=lab.endpoint, access_key=lab.access_key, secret_key=lab.secret_key, home=tmp_path)
        life(aws, image=lab.images["linux"], subnet=lab.subnet)
    finally:
        control.down(folder)
