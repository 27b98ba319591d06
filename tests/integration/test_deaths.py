# SPDX-License-Identifier: Apache-2.0
"""One round of each row of the table of deaths; `make deaths` plays more."""

import pytest

import deaths


@pytest.fixture(scope="module")
def figures():
    """All rows side by side: a round mostly waits for time to pass."""
    rows = deaths.campaign(list(deaths.ROWS), rounds=1, seed=7, jobs=4,
                           quick=True)
    return {row["name"]: row for row in rows}


@pytest.mark.parametrize("name", deaths.ROWS)
def test_the_dead_go_in_time_and_the_living_stay(figures, name):
    row = figures[name]
    if "skipped" in row:
        pytest.skip(row["skipped"])
    assert not row["problems"]
    assert all(len(row["results"][face]) == 1 for face in deaths.FACES)
