"""One argument of ``command``: its text with ``$NAME`` references, and its expansion.

Parsed once, expanded in one pass: a value that holds ``$X`` is never expanded
again, and only whole names count (``$AB`` is never ``$A`` followed by ``B``).

    ``$NAME``, ``${NAME}``   the value of the input
    ``$$``                   a literal dollar
    any other ``$``          itself: ``$1``, ``$(date)``, ``${NAME:-x}``
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NAME_PATTERN = "[A-Za-z_][A-Za-z0-9_]*"

_REFERENCE = re.compile(rf"\$(?:(\$)|({NAME_PATTERN})|\{{({NAME_PATTERN})\}})")
_SHELL_EXPANSION = re.compile(r"\$\{[^}]*\}?")


@dataclass(frozen=True, slots=True)
class Template:
    """Literals and names in turn: ``literals[0] names[0] literals[1] ...``."""

    literals: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        """Tell whether the argument is one reference and nothing else."""
        return len(self.names) == 1 and self.literals == ("", "")

    def expand(self, values: Mapping[str, str | Sequence[str]]) -> list[str]:
        """Return the arguments this one becomes; a name without a value is empty.

        An argument that is exactly one reference disappears when its name has
        no value, and becomes one argument for each element when it has several.
        """
        if not self.names:
            return [self.literals[0]]
        if self.is_exact:
            value = values.get(self.names[0])
            if value is None:
                return []
            return [value] if isinstance(value, str) else list(value)
        pieces = [self.literals[0]]
        for name, literal in zip(self.names, self.literals[1:], strict=True):
            value = values.get(name, "")
            # Several values inside a longer argument are refused when the config is loaded.
            pieces.append(value if isinstance(value, str) else " ".join(value))
            pieces.append(literal)
        return ["".join(pieces)]


def parse_template(text: str) -> Template:
    """Parse one argument; every text is a valid one."""
    literals = [""]
    names: list[str] = []
    end = 0
    for match in _REFERENCE.finditer(text):
        literals[-1] += text[end : match.start()]
        end = match.end()
        name = match[2] or match[3]
        if name is None:
            literals[-1] += "$"
        else:
            names.append(name)
            literals.append("")
    literals[-1] += text[end:]
    return Template(tuple(literals), tuple(names))


def shell_expansions(text: str) -> list[str]:
    """Return what looks like ``${NAME:-x}``: it is passed on as it is, unlike in a shell."""
    rest = _REFERENCE.sub("", text)
    return _SHELL_EXPANSION.findall(rest)
