"""Operations drawn at random on small trainings, against a plain record of what should hold.

The suite draws a few hundred, always the same. ``python tests/state_machine.py 10000`` draws that many or more, of
fixed seeds, and prints how many there were of each.
"""

import copy
import math
import os
import pickle
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

import hypothesis
import numpy as np
import plain_training as plain
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from training_case import (
    ARCHITECTURES,
    LAYOUTS,
    OPTIMIZERS,
    SCHEDULES,
    Default,
    Follow,
    Pair,
    Recipe,
    Saver,
    Training,
    output,
)

import gpunn
from gpunn import nn, no_grad, tensor
from gpunn.backend import default_generator
from gpunn.checkpoint import load_checkpoint, load_weights, save_checkpoint, save_weights
from gpunn.errors import ArgumentError, GpunnError, ShapeError
from gpunn.train import predict

MOST = 3  # trainings at a time
PLACES = st.integers(0, 20)  # of a parameter, or a module, counted round and round
SEEDS = st.integers(0, 999)
OPTIMIZER = st.sampled_from(sorted(OPTIMIZERS))
LAYOUT = st.sampled_from(sorted(LAYOUTS))
COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda held: pickle.loads(pickle.dumps(held, protocol=2)),
    "newest pickle": lambda held: pickle.loads(pickle.dumps(held, protocol=pickle.HIGHEST_PROTOCOL)),
}
COPY = st.sampled_from(sorted(COPIES))
NO_PARAMETERS = {
    "result": lambda held: held * 2,
    "array": lambda held: held.data,
    "tensor": lambda held: tensor(held.data),
    "number": lambda held: 0.5,
}
DONE = Counter()  # operations, by name


def operation(where=lambda pair: True, **drawn):
    """A rule for one of the trainings, unless ``where`` says that there is nothing to do; it is counted."""

    def made(method):
        def operate(self, pick, **values):
            pair = self.pairs[pick % len(self.pairs)]
            if where(pair):
                method(self, pair, **values)
                DONE[method.__name__] += 1

        operate.__name__ = method.__name__
        return rule(pick=st.integers(0, MOST - 1), **drawn)(operate)

    return made


def learns(pair):
    return bool(pair.record.learning)


def moves(pair):
    """Whether the optimizer has a parameter that learns."""
    return bool(pair.known() & pair.record.learning)


