"""The way into an account: a boto3 session as a target describes it, and the clients that a run uses."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from drtest import __version__
from drtest.cloud.secrets import resolve_secret
from drtest.cloud.targets import Target
from drtest.errors import EnvironmentFailedError

if TYPE_CHECKING:
    from boto3 import Session
    from mypy_boto3_ec2 import EC2Client

_POOL = 32
"""Connections kept open: more than the threads that ask at once."""


@dataclass(frozen=True, kw_only=True)
class Clients:
    """What a run speaks to AWS with.

    Attributes:
        session: for the other services, as SSM.
        ec2: retries by botocore's standard mode.
        unretried: the same without retries, for calls that must not be made twice.
    """

    session: "Session"
    ec2: "EC2Client"
    unretried: "EC2Client"
    endpoint_url: str | None

    def parameter(self, name: str) -> str:
        """A public SSM parameter, as the id of an image.

        Raises:
            EnvironmentFailedError: SSM did not give it out.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self.session.client("ssm", endpoint_url=self.endpoint_url).get_parameter(Name=name)
        except (BotoCoreError, ClientError) as error:
            raise EnvironmentFailedError(
                f"SSM parameter {name} could not be read: {error}",
                remedy="Look at its name and region, and at the right to ssm:GetParameter.",
            ) from None
        return str(answer["Parameter"]["Value"])


def connect(target: Target) -> Clients:
    """The clients for a target; nothing is called yet, but for a role that is assumed.

    Raises:
        UsageError: a secret that the target refers to is not there.
        EnvironmentFailedError: there is no such profile, or the role was not given.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        session = _session(target, boto3)
        shared: dict[str, Any] = {
            "user_agent_extra": f"drtest/{__version__}",
            "connect_timeout": 10,
            "read_timeout": 60,
            "max_pool_connections": _POOL,
        }
        return Clients(
            session=session,
            ec2=session.client(
                "ec2",
                endpoint_url=target.endpoint_url,
                config=Config(retries={"mode": "standard", "total_max_attempts": 8}, **shared),
            ),
            unretried=session.client(
                "ec2",
                endpoint_url=target.endpoint_url,
                config=Config(retries={"mode": "standard", "total_max_attempts": 1}, **shared),
            ),
            endpoint_url=target.endpoint_url,
        )
    except (BotoCoreError, ClientError) as error:
        raise EnvironmentFailedError(
            f"Target {target.name}: {error}",
            remedy=f"Look at profile and role_arn of [targets.{target.name}] in drtest.toml.",
        ) from None


def _session(target: Target, boto3: Any) -> "Session":
    if target.credentials is not None:
        token = target.credentials.session_token
        return cast(
            "Session",
            boto3.Session(
                region_name=target.region,
                aws_access_key_id=target.credentials.access_key,
                aws_secret_access_key=resolve_secret(target.credentials.secret_key),
                aws_session_token=resolve_secret(token) if token else None,
            ),
        )
    session = boto3.Session(profile_name=target.profile, region_name=target.region)
    if target.role_arn is None:
        return cast("Session", session)
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
    from botocore.session import get_session

    # As botocore's own profiles with role_arn do it: credentials that are refreshed while a drill runs for hours.
    inner = session._session
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=inner.create_client,
        source_credentials=inner.get_credentials(),
        role_arn=target.role_arn,
        extra_args={
            "RoleSessionName": "drtest",
            **({"ExternalId": target.external_id} if target.external_id else {}),
        },
    )
    assumed = get_session()
    assumed_credentials = DeferredRefreshableCredentials(
        method="assume-role", refresh_using=fetcher.fetch_credentials
    )
    # The one way to give a session credentials that refresh themselves (boto3 issue 443).
    cast("Any", assumed)._credentials = assumed_credentials
    assumed.set_config_variable("region", target.region)
    return cast("Session", boto3.Session(botocore_session=assumed))
