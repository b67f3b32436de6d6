"""vLLM v1 adapter: a `scheduler_cls` that lets a strategy choose who is admitted and who is preempted.

EngineArgs(scheduler_cls="bidkv.adapters.vllm.scheduler.create_scheduler",
           additional_config={"bidkv": {"strategy": "bidkv"}})

Files here have the names that users write: `scheduler`, `plugin`, `serve`. Rooms: `choices/` how a strategy's choices reach
vLLM, `memory/` what is asked, `records/` what is written, `server/` what a server is started with.
"""

SCHEDULER = "bidkv.adapters.vllm.scheduler.create_scheduler"
