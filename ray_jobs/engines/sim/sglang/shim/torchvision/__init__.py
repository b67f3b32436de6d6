"""Loads the installed torchvision after declaring the operators that its CUDA-only library would bring."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

import torch

_SHIM = Path(__file__).resolve().parent.parent
_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, _name):
        _OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

_elsewhere = [p for p in sys.path if Path(p or ".").resolve() != _SHIM]
_spec = PathFinder.find_spec("torchvision", _elsewhere)
if _spec is None or _spec.loader is None:
    raise ModuleNotFoundError("torchvision is not installed in this environment", name="torchvision")
_module = module_from_spec(_spec)
_module._bidkv_operators = _OPERATORS  # a library's operators live as long as it does
sys.modules["torchvision"] = _module
_spec.loader.exec_module(_module)
