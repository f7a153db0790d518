"""The SLURM cluster that the tests marked `slurm` share."""

from collections.abc import Iterator

import pytest

from tests.launchers.cluster import Cluster, Unavailable


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """Four nodes with accounting; a test that leaves jobs or kills something calls `clear` at its end."""
    made = Cluster(tmp_path_factory.mktemp("slurm"))
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    try:
        with capture.global_and_fixture_disabled():  # what gets installed is shown at once
            made.start()
        yield made
    except Unavailable as reason:
        pytest.skip(f"NOT TESTED: {reason}")
    finally:
        made.stop()
