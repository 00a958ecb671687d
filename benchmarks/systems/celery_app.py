"""A plain Celery application, as its first tutorial would write it; the peer of that name."""

import os
import subprocess

from celery import Celery

app = Celery(
    "plain", broker=os.environ.get("PLAIN_REDIS_URL"), backend=os.environ.get("PLAIN_REDIS_URL")
)


@app.task(name="plain.run")  # type: ignore[untyped-decorator]
def run() -> int:
    return subprocess.run(["/bin/true"], check=True).returncode
