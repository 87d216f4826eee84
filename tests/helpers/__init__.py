"""What several tests share: `from tests.helpers.tiny_runs import TINY`."""
