"""Optimizers whose states the ranks share out, against the same optimizers without."""

import copy
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from ranks import interrupted, needs_mpirun, run_ranks

from gpunn import distributed, nn, optim, tensor
from gpunn.cli.command import main
from gpunn.errors import ArgumentError, CaptureError
from gpunn.train import Trainer

TESTS = Path(__file__).parents[1]
ranks = pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])


# ---- one rank -------------------------------------------------------------------------------------------------------


def leaf(*values, dtype=np.float32):
    return tensor(np.array(values, dtype), requires_grad=True)


@pytest.fixture
def adam():
    p = leaf(1, 2)
    p.grad = np.float32([3, 4])
    return distributed.Sharded(optim.Adam([p], lr=0.5), distributed.init())


def test_it_is_an_optimizer_with_the_groups_of_the_one_that_it_was_given():
    p, q = leaf(1), leaf(2)
    sgd = optim.SGD([p], lr=0.5, momentum=0.9)
    before = optim.lr_scheduler.ExponentialLR(sgd, 0.5)
    sharded = distributed.Sharded(sgd, distributed.init())
    after = optim.lr_scheduler.StepLR(sharded, 1, 0.1)
    for schedule in (before, after):
        schedule.step()
    assert sharded.lr == sgd.lr == pytest.approx(0.025)
    sharded.add_param_group({"params": [q], "lr": 0.25})
    assert [group.names for group in sharded.groups] == [["0"], ["1"]]
    q.grad = np.float32([2])
    sharded.step()
    assert (p.item(), q.item()) == (1, 1.5)
    assert sharded.state_dict().keys() == sgd.state_dict().keys()


def test_the_states_that_there_are_stay(adam):
    p, q = leaf(1, 2), leaf(1, 2)
    one, other = optim.Adam([p]), optim.Adam([q])
    for number in range(4):
        if number == 2:
            one = distributed.Sharded(one, distributed.init())
        p.grad = q.grad = np.float32([number, 1])
        one.step()
        other.step()
    assert p.tolist() == q.tolist()


def test_the_optimizer_that_was_given_takes_no_step_by_itself(adam):
    with pytest.raises(ArgumentError, match="Adam: the optimizer was given to Sharded, which takes the steps"):
        adam.optimizer.step()


def test_gradients_are_reduced_once_in_a_step(adam):
    p = adam.groups[0].parameters[0]
    adam.reduce_gradients(divisor=2)
    assert p.grad is None
    assert adam.learned() == [p]
    assert adam.groups[0].piece.tolist() == [1.5, 2]
    with pytest.raises(ArgumentError, match="reduce_gradients: it comes once in a step: call step, or zero_grad"):
        adam.reduce_gradients()
    with pytest.raises(ArgumentError, match="Sharded: it cannot be copied between reduce_gradients and step"):
        copy.deepcopy(adam)
    adam.zero_grad()
    adam.step()
    assert p.tolist() == [1, 2]
    with pytest.raises(ArgumentError, match="reduce_gradients: divisor must be above 0, got divisor=0"):
        adam.reduce_gradients(0)


def test_a_copy_trains_as_the_original():
    model = nn.Sequential(nn.Linear(3, 2))
    one = distributed.Sharded(optim.Adam(model.parameters()), distributed.init())
    pairs = [(model, one)]
    for step in range(3):
        if step == 1:
            pairs.append(copy.deepcopy(pairs[0]))
        for each, opt in pairs:
            opt.zero_grad()
            each(tensor(np.full((1, 3), step + 1, np.float32))).sum().backward()
            opt.reduce_gradients()
            opt.step()
    assert all(a.data.tolist() == b.data.tolist() for a, b in zip(*(p[0].parameters() for p in pairs), strict=True))
    with pytest.raises(ArgumentError, match="Sharded: it cannot be pickled, as the ranks cannot: save its state_dict"):
        pickle.dumps(one)


