"""The boto3 client of an S3 store: settings in, client out."""

from pathlib import Path
from typing import Any, cast

import boto3
from botocore.config import Config

from components.common.errors import InputError
from components.common.store.settings import StoreSettings

DEFAULT_REGION = "us-east-1"
POOL_SIZE = 32


def make_client(settings: StoreSettings) -> Any:
    """A client with credentials from the environment, the shared config files or the pod's identity.

    It tries once: retries are ours (retry.py), which must know of each of them to settle conditional writes. Checksums
    that only newer servers know are off; every write carries a Content-MD5, which all servers verify.
    """
    if settings.ca_bundle is not None and not Path(settings.ca_bundle).is_file():
        raise InputError(
            "there is no such certificate file",
            where="store.ca_bundle (or CONVEYOR_S3_CA_BUNDLE)",
            found=settings.ca_bundle,
            todo="give the path of a PEM file, or leave the setting out for publicly trusted servers",
        )
    session = boto3.session.Session()
    own = settings.endpoint is not None
    style = ("path" if own else "auto") if settings.addressing == "auto" else settings.addressing
    options: dict[str, Any] = {
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "s3": {"addressing_style": style},
        "connect_timeout": settings.connect_timeout_s,
        "read_timeout": settings.read_timeout_s,
        "max_pool_connections": POOL_SIZE,
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "tcp_keepalive": True,
    }
    if settings.proxy:
        options["proxies"] = {"http": settings.proxy, "https": settings.proxy}
    return cast(
        Any,
        session.client(
            "s3",
            endpoint_url=settings.endpoint,
            region_name=settings.region or session.region_name or DEFAULT_REGION,
            verify=settings.ca_bundle,
            config=Config(**options),
        ),
    )
