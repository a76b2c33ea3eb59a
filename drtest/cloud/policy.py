"""The least IAM policy of a drill: the calls that it makes, by stage, and the policy that allows just them.

What a drill creates carries the tag ``drtest:run`` from the call that creates it, so the policy can ask for that tag:
in the request where something is created, on the resource where it is changed or deleted. A source that is not the
run's is marked ``drtest:claimed-by`` before anything else is done with it, and that mark is asked for in turn. Which
condition an action takes: Service Authorization Reference, Actions, resources, and condition keys for Amazon EC2.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from drtest.cloud.tags import CLAIMED_BY, RUN, STOPPED_BY
from drtest.cloud.targets import ImageRef, SecretRef, Target
from drtest.errors import UsageError

LIMIT = 6144
"""Characters of a managed policy, white space not counted (IAM User Guide, IAM and AWS STS quotas)."""

ANYWHERE = (
    "DescribeImages",
    "DescribeInstances",
    "DescribeInstanceStatus",
    "DescribeSecurityGroups",
    "DescribeSnapshots",
    "DescribeSubnets",
    "DescribeVolumes",
)

SOURCE = "a source that exists:"

STAGES: Mapping[str, tuple[str, ...]] = {
    "throughout: what there is, and what is waited for": ANYWHERE,
    f"{SOURCE} preflight": ("DescribeInstanceAttribute", "DescribeAddresses"),
    f"{SOURCE} its marks set, and taken away again": ("CreateTags", "DeleteTags"),
    "isolation, where the target names no security group": (
        "CreateSecurityGroup",
        "RevokeSecurityGroupEgress",
        "AuthorizeSecurityGroupIngress",
    ),
    "a launched source, the helper, the scratch instance": ("RunInstances",),
    "a recovery point: all volumes of the source at one moment, never retried by botocore": (
        "CreateSnapshots",
    ),
    "`stopped` captures, and the scratch instance's root swap": ("StopInstances", "StartInstances"),
    "copies A and B": ("CreateVolume", "AttachVolume", "DetachVolume"),
    "what a server shows while it starts, and by which key it is known": (
        "GetConsoleOutput",
        "GetConsoleScreenshot",
    ),
    "cleaning": ("TerminateInstances", "DeleteVolume", "DeleteSnapshot", "DeleteSecurityGroup"),
}
"""The actions of EC2 that a drill calls, by what they are for."""

OF_SOURCES = frozenset({"DescribeInstanceAttribute", "DescribeAddresses", "DeleteTags"})
"""Actions that only a source needs that the run did not launch."""
OF_GROUPS = frozenset(
    {
        "CreateSecurityGroup",
        "RevokeSecurityGroupEgress",
        "AuthorizeSecurityGroupIngress",
        "DeleteSecurityGroup",
    }
)
"""Actions that are not needed where the target names a security group."""

CREATE = ("RunInstances", "CreateVolume", "CreateSnapshots", "CreateSecurityGroup")

Statement = dict[str, Any]


def stages(target: Target | None = None, *, sources: bool = True) -> dict[str, tuple[str, ...]]:
    """The EC2 actions that drills call, by stage; the arguments are those of `policy`."""
    left_out = (frozenset() if sources else OF_SOURCES) | (
        OF_GROUPS if target and target.security_group else frozenset()
    )
    kept = {
        stage: tuple(action for action in several if action not in left_out)
        for stage, several in STAGES.items()
    }
    if not sources:
        kept = {stage: several for stage, several in kept.items() if not stage.startswith(SOURCE)}
    return {stage: several for stage, several in kept.items() if several}


def calls_table(found: Mapping[str, Sequence[str]]) -> str:
    """Calls by stage as a table in Markdown."""
    rows = [f"| {', '.join(several)} | {stage} |" for stage, several in found.items()]
    return "\n".join(["| EC2 calls | for |", "| --- | --- |", *rows])


def actions(document: Mapping[str, Any]) -> frozenset[str]:
    """All actions that a policy allows, as ``ec2:RunInstances``."""
    return frozenset(action for statement in document["Statement"] for action in statement["Action"])


def size(text: str) -> int:
    """The characters of a policy that count towards `LIMIT`."""
    return sum(not character.isspace() for character in text)


def policy(target: Target | None = None, *, sources: bool = True, keys: Sequence[str] = ()) -> Statement:
    """The policy of whoever runs drills; on a target with a role, that role's.

    Args:
        target: where; None for any account and region, and images by id.
        sources: whether servers that exist are proven, not only ones that the drill launches.
        keys: ARNs of the customer managed KMS keys that volumes are encrypted by.
    """
    own_group = target is None or target.security_group is None
    place = _Place(target)
    statements = [
        *_reading(sources=sources),
        *_launching(place, target=target),
        *_capturing(place, sources=sources),
        *_changing(place, sources=sources),
        *(_isolation(place) if own_group else ()),
        *_tagging(place, sources=sources, own_group=own_group),
        *(_secrets(place, target) if target else ()),
        *(_encryption(keys) if keys else ()),
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def caller_policy(target: Target) -> Statement:
    """The policy of whoever assumes a target's role.

    Raises:
        UsageError: the target names none.
    """
    if target.role_arn is None:
        raise UsageError(
            f"Target {target.name} names no role that would have to be assumed.",
            remedy=f"Set role_arn in [targets.{target.name}] of drtest.toml, or leave --caller out.",
        )
    only = {"StringEquals": {"sts:ExternalId": target.external_id}} if target.external_id else {}
    return {
        "Version": "2012-10-17",
        "Statement": [_allow("AssumeRole", ["sts:AssumeRole"], [target.role_arn], only)],
    }


class _Place:
    """Where resources are: the target's region, in whichever account calls."""

    def __init__(self, target: Target | None) -> None:
        self.region = target.region if target else "*"
        self.partition = {"cn": "aws-cn", "us-gov": "aws-us-gov"}.get(
            next((start for start in ("cn", "us-gov") if self.region.startswith(f"{start}-")), ""),
            "aws",
        )

    def arn(self, service: str, resource: str, *, account: str = "*") -> str:
        return f"arn:{self.partition}:{service}:{self.region}:{account}:{resource}"

    def each(self, *kinds: str) -> list[str]:
        """Every EC2 resource of these kinds; images and snapshots have no account, which ``*`` fits too."""
        return [self.arn("ec2", f"{kind}/*") for kind in kinds]


