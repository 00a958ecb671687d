"""Draws a plate as an SVG heat map, by hand: no plotting library is needed."""

from collections.abc import Mapping, Set
from html import escape

CELL = 44
LEFT, TOP = 40, 64
FOOT = 60
ROWS = "ABCDEFGH"
COLUMNS = range(1, 13)
#: blue (as the negative control), white, red (as the positive control)
STOPS = ((0.0, (49, 104, 142)), (0.5, (247, 247, 242)), (1.0, (178, 36, 52)))


def colour(share: float) -> str:
    """Return the colour of *share*, clamped to 0-1, as ``#rrggbb``."""
    share = min(1.0, max(0.0, share))
    (low, start), (high, end) = STOPS[:2] if share <= STOPS[1][0] else STOPS[1:]
    weight = (share - low) / (high - low)
    parts = (round(a + (b - a) * weight) for a, b in zip(start, end, strict=True))
    return "#" + "".join(f"{part:02x}" for part in parts)


def draw_plate(
    title: str,
    subtitle: str,
    inhibition: Mapping[str, float],
    controls: Set[str],
    hits: Set[str],
) -> str:
    """Return the picture of a plate: colour is inhibition, a ring a hit, a square a control."""
    width = LEFT + CELL * len(COLUMNS) + 16
    height = TOP + CELL * len(ROWS) + FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" font-family="sans-serif">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="22" font-size="16" font-weight="bold">{escape(title)}</text>',
        f'<text x="{LEFT}" y="42" font-size="12" fill="#555555">{escape(subtitle)}</text>',
        *_axes(),
    ]
    for well, value in inhibition.items():
        parts.append(_well(well, value, well in controls, well in hits))
    parts += [*_legend(height - FOOT + 22), "</svg>", ""]
    return "\n".join(parts)


def _centre(well: str) -> tuple[float, float]:
    column, row = int(well[1:]) - 1, ROWS.index(well[0])
    return LEFT + CELL * (column + 0.5), TOP + CELL * (row + 0.5)


def _axes() -> list[str]:
    style = 'font-size="11" fill="#555555" text-anchor="middle"'
    labels = [
        f'<text x="{_centre(f"A{column:02}")[0]}" y="{TOP - 6}" {style}>{column}</text>'
        for column in COLUMNS
    ]
    labels += [
        f'<text x="{LEFT - 14}" y="{_centre(f"{row}01")[1] + 4}" {style}>{row}</text>'
        for row in ROWS
    ]
    return labels


def _well(well: str, value: float, is_control: bool, is_hit: bool) -> str:
    x, y = _centre(well)
    fill = colour(value / 100)
    tip = f"<title>{well}: {value:.1f} % inhibition</title>"
    if is_control:
        corner = f'x="{x - 16}" y="{y - 16}" width="32" height="32" rx="4"'
        return f'<rect {corner} fill="{fill}" stroke="#999999">{tip}</rect>'
    ring = 'stroke="#111111" stroke-width="3"' if is_hit else 'stroke="#cccccc"'
    return f'<circle cx="{x}" cy="{y}" r="17" fill="{fill}" {ring}>{tip}</circle>'


def _legend(y: float) -> list[str]:
    steps = 40
    parts = [
        f'<rect x="{LEFT + step * 4}" y="{y}" width="4.5" height="12" '
        f'fill="{colour(step / (steps - 1))}"/>'
        for step in range(steps)
    ]
    style = 'font-size="11" fill="#555555"'
    parts += [
        f'<text x="{LEFT}" y="{y + 27}" {style}>0 %</text>',
        f'<text x="{LEFT + steps * 4}" y="{y + 27}" {style} text-anchor="end">100 %</text>',
        f'<text x="{LEFT + steps * 4 + 16}" y="{y + 11}" {style}>'
        "inhibition; square: control, ring: hit</text>",
    ]
    return parts
