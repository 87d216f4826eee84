"""Adam's update, applied to given gradients."""

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor

# torch's own optimizers call these private functions too.


class Adam(torch.optim.Adam):
    """torch's Adam, without its wrappers that load torch's compiler, which takes as long as loading torch itself."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)


def adam_step(optimizer: torch.optim.Adam, gradients: Sequence[Tensor]) -> None:
    """Update the parameters of a fused Adam with the given gradients, as `optimizer.step()` does with their `grad`.

    Of the optimizer's settings it obeys the learning rate, the betas and eps; there is no weight decay.
    It reads nothing from the device, so a CUDA graph can capture it, and it takes a tenth of the host time of
    `optimizer.step()`. The optimizer keeps the state. A gradient must have the memory layout of its weight, because the
    kernel goes through both in memory order.
    """
    (group,) = optimizer.param_groups
    states = adam_states(optimizer)
    steps = [s["step"] for s in states]
    with torch.no_grad():
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            group["params"],
            list(gradients),
            [s["exp_avg"] for s in states],
            [s["exp_avg_sq"] for s in states],
            [],
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=0.0,
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


def adam_states(optimizer: torch.optim.Optimizer) -> list[dict[str, Tensor]]:
    """Return Adam's state of each parameter: `step` and the averages `exp_avg` and `exp_avg_sq`, which start at 0."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for p in parameters:
        if not optimizer.state[p]:
            zeros = torch.zeros_like(p, memory_format=torch.preserve_format)
            step = torch.zeros((), dtype=torch.float32, device=p.device)
            optimizer.state[p].update(step=step, exp_avg=zeros, exp_avg_sq=zeros.clone())
    return [optimizer.state[p] for p in parameters]
