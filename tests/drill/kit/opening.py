"""How a world is opened, and what of drtest and botocore is another thing in it."""

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import boto3
from botocore.client import ClientCreator
from botocore.config import Config
from botocore.loaders import JSONFileLoader

from drtest.cloud.tags import KEY
from drtest.cloud.targets import load_targets
from drtest.lab.addresses import Addresses
from drtest.lab.books import Books
from drtest.lab.compute import Compute, Timings
from drtest.lab.endpoint import serve
from drtest.lab.neighbours import Neighbours
from drtest.lab.network import Network as LabNetwork
from drtest.lab.resources import Image, Instance, Snapshot, Volume
from drtest.lab.status import KNOCKS, ssh_answers
from tests.drill.kit.disks import Content, Machines
from tests.drill.kit.faults import Form, UnkindEndpoint, Weather
from tests.drill.kit.guests import Network
from tests.drill.kit.windows import PASSWORD, WindowsNetwork
from tests.drill.kit.world import World, place_of
from tests.lab.api.conftest import REGION, UNVERIFIED, ZONE, stock_image

TIMINGS = Timings(
    volume=0.005,
    snapshot=0.02,
    attach=0.005,
    detach=0.005,
    stop=0.5,
    force_stop=0.1,
    terminate=0.2,
    impaired=0.3,
    probe=0.05,
    terminated=5.0,
    unseen=0.01,
)
"""How long things take in the lab; guests that have answered are hardly asked again: with many, that is costly."""


@contextmanager
def open_world(folder: Path) -> Iterator[World]:
    """Open a world; its lab ends with it."""
    account, access_key = str(secrets.randbelow(9 * 10**11) + 10**11), "AKIADRTESTDRTESTDRTE"
    books = Books(folder / "books.sqlite")
    neighbours = Neighbours(books)
    machines = Machines(folder)
    compute = Compute(
        books=books, hardware=machines, network=LabNetwork(neighbours), addresses=Addresses(), timings=TIMINGS
    )
    machines.place_of = lambda instance: place_of(books.find(Instance, instance))
    image = stock_image(compute, account)
    windows = {
        name: _windows_image(compute, machines, account, name) for name in ("windows", "windows-helper")
    }
    endpoint = UnkindEndpoint(compute, neighbours=neighbours, accounts={access_key: account})
    endpoint.weather = Weather(server_of=lambda form: _server_of(form, books, neighbours, account))
    server = serve(endpoint)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.port}"
    client: Any = boto3.client(
        "ec2",
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=access_key,
        aws_secret_access_key=UNVERIFIED,
        config=Config(retries={"max_attempts": 0}),
    )
    subnets = client.describe_subnets()["Subnets"]
    subnet = next(one["SubnetId"] for one in subnets if one["AvailabilityZone"] == ZONE)
    config = _config(folder, url=url, subnet=subnet, image=image, windows=windows, access_key=access_key)
    yield World(
        folder=folder,
        compute=compute,
        machines=machines,
        weather=endpoint.weather,
        target=load_targets(config)["world"].model_copy(update={"poll": 0.02}),
        config=config,
        image=image,
        client=client,
    )
    server.shutdown()
    server.server_close()
    thread.join(timeout=5)
    compute.work.stop()
    machines.stop()
    books.close()


def _server_of(form: Form, books: Books, neighbours: Neighbours, account: str) -> str:
    for name, value in form.items():
        if name.endswith(".Value") and len(value.split("/")) > 2:
            # The key of a resource that is made, or a source's mark.
            return value.split("/")[1]
        found = books.find(Instance, value) or books.find(Volume, value) or books.find(Snapshot, value)
        if found:
            return place_of(found)[0]
        if value.startswith("sg-"):
            with neighbours.ec2(account, REGION) as ec2:
                tags = {tag["key"]: tag["value"] for tag in ec2.describe_tags({"resource-id": [value]})}
            if KEY in tags:
                return str(tags[KEY].split("/")[1])
    return ""


def _windows_image(compute: Compute, machines: Machines, account: str, name: str) -> str:
    """Enter an image of Windows with a disk of its own."""
    image = stock_image(compute, account, os="windows")
    found = compute.books.find(Image, image)
    assert found is not None
    snapshot = compute.books.find(Snapshot, found.devices[0].snapshot)
    assert snapshot is not None
    with compute.books.open():
        compute.books.put(replace(snapshot, layer=name))
    machines.layer_bytes[name] = b"boot sector"
    uuid = secrets.token_hex(8).upper()
    machines.stock[name] = Content(filesystem="ntfs", uuid=uuid, signature=secrets.randbits(32) | 1)
    return image


def _config(
    folder: Path, *, url: str, subnet: str, image: str, windows: Mapping[str, str], access_key: str
) -> Path:
    key, secret, password = folder / "key", folder / "secret", folder / "password"
    key.write_text("no key is needed here\n")
    password.write_text(PASSWORD + "\n")
    secret.write_text(UNVERIFIED)
    file = folder / "drtest.toml"
    file.write_text(
        f"""
[targets.world]
region = "{REGION}"
subnet = "{subnet}"
endpoint_url = "{url}"
credentials = {{access_key = "{access_key}", secret_key = {{file = "{secret}"}}}}
images = {{linux = {{id = "{image}"}}, windows = {{id = "{windows["windows"]}"}}}}
scratch_images = {{linux = {{id = "{image}"}}, windows = {{id = "{windows["windows"]}"}}}}
helper_images = {{linux = {{id = "{image}"}}, windows = {{id = "{windows["windows-helper"]}"}}}}
poll = "50ms"
login.linux = {{key = {{file = "{key}"}}, address = "public", port = 2222}}
login.windows = {{password = {{file = "{password}"}}, address = "public", port = 5986}}
"""
    )
    return file


CLASS_MAKER = "_create_client_class"


def patched(monkeypatch: Any, world: World) -> None:
    """Let drtest reach the world's guests, and let botocore wait for next to nothing between two tries."""
    monkeypatch.setattr("drtest.drill.login.connect_by_ssh", Network(world.machines).connect)
    monkeypatch.setattr("drtest.drill.login.connect_by_winrm", WindowsNetwork(world.machines).connect)
    # Guests in memory greet as SSH servers do, whatever they are.
    monkeypatch.setitem(KNOCKS, "windows", ssh_answers)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.001)
    # A crowd of drills shares one client: the faults of all must not use up the retries of each.
    monkeypatch.setattr("botocore.retries.quota.RetryQuota.acquire", lambda *_: True)
    # Each run makes clients of its own: what they are made of is the same each time, and takes long.
    load, make = JSONFileLoader.load_file, cast("Any", ClientCreator)._create_client_class
    files: dict[str, Any] = {}
    classes: dict[str, Any] = {}

    def load_once(self: JSONFileLoader, path: str) -> Any:
        if path not in files:
            files[path] = load(self, path)
        return files[path]

    def make_once(self: ClientCreator, name: str, model: Any) -> Any:
        if name not in classes:
            classes[name] = make(self, name, model)
        return classes[name]

    monkeypatch.setattr(JSONFileLoader, "load_file", load_once)
    monkeypatch.setattr(ClientCreator, CLASS_MAKER, make_once)
