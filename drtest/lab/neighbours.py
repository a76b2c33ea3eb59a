"""What moto serves beside the lab's own actions: networks, key pairs, STS, IAM, SSM parameters, KMS."""

import contextlib
import importlib
import logging
import os
import pickle
import re
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from drtest.lab import refusal
from drtest.lab.books import Books
from drtest.lab.refusal import Refusal

# moto would load 1,301 Amazon images and their snapshots, none of which could be launched here.
os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
os.environ.pop("MOTO_ACCOUNT_ID", None)

from moto.core.exceptions import ServiceException
from moto.core.request import Request
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends

LOG = logging.getLogger(__name__)

SERVED = frozenset(
    {
        "DescribeAccountAttributes",
        "DescribeAvailabilityZones",
        "DescribeRegions",
        "DescribeInstanceTypeOfferings",
        "DescribeInstanceTypes",
        "GetEbsEncryptionByDefault",
        "CreateDefaultVpc",
        "CreateVpc",
        "DeleteVpc",
        "DescribeVpcAttribute",
        "DescribeVpcs",
        "ModifyVpcAttribute",
        "CreateDefaultSubnet",
        "CreateSubnet",
        "DeleteSubnet",
        "DescribeSubnets",
        "ModifySubnetAttribute",
        "AuthorizeSecurityGroupEgress",
        "AuthorizeSecurityGroupIngress",
        "CreateSecurityGroup",
        "DeleteSecurityGroup",
        "DescribeSecurityGroupRules",
        "DescribeSecurityGroups",
        "RevokeSecurityGroupEgress",
        "RevokeSecurityGroupIngress",
        "UpdateSecurityGroupRuleDescriptionsEgress",
        "UpdateSecurityGroupRuleDescriptionsIngress",
        "CreateKeyPair",
        "DeleteKeyPair",
        "DescribeKeyPairs",
        "ImportKeyPair",
        "AttachInternetGateway",
        "CreateInternetGateway",
        "DeleteInternetGateway",
        "DescribeInternetGateways",
        "DetachInternetGateway",
        "AssociateRouteTable",
        "CreateRoute",
        "CreateRouteTable",
        "DeleteRoute",
        "DeleteRouteTable",
        "DescribeRouteTables",
        "DisassociateRouteTable",
        "ReplaceRoute",
        "ReplaceRouteTableAssociation",
        "DescribeDhcpOptions",
        "DescribeNetworkAcls",
        "CreateVpcEndpoint",
        "DeleteVpcEndpoints",
        "DescribeManagedPrefixLists",
        "DescribePrefixLists",
        "DescribeVpcEndpoints",
    }
)
"""The actions of EC2 that moto answers: none of them touches an instance, volume, snapshot or image."""

SERVICES: Mapping[str, tuple[str, str]] = {
    "sts": ("moto.sts.responses", "TokenResponse"),
    "iam": ("moto.iam.responses", "IamResponse"),
    "ssm": ("moto.ssm.responses", "SimpleSystemManagerResponse"),
    "kms": ("moto.kms.responses", "KmsResponse"),
}
"""The other services that moto serves whole, and where its classes are."""

SSM_SERVED = frozenset(
    {
        "AddTagsToResource",
        "DeleteParameter",
        "DeleteParameters",
        "DescribeParameters",
        "GetParameter",
        "GetParameterHistory",
        "GetParameters",
        "GetParametersByPath",
        "ListTagsForResource",
        "PutParameter",
        "RemoveTagsFromResource",
    }
)
"""What of SSM is served: moto would say Success to any SendCommand, and nothing would have been done."""

Reply = tuple[int, dict[str, str], bytes]