def test_what_cannot_be_shared_out_is_refused(adam):
    world = distributed.init()
    with pytest.raises(ArgumentError, match="Sharded: the optimizer must be one of gpunn.optim, not yet sharded"):
        distributed.Sharded(adam, world)
    with pytest.raises(ArgumentError, match="Sharded: world must be a World, got type='int'"):
        distributed.Sharded(optim.SGD([leaf(1)]), 2)
    with pytest.raises(ArgumentError, match="over all parameters, cannot be shared out, got type='LBFGS'"):
        distributed.Sharded(optim.LBFGS([leaf(1)]), world)
    with pytest.raises(CaptureError, match="Sharded: it cannot be captured in a CUDA graph: the ranks exchange"):
        adam.captured_settings()
    with pytest.raises(ArgumentError, match="Trainer: an optimizer whose states are shared out .* distributed=True"):
        Trainer(nn.Linear(1, 1), optim.SGD([leaf(1)]), [], len, shard_optimizer=True)


# ---- several ranks --------------------------------------------------------------------------------------------------

BEGIN = """
    import sys, gpunn, numpy as np
    sys.path.insert(0, sys.argv[1])
    from gpunn import distributed, optim, tensor
    from optimizers import FIFTY

    world = distributed.init()
    SHAPES = [(7, 5), (3,), (0, 4), (), (11,), (2, 3, 2), (6, 9), (0,)]
    LATE, ALONE, NEVER = 3, 4, 5  # what has a gradient in every second step, on the last rank only, never

    def parameters(dtype=np.float32, shapes=SHAPES):
        rng = np.random.default_rng(1)
        return [tensor(rng.normal(size=s).astype(dtype), requires_grad=True) for s in shapes]

    def gradients(ps, step, rank, scale=1.0):
        rng = np.random.default_rng([step, rank])
        for number, p in enumerate(ps):
            g = rng.normal(size=p.shape) + 0.3 * np.asarray(p.data, np.float64)
            absent = number == LATE and step % 2 or number == ALONE and rank + 1 < world.size or number == NEVER
            p.grad = None if absent else np.asarray(scale * g, p.dtype)

    def reduced(ps, step, scale=1.0):
        "The mean gradient, added up in the order of the ranks."
        total = [None] * len(ps)
        for rank in range(world.size):
            gradients(ps, step, rank, scale)
            for number, p in enumerate(ps):
                if p.grad is not None:
                    before = 0 if total[number] is None else total[number]
                    total[number] = before + p.grad.astype(np.float32)
        for p, g in zip(ps, total):
            p.grad = None if g is None else np.asarray(g / np.float32(world.size), np.float32)

    def sharded_steps(opt, ps, steps, start=0):
        for step in range(start, start + steps):
            opt.zero_grad()
            gradients(ps, step, world.rank)
            opt.reduce_gradients()
            opt.step()

    def equal(a, b):
        a, b = np.asarray(a), np.asarray(b)
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()

    def check_equal(one, other, ps, qs, what):
        assert all(equal(p.data, q.data) for p, q in zip(ps, qs)), what
        a, b = one.state_dict(), other.state_dict()
        assert a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a), what
"""

RULES = (
    BEGIN
    + """
    cases = dict(FIFTY)
    cases |= {
        "adam with l1": (optim.Adam, {"l1": 0.1, "maximize": True, "amsgrad": True}),
        "adamw with l2": (optim.AdamW, {"l2": 0.1, "weight_decay": 0.1}),
        "dampened": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
        "adafactor": (optim.Adafactor, {"lr": 0.1}),
        "rprop": (optim.Rprop, {}),
    }
    if sys.argv[2] == "some":  # one of each class, its gradients reduced in blocks
        distributed.sharded._BLOCK = 200
        cases = {make: (make, settings) for make, settings in cases.values()}
    for name, (make, settings) in cases.items():
        ps, qs = parameters(), parameters()
        grouped = lambda rs: [{"params": rs[:6]}, {"params": rs[6:], "lr": 0.02}]
        one, other = make(grouped(ps), **settings), make(grouped(qs), **settings)
        one = distributed.Sharded(one, world)
        for step in range(20):
            if step == 10:
                for opt in (one, other):
                    opt.groups[0]["lr"] = 0.01
            sharded_steps(one, ps, 1, step)
            reduced(qs, step)
            other.step()
        check_equal(one, other, ps, qs, name)
        if name == "adam":
            whole, own = (sum(s.nbytes for g in o.groups for s in g.states.values()) for o in (other, one))
            assert abs(own / whole - 1 / world.size) < 0.05
        if step % 2:  # gradients that are reduced already
            reduced(ps, 20), reduced(qs, 20)
            one.step(), other.step()
            check_equal(one, other, ps, qs, name)
    matrices = [(4, 3), (2, 9), (5, 5), (1, 1), (3, 2), (2, 2)]
    ps, qs = parameters(shapes=matrices), parameters(shapes=matrices)
    one, other = distributed.Sharded(optim.Muon(ps), world), optim.Muon(qs)
    for step in range(5):
        sharded_steps(one, ps, 1, step)
        reduced(qs, step)
        other.step()
    check_equal(one, other, ps, qs, "Muon")
    print("equal")
"""
)


