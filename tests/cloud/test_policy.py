"""The IAM policy allows the calls of a drill, all of them and no other, and nothing on what is not the run's."""

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from moto.iam.policy_validation import IAMPolicyDocumentValidator

from drtest.cli import main
from drtest.cloud.policy import LIMIT, actions, caller_policy, calls_table, policy, size, stages
from drtest.cloud.targets import Target, load_targets

README = Path("drtest/cloud/README.md")
KEY = "arn:aws:kms:eu-central-1:123456789012:key/0f3a9c5e-0000-4000-8000-000000000000"
CREATING = {"ec2:RunInstances", "ec2:CreateVolume", "ec2:CreateSnapshots", "ec2:CreateSecurityGroup"}
CHANGING = {
    "ec2:TerminateInstances", "ec2:StopInstances", "ec2:StartInstances", "ec2:AttachVolume", "ec2:DetachVolume",
    "ec2:DeleteVolume", "ec2:DeleteSnapshot", "ec2:DeleteSecurityGroup", "ec2:AuthorizeSecurityGroupIngress",
    "ec2:RevokeSecurityGroupEgress",
}  # fmt: skip


def toml(folder: Path, more: str = "") -> Path:
    file = folder / "drtest.toml"
    file.write_text(
        f"""
[targets.production]
region = "eu-central-1"
subnet = "subnet-0123456789abcdef0"
key_name = "drtest"
{more}
[targets.production.images]
linux = {{ssm = "/aws/service/debian/release/12/latest/amd64"}}
windows = {{id = "ami-0123456789abcdef0"}}

[targets.production.login.linux]
key = {{parameter = "/drtest/key"}}
[targets.production.login.windows]
password = {{secret = "drtest/windows"}}
""",
        encoding="utf-8",
    )
    return file


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return load_targets(toml(tmp_path))["production"]


@pytest.fixture
def everything(tmp_path: Path) -> Target:
    """A target with all that makes a policy long."""
    role = 'role_arn = "arn:aws:iam::123456789012:role/drtest"\nexternal_id = "shop"'
    return load_targets(toml(tmp_path, role))["production"]


def statements(document: Mapping[str, Any], action: str) -> list[Mapping[str, Any]]:
    return [one for one in document["Statement"] if action in one["Action"]]


def ec2(document: Mapping[str, Any]) -> set[str]:
    return {one.removeprefix("ec2:") for one in actions(document) if one.startswith("ec2:")}


def called(found: Mapping[str, tuple[str, ...]]) -> set[str]:
    return {action for several in found.values() for action in several}


def test_it_allows_the_calls_of_each_stage_and_no_other(target: Target) -> None:
    grouped = target.model_copy(update={"security_group": "sg-0123456789abcdef0"})
    for where in (None, target, grouped):
        for sources in (True, False):
            # CreateTags is asked for by creating calls that tag, whether it is called by itself or not.
            assert ec2(policy(where, sources=sources)) == called(stages(where, sources=sources)) | {
                "CreateTags"
            }
    assert ec2(policy()) == called(stages())


def test_a_target_with_a_group_of_its_own_needs_no_right_to_make_one(target: Target) -> None:
    grouped = target.model_copy(update={"security_group": "sg-0123456789abcdef0"})
    made = policy(grouped)
    assert "ec2:CreateSecurityGroup" not in actions(made)
    assert any(
        "security-group/sg-0123456789abcdef0" in one
        for one in statements(made, "ec2:RunInstances")[1]["Resource"]
    )


def test_without_sources_no_server_that_exists_can_be_touched() -> None:
    made = policy(sources=False)
    assert not {"ec2:DeleteTags", "ec2:DescribeAddresses"} & actions(made)
    assert "drtest:claimed-by" not in json.dumps(made)
    for one in statements(made, "ec2:CreateSnapshots"):
        assert one["Condition"] in (
            {"Null": {"aws:RequestTag/drtest:run": "false"}},
            {"Null": {"aws:ResourceTag/drtest:run": "false"}},
        )


