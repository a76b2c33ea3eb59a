"""A machine that lacks what the lab needs is told what to install, before anything is started."""

import pytest

from drtest.doors import lab_up
from drtest.errors import EnvironmentFailedError
from drtest.lab import install


def test_a_machine_without_qemu_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    lacks = install.Package(name="qemu-system-x86", why="runs the machines", needs="no-such-program")
    monkeypatch.setattr(install, "PACKAGES", (lacks,))
    with pytest.raises(EnvironmentFailedError, match="qemu-system-x86") as refused:
        lab_up(on_lab=lambda *_: None)
    assert "drtest lab install" in refused.value.remedy
