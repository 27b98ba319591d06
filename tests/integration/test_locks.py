# SPDX-License-Identifier: Apache-2.0
"""A few rounds of the lock campaign; `make locks ROUNDS=200` runs more."""

import locks


def test_a_lock_is_never_held_by_two_and_becomes_free_in_time(tmp_path):
    locks.run(tmp_path, rounds=3, seed=5,
              actions=("kill both", "pause holder", "pause leader"))
