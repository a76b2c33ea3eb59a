"""The lab's process: it answers the API, holds the machines, and goes when it is told to or nobody asks any more."""

import argparse
import contextlib
import json
import logging
import os
import secrets
import signal
import string
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from drtest.errors import DrtestError
from drtest.lab import faults, recovery, stock
from drtest.lab import images as guests
from drtest.lab.accelerator import Accelerator
from drtest.lab.addresses import Addresses
from drtest.lab.books import Books
from drtest.lab.call import Call
from drtest.lab.compute import Compute
from drtest.lab.endpoint import Endpoint, serve
from drtest.lab.folder import REGION, LabAccount, LabFolder, LabStatus
from drtest.lab.hardware import Hardware, QemuHardware
from drtest.lab.keys import KEY_NAME, enter_key, make_key, make_password
from drtest.lab.neighbours import Neighbours
from drtest.lab.network import Network
from drtest.lab.pace import Pace
from drtest.lab.pool import Settings, parse
from drtest.lab.reclaim import remove_all
from drtest.lab.resources import Image, Instance
from drtest.lab.shell import SshShell
from drtest.lab.space import Space
from drtest.lab.status import BOOT_FACT

LOG = logging.getLogger(__name__)

ACCOUNT = "123456789012"
"""The number of the lab's account."""

SECOND_ACCOUNT = "210987654321"
"""The number of its second one, for what is shared between two."""

ALREADY_UP = 4
"""The exit code for: another process is this lab already."""


