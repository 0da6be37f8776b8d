"""Microseconds per presigned GET URL: ours beside botocore and obstore, in one run on one core.

python benchmarks/standalone/signing.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import botocore.session
import obstore
from botocore.config import Config
from obstore.store import S3Store
from rich.console import Console
from rich.table import Table

from telewarm.models import Sha256
from telewarm.storage.config import S3Config
from telewarm.storage.keys import blob_key
from telewarm.storage.object_store import BlobStore

TARGET = 8.0  # microseconds
ROUNDS = 7
CONFIG = S3Config(
    bucket="library",
    endpoint="https://s3.example.com",
    region="eu-west-1",
    access_key_id="AKIDEXAMPLE",
    secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
)
KEYS = [blob_key(Sha256(f"{number:064x}"), "jpg") for number in range(1000)]


def ours() -> Callable[[str], object]:
    store = BlobStore.open(CONFIG)
    return lambda key: store.presigned_get(key, expires=3600, now=datetime.now(UTC))


def with_obstore() -> Callable[[str], object]:
    store = S3Store(
        CONFIG.bucket,
        endpoint=CONFIG.endpoint,
        region=CONFIG.region,
        access_key_id=CONFIG.access_key_id,
        secret_access_key=CONFIG.secret_access_key,
    )
    hour = timedelta(hours=1)
    return lambda key: obstore.sign(store, "GET", key, hour)


def with_botocore() -> Callable[[str], object]:
    client = botocore.session.Session().create_client(
        "s3",
        endpoint_url=CONFIG.endpoint,
        region_name=CONFIG.region,
        aws_access_key_id=CONFIG.access_key_id,
        aws_secret_access_key=CONFIG.secret_access_key,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    return lambda key: client.generate_presigned_url(
        "get_object", Params={"Bucket": CONFIG.bucket, "Key": key}, ExpiresIn=3600
    )


def microseconds(sign: Callable[[str], object]) -> float:
    """The best of some rounds: the others were disturbed."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for key in KEYS:
            sign(key)
        rounds.append((time.perf_counter() - began) / len(KEYS) * 1e6)
    return min(rounds)


def main() -> None:
    table = Table("presigned GET by", "µs each", "times ours", title=f"best of {ROUNDS} rounds of {len(KEYS)} URLs")
    contenders = {"telewarm, signing key kept": ours(), "obstore": with_obstore(), "botocore": with_botocore()}
    times = {name: microseconds(sign) for name, sign in contenders.items()}
    best = next(iter(times.values()))
    for name, each in times.items():
        table.add_row(name, f"{each:.1f}", f"{each / best:.1f}")
    Console().print(table)
    verdict = "met" if best <= TARGET else "MISSED"
    Console().print(f"target: at most {TARGET:.0f} µs, {verdict}")


if __name__ == "__main__":
    main()
