"""Align Your Flow on FLUX, end to end on a tiny random network of the same classes: no weights, no network access."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

pytest.importorskip("diffusers", reason="the extra [flux] is not installed")
pytest.importorskip("peft", reason="the extra [flux] is not installed")

from vos_tutorial import recipes
from vos_tutorial.__main__ import main as command_line
from vos_tutorial.errors import TutorialError
from vos_tutorial.flux import estimate as estimates
from vos_tutorial.flux import packages
from vos_tutorial.flux.encoders import load_encoders, tiny_encoders
from vos_tutorial.flux.latents import pack, places, shift, shifted, unpack
from vos_tutorial.flux.network import Condition, FluxFlowMap, load_transformer, tiny_transformer
from vos_tutorial.flux.pictures import Prepared, prepare
from vos_tutorial.flux.recipe import RECIPES
from vos_tutorial.flux.sampling import sample, schedule
from vos_tutorial.flux.task import FluxOptions, FluxTask, path_error
from vos_tutorial.models import flow_map
from vos_tutorial.models.weights import load_weights, read_weights, save_weights
from vos_tutorial.training import TrainingRun, train

ROOT = Path(__file__).resolve().parent.parent
GRID = (4, 4)
SMOKE = RECIPES["smoke"]


def tiny(seed: int = 0, trained: bool = False, dtype: torch.dtype = torch.float32) -> FluxFlowMap:
    """The teacher is always the same; ``trained`` gives what learns numbers that are not zero."""
    torch.manual_seed(0)
    transformer = tiny_transformer().to(dtype)
    torch.manual_seed(seed)
    network = FluxFlowMap(transformer, rank=4)
    if trained:
        for parameter in network.learned().values():
            torch.nn.init.normal_(parameter, std=0.05)
    return network.eval()


def some(batch: int = 2, seed: int = 1) -> tuple[Tensor, Tensor, Tensor, Condition]:
    """Points, times t and s, and prompts."""
    draw = torch.Generator().manual_seed(seed)
    prompt, pooled = torch.randn(batch, 8, 32, generator=draw), torch.randn(batch, 16, generator=draw)
    t = torch.linspace(0.9, 0.4, batch)
    return torch.randn(batch, 16, 16, generator=draw), t, t / 3, Condition(prompt, pooled, GRID)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of different shapes with captions."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (70 + 9 * i, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"thing number {i}\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def cache(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, prepared."""
    out = tmp_path_factory.mktemp("cache") / "prepared"
    assert prepare(pictures, out, tiny_encoders(), 64) == 4
    return out


def run(cache: Path, out: Path | None = None, seed: int = 0, **changes: object) -> TrainingRun:
    recipe = recipes.override(SMOKE, [f"{key}={value}" for key, value in changes.items()])
    task = FluxTask(Prepared(cache), GRID)
    return train(tiny(), task, recipe, seed=seed, out=out, device="cpu", progress=False, checkpoint_every=2)


# ------------------------------------------------------------------------------------------------------- latents


def test_packing_and_places_are_those_of_fluxs_pipeline() -> None:
    from diffusers import FluxPipeline

    latents = torch.randn(2, 4, 6, 10)
    tokens = pack(latents)
    assert tokens.shape == (2, 15, 16)
    assert torch.equal(tokens, FluxPipeline._pack_latents(latents, 2, 4, 6, 10))
    assert torch.equal(unpack(tokens, (3, 5)), latents)
    theirs = FluxPipeline._prepare_latent_image_ids(2, 3, 5, "cpu", torch.float32)
    ours = places((3, 5), 7, torch.device("cpu"))
    assert torch.equal(ours[7:], theirs)
    assert not ours[:7].any()
    with pytest.raises(TutorialError, match="5 x 6 cannot be packed"):
        pack(torch.zeros(1, 4, 5, 6))


def test_the_shift_is_that_of_fluxs_pipeline() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    times = torch.tensor([0.1, 0.5, 0.9])
    for tokens in (256, 1024, 4096):
        mu = calculate_shift(tokens)
        assert math.isclose(shift(tokens), math.exp(mu))
        expected = scheduler.time_shift(mu, 1.0, times)
        torch.testing.assert_close(shifted(times, shift(tokens)), expected)
    assert shifted(torch.tensor([0.0, 1.0]), 3.0).tolist() == [0.0, 1.0]


# ------------------------------------------------------------------------------------------------------- network


