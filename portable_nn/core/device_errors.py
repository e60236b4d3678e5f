"""What the codes of the device error word mean: kernels report a number, an index and a value; this table has the words."""

from __future__ import annotations

_codes: dict[tuple[str, str], int] = {}
_meanings: list[tuple[str, str]] = []


def code(op: str, text: str) -> int:
    """Return the code a kernel reports for this fault of `op`, the same for the same arguments; never 0.

    Parameters
    ----------
    op : str
        Name of the op, put before the message.
    text : str
        May contain ``{index}`` (where in the operand) and ``{value}`` (what was found there).

    Examples
    --------
    >>> code("cross_entropy", "label {value} at position {index} is not in [0, 10)")
    1
    """
    found = _codes.get((op, text))
    if found is None:
        _meanings.append((op, text))
        found = _codes[op, text] = len(_meanings)
    return found


def message(number: int, index: int, value: int) -> str:
    """Return the words for what a kernel reported."""
    if not 0 < number <= len(_meanings):
        return f"a kernel reported the unknown code {number} (index {index}, value {value})"
    op, text = _meanings[number - 1]
    # Not str.format: a text may hold other braces (sets, dicts of the settings).
    return f"{op}: " + text.replace("{index}", str(index)).replace("{value}", str(value))
