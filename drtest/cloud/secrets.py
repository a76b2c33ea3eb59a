"""Secrets by reference: where one is kept, and how it is fetched when it is needed."""

import atexit
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, PrivateAttr, SecretStr, StrictStr, ValidationInfo, model_validator

from drtest.errors import EnvironmentFailedError, UsageError
from drtest.scenario.model import Part
from drtest.scenario.values import Text, mistake

if TYPE_CHECKING:
    from boto3 import Session

_HOW = "write {file = …}, {env = …}, {secret = …} (Secrets Manager) or {parameter = …} (SSM)"


def _variable(value: str) -> str:
    # The value is not shown: it may be the secret itself, put where its name belongs.
    if not (value.isidentifier() and value.isascii()):
        raise mistake("what stands here is no name of an environment variable; write one as DRTEST_PASSWORD")
    return value


def absolute(value: str, info: ValidationInfo) -> str:
    """A file's path, seen from the file that names it (context ``folder``); ``~`` is the home directory."""
    if "\n" in value or len(value) > 1000:
        raise mistake("what stands here is no path of a file; write one as ~/.ssh/drtest")
    folder = (info.context or {}).get("folder", ".")
    return str(Path(folder) / Path(value).expanduser())


FilePath = Annotated[Text, AfterValidator(absolute)]


class SecretRef(Part):
    """Where a secret is kept: exactly one of the four."""

    file: FilePath | None = None
    env: Annotated[StrictStr, AfterValidator(_variable)] | None = None
    secret: Text | None = None
    parameter: Text | None = None

    _held: SecretStr | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _no_literal(cls, data: Any) -> Any:
        if isinstance(data, str | int | float):
            raise mistake(f"a secret can't stand in the file itself; {_HOW}")
        return data

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (
            self._held is None
            and sum(value is not None for value in (self.file, self.env, self.secret, self.parameter)) != 1
        ):
            raise mistake(f"a secret is kept in one place; {_HOW}")
        return self

    @classmethod
    def held(cls, value: str) -> "SecretRef":
        """One that is held in memory: it came from a program, and no file can say this."""
        reference = cls.model_construct()
        reference._held = SecretStr(value)
        return reference

    def __str__(self) -> str:
        for key in ("file", "env", "secret", "parameter"):
            if value := getattr(self, key):
                return f"{key} {value}"
        return "a secret held in memory"


def resolve_secret(reference: SecretRef, *, session: "Session | None" = None) -> str:
    """The secret itself, without line ends behind it.

    Args:
        reference: where it is kept.
        session: for the ones kept in AWS; asked only then.

    Raises:
        UsageError: the file or the variable is not there, or an AWS secret is asked for without a session.
        EnvironmentFailedError: AWS did not give it out.
    """
    if reference._held is not None:
        return reference._held.get_secret_value()
    if reference.file is not None:
        try:
            return Path(reference.file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise UsageError(
                f"The secret in file {reference.file} can't be read: {reason}.",
                remedy="Put it there, or name another place in drtest.toml.",
            ) from None
    if reference.env is not None:
        if not os.environ.get(reference.env):
            raise UsageError(
                f"The secret in the environment variable {reference.env} is not set.",
                remedy=f"Run with {reference.env}=… set, or name another place in drtest.toml.",
            )
        return os.environ[reference.env].rstrip("\r\n")
    if session is None:
        raise UsageError(
            f"The {reference} is kept in AWS, which is not asked here.",
            remedy="Keep it in a file or variable.",
        )
    return _from_aws(reference, session)


def key_file(reference: SecretRef, *, session: "Session | None" = None) -> Path:
    """A private key as a file that SSH can read.

    One that is kept elsewhere gets a file in memory, which ends with this process, so that no copy of a key
    is left on a disk; where the system has none of those, one of mode 0600 that is deleted at exit.

    Raises:
        UsageError: it is not there.
        EnvironmentFailedError: AWS did not give it out.
    """
    if reference.file is not None:
        if not Path(reference.file).is_file():
            raise UsageError(
                f"The key {reference.file} is not there.",
                remedy="Put it there, or name another in drtest.toml.",
            )
        return Path(reference.file)
    content = (resolve_secret(reference, session=session) + "\n").encode()
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("drtest-login-key", os.MFD_CLOEXEC)
        path = Path(f"/proc/{os.getpid()}/fd/{handle}")
    else:
        handle, name = tempfile.mkstemp(prefix="drtest-login-key-")
        path = Path(name)
        atexit.register(path.unlink, missing_ok=True)
    os.write(handle, content)
    return path


def _from_aws(reference: SecretRef, session: "Session") -> str:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        if reference.secret is not None:
            manager: Any = session.client("secretsmanager")
            answer = manager.get_secret_value(SecretId=reference.secret)
            if "SecretString" not in answer:
                raise UsageError(f"The {reference} is binary.", remedy="Keep the key or password as text.")
            return str(answer["SecretString"]).rstrip("\r\n")
        answer = session.client("ssm").get_parameter(Name=reference.parameter or "", WithDecryption=True)
        return str(answer["Parameter"]["Value"]).rstrip("\r\n")
    except (BotoCoreError, ClientError) as error:
        raise EnvironmentFailedError(
            f"The {reference} could not be fetched: {error}",
            remedy="Look at its name, its region, and the caller's right to read and to decrypt it.",
        ) from None