@pytest.mark.distributed
@needs_mpirun
@pytest.mark.parametrize(
    ("count", "cases"), [(2, "some"), *(pytest.param(n, "all", marks=pytest.mark.slow) for n in (2, 3, 4))]
)
def test_every_rule_gives_the_bits_that_it_gives_without_sharding(count, cases):
    assert run_ranks(count, RULES, TESTS, cases).out.split() == ["equal"] * count


MEMORY = (
    BEGIN
    + """
    ps = parameters(shapes=[(100, 40), (40,), (3, 40), (7,)])
    adam = distributed.Sharded(optim.Adam(ps, amsgrad=True), world)
    sharded_steps(adam, ps, 2)
    group, total = adam.groups[0], sum(p.data.nbytes for p in ps)
    assert sorted(group.states) == ["largest", "mean", "square"]
    print(sum(state.nbytes for state in group.states.values()) / (3 * total), group.piece.nbytes / total)
"""
)


@pytest.mark.distributed
@needs_mpirun
@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_a_rank_has_its_part_of_the_states_and_of_their_memory(count):
    shares = np.float64(run_ranks(count, MEMORY, TESTS).out.split())
    assert np.all(abs(shares - 1 / count) < 2e-3)


SCALED = (
    BEGIN
    + """
    from gpunn.optim import GradScaler, clip_grad_norm, clip_grad_value

    def close(ps, qs, tolerance):
        for p, q in zip(ps, qs):
            p, q = np.float64(p.data), np.float64(q.data)
            assert (abs(p - q) <= tolerance * abs(q).max(initial=0)).all(), abs(p - q).max()

    for dtype, tolerance, norm_type in [(np.float32, 1e-6, 2.0), (np.float32, 0, np.inf), (np.float16, 2e-3, 2.0)]:
        ps, qs = parameters(dtype), parameters(dtype)
        one = distributed.Sharded(optim.AdamW(ps, lr=0.01), world)
        other = optim.AdamW(qs, lr=0.01)
        scalers = GradScaler(init_scale=1024, growth_interval=4), GradScaler(init_scale=1024, growth_interval=4)
        steps = []
        for step in range(20):
            one.zero_grad(), other.zero_grad()
            gradients(ps, step, world.rank, scalers[0].get_scale())
            if step in (5, 6) and world.rank == world.size - 1:  # on one rank alone
                ps[0].grad[0, 0] = (np.nan, -np.inf)[step - 5]
            reduced(qs, step, scalers[1].get_scale())
            if step in (5, 6):
                qs[0].grad[0, 0] = np.nan
            one.reduce_gradients()
            assert scalers[0].unscale_(one) == scalers[1].unscale_(other) == (step not in (5, 6))
            if step not in (5, 6):
                norms = one.clip_grad_norm(0.5, norm_type), clip_grad_norm(qs, 0.5, norm_type)
                np.testing.assert_allclose(*norms, rtol=5e-3 if dtype == np.float16 else 1e-6)
                world.agree("the norm", float(norms[0]))
                one.clip_grad_value(0.05), clip_grad_value(qs, 0.05)
            moved = scalers[0].step(one), scalers[1].step(other)
            assert moved[0] == moved[1]
            scalers[0].update(), scalers[1].update()
            assert scalers[0].state_dict() == scalers[1].state_dict()
            world.agree("the parameters", [p.data.tobytes() for p in ps])
            if dtype == np.float32:
                close(ps, qs, tolerance)
        close(ps, qs, tolerance)
    one.zero_grad()
    gradients(ps, 0, world.rank)
    if world.rank == 0:
        ps[0].grad[0, 0] = np.inf
    one.reduce_gradients()
    try:
        one.clip_grad_norm(1.0, error_if_nonfinite=True)
    except gpunn.errors.TrainingError as error:
        print("clip_grad_norm: the norm of the gradients is not finite" in str(error))
"""
)


