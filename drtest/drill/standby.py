"""Standby instances: the helper and the scratch instance of a drill, found again or launched, thrown away when bad."""

from typing import Any

from drtest.cloud.resources import Instance
from drtest.drill.site import Site
from drtest.errors import EnvironmentFailedError

HELPER = "helper"
SCRATCH = "scratch"


def isolation(site: Site) -> str:
    """The security group of all that is launched: the target's, or one of the drill's own without egress."""
    if site.target.security_group:
        return site.target.security_group
    subnet = site.ec2.subnet(site.target.subnet)
    return site.ec2.create_security_group(
        site.ownership("isolation", purpose="isolation"),
        vpc=subnet.vpc,
        ports=(site.target.login_for(site.os).port,),
        source=site.target.runner_cidr or subnet.cidr,
    )


def launch(purpose: str, *, image: str, type_: str, site: Site, **more: object) -> Instance:
    """Find the drill's instance of this purpose, or launch it into isolation."""
    ownership = site.ownership(purpose, purpose=purpose)
    if found := site.ec2.launched(ownership):
        return found
    parameters: dict[str, Any] = {
        "ImageId": image,
        "InstanceType": type_,
        "SubnetId": site.target.subnet,
        "SecurityGroupIds": [isolation(site)],
        **more,
    }
    if site.target.key_name:
        parameters["KeyName"] = site.target.key_name
    return site.ec2.launch(ownership, **parameters)


def standby(purpose: str, *, type_: str, site: Site) -> Instance:
    """Find or launch the helper or the scratch instance; it may still be starting."""
    image = site.images.helper(site.os) if purpose == HELPER else site.images.scratch(site.os)
    return launch(purpose, image=image, type_=type_, site=site)


def running(instance: str, *, site: Site, what: str) -> Instance:
    """Wait until an instance runs; a stopped one is started.

    Raises:
        EnvironmentFailedError: it came to an end instead.
    """
    seen = site.ec2.describe(Instance, [instance]).get(instance)
    if seen is not None and seen.state == "stopped":
        site.ec2.client.start_instances(InstanceIds=[instance])
    return site.poller.until(
        Instance, [instance], ready=is_running, deadline=site.scenario.deadlines.launch, what=f"{what} to run"
    )[instance]


def is_running(instance: Instance) -> bool:
    """Whether it runs.

    Raises:
        EnvironmentFailedError: it never will: its launch failed.
    """
    if instance.state in ("shutting-down", "terminated"):
        raise EnvironmentFailedError(
            f"Instance {instance.id} is {instance.state} instead of running ({instance.reason or 'no reason given'}).",
            # How a missing permission on a KMS key looks: repost.aws/knowledge-center/kms-iam-ec2-permission.
            remedy="Client.InternalError points to a KMS key that the caller may not use; else see the reason.",
        )
    return instance.state == "running"


def stopped(instance: str, *, site: Site, what: str) -> Instance:
    """Stop an instance whose disks are thrown away, by force and without its shutdown, and wait for it.

    Raises:
        EnvironmentFailedError: it came to an end instead.
    """
    # One that was launched just now may not be seen yet, and can't be stopped while it is pending.
    seen = site.poller.until(
        Instance,
        [instance],
        ready=lambda item: is_running(item) or item.state in ("stopping", "stopped"),
        deadline=site.scenario.deadlines.launch,
        what=f"{what} to run, so that it can be stopped",
    )[instance]
    if seen.state == "running":
        site.ec2.client.stop_instances(InstanceIds=[instance], SkipOsShutdown=True)
    return site.poller.until(
        Instance,
        [instance],
        ready=lambda item: item.state == "stopped",
        deadline=site.scenario.deadlines.stop,
        what=f"{what} to be stopped",
    )[instance]


def discard(instance: str, *, site: Site) -> None:
    """Throw away an instance that is not to be trusted any more; the next use launches another.

    Its end is not waited for: the clean-up does, and until then it is in the ledger.
    """
    site.ec2.terminate(instance)
