"""vLLM v1 adapter: a `scheduler_cls` that lets a strategy choose who is admitted and who is preempted.

EngineArgs(scheduler_cls="bidkv.adapters.vllm.scheduler.create_scheduler",
           additional_config={"bidkv": {"strategy": "bidkv"}})
"""

SCHEDULER = "bidkv.adapters.vllm.scheduler.create_scheduler"
