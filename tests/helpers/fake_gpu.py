"""A training state on a GPU that does not exist: tensors of `FakeTensorMode` have a device and a shape, and no numbers.

An operation that mixes devices raises there, and so does reading a number. `Operations` sees every operation.
"""

from collections import Counter
from contextlib import contextmanager
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sagan.models.build import build_discriminator, build_generator
from sagan.training import state, steps

GPU = torch.device("cuda:0")


class Operations(TorchDispatchMode):
    """Counts operations that compute or copy something, and the copies between devices among them."""

    def __init__(self):
        super().__init__()
        self.counted, self.between, self.launched = Counter(), Counter(), Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if not function.is_view and function.namespace == "aten":
            self.counted[str(function)] += 1
            self.launched[str(function)] += kernels(str(function), args)
            inputs = [a for a in tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)]
            outputs = [a for a in tree_leaves(result) if isinstance(a, torch.Tensor)]
            copies = function.overloadpacket in (torch.ops.aten.copy_, torch.ops.aten._to_copy)
            # Other operations take a scalar from the CPU by its value.
            large = {t.device.type for t in [*inputs, *outputs] if t.numel() > 1 or copies}
            if len(large) > 1:
                self.between[str(function)] += 1
        return result

    @property
    def total(self):
        return sum(self.counted.values())


def kernels(name, args):
    """Return about how many kernels an operation launches: on a GPU a list takes one only if its operands fit together.

    `check_fast_path_restrictions` of torch's ForeachUtils.h: the same shapes and strides in all lists.
    """
    if name.startswith(("aten.empty", "aten.new_empty", "aten.promote_types")):
        return 0
    lists = [a for a in args if isinstance(a, list | tuple) and a and isinstance(a[0], torch.Tensor)]
    if not name.startswith("aten._foreach"):
        return 1
    fit = all(len({(t.shape, t.stride()) for t in operands}) == 1 for operands in zip(*lists, strict=True))
    return 1 if fit else len(lists[0])


def to_gpu(network):
    """Replace every parameter and buffer by an empty one on the GPU, with the same strides."""
    for module in network.modules():
        for name, p in list(module._parameters.items()):
            if p is not None:
                empty = torch.empty_strided(p.shape, p.stride(), dtype=p.dtype, device=GPU)
                module._parameters[name] = torch.nn.Parameter(empty, requires_grad=p.requires_grad)
        for name, b in list(module._buffers.items()):
            if b is not None:
                module._buffers[name] = torch.empty_strided(b.shape, b.stride(), dtype=b.dtype, device=GPU)
    return network


@contextmanager
def fake_state(config, dtype):
    """Yield a state on the GPU. Inside the block every tensor is fake."""
    networks = build_generator(config), build_discriminator(config)
    with FakeTensorMode(allow_non_fake_inputs=True):
        generator, discriminator = (to_gpu(network) for network in networks)
        with (
            mock.patch.object(state, "build_generator", lambda config: generator),
            mock.patch.object(state, "build_discriminator", lambda config: discriminator),
            mock.patch.object(torch.nn.Module, "to", lambda network, device: network),
            mock.patch.object(steps, "gradients_of", gradients_of),
        ):
            yield state.build_state(config, GPU, dtype)


def gradients_of(loss, weights, retain_graph=False):
    """In place of `steps.gradients_of`: autograd's engine wants a driver, so call the nodes of the graph from here."""
    gradients = {}
    waiting = Counter()
    seen, stack = set(), [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        for following, _ in node.next_functions:
            if following is not None:
                waiting[following] += 1
                stack.append(following)
    collected = {loss.grad_fn: {0: torch.ones_like(loss)}}
    ready = [loss.grad_fn]
    while ready:
        node = ready.pop()
        incoming = collected.pop(node, {})
        metadata = node._input_metadata
        if hasattr(node, "variable"):
            if 0 in incoming:
                gradients[node.variable] = _fit(incoming[0], node.variable.shape, node.variable.dtype)
            continue
        arguments = [_fit(incoming[i], m.shape, m.dtype) if i in incoming else None for i, m in enumerate(metadata)]
        if all(a is None for a in arguments):
            results = [None] * len(node.next_functions)
        else:
            results = (node if callable(node) else node.apply)(*arguments)
            results = results if isinstance(results, tuple) else (results,)
            results = results[-len(node.next_functions) :]  # a Function also returns None for what is no tensor
        for (following, index), result in zip(node.next_functions, results, strict=False):
            if following is None:
                continue
            if result is not None:
                slots = collected.setdefault(following, {})
                slots[index] = slots[index] + result if index in slots else result
            waiting[following] -= 1
            if waiting[following] == 0:
                ready.append(following)
    return tuple(gradients[w] if w in gradients else torch.zeros_like(w) for w in weights)


def _fit(gradient, shape, dtype):
    if gradient.shape != torch.Size(shape):
        gradient = gradient.sum_to_size(shape)
    return gradient.to(dtype)
