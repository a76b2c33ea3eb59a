"""How guests are logged in to, as ``drtest.toml`` says: Linux over SSH, Windows over WinRM."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StrictInt, StrictStr, model_validator

from drtest.cloud.secrets import FilePath, SecretRef, key_file, resolve_secret
from drtest.errors import UsageError
from drtest.scenario.model import Part
from drtest.scenario.values import Text, like, mistake

if TYPE_CHECKING:
    from boto3 import Session

Address = Literal["private", "public"]
Port = Annotated[StrictInt, Field(ge=1, le=65535)]
Fingerprint = Annotated[StrictStr, like(r"(?i)(sha256:)?[0-9a-f]{64}", "sha256:… (64 hexadecimal digits)")]

DOMAIN = ("kerberos", "credssp")
"""The logins that need a domain controller."""

_KEYS = {
    "password": 'password = {secret = "drtest/windows"}',
    "certificate": 'certificate = "drtest.pem"',
    "certificate_key": 'certificate_key = {file = "drtest.key"}',
}
_NEEDED = {
    "ntlm": ("password",),
    "credssp": ("password",),
    "certificate": ("certificate", "certificate_key"),
    "kerberos": (),  # the ticket of kinit stands for it
}


def _local(value: Any) -> Any:
    if value in DOMAIN:
        raise mistake(
            f"{value} needs a domain controller, which an isolated copy can't reach; "
            "write ntlm or certificate, and log in as a local account"
        )
    return value


class LinuxLogin(Part):
    """How Linux servers are logged in to, over SSH: the user needs sudo without a password."""

    user: Text = "admin"
    key: SecretRef
    address: Address = "private"
    port: Port = 22


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """The secrets of a login over WinRM.

    Attributes:
        password: "" where it has none.
        certificate_key: a file; None where it has none.
    """

    password: str = field(default="", repr=False)
    certificate_key: Path | None = None


class WinrmLogin(Part):
    """How a Windows server is logged in to, over WinRM with HTTPS."""

    auth: Literal["ntlm", "certificate", "kerberos", "credssp"] = "ntlm"
    user: Text = "Administrator"
    password: SecretRef | None = None
    certificate: FilePath | None = None
    certificate_key: SecretRef | None = None
    address: Address = "private"
    port: Port = 5986
    ca: FilePath | None = None
    fingerprint: Fingerprint | None = None

    @model_validator(mode="after")
    def _proofs(self) -> Self:
        for key, example in _KEYS.items():
            given, needed = getattr(self, key) is not None, key in _NEEDED[self.auth]
            if needed and not given:
                raise mistake(f"{key} is missing for a login by {self.auth}; write {example}")
            if given and not needed:
                raise mistake(f"a login by {self.auth} has no {key}; take it out, or write another auth")
        if self.auth == "kerberos" and "@" not in self.user:
            raise mistake('a login by kerberos needs a principal; write user = "drtest@EXAMPLE.COM"')
        return self

    def secrets(self, session: "Session | None" = None) -> Secrets:
        """Its secrets, fetched.

        Args:
            session: for those that are kept in AWS.

        Raises:
            UsageError: one of them, or the certificate, is not there.
            EnvironmentFailedError: AWS did not give one out.
        """
        if self.certificate and not Path(self.certificate).is_file():
            raise UsageError(
                f"The certificate {self.certificate} is not there.",
                remedy="Put it there, or name another in drtest.toml.",
            )
        return Secrets(
            password=resolve_secret(self.password, session=session) if self.password else "",
            certificate_key=key_file(self.certificate_key, session=session) if self.certificate_key else None,
        )


class LocalLogin(WinrmLogin):
    """The same as a local account, which needs nobody but the server itself."""

    auth: Annotated[Literal["ntlm", "certificate"], BeforeValidator(_local)] = "ntlm"


class WindowsLogin(WinrmLogin):
    """How Windows servers are logged in to.

    Attributes:
        copies: where that differs, how those that the run makes itself are: copies, helpers and launched servers,
            which are isolated, or in no domain.
    """

    copies: LocalLogin | None = None

    @model_validator(mode="after")
    def _copies_too(self) -> Self:
        if self.auth in DOMAIN and self.copies is None:
            raise mistake(
                f"{self.auth} needs a domain controller, which an isolated copy can't reach: it is for selected "
                "servers alone; write below login.windows.copies how copies are logged in to, as a local account"
            )
        return self

    @property
    def each(self) -> tuple[WinrmLogin, ...]:
        """All logins that it names."""
        return (self, self.copies) if self.copies else (self,)


class Logins(Part):
    """How guests are logged in to, by operating system."""

    linux: LinuxLogin | None = None
    windows: WindowsLogin | None = None
