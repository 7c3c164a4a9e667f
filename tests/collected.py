"""One test that goes through many cases, and names every one that failed."""

import functools
import inspect

import pytest

NOT_PASSED = (Exception, pytest.fail.Exception, pytest.skip.Exception)


class CasesFailed(AssertionError):
    """The cases that failed, as pairs of a name and an error, out of so many."""

    def __init__(self, failed, count):
        lines = [f"[{name}] {type(error).__name__}: {error}" for name, error in failed]
        super().__init__("\n".join([f"{len(failed)} of {count} cases failed", *lines]))
        self.failed = failed


def each(names, cases, ids=None):
    """As `pytest.mark.parametrize`, but all cases are one test, and its fixtures are made once."""
    names, cases = [names] if isinstance(names, str) else list(names), list(cases)
    assert cases, f"no cases of {names}"

    def decorate(test):
        @functools.wraps(test)
        def whole(**fixtures):
            failed = []
            for case in cases:
                values = case if len(names) > 1 else (case,)
                label = ids(case) if ids else "-".join(map(_word, values))
                try:
                    test(**fixtures, **dict(zip(names, values, strict=True)))
                except CasesFailed as inner:
                    failed += [(f"{label}-{name}", error) for name, error in inner.failed]
                except NOT_PASSED as error:
                    failed += [(label, error)]
            if failed:
                raise CasesFailed(failed, whole.count) from failed[0][1]

        parameters = inspect.signature(test).parameters
        assert set(names) <= set(parameters), f"{test.__name__} does not take {names}"
        rest = [p for name, p in parameters.items() if name not in names]
        whole.__signature__ = inspect.Signature(rest)
        whole.count = len(cases) * getattr(test, "count", 1)
        return whole

    return decorate


def _word(value):
    return str(getattr(value, "__name__", value))
