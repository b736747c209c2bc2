"""How to reach an object store; credentials are never among the settings."""

import os
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator

from components.common.config import StepConfig
from components.common.errors import InputError

ENV_PREFIX = "CONVEYOR_S3_"


class StoreSettings(StepConfig):
    """Settings of an S3 store; a file store needs none.

    Each can also be given by the environment as `CONVEYOR_S3_<NAME>`, such as `CONVEYOR_S3_ENDPOINT`; what the config
    sets wins. Credentials come from the environment, the shared AWS config files or the pod's identity only.
    """

    endpoint: str | None = None
    """URL of the S3 server, such as https://minio.example:9000; unset means AWS (or AWS_ENDPOINT_URL)."""
    region: str | None = None
    """Region that requests are signed for; unset takes the AWS configuration's, else us-east-1."""
    addressing: Literal["auto", "path", "virtual"] = "auto"
    """Where the bucket's name stands: in the URL's path or in its host name. auto: path with an own endpoint."""
    ca_bundle: str | None = None
    """File with the certificates that the server's own must be signed by; unset takes the system's."""
    server_side_encryption: Literal["AES256", "aws:kms"] | None = None
    """Encryption asked of the server for everything that is written; unset leaves it to the bucket."""
    kms_key_id: str | None = None
    """Key for server_side_encryption aws:kms; unset takes the bucket's default key."""
    proxy: str | None = None
    """HTTP proxy URL for all requests; unset takes HTTPS_PROXY and NO_PROXY from the environment."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 8
    """Tries of one request before giving up; the first few follow quickly, the last ones some 20 s apart."""
    connect_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    """Seconds to wait for a connection."""
    read_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds to wait for more bytes of an answer."""
    part_size_mib: Annotated[int, Field(ge=5, le=1024)] = 16
    """Files larger than this are uploaded in parts of this size (in parts large enough to need at most 9,000)."""
    max_concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    """Parts of one file uploaded at once; each holds part_size_mib in memory."""

    @field_validator("endpoint", "proxy")
    @classmethod
    def _plain_http(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an http:// or https:// URL with a host")
        if parts.username or parts.password:
            raise ValueError("a URL without user and password: credentials never stand in settings")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _key_has_a_use(self) -> "StoreSettings":
        if self.kms_key_id and self.server_side_encryption != "aws:kms":
            raise ValueError("kms_key_id only together with server_side_encryption: aws:kms")
        return self

    def completed(self, environment: Mapping[str, str] = os.environ) -> "StoreSettings":
        """These settings, with those that were not given taken from the environment. Raises `InputError`."""
        # A config's section adds the store's URL to these settings.
        names = set(StoreSettings.model_fields)
        given = self.model_dump(include=self.model_fields_set & names)
        found = {}
        for name in StoreSettings.model_fields:
            variable = ENV_PREFIX + name.upper()
            if name not in given and environment.get(variable):
                found[name] = environment[variable]
        try:
            read = StoreSettings.model_validate_strings(found).model_dump(include=set(found))
            return StoreSettings(**{**read, **given})
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else ""
            raise InputError(
                "a setting of the store is wrong",
                where=f"environment variable {ENV_PREFIX}{name.upper()}"
                if name in found
                else f"store.{name}",
                expected=first["msg"].removeprefix("Value error, "),
                found=repr(found.get(name, given.get(name))) if name else None,
            ) from None