def test_without_adapters_it_is_fluxs_own_network() -> None:
    network = tiny(trained=True)
    x, t, _, condition = some()
    plain = tiny_transformer()
    plain.load_state_dict({k.replace(".base_layer", ""): v for k, v in _frozen(network).items()})
    ids = places(GRID, 8, x.device)
    with torch.no_grad():
        expected = plain(
            hidden_states=x,
            encoder_hidden_states=condition.prompt,
            pooled_projections=condition.pooled,
            timestep=t,
            guidance=torch.full_like(t, 3.5),
            txt_ids=ids[:8],
            img_ids=ids[8:],
        ).sample
        student = network(x, t, None, condition)
    torch.testing.assert_close(network.velocity(x, t, condition), expected)
    assert (student - expected).abs().max() > 1e-3  # the adapters count, where they are on


def _frozen(network: FluxFlowMap) -> dict[str, Tensor]:
    inner = dict(network.transformer.named_parameters())
    return {name: parameter.detach() for name, parameter in inner.items() if ".lora_" not in name}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_at_step_0_the_student_is_the_teacher_exactly(dtype: torch.dtype) -> None:
    network = tiny(dtype=dtype)
    x, t, s, condition = some()
    for points in (x, x.to(dtype)):
        with torch.no_grad():
            assert torch.equal(network(points, t, s, condition), network.velocity(points, t, condition))
    assert network.velocity(x, t, condition).dtype == torch.float32


def test_the_student_reads_s_once_it_is_trained() -> None:
    x, t, s, condition = some()
    network = tiny(trained=True)
    with torch.no_grad():
        assert (network(x, t, s, condition) - network(x, t, t, condition)).abs().max() > 1e-4
    flow_map.require_use_of_s(lambda x, t, s: tiny()(x, t, s, condition), x, t)  # at step 0, too


def test_a_bfloat16_network_computes_in_float32_when_it_is_given_float32() -> None:
    network = tiny(trained=True, dtype=torch.bfloat16)
    x, t, s, condition = some()
    with torch.no_grad():
        wide, low = network(x, t, s, condition), network(x.bfloat16(), t, s, condition)
        network.transformer.float()  # the same numbers, stored in float32
        expected = network(x, t, s, condition)
    assert (wide - expected).abs().max() < 1e-5
    assert (low - expected).abs().max() > 1e-3  # what was saved


def test_the_adapters_sit_on_attention_and_mlp_of_all_blocks_and_nowhere_else() -> None:
    network = tiny()
    layers = {name.split(".lora_")[0] for name in network.learned() if ".lora_" in name}
    assert len(layers) == 12 + 2 * 5
    assert not [name for name in layers if "norm" in name or name == "transformer.proj_out"]
    assert sum(p.numel() for p in network.learned().values()) == estimates.learned_size(tiny_transformer(), 4)
    assert {name for name, p in network.named_parameters() if p.requires_grad} == {
        name.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default.")
        for name in network.learned()
    }


def test_adapters_are_float32_in_a_bfloat16_network() -> None:
    network = FluxFlowMap(tiny_transformer().to(torch.bfloat16), rank=2)
    assert {p.dtype for p in network.learned().values()} == {torch.float32}
    assert {p.dtype for p in _frozen(network).values()} == {torch.bfloat16}


