"""Making the bucket of a store: for new clusters, where nobody did it by hand."""

from botocore.exceptions import ClientError

from components.common.store.base import Store
from components.common.store.s3 import S3Store
from components.common.store.s3_client import DEFAULT_REGION
from components.common.store.s3_errors import code_of

OURS = frozenset({"BucketAlreadyOwnedByYou"})
TAKEN = frozenset({"BucketAlreadyExists"})  # what some servers say of one's own bucket too: `check` will tell


def make_bucket(store: Store) -> bool:
    """Make the bucket of an S3 store; False where it is there already, or where the store is no bucket.

    Raises what the store's own calls raise: `InputError` for wrong credentials, `StoreError` for a server that cannot
    be reached.
    """
    if not isinstance(store, S3Store):
        return False
    client = store._client
    region = client.meta.region_name
    options = (
        {}
        if region == DEFAULT_REGION or store.settings.endpoint
        else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    )

    def create() -> bool:
        try:
            client.create_bucket(Bucket=store.bucket, **options)
        except ClientError as error:
            if code_of(error) in OURS | TAKEN:
                return False
            raise
        return True

    return store._call(create, "", "make the bucket")
