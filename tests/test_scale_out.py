"""One training run on several machines: two launchers of ``torchrun`` take up what one process began."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy_method import RECIPE, ToyTask, toy_net

from vos_tutorial.errors import TutorialError
from vos_tutorial.training import checkpoints, loop, train
from vos_tutorial.training.ranks import Ranks

SCRIPT = Path(__file__).with_name("toy_method.py")


def free_port() -> int:
    """A port below those that the system hands out by itself, so that nobody gets it before the launchers listen."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def stopped_after(steps: int, out: Path) -> None:
    """One process begins the run, and gets Ctrl-C."""
    task = ToyTask(before=lambda step: signal.raise_signal(signal.SIGINT) if step == steps - 1 else None)
    with pytest.raises(KeyboardInterrupt):
        train(toy_net(plain=True), task, RECIPE, out=out, progress=False, checkpoint_every=5)
    found = checkpoints.load_checkpoint(out / "checkpoint.pt", torch.device("cpu"))
    assert found is not None
    assert (found.stage, found.step) == (0, steps)


def test_two_machines_go_on_where_one_stopped_and_end_with_the_same_weights(tmp_path: Path) -> None:
    """Each machine takes half of a batch: two with a batch of 2 are one with a batch of 4."""
    stopped_after(9, tmp_path)
    launchers = []
    port = str(free_port())
    for machine in range(2):
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(machine)]
        command += ["--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", port]
        launchers.append(
            subprocess.Popen(
                [*command, str(SCRIPT), str(tmp_path), "0", "plain"],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
    alone = train(toy_net(plain=True), ToyTask(), RECIPE, progress=False).network.state_dict()  # meanwhile
    for launcher in launchers:
        said, _ = launcher.communicate(timeout=300)
        assert launcher.returncode == 0, said.decode()
    together = torch.load(tmp_path / "final.pt", weights_only=True)
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=1e-4)
    steps = (tmp_path / "log.jsonl").read_text().count("\n")
    assert steps == RECIPE.steps


def test_machines_that_do_not_see_one_folder_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Ranks(0, 1, torch.device("cpu")).same(3)
    monkeypatch.setattr(loop.Ranks, "same", lambda self, number: False)
    with pytest.raises(TutorialError, match=r"different steps of .*, this one at 0; put the folder on a disk"):
        train(toy_net(), ToyTask(), RECIPE, out=tmp_path / "mine", progress=False)
