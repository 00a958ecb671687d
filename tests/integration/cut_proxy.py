"""Stands between an API and Redis, and cuts both off at a chosen point of one call."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

BLOCK_BYTES = 1 << 16
#: before: Redis hears nothing of the call. half: it gets half of its bytes. after: it has
#: carried it out, and the answer is on its way.
POINTS = ("before", "half", "after")


class CutProxy:
    """Forwards to *port* of loopback until ``arm`` has been called and the mark is seen."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._arms: tuple[bytes, str, Callable[[], None]] | None = None
        self.cuts = 0

    def arm(self, mark: bytes, point: str, kill: Callable[[], None]) -> None:
        """At the next call that holds *mark*, call *kill* at *point* and pass nothing more on."""
        assert point in POINTS
        self._arms = (mark, point, kill)

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            server = socket.create_connection(("127.0.0.1", self._upstream))
            threading.Thread(target=self._forward_calls, args=(client, server), daemon=True).start()

    def close(self) -> None:
        # A close alone does not wake a thread that accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _forward_calls(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            is_cut = threading.Event()
            threading.Thread(
                target=forward_answers, args=(server, client, is_cut), daemon=True
            ).start()
            while block := receive(client):
                arms = self._arms
                if arms is None or arms[0] not in block:
                    server.sendall(block)
                    continue
                self._cut(arms, block, server, is_cut)
                return

    def _cut(
        self,
        arms: tuple[bytes, str, Callable[[], None]],
        block: bytes,
        server: socket.socket,
        is_cut: threading.Event,
    ) -> None:
        mark, point, kill = arms
        self._arms = None
        is_cut.set()
        if point == "half":
            server.sendall(block[: block.index(mark)])
        elif point == "after":
            server.sendall(block)
            # Redis reads what has arrived, even when the sender is gone by then.
            server.shutdown(socket.SHUT_WR)
        kill()
        self.cuts += 1


def receive(source: socket.socket) -> bytes:
    try:
        return source.recv(BLOCK_BYTES)
    except OSError:
        return b""


def forward_answers(server: socket.socket, client: socket.socket, is_cut: threading.Event) -> None:
    while block := receive(server):
        if is_cut.is_set():
            return
        try:
            client.sendall(block)
        except OSError:
            return


@contextmanager
def cut_proxy(port: int) -> Iterator[CutProxy]:
    """Run a proxy to *port* in a thread of its own."""
    proxy = CutProxy(port)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join()