class Daemon:
    """The lab, from its start to its end.

    Args:
        folder: where it lives.
        hardware: what carries out its machines.
        image_names: the images to enter; they are built already.
        idle_seconds: it ends after so long without a request; None for never.
        pools: how the write pools are set, if the lab is new; one that is taken up keeps what it has.
    """

    def __init__(
        self,
        folder: LabFolder,
        *,
        hardware: Hardware,
        image_names: tuple[str, ...],
        idle_seconds: float | None,
        pools: Settings,
    ) -> None:
        self._folder = folder
        self._hardware = hardware
        self._idle = idle_seconds
        self._stop = threading.Event()
        self._books = Books(folder.books_file)
        self._pools = self._kept(pools)
        self._neighbours = Neighbours(self._books)
        self._compute = Compute(
            books=self._books,
            hardware=hardware,
            network=Network(self._neighbours),
            addresses=Addresses(),
            pace=self._pace(),
            shell=SshShell(folder.key_file),
            password=make_password(folder.password_file),
            seed=self._pools.seed,
        )
        if planned := self._books.fact("faults"):
            self._compute.faults.set(faults.Plan.model_validate_json(planned))
        identity = self._identity()
        self._prepare_network()
        lost = recovery.take_up(self._compute)
        self._space = Space(self._compute)
        self._images: dict[str, str] = {}
        self._enter((*image_names, *self._entered_before()))
        self._endpoint = Endpoint(
            self._compute,
            neighbours=self._neighbours,
            accounts={identity["access_key"]: ACCOUNT, identity["second_access_key"]: SECOND_ACCOUNT},
            door=self._door,
        )
        self._server = self._listen(int(identity.get("port", 0)))
        subnet = Network(self._neighbours).default_subnet(
            Call(action="", owner=ACCOUNT, region=REGION, params={})
        )
        self._status = LabStatus(
            endpoint=f"http://127.0.0.1:{self._server.port}",
            region=REGION,
            access_key=identity["access_key"],
            secret_key=identity["secret_key"],
            images=self._images,
            accelerator=hardware.accelerator.name,
            accelerator_reason=hardware.accelerator.reason,
            machines=(),
            key_file=folder.key_file,
            key_name=KEY_NAME,
            password_file=folder.password_file,
            zone=subnet.zone,
            subnet=subnet.id,
            folder=folder.path,
            pid=os.getpid(),
            idle_minutes=None if idle_seconds is None else idle_seconds / 60,
            lost=lost,
            pool=self._pool(),
            seed=self._pools.seed,
            second=LabAccount(
                account=SECOND_ACCOUNT,
                access_key=identity["second_access_key"],
                secret_key=identity["second_secret_key"],
            ),
        )
        self._books.note("identity", json.dumps({**identity, "port": str(self._server.port)}).encode())

    def _identity(self) -> dict[str, str]:
        """Keep keys and port over a restart, so that a drill that is under way goes on with the same lab."""
        kept = self._books.fact("identity")
        found: dict[str, str] = {} if kept is None else json.loads(kept)
        letters = string.ascii_uppercase + "234567"
        for whose in ("", "second_"):
            fresh = "AKIA" + "".join(secrets.choice(letters) for _ in range(16))
            found.setdefault(f"{whose}access_key", fresh)
            found.setdefault(f"{whose}secret_key", secrets.token_urlsafe(30))
        return found

    def _kept(self, pools: Settings) -> Settings:
        """Keep the write pools as they were over a restart: machines run with them."""
        if kept := self._books.fact("pools"):
            return Settings(**json.loads(kept))
        self._books.note("pools", json.dumps(asdict(pools)).encode())
        return pools

    def _pool(self) -> dict[str, float]:
        images = {name: self._books.find(Image, ami) for name, ami in self._images.items()}
        return {name: image.pool for name, image in images.items() if image is not None}

    def _pace(self) -> Pace:
        kept = self._books.fact(BOOT_FACT)
        return Pace(fastest=None if kept is None else float(kept))

    def _prepare_network(self) -> None:
        enter_key(self._neighbours, make_key(self._folder.key_file), owner=ACCOUNT, region=REGION)

    def _enter(self, names: tuple[str, ...]) -> None:
        found = [image for name in names if (image := guests.cached(name)) is not None]
        self._images |= stock.enter(self._compute, found, owner=ACCOUNT, region=REGION, pools=self._pools)
        self._books.note("images", json.dumps(sorted(self._images)).encode())

    def _entered_before(self) -> tuple[str, ...]:
        """Name the images that a lab had before its process died: what was started from them is still there."""
        kept = self._books.fact("images")
        return () if kept is None else tuple(json.loads(kept))

    def _listen(self, port: int) -> Any:
        with contextlib.suppress(OSError, SystemExit):
            return serve(self._endpoint, port=port)
        LOG.warning("the port %d is taken by another process now", port)
        return serve(self._endpoint)

    def _door(self, path: str, body: bytes) -> Mapping[str, Any]:
        if path == "faults":
            if body:
                plan = faults.read_document(json.loads(body), source="the fault plan")
                self._compute.faults.set(plan)
                self._books.note("faults", plan.model_dump_json(exclude_unset=True).encode())
                LOG.warning("faults: %s", body.decode())
            return self._compute.faults.show()
        if path == "images":
            self._enter(tuple(json.loads(body)))
            self._status = replace(self._status, pool=self._pool())
            self._folder.write_status(self._status)
        return {
            "trouble": self._space.trouble,
            "images": self._images,
            "pool": self._pool(),
            "machines": [
                {
                    "instance": instance.id,
                    "name": instance.tags.get("Name", ""),
                    "state": instance.state,
                    "address": instance.address,
                }
                for instance in self._books.all(Instance)
                if self._hardware.running(instance.id)
            ],
        }

    def run(self) -> None:
        """Answer until it is time to go, then take everything down."""
        thread = threading.Thread(target=self._server.serve_forever, name="lab-server", daemon=True)
        thread.start()
        self._folder.write_status(self._status)
        self._space.begin()
        LOG.info("the lab is up: %s", self._status.endpoint)
        try:
            while not self._stop.wait(1.0):
                if self._idle is not None and self._idle_for() > self._idle:
                    LOG.info("nobody has asked for %.0f s: the lab goes", self._idle)
                    break
        finally:
            self._take_down()

    def _idle_for(self) -> float:
        if self._endpoint.under_way:
            return 0.0
        return time.monotonic() - self._endpoint.last_request

    def stop(self) -> None:
        """Have `run` end."""
        self._stop.set()

    def _take_down(self) -> None:
        self._folder.status_file.unlink(missing_ok=True)
        self._server.shutdown()
        self._server.server_close()
        self._compute.work.stop()
        for instance in self._books.all(Instance):
            if self._hardware.running(instance.id):
                try:
                    self._hardware.kill(instance.id)
                except DrtestError:
                    LOG.exception("the machine of %s did not end", instance.id)
        self._books.close()
        for sentence in remove_all(self._folder):
            LOG.info("%s", sentence)


def main(arguments: list[str] | None = None) -> int:
    """Run the lab in this process: what ``drtest.lab.control.up`` starts, detached."""
    parser = argparse.ArgumentParser(prog="python -m drtest.lab.daemon", description=main.__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--images", default="", help="names, with commas")
    parser.add_argument("--accelerator", choices=["kvm", "tcg"], required=True)
    parser.add_argument("--reason", default="")
    parser.add_argument("--idle-seconds", type=float, default=None)
    parser.add_argument("--pool", type=parse, action="append", default=[], metavar="NAME=STRENGTH")
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("werkzeug", "qemu"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    folder = LabFolder(given.folder)
    folder.make()
    if not folder.own():
        LOG.error("another process is the lab in %s", folder.path)
        return ALREADY_UP
    daemon = Daemon(
        folder,
        hardware=QemuHardware(
            folder.path, accelerator=Accelerator(name=given.accelerator, reason=given.reason)
        ),
        image_names=tuple(name for name in given.images.split(",") if name),
        idle_seconds=given.idle_seconds,
        pools=Settings.drawn(dict(given.pool), seed=given.seed),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stop())
    daemon.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
