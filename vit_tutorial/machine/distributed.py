"""Training in several processes, as `torchrun` starts them. In one process these functions do nothing.

Every process has the same seed, so all draw the same random numbers, always for the whole batch; then each computes its
slice of the batch. The gradients' mean over the processes is the whole batch's gradient, so that a run is the same run
whatever the number of processes.
"""

import os
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from ..weights.checkpoint import build


def world_size():
    """The number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank():
    """This process's number, from 0. Process 0 alone prints and writes."""
    return dist.get_rank() if world_size() > 1 else 0


@contextmanager
def process_group():
    """Join the processes that `torchrun` started, where it did; yields the device of this one.

    Each has a GPU of its own (NCCL carries the gradients), or all share the CPU (gloo). Raises `ValueError` for more
    processes than GPUs.
    """
    gpus = torch.cuda.device_count()
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield torch.device("cuda" if gpus else "cpu")
        return
    local_rank, local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if gpus and local_size > gpus:
        raise ValueError(
            f"expected at most one process per GPU, found {local_size} processes and {gpus} GPUs; "
            f"start with torchrun --nproc-per-node {gpus}"
        )
    device = torch.device("cuda", local_rank) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    yield device
    dist.destroy_process_group()  # not after an error: the other processes may still be waiting, torchrun ends them


def check(batch_size, shard):
    """Raises `ValueError` where the processes cannot share a batch equally, or one alone has none to `shard` with."""
    if batch_size % world_size():
        raise ValueError(
            f"expected a batch size that the {world_size()} processes divide, found {batch_size}; "
            "choose another number of processes, or another batch_size in the recipe"
        )
    if shard and world_size() == 1:
        raise ValueError("expected several processes to shard the model over, found one; start them with torchrun")


def share(tensor):
    """This process's slice of `tensor` along the first axis; all are equally long, the last filled up where needed."""
    if world_size() == 1:
        return tensor
    size = -(-len(tensor) // world_size())  # rounded up
    index = torch.arange(rank() * size, (rank() + 1) * size, device=tensor.device)
    return tensor[index.clamp(max=len(tensor) - 1)]


def gather(tensor, length):
    """The inverse of `share` for a tensor on the CPU: every process's slice in order, `length` long."""
    if world_size() == 1:
        return tensor
    slices = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(slices, tensor)
    return torch.cat(slices)[:length]


def from_first(value):
    """The number that the first process has."""
    if world_size() == 1:
        return value
    value = torch.tensor(value, dtype=torch.float64)
    dist.broadcast(value, src=0)
    return value.item()


def mean(value):
    """The mean of a number over the processes."""
    if world_size() == 1:
        return value
    value = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(value)
    return value.item() / world_size()


def in_any(flag):
    """Whether `flag` is true in any process."""
    return mean(flag) > 0


def parallel(model, shard=False):
    """`model` for several processes; its gradients are then means over them.

    Each process holds the whole model (DistributedDataParallel) or, with `shard`, a part of every weight, and collects
    the rest block by block when it computes (FSDP2): for models that one GPU cannot hold. Sharding is in place.
    """
    if world_size() == 1:
        return model
    if not shard:
        return DistributedDataParallel(model)
    from torch.distributed.fsdp import fully_shard

    for block in model.blocks:
        fully_shard(block)
    return fully_shard(model, reshard_after_forward=True)


def is_sharded(tensor):
    return hasattr(tensor, "full_tensor")


def full_state(state):
    """A (nested) dict of tensors with sharded ones put together, on the CPU. All processes must call it."""
    if isinstance(state, dict):
        return {name: full_state(value) for name, value in state.items()}
    if is_sharded(state):
        state = state.full_tensor()
    return state.cpu() if isinstance(state, torch.Tensor) else state


def sharded_like(tensor, like):
    """The inverse of `full_state` for one tensor: as `like` lies on device and processes."""
    tensor = tensor.to(like.device)
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, like.device_mesh, like.placements)


def unsharded(model):
    """`model` itself or, where it is sharded, a copy on the CPU that is not. All processes must call it."""
    if not is_sharded(next(model.parameters())):
        return model
    with torch.random.fork_rng(devices=[]):  # the copy's first weights are drawn, and thrown away
        reads = {None: getattr(model, "reads", None), True: "norm last", False: "norm first"}  # of a Patch...ViT
        patch_mean = reads[getattr(model, "norm_last", None)]
        return build(model.config, full_state(model.state_dict()), model.norm.eps, patch_mean)
