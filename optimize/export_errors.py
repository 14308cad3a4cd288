"""What an exporter's exception means, in one line a person can act on."""

from __future__ import annotations

import re

from rankers.errors import user_line

# A sign in the exporters' text → what to do. The first that fits is said.
_HINTS = {
    "data-dependent": """its result depends on tensor values (an `if` on a tensor, .item(),
        int(tensor)): use torch.where, masks or fixed sizes""",
    "Constraints violated": """the number of rows became a constant: look for reshape or view with a
        fixed first size, a Python loop over rows, or a stored len(x); use -1 or x.shape[0]""",
    "nested_tensor": """nested tensors cannot be exported: pad to [rows, L] and mask (rankers.bags
        makes such rows)""",
    "numpy": "NumPy cannot be traced: use the torch function of the same name",
    "No ONNX function found": """ONNX has no such operator: replace it by simpler ones, or keep the
        ranker on a torch runtime""",
    "unexpected keyword argument": """forward takes other names than the signature: name the
        features after its arguments""",
    "required positional argument": """forward takes an argument that is no feature: add it to the
        signature or give it a default""",
}
_OPERATOR = re.compile(r"OpOverload\(op='([\w.]+)'")


def explain_export_error(error: BaseException) -> str:
    """Return where an export failed, at which operator, why, and what to do about it.

    Args:
        error: What ``torch.export.export`` or ``torch.onnx.export`` raised.
    """
    text = _plain(str(error))
    for cause in _causes(error):
        text += "\n" + _plain(str(cause))
    operator = _OPERATOR.search(text)
    parts = []
    if operator:
        parts.append(f"operator {operator.group(1)}")
    place = user_line(error)
    if place:
        parts.append(f"at {place}")
    hint = next((" ".join(hint.split()) for sign, hint in _HINTS.items() if sign in text), None)
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    parts.append(hint or f"{type(error).__name__}: {first}")
    return ": ".join(parts)


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(found) < 10:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def _plain(text: str) -> str:
    """Drop terminal colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
