"""Whether the operator may go: what the chart's pre-delete hook runs.

``python -m script_runner.operator.uninstall_check ... [NAMESPACE...]`` ends with 1, and says which
ScriptRunners are left, when there are any: in these namespaces, or in the whole cluster.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import click

from script_runner.operator.cluster import Cluster, ClusterError, NotFoundError
from script_runner.operator.kinds import SCRIPT_RUNNER
from script_runner.operator.metrics import Metrics

#: More names would not help anybody.
MAX_NAMED = 20


async def remaining(cluster: Cluster, namespaces: Sequence[str]) -> list[str]:
    """Return ``namespace/name`` of every ScriptRunner; none when the kind is not known."""
    found = []
    for namespace in namespaces or (None,):
        try:
            listing = await cluster.list(SCRIPT_RUNNER, namespace, metadata_only=True)
        except NotFoundError:
            continue
        found += [item["metadata"] for item in listing.items]
    return sorted(f"{metadata['namespace']}/{metadata['name']}" for metadata in found)


@dataclass(frozen=True)
class Release:
    """What helm was asked to uninstall."""

    name: str
    namespace: str
    revision: int

    @property
    def forced(self) -> str:
        """The command that uninstalls it without this check."""
        return f"helm uninstall {self.name} --namespace {self.namespace} --no-hooks"

    @property
    def kept(self) -> str:
        """The command after which it can be upgraded again: helm has marked it as going."""
        return f"helm rollback {self.name} {self.revision} --namespace {self.namespace}"


def refusal(names: Sequence[str], release: Release) -> str:
    """Say what is left and what to do about it."""
    count = "1 ScriptRunner is" if len(names) == 1 else f"{len(names)} ScriptRunners are"
    lines = [f"{count} left:", *(f"  {name}" for name in names[:MAX_NAMED])]
    if len(names) > MAX_NAMED:
        lines.append(f"  and {len(names) - MAX_NAMED} more")
    lines += [
        "Without the operator they are neither scaled nor repaired, and one with",
        "deletionPolicy Drain cannot be deleted. Nothing was uninstalled.",
        "To delete them first, then uninstall again:",
        "  kubectl delete scriptrunners --all --namespace NAMESPACE",
        "To go on, and leave them as they are:",
        f"  {release.forced}",
        "To keep the operator:",
        f"  {release.kept}",
    ]
    return "\n".join(lines)


async def _look(namespaces: Sequence[str]) -> list[str]:
    cluster = await Cluster.connect(Metrics(), None)
    try:
        return await remaining(cluster, namespaces)
    finally:
        await cluster.close()


@click.command()
@click.option("--release", required=True, help="Name of the release.")
@click.option("--release-namespace", required=True, help="Its namespace.")
@click.option("--revision", type=int, required=True, help="Its revision.")
@click.argument("namespaces", nargs=-1)
def main(release: str, release_namespace: str, revision: int, namespaces: tuple[str, ...]) -> None:
    """End with 1 when there are ScriptRunners in NAMESPACES, or anywhere."""
    asked = Release(release, release_namespace, revision)
    try:
        names = asyncio.run(_look(namespaces))
    except ClusterError as error:
        raise click.ClickException(
            f"cannot tell whether ScriptRunners are left: {error}\n"
            f"To uninstall without looking:\n  {asked.forced}"
        ) from error
    if names:
        raise click.ClickException(refusal(names, asked))
    click.echo("no ScriptRunner is left")


if __name__ == "__main__":
    main()
