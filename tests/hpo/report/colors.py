"""Contrast of colours, after WCAG 2.2."""

from __future__ import annotations


def rgb(color: str) -> tuple[float, float, float]:
    red, green, blue = (float(int(color[at : at + 2], 16)) for at in (1, 3, 5))
    return red, green, blue


def luminance(color: tuple[float, float, float]) -> float:
    """Relative luminance, see https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    """Contrast ratio, see https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)
