# SPDX-License-Identifier: Apache-2.0
"""A few rounds of the kill campaign; `make campaign ROUNDS=100` runs more."""

import campaign


def test_killing_servers_under_a_writer_loses_nothing(tmp_path):
    kills, _ = campaign.run(str(tmp_path), rounds=5, seed=7)
    assert kills >= 2