@pytest.mark.distributed
@needs_mpirun
@ranks
def test_scaled_and_clipped_gradients_are_those_of_all_ranks(count):
    assert run_ranks(count, SCALED, TESTS).out.split() == ["True"] * count


RESUMED = (
    BEGIN
    + """
    from pathlib import Path
    from gpunn import checkpoint

    folder, what = Path(sys.argv[2]), sys.argv[3]
    kinds = {
        "adam": (optim.Adam, {"amsgrad": True, "l2": 0.01}), "asgd": (optim.ASGD, {}), "lamb": (optim.LAMB, {}),
        "dampened": (optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
    }
    for name, (make, settings) in kinds.items():
        ps = parameters()
        opt = make(ps, lr=0.05, **settings)
        if what != "plain":
            opt = distributed.Sharded(opt, world)
        if what != "begun":
            read = checkpoint.load_checkpoint(folder / f"{name} begun")
            opt.load_state_dict(read["optimizer"])
            for number, p in enumerate(ps):
                p.data[...] = read["model"][str(number)]
        for step in range(6) if what == "begun" else range(6, 12):
            gradients(ps, step, 7)  # the same on all ranks, as if reduced
            opt.step()
        state = {"model": {str(n): p.data for n, p in enumerate(ps)}, "optimizer": opt.state_dict()}
        if world.rank == 0:
            checkpoint.save_checkpoint(state, folder / f"{name} {what}")
"""
)


@pytest.mark.distributed
@needs_mpirun
@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_a_state_resumes_on_any_number_of_ranks_and_without_sharding(count, tmp_path):
    run_ranks(count, RESUMED, TESTS, tmp_path, "begun")
    run_ranks(1, RESUMED, TESTS, tmp_path, "plain")
    for other in (1, 2, 3):
        run_ranks(other, RESUMED, TESTS, tmp_path, f"on {other}")
        for name in ("adam", "asgd", "lamb", "dampened"):
            plain, sharded = (tmp_path / f"{name} {what}" for what in ("plain", f"on {other}"))
            assert plain.read_bytes() == sharded.read_bytes()


TRAINED = (
    BEGIN
    + """
    from gpunn import backend, functional as F, nn
    from gpunn.data import ArrayDataset, DataLoader
    from gpunn.train import Trainer

    x = np.random.default_rng(0).normal(size=(38, 6)).astype(np.float32)
    data, labels = ArrayDataset(x, np.arange(38) % 3), np.arange(38) % 3

    def train(epochs=3, state=None, make=optim.Adam, **settings):
        backend.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3))
        loader = DataLoader(data, batch_size=12, shuffle=True, seed=3)
        opt = make(model.parameters(), lr=0.01)
        schedule = optim.schedule.LinearLR(opt, total_iters=5)

        def loss(batch):
            return F.cross_entropy(model(tensor(batch[0])), batch[1]), len(batch[1])

        trainer = Trainer(model, opt, loader, loss, schedule=schedule, distributed=world, **settings)
        if state is not None:
            trainer.load_state_dict(state)
        trainer.run(epochs)
        return model.state_dict(), trainer.state_dict(), trainer

    def same(one, other, tolerance=0):
        for name, own in one[0].items():
            np.testing.assert_allclose(own, other[0][name], rtol=tolerance, atol=tolerance)
        for name, own in one[1]["optimizer"].items():
            np.testing.assert_allclose(own, other[1]["optimizer"][name], rtol=10 * tolerance, atol=tolerance)

    whole = train()
    parts = train(shard_optimizer=True)
    assert type(parts[2].optimizer) is distributed.Sharded
    same(whole, parts)
    half = train(epochs=1, shard_optimizer=True)
    same(whole, train(state=half[1], shard_optimizer=True))
    same(whole, train(state=half[1]))
    same(train(accumulate=2, make=optim.LAMB), train(accumulate=2, make=optim.LAMB, shard_optimizer=True))
    limits = {"precision": "fp16", "clip_norm": 0.3, "clip_value": 0.1}
    same(train(**limits), train(**limits, shard_optimizer=True), 1e-6)
    print("equal")
"""
)