class Trainings(RuleBasedStateMachine):
    """Up to three trainings of one recipe at a time, each with its record; what moves one leaves the others."""

    @initialize(
        architecture=st.sampled_from(sorted(ARCHITECTURES)),
        width=st.integers(2, 4),
        dtype=st.sampled_from(["float32", "float64"]),
        seed=SEEDS,
        optimizer=OPTIMIZER,
        grouped=st.booleans(),
        averaged=st.booleans(),
        schedules=st.lists(st.sampled_from(sorted(SCHEDULES)), max_size=2),
    )
    def begin(self, architecture, width, dtype, seed, optimizer, grouped, averaged, schedules):
        gpunn.manual_seed(seed)
        self.default = Default(plain.stream(default_generator()))
        self.recipe = Recipe(architecture, width, np.dtype(dtype))
        pair = Pair.begun(self.recipe, self.default, seed, optimizer, grouped)
        if averaged:
            pair.renew_average()
        for name in schedules:
            pair.schedule(name)
        self.pairs = [pair]
        self.folder = tempfile.TemporaryDirectory()
        self.saved = []

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()

    @invariant()
    def everything_holds(self):
        assert plain.stream(default_generator()) == self.default.place
        for pair in self.pairs:
            pair.check()

    def keep(self, pair):
        """Have the pair too, in the place of the oldest if there are too many."""
        self.pairs = [*self.pairs, pair][-MOST:]

    def path(self):
        return Path(self.folder.name, f"{len(self.saved)}.safetensors")

    @contextmanager
    def once_more(self):
        """A context after which the default generator is where it was."""
        before = self.default.place
        yield
        self.rewind(before)

    def rewind(self, place):
        """Put the default generator there."""
        self.default.place = place
        default_generator().bit_generator.state = plain.generator_at(place).bit_generator.state

    # ---- training ---------------------------------------------------------------------------------------------------

    @operation(seed=SEEDS)
    def train(self, pair, seed):
        pair.whole_step(self.recipe.batch(seed))

    @operation(seed=SEEDS, refill=st.booleans())
    def backward(self, pair, seed, refill):
        pair.backward(self.recipe.batch(seed), refill)

    @operation(shallow=st.booleans())
    def step(self, pair, shallow):
        """A shallow copy of an optimizer moves the same parameters."""
        pair.step(copy.copy(pair.training.optimizer) if shallow else pair.training.optimizer)

    @operation(how=st.sampled_from(["model", "optimizer"]))
    def zero_grad(self, pair, how):
        pair.forget(how)

    @operation(most=st.sampled_from([0.01, 1.0, math.inf]), kind=st.sampled_from([1.0, 2.0, 3.5, math.inf]))
    def clip_norm(self, pair, most, kind):
        pair.clip_norm(most, kind)

    @operation(factor=st.sampled_from([1e18, 1e20, 1e30]), kind=st.sampled_from([1.0, 2.0, math.inf]))
    def clip_huge(self, pair, factor, kind):
        pair.scale_gradients(factor)
        pair.clip_norm(1.0, kind)

    @operation(most=st.sampled_from([0.0, 0.01, 1.0]))
    def clip_value(self, pair, most):
        pair.clip_value(most)

    @operation(moves, seed=SEEDS, unscale=st.booleans(), spoil=st.booleans(), how=st.none() | COPY)
    def scaled_step(self, pair, seed, unscale, spoil, how):
        pair.scaled_step(self.recipe.batch(seed), unscale, spoil, COPIES.get(how))

    @operation(learns)
    def new_average(self, pair):
        pair.renew_average()

    @operation(lambda pair: pair.training.average)
    def average(self, pair):
        pair.training.average.update()
        pair.take_average()

    @operation(lambda pair: pair.training.average, breaks=st.booleans(), how=COPY)
    def swap_averages(self, pair, breaks, how):
        with suppress(plain.Interruption), pair.training.average.averages():
            for name, p in pair.training.model.named_parameters():
                if name in pair.record.average:
                    np.testing.assert_array_equal(p.data, pair.record.average[name])
            with pytest.raises(ArgumentError):  # the copy would not know the trained weights
                COPIES[how](pair.training)
            if breaks:
                raise plain.Interruption

    # ---- modes and settings -----------------------------------------------------------------------------------------

    @operation(place=PLACES, call=st.sampled_from(["train", "train", "eval"]))
    def mode(self, pair, place, call):
        module = pair.module(place)
        getattr(module, call)()
        inside = {id(each) for each in module.modules()}
        for path, each in pair.training.model.named_modules():
            if id(each) in inside:
                pair.record.modes[path] = call == "train"

    @operation(place=PLACES, learning=st.booleans())
    def requires_grad(self, pair, place, learning):
        module = pair.module(place).requires_grad_(learning)
        inside = {id(p) for p in module.parameters()}
        for name, p in pair.training.model.named_parameters():
            if id(p) in inside and learning:
                pair.record.learning.add(name)
            elif id(p) in inside:
                pair.record.learning.discard(name)
                pair.record.gradients.pop(name, None)

    @operation(place=PLACES, rate=st.sampled_from([0.0, 0.01, 0.1]))
    def set_rate(self, pair, place, rate):
        groups = pair.record.groups
        pair.set_rate([groups[place % len(groups)]], rate)

    @operation(rate=st.sampled_from([0.0, 0.02]))
    def set_all_rates(self, pair, rate):
        pair.training.optimizer.lr = rate
        pair.set_rate(pair.record.groups, rate)

    @operation(lambda pair: len(pair.record.schedules) < 3, name=st.sampled_from(sorted(SCHEDULES)))
    def new_schedule(self, pair, name):
        pair.schedule(name)

    @operation(
        lambda pair: pair.record.schedules,
        number=PLACES,
        metrics=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, math.nan, math.inf]), min_size=1, max_size=5),
    )
    def step_schedule(self, pair, number, metrics):
        for metric in metrics:
            pair.step_schedule(number % len(pair.record.schedules), metric)

    @operation(
        lambda pair: pair.record.groups[0]["settings"].keys() >= {"momentum"}, momentum=st.sampled_from([0, 0.5])
    )
    def set_momentum(self, pair, momentum):
        settings = pair.record.groups[0]["settings"]
        if settings.get("nesterov") and momentum == 0:
            with pytest.raises(ArgumentError):
                pair.training.optimizer.groups[0]["momentum"] = momentum
            return
        pair.training.optimizer.groups[0]["momentum"] = settings["momentum"] = momentum

    @operation(learns, optimizer=OPTIMIZER, grouped=st.booleans())
    def new_optimizer(self, pair, optimizer, grouped):
        pair.renew(optimizer, grouped)

    @operation(seed=SEEDS)
    def manual_seed(self, pair, seed):
        gpunn.manual_seed(seed)
        self.default.place = plain.stream(np.random.Generator(np.random.Philox(seed)))

    # ---- the trainer ------------------------------------------------------------------------------------------------

    @operation(
        moves,
        seed=SEEDS,
        epochs=st.integers(1, 2),
        batch_size=st.sampled_from([2, 3]),
        accumulate=st.integers(1, 2),
        clip_norm=st.sampled_from([None, 0.5]),
        clip_value=st.sampled_from([None, 0.05]),
    )
    def run_trainer(self, pair, seed, epochs, batch_size, accumulate, clip_norm, clip_value):
        clip = {"clip_norm": clip_norm, "clip_value": clip_value}
        pair.trainer(seed, batch_size, [Follow(pair, **clip)], accumulate=accumulate, **clip).run(epochs)

    @operation(moves, seed=SEEDS, fails_at=st.integers(1, 5))
    def break_trainer(self, pair, seed, fails_at):
        follow = Follow(pair)
        trainer = pair.trainer(seed, 2, [follow], fails_at)
        with pytest.raises(plain.Interruption):
            trainer.run(epochs=2)
        with pytest.raises(ArgumentError):
            trainer.state_dict()
        pair.record.arrays = follow.good
        pair.forget()

    @operation(moves, seed=SEEDS, how=COPY)
    def copy_trainer(self, pair, seed, how):
        trainer, training = pair.trainer(seed, 3), pair.training
        other, schedules, scaler = COPIES[how]((trainer, training.schedules, training.scaler))
        twin = pair.beside(Training(other.model, other.optimizer, other.ema, scaler, schedules))
        other.callbacks, trainer.callbacks = (Follow(twin),), (Follow(pair),)
        with self.once_more():
            other.run(1)
        trainer.run(1)
        pair.same(twin)
        self.keep(twin)

    @operation(moves, seed=SEEDS, step=st.integers(1, 4), other=SEEDS)
    def resume(self, pair, seed, step, other):
        """A run that is left after some step, and goes on in a training made anew."""
        twin, path = pair.rebuilt(other), Path(self.folder.name, "resumed.safetensors")
        records = pair.trainer(seed, 3, [Follow(pair), Saver(step, path)]).run(2)
        second = twin.trainer(seed, 3)
        second.load_state_dict(load_checkpoint(path))
        assert [each["train_loss"] for each in second.run(2)] == [each["train_loss"] for each in records]
        pair.forget()
        twin.forget()
        twin.take_record(pair.record)
        self.keep(twin)

    # ---- copies -----------------------------------------------------------------------------------------------------

    @operation(how=COPY)
    def copy_all(self, pair, how):
        self.keep(pair.copied(COPIES[how]))

    @operation(learns, how=COPY, optimizer=OPTIMIZER)
    def copy_model(self, pair, how, optimizer):
        self.keep(pair.with_model(COPIES[how](pair.training.model), optimizer))

    @operation(how=COPY, seed=SEEDS)
    def copy_then_same_step(self, pair, how, seed):
        other, batch = pair.copied(COPIES[how]), self.recipe.batch(seed)
        with self.once_more():
            other.whole_step(batch)
        pair.whole_step(batch)
        pair.same(other)
        self.keep(other)

    @operation(lambda pair: pair.known() & pair.record.gradients.keys(), how=COPY)
    def copy_optimizer(self, pair, how):
        """It has copies of the parameters, and of their gradients."""
        other = COPIES[how](pair.training.optimizer)
        other.step()
        pair.check()
        pair.step(pair.training.optimizer)
        moved = {name: p for group in other.groups for name, p in zip(group.names, group.parameters, strict=True)}
        for name, p in moved.items():
            np.testing.assert_array_equal(p.data, pair.record.arrays[name])

    @operation()
    def copy_shallow(self, pair):
        model = pair.training.model
        assert all(a is b for a, b in zip(model.parameters(), copy.copy(model).parameters(), strict=True))

    # ---- assignment -------------------------------------------------------------------------------------------------

    @operation(place=PLACES, seed=SEEDS, how=st.sampled_from(["array", "item", "element"]), layout=LAYOUT)
    def assign(self, pair, place, seed, how, layout):
        name, held = pair.held(place)
        value = pair.value(name, seed)
        if how == "array":
            held.data[...] = LAYOUTS[layout](value)
            held.mark_changed()
        elif how == "item" or value.ndim == 0:
            with no_grad():
                held[...] = LAYOUTS[layout](value)
        else:
            value = np.concatenate([value[:1], pair.record.arrays[name][1:]])
            with no_grad():
                held[0] = tensor(value[0])
        pair.record.arrays[name] = value

    @operation(place=PLACES, what=st.sampled_from(sorted(NO_PARAMETERS)))
    def assign_what_is_no_parameter(self, pair, place, what):
        held = pair.held(place)[1]
        for module, key in pair.holders(held):
            with pytest.raises(TypeError):
                setattr(module, key, NO_PARAMETERS[what](held))

    @operation(place=PLACES, seed=SEEDS, layout=LAYOUT)
    def replace(self, pair, place, seed, layout):
        name, held = pair.held(place)
        pair.replace(name, held, LAYOUTS[layout](pair.value(name, seed)))

    @operation(moves, place=PLACES, seed=SEEDS, optimizer=OPTIMIZER)
    def move_away(self, pair, place, seed, optimizer):
        """Another array under a parameter: the optimizer refuses to step, and nothing is moved."""
        moving = sorted(pair.known())
        name = moving[place % len(moving)]
        pair.record.arrays[name] = pair.value(name, seed)
        dict(pair.training.model.named_parameters())[name].data = pair.record.arrays[name].copy()
        with pytest.raises(ArgumentError, match="moved or replaced"):
            pair.training.optimizer.step()
        pair.check()
        pair.renew(optimizer, grouped=False)

    # ---- files and states -------------------------------------------------------------------------------------------

    @operation()
    def save_weights(self, pair):
        save_weights(pair.training.model, self.path())
        self.saved.append((self.path(), copy.deepcopy(pair.record)))

    @operation(layout=LAYOUT)
    def save_checkpoint(self, pair, layout):
        save_checkpoint(pair.states(layout), self.path())
        self.saved.append((self.path(), copy.deepcopy(pair.record)))

    @operation(number=st.integers(0, 9))
    def load(self, pair, number):
        """A file of another training, or of an earlier state: of weights alone, or with the rest."""
        if not self.saved:
            return
        path, record = self.saved[number % len(self.saved)]
        try:
            states = load_checkpoint(path)
        except GpunnError:
            load_weights(pair.training.model, path)
            pair.record.arrays = copy.deepcopy(record.arrays)
        else:
            pair.load(states, record)

    @operation(other=st.integers(0, MOST - 1), layout=LAYOUT)
    def load_state(self, pair, other, layout):
        """What another training gives, in memory; afterwards the state is the user's own to change."""
        giver = self.pairs[other % len(self.pairs)]
        states = giver.states(layout)
        pair.load(states, giver.record)
        for state in states.values():
            for value in state.values():
                if isinstance(value, np.ndarray):
                    value[...] = 0

    @operation(part=PLACES, place=PLACES, what=st.sampled_from(["missing", "unknown", "shape", "dtype"]))
    def load_what_does_not_fit(self, pair, part, place, what):
        parts = list(pair.parts().values())
        held = parts[part % len(parts)]
        state = {
            name: value * 0 if isinstance(value, np.ndarray) else value for name, value in held.state_dict().items()
        }
        arrays = [name for name, value in state.items() if isinstance(value, np.ndarray)] or ["another"]
        name = arrays[place % len(arrays)]
        old = state.pop(name, np.zeros(2))
        if what != "missing" or name == "another":
            state["another" if what == "unknown" else name] = old[None] if what == "shape" else old.astype(np.float16)
        with pytest.raises(GpunnError):
            held.load_state_dict(state)

    @operation(seed=SEEDS)
    def rebuild(self, pair, seed):
        """A training made anew that takes over all states."""
        self.keep(pair.rebuilt(seed))

    # ---- what goes wrong, and another process -----------------------------------------------------------------------

    @operation(seed=SEEDS, blows=st.sampled_from(["forward", "backward"]))
    def interrupt(self, pair, seed, blows):
        pair.interrupted(self.recipe.batch(seed), blows if pair.fuse_learns() else "forward")

    @operation(seed=SEEDS)
    def one_example(self, pair, seed):
        """One value a channel, which batch normalisation refuses in training; what ran before it did run."""
        x, _ = self.recipe.batch(seed, n=1)
        way = pair.passed()
        try:
            way.forward(x)
        except plain.Interruption:
            with pytest.raises(ShapeError):
                output(pair.training.model, x)
        else:
            output(pair.training.model, x)
        pair.take_pass(way)

    @operation()
    def refused_batch(self, pair):
        """A batch of another width, and in training one value a channel: neither is counted."""
        for module in pair.training.model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.Linear):
                shapes = [(4, 9)]
                if not isinstance(module, nn.Linear) and module.training:
                    shapes.append((1, module.num_features, *(1,) * isinstance(module, nn.BatchNorm2d) * 2))
                for shape in shapes:
                    with pytest.raises(ShapeError):
                        module(tensor(np.ones(shape, self.recipe.dtype)))

    @operation(wrong=st.sampled_from([np.zeros(7), 1.0, np.zeros((), int)]))
    def wrong_gradient(self, pair, wrong):
        """The last gradient does not fit: no parameter is moved, not the first ones either."""
        p = pair.training.optimizer.groups[-1].parameters[-1]
        right, p.grad = p.grad, wrong
        with pytest.raises(ShapeError):
            pair.training.optimizer.step()
        p.grad = right

    @operation(seed=SEEDS, n=st.integers(1, 4))
    def predict(self, pair, seed, n):
        x, _ = self.recipe.batch(seed, n)
        way = pair.passed()
        way.training = dict.fromkeys(way.training, False)
        expected = way.forward(x)
        limit = pair.limit() * max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(predict(pair.training.model, x, batch_size=2), expected, rtol=0, atol=limit)

    @operation(seed=SEEDS)
    def break_evaluation(self, pair, seed):
        with suppress(plain.Interruption), pair.training.model.evaluating(), no_grad():
            output(pair.training.model, self.recipe.batch(seed)[0])
            raise plain.Interruption

    @operation(seed=SEEDS)
    def fork(self, pair, seed):
        """A child takes the same step, and sends its weights; here nothing is moved by that."""
        batch = self.recipe.batch(seed)

        def step():
            self.rewind(self.default.place)  # where the library gives a child numbers of its own
            pair.whole_step(batch)
            return pair.record.arrays

        there = in_child(step)
        pair.check()
        pair.whole_step(batch)
        for name, array in there.items():
            np.testing.assert_array_equal(array, pair.record.arrays[name])


