"""What the operator's connection takes from a real API server."""

import asyncio
from pathlib import Path

from script_runner.operator.cluster import Cluster
from script_runner.operator.metrics import Metrics
from tests.cluster.kubectl import Kubectl


def test_of_secrets_only_the_metadata_is_taken(
    kubectl: Kubectl, kubeconfig: Path, namespace: str
) -> None:
    kubectl("-n", namespace, "create", "secret", "generic", "plates", "--from-literal=a=secret")

    async def look() -> list[dict[str, object]]:
        cluster = await Cluster.connect(Metrics(), kubeconfig)
        try:
            listing = await cluster.list("Secret", namespace, metadata_only=True)
            found = await cluster.get("Secret", namespace, "plates", metadata_only=True)
            events = cluster.watch("Secret", namespace, "", "0", 1, metadata_only=True)
            seen = [event.object async for event in events if event.type == "ADDED"]
        finally:
            await cluster.close()
        return [*listing.items, found, *seen]

    found = asyncio.run(look())
    assert len(found) == 3
    for item in found:
        assert item.keys() == {"apiVersion", "kind", "metadata"}
