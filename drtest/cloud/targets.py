"""Targets: where a drill runs, as ``drtest.toml`` describes them or the lab tells of itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, StrictInt, StrictStr, model_validator

from drtest.cloud.logins import LinuxLogin, Logins, Secrets, WindowsLogin, WinrmLogin
from drtest.cloud.secrets import SecretRef, key_file, resolve_secret
from drtest.errors import UsageError
from drtest.scenario.model import Part
from drtest.scenario.spelling import meant, quoted
from drtest.scenario.units import duration_text
from drtest.scenario.values import Name, Seconds, Text, between, like, mistake
from drtest.words import Os

if TYPE_CHECKING:
    from boto3 import Session

__all__ = ["ImageRef", "SecretRef", "Target", "choose", "lab_target", "load_targets", "resolve_secret"]

LAB = "lab"
"""The name of the target that is built in."""

AmiId = Annotated[StrictStr, like(r"ami-[0-9a-f]{8,17}", "ami-0123456789abcdef0")]
SubnetId = Annotated[StrictStr, like(r"subnet-[0-9a-f]{8,17}", "subnet-0123456789abcdef0")]
GroupId = Annotated[StrictStr, like(r"sg-[0-9a-f]{8,17}", "sg-0123456789abcdef0")]
RoleArn = Annotated[
    StrictStr, like(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/\S+", "arn:aws:iam::123456789012:role/drtest")
]
Region = Annotated[StrictStr, like(r"[a-z]{2}(-[a-z]+)+-[0-9]+", "eu-central-1")]
Url = Annotated[StrictStr, like(r"https?://\S+", "https://ec2.eu-central-1.amazonaws.com")]
Cidr = Annotated[StrictStr, like(r"[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}", "203.0.113.7/32")]


class ImageRef(Part):
    """An AMI: by its id, or by the public SSM parameter that names the newest one."""

    id: AmiId | None = None
    ssm: Annotated[StrictStr, like(r"/\S+", "/aws/service/debian/release/12/latest/amd64")] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.id is None) == (self.ssm is None):
            raise mistake('an image is named in one way; write {id = "ami-…"} or {ssm = "/aws/service/…"}')
        return self


class Credentials(Part):
    """Keys for an endpoint that knows neither profiles nor roles."""

    access_key: Text
    secret_key: SecretRef
    session_token: SecretRef | None = None


class Limits(Part):
    """What a run may take at once."""

    drills: Annotated[StrictInt, Field(ge=1, le=100)] = 8


class Target(Part):
    """One place to run drills: an account and a region, with what is needed there.

    Attributes:
        name: as in ``--target``.
        images: by the names that scenarios use in ``launch.image``.
        scratch_images: stock images of scratch instances, whose root is swapped for the restored one.
        helper_images: images of helpers; from another image than any source, on Windows.
        instance_type: by operating system.
        runner_cidr: from where the runner reaches guests; None: from the subnet itself.
        poll: seconds between two looks at what is waited for.
        endpoint_url: another EC2 API than AWS's own.
    """

    name: Name
    region: Region
    subnet: SubnetId
    security_group: GroupId | None = None
    profile: Text | None = None
    role_arn: RoleArn | None = None
    external_id: Text | None = None
    endpoint_url: Url | None = None
    credentials: Credentials | None = None
    images: Mapping[Name, ImageRef] = {}
    scratch_images: Mapping[Os, ImageRef] = {}
    helper_images: Mapping[Os, ImageRef] = {}
    instance_type: Mapping[Os, Text] = {Os.LINUX: "t3.small", Os.WINDOWS: "t3.large"}
    key_name: Text | None = None
    runner_cidr: Cidr | None = None
    poll: Annotated[Seconds, between(0.05, 60, duration_text)] = 5.0
    login: Logins = Logins()
    limits: Limits = Limits()

    @model_validator(mode="before")
    @classmethod
    def _one_type(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("instance_type"), str):
            return {**data, "instance_type": dict.fromkeys(Os, data["instance_type"])}
        return data

    @model_validator(mode="after")
    def _who(self) -> Self:
        if self.external_id and not self.role_arn:
            raise mistake("external_id goes with a role; write role_arn too, or take it out")
        if self.credentials and (self.profile or self.role_arn):
            raise mistake("credentials stands beside profile or role_arn; keep one way to log in to AWS")
        return self

    @property
    def poll_seconds(self) -> float:
        """Seconds between two looks at what is waited for."""
        return self.poll

    @property
    def login_linux(self) -> LinuxLogin:
        """How Linux servers are logged in to.

        Raises:
            UsageError: the target does not say.
        """
        if self.login.linux is None:
            raise UsageError(
                f"Target {self.name} does not say how Linux servers are logged in to.",
                remedy=f'Add [targets.{self.name}.login.linux] with user and key = {{file = "…"}} to drtest.toml.',
            )
        return self.login.linux

    @property
    def login_windows(self) -> WindowsLogin:
        """How Windows servers are logged in to.

        Raises:
            UsageError: the target does not say.
        """
        if self.login.windows is None:
            raise UsageError(
                f"Target {self.name} does not say how Windows servers are logged in to.",
                remedy=f"Add [targets.{self.name}.login.windows] with user and "
                'password = {secret = "…"} to drtest.toml.',
            )
        return self.login.windows

    def login_for(self, os: Os, *, ours: bool = True) -> LinuxLogin | WinrmLogin:
        """How servers of an operating system are logged in to.

        Args:
            os: the operating system.
            ours: whether the run made the server; of one that it did not, Windows may have a login of its own.

        Raises:
            UsageError: the target does not say.
        """
        if os is not Os.WINDOWS:
            return self.login_linux
        windows = self.login_windows
        return windows.copies or windows if ours else windows

    def login_key_file(self, session: "Session | None" = None) -> Path:
        """The private key of the login to Linux servers, as a file.

        Args:
            session: for a key that is kept in AWS.

        Raises:
            UsageError: the target names none, or it is not there.
            EnvironmentFailedError: AWS did not give it out.
        """
        return key_file(self.login_linux.key, session=session)

    def login_secrets(self, session: "Session | None" = None) -> dict[WinrmLogin, Secrets]:
        """The secrets of the logins to Windows servers.

        Args:
            session: for those that are kept in AWS.

        Raises:
            UsageError: the target names none, or one is not there.
            EnvironmentFailedError: AWS did not give one out.
        """
        return {login: login.secrets(session) for login in self.login_windows.each}

    def instance_type_for(self, os: Os) -> str:
        """The instance type of servers, scratch instances and helpers.

        Raises:
            UsageError: the target names none for this operating system.
        """
        if os not in self.instance_type:
            raise UsageError(
                f"Target {self.name} names no instance type for {os}.",
                remedy=f'Set instance_type.{os} = "t3.small" in [targets.{self.name}] of drtest.toml.',
            )
        return self.instance_type[os]


def choose(targets: Mapping[str, Target], name: str) -> Target:
    """A target by name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in targets:
        raise UsageError(
            f"There is no target {quoted(name)}; {meant(name, tuple(targets))}",
            remedy=f"Describe it in drtest.toml under [targets.{name}].",
        )
    return targets[name]


