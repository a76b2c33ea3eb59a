"""Secrets come from where the reference says, and a missing one says where it was looked for."""

import os
from pathlib import Path
from typing import Any, cast

import pytest

from drtest.cloud.secrets import SecretRef, key_file, resolve_secret
from drtest.errors import EnvironmentFailedError, UsageError

IN_AWS = SecretRef.model_validate({"secret": "drtest/win"})


class FakeSession:
    """Two services that know one secret each, and tell what they were asked."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.error = error

    def client(self, service: str) -> Any:
        self.service = service
        return self

    def get_secret_value(self, **wanted: Any) -> dict[str, Any]:
        self.asked.append((self.service, wanted))
        if self.error:
            raise self.error
        return {"SecretString": "from the manager\n"}

    def get_parameter(self, **wanted: Any) -> dict[str, Any]:
        self.asked.append((self.service, wanted))
        return {"Parameter": {"Value": "from SSM"}}


def test_a_secret_in_a_file_comes_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "s").write_text(" pass word \n")
    assert resolve_secret(SecretRef(file=str(tmp_path / "s"))) == " pass word "


def test_a_secret_in_the_environment_is_read_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = SecretRef(env="DRTEST_TEST_SECRET")
    with pytest.raises(UsageError, match="environment variable DRTEST_TEST_SECRET is not set"):
        resolve_secret(reference)
    monkeypatch.setenv("DRTEST_TEST_SECRET", "x")
    assert resolve_secret(reference) == "x"


def test_a_missing_file_is_told_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"The secret in file .*/no can't be read: No such file"):
        resolve_secret(SecretRef(file=str(tmp_path / "no")))
    with pytest.raises(UsageError, match=r"The key .*/no is not there"):
        key_file(SecretRef(file=str(tmp_path / "no")))


def test_secrets_in_aws_are_asked_for_by_name_and_decrypted() -> None:
    session = FakeSession()
    assert resolve_secret(IN_AWS, session=cast(Any, session)) == "from the manager"
    assert resolve_secret(SecretRef(parameter="/drtest/win"), session=cast(Any, session)) == "from SSM"
    assert session.asked == [
        ("secretsmanager", {"SecretId": "drtest/win"}),
        ("ssm", {"Name": "/drtest/win", "WithDecryption": True}),
    ]


def test_a_secret_that_aws_keeps_back_is_the_environments_failure() -> None:
    from botocore.exceptions import ClientError

    refused = ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetSecretValue")
    with pytest.raises(EnvironmentFailedError, match="secret drtest/win could not be fetched"):
        resolve_secret(IN_AWS, session=cast(Any, FakeSession(refused)))
    with pytest.raises(UsageError, match="secret drtest/win is kept in AWS"):
        resolve_secret(IN_AWS)


def test_a_key_in_a_file_is_used_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("KEY\n")
    assert key_file(SecretRef(file=str(tmp_path / "id"))) == tmp_path / "id"


def test_a_key_kept_elsewhere_can_be_read_again_and_again_and_is_on_no_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DRTEST_TEST_KEY", "-----BEGIN KEY-----\nabc\n-----END KEY-----\n")
    path = key_file(SecretRef(env="DRTEST_TEST_KEY"))
    for _ in range(2):
        assert path.read_text() == "-----BEGIN KEY-----\nabc\n-----END KEY-----\n"
    assert path.readlink().name.startswith("memfd:drtest-login-key")


def test_a_key_can_be_kept_in_a_private_file_where_there_are_none_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setenv("DRTEST_TEST_KEY", "KEY")
    path = key_file(SecretRef(env="DRTEST_TEST_KEY"))
    try:
        assert path.read_text() == "KEY\n"
        assert path.stat().st_mode & 0o077 == 0
    finally:
        path.unlink()