def _allow(
    sid: str, several: Iterable[str], resources: Sequence[str], condition: Mapping[str, Any] | None = None
) -> Statement:
    made: Statement = {
        "Sid": sid,
        "Effect": "Allow",
        "Action": [action if ":" in action else f"ec2:{action}" for action in several],
        "Resource": list(resources),
    }
    return {**made, "Condition": dict(condition)} if condition else made


def _there(key: str) -> dict[str, Any]:
    """The condition that a key is there, whatever its value: the run's id is a new one each time."""
    return {"Null": {key: "false"}}


TAGGED = _there(f"aws:RequestTag/{RUN}")
OURS = _there(f"aws:ResourceTag/{RUN}")
CLAIMED = _there(f"aws:ResourceTag/{CLAIMED_BY}")


def _reading(*, sources: bool) -> Iterator[Statement]:
    # These take neither resources nor conditions, but for the attribute, which is read of one instance.
    yield _allow(
        "Look", [*ANYWHERE, *(("DescribeAddresses", "DescribeInstanceAttribute") if sources else ())], ["*"]
    )


def _launching(place: _Place, *, target: Target | None) -> Iterator[Statement]:
    yield _allow("LaunchTagged", ["RunInstances"], place.each("instance", "volume"), TAGGED)
    given = place.each("image", "subnet", "key-pair")
    if target is not None:
        references = [
            *target.images.values(),
            *target.scratch_images.values(),
            *target.helper_images.values(),
        ]
        given = [
            place.arn("ec2", f"image/{image}") for image in dict.fromkeys(_image(one) for one in references)
        ]
        given.append(place.arn("ec2", f"subnet/{target.subnet}"))
        given += [place.arn("ec2", f"key-pair/{target.key_name}")] if target.key_name else []
        given += (
            [place.arn("ec2", f"security-group/{target.security_group}")] if target.security_group else []
        )
    yield _allow("LaunchFrom", ["RunInstances"], [*given, *place.each("network-interface")])


def _image(reference: ImageRef) -> str:
    """An image that SSM names is another one next month."""
    return reference.id or "*"


def _capturing(place: _Place, *, sources: bool) -> Iterator[Statement]:
    yield _allow("SnapshotTagged", ["CreateSnapshots"], place.each("snapshot"), TAGGED)
    yield _allow("SnapshotOwn", ["CreateSnapshots"], place.each("instance", "volume"), OURS)
    if sources:
        # A source's volumes carry no mark of ours; its instance does, and a call needs both.
        yield _allow("SnapshotSource", ["CreateSnapshots"], place.each("instance"), CLAIMED)
        yield _allow("SnapshotSourceVolumes", ["CreateSnapshots"], place.each("volume"))
    yield _allow("RestoreTagged", ["CreateVolume"], place.each("volume"), TAGGED)
    # `existing` recovery points are somebody else's.
    yield _allow("RestoreFrom", ["CreateVolume"], place.each("snapshot"), {} if sources else OURS)


