"""In which order tests run; and with CI=true a skipped test is a failed test.

A machine that checks must have every peer.
"""

import os

import pytest

# Tests of these folders run whole nodes, files of many seconds: begun last, one of them would
# still run when the other workers have nothing left to do.
_WHOLE_NODES = ("system", "node", "benchmarks", "conformance", "model")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    items.sort(key=lambda item: item.path.parent.name not in _WHOLE_NODES)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when anything was skipped, naming what and why."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or os.environ.get("CI") != "true":
        return
    skipped = reporter.stats.get("skipped", [])
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        reporter.write_line(
            f"skipped, which CI does not allow: {report.nodeid}: {reason}", red=True
        )
    if skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