@pytest.mark.parametrize("action", sorted(CHANGING))
def test_nothing_is_changed_that_the_run_did_not_tag_or_claim(action: str) -> None:
    found = statements(policy(), action)
    assert found
    for one in found:
        assert one["Condition"] in (
            {"Null": {"aws:ResourceTag/drtest:run": "false"}},
            {"Null": {"aws:ResourceTag/drtest:claimed-by": "false"}},
        )
        claimed = "claimed-by" in json.dumps(one["Condition"])
        assert not claimed or action in ("ec2:StopInstances", "ec2:StartInstances")


@pytest.mark.parametrize("action", sorted(CREATING))
def test_what_is_created_carries_the_runs_tag_in_the_same_call(action: str) -> None:
    kinds = {
        "ec2:RunInstances": ("instance", "volume"),
        "ec2:CreateVolume": ("volume",),
        "ec2:CreateSnapshots": ("snapshot",),
        "ec2:CreateSecurityGroup": ("security-group",),
    }[action]
    for kind in kinds:
        (one,) = [
            each
            for each in statements(policy(), action)
            if any(f":{kind}/" in arn for arn in each["Resource"])
            and "aws:ResourceTag" not in json.dumps(each)
            and each["Sid"] != "SnapshotSourceVolumes"
        ]
        assert one["Condition"] == {"Null": {"aws:RequestTag/drtest:run": "false"}}


def test_tags_are_set_in_creating_calls_alone_and_marks_on_instances_alone() -> None:
    new, marks = statements(policy(), "ec2:CreateTags")
    assert {f"ec2:{one}" for one in new["Condition"]["StringEquals"]["ec2:CreateAction"]} == CREATING
    assert marks["Resource"] == ["arn:aws:ec2:*:*:instance/*"]
    assert marks["Condition"]["ForAllValues:StringEquals"] == {
        "aws:TagKeys": ["drtest:claimed-by", "drtest:stopped-by"]
    }
    assert marks["Condition"]["Null"] == {"aws:TagKeys": "false"}


def test_describe_calls_take_no_condition() -> None:
    for action in sorted(actions(policy())):
        if action.startswith("ec2:Describe"):
            (one,) = statements(policy(), action)
            assert (one["Resource"], "Condition" in one) == (["*"], False)


def test_a_target_narrows_where_and_from_what(target: Target) -> None:
    text = json.dumps(policy(target))
    assert "arn:aws:ec2:eu-central-1:*:subnet/subnet-0123456789abcdef0" in text
    assert "arn:aws:ec2:eu-central-1:*:key-pair/drtest" in text
    assert "image/ami-0123456789abcdef0" in text
    assert "arn:aws:ec2:*" not in text
    china = target.model_copy(update={"region": "cn-north-1"})
    assert "arn:aws-cn:ec2:cn-north-1:" in json.dumps(policy(china))


def test_the_secrets_of_all_logins_to_windows_are_read(tmp_path: Path) -> None:
    file = toml(tmp_path)
    login = 'auth = "certificate"\ncertificate = "me.pem"\ncertificate_key = {secret = "drtest/key"}\n'
    copies = '[targets.production.login.windows.copies]\npassword = {secret = "drtest/local"}\n'
    text = file.read_text(encoding="utf-8").replace(
        'password = {secret = "drtest/windows"}\n', login + copies
    )
    file.write_text(text, encoding="utf-8")
    (secrets,) = statements(policy(load_targets(file)["production"]), "secretsmanager:GetSecretValue")
    assert secrets["Resource"] == [
        f"arn:aws:secretsmanager:eu-central-1:*:secret:drtest/{name}-??????" for name in ("key", "local")
    ]


