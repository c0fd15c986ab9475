from tests.report.conftest import wicked

__all__ = ["wicked"]
