"""Laying out calls as lines of source, at most 100 characters long."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Made", "laid_out"]

WIDTH = 100


@dataclass(frozen=True, slots=True)
class Made:
    """A call to be written.

    Args:
        callee: what is called.
        arguments: (keyword or "", text or a further call).
        brackets: that stand around the arguments.
        joint: between keyword and value.
    """

    callee: str
    arguments: tuple[tuple[str, str | Made], ...] = ()
    brackets: str = "()"
    joint: str = "="

    def flat(self) -> str:
        """The call in one line."""
        opening, closing = self.brackets[0], self.brackets[1]
        inside = ", ".join(
            self.keyed(key) + (value if isinstance(value, str) else value.flat())
            for key, value in self.arguments
        )
        return f"{self.callee}{opening}{inside}{closing}"

    def keyed(self, key: str) -> str:
        """What stands before the value of an argument."""
        return f"{key}{self.joint}" if key else ""


def laid_out(before: str, value: str | Made, indent: int) -> list[str]:
    """Write `before` and a call, over several lines where one is not enough.

    Args:
        before: what stands before it, for instance "self.conv = ".
        value: the call, or text that is never broken.
        indent: spaces before the first line.
    """
    return _lines(" " * indent + before, value, "", indent)


def _lines(before: str, value: str | Made, after: str, indent: int) -> list[str]:
    line = before + (value if isinstance(value, str) else value.flat()) + after
    if len(line) <= WIDTH or isinstance(value, str) or not value.arguments:
        return [line]
    opening, closing = value.brackets[0], value.brackets[1]
    lines = [f"{before}{value.callee}{opening}"]
    for key, argument in value.arguments:
        start = " " * (indent + 4) + value.keyed(key)
        lines += _lines(start, argument, ",", indent + 4)
    return [*lines, " " * indent + closing + after]
