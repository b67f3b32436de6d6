"""vLLM's own model without its weights: what its layers are, and what they take, is asked of it.

The classes are those that serve the model; their parameters are made on torch's `meta` device, which holds no data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

KERNEL_BLOCK = 16


@contextmanager
def unloaded_model(config: Any, folder: Path) -> Iterator[Any]:
    """The `torch.nn.Module` of one device's share of the model of a `VllmConfig`. No process group stays behind.

    With tensor parallelism the group has this process alone and is only said to be larger: no layer
    talks to another one before it runs, and none runs.
    """
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.distributed import parallel_state
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    ranks = config.parallel_config.tensor_parallel_size
    with set_current_vllm_config(config), as_on_a_gpu():
        try:
            meeting = folder / "process-group"
            meeting.unlink(missing_ok=True)
            parallel_state.init_distributed_environment(1, 0, f"file://{meeting}", 0, "gloo")
            with patch.object(config.parallel_config, "tensor_parallel_size", 1):
                parallel_state.initialize_model_parallel(1)
            parallel_state.get_tp_group().world_size = ranks
            with set_default_torch_dtype(config.model_config.dtype), torch.device("meta"):
                model = initialize_model(config)
            yield model
        finally:
            parallel_state.destroy_model_parallel()
            parallel_state.destroy_distributed_environment()
            config.compilation_config.static_forward_context.clear()


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """What this CPU can run is not asked, since nothing runs: it would change block sizes, states and weights.

    Attention takes blocks of any multiple of 16, as FlashAttention and Triton do, not of the CPU kernels' 32. Weights
    that a CPU has no kernels for are made as for Marlin's, which run on every GPU since Ampere. And no instruction set
    of this machine decides the type of Mamba's states.
    """
    import torch
    from vllm.model_executor.kernels import linear
    from vllm.model_executor.layers.fused_moe.experts.marlin_moe import MarlinExpertsBase
    from vllm.v1.attention.backend import MultipleOf
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    with ExitStack() as stack:
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            if hasattr(torch.cpu, name):
                stack.enter_context(patch.object(torch.cpu, name, return_value=False))
        any_block = patch.object(
            CPUAttentionBackend, "get_supported_kernel_block_sizes", return_value=[MultipleOf(KERNEL_BLOCK)]
        )
        stack.enter_context(any_block)
        stack.enter_context(
            patch.object(linear, "choose_scaled_mm_linear_kernel", return_value=KernelThatNeverRuns)
        )
        stack.enter_context(patch.object(MarlinExpertsBase, "_supports_current_device", return_value=True))
        yield


class KernelThatNeverRuns:
    """Stands for a kernel of linear layers."""

    def __init__(self, *_: Any, **__: Any):
        pass

    def input_quant_key(self) -> None:
        """It takes no inputs that another layer quantised."""
