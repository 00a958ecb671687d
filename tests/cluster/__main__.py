"""The cluster of the tests from the command line: ``python -m tests.cluster --help``."""

import argparse
import sys
from pathlib import Path

from tests.cluster import binaries, images, machine, node, supervisor
from tests.cluster.layout import NODE_STATE, layout
from tests.cluster.processes import ClusterError


def main() -> int:
    arguments = _parser().parse_args()
    try:
        arguments.act(arguments)
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster", description="the cluster of the tests"
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, act: object, text: str) -> argparse.ArgumentParser:
        found = verbs.add_parser(name, help=text, description=text)
        found.set_defaults(act=act)
        return found

    def folder(found: argparse.ArgumentParser) -> None:
        found.add_argument("--state", type=Path, default=NODE_STATE, help="its folder")

    verb("prepare", _prepare, "install what the machine lacks, as root with apt")
    verb("build", _build, "compile the cluster's programs, when they are not there")
    verb("images", _images, "build the images of the tests; print their archives")
    up = verb("up", _up, "start a cluster that stays; print its kubeconfig's path")
    supervise = verb("supervise", _supervise, "run a cluster until stdin ends")
    for found in (up, supervise):
        folder(found)
        found.add_argument("--control-plane", action="store_true", help="without a node")
        found.add_argument("--audit", action="store_true", help="write every request to audit.log")
        found.add_argument("--port", type=int, help="of the API server; a free one by default")
    supervise.add_argument("--forever", action="store_true", help="until a signal")
    load = verb("load", _load, "put image archives into the node; the tests' own by default")
    load.add_argument("archive", type=Path, nargs="*")
    folder(verb("down", _down, "stop a cluster and remove everything it left"))
    return parser


def _prepare(arguments: argparse.Namespace) -> None:
    machine.prepare()


def _build(arguments: argparse.Namespace) -> None:
    binaries.build()


def _images(arguments: argparse.Namespace) -> None:
    for archive in images.build():
        print(archive)


def _up(arguments: argparse.Namespace) -> None:
    if supervisor.is_up(arguments.state):
        raise ClusterError(f"there is one in {arguments.state}: `down` first")
    binaries.build()
    supervisor.down(arguments.state)
    options = ["--control-plane"] * arguments.control_plane + ["--audit"] * arguments.audit
    options += [f"--port={arguments.port}"] if arguments.port else []
    supervisor.start(arguments.state, "--forever", *options)
    print(arguments.state / "kubeconfig")


def _supervise(arguments: argparse.Namespace) -> None:
    cluster = layout(arguments.state, api_port=arguments.port, has_audit=arguments.audit)
    supervisor.supervise(
        cluster, has_node=not arguments.control_plane, is_forever=arguments.forever
    )


def _load(arguments: argparse.Namespace) -> None:
    for archive in arguments.archive or images.build():
        node.load(archive)


def _down(arguments: argparse.Namespace) -> None:
    supervisor.down(arguments.state)


if __name__ == "__main__":
    sys.exit(main())