@pytest.mark.distributed
@needs_mpirun
@ranks
def test_a_trainer_that_shards_trains_as_one_that_does_not(count):
    assert run_ranks(count, TRAINED, TESTS).out.split() == ["equal"] * count


def test_the_command_needs_ranks(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["gpunn", "train", "digits", "--shard-optimizer", "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--shard-optimizer needs --distributed" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


WEIGHTS = "model.safetensors"


@pytest.mark.distributed
@needs_mpirun
@pytest.mark.slow
def test_the_command_trains_and_resumes(tmp_path):
    options = "train digits --distributed --epochs 2 --batch-size 24"
    run_ranks(2, f"-m gpunn {options} --out whole", folder=tmp_path)
    parts = f"{options} --shard-optimizer --out parts".split()
    run_ranks(2, interrupted(60), *parts, folder=tmp_path, code=130)
    shutil.copytree(tmp_path / "parts", tmp_path / "alone")
    shutil.copytree(tmp_path / "parts", tmp_path / "others")
    run_ranks(2, "-m gpunn resume parts --distributed --shard-optimizer", folder=tmp_path)
    run_ranks(3, "-m gpunn resume others --distributed --shard-optimizer", folder=tmp_path)
    run_ranks(1, "-m gpunn resume alone", folder=tmp_path)
    assert (tmp_path / "whole" / WEIGHTS).read_bytes() == (tmp_path / "parts" / WEIGHTS).read_bytes()
    for name in ("others", "alone"):  # with random changes of other images, as each rank draws its own
        assert len((tmp_path / name / "metrics.jsonl").read_text().splitlines()) == 2


DEVICES = (
    BEGIN.replace("init()", 'init("gpu")')
    + """
    import cupy as cp

    for make, dtype in ((optim.Adam, np.float32), (optim.LAMB, np.float16)):
        qs = parameters(dtype)
        ps = [tensor(q.data, device=world.device, requires_grad=True) for q in qs]
        one, other = distributed.Sharded(make(ps, l1=0.1), world), make(qs, l1=0.1)
        for step in range(3):
            gradients(qs, step, world.rank)
            with cp.cuda.Device(int(world.device[4:])):
                for p, q in zip(ps, qs):
                    p.grad = None if q.grad is None else cp.asarray(q.grad)
            one.reduce_gradients()
            one.clip_grad_norm(1.0)
            assert one.gradients_are_finite()
            one.step()
            reduced(qs, step)
            optim.clip_grad_norm(qs, 1.0)
            other.step()
            for p, q in zip(ps, qs):
                tolerance = 1e-5 if dtype == np.float32 else 4e-3
                np.testing.assert_allclose(np.float64(p.data.get()), np.float64(q.data), rtol=tolerance, atol=tolerance)
        state = one.state_dict()
        one.load_state_dict(state)
        again = one.state_dict()
        assert all(np.array_equal(cp.asnumpy(state[name]), cp.asnumpy(again[name])) for name in state)
    print(world.device)
"""
)


@pytest.mark.distributed
@needs_mpirun
@pytest.mark.slow
def test_devices_give_what_the_cpu_gives():
    before = (sys.executable, "-m", "gpunn.cuda.device", "--devices", "2", "--", sys.executable)
    ended = run_ranks(2, DEVICES, TESTS, before=before, limit=200)
    assert sorted(ended.out.split()) == ["gpu:0", "gpu:1"]
