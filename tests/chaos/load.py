"""The clients of a randomised run: they submit without end, and ask again until they are heard."""

import threading
import uuid
from dataclasses import dataclass
from random import Random

from tests.chaos.plan import make_requests
from tests.integration.api_client import GONE, ApiClient

PAUSE_SECONDS = 0.2
LONGEST_THOUGHT_SECONDS = 1.5


@dataclass
class Wish:
    """One request of a client and what became of it."""

    query: dict[str, object]
    key: str
    task: str | None = None
    posts: int = 0
    is_canceled: bool = False

    @property
    def is_mended(self) -> bool:
        return "mends-at" in str(self.query["modes"])


class Load:
    """Some clients, each a thread. Each wish is one task, however often it was sent."""

    def __init__(self, api: ApiClient, seed: int, clients: int, *, retries_failed: bool) -> None:
        self._api = api
        self._wishes: list[Wish] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._faults: list[BaseException] = []
        self._threads = [
            # A client that waits for an answer must not outlive a run that has failed.
            threading.Thread(target=self._run, args=(seed, number, retries_failed), daemon=True)
            for number in range(clients)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float) -> list[Wish]:
        """Let every client have its answer; return all wishes."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(seconds)
        assert not any(thread.is_alive() for thread in self._threads), "a client got no answer"
        assert not self._faults, f"a client was refused: {self._faults}"
        return self._wishes

    def some(self, random: Random, count: int) -> list[Wish]:
        """Return up to *count* of the newest accepted wishes."""
        with self._lock:
            newest = [wish for wish in self._wishes if wish.task][-30:]
        return random.sample(newest, min(count, len(newest)))

    def _run(self, seed: int, number: int, retries_failed: bool) -> None:
        random = Random(f"thoughts {seed} {number}")
        try:
            for query in make_requests(seed, number, retries_failed=retries_failed):
                if self._stopping.wait(random.uniform(0, LONGEST_THOUGHT_SECONDS)):
                    return
                wish = Wish(query, uuid.uuid4().hex)
                with self._lock:
                    self._wishes.append(wish)
                self._submit(wish)
        except BaseException as error:  # a thread would die unheard
            self._faults.append(error)

    def _submit(self, wish: Wish) -> None:
        while True:
            wish.posts += 1
            try:
                answer = self._api.post(wish.query, wish.key)
            except GONE:
                threading.Event().wait(PAUSE_SECONDS)
                continue
            if answer.status == 202:
                wish.task = answer.json()["id"]
                return
            # 503: Redis is away. 409: the same request, sent before, is still under way.
            assert answer.status in (503, 409), answer
            threading.Event().wait(PAUSE_SECONDS)
