"""Whether a framework is recent enough; asked before its import, which may fail if it is not."""

import re
from importlib.metadata import PackageNotFoundError, version

__all__ = ["need"]


def need(who: str, name: str, package: str, oldest: str, extra: str) -> None:
    """Raise an ImportError if ``package`` is installed in a release before ``oldest``.

    Parameters
    ----------
    who : str
        What needs it, such as ``lstmbook.live.flax needs``.
    name, package : str
        As people call it and as pip does.
    oldest : str
        Such as ``0.10.5``.
    extra : str
        The extra of lstmbook that brings it.
    """
    try:
        found = version(package)
    except PackageNotFoundError:  # its import tells
        return
    if _numbers(found) < _numbers(oldest):
        raise ImportError(
            f"{who} {name} >= {oldest}; found {found}. pip install --upgrade 'lstmbook[{extra}]' "
            "brings it"
        )


def _numbers(release: str) -> list[int]:
    return list(map(int, re.findall(r"\d+", release)[:3]))
