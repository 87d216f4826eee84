"""A trace of a few training steps: which operation ran when, on the CPU and on a GPU."""

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, schedule

from sagan.runtime.distributed import is_main
from sagan.runtime.wording import counted
from sagan.training.run import Callback, Run

UNTRACED = 3  # steps before the trace: the first ones set things up


class Profile(Callback):
    """A callback that writes a trace of `steps` steps to RUN/profile, starting with the fourth step of this process."""

    def __init__(self, steps: int):
        self.steps = steps
        self.trace: profile | None = None
        self.seen = 0

    def after_step(self, run: Run, metrics: dict[str, Tensor]) -> None:
        if not is_main() or self.seen > UNTRACED + self.steps:
            return
        self.seen += 1
        last = self.seen == UNTRACED + self.steps or run.state.step == run.config.training.steps
        if self.seen == 1:
            activities = [ProfilerActivity.CPU]
            activities += [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
            once = schedule(wait=UNTRACED - 2, warmup=1, active=self.steps + 1, repeat=1)
            self.trace = profile(activities=activities, schedule=once)
            self.trace.start()
        if self.trace is not None and self.seen > 1:
            self.trace.step()
        if last and self.trace is not None:
            trace, self.trace = self.trace, None
            trace.stop()
            traced, self.seen = min(self.steps, self.seen - UNTRACED), UNTRACED + self.steps + 1
            if traced <= 0:
                run.log.say(f"no trace: it starts with step {UNTRACED + 1} of a process, and this one ends earlier")
                return
            path = run.directory / "profile" / f"step-{run.state.step:08d}.pt.trace.json"
            path.parent.mkdir(exist_ok=True)
            trace.export_chrome_trace(str(path))
            run.log.say(f"trace of {counted(traced, 'step')}: {path} (opens in https://ui.perfetto.dev)")
