"""A real S3 API on this machine (moto's server), and its credentials."""

import functools
import os

import pytest
import requests


class S3:
    """The server; `client` has all permissions."""

    def __init__(self):
        # Here, since all tests load this file and few need these imports, which take a second.
        import boto3
        from moto.server import ThreadedMotoServer

        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        self.url = "http://{}:{}".format(*self.server.get_host_and_port())
        secrets = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        self.client, self.iam = (
            boto3.client(service, region_name="us-east-1", endpoint_url=self.url, **secrets)
            for service in ("s3", "iam")
        )

    def clear(self):
        requests.post(f"{self.url}/moto-api/reset-auth", data=b"inf")
        requests.post(f"{self.url}/moto-api/reset")
        self.client.create_bucket(Bucket="speech")

    def guard(self):
        """From now on, check permissions, as AWS does."""
        requests.post(f"{self.url}/moto-api/reset-auth", data=b"0")

    def put(self, key, body=b"sound"):
        """Put an object under any key, even an invalid one."""
        from moto.core import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends

        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object("speech", key, body)

    def things(self):
        """Return key → its entry in the listing."""
        found = self.client.list_objects_v2(Bucket="speech").get("Contents", [])
        return {thing["Key"]: thing for thing in found}


@pytest.fixture(scope="session")
def s3_service():
    from botocore.loaders import JSONFileLoader

    # Each client reads megabytes of service descriptions, most of the time of a small copy.
    read = functools.cache(JSONFileLoader().load_file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", lambda _self, path: read(path))
        service = S3()
        yield service
        service.server.stop()


@pytest.fixture
def log_in(monkeypatch):
    """Use the credentials of a user."""

    def become(key, secret):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)

    return become


@pytest.fixture
def s3(s3_service, monkeypatch, log_in):
    """The service with one empty bucket, and environment variables for it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_service.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    log_in("testing", "testing")
    s3_service.clear()
    return s3_service
