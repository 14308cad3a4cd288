"""What can go wrong between a client and its scores, and how a server's answer tells it.

Names end as callers think of them, not in ``Error``: ``except ServerOverloaded`` reads well.
"""

from __future__ import annotations

from rankers.errors import UserError

# Of a message. What a server says, or a name that a caller gave, may be of any length.
_LONGEST = 1_000


class RankClientError(UserError):
    """A request got no scores. The message names the server, the model and what to do."""

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        if len(line) > _LONGEST:  # what to do comes last
            line = f"{line[: _LONGEST - 200]} … {line[-190:]}"
        if not line.isprintable():  # what a terminal would obey
            line = "".join(each if each.isprintable() else "\ufffd" for each in line)
        super().__init__(line)


class ServerUnreachable(RankClientError):  # noqa: N818 - see the module's docstring
    """Nothing answers at the URL."""


class ModelNotFound(RankClientError):  # noqa: N818 - see the module's docstring
    """The server has no model of this name, or not one that rankserve deployed."""


class ModelNotReady(RankClientError):  # noqa: N818 - see the module's docstring
    """The server knows the model, but it is not loaded."""


class InvalidRequest(RankClientError):  # noqa: N818 - see the module's docstring
    """The request does not fit the model's features. The message names the feature."""


class ServerOverloaded(RankClientError):  # noqa: N818 - see the module's docstring
    """The model's queue is full: the request was refused at once."""


class DeadlineExceeded(RankClientError):  # noqa: N818 - see the module's docstring
    """No scores came in time."""


class ModelFailed(RankClientError):  # noqa: N818 - see the module's docstring
    """The request was right, and the model or the server failed on it."""


class ClientForked(RankClientError):  # noqa: N818 - see the module's docstring
    """The client was made before a fork and used after it."""

    def __init__(self) -> None:
        super().__init__(
            "this client was made by another process, and gRPC's threads do not live through a "
            "fork: make a client in each process, after the fork"
        )
