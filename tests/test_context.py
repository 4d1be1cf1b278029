import asyncio
import threading

import numpy as np
import pytest

import gpunn
from gpunn import autocast, backend, cuda, graph, no_grad, optim, tensor
from gpunn.casting import _half
from gpunn.context import Setting
from gpunn.cuda import tuning
from gpunn.cuda.capture import capturing, rehearsing
from gpunn.cuda.emulator.counting import counting
from gpunn.errors import ArgumentError
from gpunn.observer import Observer, observers

GENERATOR = backend.random_generator(0)

# name: (the context, what it changes)
CONTEXTS = {
    "no_grad": (no_grad, graph.is_recording),
    "autocast": (lambda: autocast("fp16"), _half.get),
    "matmul_precision": (lambda: backend.matmul_precision("tf32"), backend.chosen_matmul_precision),
    "use_generator": (lambda: backend.use_generator(GENERATOR), lambda: backend.default_generator() is GENERATOR),
    "emulate": (cuda.emulate, lambda: cuda.takes(np.ones(1))),
    "count": (cuda.count, counting),
    "record_launches": (cuda.record_launches, lambda: (cuda.takes(np.ones(1)), np.geterr())),
    "autotune": (cuda.autotune, tuning.in_use),
    "deterministic": (cuda.deterministic, tuning._deterministic.get),
    "rehearsing": (rehearsing, capturing),
}
EACH = pytest.mark.parametrize(("make", "state"), CONTEXTS.values(), ids=CONTEXTS)


@EACH
def test_one_object_is_entered_again_and_within_itself(make, state):
    outside, context = state(), make()
    for _ in range(2):
        with context:
            inside = state()
            with context:
                assert state() == inside != outside
            assert state() == inside
        assert state() == outside


@EACH
def test_one_object_in_several_threads(make, state):
    context, outside, seen, both = make(), state(), [], threading.Barrier(2, timeout=5)

    def enter():
        with context:
            both.wait()
            seen.append(state())
            both.wait()
        seen.append(state())

    threads = [threading.Thread(target=enter) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen.count(outside) == 2


@EACH
def test_it_decorates_functions_generators_and_coroutines(make, state):
    outside = state()

    @make()
    def plain(depth):
        """Says what it sees."""
        return [state(), *(plain(depth - 1) if depth else ())]

    @make()
    def counting(last):
        for _ in range(last):
            sent = yield state()
            assert sent is None or sent == "sent"
        return "end"

    @make()
    async def waiting():
        await asyncio.sleep(0)
        return state()

    def outer():
        return (yield from counting(2))

    inside = plain(1)[0]
    assert inside != outside
    assert plain(2) == [inside] * 3
    assert (plain.__name__, plain.__doc__) == ("plain", "Says what it sees.")
    steps = counting(3)
    assert (next(steps), state()) == (inside, outside)
    assert (steps.send("sent"), state()) == (inside, outside)
    with make():
        assert next(steps) == inside
    assert state() == outside
    assert [*outer()] == [inside] * 2
    assert asyncio.run(waiting()) == inside
    assert state() == outside


@EACH
def test_contexts_of_generators_are_left_in_any_order(make, state):
    outside = state()

    def holding():
        with make():
            yield state()
            yield state()

    first, second = holding(), holding()
    inside = next(first)
    next(second)
    assert [next(first), next(second)] == [inside, inside]
    assert [*first] == []
    assert next(holding()) == inside  # thrown away at once: left, too
    assert state() == inside  # the second one's
    second.close()
    assert state() == outside


def test_a_decorated_generator_sees_what_is_thrown_into_it():
    ends = []

    @no_grad()
    def catching():
        try:
            yield graph.is_recording()
        except KeyError:
            yield graph.is_recording()
        finally:
            ends.append(graph.is_recording())

    steps = catching()
    assert (next(steps), steps.throw(KeyError), graph.is_recording()) == (False, False, True)
    steps.close()
    steps = catching()
    next(steps)
    with pytest.raises(ZeroDivisionError):
        steps.throw(ZeroDivisionError)
    assert ends == [False, False]
    never = catching()
    never.close()
    assert graph.is_recording()


def test_a_decorated_generator_records_nothing():
    x = tensor([1.0], requires_grad=True)

    @no_grad()
    def doubled():
        yield x * 2

    assert not next(doubled()).requires_grad
    assert (x * 2).requires_grad


def test_an_error_leaves_the_context():
    context = no_grad()
    with pytest.raises(ZeroDivisionError), context:
        1 / 0  # noqa: B018
    assert graph.is_recording()


def test_averages_are_entered_again():
    p = tensor([1.0], requires_grad=True)
    averages = optim.EMA([p]).averages()
    p.data[:] = 5
    for _ in range(2):
        with averages:
            assert p.item() == 1
        assert p.item() == 5


def test_an_observer_is_entered_within_itself():
    observer = Observer()
    with observer:
        with observer:
            assert observers.get() == (observer, observer)
        assert observers.get() == (observer,)
    assert observers.get() == ()


def test_a_setting_is_of_its_thread():
    setting, seen = Setting("colour", "red"), []
    with setting.using("blue"):
        thread = threading.Thread(target=lambda: seen.append(setting.get()))
        thread.start()
        thread.join()
    assert seen == ["red"]


def test_errors_name_rule_and_values():
    with pytest.raises(ArgumentError, match="context: an asynchronous generator cannot run within it"):

        @no_grad()
        async def steps():
            yield 1

    context = no_grad()
    entering = threading.Thread(target=context.__enter__)
    entering.start()
    entering.join()
    with pytest.raises(ArgumentError, match="context: it must be left in the thread or task in which it was entered"):
        context.__exit__(None, None, None)
    with pytest.raises(ArgumentError, match="the precision must be one of"), backend.matmul_precision("fp8"):
        pass
    assert gpunn.graph.is_recording()


def test_a_decorator_without_its_parentheses_is_refused():
    with pytest.raises(TypeError, match="no_grad"):

        @no_grad
        def never():
            pass