def _changing(place: _Place, *, sources: bool) -> Iterator[Statement]:
    own = [
        "StartInstances",
        "StopInstances",
        "TerminateInstances",
        "GetConsoleOutput",
        "GetConsoleScreenshot",
    ]
    own += ["AttachVolume", "DetachVolume", "DeleteVolume", "DeleteSnapshot"]
    yield _allow("Own", own, place.each("instance", "volume", "snapshot"), OURS)
    if sources:
        yield _allow(
            "Source", ["StartInstances", "StopInstances", "GetConsoleOutput"], place.each("instance"), CLAIMED
        )


def _isolation(place: _Place) -> Iterator[Statement]:
    group = place.each("security-group")
    yield _allow("IsolateTagged", ["CreateSecurityGroup"], group, TAGGED)
    yield _allow("IsolateIn", ["CreateSecurityGroup"], place.each("vpc"))
    used = ["AuthorizeSecurityGroupIngress", "RevokeSecurityGroupEgress", "DeleteSecurityGroup"]
    yield _allow("IsolateOwn", [*used, "RunInstances"], group, OURS)


def _tagging(place: _Place, *, sources: bool, own_group: bool) -> Iterator[Statement]:
    create = [action for action in CREATE if own_group or action not in OF_GROUPS]
    kinds = ["instance", "volume", "snapshot", *(["security-group"] if own_group else [])]
    yield _allow("TagNew", ["CreateTags"], place.each(*kinds), {"StringEquals": {"ec2:CreateAction": create}})
    if sources:
        marks = {"ForAllValues:StringEquals": {"aws:TagKeys": [CLAIMED_BY, STOPPED_BY]}}
        # ForAllValues is true of no keys at all (IAM User Guide, multivalued context keys).
        yield _allow(
            "MarkSource", ["CreateTags", "DeleteTags"], place.each("instance"), marks | _there("aws:TagKeys")
        )


def _secrets(place: _Place, target: Target) -> Iterator[Statement]:
    """What a target keeps in SSM and Secrets Manager: images, keys and passwords."""
    images = [*target.images.values(), *target.scratch_images.values(), *target.helper_images.values()]
    references = _references(target)
    parameters = [one.ssm for one in images if one.ssm]
    kept = [one.parameter for one in references if one.parameter]
    secrets = [one.secret for one in references if one.secret]
    if parameters or kept:
        names = [_parameter(place, name) for name in dict.fromkeys([*parameters, *kept])]
        yield _allow("ReadParameters", ["ssm:GetParameter"], names)
    if secrets:
        yield _allow(
            "ReadSecrets",
            ["secretsmanager:GetSecretValue"],
            [_secret(place, name) for name in dict.fromkeys(secrets)],
        )
    services = [*(["ssm"] if kept else []), *(["secretsmanager"] if secrets else [])]
    if services:
        # Needed where a customer managed key encrypts them, and through these services alone.
        suffix = "amazonaws.com.cn" if place.partition == "aws-cn" else "amazonaws.com"
        through = [f"{service}.{place.region}.{suffix}" for service in services]
        yield _allow(
            "DecryptSecrets",
            ["kms:Decrypt"],
            [place.arn("kms", "key/*")],
            {"StringEquals": {"kms:ViaService": through}},
        )


def _references(target: Target) -> list[SecretRef]:
    """The secrets that a drill fetches: those of the credentials are asked for before there is a session."""
    login = target.login
    return [
        *([login.linux.key] if login.linux else []),
        *(
            secret
            for one in (login.windows.each if login.windows else ())
            for secret in (one.password, one.certificate_key)
            if secret
        ),
    ]


def _parameter(place: _Place, name: str) -> str:
    if name.startswith("arn:"):
        return name
    # Public parameters belong to no account (Systems Manager User Guide, Calling AMI public parameters).
    account = "" if name.startswith("/aws/service/") else "*"
    return place.arn("ssm", f"parameter/{name.lstrip('/')}", account=account)


def _secret(place: _Place, name: str) -> str:
    # Secrets Manager puts six characters behind a name (Secrets Manager User Guide, IAM policy examples).
    return name if name.startswith("arn:") else place.arn("secretsmanager", f"secret:{name}-??????")


def _encryption(keys: Sequence[str]) -> Iterator[Statement]:
    """What EBS asks of a customer managed key (EBS User Guide, How Amazon EBS encryption works)."""
    use = ["Decrypt", "DescribeKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo"]
    yield _allow("UseKeys", [f"kms:{action}" for action in use], keys)
    yield _allow("GrantKeys", ["kms:CreateGrant"], keys, {"Bool": {"kms:GrantIsForAWSResource": "true"}})