def load_targets(path: Path | None = None) -> dict[str, Target]:
    """The targets that a ``drtest.toml`` describes, by name; the lab, which is built in, is not among them.

    Args:
        path: the file; None looks for one in this directory and those above, and finds no target without one.

    Raises:
        SettingsError: with every mistake in it.
    """
    from drtest.cloud.settings import read_targets

    return read_targets(path)


def lab_target(status: Mapping[str, Any]) -> Target:
    """The lab as a target like any other.

    Args:
        status: what the lab says of itself (``drtest lab status --json``).
    """
    images = {name: ImageRef(id=ami) for name, ami in status["images"].items()}
    stock = {os: images[os.value] for os in Os if os.value in images}
    # A helper for Windows comes from an image of its own: equal disk signatures collide.
    helpers = {os: images.get(f"{os}-helper", image) for os, image in stock.items()}
    return Target(
        name=LAB,
        region=status["region"],
        subnet=status["subnet"],
        endpoint_url=status["endpoint"],
        credentials=Credentials(
            access_key=status["access_key"], secret_key=SecretRef.held(status["secret_key"])
        ),
        images=images,
        scratch_images=stock,
        helper_images=helpers,
        key_name=status["key_name"],
        poll="500ms",
        login=Logins(
            linux=LinuxLogin(key=SecretRef(file=str(status["key_file"])), address="public", port=2222),
            windows=WindowsLogin(
                password=SecretRef(file=str(status["password_file"])), address="public", port=5986
            ),
        ),
    )
