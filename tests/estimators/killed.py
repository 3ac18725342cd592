"""Trainings in processes of their own that are stopped at a given moment; started by test_resume.py.

Reads a list of jobs from the standard input and prints how each of them ended: the exit code, or minus the signal.
This process computes nothing, it only imports and forks, so that a dozen trainings cost one start of Python.
"""

import json
import os
import signal
import sys
from typing import Any

import numpy as np
import torch
import torch.utils.tensorboard  # for the command; slow, and the forks share it
from sklearn.datasets import load_digits

import sepconc
from sepconc.cli import progress
from sepconc.cli import train as train_command
from sepconc.training.observers import Observer


class Killer(Observer):
    """Signals its own process after an update, (epoch, step), or when an epoch was stored, (epoch, None)."""

    def __init__(self, moment: list | None, number: int | None = None) -> None:
        self.moment, self.number = moment, number or signal.SIGKILL

    def report(self, report: Any) -> None:
        self._kill([report.epoch, report.step])

    def epoch_ended(self, end: Any) -> None:
        self._kill([end.epoch, None])

    def _kill(self, now: list) -> None:
        if now == self.moment:
            os.kill(os.getpid(), self.number)


def train(job: dict) -> int:
    """Train on a few digits, with validation."""
    X, y = load_digits(return_X_y=True)
    X = np.round(X[:100] * 255 / 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    clf = sepconc.make_classifier(job["arch"], **job["params"])
    clf.train(X[:70], y[:70], X[70:], y[70:100], name=job["name"], observer=Killer(job.get("kill_at")))
    return 0


def command(job: dict) -> int:
    """Run train.py with arguments; its reports go to the killer."""
    progress.console_observer = lambda: Killer(job.get("kill_at"), job.get("signal"))
    return train_command.main(job["arguments"])


def run(job: dict) -> dict:
    """Do a job in a new process, and stop that where the job says so."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        os.environ["SEPCONC_CONFIG"] = job["config"]
        code = 70
        try:
            code = command(job) if "arguments" in job else train(job)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(writing)
    if "kill_after" in job and signal.sigtimedwait({signal.SIGCHLD}, job["kill_after"]) is None:
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reading, errors="replace") as lines:
        output = lines.read()
    _, status = os.waitpid(child, 0)
    signal.sigtimedwait({signal.SIGCHLD}, 0)  # take the notice of this child away
    return {"code": os.waitstatus_to_exitcode(status), "output": output}


def main() -> None:
    """Do the jobs in turn."""
    assert torch.get_num_threads() == 1  # a fork keeps one thread
    torch.optim.SGD([torch.nn.utils.skip_init(torch.nn.Linear, 1, 1).weight])  # torch imports half of itself here
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
