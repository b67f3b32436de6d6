"""What else than memory keeps requests from starting: seats, and slots of LoRA adapters."""

from __future__ import annotations

from typing import Any


def seats(scheduler: Any) -> int:
    """How many may run at once; 0.26 knows of no sessions that hold one."""
    return getattr(scheduler, "max_num_active_reqs", scheduler.max_num_running_reqs)


def all_taken(scheduler: Any) -> bool:
    """Whether nobody more may run; a streaming session that waits for its input holds a seat."""
    return len(scheduler.running) + scheduler.num_waiting_for_streaming_input >= seats(scheduler)


def lacks_lora_slot(request: Any, scheduler: Any) -> bool:
    """Whether vLLM skips it since as many adapters run as may, and its own is none of them."""
    lora, config = request.lora_request, scheduler.lora_config
    if not (config and lora):
        return False
    loaded = {r.lora_request.lora_int_id for r in scheduler.running if r.lora_request}
    return len(loaded) >= config.max_loras and lora.lora_int_id not in loaded