def in_child(work):
    """What ``work`` gives in a forked process."""
    end, other = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12's, for the threads of BLAS: they are idle
        child = os.fork()
    if child == 0:
        try:
            content = pickle.dumps((work(), ""))
        except BaseException:
            content = pickle.dumps((None, traceback.format_exc()))
        with os.fdopen(other, "wb") as pipe:
            pipe.write(content)
        os._exit(0)
    os.close(other)
    with os.fdopen(end, "rb") as pipe:
        found, error = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    assert not error, error
    return found


DRAWN = hypothesis.settings(
    max_examples=15,
    stateful_step_count=50,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


def run_drawn():
    """Draw the operations of the suite."""
    run_state_machine_as_test(Trainings, settings=DRAWN)


def run(number):
    """Draw at least ``number`` operations, and print how many there were."""
    seed = 0
    while DONE.total() < number:
        hypothesis.seed(seed)(Trainings)
        run_state_machine_as_test(Trainings, settings=hypothesis.settings(DRAWN, derandomize=False, database=None))
        seed += 1
        print(f"seed {seed}: {DONE.total()} operations", flush=True)
    print(*(f"{count:6d} {name}" for name, count in DONE.most_common()), sep="\n")
    print(f"{DONE.total()} operations, no difference")


if __name__ == "__main__":
    run(int(sys.argv[1]))