def test_checkpointing_changes_no_gradient() -> None:
    x, t, s, condition = some()
    gradients = []
    for checkpointing in (True, False):
        network = tiny(trained=True)
        network.checkpointing = checkpointing
        network(x, t, s, condition).square().sum().backward()
        gradients.append({name: p.grad for name, p in network.learned().items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


def test_the_difference_comes_near_the_derivative_where_time_is_embedded_slowly() -> None:
    """FLUX embeds 1000 t: there a difference over 2h = 0.01 smooths what the derivative sees."""
    x, t, s, condition = some()
    apart = {}
    for scale in (1.0, 1e-3):
        network = tiny(trained=True)
        network.transformer.time_text_embed.time_proj.scale = scale
        velocity = network.velocity(x, t, condition)

        def student(x: Tensor, t: Tensor, s: Tensor, network: FluxFlowMap = network) -> Tensor:
            return network(x, t, s, condition)

        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            exact = flow_map.emd_direction(student, x, t, s, velocity, derivative="jvp")
        near = flow_map.emd_direction(student, x, t, s, velocity, derivative="difference")
        apart[scale] = float((near - exact).norm() / exact.norm())
    assert apart[1e-3] < 2e-3
    assert apart[1.0] > 0.1


# ------------------------------------------------------------------------------------------------------- pictures


def test_latents_and_prompts_are_made_once(pictures: Path, tmp_path: Path) -> None:
    own, out = tmp_path / "own", tmp_path / "out"
    own.mkdir()
    for path in pictures.iterdir():
        (own / path.name).write_bytes(path.read_bytes())
    encoders = tiny_encoders()
    assert prepare(own, out, encoders, 64) == 4
    assert prepare(own, out, encoders, 64) == 0
    before = Prepared(out).batch([1])
    (own / "1.txt").write_text("another thing", encoding="utf-8")
    (out / "2.safetensors").write_bytes(b"half a file")
    assert prepare(own, out, encoders, 64) == 2
    after = Prepared(out).batch([1])
    assert torch.equal(before["latents"], after["latents"])
    assert not torch.equal(before["prompt"], after["prompt"])
    assert after["latents"].shape == (1, 16, 16)
    with pytest.raises(TutorialError, match="pictures for tiny at 64 pixels, not for tiny at 80"):
        prepare(own, out, encoders, 80)
    with pytest.raises(TutorialError, match="size is 70 pixels; use a multiple of 16"):
        prepare(own, tmp_path / "odd", encoders, 70)


def test_the_vaes_scale_and_shift_are_undone() -> None:
    encoders = tiny_encoders()
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        pixels = image / 127.5 - 1
        plain = encoders.vae.decode(encoders.vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
    decoded = encoders.decode(encoders.encode(image), encoders.grid(64))
    assert decoded.dtype == torch.uint8
    assert (decoded - (plain + 1) * 127.5).abs().max() <= 0.51


def test_pictures_without_captions_are_refused(tmp_path: Path) -> None:
    encoders = tiny_encoders()
    with pytest.raises(TutorialError, match=r"holds no \.jpg, \.jpeg or \.png picture"):
        prepare(tmp_path, tmp_path / "out", encoders, 64)
    Image.new("RGB", (64, 64)).save(tmp_path / "fox.png")
    with pytest.raises(TutorialError, match=r"caption .*fox.txt does not exist.*write one for fox.png"):
        prepare(tmp_path, tmp_path / "out", encoders, 64)
    (tmp_path / "fox.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(TutorialError, match=r"caption .*fox.txt is empty"):
        prepare(tmp_path, tmp_path / "out", encoders, 64)


def test_a_folder_that_was_not_prepared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match="flux prepare"):
        Prepared(tmp_path)
    (tmp_path / "about.json").write_text("[]", encoding="utf-8")
    with pytest.raises(TutorialError, match="does not describe prepared pictures"):
        Prepared(tmp_path)
    (tmp_path / "about.json").write_text(json.dumps({"model": "tiny", "size": 64}), encoding="utf-8")
    with pytest.raises(TutorialError, match="holds no prepared picture"):
        Prepared(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"x")
    with pytest.raises(TutorialError, match="is no prepared picture"):
        Prepared(tmp_path).batch([0])


# ------------------------------------------------------------------------------------------------------- training


def test_a_sample_depends_on_its_seed_alone_and_jumps_towards_the_data(cache: Path) -> None:
    task = FluxTask(Prepared(cache), GRID)
    stage, cpu = SMOKE.stages[0].at(0), torch.device("cpu")
    many, one = task.batch(stage, list(range(40)), cpu), task.batch(stage, [7], cpu)
    assert {name: tuple(value.shape[1:]) for name, value in one.items()} == {
        "latents": (16, 16), "prompt": (8, 32), "pooled": (16,), "noise": (16, 16), "t": (), "s": ()
    }  # fmt: skip
    assert all(torch.equal(many[name][7], one[name][0]) for name in one)
    assert ((many["s"] >= 0) & (many["s"] <= many["t"]) & (many["t"] <= 1)).all()
    other = dataclasses.replace(stage, options={**stage.options, "times": "two sorted"})
    assert not torch.equal(task.batch(other, [7], cpu)["t"], one["t"])


def test_the_direction_is_zero_at_step_0_even_in_bfloat16(cache: Path) -> None:
    """Noise that rounding leaves would be normalised to a step of full length."""
    task, stage = FluxTask(Prepared(cache), GRID), SMOKE.stages[0].at(0)
    network = tiny(dtype=torch.bfloat16)
    batch = task.batch(stage, [1, 2], torch.device("cpu"))
    loss, logs = task.loss(network, batch, stage)
    assert float(loss.detach()) == float(logs["direction"]) == 0.0
    assert FluxOptions.of(SMOKE.stages[0].at(3)).r == 0.99


def test_training_moves_the_student_and_leaves_the_teacher(cache: Path) -> None:
    network = tiny()
    frozen = {name: value.clone() for name, value in _frozen(network).items()}
    learned = {name: value.clone() for name, value in network.state_dict().items()}
    x, t, s, condition = some()
    before = network.velocity(x, t, condition)
    train(network, FluxTask(Prepared(cache), GRID), SMOKE, device="cpu", progress=False)
    assert torch.equal(network.velocity(x, t, condition), before)
    assert all(torch.equal(value, frozen[name]) for name, value in _frozen(network).items())
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, learned[name])}
    assert moved == set(learned)
    with torch.no_grad():
        assert (network(x, t, s, condition) - before).abs().max() > 1e-4


def slow_times(network: FluxFlowMap) -> FluxFlowMap:
    """What random weights make of the sines of 1000 t is too rough to be learned in a test."""
    network.transformer.time_text_embed.time_proj.scale = 1e-3
    return network


def test_on_one_batch_the_direction_falls(cache: Path) -> None:
    """The normalised loss, near 1 as long as the direction is longer than 0.1, tells little."""
    task, network = FluxTask(Prepared(cache), GRID), slow_times(tiny())
    stage = dataclasses.replace(SMOKE.stages[0], options={**SMOKE.stages[0].options, "done": 1.0})
    batch = task.batch(stage, [0, 1, 2, 3], torch.device("cpu"))
    optimizer = torch.optim.Adam(network.learned().values(), lr=3e-3)
    losses, directions = [], []
    for _ in range(30):
        loss, logs = task.loss(network, batch, stage)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        directions.append(float(logs["direction"]))
    assert directions[-1] < 0.6 * directions[0]
    assert losses[-1] > 0.7 * losses[0]


def test_with_times_drawn_anew_the_jump_comes_to_the_teachers_path(cache: Path) -> None:
    task, cpu = FluxTask(Prepared(cache), GRID), torch.device("cpu")
    stage = dataclasses.replace(SMOKE.stages[0], options={**SMOKE.stages[0].options, "done": 1.0})
    network, pairs = slow_times(tiny()), task.batch(stage, [0, 1, 2, 3], cpu)
    whole = pairs | {"t": torch.ones(4), "s": torch.zeros(4)}
    before = path_error(network, whole, GRID, steps=8).mean()
    optimizer = torch.optim.Adam(network.learned().values(), lr=3e-3)
    for step in range(40):
        times = task.batch(stage, range(10 + 4 * step, 14 + 4 * step), cpu)
        loss, _ = task.loss(network, pairs | {name: times[name] for name in ("t", "s")}, stage)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert path_error(network, whole, GRID, steps=8).mean() < 0.7 * before


def test_weights_hold_what_was_learned_and_nothing_of_flux(tmp_path: Path) -> None:
    network, path = tiny(trained=True), tmp_path / "weights.safetensors"
    save_weights(path, network, {"method": "flux", "size": "small"})
    tensors, _ = read_weights(path)
    assert set(tensors) == set(network.learned())
    assert "transformer.transformer_blocks.0.attn.to_q.lora_A.weight" in tensors
    again = tiny(seed=5)
    load_weights(path, again)
    x, t, s, condition = some()
    with torch.no_grad():
        assert torch.equal(again(x, t, s, condition), network(x, t, s, condition))
    with pytest.raises(TutorialError, match="of another size"):
        load_weights(path, FluxFlowMap(tiny_transformer(), rank=8))


def test_a_stopped_run_ends_as_one_that_was_not_stopped(cache: Path, tmp_path: Path) -> None:
    class Stopped(FluxTask):
        def loss(self, *arguments: object) -> tuple[Tensor, dict[str, Tensor]]:
            if len(steps) == 3:
                raise KeyboardInterrupt
            steps.append(1)
            return super().loss(*arguments)  # type: ignore[arg-type]

    steps: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        train(
            tiny(),
            Stopped(Prepared(cache), GRID),
            SMOKE,
            out=tmp_path,
            device="cpu",
            progress=False,
            checkpoint_every=2,
        )
    resumed, whole = run(cache, tmp_path), run(cache)
    assert (resumed.new_steps, whole.new_steps) == (2, 4)
    assert np.array_equal(resumed.losses, whole.losses)
    for name, value in resumed.network.state_dict().items():
        assert torch.equal(value, whole.network.state_dict()[name]), name
    assert (tmp_path / "checkpoint.pt").stat().st_size < 400_000  # no weights of the transformer


def test_two_processes_of_torchrun_learn_what_one_learns(cache: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]
    command += ["-m", "vos_tutorial", "flux", "train", str(cache), "--profile", "smoke", "--out", str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    alone = run(cache)
    together = [json.loads(line)["direction"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert np.allclose(together, alone.column("direction"), rtol=1e-4)
    tensors, metadata = read_weights(tmp_path / "weights.safetensors")
    assert metadata["model"] == "tiny"
    for name, value in alone.network.state_dict().items():
        assert torch.allclose(tensors[name], value, atol=1e-5), name


def test_numbers_that_are_not_finite_are_caught_with_their_step(cache: Path) -> None:
    network = tiny()
    with torch.no_grad():
        network.s_embedder.leave.bias[0] = math.nan
    with pytest.raises(TutorialError, match="EMD direction is NaN or infinite at step 1"):
        train(network, FluxTask(Prepared(cache), GRID), SMOKE, device="cpu", progress=False)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("distil.size=96", "learns from pictures of 96 pixels, and .* holds such of 64"),
        ("distil.options.cap=1.5", "cap is 1.5"),
        ("distil.options.derivative=dual", "derivative"),
    ],
)
def test_recipes_that_cannot_be_trained_are_refused_before_the_first_step(
    cache: Path, change: str, complaint: str
) -> None:
    recipe = recipes.override(SMOKE, [change])
    with pytest.raises(TutorialError, match=complaint):
        train(tiny(), FluxTask(Prepared(cache), GRID), recipe, device="cpu", progress=False)


# ------------------------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("steps", [1, 4])
def test_diffusers_scheduler_takes_the_steps_of_our_sample(steps: int) -> None:
    network = tiny(trained=True)
    condition = some()[3]
    ours = flow_map.sample(
        lambda x, t, s: network(x, t, s, condition),
        torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(3)),
        schedule(steps, 16),
    )
    theirs = sample(network, condition, steps, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
    fresh = sample(network, condition, steps, gamma=0.5, generator=torch.Generator().manual_seed(3))
    assert (steps == 1) == torch.allclose(fresh, ours, atol=1e-3)  # the last jump has no noise after it


def test_the_times_of_sampling_are_even_ones_shifted() -> None:
    by = shift(1024)
    expected = [by * t / (1 + (by - 1) * t) for t in (1, 0.75, 0.5, 0.25, 0)]
    assert np.allclose(schedule(4, 1024), expected)
    with pytest.raises(TutorialError, match="number of steps is 0"):
        schedule(0, 16)


def test_the_teacher_is_sampled_without_adapters() -> None:
    condition = some()[3]
    draws = [
        sample(network, condition, 2, generator=torch.Generator().manual_seed(0), teacher=True)
        for network in (tiny(), tiny(trained=True))
    ]
    assert torch.equal(*draws)
    with pytest.raises(TutorialError, match="teacher has no flow map"):
        sample(tiny(), condition, 2, gamma=0.5, teacher=True)


# ------------------------------------------------------------------------------------------ estimate, what is missing


def test_the_estimate_counts_flux_as_it_is() -> None:
    recipe = RECIPES["gpu"]
    found = estimates.estimate(recipe, 8)
    assert found.parameters == 11_901_408_320
    assert found.weights == 2 * found.parameters
    assert found.memory > found.weights + 16 * found.learned
    # a forward pass is about two operations a weight and token, double blocks' weights being for one stream each
    one = found.step * found.speed / (4 * (estimates.WIDE * estimates.SLOWER + estimates.HALF))
    assert 0.5 < one / (2 * found.parameters * 1536) < 1.1
    halved = estimates.estimate(recipe, 4)
    assert math.isclose(halved.step, 2 * found.step)
    double = estimates.estimate(recipe, 8, 2 * estimates.SPEED)
    assert math.isclose(2 * double.hours, found.hours)
    with pytest.raises(TutorialError, match="batch of 32 in 4 parts cannot be shared evenly by 3 GPUs"):
        estimates.estimate(recipe, 3)


def test_the_report_of_the_page_is_the_same_each_time_and_says_what_is_missing(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(estimates, "_weights_are_here", lambda: False)
    estimates.report()
    first = capsys.readouterr().out
    estimates.report()
    assert capsys.readouterr().out == first
    assert "missing - GPU: torch sees no CUDA device" in first
    assert "missing - weights: black-forest-labs/FLUX.1-dev is not on this machine; FLUX.1-dev is gated" in first
    assert "non-commercial" in first
    monkeypatch.setattr(estimates, "missing", lambda found: [])
    estimates.report()
    assert "nothing is missing" in capsys.readouterr().out


def test_a_gpu_that_is_too_small_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Card:
        total_memory = 24e9

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Card)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    found = estimates.estimate(RECIPES["gpu"])
    assert "a card has 24; split the batch" in estimates.too_small(found, torch.device("cpu"))
    Card.total_memory = 80e9
    assert estimates.too_small(found, torch.device("cpu")) == ""


def test_missing_packages_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(TutorialError, match=r"peft is not installed in .*\[flux\]"):
        packages.package("peft")
    (sentence,) = estimates.missing()
    assert "peft is not installed" in sentence


def test_missing_weights_are_a_sentence_with_the_licence(tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match=r"weights of .* could not be loaded .*non-commercial.*--model DIR"):
        load_transformer(str(tmp_path))


def test_a_missing_tokenizer_and_a_full_gpu_are_sentences(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    error: Exception = ImportError("T5Tokenizer requires the SentencePiece library\nand more")
    monkeypatch.setattr("diffusers.FluxPipeline.from_pretrained", fails)
    with pytest.raises(TutorialError, match=r"needs another package \(T5Tokenizer .*\); run: .*flux"):
        load_encoders("somewhere")
    error = torch.cuda.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr("vos_tutorial.flux.command.train", fails)
    assert command_line(["flux", "train", str(cache), "--profile", "smoke"]) == 2
    assert "the GPU's memory is full; split the batch" in capsys.readouterr().err


def test_the_library_imports_without_diffusers_and_peft() -> None:
    code = (
        "import sys; sys.modules.update(diffusers=None, peft=None, transformers=None)\n"
        "import vos_tutorial.flux.command, vos_tutorial.flux.estimate"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------------------------- command


def test_the_rehearsal_goes_from_pictures_to_a_picture(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    smoke = ["--profile", "smoke"]
    assert command_line(["flux", "prepare", str(pictures), "--out", "cache", *smoke]) == 0
    assert "4 pictures encoded at 64 pixels" in capsys.readouterr().out
    assert command_line(["flux", "train", "cache", *smoke]) == 0
    said = capsys.readouterr().out
    weights = Path("runs/flux-smoke-0/weights.safetensors")
    assert str(weights) in said
    written = weights.stat().st_mtime_ns
    assert command_line(["flux", "train", "cache", *smoke]) == 0
    assert "finished already" in capsys.readouterr().out
    assert weights.stat().st_mtime_ns == written
    for out, options in (("a.png", ["--weights", str(weights), "--steps", "2"]), ("b.png", [])):
        assert command_line(["flux", "sample", "a fox", *options, "--out", out, *smoke]) == 0
        assert Image.open(out).size == (64, 64)
    assert Path("a.png").read_bytes() != Path("b.png").read_bytes()


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (["train", "CACHE", "--profile", "gpu"], "FLUX.1-dev needs a CUDA device"),
        (["train", "nowhere", "--profile", "smoke"], "prepare the pictures first"),
        (["train", "CACHE", "--profile", "smoke", "--model", "mine"], "was prepared for tiny, and this trains mine"),
        (["sample", "fox", "--profile", "smoke", "--weights", "nowhere"], "there is no weights file"),
        (["sample", "fox", "--profile", "smoke", "--steps", "0"], "number of steps is 0"),
        (["train", "CACHE", "--profile", "smoke", "--set", "network.rank=0"], "rank of the adapters is 0"),
        (["train", "CACHE", "--profile", "smoke", "--set", "network.depth=2"], "does not know the option 'depth'"),
        (["estimate", "--gpus", "5"], "cannot be shared evenly by 5 GPUs"),
    ],
)
def test_the_command_says_what_is_wrong(
    command: list[str],
    complaint: str,
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command_line(["flux", *[str(cache) if word == "CACHE" else word for word in command]]) == 2
    assert complaint in capsys.readouterr().err
