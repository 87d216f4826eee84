"""Executors for the jobs of a plan: processes on this machine, or a Ray cluster. Both use the same run directories."""

import os
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any

import torch

from sagan.ablation.jobs import note_failure, run_job, tell
from sagan.ablation.variants import Job
from sagan.config import UserError
from sagan.runtime.device import cores
from sagan.runtime.extras import require_extra

MOVES = 3  # how often a job may move to another machine of a Ray cluster because its own was lost

Executor = Callable[[list[Job], int, Callable[[], bool]], Iterator[Job | None]]
"""(jobs, how many at once, whether to stop) -> each job as it ends, and None about once a second in between."""


def run_local(jobs: list[Job], at_once: int, stopped: Callable[[], bool]) -> Iterator[Job | None]:
    """Run jobs on this machine, each with its own GPU if there are several, and with its share of the cores."""
    slots: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    at_once = min(at_once, len(jobs))
    numbered = any(":" in job.config.device for job in jobs)  # cuda:1 is none of a single visible GPU
    for slot in range(at_once):
        slots.put(slot_environment(slot, at_once, jobs[0].processes, own_gpu=not numbered))

    def work(job: Job) -> Job:
        environment = slots.get()
        try:
            run_job(job, os.getcwd(), environment, stopped)
        except (OSError, UserError, ValueError, TypeError) as error:  # concerns this run alone; the others continue
            try:
                note_failure(job.run_dir, "failed", str(error))
            except (OSError, UserError, ValueError):  # perhaps for the same reason
                tell(f"{job.variant}, seed {job.seed}: failed ({error})")
        finally:
            slots.put(environment)
        return job

    pool = ThreadPoolExecutor(at_once)
    try:
        pending = {pool.submit(work, job) for job in jobs}
        while pending:
            done, pending = wait(pending, timeout=1, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
            yield None
    finally:
        pool.shutdown(cancel_futures=True)


def slot_environment(slot: int, at_once: int, processes: int, own_gpu: bool = True) -> dict[str, str]:
    """Return the environment of one of several runs on a machine: a share of the cores, and with `own_gpu` of the GPUs.

    A run has `processes` GPUs.
    """
    environment = {}
    devices = gpus()
    if own_gpu and len(devices) > processes:
        mine = (devices[(slot * processes + i) % len(devices)] for i in range(processes))
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    if "OMP_NUM_THREADS" not in os.environ:
        environment["OMP_NUM_THREADS"] = str(max(1, cores() // (at_once * processes)))
    return environment


def gpus() -> list[str]:
    """Return the CUDA devices visible to this process, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]


def run_on_ray(jobs: list[Job], at_once: int, stopped: Callable[[], bool]) -> Iterator[Job | None]:
    """Run jobs on the Ray cluster at $RAY_ADDRESS, or on one started here. All machines must see the same folders.

    Each job takes a GPU if the cluster has any, else a share of a machine's cores, so that `at_once` jobs fit on a
    machine. The jobs of a lost machine move to others and resume there. Raise UserError if Ray is missing or cannot be
    reached.
    """
    require_extra("ray", ("ray",), "--executor ray")
    import ray

    try:
        ray.init(address=os.environ.get("RAY_ADDRESS"), include_dashboard=False, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"--executor ray: no cluster at {os.environ.get('RAY_ADDRESS', 'this machine')}: {error}"
        ) from error
    try:
        processes = jobs[0].processes
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        if not nodes:
            raise UserError("--executor ray: no machine of the cluster has a CPU for a run yet")
        share = max(1, int(min(node["CPU"] for node in nodes)) // at_once)
        with_gpus = any(node.get("GPU", 0) >= processes for node in nodes)  # a run stays on one machine
        needs: dict[str, Any] = {"num_gpus": processes, "num_cpus": processes} if with_gpus else {"num_cpus": share}
        task = ray.remote(max_retries=MOVES, **needs)(run_ray_job)
        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, share // processes)))
        environment = {"OMP_NUM_THREADS": threads}
        yield from _follow(ray, {task.remote(job, os.getcwd(), environment): job for job in jobs}, stopped)
    finally:
        ray.shutdown()


def run_ray_job(job: Job, folder: str, environment: dict[str, str]) -> None:
    """Call `run_job` on a machine of the cluster, where cancellation raises an exception."""
    run_job(job, folder, environment, lambda: False)


def _follow(ray, running: dict, stopped: Callable[[], bool]) -> Iterator[Job | None]:
    cancelled = False
    while running:
        if stopped() and not cancelled:
            cancelled = True
            for reference in running:
                ray.cancel(reference)  # raises KeyboardInterrupt in the task, which lets its run save itself
        done, _ = ray.wait(list(running), timeout=1)
        for reference in done:
            job = running.pop(reference)
            try:
                ray.get(reference)
            except ray.exceptions.TaskCancelledError:
                pass
            except ray.exceptions.RayError as error:
                if not cancelled:
                    note_failure(job.run_dir, "failed", f"Ray: {str(error).strip().splitlines()[-1]}")
            else:
                if not cancelled and not job.run_dir.is_dir():
                    job.run_dir.mkdir(parents=True)
                    note_failure(job.run_dir, "failed", "its machine does not share this folder, and keeps the results")
            yield job
        yield None


EXECUTORS: dict[str, Executor] = {"local": run_local, "ray": run_on_ray}
