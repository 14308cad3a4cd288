"""What options of several stages share: lists in a text, and checks in the same words."""

from __future__ import annotations

from rankers.errors import UserError


def names_in(text: str) -> tuple[str, ...]:
    """Return what a text names, by commas.

    >>> names_in("user, item*,")
    ('user', 'item*')
    """
    return tuple(each.strip() for each in text.split(",") if each.strip())


def require_share(stage: str, options: object, *names: str) -> None:
    """Check that options are shares that leave something and take something.

    Args:
        stage: Its name.
        options: Whose attributes are looked at.
        names: Of the options.

    Raises:
        UserError: One is not above 0 and below 1.
    """
    for name in names:
        value = getattr(options, name)
        if not 0 < value < 1:
            raise UserError(
                f"stage {stage!r}: {name} is {value}; expected a share above 0, below 1"
            )


def require_least_one(stage: str, options: object, *names: str) -> None:
    """Check that options are 1 or more.

    Args:
        stage: Its name.
        options: Whose attributes are looked at.
        names: Of the options.

    Raises:
        UserError: One is less.
    """
    for name in names:
        value = getattr(options, name)
        if value < 1:
            raise UserError(f"stage {stage!r}: {name} is {value}; expected 1 or more")
