"""Which known word a misspelt one was probably meant to be."""

import difflib
from collections.abc import Iterable

#: How alike two words must be to be taken for the same word with a slip.
LIKENESS = 0.8
#: Where the word is wrong in any case and the right ones are few.
LIKENESS_OF_CHOICES = 0.6
#: Comparing takes the square of the length, and nobody means a word so long.
MAX_WORD_CHARACTERS = 64


def suggestion(word: str, known: Iterable[str], likeness: float = LIKENESS) -> str | None:
    """Return the known word that *word* was probably meant to be."""
    if len(word) > MAX_WORD_CHARACTERS:
        return None
    plain = {_plain(name): name for name in known}
    close = difflib.get_close_matches(_plain(word), plain, n=1, cutoff=likeness)
    return plain[close[0]] if close else None


def _plain(word: str) -> str:
    return word.replace("_", "").replace("-", "").lower()