class Neighbours:
    """moto, one call at a time: it has no lock of its own, and check-then-act needs one.

    Args:
        books: where moto's EC2 side is kept after each change, so that it outlives the lab's process.
    """

    def __init__(self, books: Books) -> None:
        self._books = books
        self._lock = threading.RLock()
        self._taken_up: set[tuple[str, str]] = set()

    @contextlib.contextmanager
    def ec2(self, owner: str, region: str) -> Iterator[Any]:
        """Hold moto's EC2 of an account and region: an object of moto's ``EC2Backend``.

        Raises:
            Refusal: there is no such region.
        """
        # The books first, as RunInstances takes them: two locks in two orders are a deadlock.
        first = (owner, region) not in self._taken_up
        with self._books.open() if first else contextlib.nullcontext(), self._lock:
            try:
                if first:
                    self._take_up(owner, region)
                yield ec2_backends[owner][region]
            except ServiceException as error:
                raise Refusal(error.code, str(error.message)) from error
            except KeyError as error:
                if region in str(error):
                    raise refusal.bad_value(f"Invalid region: {region}") from error
                raise

    def _take_up(self, owner: str, region: str) -> None:
        """Take up moto's EC2 of an account and region as it was kept; a new one is kept at once.

        Its default network has ids that instances are going to name.
        """
        kept = self._books.fact(f"moto/{owner}/{region}")
        if kept is None:
            self.keep(owner, region)
        else:
            # The lab's own file, in its own folder of mode 0700.
            ec2_backends[owner][region] = pickle.loads(kept)  # noqa: S301
        self._taken_up.add((owner, region))

    def forget(self) -> None:
        """Begin anew with what moto has, as a new process does; what was kept stays kept."""
        with self._lock:
            for owner, region in self._taken_up:
                ec2_backends[owner].pop(region, None)
            self._taken_up.clear()

    def keep(self, owner: str, region: str) -> None:
        """Write moto's EC2 of an account and region into the lab's file."""
        with self._lock:
            self._books.note(f"moto/{owner}/{region}", pickle.dumps(ec2_backends[owner][region]))

    def ask(self, owner: str, region: str, form: Mapping[str, str]) -> Reply:
        """Let moto answer a call of EC2.

        Args:
            owner: the account that asks.
            region: where.
            form: the flat form fields, ``Action`` among them.

        Raises:
            Refusal: moto has not got what was asked for.
        """
        request = Request.from_primitives(
            "POST",
            f"http://ec2.{region}.amazonaws.com/",
            {"Content-Type": "application/x-www-form-urlencoded", "x-moto-account-id": owner},
            urllib.parse.urlencode(form).encode(),
        )
        reading = form["Action"].startswith(("Describe", "Get"))
        with contextlib.nullcontext() if reading else self._books.open(), self.ec2(owner, region):
            try:
                reply = self._dispatch("moto.ec2.responses", "EC2Response", request, form["Action"])
            except KeyError as error:
                # For some resources moto looks a filter up in a dict, and leaves it at that.
                name = str(error.args[0])
                if name in {value for key, value in form.items() if key.endswith(".Name")}:
                    raise refusal.bad_value(f"The filter '{name}' is invalid") from error
                raise
            if reply[0] < 300 and not reading:
                self.keep(owner, region)
        return reply

    def serve(self, service: str, owner: str, environ: dict[str, Any]) -> Reply:
        """Let moto answer a call of another service, as it came.

        Args:
            service: a key of `SERVICES`.
            owner: the account that asks.
            environ: the WSGI request, its body readable.

        Raises:
            Refusal: moto has not got what was asked for.
        """
        action = str(environ.get("HTTP_X_AMZ_TARGET", "")).rpartition(".")[2]
        if service == "ssm" and action not in SSM_SERVED:
            raise refusal.unsupported(f"the action {action or '(none)'} of SSM")
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = owner
        request = Request(environ)
        module, name = SERVICES[service]
        with self._lock:
            return self._dispatch(module, name, request, f"this call of {service}")

    def _dispatch(self, module: str, name: str, request: Request, what: str) -> Reply:
        responses = getattr(importlib.import_module(module), name)
        try:
            status, headers, body = responses.dispatch(request)
        except NotImplementedError as error:  # how moto says that it has no such call, or no such filter
            if found := re.search(r"The filter '([^']*)'", str(error)):
                raise refusal.bad_value(f"The filter '{found[1]}' is invalid") from error
            raise refusal.unsupported(what) from error
        except ServiceException as error:
            raise Refusal(error.code, str(error.message)) from error
        except (Refusal, KeyError):
            raise
        except Exception as error:
            LOG.exception("moto failed in %s", what)
            raise Refusal("InternalError", f"moto failed in {what}: {error!r}", status=500) from error
        plain = {str(k): str(v) for k, v in headers.items() if k.lower() not in {"status", "content-length"}}
        return int(status), plain, body.encode() if isinstance(body, str) else bytes(body or b"")

    def account_of(self, access_key: str) -> str | None:
        """Say whose temporary key this is: one that STS or IAM gave out here; None if nobody's."""
        with self._lock:
            for owner, account in list(iam_backends.items()):
                if access_key in account["aws"].access_keys:
                    return str(owner)
        return None
