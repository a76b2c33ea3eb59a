"""The AMIs that a target names: resolved once, with the notice that each may carry."""

import threading
from typing import Any

from drtest.cloud.ec2 import Ec2
from drtest.cloud.resources import Image
from drtest.cloud.session import Clients
from drtest.cloud.tags import NOTICE
from drtest.cloud.targets import ImageRef, Target
from drtest.errors import EnvironmentFailedError, UsageError
from drtest.scenario.model import Server
from drtest.words import Os


class Images:
    """Looks up what a target's names stand for.

    Args:
        target: whose names they are.
        ec2: asked for the images.
        clients: asked for SSM's public parameters.
    """

    def __init__(self, target: Target, *, ec2: Ec2, clients: Clients) -> None:
        self._target, self._ec2, self._clients = target, ec2, clients
        self._found: dict[str, Image] = {}
        self._lock = threading.Lock()

    def named(self, name: str) -> str:
        """The AMI that a scenario's ``launch.image`` names.

        Raises:
            UsageError: the target has no image of that name.
        """
        if name not in self._target.images:
            known = ", ".join(sorted(self._target.images)) or "none"
            raise UsageError(
                f"Target {self._target.name} has no image {name}; it has: {known}.",
                remedy=f"Add it to [targets.{self._target.name}.images] in drtest.toml, or name another.",
            )
        return self._resolve(self._target.images[name]).id

    def scratch(self, os: Os) -> str:
        """The stock AMI of scratch instances."""
        return self._resolve(self._of("scratch", self._target.scratch_images, os)).id

    def helper(self, os: Os) -> str:
        """The AMI of helpers."""
        return self._resolve(self._of("helper", self._target.helper_images, os)).id

    def notices(self, server: Server) -> tuple[str, ...]:
        """What everybody who sees the verdicts of a server must know of its image."""
        reference = self._target.images.get(server.launch.image) if server.launch else None
        if server.launch is None or reference is None:
            return ()
        notice = self._resolve(reference).tags.get(NOTICE, "")
        return (f"Image {server.launch.image}: {notice}",) if notice else ()

    def _of(self, purpose: str, images: Any, os: Os) -> ImageRef:
        if os not in images:
            raise UsageError(
                f"Target {self._target.name} names no {purpose} image for {os}.",
                remedy=f"Set [targets.{self._target.name}.{purpose}_images] {os} = {{ssm = …}} in drtest.toml.",
            )
        found: ImageRef = images[os]
        return found

    def _resolve(self, reference: ImageRef) -> Image:
        with self._lock:
            key = str(reference)
            if key not in self._found:
                image_id = reference.id or self._clients.parameter(reference.ssm or "")
                found = self._ec2.describe(Image, [image_id])
                if image_id not in found:
                    raise EnvironmentFailedError(
                        f"Image {image_id} is not there in {self._target.region}.",
                        remedy="It may have been deregistered, or is not shared with this account.",
                    )
                self._found[key] = found[image_id]
            return self._found[key]
