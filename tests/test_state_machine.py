"""Operations drawn at random on small trainings: see tests/state_machine.py."""

import pytest

pytest.register_assert_rewrite("state_machine")


def test_trainings():
    import state_machine  # here, since hypothesis takes seconds of each worker once it is imported

    state_machine.run_drawn()
