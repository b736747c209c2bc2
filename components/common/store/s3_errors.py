"""What an S3 server or its client library says, put into words with a cure."""

from botocore import exceptions as boto

from components.common.errors import ConveyorError, InputError, StoreError
from components.common.store.base import NO_BUCKET, NotFoundError
from components.common.store.retry import is_transient, is_untrusted

WRONG_SECRET = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthFailure", "401"}
)
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
FORBIDDEN = frozenset({"AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden", "403"})
MISSING = frozenset({"NoSuchKey", "NoSuchUpload", "NotFound", "404"})
ELSEWHERE = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}
)

SET_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE, or give the pod an identity); "
    "they never stand in the config"
)


def code_of(error: BaseException) -> str:
    """The S3 error code, such as `NoSuchKey`; the HTTP status where the answer had no body; "" for no S3 error."""
    if isinstance(error, boto.ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return ""


def status_of(error: BaseException) -> int:
    """The HTTP status of an S3 error, 0 for any other error."""
    if isinstance(error, boto.ClientError):
        return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return 0


def translate(
    error: Exception, *, where: str, bucket: str, endpoint: str | None, doing: str
) -> ConveyorError:
    """An error for a person. `where` is the object's URL, `doing` what was tried (read, write, list...)."""
    code = code_of(error)
    server = endpoint or "AWS S3"
    if isinstance(error, boto.ClientError):
        said = f"{code}: {error.response.get('Error', {}).get('Message', '')}".rstrip(": ")
    else:
        said = str(error)
    by_code = _by_code(code, said, where=where, bucket=bucket, server=server, doing=doing)
    if by_code is not None:
        return by_code
    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError, boto.TokenRetrievalError)):
        return InputError(
            "there are no credentials for the store", where=where, found=said, todo=SET_CREDENTIALS
        )
    if isinstance(error, boto.ProfileNotFound):
        return InputError(
            "AWS_PROFILE names an unknown profile", where=where, found=said, todo=SET_CREDENTIALS
        )
    if isinstance(error, (boto.ConfigParseError, boto.ConfigNotFound)):
        return InputError(
            "the AWS configuration cannot be read", where=where, found=said, todo="mend that file"
        )
    if is_untrusted(error):
        return InputError(
            "the store's certificate is not trusted",
            where=server,
            found=said,
            todo="set store.ca_bundle (or CONVEYOR_S3_CA_BUNDLE) to the file with the certificate of its authority",
        )
    if isinstance(error, (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError)):
        return StoreError(
            "the store's server cannot be reached",
            where=server,
            found=said,
            todo="check store.endpoint (or CONVEYOR_S3_ENDPOINT), the network and the proxy; 'conveyor doctor' helps",
        )
    if isinstance(error, (boto.ParamValidationError, boto.InvalidRegionError)):
        return InputError("the store's URL or settings cannot be used", where=where, found=said)
    again = (
        "it failed again and again; run again later, everything finished is kept"
        if is_transient(error)
        else None
    )
    return StoreError(f"the store could not {doing}", where=where, found=said, todo=again)


def _by_code(
    code: str, said: str, *, where: str, bucket: str, server: str, doing: str
) -> ConveyorError | None:
    if code in MISSING:
        return NotFoundError("there is no such object in the store", where=where)
    if code == "NoSuchBucket":
        return InputError(
            NO_BUCKET,
            where=where,
            found=f"{server} has no bucket {bucket!r}",
            todo=f"make it (aws s3 mb s3://{bucket}), or check the name and the endpoint",
        )
    if code == "InvalidBucketName":
        return InputError("this is not a bucket name that S3 allows", where=where, found=repr(bucket))
    if code in WRONG_SECRET:
        return InputError(
            "the store refused the credentials: wrong key or secret",
            where=where,
            found=said,
            todo=SET_CREDENTIALS,
        )
    if code in EXPIRED:
        return InputError("the store's credentials have expired", where=where, found=said, todo="renew them")
    if code in FORBIDDEN:
        return InputError(
            f"these credentials may not {doing} here",
            where=where,
            found=said,
            todo="they need s3:GetObject, PutObject, DeleteObject, ListBucket and AbortMultipartUpload on the bucket",
        )
    if code in ELSEWHERE:
        return InputError(
            "the bucket lies in another region",
            where=where,
            found=said,
            todo="set store.region (or CONVEYOR_S3_REGION) to the bucket's region",
        )
    if code == "RequestTimeTooSkewed":
        return StoreError(
            "this machine's clock differs from the store's", where=server, found=said, todo="set it right"
        )
    if code in {"XMinioStorageFull", "QuotaExceeded", "InsufficientStorage"}:
        return StoreError(
            "the store is full", where=where, found=said, todo="free some space ('conveyor gc' helps)"
        )
    return None