def test_the_secrets_of_a_target_are_read_and_no_others(target: Target) -> None:
    made = policy(target)
    (parameters,) = statements(made, "ssm:GetParameter")
    assert parameters["Resource"] == [
        "arn:aws:ssm:eu-central-1::parameter/aws/service/debian/release/12/latest/amd64",
        "arn:aws:ssm:eu-central-1:*:parameter/drtest/key",
    ]
    (secrets,) = statements(made, "secretsmanager:GetSecretValue")
    assert secrets["Resource"] == ["arn:aws:secretsmanager:eu-central-1:*:secret:drtest/windows-??????"]
    (decrypt,) = statements(made, "kms:Decrypt")
    assert decrypt["Condition"]["StringEquals"]["kms:ViaService"] == [
        "ssm.eu-central-1.amazonaws.com",
        "secretsmanager.eu-central-1.amazonaws.com",
    ]
    assert not {one for one in actions(policy()) if not one.startswith("ec2:")}


def test_who_assumes_a_role_needs_that_alone(everything: Target, tmp_path: Path) -> None:
    (only,) = caller_policy(everything)["Statement"]
    assert only["Action"] == ["sts:AssumeRole"]
    assert only["Resource"] == ["arn:aws:iam::123456789012:role/drtest"]
    assert only["Condition"] == {"StringEquals": {"sts:ExternalId": "shop"}}
    assert "sts:AssumeRole" not in actions(policy(everything))


def documents(target: Target, everything: Target) -> list[dict[str, Any]]:
    return [
        policy(),
        policy(sources=False),
        policy(target, keys=[KEY]),
        policy(everything, keys=[KEY, KEY.replace("0f3a", "1f3a")]),
        caller_policy(everything),
    ]


def test_each_policy_is_grammatical_by_a_validator_that_is_not_ours(
    target: Target, everything: Target
) -> None:
    for document in documents(target, everything):
        IAMPolicyDocumentValidator(json.dumps(document)).validate()
        sids = [one["Sid"] for one in document["Statement"]]
        assert len(sids) == len(set(sids))
        assert all(sid.isalnum() for sid in sids)


def test_each_policy_fits_a_managed_policy(target: Target, everything: Target) -> None:
    for document in documents(target, everything):
        assert size(json.dumps(document, indent=2)) < LIMIT


def test_every_action_is_one_that_its_service_has(target: Target, everything: Target) -> None:
    session = botocore.session.get_session()
    # IAM splits this operation of KMS in two (KMS Developer Guide, ReEncrypt).
    alias = {"kms:ReEncryptFrom": "ReEncrypt", "kms:ReEncryptTo": "ReEncrypt"}
    for document in documents(target, everything):
        for action in actions(document):
            service, name = action.split(":")
            operations = session.get_service_model(service).operation_names
            assert alias.get(action, name) in operations, action


def test_the_readme_lists_the_calls_by_stage() -> None:
    assert calls_table(stages()) in README.read_text(encoding="utf-8")


def test_the_commands_of_the_readme_run(capsys: pytest.CaptureFixture[str]) -> None:
    shown = re.findall(r"^\$ drtest (.*?)(?: > \S+)?$", README.read_text(encoding="utf-8"), re.M)
    assert shown
    for words in shown:
        assert main(shlex.split(words)) == 0
        assert json.loads(capsys.readouterr().out) == policy(sources=False)


def test_the_command_prints_a_policy_and_for_machines_its_size_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(toml(tmp_path))
    assert main(["iam-policy"]) == 0
    assert json.loads(capsys.readouterr().out) == policy()
    assert main(["iam-policy", "--target", "production", "--config", config, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["characters"] < told["limit"] == LIMIT
    assert main(["iam-policy", "--calls"]) == 0
    assert capsys.readouterr().out.strip() == calls_table(stages())
    assert main(["iam-policy", "--caller"]) == 2
    assert "--target" in capsys.readouterr().err
    assert main(["iam-policy", "--target", "production", "--config", config, "--caller"]) == 2
    assert "names no role" in capsys.readouterr().err


def test_the_command_says_what_the_caller_of_a_role_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(toml(tmp_path, 'role_arn = "arn:aws:iam::123456789012:role/drtest"'))
    assert main(["iam-policy", "--target", "production", "--config", config]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["Version"] == "2012-10-17"
    assert "--caller" in said.err
    assert main(["iam-policy", "--target", "production", "--config", config, "--caller"]) == 0
    assert "sts:AssumeRole" in capsys.readouterr().out
