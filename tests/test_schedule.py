import inspect
import itertools
import math
import warnings

import numpy as np
import pytest

from gpunn import optim, tensor
from gpunn.errors import ArgumentError
from gpunn.optim import schedule


def make(*rates, kind=optim.SGD, **settings):
    groups = [{"params": [tensor([1.0], requires_grad=True)], "lr": rate} for rate in rates or (1.0,)]
    return kind(groups, **settings)


def rates(optimizer, schedule, steps):
    """The learning rates of all groups, at first and after each step."""
    found = [[group["lr"] for group in optimizer.groups]]
    for _ in range(steps):
        schedule.step()
        found.append([group["lr"] for group in optimizer.groups])
    return np.array(found)


FORMULAS = {
    "StepLR": (lambda o: schedule.StepLR(o, 3, 0.5), lambda t: 0.5 ** (t // 3)),
    "MultiStepLR": (
        lambda o: schedule.MultiStepLR(o, [7, 2, 2], 0.5),
        lambda t: 1 if t < 2 else 0.25 if t < 7 else 0.125,
    ),
    "ExponentialLR": (lambda o: schedule.ExponentialLR(o, 0.9), lambda t: 0.9**t),
    "LinearLR": (lambda o: schedule.LinearLR(o, 0.0, 0.8, 4), lambda t: 0.8 * min(t, 4) / 4),
    "CosineAnnealingLR": (lambda o: schedule.CosineAnnealingLR(o, 6), lambda t: (1 + math.cos(math.pi * t / 6)) / 2),
    "ConstantLR": (lambda o: schedule.ConstantLR(o, 0.5, 3), lambda t: 0.5 if t < 3 else 1),
    "PolynomialLR": (lambda o: schedule.PolynomialLR(o, 8, 2.0), lambda t: (1 - min(t, 8) / 8) ** 2),
    "LambdaLR": (lambda o: schedule.LambdaLR(o, [lambda t: 1 / (1 + t)] * 2), lambda t: 1 / (1 + t)),
    "MultiplicativeLR": (
        lambda o: schedule.MultiplicativeLR(o, lambda t: t / (1 + t)), lambda t: 1 / (1 + t),
    ),
    "CosineAnnealingWarmRestarts": (
        lambda o: schedule.CosineAnnealingWarmRestarts(o, 2, 2),
        lambda t: (1 + math.cos(math.pi * (t / 2 if t < 2 else (t - 2) / 4 if t < 6 else (t - 6) / 8))) / 2,
    ),
    "ChainedScheduler": (
        lambda o: schedule.ChainedScheduler([schedule.ConstantLR(o, 0.5, 3), schedule.ExponentialLR(o, 0.9)]),
        lambda t: (0.5 if t < 3 else 1) * 0.9**t,
    ),
    "ChainedScheduler behind another": (
        lambda o: schedule.SequentialLR(
            o,
            [
                schedule.ExponentialLR(o, 0.5),
                schedule.ChainedScheduler([schedule.ConstantLR(o, 0.5, 3), schedule.ExponentialLR(o, 0.9)]),
            ],
            [4],
        ),
        lambda t: 0.5**t if t < 4 else (0.5 if t < 7 else 1) * 0.9 ** (t - 4),
    ),
    "ChainedScheduler of one that sets the rate behind another": (
        lambda o: schedule.SequentialLR(
            o,
            [
                schedule.ExponentialLR(o, 0.5),
                schedule.ChainedScheduler([schedule.LambdaLR(o, lambda t: 1 / (1 + t)), schedule.StepLR(o, 1, 0.9)]),
            ],
            [4],
        ),
        lambda t: 0.5**t if t < 4 else (0.9 if t > 4 else 1) / (t - 3),
    ),
    "MultiplicativeLR behind another": (
        lambda o: schedule.SequentialLR(
            o, [schedule.ExponentialLR(o, 0.5), schedule.MultiplicativeLR(o, lambda t: 0.5 if t else 2)], [4]
        ),
        lambda t: 0.5 ** min(t, 3) if t < 4 else 0.25 * 0.5 ** (t - 4),
    ),
    "SequentialLR": (
        lambda o: schedule.SequentialLR(
            o, [schedule.LinearLR(o, 0.0, total_iters=4), schedule.ExponentialLR(o, 0.5)], [4]
        ),
        lambda t: t / 4 if t < 4 else 0.5 ** (t - 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make_schedule", "formula"), FORMULAS.values(), ids=FORMULAS.keys())
def test_values_are_those_of_the_formula_for_every_group(make_schedule, formula):
    optimizer = make(0.5, 2.0)
    found = rates(optimizer, make_schedule(optimizer), 11)
    expected = np.array([formula(t) for t in range(12)])
    np.testing.assert_allclose(found, np.stack([0.5 * expected, 2 * expected], 1), rtol=1e-12, atol=1e-15)


def test_one_cycle_goes_up_and_down_and_the_momentum_against_it():
    sgd = make(9.0, 9.0, momentum=0.5)
    cycle = schedule.OneCycleLR(
        sgd,
        [1.0, 2.0],
        11,
        pct_start=0.5,
        anneal_strategy="linear",
        div_factor=10,
        final_div_factor=2,
        base_momentum=0.8,
        max_momentum=0.9,
    )
    momenta = [sgd.groups[0]["momentum"]]
    found = [[group["lr"] for group in sgd.groups]]
    for _ in range(10):
        cycle.step()
        momenta.append(sgd.groups[1]["momentum"])
        found.append([group["lr"] for group in sgd.groups])
    found = np.array(found)
    np.testing.assert_allclose(found[[0, 10]], [[0.1, 0.2], [0.05, 0.1]])
    np.testing.assert_allclose(found[:, 1], 2 * found[:, 0])
    assert found[:, 0].argmax() in (4, 5)  # the top is at 4.5
    np.testing.assert_allclose(found[:5, 0], 0.1 + 0.9 * np.arange(5) / 4.5)
    np.testing.assert_allclose(momenta[:5], 0.9 - 0.1 * np.arange(5) / 4.5)
    assert momenta[10] == 0.9
    cycle.step()  # the step after the last, which a loop over total_steps takes too
    np.testing.assert_array_equal([group["lr"] for group in sgd.groups], found[10])
    with pytest.raises(ArgumentError, match="there are no more steps: total_steps was too few, got step=12"):
        cycle.step()
    assert cycle.steps == 11


def test_a_cycle_of_rates_moves_the_momentum_of_each_group():
    sgd = make(9.0, 9.0, momentum=0.5)
    cycle = schedule.CyclicLR(sgd, [1, 2], 5, 2, 1, base_momentum=0.5, max_momentum=[0.75, 1.0])
    found, momenta = [], []
    for _ in range(5):
        found.append([group["lr"] for group in sgd.groups])
        momenta.append([group["momentum"] for group in sgd.groups])
        cycle.step()
    np.testing.assert_allclose(found, [[1, 2], [3, 3.5], [5, 5], [1, 2], [3, 3.5]])
    np.testing.assert_allclose(momenta, [[0.75, 1], [0.625, 0.75], [0.5, 0.5], [0.75, 1], [0.625, 0.75]])


def test_a_schedule_may_begin_later_and_wants_all_groups():
    sgd = make(1.0)
    late = schedule.ExponentialLR(sgd, 0.5, last_epoch=1)
    assert (late.last_epoch, late.get_last_lr(), late.base_lrs) == (2, [0.25], [1.0])
    sgd.add_param_group({"params": [tensor([1.0], requires_grad=True)]})
    with pytest.raises(ArgumentError, match="a group was added to the optimizer after the schedule was made"):
        late.step()
    assert late.last_epoch == 2
    epochs = schedule.OneCycleLR(make(momentum=0.9), 1.0, epochs=3, steps_per_epoch=4)
    rates(epochs.optimizer, epochs, 12)
    with pytest.raises(ArgumentError, match="total_steps was too few, got step=13, total_steps=12"):
        epochs.step()


def test_one_cycle_of_adam_moves_its_first_beta():
    adam = make(kind=optim.Adam)
    schedule.OneCycleLR(adam, 0.1, 10)
    assert adam.groups[0]["betas"] == (0.95, 0.999)
    schedule.OneCycleLR(make(kind=optim.Adagrad), 0.1, 10, cycle_momentum=False)


def test_extreme_settings_stay_in_range():
    for total in (1, 2, 3):
        for share in (0.0, 1 / 3, 0.5, 1.0):
            for three_phase in (False, True):
                for strategy in ("cos", "linear"):
                    sgd = make(momentum=0.9)
                    cycle = schedule.OneCycleLR(
                        sgd, 1.0, total, None, None, share, strategy, final_div_factor=1e30, three_phase=three_phase
                    )
                    found = rates(sgd, cycle, total - 1)
                    assert ((found >= 0) & (found <= 1)).all()


def test_plateau_waits_reduces_rests_and_stops_at_the_least():
    sgd = make(1.0, 0.4)
    plateau = schedule.ReduceLROnPlateau(sgd, factor=0.5, patience=1, cooldown=1, min_lr=[0.3, 0.3])
    found = []
    for metric in (5, 4, 4, 4, 4, 4, 4, float("nan"), 4, 4, 4, 1, 1, 1):
        plateau.step(metric)
        found.append([group["lr"] for group in sgd.groups])
    expected = [[1, 0.4]] * 3 + [[0.5, 0.3]] * 3 + [[0.3, 0.3]] * 8
    np.testing.assert_allclose(found, expected)
    assert plateau.best == 1


def test_a_rate_that_the_user_sets_is_the_base_of_schedules_made_after():
    sgd = make(1.0)
    schedule.ExponentialLR(sgd, 0.5).step()
    assert sgd.lr == 0.5
    first = schedule.ExponentialLR(sgd, 0.1)
    assert sgd.lr == 0.5  # a chain with the one before
    sgd.lr = 2.0
    first.step()
    assert sgd.lr == 0.05
    assert rates(sgd, schedule.ExponentialLR(sgd, 0.5), 1).ravel().tolist() == [2.0, 1.0]


@pytest.mark.parametrize(("mode", "metric"), [("min", -1.0), ("max", -1.0), ("min", 1.0), ("max", 1.0), ("min", 0.0)])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
def test_a_plateau_reduces_whatever_the_sign_of_the_metric(mode, metric, threshold_mode):
    sgd = make(1.0)
    plateau = schedule.ReduceLROnPlateau(sgd, mode, 0.5, patience=2, threshold_mode=threshold_mode)
    for _ in range(7):
        plateau.step(metric)
    assert (sgd.lr, plateau.best) == (0.25, metric)
    better = metric + (0.1 if mode == "max" else -0.1)
    plateau.step(better)
    assert plateau.best == better


def test_nan_is_never_better():
    sgd = make(1.0)
    plateau = schedule.ReduceLROnPlateau(sgd, factor=0.5, patience=1)
    for _ in range(4):
        plateau.step(math.nan)
    assert (sgd.lr, plateau.best) == (0.25, math.inf)


# ---- several schedules of one optimizer ------------------------------------------------------------------------------


def test_the_rates_of_several_schedules_multiply_in_any_order_of_their_steps():
    for order in (1, -1):
        sgd = make(0.5, 2.0)
        parts = [schedule.ExponentialLR(sgd, 0.9), schedule.StepLR(sgd, 3, 0.5), schedule.LinearLR(sgd, 0.0, 1.0, 4)]
        for t in range(1, 10):
            for part in parts[::order]:
                part.step()
            factor = 0.9**t * 0.5 ** (t // 3) * min(t, 4) / 4
            np.testing.assert_allclose([group["lr"] for group in sgd.groups], [0.5 * factor, 2 * factor])


def test_a_plateau_reduces_what_other_schedules_go_on_from():
    sgd = make(0.5)
    warmup, plateau = (
        schedule.LinearLR(sgd, 0.1, total_iters=4),
        schedule.ReduceLROnPlateau(sgd, factor=0.1, patience=0),
    )
    plateau.step(1.0)
    plateau.step(1.0)
    assert sgd.lr == pytest.approx(0.005)
    warmup.step()
    assert sgd.lr == pytest.approx(0.5 * 0.1 * 0.325)
    later = schedule.ExponentialLR(sgd, 0.5)
    assert sgd.lr == pytest.approx(0.5 * 0.1 * 0.325)
    later.step()
    assert sgd.lr == pytest.approx(0.5 * 0.1 * 0.325 * 0.5)


def test_a_schedule_made_after_a_plateau_alone_goes_on_from_the_reduced_rate():
    sgd = make(0.5)
    plateau = schedule.ReduceLROnPlateau(sgd, factor=0.1, patience=0)
    plateau.step(1.0)
    plateau.step(1.0)
    schedule.ExponentialLR(sgd, 0.5).step()
    assert sgd.lr == pytest.approx(0.025)


def test_a_rate_of_a_group_set_by_hand_begins_a_new_chain_for_that_group():
    sgd = make(1.0, 1.0)
    schedule.ExponentialLR(sgd, 0.5).step()
    sgd.groups[1]["lr"] = 4.0
    schedule.ExponentialLR(sgd, 0.1).step()
    assert [group["lr"] for group in sgd.groups] == pytest.approx([0.05, 0.4])


def test_a_schedule_behind_one_that_sets_the_rate_multiplies_it_by_its_last_factor():
    sgd, alone = make(momentum=0.9), make(momentum=0.9)
    parts = [schedule.OneCycleLR(sgd, 1.0, 10), schedule.ExponentialLR(sgd, 0.5)]
    expected = rates(alone, schedule.OneCycleLR(alone, 1.0, 10), 10).ravel()
    for t in range(1, 11):
        parts[0].step()
        assert sgd.lr == expected[t]
        parts[1].step()
        assert sgd.lr == expected[t] * 0.5
    assert parts[1].base_lrs == [1 / 25]  # as in PyTorch, where the cycle replaces it


def test_a_factor_that_begins_at_zero_begins_anew_from_the_first_rate():
    sgd = make(2.0)
    parts = [schedule.LambdaLR(sgd, lambda t: 1.0), schedule.LinearLR(sgd, 0.0, total_iters=4)]
    found = []
    for _ in range(3):
        for part in parts:
            part.step()
        found.append(sgd.lr)
    assert found == [0.5, 4.0, 3.0]


def test_a_schedule_of_ones_own_is_a_factor_in_a_chain():
    class Root(schedule.Schedule):
        def rate(self, t, base):
            return base * (t / (1 + t)) ** 0.5

    sgd = make(2.0)
    parts = [Root(sgd), schedule.LambdaLR(sgd, lambda t: 3.0), schedule.ExponentialLR(sgd, 0.5)]
    assert sgd.lr == 6.0
    parts[0].step()
    assert sgd.lr == 2 * 0.5**0.5  # from 0 it begins anew
    parts[1].step()
    parts[0].step()
    parts[2].step()
    assert sgd.lr == pytest.approx(6 * (2 / 3 / 0.5) ** 0.5 * 0.5)


def test_a_step_that_is_refused_leaves_no_trace_in_a_chain():
    sgd = make(1.0, momentum=0.9)
    cycle, falling = schedule.OneCycleLR(sgd, 1.0, 1), schedule.ExponentialLR(sgd, 0.5)
    cycle.step()
    falling.step()
    before = sgd.lr
    with pytest.raises(ArgumentError, match="there are no more steps"):
        cycle.step()
    falling.step()
    assert (sgd.lr, cycle.steps) == (before * 0.5, 1)


def test_the_momentum_that_a_cycle_left_is_that_of_a_resumed_schedule():
    def begin():
        sgd = make(1.0, momentum=0.5)
        parts = [schedule.OneCycleLR(sgd, 1.0, 20), schedule.ExponentialLR(sgd, 0.5)]
        return sgd, schedule.SequentialLR(sgd, parts, [10])

    (sgd, one), (other, two) = begin(), begin()
    rates(sgd, one, 12)
    two.load_state_dict(one.state_dict())
    for _ in range(2):
        assert (other.lr, other.groups[0]["momentum"]) == (sgd.lr, sgd.groups[0]["momentum"])
        with pytest.raises(ArgumentError, match="since must be"):
            two.load_state_dict(one.state_dict() | {"since": 99})


def test_a_state_of_a_chain_from_before_is_read():
    sgd = make(8.0)
    parts = [schedule.ExponentialLR(sgd, 0.5), schedule.StepLR(sgd, 2, 0.1)]
    for part in parts:
        part.load_state_dict({"steps": 2, "base": (1.0,)})
    assert sgd.lr == 0.25 * 0.1
    sgd = make(8.0)
    both = schedule.ChainedScheduler([schedule.ExponentialLR(sgd, 0.5), schedule.ExponentialLR(sgd, 0.5)])
    old = {"steps": 2, "schedules.0.steps": 0, "schedules.1.steps": 1} | dict.fromkeys(
        ["schedules.0.base", "schedules.1.base"], (1.0,)
    )
    both.load_state_dict(old)
    assert (sgd.lr, both.steps) == (0.5**5, 2)
    sgd = make(8.0)
    one = schedule.SequentialLR(sgd, [schedule.ExponentialLR(sgd, 0.5), schedule.LinearLR(sgd, 0.5)], [3])
    one.load_state_dict(old)
    assert sgd.lr == 0.25


def test_a_schedule_that_cannot_be_made_leaves_no_trace():
    class Bad(schedule.Schedule):
        def rate(self, t, base):
            return -base

    sgd = make(1.0)
    first = schedule.ExponentialLR(sgd, 0.5)
    with pytest.raises(ArgumentError, match="lr must be at least 0"):
        Bad(sgd)
    first.step()
    assert sgd.lr == 0.5


def test_a_resumed_chain_gives_the_same_values():
    def chain(optimizer):
        return [
            schedule.LinearLR(optimizer, 0.0, total_iters=5),
            schedule.CosineAnnealingLR(optimizer, 30, 0.01),
            schedule.ReduceLROnPlateau(optimizer, factor=0.7, patience=1),
        ]

    def steps(optimizer, parts, count):
        found = []
        for _ in range(count):
            for part in parts[:2]:
                part.step()
            parts[2].step(1.0)
            found.append([group["lr"] for group in optimizer.groups])
        return found

    whole, first = make(0.5, 2.0), make(0.5, 2.0)
    expected = steps(whole, chain(whole), 20)
    before = chain(first)
    steps(first, before, 8)
    for optimizer_first in (True, False):
        second = make(7.0, 7.0)
        if optimizer_first:
            second.load_state_dict(first.state_dict())
        after = chain(second)
        for part, saved in zip(after, before, strict=True):
            part.load_state_dict({name: np.asarray(value) for name, value in saved.state_dict().items()})
        if not optimizer_first:
            second.load_state_dict(first.state_dict())
        np.testing.assert_array_equal(steps(second, after, 12), expected[8:])


STATEFUL = {name: make_schedule for name, (make_schedule, _) in FORMULAS.items()} | {
    "OneCycleLR": lambda o: schedule.OneCycleLR(o, [0.2, 0.3], 30, three_phase=True),
    "CyclicLR": lambda o: schedule.CyclicLR(o, [0.2, 0.3], 1.0, 4, 3, "exp_range", 0.9),
}


@pytest.mark.parametrize("make_schedule", STATEFUL.values(), ids=STATEFUL.keys())
def test_a_resumed_schedule_gives_the_same_values(make_schedule):
    whole = make(0.5, 2.0, momentum=0.9)
    expected = rates(whole, make_schedule(whole), 20)
    first = make(0.5, 2.0, momentum=0.9)
    before = make_schedule(first)
    rates(first, before, 7)
    state = {name: np.asarray(value) for name, value in before.state_dict().items()}
    for optimizer_first in (True, False):
        second = make(7.0, 7.0, momentum=0.9)
        if optimizer_first:
            second.load_state_dict(first.state_dict())
        after = make_schedule(second)
        after.load_state_dict(state)
        if not optimizer_first:
            second.load_state_dict(first.state_dict())
        np.testing.assert_array_equal(rates(second, after, 13), expected[7:])


def test_a_resumed_plateau_gives_the_same_values(rng):
    metrics = rng.uniform(0, 1, 60)
    whole, part = make(0.5), make(0.5)
    settings = {"factor": 0.9, "patience": 2, "cooldown": 2}
    a, b = schedule.ReduceLROnPlateau(whole, **settings), schedule.ReduceLROnPlateau(part, **settings)
    for number, metric in enumerate(metrics):
        if number == 31:
            resumed = make(3.0)
            resumed.load_state_dict(part.state_dict())
            c = schedule.ReduceLROnPlateau(resumed, **settings)
            c.load_state_dict({name: np.asarray(value) for name, value in b.state_dict().items()})
            part, b = resumed, c
        a.step(metric)
        b.step(metric)
        assert whole.lr == part.lr
    assert whole.lr < 0.4


def test_a_state_that_does_not_fit_changes_nothing():
    sgd = make(1.0, 2.0)
    warmup, cosine = schedule.LinearLR(sgd, 0.0), schedule.CosineAnnealingLR(sgd, 9)
    chain, plateau = schedule.SequentialLR(sgd, [warmup, cosine], [5]), schedule.ReduceLROnPlateau(sgd)
    chain.step()
    good = cosine.state_dict()
    for each, state, message in (
        (cosine, {}, r"CosineAnnealingLR: .* missing=\['base', 'steps'\]"),
        (cosine, good | {"gamma": 1}, r"unknown=\['gamma'\]"),
        (cosine, good | {"steps": -1}, "steps must be an integer of at least 0, got steps=-1"),
        (cosine, good | {"base": (1.0,)}, r"base must be one number, or one for each of 2 groups, got base=\(1.0,\)"),
        (cosine, good | {"base": (1.0, -1.0)}, "base must be at least 0 and finite"),
        (chain, good, "SequentialLR: the names must be"),
        (chain, chain.state_dict() | {"steps": 0.5}, "steps must be an integer"),
        (chain, chain.state_dict() | {"schedules.0.base": 9.0, "schedules.1.base": (1.0,)}, "base must be one number"),
        (plateau, {"best": 1.0}, "ReduceLROnPlateau: the names"),
        (plateau, plateau.state_dict() | {"best": (1.0,)}, "best must be a number"),
        (plateau, plateau.state_dict() | {"bad_steps": -1}, "bad_steps must be an integer"),
    ):
        before = each.state_dict(), [group["lr"] for group in sgd.groups]
        with pytest.raises(ArgumentError, match=message):
            each.load_state_dict(state)
        assert before == (each.state_dict(), [group["lr"] for group in sgd.groups])


def test_errors_name_rule_and_values():
    sgd, other = make(momentum=0.9), make()
    exponential, plateau = schedule.ExponentialLR(sgd, 0.5), schedule.ReduceLROnPlateau(sgd)
    s = schedule
    for call, message in (
        (lambda: s.StepLR(sgd, 0), "StepLR: step_size must be an integer of at least 1, got step_size=0"),
        (lambda: s.StepLR(sgd, 1, -1), "StepLR: gamma must be at least 0"),
        (lambda: s.MultiStepLR(sgd, [1], -1), "MultiStepLR: gamma must be at least 0"),
        (lambda: s.ExponentialLR(sgd, -1), "ExponentialLR: gamma must be at least 0"),
        (lambda: s.LinearLR(sgd, -1), "LinearLR: start_factor must be at least 0"),
        (lambda: s.LinearLR(sgd, 1, -1), "LinearLR: end_factor must be at least 0"),
        (
            lambda: s.LinearLR(sgd, total_iters=0),
            "LinearLR: total_iters must be an integer of at least 1, got total_iters=0",
        ),
        (lambda: s.CosineAnnealingLR(sgd, 0), "CosineAnnealingLR: T_max must be an integer of at least 1, got T_max=0"),
        (lambda: s.CosineAnnealingLR(sgd, 1, -1), "CosineAnnealingLR: eta_min must be at least 0"),
        (
            lambda: s.OneCycleLR(sgd, 1, 0),
            "OneCycleLR: total_steps must be an integer of at least 1, got total_steps=0",
        ),
        (lambda: s.OneCycleLR(sgd, [1, 2], 9), r"max_lr must be one number, or one for each of 1 groups"),
        (lambda: s.OneCycleLR(sgd, -1, 9), "OneCycleLR: max_lr must be at least 0"),
        (lambda: s.OneCycleLR(sgd, 1, 9, pct_start=1.5), "pct_start must be from 0 to 1, got pct_start=1.5"),
        (lambda: s.OneCycleLR(sgd, 1, 9, anneal_strategy="up"), "anneal_strategy must be one of cos, linear, got"),
        (lambda: s.OneCycleLR(sgd, 1, 9, div_factor=0), "div_factor must be above 0 and finite, got div_factor=0"),
        (lambda: s.OneCycleLR(sgd, 1, 9, base_momentum=-1), "base_momentum must be at least 0"),
        (lambda: s.OneCycleLR(sgd, 1, 9, max_momentum=[1, 2]), "max_momentum must be one number, or one for each of 1"),
        (lambda: s.OneCycleLR(sgd, 1, epochs=3), "total_steps must be given, or both epochs and steps_per_epoch"),
        (lambda: s.OneCycleLR(sgd, 1, epochs=0, steps_per_epoch=2), "epochs must be an integer of at least 1"),
        (lambda: s.ConstantLR(sgd, 1.5), "ConstantLR: factor must be from 0 to 1, got factor=1.5"),
        (lambda: s.PolynomialLR(sgd, 0), "PolynomialLR: total_iters must be an integer of at least 1"),
        (lambda: s.LambdaLR(sgd, [abs, abs]), "LambdaLR: lr_lambda must be one function, or one for each of 1 groups"),
        (lambda: s.CosineAnnealingWarmRestarts(sgd, 0), "T_0 must be an integer of at least 1, got T_0=0"),
        (lambda: s.CosineAnnealingWarmRestarts(sgd, 1, 0), "T_mult must be an integer of at least 1, got T_mult=0"),
        (lambda: s.CosineAnnealingWarmRestarts(sgd, 1).step(-1), "epoch must be at least 0"),
        (lambda: s.CyclicLR(sgd, 1, 2, mode="up"), "CyclicLR: mode must be one of triangular, triangular2, exp_range"),
        (lambda: s.CyclicLR(sgd, 1, 2, scale_mode="up"), "scale_mode must be one of cycle, iterations"),
        (lambda: s.ChainedScheduler([]), "ChainedScheduler: a schedule is made for an optimizer"),
        (
            lambda: exponential.load_state_dict(exponential.state_dict() | {"since": -2}),
            "since must be from -1 to steps",
        ),
        (lambda: s.SequentialLR(sgd, [], []), "SequentialLR: milestones must increase"),
        (lambda: s.ExponentialLR(sgd, 0.5, last_epoch=-2), "last_epoch must be an integer of at least -1"),
        (
            lambda: s.OneCycleLR(make(kind=optim.Adagrad), 1, 9),
            "cycle_momentum needs an optimizer with momentum or betas, got optimizer='Adagrad'",
        ),
        (lambda: s.SequentialLR(sgd, [exponential], [3]), "milestones must increase from above 0, one fewer than"),
        (lambda: s.SequentialLR(sgd, [exponential] * 3, [3, 3]), "milestones must increase"),
        (lambda: s.SequentialLR(sgd, [plateau], []), "each schedule must be a function of the step"),
        (lambda: s.SequentialLR(other, [exponential], []), "and of this optimizer, got schedule='ExponentialLR'"),
        (lambda: s.ReduceLROnPlateau(sgd, "low"), "mode must be one of min, max, got mode='low'"),
        (lambda: s.ReduceLROnPlateau(sgd, factor=1.0), "factor must be at least 0 and less than 1.0"),
        (lambda: s.ReduceLROnPlateau(sgd, threshold_mode="x"), "threshold_mode must be one of rel, abs"),
        (lambda: s.ReduceLROnPlateau(sgd, patience=-1), "patience must be an integer of at least 0, got patience=-1"),
        (lambda: s.StepLR(sgd, "3"), "step_size must be an integer of at least 1, got step_size='3'"),
        (lambda: s.StepLR(None, 3), "StepLR: a schedule is made for an optimizer, got type='NoneType'"),
        (lambda: s.MultiStepLR(sgd, [1.5]), "milestones must be an integer of at least 0, got milestones=1.5"),
        (lambda: s.MultiStepLR(sgd, 3), "MultiStepLR: milestones must be a list of integers, got milestones=3"),
        (lambda: s.SequentialLR(sgd, [exponential], 3), "SequentialLR: milestones must be a list, got type='int'"),
        (lambda: s.ChainedScheduler(exponential), "ChainedScheduler: schedulers must be a list, got type='Exponent"),
        (lambda: s.CyclicLR(sgd, 1, 2, scale_fn=2.0), "CyclicLR: scale_fn must be a function, got type='float'"),
        (lambda: s.OneCycleLR(sgd, 1, 9, div_factor=[2]), r"OneCycleLR: div_factor must be a number, got div_f"),
        (lambda: plateau.step(None), "metric must be a number, or a tensor without dimensions, got metric=None"),
        (lambda: s.ReduceLROnPlateau(sgd, min_lr=[0, 0]), "min_lr must be one number, or one for each of 1 groups"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()


# ---- PyTorch ---------------------------------------------------------------------------------------------------------


def drawn(rng, name, of):
    """A schedule of ``of``, schedule or torch.optim.lr_scheduler, with settings drawn from rng, as a function."""
    gamma = float(rng.uniform(0.1, 1))
    arguments = {
        "StepLR": {"step_size": int(rng.integers(1, 20)), "gamma": gamma},
        "MultiStepLR": {"milestones": sorted(rng.integers(0, 90, rng.integers(0, 6)).tolist()), "gamma": gamma},
        "ExponentialLR": {"gamma": gamma},
        "LinearLR": {
            "start_factor": float(rng.uniform(0.01, 1)),
            "end_factor": float(rng.uniform(0, 1)),
            "total_iters": int(rng.integers(1, 120)),
        },
        "CosineAnnealingLR": {"T_max": int(rng.integers(1, 120)), "eta_min": float(rng.uniform(0, 0.01))},
        "OneCycleLR": {
            "max_lr": rng.uniform(0.1, 1, 2).tolist(),
            "total_steps": int(rng.integers(101, 200)),
            "pct_start": float(rng.uniform(0, 0.5)),
            "anneal_strategy": ["cos", "linear"][rng.integers(2)],
            "cycle_momentum": bool(rng.integers(4)),
            "base_momentum": float(rng.uniform(0.5, 0.8)),
            "max_momentum": float(rng.uniform(0.8, 0.99)),
            "div_factor": float(rng.uniform(1, 50)),
            "final_div_factor": float(rng.uniform(1, 1e5)),
            "three_phase": bool(rng.integers(2)),
        },
        "ConstantLR": {"factor": float(rng.uniform(0.01, 1)), "total_iters": int(rng.integers(1, 120))},
        "PolynomialLR": {"total_iters": int(rng.integers(1, 120)), "power": float(rng.uniform(0.3, 3))},
        "LambdaLR": {"lr_lambda": [lambda t: gamma**t, lambda t: 1 / (1 + gamma * t)]},
        "MultiplicativeLR": {"lr_lambda": lambda t: 1 - gamma / (2 + t)},
        "CosineAnnealingWarmRestarts": {
            "T_0": int(rng.integers(1, 30)),
            "T_mult": int(rng.integers(1, 4)),
            "eta_min": float(rng.uniform(0, 0.01)),
        },
        "CyclicLR": {
            "base_lr": rng.uniform(0.01, 0.1, 2).tolist(),
            "max_lr": rng.uniform(0.1, 1, 2).tolist(),
            "step_size_up": int(rng.integers(1, 40)),
            "step_size_down": None if rng.integers(2) else int(rng.integers(1, 40)),
            "gamma": float(rng.uniform(0.9, 1)),
            "cycle_momentum": bool(rng.integers(4)),
            "base_momentum": float(rng.uniform(0.5, 0.8)),
            "max_momentum": rng.uniform(0.8, 0.99, 2).tolist(),
        }
        | [
            {"mode": ["triangular", "triangular2", "exp_range"][rng.integers(3)]},
            {"scale_fn": lambda x: gamma ** (x / 10), "scale_mode": ["cycle", "iterations"][rng.integers(2)]},
        ][rng.integers(2)],
    }[name]
    return arguments, lambda optimizer: getattr(of, name)(optimizer, **arguments)


def peers(torch, base, kind):
    settings = {"momentum": 0.9} if kind == "SGD" else {}
    parameters = [torch.ones(1, requires_grad=True) for _ in base]
    groups = [{"params": [p], "lr": lr} for p, lr in zip(parameters, base, strict=True)]
    optimizer = getattr(torch.optim, kind)(groups, **settings)
    return make(*base, kind=getattr(optim, kind), **settings), optimizer


def assert_same_course(ours, theirs, optimizer, peer, where, steps=100):
    names = [name for name in ("lr", "momentum", "betas") if name in peer.param_groups[0]]
    course = {name: [] for name in names}  # of each step, ours and theirs, by group
    for _ in range(steps):
        for name in names:
            course[name].append([[group[name] for group in of] for of in (optimizer.groups, peer.param_groups)])
        ours.step()
        peer.step()  # PyTorch warns of a step of a schedule before one of the optimizer
        theirs.step()
    for name in names:
        actual, expected = np.moveaxis(course[name], 1, 0)
        # PyTorch multiplies the last rate by a factor, a hundred times, and where a cosine nears 0 that is rough.
        bounds = {"rtol": 1e-9, "atol": 1e-12} if name == "lr" else {"rtol": 1e-12}
        np.testing.assert_allclose(actual, expected, **bounds, err_msg=f"{name} of each step and group, {where}")


ALONE = ["StepLR", "MultiStepLR", "ExponentialLR", "LinearLR", "CosineAnnealingLR", "OneCycleLR", "ConstantLR"]
ALONE += ["PolynomialLR", "LambdaLR", "MultiplicativeLR", "CosineAnnealingWarmRestarts", "CyclicLR"]


@pytest.mark.peer(*ALONE)
@pytest.mark.parametrize("name", ALONE)
def test_a_hundred_steps_are_those_of_pytorch(name, rng):
    torch = pytest.importorskip("torch")
    for draw in range(50):
        optimizer, peer = peers(torch, rng.uniform(0.05, 2, 2).tolist(), ["SGD", "Adam"][draw % 2])
        state = rng.bit_generator.state
        arguments, ours = drawn(rng, name, schedule)
        rng.bit_generator.state = state
        theirs = drawn(rng, name, torch.optim.lr_scheduler)[1]
        assert_same_course(ours(optimizer), theirs(peer), optimizer, peer, f"{draw=} {arguments=}")


@pytest.mark.peer("ReduceLROnPlateau")
def test_plateaus_are_those_of_pytorch(rng):
    torch = pytest.importorskip("torch")
    for draw in range(100):
        optimizer, peer = peers(torch, rng.uniform(0.05, 2, 2).tolist(), "SGD")
        settings = {
            "mode": ["min", "max"][rng.integers(2)],
            "factor": float(rng.uniform(0.1, 0.95)),
            "patience": int(rng.integers(0, 5)),
            "threshold": float(rng.choice([0, 1e-4, 0.1])),
            "threshold_mode": ["rel", "abs"][rng.integers(2)],
            "cooldown": int(rng.integers(0, 4)),
            "min_lr": rng.uniform(0, 0.1, 2).tolist(),
        }
        ours = schedule.ReduceLROnPlateau(optimizer, **settings)
        theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(peer, **settings)
        metrics = rng.standard_normal(100).cumsum() * 0.1 + rng.choice([1, -1])
        if settings["threshold_mode"] == "rel":  # PyTorch's margin of a number below 0 is on its wrong side
            metrics = np.abs(metrics)
        metrics[rng.uniform(size=100) < 0.1] = rng.choice([np.nan, np.inf, -np.inf])
        for step, metric in enumerate(metrics):
            ours.step(float(metric))
            theirs.step(float(metric))
            for group, other in zip(optimizer.groups, peer.param_groups, strict=True):
                np.testing.assert_allclose(group["lr"], other["lr"], rtol=1e-12, err_msg=f"{draw=} {step=} {settings=}")


SEVERAL = ["SequentialLR", "ChainedScheduler"]


def made(rng, name, of, optimizer):
    """A schedule of that name; those of several have two."""
    if name == "ReduceLROnPlateau":
        return of.ReduceLROnPlateau(optimizer, factor=0.5, patience=int(rng.integers(8)))
    if name not in SEVERAL:
        return drawn(rng, name, of)[1](optimizer)
    return several(rng, name, rng.choice(ALONE[:5] + ALONE[6:11], 2).tolist(), of, optimizer)


def several(rng, name, names, of, optimizer):
    milestones = sorted(rng.choice(np.arange(1, 59), len(names) - 1, replace=False).tolist())
    parts = [made(rng, each, of, optimizer) for each in names]
    return of.SequentialLR(optimizer, parts, milestones) if name == "SequentialLR" else of.ChainedScheduler(parts)


def begun(seed, names, manner, of, optimizer):
    rng = np.random.default_rng(seed)
    if manner in SEVERAL:
        return [several(rng, manner, names, of, optimizer)]
    return [made(rng, name, of, optimizer) for name in names]


def moved(groups):
    return [[group["lr"], group["momentum"] if "momentum" in group else group["betas"][0]] for group in groups]


def chain_until(seed, names, manner, torch):
    """Compare 60 steps, with a state loaded in their midst; the step at which a rate would be below 0, or else 60."""
    kind = ["SGD", "Adam"][seed % 2]
    optimizer, peer = peers(torch, [0.5, 1.5], kind)
    theirs, ours = (
        begun(seed, names, manner, torch.optim.lr_scheduler, peer),
        begun(seed, names, manner, schedule, optimizer),
    )
    peer.step()
    found, expected = [moved(optimizer.groups)], [moved(peer.param_groups)]
    metrics = np.random.default_rng(seed).uniform(1, 2, 60).tolist()
    for step, metric in enumerate(metrics):
        if step == seed % 60:
            states, state = [each.state_dict() for each in ours], optimizer.state_dict()
            optimizer, _ = peers(torch, [7.0, 7.0], kind)
            ours = begun(seed, names, manner, schedule, optimizer)
            for each, own in zip(ours, states, strict=True):
                each.load_state_dict(own)
            optimizer.load_state_dict(state)
        for each, other in zip(ours, theirs, strict=True):
            judged = [metric] if isinstance(each, schedule.ReduceLROnPlateau) else []
            other.step(*judged)
            below = min(group["lr"] for group in peer.param_groups) < 0
            try:
                each.step(*judged)
            except ArgumentError as error:
                within = isinstance(each, schedule.ChainedScheduler)  # and PyTorch's may be above 0 again
                if "lr must be at least 0" in str(error) and (below or within):
                    break
                raise
            assert not below
        else:
            found.append(moved(optimizer.groups))
            expected.append(moved(peer.param_groups))
            continue
        break
    # PyTorch's CyclicLR behind others has the rate of before until its first step.
    first = int("CyclicLR" in names[1:])
    np.testing.assert_allclose(
        found[first:], expected[first:], rtol=1e-8, atol=1e-11, err_msg=f"{seed} {manner} {names}"
    )
    return len(found) - 1


@pytest.mark.peer(*ALONE, "ReduceLROnPlateau", "SequentialLR", "ChainedScheduler")
@pytest.mark.parametrize("manner", ["each by itself", "ChainedScheduler", "SequentialLR"])
def test_all_pairs_and_some_triples_in_a_chain_are_those_of_pytorch(manner, rng):
    torch = pytest.importorskip("torch")
    kinds = {
        "each by itself": [*ALONE, "ReduceLROnPlateau", *SEVERAL],
        "ChainedScheduler": [*ALONE, *SEVERAL],
        "SequentialLR": ALONE,  # in PyTorch one of several is an error behind others, and first begins a step too late
    }[manner]
    chains = list(itertools.product(kinds, repeat=2))
    for draw in range(50):
        chains += [np.random.default_rng(draw).choice(kinds, 3).tolist()]
    if manner == "SequentialLR":
        # PyTorch's OneCycleLR keeps its bounds where the cycles made after it overwrite them.
        cycles = [[name for name in names if name in ("OneCycleLR", "CyclicLR")] for names in chains]
        chains = [names for names, of in zip(chains, cycles, strict=True) if len(of) < 2 or "OneCycleLR" not in of[:-1]]
    lengths = [chain_until(int(rng.integers(1 << 32)), names, manner, torch) for names in chains]
    assert np.mean(np.array(lengths) < 60) < 0.05


@pytest.mark.peer
def test_the_namespace_and_the_arguments_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    others = {"LRScheduler", "ReduceLROnPlateau"}
    assert set(torch.optim.lr_scheduler.__all__) == set(optim.lr_scheduler.__all__)
    for name in set(optim.lr_scheduler.__all__) - others:
        ours, theirs = (
            {k: p.default for k, p in inspect.signature(getattr(of, name)).parameters.items()}
            for of in (optim.lr_scheduler, torch.optim.lr_scheduler)
        )
        assert list(ours.items()) == list(theirs.items()), name


@pytest.mark.peer
def test_a_schedule_made_in_the_middle_goes_on_as_pytorchs_does(rng):
    torch = pytest.importorskip("torch")
    for name in ("LambdaLR", "CyclicLR", "OneCycleLR"):
        optimizer, peer = peers(torch, [0.1, 0.2], "SGD")
        arguments, _ = drawn(rng, name, schedule)
        settings = arguments | ({"cycle_momentum": False} if name != "LambdaLR" else {})
        getattr(torch.optim.lr_scheduler, name)(peer, **settings)  # which notes what a schedule begins with
        ours = getattr(schedule, name)(optimizer, **settings, last_epoch=9)
        theirs = getattr(torch.optim.lr_scheduler, name)(peer, **settings, last_epoch=9)
        assert ours.last_epoch == theirs.last_epoch == 10
        assert ours.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
        assert_same_course(ours, theirs, optimizer, peer, name, steps=20)


@pytest.mark.peer
def test_fractions_of_an_epoch_are_those_of_pytorch(rng):
    torch = pytest.importorskip("torch")
    for draw in range(20):
        optimizer, peer = peers(torch, [0.1, 0.2], "SGD")
        settings = {"T_0": int(rng.integers(1, 6)), "T_mult": int(rng.integers(1, 3)), "eta_min": 0.01}
        ours = schedule.CosineAnnealingWarmRestarts(optimizer, **settings)
        peer.step()
        theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(peer, **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for epoch in [*np.arange(0, 12, 0.25).tolist(), None, None]:
                for each in (ours, theirs):
                    each.step() if epoch is None else each.step(epoch)
                np.testing.assert_allclose(
                    ours.get_last_lr(), theirs.get_last_lr(), rtol=1e-9, err_msg=f"{draw=} {epoch=}"
                )
